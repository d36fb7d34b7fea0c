/* window: see window.h. Counts are kept here and nowhere else. */
#include "mta/outbound/window.h"

#include <assert.h>
#include <stdlib.h>

static const uint64_t key_seed = UINT64_C(0x7472616d);

struct parcel *
window_parcel(struct window *w, uint64_t id)
{
	struct map_node *node = map_find(&w->parcels, id);

	return node ? CONTAINER_OF(node, struct parcel, node) : NULL;
}

struct lane *
window_lane(struct window *w, uint64_t id)
{
	struct map_node *node = map_find(&w->lanes, id);

	return node ? CONTAINER_OF(node, struct lane, node) : NULL;
}

struct site *
window_site(struct window *w, uint64_t id)
{
	struct map_node *node = map_find(&w->sites_by_id, id);

	return node ? CONTAINER_OF(node, struct site, by_id) : NULL;
}

struct site *
window_site_by_key(struct window *w, struct span key)
{
	struct map_node *node = map_find(&w->sites_by_key, hash_bytes(key.at, key.len, key_seed));

	for (; node != NULL; node = map_next_same(node)) {
		struct site *site = CONTAINER_OF(node, struct site, by_key);

		if (span_eq(site->key, key))
			return site;
	}
	return NULL;
}

struct site *
window_add_site(struct window *w, uint64_t id, struct span key)
{
	struct site *site = xcalloc(1, sizeof(*site));

	list_init(&site->lanes);
	list_init(&site->connections);
	list_init(&site->sources);
	list_init(&site->work_node);
	site->key = arena_copy(&site->arena, key);
	map_add(&w->sites_by_key, &site->by_key, hash_bytes(key.at, key.len, key_seed));
	w->sites++;
	if (id != 0 || key.len == 0)
		window_site_named(w, site, id);
	return site;
}

void
window_site_named(struct window *w, struct site *site, uint64_t id)
{
	if (site->id != 0)			/* its row was deleted, and made anew */
		map_remove(&w->sites_by_id, &site->by_id);
	site->id = id;
	map_add(&w->sites_by_id, &site->by_id, id);
}

void
window_drop_site(struct window *w, struct site *site)
{
	assert(list_empty(&site->lanes) && list_empty(&site->connections) && !site->changing);
	heap_remove(&w->site_timers, &site->timer);
	list_remove(&site->work_node);
	assert(!ring_holds(&site->slot));
	map_remove(&w->sites_by_key, &site->by_key);
	if (site->id != 0 || site->key.len == 0)
		map_remove(&w->sites_by_id, &site->by_id);
	w->sites--;
	shaping_wait_end(&site->wait);
	shaping_wait_end(&site->connect_wait);
	if (site->share != NULL) {
		site->share->sites--;
		share_release(w, site->share);
	}
	ring_free(&site->ring);
	arena_free(&site->arena);
	free(site);
}

static uint32_t
weight_of(const struct window *w, const struct lane *lane)
{
	bool report = lane->priority == PRIORITY_REPORT;

	return w->weight == NULL || report ? 1 : w->weight(w->arg, lane->tenant_name);
}

struct share *
share_find(const struct window *w, uint64_t mark)
{
	struct map_node *node = map_find(&w->shares, mark);

	return node != NULL ? CONTAINER_OF(node, struct share, node) : NULL;
}

struct share *
share_use(struct window *w, struct span tenant)
{
	struct share *share = share_find(w, tenant_mark(tenant));

	if (share == NULL) {
		share = xcalloc(1, sizeof(*share));
		map_add(&w->shares, &share->node, tenant_mark(tenant));
	}
	share->users++;
	return share;
}

void
share_release(struct window *w, struct share *share)
{
	if (--share->users > 0)
		return;
	map_remove(&w->shares, &share->node);
	free(share);
}

/* Reports are a tenant of their own, behind all others. */
static struct ring_tenant *
tenant_of(struct window *w, struct site *site, const struct lane *lane)
{
	bool last = lane->priority == PRIORITY_REPORT;

	return ring_tenant_use(&site->ring, last ? SPAN("") : lane->tenant_name, last,
			       weight_of(w, lane));
}

