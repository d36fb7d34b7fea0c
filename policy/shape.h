/*
 * shape: how much may go where: limits that the configuration sets (`shape`, `provider`), and the
 * counters that they are kept by. Pure: now is an argument, in milliseconds of wall time.
 *
 * A rate by the second or minute is a token bucket in whole numbers: `burst` may go at once, the
 * rest follows evenly, and within no second or minute goes more than the limit (a bucket that lets
 * b go at once is filled by limit - b + 1 in the time). A rate by the hour or day is a window that
 * slides in 60 steps: what is counted in the last hour or day, by the step, is never more than the
 * limit. A clock that is set back costs at most one such time.
 *
 * While a slow-down holds (policy/measure.h) rates by the second, minute and hour are divided by
 * it.
 *
 * Who counts: one `struct shape_counts` for each block and each value of what it is counted by.
 */
#ifndef TRAM_POLICY_SHAPE_H
#define TRAM_POLICY_SHAPE_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/span.h"
#include "policy/measure.h"

/* What a block is counted by (`per`). */
enum shape_per { SHAPE_SITE = 1, SHAPE_SOURCE = 2, SHAPE_TENANT = 4, SHAPE_DOMAIN = 8,
		 SHAPE_HOST = 16 };

enum shape_limit {
	SHAPE_CONNECTIONS,		/* at once; of a tenant or domain: messages under way */
	SHAPE_NEW_CONNECTIONS,		/* a minute */
	SHAPE_MESSAGES_SECOND,
	SHAPE_MESSAGES_MINUTE,
	SHAPE_MESSAGES_HOUR,
	SHAPE_MESSAGES_DAY,
	SHAPE_RECIPIENTS_HOUR,
	SHAPE_RECIPIENTS_DAY,
	SHAPE_LIMITS
};

/* Settings of connections that are not limits; 0: not said. */
struct shape_times {
	int64_t idle_ms, connect_ms, banner_ms, ehlo_ms, mail_ms, rcpt_ms, data_init_ms, block_ms,
		dot_ms;
};

struct shape {
	struct span name;
	/* all of those that are given must match, one of each list */
	struct span *sites, *hosts, *domains, *tenants, *sources;
	size_t site_count, host_count, domain_count, tenant_count, source_count;
	struct span *per_words;
	size_t per_count;
	bool others;			/* only where no shape names the site: shape_of_site() */
	unsigned per;			/* enum shape_per: by shape_settle() */
	/* it asks for tenant or domain: connections carry several */
	bool of_lanes;
	uint64_t limits[SHAPE_LIMITS];	/* 0: none */
	uint64_t burst;			/* 0: as much as goes in 20 ms */
	size_t messages_per_connection, recipients_per_transaction;	/* 0: none */
	struct shape_times times;
	int line;
};

struct provider {
	struct span name;
	struct span *mx;		/* patterns of hosts */
	size_t mx_count;
	int line;
};

struct shapes {				/* in the order of the file */
	struct shape *shapes;
	size_t count;
	struct provider *providers;
	size_t provider_count;
};

enum { SHAPE_STEPS = 60 };

struct shape_bucket {
	int64_t at_ms;			/* 0: it is full */
	uint64_t level;
};

struct shape_window {
	int64_t step;			/* the last one, since 1970 */
	uint64_t total;
	uint32_t counts[SHAPE_STEPS + 1];	/* by step modulo their number */
};

/* All zero is a valid beginning; shape_counts_free() at the end. */
struct shape_counts {
	size_t open;			/* connections, or messages under way */
	struct shape_bucket buckets[3];
	struct shape_window *windows[4];	/* NULL: nothing has been counted */
	struct slowdown slow;			/* the owner's: of the site that it counts for */
};

/* What a limit says. */
struct shape_hold {
	enum shape_limit limit;
	uint64_t used, most;		/* "20 of 20" */
	uint64_t undivided;		/* that is set, where most is less by a slow-down; else 0 */
	int64_t until_ms;		/* INT64_MAX: until something ends */
};

