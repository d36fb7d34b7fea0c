/*
 * taken: which messages are in deliveries' hands, so that a crash leaves their ids. One row for
 * each batch of the writer that had some; ids settled in the same batch need none; the row goes
 * with the last of its ids. Writer only.
 */
#include <stdlib.h>

#include "queue/writer.h"

static struct taken_id *
taken_node(struct queue *q)
{
	struct taken_id *t = q->taken_free;

	if (t == NULL)
		return xcalloc(1, sizeof(*t));
	q->taken_free = t->next_new;
	*t = (struct taken_id){ 0 };
	return t;
}

static void
taken_node_free(struct queue *q, struct taken_id *t)
{
	map_remove(&q->taken_by_id, &t->by_id);
	t->next_new = q->taken_free;
	q->taken_free = t;
}

void
taken_apply(struct batch *b, const struct taken_op *op)
{
	if (b->taken == NULL) {
		b->taken = xcalloc(1, sizeof(*b->taken));
		b->taken->number = b->meta.next_batch++;
	}
	for (size_t i = 0; i < op->count; i++) {
		struct taken_id *t = taken_node(b->queue);

		t->batch = b->taken;
		t->batch->left++;
		t->next_new = b->taken_new;
		b->taken_new = t;
		map_add(&b->queue->taken_by_id, &t->by_id, op->ids[i]);
	}
}

void
taken_settled(struct batch *b, uint64_t id)
{
	for (struct map_node *n = map_find(&b->queue->taken_by_id, id); n != NULL;
	     n = map_next_same(n)) {
		struct taken_id *t = CONTAINER_OF(n, struct taken_id, by_id);

		if (t->settling)
			continue;
		t->settling = true;
		t->batch->settling++;
		t->next_settling = b->taken_settling;
		b->taken_settling = t;
		return;
	}
}

/* Before the commit: the new row, and the old ones that are done with. */
void
taken_write(struct batch *b)
{
	struct key key;

	for (struct taken_id *t = b->taken_settling; t != NULL; t = t->next_settling) {
		if (t->batch == b->taken || t->batch->settling < t->batch->left)
			continue;
		key = key_id(t->batch->number);
		txn_del(&b->txn, TABLE_TAKEN, key_span(&key));
	}
	if (b->taken == NULL || b->taken->settling == b->taken->left)
		return;
	buf_clear(&b->record);
	for (struct taken_id *t = b->taken_new; t != NULL; t = t->next_new) {
		if (t->settling)
			continue;
		key = key_id(t->by_id.key);
		buf_append(&b->record, key_span(&key));
	}
	key = key_id(b->taken->number);
	txn_put(&b->txn, TABLE_TAKEN, key_span(&key), buf_span(&b->record));
}

/* After the commit: settled ids are forgotten. */
void
taken_keep(struct batch *b)
{
	struct taken_id *next;

	for (struct taken_id *t = b->taken_new; t != NULL; t = next) {
		next = t->next_new;
		t->next_new = NULL;
	}
	for (struct taken_id *t = b->taken_settling; t != NULL; t = next) {
		struct taken_batch *batch = t->batch;

		next = t->next_settling;
		batch->left--;
		batch->settling--;
		taken_node_free(b->queue, t);
		if (batch->left == 0)
			free(batch);
	}
}

/* After an abort: as it was. */
void
taken_drop(struct batch *b)
{
	struct taken_id *next;

	for (struct taken_id *t = b->taken_settling; t != NULL; t = t->next_settling) {
		t->settling = false;
		t->batch->settling--;
	}
	for (struct taken_id *t = b->taken_new; t != NULL; t = next) {
		next = t->next_new;
		taken_node_free(b->queue, t);
	}
	free(b->taken);
}

void
taken_forget(struct queue *q)
{
	struct map_node *node;

	while ((node = map_any(&q->taken_by_id)) != NULL) {
		struct taken_id *t = CONTAINER_OF(node, struct taken_id, by_id);

		if (--t->batch->left == 0)
			free(t->batch);
		taken_node_free(q, t);
	}
	map_free(&q->taken_by_id);
	while (q->taken_free != NULL) {
		struct taken_id *t = q->taken_free;

		q->taken_free = t->next_new;
		free(t);
	}
}
