/*
 * writer: the one thread that writes. It takes what waits, puts it in one transaction, commits,
 * and gives all of it back; while it commits, the next batch gathers. What somebody waits for
 * wakes it; the rest rides with that, or goes after 10 ms, or when 1 MB of chunks waits.
 *
 * A batch that finds no room (-ENOSPC) is undone and tried again in halves, down to single
 * operations: so a settle gets through where an accept cannot. Any other failure of a commit, a
 * failed sync above all, poisons the store: it cannot be known what is on disk, nothing is
 * acknowledged any more, and the process must exit and reopen.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "queue/writer.h"

enum { DISK_EVERY_MS = 1000, RECIPIENT_OCTETS = 200, ROOM_LEAST = 4 << 20 };

/* ---- lists of operations ------------------------------------------------------------------ */

void
op_push(struct op_list *list, struct queue_op *op)
{
	op->next = NULL;
	if (list->last != NULL)
		list->last->next = op;
	else
		list->first = op;
	list->last = op;
	list->count++;
}

struct queue_op *
op_pop(struct op_list *list)
{
	struct queue_op *op = list->first;

	if (op == NULL)
		return NULL;
	list->first = op->next;
	if (list->first == NULL)
		list->last = NULL;
	list->count--;
	op->next = NULL;
	return op;
}

void
op_splice(struct op_list *to, struct op_list *from)
{
	if (from->first == NULL)
		return;
	if (to->last != NULL)
		to->last->next = from->first;
	else
		to->first = from->first;
	to->last = from->last;
	to->count += from->count;
	*from = (struct op_list){ 0 };
}

/* ---- one transaction ---------------------------------------------------------------------- */

void
batch_begin(struct queue *q, struct batch *b)
{
	struct buf record = b->record;
	struct arrivals arrivals = b->arrivals;

	/* those of committed transactions wait to be handed over */
	arrivals.count = arrivals.kept;
	*b = (struct batch){ .queue = q,
			     .meta = q->meta,
			     .record = record,
			     .arrivals = arrivals,
			     .now_ms = wall_ms() };
	list_init(&b->lanes);
	list_init(&b->sites);
	txn_write(q->store, &b->txn);		/* the error sticks */
}

/* 0, or an error: then all is as it was before batch_begin(). */
int
batch_commit(struct batch *b)
{
	int r;

	lanes_write(b);
	taken_write(b);
	b->meta.last_commit_ms = b->now_ms;
	buf_clear(&b->record);
	meta_record_encode(&b->meta, &b->record);
	txn_put(&b->txn, TABLE_META, SPAN("state"), buf_span(&b->record));
	r = txn_commit(&b->txn);
	if (r == 0) {
		lanes_keep(b);
		taken_keep(b);
		b->queue->meta = b->meta;
		b->arrivals.kept = b->arrivals.count;
	} else {
		lanes_drop(b);
		taken_drop(b);
	}
	arena_free(&b->arena);
	return r;
}

static int
op_apply(struct batch *b, struct queue_op *op)
{
	b->kinds |= 1u << op->kind;
	switch ((enum op_kind)op->kind) {
	case OP_ACCEPT:
		return accept_apply(b, CONTAINER_OF(op, struct queue_accept, op), false);
	case OP_CHUNK:
		return chunk_apply(b, CONTAINER_OF(op, struct draft_chunk, op));
	case OP_DRAFT_END:
		draft_delete(b, CONTAINER_OF(op, struct draft, end)->config.id);
		return 0;
	case OP_REPORT:
		return report_apply(b, CONTAINER_OF(op, struct queue_report, op));
	case OP_SETTLE:
		return settle_apply(b, CONTAINER_OF(op, struct queue_settle, op));
	case OP_TAKEN:
		taken_apply(b, CONTAINER_OF(op, struct taken_op, op));
		return 0;
	case OP_LANE:
		return lane_apply(b, CONTAINER_OF(op, struct queue_lane_change, op));
	case OP_SITE:
		return site_apply(b, CONTAINER_OF(op, struct queue_site_change, op));
	case OP_CURSORS: {
		const struct queue_cursor_set *set = CONTAINER_OF(op, struct queue_cursor_set, op);

		b->meta.expiry_id = set->expiry_id != 0 ? set->expiry_id : b->meta.expiry_id;
		b->meta.delay_id = set->delay_id != 0 ? set->delay_id : b->meta.delay_id;
		return 0;
	}
	case OP_EDIT:
		return edit_apply(b, CONTAINER_OF(op, struct queue_edit, op));
	case OP_NOTE:
		return note_apply(b, CONTAINER_OF(op, struct queue_note, op));
	}
	abort();
}

