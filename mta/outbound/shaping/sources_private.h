/*
 * sources_private: what sources.c and sources_view.c share. Home loop only.
 */
#ifndef TRAM_SOURCES_PRIVATE_H
#define TRAM_SOURCES_PRIVATE_H

#include "mta/outbound/dispatcher_private.h"
#include "mta/outbound/shaping/source_days.h"

struct source_use {			/* of one name, as long as the process lives */
	struct list node;
	struct span name;
	size_t connections;
	int64_t day;
	/* recipients; today: by UTC, since the start */
	uint64_t today, delivered, deferred, failed;
	struct backoff broken;
	int64_t broken_since_ms;
	char room[];
};

struct source_at {			/* … and at one site, as long as that is in memory */
	struct list in_site;
	struct source_use *use;
	struct site *site;
	size_t connections;
	uint64_t delivered, deferred, failed;
	int64_t unfit_until_ms;
	struct span unfit;
};

struct source_book {
	struct dispatcher *owner;
	struct list uses;
	struct source_days *days;
	bool stopped;
};

const struct sources *sources_of(const struct dispatcher *d);
struct source_use *source_use_of(struct source_book *book, struct span name);

#endif
