/* ring: see ring.h. Home loop only. */
#include "mta/outbound/ring.h"

#include <assert.h>
#include <stdlib.h>

#include "mta/base/arena.h"

/* One recipient of a tenant of weight 1, in the tenant's time: 2^43 of them until it overflows. */
static const int64_t one = 1 << 20;
static const uint64_t name_seed = UINT64_C(0x74656e616e74);

struct ring_tier {
	struct list in_tenant;
	struct list members;
	struct ring_tenant *tenant;
	unsigned rank;
	uint64_t served_at;		/* the tenant's turn at which it was served last */
};

struct ring_tenant {
	struct map_node node;
	struct heap_node turn;		/* while it has members */
	struct list passed;		/* while others are looked at */
	struct ring *ring;
	struct list tiers;		/* by rank; none is empty */
	int64_t time;
	uint32_t weight;
	bool last;
	size_t users;
	uint64_t turns;
	size_t name_len;
	char name[];
};

/* ---- tenants ------------------------------------------------------------------------------ */

struct span
ring_tenant_name(const struct ring_tenant *tenant)
{
	return (struct span){ tenant->name, tenant->name_len };
}

void
ring_tenant_weigh(struct ring_tenant *tenant, uint32_t weight)
{
	tenant->weight = weight < 1 ? 1 : weight > RING_WEIGHT_MAX ? RING_WEIGHT_MAX : weight;
}

struct ring_tenant *
ring_tenant_use(struct ring *ring, struct span name, bool last, uint32_t weight)
{
	uint64_t hash = hash_bytes(name.at, name.len, name_seed + last);
	struct map_node *node = map_find(&ring->tenants, hash);
	struct ring_tenant *tenant;

	for (; node != NULL; node = map_next_same(node)) {
		tenant = CONTAINER_OF(node, struct ring_tenant, node);
		if (tenant->last == last && span_eq(ring_tenant_name(tenant), name)) {
			tenant->users++;
			return tenant;
		}
	}
	tenant = xcalloc(1, sizeof(*tenant) + name.len);
	tenant->ring = ring;
	tenant->last = last;
	tenant->users = 1;
	tenant->time = ring->now[last];
	tenant->name_len = name.len;
	if (name.len > 0)
		memcpy(tenant->name, name.at, name.len);
	ring_tenant_weigh(tenant, weight);
	list_init(&tenant->tiers);
	list_init(&tenant->passed);
	map_add(&ring->tenants, &tenant->node, hash);
	return tenant;
}

void
ring_tenant_release(struct ring_tenant *tenant)
{
	if (tenant == NULL || --tenant->users > 0)
		return;
	assert(list_empty(&tenant->tiers));
	map_remove(&tenant->ring->tenants, &tenant->node);
	free(tenant);
}

/* ---- members ------------------------------------------------------------------------------ */

static struct ring_tier *
tier_get(struct ring_tenant *tenant, unsigned rank)
{
	struct list *behind = &tenant->tiers;
	struct ring_tier *tier;

	LIST_EACH(struct ring_tier, other, &tenant->tiers, in_tenant) {
		if (other->rank == rank)
			return other;
		if (other->rank < rank)
			behind = &other->in_tenant;
	}
	tier = xcalloc(1, sizeof(*tier));
	tier->tenant = tenant;
	tier->rank = rank;
	tier->served_at = tenant->turns;
	list_init(&tier->members);
	list_add_first(behind, &tier->in_tenant);
	return tier;
}

/* It has something, or has been passed over: no earlier than now. */
static void
tenant_wakes(struct ring_tenant *tenant)
{
	struct ring *ring = tenant->ring;

	if (tenant->time < ring->now[tenant->last])
		tenant->time = ring->now[tenant->last];
	heap_set(&ring->turns[tenant->last], &tenant->turn, tenant->time);
}

