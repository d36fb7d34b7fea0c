/*
 * measures: what is done about sites, sources, tenants and domains, by rules or by hand, while it
 * holds (the value: policy/measure.h). All of them are in memory and among the notes of the queue,
 * which lag by a second at most. Home loop only.
 *
 * A suspended site sleeps as in back-off; a tenant's or domain's lanes leave memory. Nothing of it
 * is a delivery attempt.
 */
#ifndef TRAM_MEASURES_H
#define TRAM_MEASURES_H

#include <jansson.h>

#include "mta/delivery/delivery.h"
#include "mta/outbound/explain/hold_reason.h"
#include "policy/measure.h"

struct dispatcher;
struct lane;
struct measures;
struct site;

enum { MEASURES_MAX = 10000 };

struct measures *measures_start(struct dispatcher *d);
/* writes what is not; the dispatcher waits for that */
void measures_stop(struct measures *ms);
void measures_close(struct measures *ms);
void measures_free(struct measures *ms);
void measures_set_back(struct measures *ms);		/* the wall clock has been */

/* By the rules for what the job's recipients were told; source: empty, the system's choice. */
void measures_by_answers(struct site *site, struct span source, const struct job *job);
/* … for why each host of it was left, or not reached: no mail went. */
void measures_by_failure(struct site *site, struct span source, const struct delivery *delivery);
/*
 * … before one took the job. Only what was said counts: that an address cannot be reached while
 * others can is no trouble of the site's.
 */
void measures_on_the_way(struct site *site, struct span source, const struct job *job);

/* It, or the lane, is suspended: it has been put to sleep, and may be gone once it settles down. */
bool site_sleeps(struct site *site);
bool lane_sleeps(struct lane *lane);
/* Its next message has to wait: it is touched when it may go. */
bool site_paces(struct site *site, int64_t now_ms);
/* Until when; 0: it is not suspended. */
int64_t site_suspended_until(struct site *site);
int64_t source_suspended_until(struct site *site, struct span source);
int64_t lane_suspended_until(struct lane *lane);

/*
 * What divides the rates of shapes that count for a site alone (place: site_key_place() of its
 * key), or for all of a provider (place: its name).
 */
struct slowdown measures_slowdown(struct measures *ms, bool provider, struct span place);
/* A slow-down: what is left of so many connections; and when the next message may go, 0: now. */
size_t site_slowed(struct site *site, size_t connections);
void site_message_goes(struct site *site, int64_t now_ms);
/* delivered: its pace is measured */
void site_message_taken(struct site *site, int64_t now_ms);

/* ---- for people --------------------------------------------------------------------------- */

/* As measures_apply() does for a rule: false: there are too many. */
bool measures_suspend(struct measures *ms, const struct measure *m);
/* Adds what holds the mail of a site, by its key; lane (NULL: none) by its tenant and domain. */
void measures_hold(struct measures *ms, struct span site_key, struct span tenant,
		   struct span domain, struct arena *arena, struct hold_reasons *why);
#endif
