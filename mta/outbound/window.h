/*
 * window: the lanes, sites and entries that are in memory now. Home loop only.
 *
 * Bounded: `entries` and the number of sites by the configuration; everything else stays in the
 * queue, where every lane has a row in `asleep` and every site one in `wake` that is never too
 * late. So anything in memory that is not in flight may be forgotten at any moment, and a start
 * reads no more than the window.
 *
 * parcel = one message with what of it is in memory (so that an operator's edit can wait for its
 * deliveries); entry = one open recipient of it.
 */
#ifndef TRAM_WINDOW_H
#define TRAM_WINDOW_H

#include "dns/lookup.h"
#include "mta/base/heap.h"
#include "mta/base/list.h"
#include "mta/base/map.h"
#include "mta/outbound/ring.h"
#include "mta/outbound/shaping/concurrency.h"
#include "mta/outbound/shaping/shaping.h"
#include "mta/outbound/explain/traffic.h"
#include "policy/classify.h"
#include "queue/queue.h"

struct lane;
struct site;
struct destination;
struct dispatcher;

/* What of the window, and of the daemon's connections and look-ups, one tenant has. */
struct share {
	struct map_node node;		/* by tenant_mark() */
	size_t users;			/* lanes, sites and connections that point here */
	size_t lanes, entries, sites, connections, lookups;
};

struct parcel {
	struct map_node node;		/* by message id */
	struct list entries;
	size_t in_flight;
	/* edits of it are waiting or with the queue: nothing of it is taken */
	unsigned locked;
	/* edits.c: one of them did, when so many looks had been taken */
	uint64_t edit_waits;
};

struct entry {
	struct list in_lane;		/* lane->ready; alone when in flight */
	struct list in_parcel;
	struct parcel *parcel;
	struct lane *lane;
	int64_t due_ms;
	uint32_t recipient;
	bool in_flight;
	/* while a delivery has it; NULL: its outcome is being kept */
	const struct job *job;
	/*
	 * once its source has been asked for: what that hangs on, and the last try's (by its name;
	 * 0: none)
	 */
	bool keyed;
	uint64_t pool_key, last_source;
};

struct lane {
	struct map_node node;		/* by lane id */
	struct list in_site;		/* site->lanes */
	struct ring_member turn;	/* in site->ring while it has ready entries */
	struct ring_tenant *tenant;	/* whose it is, in site->ring */
	struct share *share;		/* … and in all */
	bool parked;			/* not in the ring, whatever is ready: window_park_lane() */
	struct shaping_wait wait;
	struct heap_node timer;		/* more_due_ms, or the end of its back-off */
	struct site *site;
	struct arena arena;
	struct span tenant_name, domain, route, pool;
	uint8_t priority;		/* as stored: priority_rank() */
	struct list ready;
	size_t ready_count, in_flight;
	/* all of the store's entries up to this key have been read … */
	struct queue_entry cursor;
	/* … and the next one is due then; INT64_MAX: there is none */
	int64_t more_due_ms;
	int64_t site_until_ms;		/* look up again then; 0: static */
	struct backoff backoff;
	bool hold;
	uint64_t stored_site;		/* where its row is */
	struct lookup *lookup;
	struct lane_asks *asks;		/* is there an MTA-STS policy? NULL: nobody is asked */
	struct queue_lane_change change;	/* one at a time */
	bool changing, touched;		/* with the queue; something came meanwhile */
	bool leaving;			/* the change is its farewell */
	/* entries of a locked message: read again once it is unlocked */
	bool passed_over;
	/* goes nowhere now: as soon as nothing is in flight it is read anew … */
	bool stale;
	/* … or looked up anew: its MX has changed (else: a reload) */
	bool looks_again;
	struct dispatcher *owner;
};

enum site_mode {
	SITE_OPEN,
	SITE_PROBING,			/* one connection, until it succeeds */
	SITE_BACKOFF,			/* waits; leaves memory when nothing is in flight */
	SITE_LOOKUP,			/* site 0: its lanes have no destination yet */
};

