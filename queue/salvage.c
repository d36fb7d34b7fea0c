/*
 * salvage: reads what is left of a damaged data file, message by message; see queue.h. It writes
 * nothing. Rows that fail their CRC are passed over; where LMDB itself cannot go on, the walk
 * goes on at a later id, at doubling distances.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "queue/writer.h"

/* The next id from `from` on that can be reached; false: none. */
static bool
next_message(struct txn *txn, uint64_t from, uint64_t *ret)
{
	for (int k = -1; k < 64; k++) {
		const uint64_t step = k < 0 ? 0 : UINT64_C(1) << k;
		struct key key = key_id(from + step);
		struct cursor c;
		bool found;

		if (from + step < from)
			break;
		txn->error = 0;
		cursor_open(&c, txn, TABLE_MESSAGE, key_span(&key));
		found = cursor_next(&c) && c.key.len == 8;
		if (found)
			*ret = key_get_u64(c.key, 0);
		cursor_close(&c);
		if (found || txn->error == 0)
			return found;
	}
	return false;
}

/* Who is still open may be lost: then all are. */
static int
message_salvage(struct txn *txn, uint64_t id, struct arena *arena, struct queue_message *ret)
{
	struct key key = key_id(id);
	struct span value;
	int r = message_read_row(txn, id, arena, ret);

	txn->error = 0;
	if (r == 0)
		return 0;
	if (!txn_get(txn, TABLE_MESSAGE, key_span(&key), &value))
		return -ENOENT;
	r = message_record_decode(value, arena, &ret->record, &ret->envelope, &ret->lanes);
	if (r < 0)
		return r;
	ret->open = arena_alloc(arena, ret->envelope.recipient_count * sizeof(*ret->open));
	for (size_t i = 0; i < ret->envelope.recipient_count; i++)
		ret->open[i] = true;
	return 0;
}

static int
content_salvage(struct txn *txn, const struct message_record *record, struct buf *out)
{
	const uint64_t size = record->header_size + record->body_size;
	int r = 0;

	while (r == 0 && buf_len(out) < size) {
		r = content_read_row(txn, record, buf_len(out), SIZE_MAX, true, out);
		if (txn->error != 0)
			r = txn->error;
	}
	txn->error = 0;
	return r;
}

static int
salvage_walk(struct store *store,
	     int (*message)(void *arg, const struct queue_message *message, struct span content),
	     void *arg)
{
	struct txn txn;
	uint64_t id = 0;
	int r = txn_reader(store, &txn);

	while (r == 0 && id < UINT64_MAX && next_message(&txn, id, &id)) {
		struct arena arena = { 0 };
		struct buf content = { 0 };
		struct queue_message m;

		if (message_salvage(&txn, id, &arena, &m) == 0 &&
		    content_salvage(&txn, &m.record, &content) == 0)
			r = message(arg, &m, buf_span(&content));
		buf_free(&content);
		arena_free(&arena);
		id++;
	}
	txn_abort(&txn);
	return r;
}

int
queue_salvage(const char *path,
	      int (*message)(void *arg, const struct queue_message *message, struct span content),
	      void *arg, char error[QUEUE_ERROR_MAX])
{
	const struct store_config config = { .path = path, .salvage = true };
	struct store *store;
	int r;

	error[0] = '\0';
	r = store_open(&config, &store, error);
	if (r < 0)
		return r;
	r = salvage_walk(store, message, arg);
	store_close(store);
	return r;
}
