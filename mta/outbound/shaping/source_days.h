/*
 * source_days: how many mails each source that is warming up has sent to each site (or provider)
 * today, by UTC. Outlives the process as notes, which lag by a second at most: what was sent in the
 * second before a crash may be forgotten, what was then on its way counts as sent. Home loop only.
 */
#ifndef TRAM_SOURCE_DAYS_H
#define TRAM_SOURCE_DAYS_H

#include <uv.h>

#include "mta/base/list.h"
#include "mta/base/map.h"
#include "mta/reactor/reactor.h"

struct source_days;

struct source_day {
	struct map_node node;		/* by the hash of its key */
	struct list dirty;		/* not stored as it is */
	int64_t day;
	uint64_t sent, flying;		/* recipients; flying: with deliveries now */
	struct source_days *owner;
	struct span key;		/* the source's name, NUL, the site */
	char room[];
};

/* rest(arg): what was to be stored is */
struct source_days *source_days_start(struct reactor *home, void (*rest)(void *arg), void *arg);
/* Today's. NULL: there is none, or (make) there are too many. */
struct source_day *source_day_of(struct source_days *days, struct span source, struct span site,
				 bool make);
void source_day_changed(struct source_day *day);
bool source_days_busy(const struct source_days *days);	/* something is being stored */
void source_days_store(struct source_days *days);	/* what has changed, now */
void source_days_each(struct source_days *days,
		      void (*each)(void *arg, const struct source_day *day), void *arg);
struct span source_day_site(const struct source_day *day);
struct span source_day_source(const struct source_day *day);
int64_t source_today(void);				/* days since 1970-01-01 */
void source_days_close(struct source_days *days);	/* its timer */
void source_days_free(struct source_days *days);

#endif