static void
crash_points(unsigned kinds, bool committed)
{
	static const struct { enum op_kind kind; const char *before, *after; } points[] = {
		{ OP_ACCEPT, "accept-before-commit", "accept-after-commit" },
		{ OP_SETTLE, "settle-before-commit", "settle-after-commit" },
		{ OP_REPORT, "report-before-commit", "report-after-commit" },
		{ OP_CHUNK, "chunk-before-commit", "chunk-after-commit" },
		{ OP_EDIT, "edit-before-commit", "edit-after-commit" },
		{ OP_NOTE, "note-before-commit", "note-after-commit" },
	};

	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++)
		if (kinds & 1u << points[i].kind)
			queue_crash_point(committed ? points[i].after : points[i].before);
}

static void
poison(struct queue *q, int error)
{
	char why[256];

	if (q->poisoned)
		return;
	q->poisoned = true;
	atomic_store(&q->room, 0);
	pthread_mutex_lock(&q->lock);
	q->facts.poisoned = true;
	pthread_mutex_unlock(&q->lock);
	snprintf(why, sizeof(why),
		 "a commit to the queue in %s failed: %s; what is on disk is known only after a "
		 "restart",
		 q->config.path, strerror(-error));
	if (q->config.poisoned != NULL)
		q->config.poisoned(q->config.arg, why);
}

