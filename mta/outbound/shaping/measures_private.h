/* measures_private: what the files of measures share. Home loop only. */
#ifndef TRAM_MEASURES_PRIVATE_H
#define TRAM_MEASURES_PRIVATE_H

#include "mta/outbound/dispatcher_private.h"

struct kept_measure {
	struct map_node by_place;	/* until it is over */
	struct list node;
	struct measures *owner;
	struct measure m;
	struct arena arena;		/* of place and name */
	struct buf rule, reason;
	bool dirty, saving, over;
	struct queue_note note;
	struct buf value;
	uint8_t key[33];
};

struct measures {
	struct dispatcher *dispatcher;
	struct map by_place;
	struct list all;		/* those that are over, too, until that is written */
	uint64_t generation;		/* sites look theirs up again when it has changed */
	uv_timer_t timer;
	bool full, stopped;
};

struct kept_measure *measures_find(struct measures *ms, enum measure_kind kind,
				   enum response_scope scope, struct span place, struct span name);
/* NULL: too many */
struct kept_measure *measures_add(struct measures *ms, const struct measure *m);
void measure_set_texts(struct kept_measure *k, struct span rule, struct span reason);
void measure_save(struct kept_measure *k);		/* soon */
void measure_end(struct kept_measure *k);
void measures_on_timer(uv_timer_t *timer);
/* Of a site that may not be in memory; empty: none. */
struct span key_provider(struct dispatcher *d, struct span site_key);
/* "provider:NAME", in the room; empty: none. */
struct span provider_place(struct span provider, struct buf *room);
/* What it is, to a line of the log. */
void measure_log(const struct measure *m, struct log_line *l);

#endif
