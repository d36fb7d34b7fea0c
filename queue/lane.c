/*
 * lane: lanes and sites in the writer's transaction: finding and making them, and the two
 * indexes `asleep` and `wake` that let the dispatcher leave them on disk. Writer thread only.
 * The rules, checked by check.c:
 *
 * - A lane with an entry that may go has one row in `asleep`, at most as late as its first
 * entry, or as its own   back-off if that is later. Too early is fine, and usual: the row of a
 * busy lane stands still. - A site with such a lane has one row in `wake`, at most as late as
 * its first row in `asleep`, or as its back-off.   A suspended site needs none. - So an accept
 * that finds its lane's row early enough has nothing to do here but count.
 *
 * A small cache saves looking up the same lanes again and again. What a batch changes is dirty
 * and written once, before the commit; after an abort the dirty ones are dropped and read again.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "queue/writer.h"

static int64_t
later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static struct span
put_string(char **at, struct span s)
{
	struct span copy = { *at, s.len };

	if (s.len > 0)
		memcpy(*at, s.at, s.len);
	*at += s.len;
	return copy;
}

/* ---- the cache ---------------------------------------------------------------------------- */

static uint64_t
hash_key(const uint8_t hash[HASH_LEN])
{
	return key_number(span_of(hash, HASH_LEN), 0, 8);
}

void
lane_dirty(struct batch *b, struct lane_node *lane)
{
	if (!list_linked(&lane->dirty))
		list_add_last(&b->lanes, &lane->dirty);
}

static void
site_dirty(struct batch *b, struct site_node *site)
{
	if (!list_linked(&site->dirty))
		list_add_last(&b->sites, &site->dirty);
}

static void
lane_node_free(struct queue *q, struct lane_node *lane)
{
	map_remove(&q->lanes_by_id, &lane->by_id);
	map_remove(&q->lanes_by_hash, &lane->by_hash);
	list_remove(&lane->lru);
	list_remove(&lane->dirty);
	free(lane->text);
	free(lane);
}

static void
site_node_free(struct queue *q, struct site_node *site)
{
	map_remove(&q->sites_by_id, &site->by_id);
	list_remove(&site->lru);
	list_remove(&site->dirty);
	free(site->texts);
	free(site);
}

static void
lane_set_backoff(struct lane_node *lane, const struct backoff *backoff)
{
	char *text = xcalloc(1, backoff->text.len + 1), *at = text;

	lane->record.backoff = *backoff;
	lane->record.backoff.text = put_string(&at, backoff->text);
	free(lane->text);
	lane->text = text;
}

static void
site_set_state(struct site_node *site, const struct site_state *state)
{
	char *texts = xcalloc(1, state->backoff.text.len + state->last.host.len +
					 state->last.text.len + 1);
	char *at = texts;

	site->record.state = *state;
	site->record.state.backoff.text = put_string(&at, state->backoff.text);
	site->record.state.last.host = put_string(&at, state->last.host);
	site->record.state.last.text = put_string(&at, state->last.text);
	free(site->texts);
	site->texts = texts;
}

static struct lane_node *
lane_node_make(struct queue *q, uint64_t id, const struct lane_record *r)
{
	const struct lane_name *name = &r->name;
	struct lane_node *lane = xcalloc(1, sizeof(*lane) + name->tenant.len + name->domain.len +
						    name->route.len + name->pool.len);
	char *at = lane->names;
	uint8_t hash[HASH_LEN];

	lane->id = id;
	lane->record = *r;
	lane->record.name.tenant = put_string(&at, name->tenant);
	lane->record.name.domain = put_string(&at, name->domain);
	lane->record.name.route = put_string(&at, name->route);
	lane->record.name.pool = put_string(&at, name->pool);
	lane_set_backoff(lane, &r->backoff);
	lane_name_hash(name, hash);
	map_add(&q->lanes_by_id, &lane->by_id, id);
	map_add(&q->lanes_by_hash, &lane->by_hash, hash_key(hash));
	list_add_first(&q->lanes_lru, &lane->lru);
	list_init(&lane->dirty);
	return lane;
}

static struct site_node *
site_node_make(struct queue *q, uint64_t id, const struct site_record *r)
{
	struct site_node *site = xcalloc(1, sizeof(*site) + r->key.len);
	char *at = site->key;

	site->id = id;
	site->record = *r;
	site->record.key = put_string(&at, r->key);
	site_set_state(site, &r->state);
	map_add(&q->sites_by_id, &site->by_id, id);
	list_add_first(&q->sites_lru, &site->lru);
	list_init(&site->dirty);
	return site;
}

