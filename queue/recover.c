/*
 * recover: what queue_open() does before the writer starts: checks the format, sweeps the drafts
 * that a crash left, and marks as `uncertain` the recipients whose last attempt may have been
 * taken by the other side without our knowing: messages listed in `taken`; and, where the last
 * process did not stop cleanly, entries that became due within the last second before its last
 * commit (no delivery waits for `taken` to be written). All in slices, each a transaction of its
 * own; a crash in between repeats them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/base/id.h"
#include "queue/writer.h"

enum { SLICE = 500, DOUBT_MS = 1000, DOUBT_MAX = 20000, SITES_MAX = 1000, LANES_MAX = 5000 };

/* ---- format ------------------------------------------------------------------------------- */

static int
format_create(struct batch *b)
{
	const struct site_record unresolved = { .wake_ms = INT64_MAX };
	struct key key = key_id(QUEUE_FORMAT), site = key_id(0);

	txn_put(&b->txn, TABLE_META, SPAN("format"), key_span(&key));
	buf_clear(&b->record);
	site_record_encode(&unresolved, &b->record);
	txn_put(&b->txn, TABLE_SITE, key_span(&site), buf_span(&b->record));
	b->meta = (struct meta_record){
		.next_lane = 1, .next_site = 1, .next_batch = 1, .clean = true
	};
	return batch_commit(b);
}

/* Reads the format and the state; a new store gets both. */
static int
format_check(struct queue *q, char error[QUEUE_ERROR_MAX])
{
	struct batch *b = &q->batch;
	struct span value;
	uint64_t format;
	int r;

	batch_begin(q, b);
	if (b->txn.error == 0 && txn_count(&b->txn, TABLE_META) == 0 &&
	    txn_count(&b->txn, TABLE_MESSAGE) == 0)
		return format_create(b);
	r = b->txn.error != 0 ? b->txn.error : -EPROTO;
	if (txn_get(&b->txn, TABLE_META, SPAN("format"), &value) && value.len == 8) {
		format = key_get_u64(value, 0);
		if (format > QUEUE_FORMAT)
			snprintf(error, QUEUE_ERROR_MAX,
				 "the queue in %s has format %llu, this tramd knows formats up to "
				 "%d; "
				 "start the newer tramd, or drain the queue with it first",
				 q->config.path, (unsigned long long)format, QUEUE_FORMAT);
		else
			r = txn_get(&b->txn, TABLE_META, SPAN("state"), &value)
				    ? meta_record_decode(value, &q->meta)
				    : -EBADMSG;
	}
	txn_abort(&b->txn);
	arena_free(&b->arena);
	if (r == -EBADMSG || (r == -EPROTO && error[0] == '\0'))
		snprintf(error, QUEUE_ERROR_MAX,
			 "the state of the queue in %s is damaged; run `tramctl queue salvage` on "
			 "a copy",
			 q->config.path);
	return r;
}

/* The time of the last commit says what is in doubt: it stays what it was until that is settled. */
static void
recovery_begin(struct queue *q)
{
	batch_begin(q, &q->batch);
	q->batch.now_ms = q->meta.last_commit_ms;
}

/* ---- sweep -------------------------------------------------------------------------------- */

/* Up to SLICE records of a draft; true: that was all of it. */
static bool
sweep_draft(struct batch *b, uint64_t id)
{
	const struct key prefix = key_id(id);
	struct cursor c;
	bool all = true;

	cursor_open(&c, &b->txn, TABLE_BODY, key_span(&prefix));
	for (size_t count = 0; all && cursor_next(&c) && key_starts(c.key, &prefix); count++) {
		if (count == SLICE) {
			all = false;
		} else {
			b->meta.live_bytes -= stored_cost(c.value.len);
			cursor_del(&c);
		}
	}
	cursor_close(&c);
	return all;
}

/* *more: there was a draft. */
static int
sweep_slice(struct queue *q, bool *more)
{
	struct batch *b = &q->batch;
	struct key key = { 0 };
	struct cursor c;
	int r;

	recovery_begin(q);
	cursor_open(&c, &b->txn, TABLE_DRAFT, SPAN(""));
	*more = cursor_next(&c) && c.key.len == 8;
	if (*more)
		key = key_id(key_get_u64(c.key, 0));
	cursor_close(&c);
	if (!*more) {
		r = b->txn.error;
		txn_abort(&b->txn);
		return r;
	}
	if (sweep_draft(b, key_get_u64(key_span(&key), 0)))
		txn_del(&b->txn, TABLE_DRAFT, key_span(&key));
	queue_crash_point("sweep");
	return batch_commit(b);
}

static int
sweep(struct queue *q)
{
	bool more = true;
	int r = 0;

	while (more && r == 0)
		r = sweep_slice(q, &more);
	return r;
}

/* ---- doubt -------------------------------------------------------------------------------- */

struct doubts {
	uint64_t *ids;
	size_t count, cap;
};

