/*
 * ring: whose turn is it? Members (the lanes of a site that have something ready; the sites that
 * wait for a connection) belong to tenants, and tenants share by weight. Pure: no clock, no I/O.
 *
 * Each tenant has a time of its own, which runs by what it has got (recipients), the slower the
 * more weight it has; whose time is the earliest is next. Who comes anew, or comes back, begins at
 * the time of now: what nobody asked for is not saved up, and what was got on credit is not
 * forgiven while the tenant is known. So a million messages of one are behind one of another, but
 * for the one that has begun.
 *
 * Within a tenant members stand in tiers by rank (0 first), in turn within a tier. The first tier
 * goes first, but for one turn in RING_LOWER_EVERY, which is the one's that has waited longest: a
 * lower rank is slow, never stuck. A tenant that is `last` (reports) goes when no other has
 * anything, but for one turn in RING_LAST_EVERY.
 */
#ifndef TRAM_RING_H
#define TRAM_RING_H

#include "mta/base/heap.h"
#include "mta/base/list.h"
#include "mta/base/map.h"
#include "mta/base/span.h"

enum { RING_LOWER_EVERY = 10, RING_LAST_EVERY = 20, RING_WEIGHT_MAX = 1000 };

struct ring_tier;
struct ring_tenant;

struct ring_member {			/* embedded; zeroed: in no ring */
	struct list in_tier;
	struct ring_tier *tier;
};

struct ring {				/* zeroed: empty */
	struct map tenants;		/* by hash of the name */
	struct heap turns[2];		/* those with members, by their time; [1]: the last ones */
	int64_t now[2];			/* the time of who was served last */
	uint64_t served;		/* turns so far */
	size_t members;
	bool alike;			/* what holds one member of a tenant holds all of it */
};

/* One user more of the tenant of that name, made if it is new (weight, last: of a new one). */
struct ring_tenant *ring_tenant_use(struct ring *ring, struct span name, bool last,
				    uint32_t weight);
/* It is forgotten with its last user; no members then. NULL is fine. */
void ring_tenant_release(struct ring_tenant *tenant);
struct span ring_tenant_name(const struct ring_tenant *tenant);
void ring_tenant_weigh(struct ring_tenant *tenant, uint32_t weight);	/* from now on */

void ring_add(struct ring_tenant *tenant, unsigned rank, struct ring_member *member);
void ring_remove(struct ring_member *member);		/* no harm if it is in none */

static inline bool
ring_holds(const struct ring_member *member)
{
	return member->tier != NULL;
}

static inline bool
ring_empty(const struct ring *ring)
{
	return ring->members == 0;
}

/*
 * Whose turn it is, or NULL; nothing changes until ring_served(). With may only those for which it
 * says yes; tenants that are passed over so do not save it up.
 */
struct ring_member *ring_next(struct ring *ring, bool (*may)(void *arg, struct ring_member *member),
			      void *arg);
/* It has got so many recipients (at least 1), and goes to the end of its tier. */
void ring_served(struct ring_member *member, size_t recipients);
void ring_free(struct ring *ring);			/* no tenants */

#endif