struct site {
	struct map_node by_id;		/* once it has an id */
	struct map_node by_key;		/* hash of the key */
	/* the next lane asleep; the end of a pause, or of its back-off */
	struct heap_node timer;
	uint64_t id;			/* 0: being made (or site 0) */
	struct arena arena;
	struct span key;
	enum site_mode mode;
	struct list lanes;
	struct ring ring;		/* of lanes with ready entries */
	size_t lane_count, ready_count, in_flight;
	/* whose lane came first, which brought it to memory; NULL: none yet */
	struct share *share;
	struct list sources;		/* sources.c: what it knows of each, in the arena */
	struct list connections;
	size_t connection_count, connecting, limit;
	struct concurrency pace;	/* what limit comes from */
	int64_t saved_ms;		/* its state, for a smaller limit */
	/* of its measures, as they were at this generation of them: measures.h */
	uint64_t measures_seen;
	struct kept_measure *slowed, *suspended;
	int64_t next_message_ms;	/* while it is slowed */
	/* messages taken, of 10 s each */
	struct site_rate { int64_t at_ms; uint32_t now, before; } rate;
	size_t quick;			/* jobs in a row that took no time */
	int64_t pause_until_ms;		/* no new connection before: one of several has failed */
	struct site_state state;	/* spans in arena */
	struct destination *to;		/* parsed from the key, when first needed */
	struct queue_site_change change;
	struct list work_node;		/* dispatcher->dirty: it may have work */
	struct shaping_wait wait, connect_wait;
	struct shaping_site *shaping;	/* what holds for it; NULL: not asked yet */
	/* dispatcher->slots: it waits for a connection of any site to end, for a tenant */
	struct ring_member slot;
	struct ring_tenant *slot_tenant;
	bool changing, leaving;
	bool unsaved;			/* the state changed while a change was under way */
	struct traffic traffic;		/* since it came to memory */
	/* of what was not delivered, since it came to memory */
	uint32_t classes[REPLY_CLASSES];
	struct dispatcher *owner;
};

struct window {
	struct map parcels, lanes, shares, sites_by_id, sites_by_key;
	struct heap timers;		/* of lanes */
	struct heap site_timers;
	size_t entries, sites, max_entries, max_sites;
	uint32_t (*weight)(void *arg, struct span tenant);	/* NULL: all weigh the same */
	void *arg;
};

struct parcel *window_parcel(struct window *w, uint64_t id);		/* or NULL */
struct lane *window_lane(struct window *w, uint64_t id);
struct site *window_site(struct window *w, uint64_t id);
struct site *window_site_by_key(struct window *w, struct span key);

/*
 * How much may who has so much get, of so much in all, used by all? Until it has `factor` times
 * what is free then: one alone gets all but 1 / (factor + 1), and whoever comes then finds
 * something.
 */
static inline size_t
share_room(size_t has, size_t used, size_t most, size_t factor)
{
	size_t free = used < most ? most - used : 0;

	return has < factor * free ? (factor * free - has + factor) / (factor + 1) : 0;
}
struct share *share_find(const struct window *w, uint64_t tenant_mark);	/* or NULL: has nothing */
struct share *share_use(struct window *w, struct span tenant);
void share_release(struct window *w, struct share *share);
/* Weights may have changed. */
void window_weigh(struct window *w);
struct site *window_add_site(struct window *w, uint64_t id, struct span key);
/* it has got its id */
void window_site_named(struct window *w, struct site *site, uint64_t id);
/* no lane, no connection */
void window_drop_site(struct window *w, struct site *site);
struct lane *window_add_lane(struct window *w, uint64_t id, const struct lane_record *record,
			     struct site *site);
void window_move_lane(struct window *w, struct lane *lane, struct site *to);
/* With its ready entries (they stay in the queue); nothing of it may be in flight. */
void window_drop_lane(struct window *w, struct lane *lane);
void window_drop_ready(struct window *w, struct lane *lane);

/* The lane whose turn it is; NULL: nothing is ready. With may: of those for which it says yes. */
struct lane *site_next_lane(struct site *site, bool (*may)(void *arg, struct ring_member *turn),
			    void *arg);
/* Out of the ring, and back, with what is ready in it. No harm if it is so already. */
void window_park_lane(struct lane *lane);
void window_unpark_lane(struct lane *lane);
/* Adds an entry, unless it is there already (NULL), behind those that are ready. */
struct entry *window_add_entry(struct window *w, struct lane *lane, uint64_t id, uint32_t recipient,
			       int64_t due_ms);
void window_drop_entry(struct window *w, struct entry *entry);
void entry_fly(struct entry *entry);			/* ready → in flight */
void entry_land(struct entry *entry, bool first);	/* in flight → ready again */

/* Has the lane been read beyond this key? Then what stands there is in memory, or was. */
bool lane_has_passed(const struct lane *lane, uint64_t id, uint32_t recipient, int64_t due_ms);
/*
 * The store has an entry at this key that is not in memory: the lane must be read again from
 * before it.
 */
void lane_missed(struct lane *lane, uint64_t id, uint32_t recipient, int64_t due_ms);
/* nothing ready, in flight, changing or looked up */
bool lane_idle(const struct lane *lane);

#endif
