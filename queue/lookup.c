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

int64_t
first_asleep(struct txn *txn, uint64_t site)
{
	struct key from = key_id(site);
	struct cursor c;
	int64_t due = INT64_MAX;

	cursor_open(&c, txn, TABLE_ASLEEP, key_span(&from));
	if (cursor_next(&c) && c.key.len == ASLEEP_KEY_LEN && key_get_u64(c.key, 0) == site)
		due = (int64_t)key_get_u64(c.key, 8);
	cursor_close(&c);
	return due;
}
