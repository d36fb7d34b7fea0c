/*
 * queue: opening and closing, the ports and what is handed in through them; see queue.h. A
 * port's thread gathers operations without a lock and hands them over once per loop turn; the
 * writer gives them back in one list.
 */
#include "queue/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "queue/writer.h"

/* ---- open and close ----------------------------------------------------------------------- */

static void
queue_free(struct queue *q)
{
	lanes_forget(q);
	taken_forget(q);
	buf_free(&q->batch.record);
	free(q->batch.arrivals.at);
	store_close(q->store);
	free(q);
}

int
queue_open(const struct queue_config *config, struct queue **ret, char error[QUEUE_ERROR_MAX])
{
	const struct store_config store = { .path = config->path, .map_size = config->map_size,
					    .readers = config->readers };
	struct queue *q = xcalloc(1, sizeof(*q));
	int r;

	q->config = *config;
	list_init(&q->ports);
	list_init(&q->lanes_lru);
	list_init(&q->sites_lru);
	atomic_store(&q->max_size, config->max_size);
	atomic_store(&q->min_free, config->min_free);
	r = store_open(&store, &q->store, error);
	if (r == 0)
		r = queue_recover(q, error);
	if (r == 0) {
		q->facts.messages = q->meta.messages;
		q->facts.live_bytes = q->meta.live_bytes;
		atomic_store(&q->last_id, q->meta.last_id);
		writer_refresh_room(q, true);
		q->facts.disk_free = q->disk_free;
		r = writer_start(q);
	}
	if (r < 0) {
		if (error[0] == '\0')
			snprintf(error, QUEUE_ERROR_MAX, "the queue in %s cannot be opened: %s",
				 config->path, strerror(-r));
		queue_free(q);
		return r;
	}
	*ret = q;
	return 0;
}

void
queue_close(struct queue *q)
{
	assert(list_empty(&q->ports));
	writer_stop(q);
	if (!q->poisoned) {
		batch_begin(q, &q->batch);
		q->batch.meta.clean = true;
		batch_commit(&q->batch);
	}
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->work);
	pthread_cond_destroy(&q->woken);
	queue_free(q);
}

void
queue_reconfigure(struct queue *q, uint64_t max_size, uint64_t min_free)
{
	atomic_store(&q->max_size, max_size);
	atomic_store(&q->min_free, min_free);
}

void
queue_facts(const struct queue *queue, struct queue_facts *ret)
{
	struct queue *q = (struct queue *)(uintptr_t)queue;	/* for its lock */

	pthread_mutex_lock(&q->lock);
	*ret = q->facts;
	pthread_mutex_unlock(&q->lock);
	ret->max_size = atomic_load(&q->max_size);
}

bool
queue_has_room(const struct queue *q, uint64_t size)
{
	uint64_t room = atomic_load(&q->room);

	return room > 0 && size <= room;
}

/* Grows even when the clock steps back. */
uint64_t
queue_next_id(struct queue *q)
{
	uint64_t last = atomic_load(&q->last_id), next;

	do {
		next = id_at(wall_ms());
		if (next <= last)
			next = last + 1;
	} while (!atomic_compare_exchange_weak(&q->last_id, &last, next));
	return next;
}

/* ---- ports -------------------------------------------------------------------------------- */

int
queue_port_open(struct queue *q, void (*wake)(void *arg), void *arg, struct queue_port **ret)
{
	struct queue_port *port = xcalloc(1, sizeof(*port));
	int r;

	port->queue = q;
	port->wake = wake;
	port->arg = arg;
	r = txn_reader(q->store, &port->reader);
	if (r < 0) {
		free(port);
		return r;
	}
	txn_reset(&port->reader);
	pthread_mutex_lock(&q->lock);
	list_add_last(&q->ports, &port->node);
	pthread_mutex_unlock(&q->lock);
	*ret = port;
	return 0;
}

void
queue_port_close(struct queue_port *port)
{
	struct queue *q = port->queue;

	assert(port->outstanding == 0);
	pthread_mutex_lock(&q->lock);
	while (port->waking)
		pthread_cond_wait(&q->woken, &q->lock);
	list_remove(&port->node);
	if (q->subscriber == port)
		q->subscriber = NULL;
	pthread_mutex_unlock(&q->lock);
	txn_abort(&port->reader);
	free(port->arrivals.at);
	free(port);
}