void
window_weigh(struct window *w)
{
	for (size_t i = 0; i < w->lanes.size; i++)
		for (struct map_node *n = w->lanes.buckets[i]; n != NULL; n = n->next) {
			struct lane *lane = CONTAINER_OF(n, struct lane, node);

			ring_tenant_weigh(lane->tenant, weight_of(w, lane));
		}
}

/* Nobody has the one that stands for those that are looked up. */
static void
site_gets_lane(struct window *w, struct site *site, struct lane *lane)
{
	list_add_last(&site->lanes, &lane->in_site);
	site->lane_count++;
	if (site->share != NULL || site->key.len == 0)
		return;
	site->share = share_use(w, lane->tenant_name);
	site->share->sites++;
}

static void
lane_take_turns(struct lane *lane)
{
	ring_add(lane->tenant, priority_rank(lane->priority), &lane->turn);
}

struct lane *
site_next_lane(struct site *site, bool (*may)(void *arg, struct ring_member *turn), void *arg)
{
	struct ring_member *turn = ring_next(&site->ring, may, arg);

	return turn != NULL ? CONTAINER_OF(turn, struct lane, turn) : NULL;
}

struct lane *
window_add_lane(struct window *w, uint64_t id, const struct lane_record *record, struct site *site)
{
	struct lane *lane = xcalloc(1, sizeof(*lane));

	list_init(&lane->ready);
	lane->wait.is_lane = true;
	lane->tenant_name = arena_copy(&lane->arena, record->name.tenant);
	lane->domain = arena_copy(&lane->arena, record->name.domain);
	lane->route = arena_copy(&lane->arena, record->name.route);
	lane->pool = arena_copy(&lane->arena, record->name.pool);
	lane->priority = record->name.priority;
	lane->site_until_ms = record->site_until_ms;
	lane->backoff = record->backoff;
	lane->backoff.text = arena_copy(&lane->arena, record->backoff.text);
	lane->hold = record->hold;
	lane->stored_site = record->site;
	lane->site = site;
	lane->tenant = tenant_of(w, site, lane);
	lane->share = share_use(w, lane->tenant_name);
	lane->share->lanes++;
	site_gets_lane(w, site, lane);
	map_add(&w->lanes, &lane->node, id);
	return lane;
}

void
window_move_lane(struct window *w, struct lane *lane, struct site *to)
{
	struct ring_tenant *was = lane->tenant;
	struct site *from = lane->site;

	if (from == to)
		return;
	assert(lane->in_flight == 0);
	list_remove(&lane->in_site);
	shaping_wait_end(&lane->wait);
	lane->parked = false;
	ring_remove(&lane->turn);
	lane->tenant = tenant_of(w, to, lane);
	ring_tenant_release(was);
	from->lane_count--;
	from->ready_count -= lane->ready_count;
	lane->site = to;
	site_gets_lane(w, to, lane);
	to->ready_count += lane->ready_count;
	if (lane->ready_count > 0)
		lane_take_turns(lane);
}

void
window_park_lane(struct lane *lane)
{
	lane->parked = true;
	ring_remove(&lane->turn);
}

void
window_unpark_lane(struct lane *lane)
{
	if (lane->parked && lane->ready_count > 0)
		lane_take_turns(lane);
	lane->parked = false;
}

void
window_drop_ready(struct window *w, struct lane *lane)
{
	LIST_EACH(struct entry, entry, &lane->ready, in_lane) {
		lane_missed(lane, entry->parcel->node.key, entry->recipient, entry->due_ms);
		window_drop_entry(w, entry);
	}
}

void
window_drop_lane(struct window *w, struct lane *lane)
{
	assert(lane->in_flight == 0 && !lane->changing && lane->lookup == NULL &&
	       lane->asks == NULL);
	window_drop_ready(w, lane);
	heap_remove(&w->timers, &lane->timer);
	list_remove(&lane->in_site);
	shaping_wait_end(&lane->wait);
	ring_remove(&lane->turn);
	ring_tenant_release(lane->tenant);
	lane->share->lanes--;
	share_release(w, lane->share);
	lane->site->lane_count--;
	map_remove(&w->lanes, &lane->node);
	arena_free(&lane->arena);
	free(lane);
}

