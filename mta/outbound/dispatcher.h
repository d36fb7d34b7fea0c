/*
 * dispatcher: due work × limits. Owns lanes and sites in memory (the window), decides what goes
 * where and when, hands jobs to deliveries, takes their outcomes and settles them in the queue.
 * First reactor's loop; the others speak with it by letters only.
 *
 * Memory is bounded by the window, not by the queue: a lane in memory holds a bounded run of its
 * entries and the key from which its refill goes on; a site that cannot send (back-off) leaves
 * memory for one row.
 */
#ifndef TRAM_DISPATCHER_H
#define TRAM_DISPATCHER_H

#include <jansson.h>

#include "mta/base/reply.h"
#include "mta/delivery/delivery.h"
#include "queue/queue.h"

struct reactor;
struct config;
struct dispatcher;
struct tls_reports;

struct dispatcher *dispatcher_start(struct reactor *home);
/* home->config has changed: routes are judged again */
void dispatcher_reconfigure(struct dispatcher *d);
/*
 * No new delivery begins; stopped(arg) once none is in flight (at once if none is) and all
 * settles are committed.
 */
void dispatcher_stop(struct dispatcher *d, void (*stopped)(void *arg), void *arg);
/* after stopped: an operator's edit may have come since */
bool dispatcher_still(const struct dispatcher *d);
/* after stopped: its handles, its window; before the resolver closes */
void dispatcher_close(struct dispatcher *d);
void dispatcher_free(struct dispatcher *d);	/* once the loop has run empty */

/* How TLS went: counters and reports. */
struct tls_reports *dispatcher_tls_reports(struct dispatcher *d);

/*
 * An operator's edit: waits until none of the ids is in flight, takes them out of the window,
 * hands it to the queue (in slices, edit->more loops inside), then lets go. edit->op.done is
 * called once at the end, edit->changed is the sum.
 */
struct dispatcher_edit {
	struct queue_edit edit;		/* kind, ids, count (≤ 500), … ; op.done unused */
	void (*done)(struct dispatcher_edit *edit, int result);
	size_t changed;			/* set */
	struct dispatcher_edit *next;	/* the dispatcher's */
	struct dispatcher *owner;
};
void dispatcher_submit_edit(struct dispatcher *d, struct dispatcher_edit *edit);

/*
 * Where is a recipient that is with a delivery? Asked of that delivery's reactor. False: it is with
 * none now; else done is called once, later, on this loop.
 */
struct dispatcher_flight {
	struct letter letter;
	void (*done)(struct dispatcher_flight *flight);
	struct dispatcher *owner;
	struct delivery *delivery;
	const struct job *job;
	struct delivery_flight flight;	/* set */
};
bool dispatcher_ask_flight(struct dispatcher *d, uint64_t id, uint32_t recipient,
			   struct dispatcher_flight *flight);

/* Where one waits that is due: how many of its lane come first, and who takes turns with that. */
struct dispatcher_place {
	size_t before;			/* at most LANE_BEFORE_MOST */
	bool more;			/* … and there are more */
	int64_t head_due_ms;		/* of the first of them; 0: there is none */
	/* with something ready at its site; 0: its lane is not in memory */
	size_t lanes, tenants;
};
enum { LANE_BEFORE_MOST = 2000 };
void dispatcher_place_in_lane(struct dispatcher *d, const struct queue_entry *entry,
			      struct dispatcher_place *ret);
/* Of a site that is in memory: "open", "probing", "back-off"; NULL: it is not. */
const char *dispatcher_site_state(struct dispatcher *d, uint64_t site);

/* Is it with a delivery now, and what does that wait for? NULL: no. */
const char *dispatcher_in_flight(struct dispatcher *d, uint64_t id, uint32_t recipient);

/*
 * Sites in memory and the state of each: a JSON array of objects (key, id, state, connections,
 * ready, failures, next …).
 */
json_t *dispatcher_sites_json(struct dispatcher *d);
/* The one with that id, in memory or not: an array of it, or an empty one. */
json_t *dispatcher_one_site_json(struct dispatcher *d, uint64_t id);
enum top_sort { TOP_RATE, TOP_WAITING, TOP_IN_FLIGHT, TOP_CONNECTIONS, TOP_FAILURES };
enum { TOP_MOST = 200 };
bool top_sort_parse(struct span word, enum top_sort *ret);	/* "rate", "in-flight" … */
/*
 * The first `most` (1 to TOP_MOST) sites, or tenants, as objects; what is in memory is gone through
 * once.
 */
json_t *dispatcher_top_json(struct dispatcher *d, enum top_sort sort, size_t most, bool tenants);
/* Probe now, whatever the back-off says: site by id; 0: all that are in memory or asleep. */
void dispatcher_retry_site(struct dispatcher *d, uint64_t site);
/* All that is done about sites for their replies, or by hand (measures.h): an array. */
json_t *dispatcher_measures_json(struct dispatcher *d);
/*
 * By hand. site: its key, the name of a provider, or "@" and a domain; with source or tenant (one
 * of them, or none) only that, there. NULL, or what is wrong.
 */
enum dispatcher_measure { MEASURE_BEGIN, MEASURE_RESUME, MEASURE_RESET };
struct dispatcher_order {
	enum dispatcher_measure what;
	struct span site, source, tenant, reason;
	int64_t for_ms;			/* BEGIN; 0: until it is ended */
};
const char *dispatcher_measure(struct dispatcher *d, const struct dispatcher_order *order);
/* Sources, and behind each that is warming up its sites of today: a JSON array of objects. */
json_t *dispatcher_sources_json(struct dispatcher *d);
/* A pool's name, for people. */
struct span dispatcher_pool_text(struct dispatcher *d, struct span pool, struct arena *arena);
/* Counters since start: delivered, retried, failed, in_flight, connections, window entries … */
void dispatcher_stats_json(struct dispatcher *d, json_t *into);
/* Nothing is ready, in flight or owed a report now (what waits for its due time does not count). */
bool dispatcher_idle(const struct dispatcher *d);

struct hold_reasons;
struct site_record;
/*
 * Why this lane is not going now: hold_reason.h. None: it may go. Spans are in the arena, or good
 * until the loop's next turn.
 */
void dispatcher_held_by(struct dispatcher *d, uint64_t lane, struct arena *arena,
			struct hold_reasons *why);
/* The same of a site that is not in memory: adds to what there is. */
void site_record_held_by(struct dispatcher *d, const struct site_record *site, struct arena *arena,
			 struct hold_reasons *why);
/* One word for it, by what holds it: "asleep", "back-off", "suspended", "limited". */
const char *site_record_state(const struct site_record *site, const struct hold_reasons *why);

#endif