void
queue_port_flush(struct queue_port *port)
{
	struct queue *q = port->queue;
	bool any = false, wake;

	for (int i = 0; i < CLASS_COUNT; i++)
		any = any || port->gathered[i].first != NULL;
	if (!any)
		return;
	pthread_mutex_lock(&q->lock);
	if (q->inbox[CLASS_ACCEPT].first == NULL && q->inbox[CLASS_SETTLE].first == NULL &&
	    q->inbox[CLASS_BULK].first == NULL)
		q->oldest_ms = mono_ms();
	for (int i = 0; i < CLASS_COUNT; i++)
		op_splice(&q->inbox[i], &port->gathered[i]);
	q->inbox_chunks += port->gathered_chunks;
	q->urgent = q->urgent || port->urgent;
	wake = q->urgent || q->deep || q->inbox_chunks >= CHUNKS_WAKE;
	pthread_mutex_unlock(&q->lock);
	/* not under the lock: it would wake up only to wait for that */
	if (wake)
		pthread_cond_signal(&q->work);
	port->gathered_chunks = 0;
	port->urgent = false;
}

static void
port_submit(struct queue_port *port, struct queue_op *op, enum op_kind kind, enum op_class class)
{
	op->port = port;
	op->kind = (uint8_t)kind;
	op->result = 0;
	op_push(&port->gathered[class], op);
	port->urgent = port->urgent || op->urgent;
	port->outstanding++;
}

static void
draft_free(struct draft *draft)
{
	free(draft->crcs);
	free(draft->at);
	free(draft);
}

/*
 * The draft of an accept is no longer needed, unless its chunks are still to be deleted: the
 * writer does it next.
 */
static void
accept_draft_done(struct queue_accept *a)
{
	struct draft *draft = a->draft;

	a->draft = NULL;
	if (draft == NULL)
		return;
	if (a->op.result < 0 && draft->chunks > 0)
		a->op.port->outstanding++;
	else
		draft_free(draft);
}

static void
port_run_arrivals(struct queue_port *port, struct arrivals *arrivals)
{
	if (arrivals->count > 0 || arrivals->overflow)
		port->on_arrivals(port->arrivals_arg, arrivals->at, arrivals->count,
				  arrivals->overflow);
	free(arrivals->at);
	*arrivals = (struct arrivals){ 0 };
}

/* Its answer is for who receives mail, and waits: it tells nothing of what became of entries. */
static bool
is_of_reception(const struct queue_op *op)
{
	return op->kind == OP_ACCEPT || op->kind == OP_CHUNK || op->kind == OP_DRAFT_END;
}

void
queue_port_run(struct queue_port *port)
{
	struct queue *q = port->queue;
	struct op_list done;
	struct arrivals arrivals;
	struct queue_op *op;

	pthread_mutex_lock(&q->lock);
	done = port->done;
	port->done = (struct op_list){ 0 };
	arrivals = port->arrivals;
	port->arrivals = (struct arrivals){ 0 };
	pthread_mutex_unlock(&q->lock);
	while ((op = op_pop(&done)) != NULL) {
		if (!is_of_reception(op))
			port_run_arrivals(port, &arrivals);
		port->outstanding--;
		if (op->kind == OP_ACCEPT)
			accept_draft_done(CONTAINER_OF(op, struct queue_accept, op));
		if (op->done != NULL)
			op->done(op);
	}
	port_run_arrivals(port, &arrivals);
}

bool
queue_port_busy(const struct queue_port *port)
{
	return port->outstanding > 0;
}

void
queue_port_subscribe(struct queue_port *port,
		     void (*arrivals)(void *arg, const struct queue_arrival *arrivals, size_t count,
				      bool overflow),
		     void *arg)
{
	port->on_arrivals = arrivals;
	port->arrivals_arg = arg;
	pthread_mutex_lock(&port->queue->lock);
	port->queue->subscriber = port;
	pthread_mutex_unlock(&port->queue->lock);
}

/* ---- drafts ------------------------------------------------------------------------------- */

struct draft *
draft_begin(const struct draft_config *config)
{
	struct draft *draft = xcalloc(1, sizeof(*draft));

	draft->config = *config;
	return draft;
}

static void
chunk_done(struct queue_op *op)
{
	struct draft_chunk *chunk = CONTAINER_OF(op, struct draft_chunk, op);
	struct draft *draft = chunk->draft;
	const bool was_full = draft_full(draft);

	draft->waiting--;
	if (op->result < 0)
		draft->error = op->result;
	free(chunk->at);
	free(chunk);
	if (was_full && !draft_full(draft) && draft->config.room != NULL)
		draft->config.room(draft->config.arg);
}

/* The chunk takes the memory as it is: nothing is copied. */
static void
draft_hand_over(struct draft *draft)
{
	struct draft_chunk *chunk = xcalloc(1, sizeof(*chunk));
	struct queue_port *port = draft->config.port;

	chunk->draft = draft;
	chunk->at = draft->at;
	chunk->len = draft->len;
	chunk->n = ++draft->chunks;
	chunk->op.done = chunk_done;
	if ((draft->chunks & (draft->chunks - 1)) == 0)
		draft->crcs = xrealloc(draft->crcs, draft->chunks * 2 * sizeof(*draft->crcs));
	draft->crcs[draft->chunks - 1] = crc32c(0, chunk->at, chunk->len);
	draft->at = NULL;
	draft->len = draft->cap = 0;
	draft->waiting++;
	port->gathered_chunks += chunk->len;
	port_submit(port, &chunk->op, OP_CHUNK, CLASS_ACCEPT);
}