void
ring_add(struct ring_tenant *tenant, unsigned rank, struct ring_member *member)
{
	assert(member->tier == NULL);
	member->tier = tier_get(tenant, rank);
	list_add_last(&member->tier->members, &member->in_tier);
	tenant->ring->members++;
	if (!heap_holds(&tenant->turn))
		tenant_wakes(tenant);
}

void
ring_remove(struct ring_member *member)
{
	struct ring_tier *tier = member->tier;
	struct ring_tenant *tenant;

	if (tier == NULL)
		return;
	tenant = tier->tenant;
	member->tier = NULL;
	list_remove(&member->in_tier);
	tenant->ring->members--;
	if (!list_empty(&tier->members))
		return;
	list_remove(&tier->in_tenant);
	free(tier);
	if (list_empty(&tenant->tiers))
		heap_remove(&tenant->ring->turns[tenant->last], &tenant->turn);
}

/* ---- turns -------------------------------------------------------------------------------- */

typedef bool may_go(void *arg, struct ring_member *member);

static struct ring_member *
next_of_tier(struct ring_tier *tier, may_go *may, void *arg)
{
	LIST_EACH(struct ring_member, member, &tier->members, in_tier)
		if (may == NULL || may(arg, member))
			return member;
		else if (tier->tenant->ring->alike)
			return NULL;
	return NULL;
}

static struct ring_tier *
tier_that_waits(struct ring_tenant *tenant)
{
	struct ring_tier *longest = NULL;

	LIST_EACH(struct ring_tier, tier, &tenant->tiers, in_tenant)
		if (longest == NULL || tier->served_at < longest->served_at)
			longest = tier;
	return longest;
}

static struct ring_member *
next_of_tenant(struct ring_tenant *tenant, may_go *may, void *arg)
{
	struct ring_member *member = NULL;

	if (tenant->turns % RING_LOWER_EVERY == RING_LOWER_EVERY - 1)
		member = next_of_tier(tier_that_waits(tenant), may, arg);
	LIST_EACH(struct ring_tier, tier, &tenant->tiers, in_tenant)
		if (member == NULL)
			member = next_of_tier(tier, may, arg);
	return member;
}

static struct ring_member *
next_of_turns(struct ring *ring, bool last, may_go *may, void *arg)
{
	struct ring_member *member = NULL;
	struct heap_node *node;
	struct list passed;

	list_init(&passed);
	while (member == NULL && (node = heap_first(&ring->turns[last])) != NULL) {
		struct ring_tenant *tenant = CONTAINER_OF(node, struct ring_tenant, turn);

		member = next_of_tenant(tenant, may, arg);
		if (member != NULL) {
			ring->now[last] = tenant->time;
		} else {
			heap_remove(&ring->turns[last], node);
			list_add_last(&passed, &tenant->passed);
		}
	}
	LIST_EACH(struct ring_tenant, tenant, &passed, passed) {
		list_remove(&tenant->passed);
		tenant_wakes(tenant);
	}
	return member;
}

struct ring_member *
ring_next(struct ring *ring, may_go *may, void *arg)
{
	bool last = ring->served % RING_LAST_EVERY == RING_LAST_EVERY - 1;
	struct ring_member *member = next_of_turns(ring, last, may, arg);

	return member != NULL ? member : next_of_turns(ring, !last, may, arg);
}

void
ring_served(struct ring_member *member, size_t recipients)
{
	struct ring_tier *tier = member->tier;
	struct ring_tenant *tenant = tier->tenant;
	struct ring *ring = tenant->ring;

	list_remove(&member->in_tier);
	list_add_last(&tier->members, &member->in_tier);
	tier->served_at = ++tenant->turns;
	ring->served++;
	tenant->time += (int64_t)(recipients > 0 ? recipients : 1) * (one / tenant->weight);
	heap_set(&ring->turns[tenant->last], &tenant->turn, tenant->time);
}

void
ring_free(struct ring *ring)
{
	assert(ring->tenants.count == 0);
	map_free(&ring->tenants);
	heap_free(&ring->turns[0]);
	heap_free(&ring->turns[1]);
}