static void
doubts_add(struct doubts *d, uint64_t id)
{
	if (d->count == DOUBT_MAX)
		return;
	if (d->count == d->cap) {
		d->cap = d->cap ? d->cap * 2 : 256;
		d->ids = xrealloc(d->ids, d->cap * sizeof(*d->ids));
	}
	d->ids[d->count++] = id;
}

static void
doubts_of_taken(struct txn *txn, struct doubts *d)
{
	struct cursor c;

	cursor_open(&c, txn, TABLE_TAKEN, SPAN(""));
	while (cursor_next(&c))
		for (size_t i = 0; i + 8 <= c.value.len; i += 8)
			doubts_add(d, key_get_u64(c.value, i));
	cursor_close(&c);
}

static void
doubts_of_lane(struct txn *txn, struct doubts *d, uint64_t lane, int64_t from_ms, int64_t until_ms)
{
	struct key from = key_entry(lane, from_ms, 0, 0);
	struct cursor c;

	cursor_open(&c, txn, TABLE_ENTRY, key_span(&from));
	while (d->count < DOUBT_MAX && cursor_next(&c) && c.key.len == ENTRY_KEY_LEN &&
	       key_get_u64(c.key, 0) == lane && (int64_t)key_get_u64(c.key, 8) <= until_ms)
		doubts_add(d, key_get_u64(c.key, 16));
	cursor_close(&c);
}

/*
 * The sites that were to be awake then, their lanes that had something due, and what became due
 * of late in these.
 */
static void
doubts_of_last_second(struct txn *txn, struct doubts *d, int64_t until_ms)
{
	size_t sites = 0, lanes = 0;
	struct cursor wake;

	cursor_open(&wake, txn, TABLE_WAKE, SPAN(""));
	while (sites++ < SITES_MAX && cursor_next(&wake) &&
	       (int64_t)key_get_u64(wake.key, 0) <= until_ms) {
		const uint64_t site = key_get_u64(wake.key, 8);
		struct asleep_walk asleep = { .txn = txn, .site = site, .until_ms = until_ms,
					      .from = key_id(site), .next_ms = INT64_MAX };
		struct queue_asleep row;

		while (lanes++ < LANES_MAX && asleep_next(&asleep, &row))
			doubts_of_lane(txn, d, row.lane, until_ms - DOUBT_MS, until_ms);
		asleep_close(&asleep);
	}
	cursor_close(&wake);
}

static int
ids_by_number(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void
doubt_mark(struct batch *b, uint64_t id)
{
	struct message_state m;
	struct history_record h;

	if (message_load(b, id, true, &m) < 0)
		return;
	for (uint32_t i = 0; i < m.recipients; i++) {
		if (!m.open[i])
			continue;
		history_get(b, &m, i, &h);
		if (h.state != HISTORY_WAITING || h.uncertain)
			continue;
		h.uncertain = true;
		history_put(b, id, i, &h);
	}
	b->queue->facts.in_doubt++;
}

static int
doubts_mark(struct queue *q, const struct doubts *d)
{
	size_t i = 0;
	int r = 0;

	while (i < d->count && r == 0) {
		recovery_begin(q);
		for (size_t n = 0; n < SLICE && i < d->count; n++, i++)
			if (i == 0 || d->ids[i] != d->ids[i - 1])
				doubt_mark(&q->batch, d->ids[i]);
		r = batch_commit(&q->batch);
	}
	return r;
}

static int
doubt(struct queue *q)
{
	struct batch *b = &q->batch;
	struct doubts d = { 0 };
	struct txn txn;
	struct cursor c;
	struct key format = key_id(QUEUE_FORMAT);
	int r = txn_reader(q->store, &txn);

	if (r < 0)
		return r;
	doubts_of_taken(&txn, &d);
	if (!q->facts.clean_start)
		doubts_of_last_second(&txn, &d, q->meta.last_commit_ms);
	r = txn.error;
	txn_abort(&txn);
	if (d.count > 0)
		qsort(d.ids, d.count, sizeof(*d.ids), ids_by_number);
	if (r == 0)
		r = doubts_mark(q, &d);
	free(d.ids);
	if (r < 0)
		return r;
	batch_begin(q, b);
	cursor_open(&c, &b->txn, TABLE_TAKEN, SPAN(""));
	while (cursor_next(&c))
		cursor_del(&c);
	cursor_close(&c);
	b->meta.clean = false;
	/*
	 * what format 1 has, 2 has in the same form, and more that a tramd of then would not know
	 */
	txn_put(&b->txn, TABLE_META, SPAN("format"), key_span(&format));
	return batch_commit(b);
}

int
queue_recover(struct queue *q, char error[QUEUE_ERROR_MAX])
{
	int r;

	error[0] = '\0';
	writer_refresh_room(q, true);
	r = format_check(q, error);
	q->facts.clean_start = q->meta.clean;
	q->facts.latest_ms = id_time_ms(q->meta.last_id);
	if (q->facts.latest_ms < q->meta.last_commit_ms)
		q->facts.latest_ms = q->meta.last_commit_ms;
	if (r == 0)
		r = sweep(q);
	if (r == 0)
		r = doubt(q);
	return r;
}