/*
 * A full chunk goes only when more follows: what fits one record with its header stays in memory
 * until the end.
 */
void
draft_append(struct draft *draft, struct span body)
{
	while (body.len > 0) {
		size_t part =
			body.len < QUEUE_CHUNK - draft->len ? body.len : QUEUE_CHUNK - draft->len;

		if (part == 0) {
			draft_hand_over(draft);
			continue;
		}
		if (draft->cap < draft->len + part) {
			size_t cap = draft->cap > 0	 ? draft->cap
				     : draft->chunks > 0 ? QUEUE_CHUNK
							 : 4096;

			while (cap < draft->len + part)
				cap *= 2;
			draft->cap = cap < QUEUE_CHUNK ? cap : QUEUE_CHUNK;
			draft->at = xrealloc(draft->at, draft->cap);
		}
		memcpy(draft->at + draft->len, body.at, part);
		draft->len += part;
		draft->size += part;
		body = span_skip(body, part);
	}
}

bool
draft_full(const struct draft *draft)
{
	return draft->waiting >= 2;
}

int
draft_error(const struct draft *draft)
{
	return draft->error;
}

size_t
draft_memory(const struct draft *draft)
{
	return draft->cap + (size_t)draft->waiting * QUEUE_CHUNK;
}

static void
draft_end_done(struct queue_op *op)
{
	draft_free(CONTAINER_OF(op, struct draft, end));
}

static void
no_room(void *arg)
{
	(void)arg;
}

/* From here on only the writer and the port know it. */
static void
draft_let_go(struct draft *draft)
{
	draft->config.room = no_room;
	draft->end.kind = OP_DRAFT_END;
	draft->end.port = draft->config.port;
	draft->end.done = draft_end_done;
}

void
draft_abort(struct draft *draft)
{
	draft_let_go(draft);
	if (draft->chunks > 0)
		port_submit(draft->config.port, &draft->end, OP_DRAFT_END, CLASS_ACCEPT);
	else
		draft_free(draft);
}

/* ---- submitting --------------------------------------------------------------------------- */

void
queue_submit_accept(struct queue_port *port, struct queue_accept *accept)
{
	assert(accept->draft == NULL ||
	       (accept->draft->config.port == port && accept->draft->config.id == accept->id));
	accept->op.urgent = true;
	if (accept->draft != NULL)
		draft_let_go(accept->draft);
	port_submit(port, &accept->op, OP_ACCEPT, CLASS_ACCEPT);
}

static void
taken_done(struct queue_op *op)
{
	free(CONTAINER_OF(op, struct taken_op, op));
}

void
queue_taken(struct queue_port *port, const uint64_t *ids, size_t count)
{
	struct taken_op *taken;

	if (count == 0)
		return;
	taken = xcalloc(1, sizeof(*taken) + count * sizeof(*ids));
	taken->op.done = taken_done;
	taken->count = count;
	memcpy(taken->ids, ids, count * sizeof(*ids));
	port_submit(port, &taken->op, OP_TAKEN, CLASS_SETTLE);
}

void
queue_submit_settle(struct queue_port *port, struct queue_settle *settle)
{
	port_submit(port, &settle->op, OP_SETTLE, CLASS_SETTLE);
}

void
queue_submit_report(struct queue_port *port, struct queue_report *report)
{
	assert(report->accept == NULL || report->accept->draft == NULL);
	port_submit(port, &report->op, OP_REPORT, CLASS_SETTLE);
}

void
queue_submit_lane(struct queue_port *port, struct queue_lane_change *change)
{
	/* deliveries wait to know their site */
	change->op.urgent = change->op.urgent || change->set_site;
	port_submit(port, &change->op, OP_LANE, CLASS_SETTLE);
}

void
queue_submit_site(struct queue_port *port, struct queue_site_change *change)
{
	port_submit(port, &change->op, OP_SITE, CLASS_SETTLE);
}

void
queue_submit_edit(struct queue_port *port, struct queue_edit *edit)
{
	edit->op.urgent = true;
	edit->start = edit->resume;
	port_submit(port, &edit->op, OP_EDIT, CLASS_BULK);
}

void
queue_submit_note(struct queue_port *port, struct queue_note *note)
{
	port_submit(port, &note->op, OP_NOTE, CLASS_SETTLE);
}

void
queue_submit_cursors(struct queue_port *port, struct queue_cursor_set *set)
{
	port_submit(port, &set->op, OP_CURSORS, CLASS_SETTLE);
}