/* One transaction for these operations: 0, or why none of it happened. */
static int
ops_try(struct queue *q, struct queue_op **ops, size_t count)
{
	struct batch *b = &q->batch;
	struct timespec from, to;
	int r;

	batch_begin(q, b);
	for (size_t i = 0; i < count && b->txn.error == 0; i++)
		ops[i]->result = op_apply(b, ops[i]);
	if (b->txn.error == 0)
		crash_points(b->kinds, false);
	clock_gettime(CLOCK_MONOTONIC, &from);
	r = batch_commit(b);
	clock_gettime(CLOCK_MONOTONIC, &to);
	if (r < 0)
		return r;
	crash_points(b->kinds, true);
	q->commits++;
	q->operations += count;
	q->last_commit_us =
		(int64_t)(to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000;
	return 0;
}

/* After a disk was found full, accepts are refused for a second without trying. */
static bool
refused_at_once(const struct queue *q, const struct queue_op *op)
{
	return (op->kind == OP_ACCEPT || op->kind == OP_CHUNK) && q->full_until_ms != 0 &&
	       q->full_until_ms > mono_ms();
}

static void
ops_run(struct queue *q, struct queue_op **ops, size_t count)
{
	int r;

	if (count == 0)
		return;
	r = q->poisoned ? -ESHUTDOWN : ops_try(q, ops, count);
	if (r == 0)
		return;
	if (r == -ENOSPC && count > 1) {
		ops_run(q, ops, count / 2);
		ops_run(q, ops + count / 2, count - count / 2);
		return;
	}
	if (r == -ENOSPC && (ops[0]->kind == OP_ACCEPT || ops[0]->kind == OP_CHUNK)) {
		q->full_until_ms = mono_ms() + DISK_EVERY_MS;
		atomic_store(&q->room, 0);
	}
	if (r != -ENOSPC) {
		poison(q, r);
		r = -ESHUTDOWN;
	}
	for (size_t i = 0; i < count; i++) {
		ops[i]->result = r;
		if (ops[i]->kind == OP_CHUNK)
			CONTAINER_OF(ops[i], struct draft_chunk, op)->draft->failed = r;
	}
}

/* ---- room --------------------------------------------------------------------------------- */

/*
 * The file never shrinks: once it has been full, what the disk has free says nothing. Pages that
 * were given back inside it are room too; a quarter of the live data is allowed for those that
 * are half full.
 */
static uint64_t
room_inside(const struct queue *q, const struct store_disk *disk)
{
	uint64_t live = q->meta.live_bytes + q->meta.live_bytes / 4;

	return disk->used > live ? disk->used - live : 0;
}

void
writer_refresh_room(struct queue *q, bool always)
{
	const uint64_t map = store_map_size(q->store);
	const uint64_t quota = atomic_load(&q->max_size), min_free = atomic_load(&q->min_free);
	struct store_disk disk;
	uint64_t room = 0, inside, fits;

	store_disk(q->store, always, &disk);
	inside = room_inside(q, &disk);
	fits = inside + (disk.free > min_free ? disk.free - min_free : 0);
	q->disk_free = disk.free;
	/*
	 * The map has to hold free and half-full pages too: 1.15 × the live data was measured under
	 * churn.
	 */
	q->quota = quota < map / 4 * 3 ? quota : map / 4 * 3;
	/*
	 * Without the reserve deletes need pages inside; a file that has once eaten into it can
	 * never have it again.
	 */
	q->disk_ok = (disk.reserve || inside > q->meta.live_bytes) && fits > ROOM_LEAST;
	if (q->disk_ok && !q->poisoned && q->full_until_ms <= mono_ms()) {
		room = q->quota > q->meta.live_bytes ? q->quota - q->meta.live_bytes : 0;
		if (room > fits)
			room = fits;
	}
	atomic_store(&q->room, room);
}

/* ---- the thread --------------------------------------------------------------------------- */

static size_t
op_octets(const struct queue_op *op)
{
	const struct queue_accept *a = NULL;
	size_t octets = 0;

	if (op->kind == OP_CHUNK)
		return QUEUE_CHUNK;
	if (op->kind == OP_ACCEPT)
		a = CONTAINER_OF(op, const struct queue_accept, op);
	if (op->kind == OP_REPORT)
		a = CONTAINER_OF(op, const struct queue_report, op)->accept;
	if (a != NULL) {
		octets = a->header.len + (a->draft != NULL ? a->draft->len : a->body.len);
		octets += a->envelope->recipient_count * RECIPIENT_OCTETS;
	}
	if (op->kind == OP_NOTE)
		octets =
			CONTAINER_OF(op, const struct queue_note, op)->value.len + RECIPIENT_OCTETS;
	if (op->kind == OP_SETTLE)
		octets = CONTAINER_OF(op, const struct queue_settle, op)->count * RECIPIENT_OCTETS;
	return octets;
}

/* Takes operations of one class while the batch has room for them. */
static size_t
class_take(struct op_list *list, struct queue_op **ops, size_t count, size_t most, size_t *octets,
	   size_t most_octets)
{
	while (list->first != NULL && count < most) {
		size_t more = op_octets(list->first);

		if (count > 0 && *octets + more > most_octets)
			break;
		*octets += more;
		ops[count++] = op_pop(list);
	}
	return count;
}

/* Accepts first, but at most three quarters where settles wait; one bulk operation at the end. */
static size_t
batch_take(struct op_list waiting[CLASS_COUNT], struct queue_op **ops)
{
	const bool share = waiting[CLASS_SETTLE].first != NULL;
	size_t count, octets = 0;

	count = class_take(&waiting[CLASS_ACCEPT], ops, 0,
			   share ? BATCH_OPERATIONS * 3 / 4 : BATCH_OPERATIONS - 1, &octets,
			   share ? BATCH_OCTETS / 4 * 3 : BATCH_OCTETS);
	count = class_take(&waiting[CLASS_SETTLE], ops, count, BATCH_OPERATIONS - 1, &octets,
			   BATCH_OCTETS);
	if (waiting[CLASS_BULK].first != NULL)
		ops[count++] = op_pop(&waiting[CLASS_BULK]);
	return count;
}

/*
 * A draft whose accept failed leaves chunks behind: they go next. What could not be deleted for
 * want of room is tried again each second (and swept by the next start, should it come to that).
 */
static void
op_finish(struct queue *q, struct queue_op *op, struct op_list *again)
{
	if (op->kind == OP_DRAFT_END && op->result == -ENOSPC && q->orphan_count < ORPHANS_MAX)
		q->orphans[q->orphan_count++] = CONTAINER_OF(op, struct draft, end)->config.id;
	op_push(&op->port->finished, op);
	if (op->kind == OP_ACCEPT && op->result < 0) {
		struct draft *draft = CONTAINER_OF(op, struct queue_accept, op)->draft;

		if (draft != NULL && draft->chunks > 0)
			op_push(again, &draft->end);
	}
}

static void
orphans_retry(struct queue *q)
{
	while (q->orphan_count > 0 && !q->poisoned) {
		batch_begin(q, &q->batch);
		draft_delete(&q->batch, q->orphans[q->orphan_count - 1]);
		if (batch_commit(&q->batch) < 0)
			return;
		q->orphan_count--;
	}
}

static void
arrivals_hand_over(struct arrivals *to, struct arrivals *from)
{
	to->overflow = to->overflow || from->overflow;
	for (size_t i = 0; i < from->count && !to->overflow; i++)
		arrivals_add(to, &from->at[i]);
}

static bool
port_has_news(const struct queue_port *port)
{
	return port->done.first != NULL || port->arrivals.count > 0 || port->arrivals.overflow;
}

/*
 * Gives everything that is finished to its ports: the one time a batch holds the lock. Returns
 * those to wake.
 */
static struct queue_port *
finished_hand_over(struct queue *q)
{
	struct arrivals *arrived = &q->batch.arrivals;
	struct queue_port *wake = NULL;

	pthread_mutex_lock(&q->lock);
	LIST_EACH(struct queue_port, port, &q->ports, node) {
		const bool had_news = port_has_news(port);

		op_splice(&port->done, &port->finished);
		if (port == q->subscriber)
			arrivals_hand_over(&port->arrivals, arrived);
		if (!had_news && port_has_news(port)) {
			port->waking = true;
			port->next_wake = wake;
			wake = port;
		}
	}
	q->facts.commits = q->commits;
	q->facts.operations = q->operations;
	q->facts.last_commit_us = q->last_commit_us;
	q->facts.messages = q->meta.messages;
	q->facts.live_bytes = q->meta.live_bytes;
	q->facts.disk_free = q->disk_free;
	pthread_mutex_unlock(&q->lock);
	arrived->count = arrived->kept = 0;
	arrived->overflow = false;
	return wake;
}

/*
 * One batch of what was taken from the inbox. Without the lock; a port that is being waked does
 * not close.
 */
static struct queue_port *
waiting_run(struct queue *q, struct op_list waiting[CLASS_COUNT], struct queue_op **ops)
{
	struct op_list refused = { 0 };
	struct queue_op *op;
	size_t count = batch_take(waiting, ops), kept = 0;

	for (size_t i = 0; i < count; i++) {
		if (refused_at_once(q, ops[i])) {
			ops[i]->result = -ENOSPC;
			if (ops[i]->kind == OP_CHUNK)
				CONTAINER_OF(ops[i], struct draft_chunk, op)->draft->failed =
					-ENOSPC;
			op_push(&refused, ops[i]);
		} else {
			ops[kept++] = ops[i];
		}
	}
	ops_run(q, ops, kept);
	while ((op = op_pop(&refused)) != NULL)
		op_finish(q, op, &waiting[CLASS_BULK]);
	for (size_t i = 0; i < kept; i++)
		op_finish(q, ops[i], &waiting[CLASS_BULK]);
	if (q->disk_at_ms + DISK_EVERY_MS <= mono_ms()) {
		q->disk_at_ms = mono_ms();
		orphans_retry(q);
		writer_refresh_room(q, true);
	} else {
		writer_refresh_room(q, false);
	}
	return finished_hand_over(q);
}

static bool
list_waits(const struct op_list lists[CLASS_COUNT])
{
	return lists[CLASS_ACCEPT].first != NULL || lists[CLASS_SETTLE].first != NULL ||
	       lists[CLASS_BULK].first != NULL;
}

static void
wait_until(struct queue *q, int64_t mono)
{
	struct timespec at = { .tv_sec = mono / 1000, .tv_nsec = mono % 1000 * 1000000 };

	pthread_cond_timedwait(&q->work, &q->lock, &at);
}

/*
 * With the lock: sleeps until there is something to do; false: stop. After work it dozes for 10
 * ms before it sleeps for good (`deep`), so that under load what nobody waits for never has to
 * wake it.
 */
static bool
work_wait(struct queue *q)
{
	bool dozed = false;

	for (;;) {
		if (list_waits(q->inbox)) {
			if (q->urgent || q->stopping || q->inbox_chunks >= CHUNKS_WAKE ||
			    mono_ms() >= q->oldest_ms + IDLE_MS)
				return true;
			wait_until(q, q->oldest_ms + IDLE_MS);
		} else if (q->stopping) {
			return false;
		} else if (!dozed) {
			wait_until(q, mono_ms() + IDLE_MS);
			dozed = true;
		} else if (atomic_load(&q->room) == 0 || q->orphan_count > 0) {
			q->deep = true;
			wait_until(q, mono_ms() + DISK_EVERY_MS);
			q->deep = false;
			return true;
		} else {
			q->deep = true;
			pthread_cond_wait(&q->work, &q->lock);
			q->deep = false;
		}
	}
}

static void *
writer_main(void *arg)
{
	struct queue *q = arg;
	struct queue_op **ops = xcalloc(BATCH_OPERATIONS, sizeof(struct queue_op *));
	struct op_list waiting[CLASS_COUNT] = { 0 };
	struct queue_port *wake;

	pthread_mutex_lock(&q->lock);
	while (list_waits(waiting) || work_wait(q)) {
		for (int i = 0; i < CLASS_COUNT; i++)
			op_splice(&waiting[i], &q->inbox[i]);
		q->inbox_chunks = 0;
		q->urgent = false;
		pthread_mutex_unlock(&q->lock);
		wake = waiting_run(q, waiting, ops);
		for (struct queue_port *port = wake; port != NULL; port = port->next_wake)
			port->wake(port->arg);
		pthread_mutex_lock(&q->lock);
		for (struct queue_port *port = wake; port != NULL; port = port->next_wake)
			port->waking = false;
		if (wake != NULL)
			pthread_cond_broadcast(&q->woken);
	}
	pthread_mutex_unlock(&q->lock);
	free(ops);
	return NULL;
}

int
writer_start(struct queue *q)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->work, &monotonic);
	pthread_cond_init(&q->woken, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return -pthread_create(&q->thread, NULL, writer_main, q);
}

void
writer_stop(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->stopping = true;
	pthread_cond_signal(&q->work);
	pthread_mutex_unlock(&q->lock);
	pthread_join(q->thread, NULL);
}