/* ---- who is meant ------------------------------------------------------------------------- */

/* What is not said yet is as it says. */
void shape_times_add(struct shape_times *times, const struct shape_times *more);
/* Sets per and of_lanes from what has been read. */
void shape_settle(struct shape *shape);
/* A host's name or address fits a pattern: "*.example.org", "mx.example.org", "192.0.2.1", "*". */
bool shape_host_fits(struct span pattern, struct span host);
bool shape_any_fits(const struct span *patterns, size_t count, struct span name);
/*
 * host: which a site calls first: of the best preference the first by name, or the address in the
 * configuration; may be empty. Whose sites are these? NULL: nobody's.
 */
const struct provider *shape_provider(const struct shapes *shapes, struct span host);
/*
 * provider may be NULL. Does it hold there, for some source and lane? One for the others does if no
 * shape names the site: by its provider or host (a "*" is no name), and asks for nothing else, so
 * that it holds all that goes there.
 */
bool shape_of_site(const struct shapes *shapes, const struct shape *shape,
		   const struct provider *provider, struct span host);
bool shape_of_source(const struct shape *shape, struct span source);
bool shape_of_lane(const struct shape *shape, struct span tenant, struct span domain);
/* Could one host fit both? */
bool shape_patterns_meet(struct span a, struct span b);

/* ---- counting ----------------------------------------------------------------------------- */

/* May one more connection be opened, or begin, now? If not *ret says what holds it. */
bool shape_may_connect(const struct shape *shape, const struct shape_counts *counts, int64_t now,
		       struct shape_hold *ret);
void shape_connect(const struct shape *shape, struct shape_counts *counts, int64_t now);
/*
 * … a message? Of a block of lanes the messages under way count too; who counts them changes
 * counts->open.
 */
bool shape_may_send(const struct shape *shape, const struct shape_counts *counts, int64_t now,
		    struct shape_hold *ret);
/* The most recipients that it may have now; SIZE_MAX: any number. */
size_t shape_recipients(const struct shape *shape, const struct shape_counts *counts, int64_t now);
void shape_send(const struct shape *shape, struct shape_counts *counts, int64_t now,
		size_t recipients);
/* It was not sent after all: at_ms is when it was counted. */
void shape_unsend(const struct shape *shape, struct shape_counts *counts, int64_t at_ms,
		  int64_t now, size_t recipients);
/* How many messages may go now, and when one more than `more` may; INT64_MAX: not known. */
size_t shape_sends(const struct shape *shape, const struct shape_counts *counts, int64_t now);
int64_t shape_next_send(const struct shape *shape, const struct shape_counts *counts, int64_t now,
			size_t more);
int64_t shape_next_connect(const struct shape *shape, const struct shape_counts *counts,
			   int64_t now, size_t more);
/* "messages-per-hour" */
const char *shape_limit_name(enum shape_limit limit);
/* What a limit is now, divided where it is slowed down; 0: there is none. */
uint64_t shape_limit_now(const struct shape *shape, const struct shape_counts *counts,
			 enum shape_limit limit, int64_t now);
/* What one limit has used now. */
uint64_t shape_used(const struct shape *shape, const struct shape_counts *counts,
		    enum shape_limit limit, int64_t now);
/* For people: "1000 of 1000 messages in the last hour". */
struct span shape_hold_text(const struct shape_hold *hold, bool of_lanes, struct arena *arena);
void shape_counts_free(struct shape_counts *counts);

/* ---- what is kept on disk ----------------------------------------------------------------- */

/* Is there anything that must outlive the process? When its last step is over. */
bool shape_counts_kept(const struct shape_counts *counts, int64_t now, int64_t *until_ms);
void shape_counts_encode(const struct shape_counts *counts, int64_t now, struct buf *out);
/* Sets the windows. False: it is no such record; nothing is set. */
bool shape_counts_decode(struct span octets, struct shape_counts *ret);
/* When what it says is over; 0: it is no such record. */
int64_t shape_record_until(struct span octets);

#endif