struct lane_node *
lane_get(struct batch *b, uint64_t id)
{
	struct queue *q = b->queue;
	struct map_node *found = map_find(&q->lanes_by_id, id);
	struct lane_record record;
	struct span value;
	struct key key = key_id(id);
	int r;

	if (found != NULL) {
		struct lane_node *lane = CONTAINER_OF(found, struct lane_node, by_id);

		list_remove(&lane->lru);
		list_add_first(&q->lanes_lru, &lane->lru);
		return lane;
	}
	if (!txn_get(&b->txn, TABLE_LANE, key_span(&key), &value))
		return NULL;
	r = lane_record_decode(value, NULL, &record);
	if (r < 0) {
		txn_fail(&b->txn, r);
		return NULL;
	}
	return lane_node_make(q, id, &record);
}

static struct site_node *
site_get(struct batch *b, uint64_t id)
{
	struct queue *q = b->queue;
	struct map_node *found = map_find(&q->sites_by_id, id);
	struct site_record record;
	struct span value;
	struct key key = key_id(id);
	int r;

	if (found != NULL) {
		struct site_node *site = CONTAINER_OF(found, struct site_node, by_id);

		list_remove(&site->lru);
		list_add_first(&q->sites_lru, &site->lru);
		return site;
	}
	if (!txn_get(&b->txn, TABLE_SITE, key_span(&key), &value))
		return NULL;
	r = site_record_decode(value, NULL, &record);
	if (r < 0) {
		txn_fail(&b->txn, r);
		return NULL;
	}
	return site_node_make(q, id, &record);
}

/* ---- finding by name ---------------------------------------------------------------------- */

static struct lane_node *
lane_make(struct batch *b, const struct lane_name *name, const uint8_t hash[HASH_LEN])
{
	const struct lane_record record = { .name = *name, .asleep_ms = INT64_MAX };
	struct site_node *unresolved = site_get(b, 0);
	struct lane_node *lane;
	struct key key;

	if (unresolved == NULL)
		return NULL;
	lane = lane_node_make(b->queue, b->meta.next_lane++, &record);
	lane_dirty(b, lane);
	unresolved->record.lanes++;
	site_dirty(b, unresolved);
	key = key_hash(hash, lane->id);
	txn_put(&b->txn, TABLE_LANE_HASH, key_span(&key), SPAN(""));
	key = key_lane_domain(name->domain, lane->id);
	txn_put(&b->txn, TABLE_LANE_DOMAIN, key_span(&key), SPAN(""));
	return lane;
}

struct lane_node *
lane_named(struct batch *b, const struct lane_name *name)
{
	struct map_node *node;
	uint8_t hash[HASH_LEN];
	uint64_t id;

	lane_name_hash(name, hash);
	for (node = map_find(&b->queue->lanes_by_hash, hash_key(hash)); node != NULL;
	     node = map_next_same(node)) {
		struct lane_node *lane = CONTAINER_OF(node, struct lane_node, by_hash);

		if (lane_name_eq(&lane->record.name, name))
			return lane_get(b, lane->id);
	}
	if (lane_find_row(&b->txn, name, &id))
		return lane_get(b, id);
	return b->txn.error == 0 ? lane_make(b, name, hash) : NULL;
}

static struct site_node *
site_named(struct batch *b, struct span key)
{
	const struct site_record record = { .key = key, .wake_ms = INT64_MAX };
	struct site_node *site;
	struct key row;
	uint8_t hash[HASH_LEN];
	uint64_t id;

	if (key.len == 0)
		return site_get(b, 0);
	if (site_find_row(&b->txn, key, &id))
		return site_get(b, id);
	if (b->txn.error != 0)
		return NULL;
	site = site_node_make(b->queue, b->meta.next_site++, &record);
	site_dirty(b, site);
	site_key_hash(key, hash);
	row = key_hash(hash, site->id);
	txn_put(&b->txn, TABLE_SITE_KEY, key_span(&row), SPAN(""));
	/* at once: another lane of this batch may lead there too */
	buf_clear(&b->record);
	site_record_encode(&site->record, &b->record);
	row = key_id(site->id);
	txn_put(&b->txn, TABLE_SITE, key_span(&row), buf_span(&b->record));
	return site;
}

/* ---- the indexes -------------------------------------------------------------------------- */

