/* shaping_private: what the files of shaping share. Home loop only. */
#ifndef TRAM_SHAPING_PRIVATE_H
#define TRAM_SHAPING_PRIVATE_H

#include "mta/outbound/dispatcher_private.h"

/* Who is counted: what a shape is not counted by does not matter. */
struct shaping_who { struct span site, host, source, tenant, domain; };

struct shaping_counter {
	struct map_node node;		/* by the hash of the key */
	struct list recent;		/* the one used last is the last */
	struct list changed;		/* it must be written */
	struct shaping *owner;
	const struct shape *shape;	/* the configuration's; NULL: there is none any more */
	bool of_lanes;			/* as the shape was when it was made */
	bool keeps;			/* it has a limit of an hour or a day */
	struct shape_counts counts;
	struct shaping_queue sends, connects;
	size_t refs;			/* connections and jobs that are counted in it */
	int64_t used_ms;
	bool writing;
	struct span key, who_text;	/* behind it */
	char text[];
};

struct shaping {
	struct dispatcher *owner;
	unsigned generation;		/* of the configuration */
	struct shape provider_shape;	/* connections-per-site, for all sites of a provider */
	struct map counters;
	struct list recent, changed;
	struct heap timers;		/* of queues */
	int64_t keep_ms;		/* when what has changed is written; 0: nothing has */
	/* when what nobody uses is forgotten; 0: there is nothing */
	int64_t forget_ms;
	int64_t sweep_ms;		/* when what is over is looked for in the queue … */
	struct buf sweep_after;		/* … behind this key */
	int64_t walk_ms;		/* when the walk goes on; 0: none is under way */
	struct queue_wake walk_site;	/* where it is … */
	struct queue_asleep walk_lane;
	bool walk_lanes;		/* … among the lanes of that site */
	bool full;			/* the queue had no room for it, which has been said */
	struct buf key;
};

struct shaping_site {			/* in the site's arena */
	unsigned generation;
	const struct provider *provider;
	struct span host, place;
	const struct shape **shapes;
	size_t count;
	bool of_lanes, paced;
};

/* shaping.c. What holds for the site; found once for each configuration. */
struct shaping_site *shaping_facts(struct site *site);
/* lane NULL: of a shape that asks for none. */
bool shaping_holds_for(const struct shape *shape, const struct lane *lane, struct span source);
struct shaping_counter *shaping_counter_for(struct site *site, const struct shape *shape,
					    struct span source, const struct lane *lane);
/* Does it hold the site as a whole, whatever lane and source? */
bool shaping_is_of_site(const struct shape *shape);
/* Something has ended: is there room for one that waits for that? */
void shaping_ended(struct shaping *s, struct shaping_queue *queue);

/* shaping_counters.c. Made if it is new, from what is kept of it. */
struct shaping_counter *shaping_counter(struct shaping *s, const struct shape *shape, bool provider,
					const struct shaping_who *who);
/* All that has changed is handed to the queue now. */
void shaping_keep_all(struct shaping *s, int64_t now);
/* The shapes of the new configuration take the place of the old ones. */
void shaping_counters_renew(struct shaping *s);
/* It has counted something. */
void shaping_changed(struct shaping_counter *c, int64_t now);
void shaping_keep(struct shaping *s, int64_t now);
int64_t shaping_keep_at(const struct shaping *s);

/* shaping_walk.c: to all that sleep for a limit */
void shaping_walk_start(struct shaping *s);
void shaping_walk(struct shaping *s, int64_t now);

/* shaping_view.c: "shape "a", for google: 20 of 20 connections at once" */
struct span shaping_words(const struct shaping_counter *c, const struct shape_hold *hold,
			  struct arena *arena);

/* connections.c: those that do nothing, and that this counter counts, end */
void connections_let_go(const struct shaping_counter *c);

#endif
