/*
 * source: from which of our addresses mail leaves. A *source* is a set of addresses (one of each
 * family at most) and the name that goes with them in EHLO; a *pool* is some sources with weights.
 * A message gets its pool when it is accepted (pool_choose; its lanes keep the name), and its
 * source at each attempt: pool_order. Pure.
 *
 * The order is a weighted rendezvous hash of the message's first recipient: the same recipient has
 * the same order as long as the pool is the same, so that a retry comes from the address that was
 * greylisted; and where a source is added or taken out, only its own share moves. Who cannot be
 * used now is passed over.
 *
 * Warm-up: a source that is new sends no more than so many a day to each site (or provider), by its
 * plan. The day is UTC's. Behind the plan's last day there is no ceiling.
 */
#ifndef TRAM_POLICY_SOURCE_H
#define TRAM_POLICY_SOURCE_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/netaddr.h"
#include "mta/base/span.h"

enum { POOL_SOURCES_MAX = 256, WARMUP_DAYS_MAX = 366 };

#define SOURCE_DAY_MS (INT64_C(24) * 3600 * 1000)

struct source {
	struct span name;
	struct netaddr *addresses;	/* one of a family at most; port 0 */
	size_t address_count;
	struct span ehlo_name;
	int64_t start_day;		/* of the plan: days since 1970-01-01 */
	struct span *plan_words;	/* as written */
	size_t plan_count;		/* 0: it is not new */
	uint64_t *plan;			/* what may be sent on each day */
	/* of name, addresses and EHLO name: source_set_mark(); never 0 */
	uint64_t mark;
	int line;
};

struct pool_member {
	size_t source;			/* its index */
	uint64_t weight;		/* 1 to POOL_WEIGHT_MAX */
};

enum { POOL_WEIGHT_MAX = 1000 };

struct pool {
	struct span name;
	struct span *words;		/* as written: "a", "b=3" */
	size_t word_count;
	struct pool_member members[POOL_SOURCES_MAX];
	size_t member_count;
	struct span *senders;		/* as a route's */
	size_t sender_count;
	struct span *tenants;
	size_t tenant_count;
	int line;
};

struct sources {
	struct source *sources;
	size_t source_count;
	struct pool *pools;
	size_t pool_count;
	/* names a pool, if it is from whom we trust; empty: none does */
	struct span header;
};

struct pool_facts {
	struct span header;		/* what the trusted header says; empty: nothing */
	struct span route;		/* the pool that the route names; empty: none */
	struct span sender;		/* as address_text() gives it; empty: the null path */
	struct span tenant;		/* empty: none */
};

/*
 * The first of these that says something: the header, the route, a pool with this sender (the most
 * specific pattern), a pool with this tenant. NULL: the system's choice of address, and the general
 * EHLO name. A header that names no pool says nothing.
 */
const struct pool *pool_choose(const struct sources *sources, const struct pool_facts *facts);
/* its name, or empty */
struct span pool_chosen(const struct sources *sources, const struct pool_facts *facts);
/* or NULL */
const struct pool *pool_find(const struct sources *sources, struct span name);
/* or NULL */
const struct source *source_find(const struct sources *sources, struct span name);

/* Once all of it is set. */
void source_set_mark(struct source *source);
/* "a", "b=3". False: *error says what would be right. */
bool pool_word_read(struct span word, struct span *ret_name, uint64_t *ret_weight,
		    const char **error);
/* "2026-11-21" → days since 1970-01-01. */
bool source_day_read(struct span text, int64_t *ret);

/* What the order hangs on, of a recipient. */
uint64_t pool_key(struct span recipient);
/* ret: member_count indices of pool->members, the best first. */
void pool_order(const struct sources *sources, const struct pool *pool, uint64_t key,
		size_t ret[POOL_SOURCES_MAX]);
/* The address to call a host of this family from, or NULL: it has none. */
const struct netaddr *source_address(const struct source *source, uint8_t family);

enum { SOURCE_NO_CEILING = -1 };
/* Of mails (recipients) to one site on that day. */
int64_t source_ceiling(const struct source *source, int64_t day);
/* Is the plan not over yet on that day? */
bool source_is_warming(const struct source *source, int64_t day);

/* How it is stored that so many were sent on that day. */
void source_day_encode(int64_t day, uint64_t sent, struct buf *out);
/* 0, -EPROTO, -EBADMSG */
int source_day_decode(struct span octets, int64_t *ret_day, uint64_t *ret_sent);

#endif