static void
site_set_wake(struct batch *b, struct site_node *site, int64_t at_ms)
{
	struct key key;

	at_ms = later(at_ms, 0);
	if (site->record.wake_ms == at_ms)
		return;
	if (site->record.wake_ms != INT64_MAX) {
		key = key_wake(site->record.wake_ms, site->id);
		txn_del(&b->txn, TABLE_WAKE, key_span(&key));
	}
	if (at_ms != INT64_MAX) {
		key = key_wake(at_ms, site->id);
		txn_put(&b->txn, TABLE_WAKE, key_span(&key), SPAN(""));
	}
	site->record.wake_ms = at_ms;
	site_dirty(b, site);
}

/* Something in the site is due then: its wake may not be later, unless its back-off is. */
static void
site_need(struct batch *b, uint64_t id, int64_t due_ms)
{
	struct site_node *site = site_get(b, id);
	int64_t need;

	if (site == NULL || site->record.state.suspended)
		return;
	need = later(due_ms, site->record.state.backoff.next_ms);
	if (site->record.wake_ms > need)
		site_set_wake(b, site, need);
}

static void
lane_set_asleep(struct batch *b, struct lane_node *lane, int64_t due_ms)
{
	struct key key;

	due_ms = later(due_ms, 0);
	if (lane->record.asleep_ms == due_ms)
		return;
	if (lane->record.asleep_ms != INT64_MAX) {
		key = key_asleep(lane->record.site, tenant_mark(lane->record.name.tenant),
				 lane->record.asleep_ms, lane->id);
		txn_del(&b->txn, TABLE_ASLEEP, key_span(&key));
	}
	lane->record.asleep_ms = due_ms;
	lane_dirty(b, lane);
	if (due_ms == INT64_MAX)
		return;
	key = key_asleep(lane->record.site, tenant_mark(lane->record.name.tenant), due_ms,
			 lane->id);
	txn_put(&b->txn, TABLE_ASLEEP, key_span(&key), SPAN(""));
	site_need(b, lane->record.site, due_ms);
}

void
lane_added(struct batch *b, struct lane_node *lane, int64_t due_ms)
{
	int64_t need = later(due_ms, lane->record.backoff.next_ms);

	lane->record.count++;
	lane_dirty(b, lane);
	if (!lane->record.hold && due_ms != DUE_HELD && lane->record.asleep_ms > need)
		lane_set_asleep(b, lane, need);
}

/*
 * An empty lane is deleted when the dispatcher comes to it: so it must come, and not when the last
 * would have gone.
 */
void
lane_removed(struct batch *b, struct lane_node *lane)
{
	assert(lane->record.count > 0);
	lane->record.count--;
	lane_dirty(b, lane);
	if (lane->record.count == 0 && lane->record.asleep_ms > b->now_ms && !lane->record.hold)
		lane_set_asleep(b, lane, b->now_ms);
}

/* ---- changes the dispatcher asks for ------------------------------------------------------ */

/* Site 0 stays, and so does what an operator suspended. */
static bool
site_drop_if_unused(struct batch *b, struct site_node *site)
{
	uint8_t hash[HASH_LEN];
	struct key key;

	if (site->id == 0 || site->record.lanes > 0 || site->record.state.suspended)
		return false;
	site_set_wake(b, site, INT64_MAX);
	site_key_hash(site->record.key, hash);
	key = key_hash(hash, site->id);
	txn_del(&b->txn, TABLE_SITE_KEY, key_span(&key));
	key = key_id(site->id);
	txn_del(&b->txn, TABLE_SITE, key_span(&key));
	site_node_free(b->queue, site);
	return true;
}

static void
lane_leave_site(struct batch *b, struct lane_node *lane)
{
	struct site_node *site;

	lane_set_asleep(b, lane, INT64_MAX);
	site = site_get(b, lane->record.site);
	if (site == NULL)
		return;
	assert(site->record.lanes > 0);
	site->record.lanes--;
	site_dirty(b, site);
	site_drop_if_unused(b, site);
}

static void
lane_delete(struct batch *b, struct lane_node *lane)
{
	uint8_t hash[HASH_LEN];
	struct key key;

	lane_leave_site(b, lane);
	lane_name_hash(&lane->record.name, hash);
	key = key_hash(hash, lane->id);
	txn_del(&b->txn, TABLE_LANE_HASH, key_span(&key));
	key = key_lane_domain(lane->record.name.domain, lane->id);
	txn_del(&b->txn, TABLE_LANE_DOMAIN, key_span(&key));
	key = key_id(lane->id);
	txn_del(&b->txn, TABLE_LANE, key_span(&key));
	lane_node_free(b->queue, lane);
}

