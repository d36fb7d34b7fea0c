/*
 * lookup: rows found by a name, or as the first of their kind; in any transaction, so on any
 * thread.
 */
#include "queue/writer.h"

bool
lane_find_row(struct txn *txn, const struct lane_name *name, uint64_t *ret)
{
	struct lane_record record;
	struct cursor c;
	struct span value;
	struct key from;
	uint8_t hash[HASH_LEN];
	bool found = false;

	lane_name_hash(name, hash);
	from = key_hash(hash, 0);
	cursor_open(&c, txn, TABLE_LANE_HASH, key_span(&from));
	while (!found && cursor_next(&c) && c.key.len == HASH_KEY_LEN &&
	       memcmp(c.key.at, hash, HASH_LEN) == 0) {
		struct key id = key_id(key_get_u64(c.key, HASH_LEN));

		if (txn_get(txn, TABLE_LANE, key_span(&id), &value) &&
		    lane_record_decode(value, NULL, &record) == 0 &&
		    lane_name_eq(&record.name, name)) {
			*ret = key_get_u64(c.key, HASH_LEN);
			found = true;
		}
	}
	cursor_close(&c);
	return found;
}

bool
site_find_row(struct txn *txn, struct span key, uint64_t *ret)
{
	struct site_record record;
	struct cursor c;
	struct span value;
	struct key from;
	uint8_t hash[HASH_LEN];
	bool found = false;

	site_key_hash(key, hash);
	from = key_hash(hash, 0);
	cursor_open(&c, txn, TABLE_SITE_KEY, key_span(&from));
	while (!found && cursor_next(&c) && c.key.len == HASH_KEY_LEN &&
	       memcmp(c.key.at, hash, HASH_LEN) == 0) {
		struct key id = key_id(key_get_u64(c.key, HASH_LEN));

		if (txn_get(txn, TABLE_SITE, key_span(&id), &value) &&
		    site_record_decode(value, NULL, &record) == 0 && span_eq(record.key, key)) {
			*ret = key_get_u64(c.key, HASH_LEN);
			found = true;
		}
	}
	cursor_close(&c);
	return found;
}

/* False: it is no row of that site. */
static bool
asleep_read(struct span key, uint64_t site, struct queue_asleep *ret)
{
	bool tenant = key.len == ASLEEP_TENANT_KEY_LEN;

	if ((key.len != ASLEEP_KEY_LEN && !tenant) || key_get_u64(key, 0) != site)
		return false;
	ret->tenant = tenant ? key_get_u64(key, 8) : 0;
	ret->due_ms = (int64_t)key_get_u64(key, tenant ? 16 : 8);
	ret->lane = key_get_u64(key, tenant ? 24 : 16);
	return true;
}

int64_t
first_due(struct txn *txn, uint64_t lane)
{
	struct key from = key_id(lane);
	struct cursor c;
	int64_t due = INT64_MAX;

	cursor_open(&c, txn, TABLE_ENTRY, key_span(&from));
	if (cursor_next(&c) && c.key.len == ENTRY_KEY_LEN && key_get_u64(c.key, 0) == lane)
		due = (int64_t)key_get_u64(c.key, 8);
	cursor_close(&c);
	return due;
}

bool
asleep_next(struct asleep_walk *w, struct queue_asleep *ret)
{
	for (;;) {
		struct queue_asleep at;

		if (!w->open)
			cursor_open(&w->cursor, w->txn, TABLE_ASLEEP, key_span(&w->from));
		w->open = true;
		if (!cursor_next(&w->cursor) || !asleep_read(w->cursor.key, w->site, &at))
			return false;
		if (at.due_ms <= w->until_ms) {
			*ret = at;
			return true;
		}
		/* nothing more of this tenant: on to the next one */
		if (at.due_ms < w->next_ms)
			w->next_ms = at.due_ms;
		w->tenants++;
		asleep_close(w);
		w->from = key_asleep_tenant(w->site, at.tenant == 0 ? 1 : at.tenant + 1);
	}
}

void
asleep_close(struct asleep_walk *w)
{
	if (w->open)
		cursor_close(&w->cursor);
	w->open = false;
}

int64_t
first_asleep(struct txn *txn, uint64_t site)
{
	struct asleep_walk w = { .txn = txn, .site = site, .until_ms = -1, .from = key_id(site),
				 .next_ms = INT64_MAX };
	struct queue_asleep row;

	asleep_next(&w, &row);
	asleep_close(&w);
	return w.next_ms;
}