static struct parcel *
parcel_get(struct window *w, uint64_t id)
{
	struct parcel *parcel = window_parcel(w, id);

	if (parcel == NULL) {
		parcel = xcalloc(1, sizeof(*parcel));
		list_init(&parcel->entries);
		map_add(&w->parcels, &parcel->node, id);
	}
	return parcel;
}

static void
lane_add_ready(struct lane *lane, struct entry *entry, bool first)
{
	if (first)
		list_add_first(&lane->ready, &entry->in_lane);
	else
		list_add_last(&lane->ready, &entry->in_lane);
	if (lane->ready_count++ == 0 && !lane->parked)
		lane_take_turns(lane);
	lane->site->ready_count++;
}

static void
lane_take_ready(struct lane *lane, struct entry *entry)
{
	list_remove(&entry->in_lane);
	if (--lane->ready_count == 0)
		ring_remove(&lane->turn);
	lane->site->ready_count--;
}

struct entry *
window_add_entry(struct window *w, struct lane *lane, uint64_t id, uint32_t recipient,
		 int64_t due_ms)
{
	struct parcel *parcel = parcel_get(w, id);
	struct entry *entry;

	LIST_EACH(struct entry, other, &parcel->entries, in_parcel)
		if (other->recipient == recipient)
			return NULL;
	entry = xcalloc(1, sizeof(*entry));
	entry->parcel = parcel;
	entry->lane = lane;
	entry->recipient = recipient;
	entry->due_ms = due_ms;
	list_add_last(&parcel->entries, &entry->in_parcel);
	lane_add_ready(lane, entry, false);
	w->entries++;
	lane->share->entries++;
	return entry;
}

void
window_drop_entry(struct window *w, struct entry *entry)
{
	struct parcel *parcel = entry->parcel;

	if (entry->in_flight) {
		entry->lane->in_flight--;
		entry->lane->site->in_flight--;
		parcel->in_flight--;
	} else {
		lane_take_ready(entry->lane, entry);
	}
	entry->lane->share->entries--;
	list_remove(&entry->in_parcel);
	if (list_empty(&parcel->entries) && !parcel->locked) {
		map_remove(&w->parcels, &parcel->node);
		free(parcel);
	}
	w->entries--;
	free(entry);
}

void
entry_fly(struct entry *entry)
{
	lane_take_ready(entry->lane, entry);
	entry->in_flight = true;
	entry->lane->in_flight++;
	entry->lane->site->in_flight++;
	entry->parcel->in_flight++;
}

void
entry_land(struct entry *entry, bool first)
{
	entry->in_flight = false;
	entry->lane->in_flight--;
	entry->lane->site->in_flight--;
	entry->parcel->in_flight--;
	lane_add_ready(entry->lane, entry, first);
}

/* Keys are ordered by due time, id, recipient. */
static int
key_compare(const struct queue_entry *a, const struct queue_entry *b)
{
	if (a->due_ms != b->due_ms)
		return a->due_ms < b->due_ms ? -1 : 1;
	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	return a->recipient < b->recipient ? -1 : a->recipient > b->recipient;
}

bool
lane_has_passed(const struct lane *lane, uint64_t id, uint32_t recipient, int64_t due_ms)
{
	struct queue_entry key = { .due_ms = due_ms, .id = id, .recipient = recipient };

	return key_compare(&key, &lane->cursor) <= 0;
}

void
lane_missed(struct lane *lane, uint64_t id, uint32_t recipient, int64_t due_ms)
{
	struct queue_entry key = {
		.lane = lane->node.key, .due_ms = due_ms, .id = id, .recipient = recipient
	};

	/* read again from just before it */
	if (lane_has_passed(lane, id, recipient, due_ms)) {
		key.id--;
		key.recipient = UINT32_MAX;
		lane->cursor = key;
	}
	if (due_ms < lane->more_due_ms)
		lane->more_due_ms = due_ms;
}

bool
lane_idle(const struct lane *lane)
{
	return lane->ready_count == 0 && lane->in_flight == 0 && !lane->changing &&
	       lane->lookup == NULL && lane->asks == NULL;
}