static void
lane_move(struct batch *b, struct lane_node *lane, struct span site_key)
{
	struct site_node *to = site_named(b, site_key);

	if (to == NULL || to->id == lane->record.site)
		return;
	to->record.lanes++;
	site_dirty(b, to);
	lane_leave_site(b, lane);
	lane->record.site = to->id;
	lane_dirty(b, lane);
}

int
lane_apply(struct batch *b, struct queue_lane_change *change)
{
	struct lane_node *lane = lane_get(b, change->lane);
	int64_t asked, need = INT64_MAX;

	change->gone = lane == NULL;
	change->site_id = 0;
	if (lane == NULL)
		return 0;
	if (change->set_due && lane->record.count == 0 && !lane->record.hold && !change->set_hold) {
		lane_delete(b, lane);
		change->gone = true;
		return 0;
	}
	asked = lane->record.asleep_ms;
	if (change->set_site) {
		lane_move(b, lane, change->site_key);
		lane->record.site_until_ms = change->site_until_ms;
	}
	if (change->set_backoff)
		lane_set_backoff(lane, &change->backoff);
	if (change->set_hold)
		lane->record.hold = change->hold;
	lane_dirty(b, lane);
	if (!lane->record.hold && lane->record.count > 0)
		need = first_due(&b->txn, lane->id);
	if (need != INT64_MAX)
		need = later(need, lane->record.backoff.next_ms);
	if (change->set_backoff || change->set_hold)
		asked = need;
	if (change->set_due)
		asked = change->due_ms;
	/* Empty: it stays where it was, for the dispatcher to come by. Held: no row. */
	if (lane->record.count == 0 && !lane->record.hold)
		lane_set_asleep(b, lane, asked == INT64_MAX ? b->now_ms : asked);
	else
		lane_set_asleep(b, lane, need == INT64_MAX ? INT64_MAX : earlier(asked, need));
	change->site_id = lane->record.site;
	return 0;
}

int
site_apply(struct batch *b, struct queue_site_change *change)
{
	struct site_node *site = site_get(b, change->site);
	int64_t need = INT64_MAX;

	change->gone = site == NULL;
	if (site == NULL)
		return 0;
	site_set_state(site, &change->state);
	site_dirty(b, site);
	if (site_drop_if_unused(b, site)) {
		change->gone = true;
		return 0;
	}
	if (!site->record.state.suspended)
		need = first_asleep(&b->txn, site->id);
	if (need != INT64_MAX)
		need = later(need, site->record.state.backoff.next_ms);
	site_set_wake(b, site, earlier(need, change->wake_ms > 0 ? change->wake_ms : INT64_MAX));
	return 0;
}

/* ---- with the batch ----------------------------------------------------------------------- */

void
lanes_write(struct batch *b)
{
	LIST_EACH(struct lane_node, lane, &b->lanes, dirty) {
		struct key key = key_id(lane->id);

		buf_clear(&b->record);
		lane_record_encode(&lane->record, &b->record);
		txn_put(&b->txn, TABLE_LANE, key_span(&key), buf_span(&b->record));
	}
	LIST_EACH(struct site_node, site, &b->sites, dirty) {
		struct key key = key_id(site->id);

		buf_clear(&b->record);
		site_record_encode(&site->record, &b->record);
		txn_put(&b->txn, TABLE_SITE, key_span(&key), buf_span(&b->record));
	}
}

void
lanes_keep(struct batch *b)
{
	struct queue *q = b->queue;

	LIST_EACH(struct lane_node, lane, &b->lanes, dirty)
		list_remove(&lane->dirty);
	LIST_EACH(struct site_node, site, &b->sites, dirty)
		list_remove(&site->dirty);
	while (q->lanes_by_id.count > CACHED_LANES)
		lane_node_free(q, CONTAINER_OF(q->lanes_lru.prev, struct lane_node, lru));
	while (q->sites_by_id.count > CACHED_SITES)
		site_node_free(q, CONTAINER_OF(q->sites_lru.prev, struct site_node, lru));
}

void
lanes_drop(struct batch *b)
{
	LIST_EACH(struct lane_node, lane, &b->lanes, dirty)
		lane_node_free(b->queue, lane);
	LIST_EACH(struct site_node, site, &b->sites, dirty)
		site_node_free(b->queue, site);
}

void
lanes_forget(struct queue *q)
{
	LIST_EACH(struct lane_node, lane, &q->lanes_lru, lru)
		lane_node_free(q, lane);
	LIST_EACH(struct site_node, site, &q->sites_lru, lru)
		site_node_free(q, site);
	map_free(&q->lanes_by_id);
	map_free(&q->lanes_by_hash);
	map_free(&q->sites_by_id);
}
