/*
 * shaping: the limits of the configuration (`shape` blocks, `provider`), judged before a connection
 * is opened and before a job is given. Home loop only.
 *
 * Who must wait stands in a queue of the counter that holds it, first come first served, and is
 * told when its turn has come: so what waits costs nothing, however much it is. A limit of the site
 * (one that asks for no tenant, domain or source) holds the site as a whole: site->wait; all others
 * hold a lane, which leaves the site's ring meanwhile: lane->wait. A wait that is far away makes
 * the site, or lane, leave memory for a row (site_sleep, lane_sleep). No retry is used up.
 *
 *	site_work:	shaping_may_send(lane, source) → SHAPING_GO, or it has been put to wait
 *			shaping_may_connect(site, source) → connection_open → shaping_connected(c)
 *			take_job, give → shaping_sent(job, source)
 *	afterwards:	shaping_back(job) for each job that comes back, shaping_disconnected(c)
 *
 * source is the name of the source that the connection leaves from, empty: none is configured. Who
 * chooses among several asks shaping_source_may() first, which puts nobody to wait.
 *
 * Counters of hours and days are kept in notes, written about once a second, so that a crash
 * forgets what was sent in the last seconds before it at most.
 */
#ifndef TRAM_SHAPING_H
#define TRAM_SHAPING_H

#include <jansson.h>

#include "mta/base/heap.h"
#include "mta/base/list.h"
#include "policy/shape.h"

struct connection;
struct dispatcher;
struct hold_reasons;
struct job;
struct lane;
struct shaping;
struct shaping_counter;
struct site;

/* Those that wait for one counter to let a message (or a connection) go. */
struct shaping_queue {
	struct list waits;
	size_t count;
	struct heap_node timer;		/* when the first may go; in none: when something ends */
	struct shaping_counter *counter;
	bool connects;
};

/* embedded in sites and lanes; zeroed: it waits for nothing */
struct shaping_wait {
	struct list node;
	struct shaping_queue *queue;	/* NULL: for nothing */
	/* its turn has come there: it goes before those that still wait, once */
	const struct shaping_queue *turn;
	struct shape_hold hold;
	int64_t since_ms;
	bool is_lane;
};

/* No harm if it waits for nothing. */
static inline void
shaping_wait_end(struct shaping_wait *wait)
{
	if (wait->queue == NULL)
		return;
	list_remove(&wait->node);
	wait->queue->count--;
	wait->queue = NULL;
}

enum shaping_answer {
	SHAPING_GO,
	SHAPING_LANE_WAITS,		/* it is out of the ring: ask for the next lane */
	SHAPING_SITE_WAITS,		/* nothing of the site may go now */
};

struct shaping *shaping_start(struct dispatcher *d);
/* The configuration has changed: all that waits asks again. */
void shaping_reconfigure(struct shaping *s);
/* All that waits asks again: the clock has been set. */
void shaping_ask_again(struct shaping *s);
/* It waits for something within this timer: the earliest; INT64_MAX: nothing. */
int64_t shaping_next_ms(const struct shaping *s);
void shaping_on_timer(struct shaping *s, int64_t now);
/* Nothing is in flight any more: what has been counted is handed to the queue. */
void shaping_stop(struct shaping *s);
void shaping_free(struct shaping *s);

/* May this lane's first message go now, from that source? */
enum shaping_answer shaping_may_send(struct lane *lane, struct span source);
/* May the site have one more connection now? If not it will be touched when it may. */
bool shaping_may_connect(struct site *site, struct span source);
/*
 * The same two questions for one of several sources; nobody waits, *until is when it is worth
 * asking again.
 */
bool shaping_source_may(struct lane *lane, struct span source, int64_t *until_ms);
/* Recipients of one transaction: `most`, or fewer. */
size_t shaping_recipients(struct lane *lane, struct span source, size_t most);
/* May recipients of this lane go along in a transaction of another one of the site? */
bool shaping_may_join(struct lane *lane, struct span source);

/* it is about to be opened; c->source is set */
void shaping_connected(struct connection *c);
void shaping_disconnected(struct connection *c);
void shaping_sent(struct job *job, struct site *site, struct span source);
void shaping_back(struct job *job);
/* Others wait for what this connection, which has no job, holds. */
bool shaping_wants(const struct connection *c);

/* Of the site: its provider's name, or empty. */
struct span shaping_provider(struct site *site);
/* What the shapes say of it: 0, or fewer than the configuration allows otherwise. */
size_t shaping_messages_per_connection(struct site *site, struct span source);
/* What they say of the time that a connection may take; 0: nothing. */
void shaping_times(struct site *site, struct span source, struct shape_times *ret);
/* Messages must not wait in a connection, for they are counted when they are given. */
bool shaping_is_paced(struct site *site);

/*
 * For mail that is not in memory, to the site with this key: which limits hold (each, unless it is
 * NULL), and which of them it would wait for.
 */
struct shaping_question { struct span key, tenant, domain, source; };
struct shaping_told {
	struct span shape, who;
	enum shape_limit limit;
	uint64_t used, most;
};
void shaping_tell(struct dispatcher *d, const struct shaping_question *question,
		  struct arena *arena, struct hold_reasons *why,
		  void (*each)(void *arg, const struct shaping_told *told), void *arg);
/* As shaping_messages_per_connection(), of a site that may not be in memory. */
size_t shaping_messages_of(struct dispatcher *d, const struct shaping_question *question,
			   struct arena *arena);
/* The provider's name, or empty. */
struct span shaping_provider_of(struct dispatcher *d, struct span key, struct arena *arena);

/* Whatever shape holds it now. */
void shaping_site_held_by(struct site *site, struct arena *arena, struct hold_reasons *why);
/*
 * Its limits, and what is used of them: an array of shape, limit, used, most. Those of tenants and
 * domains not.
 */
json_t *shaping_site_json(struct site *site);
void shaping_lane_held_by(struct lane *lane, struct arena *arena, struct hold_reasons *why);

#endif
