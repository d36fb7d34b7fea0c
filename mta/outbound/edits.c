/*
 * edits: what the operator changes in the queue waits until none of the messages is in flight;
 * meanwhile nothing of them is begun. Edits of one message go in the order in which they came. Home
 * loop only.
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/outbound/dispatcher_private.h"

/* Nothing more of it is begun: what is ready leaves the window (the queue has it). */
static void
parcel_lock(struct dispatcher *d, uint64_t id)
{
	struct parcel *parcel = window_parcel(&d->window, id);

	if (parcel == NULL) {
		parcel = xcalloc(1, sizeof(*parcel));
		list_init(&parcel->entries);
		map_add(&d->window.parcels, &parcel->node, id);
	}
	parcel->locked++;
	LIST_EACH(struct entry, entry, &parcel->entries, in_parcel) {
		if (entry->in_flight)
			continue;
		entry->lane->passed_over = true;
		window_drop_entry(&d->window, entry);
	}
}

static void
parcel_unlock(struct dispatcher *d, uint64_t id)
{
	struct parcel *parcel = window_parcel(&d->window, id);

	if (parcel == NULL || --parcel->locked > 0)
		return;
	if (list_empty(&parcel->entries)) {
		map_remove(&d->window.parcels, &parcel->node);
		free(parcel);
	}
}

/* Lanes that met a locked message read their entries again, for some may be as they were. */
static void
lanes_unlocked(struct dispatcher *d)
{
	for (size_t i = 0; i < d->window.lanes.size; i++)
		for (struct map_node *n = d->window.lanes.buckets[i]; n != NULL; n = n->next) {
			struct lane *lane = CONTAINER_OF(n, struct lane, node);

			if (lane->passed_over)
				lane_read_again(lane);
			lane->passed_over = false;
		}
	dispatcher_touch(d);
}

static void
on_edited(struct queue_op *op)
{
	struct dispatcher_edit *e = CONTAINER_OF(op, struct dispatcher_edit, edit.op);
	struct dispatcher *d = e->owner;
	int result = op->result;

	if (result == 0) {
		e->changed += e->edit.changed;
		if (e->edit.more) {
			queue_submit_edit(d->home->port, &e->edit);
			return;
		}
	}
	for (size_t i = 0; i < e->edit.count; i++)
		parcel_unlock(d, e->edit.ids[i]);
	lanes_unlocked(d);
	d->settling--;
	if (e->edit.kind == EDIT_FAIL)
		reporter_soon(d->reporter);
	dispatcher_wake_at(d, wall_ms());	/* lanes that are empty now and not in memory */
	e->done(e, result);
	dispatcher_check_edits(d);
	dispatcher_check_stopped(d);
}

/* An earlier edit of one of its messages waits, or a delivery has one. */
static bool
edit_may_go(struct dispatcher *d, const struct dispatcher_edit *e)
{
	for (size_t i = 0; i < e->edit.count; i++) {
		struct parcel *parcel = window_parcel(&d->window, e->edit.ids[i]);

		if (parcel != NULL &&
		    (parcel->in_flight > 0 || parcel->edit_waits == d->edits_checked))
			return false;
	}
	return true;
}

/* What comes behind it in this look at all of them waits for it. */
static void
edit_waits(struct dispatcher *d, const struct dispatcher_edit *e)
{
	for (size_t i = 0; i < e->edit.count; i++) {
		struct parcel *parcel = window_parcel(&d->window, e->edit.ids[i]);

		if (parcel != NULL)
			parcel->edit_waits = d->edits_checked;
	}
}

static void
edit_go(struct dispatcher *d, struct dispatcher_edit *e)
{
	e->edit.op.done = on_edited;
	d->settling++;
	queue_submit_edit(d->home->port, &e->edit);
}

void
dispatcher_submit_edit(struct dispatcher *d, struct dispatcher_edit *e)
{
	struct dispatcher_edit **last = &d->edits;

	while (*last != NULL)
		last = &(*last)->next;
	*last = e;
	e->owner = d;
	e->next = NULL;
	e->changed = 0;
	for (size_t i = 0; i < e->edit.count; i++)
		parcel_lock(d, e->edit.ids[i]);
	dispatcher_check_edits(d);
}

void
dispatcher_check_edits(struct dispatcher *d)
{
	struct dispatcher_edit **at = &d->edits;

	d->edits_checked++;
	while (*at != NULL) {
		struct dispatcher_edit *e = *at;

		if (edit_may_go(d, e)) {
			*at = e->next;
			edit_go(d, e);
		} else {
			edit_waits(d, e);
			at = &e->next;
		}
	}
}

const char *
dispatcher_in_flight(struct dispatcher *d, uint64_t id, uint32_t recipient)
{
	struct parcel *parcel = window_parcel(&d->window, id);

	if (parcel == NULL)
		return NULL;
	LIST_EACH(struct entry, entry, &parcel->entries, in_parcel)
		if (entry->recipient == recipient && entry->in_flight)
			return "its delivery";
	return NULL;
}
