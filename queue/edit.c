/*
 * edit: what the operator does to messages: hold, release, retry, remove, fail, move, priority; see
 * queue.h. Writer thread only. Each step leaves alone what it would not change, so that a slice
 * that ended in the middle of a message, or that is repeated after a crash, goes on where it
 * stopped.
 */
#include <assert.h>
#include <errno.h>

#include "queue/writer.h"

/*
 * To another place: its entry and, since the place is no longer what was known at arrival, its
 * history.
 */
static void
recipient_place(struct batch *b, struct message_state *m, uint32_t recipient,
		struct history_record *h, struct lane_node *lane, int64_t due_ms)
{
	const bool arrives = due_ms != DUE_HELD;

	if (!entry_del(b, h->lane, h->due_ms, m->id, recipient) && b->txn.error == 0)
		txn_fail(&b->txn, -EBADMSG);
	h->lane = lane->id;
	h->due_ms = due_ms < 0 ? 0 : due_ms;
	h->state = arrives ? HISTORY_WAITING : HISTORY_HELD;
	entry_put(b, lane, h->due_ms, m->id, recipient, arrives);
	history_put(b, m->id, recipient, h);
}

static bool
edit_hold(struct batch *b, struct message_state *m, uint32_t recipient, struct history_record *h,
	  bool hold, int64_t due_ms)
{
	struct lane_node *lane;

	if (h->state != (hold ? HISTORY_WAITING : HISTORY_HELD))
		return false;
	lane = lane_get(b, h->lane);
	if (lane != NULL)
		recipient_place(b, m, recipient, h, lane, hold ? DUE_HELD : due_ms);
	return lane != NULL;
}

static bool
edit_retry(struct batch *b, struct message_state *m, uint32_t recipient, struct history_record *h,
	   int64_t due_ms)
{
	struct lane_node *lane;

	if (h->state != HISTORY_WAITING || h->due_ms == due_ms)
		return false;
	lane = lane_get(b, h->lane);
	if (lane != NULL)
		recipient_place(b, m, recipient, h, lane, due_ms);
	return lane != NULL;
}

static bool
edit_remove(struct batch *b, struct message_state *m, uint32_t recipient, struct history_record *h)
{
	history_del(b, m->id, recipient);
	if (h->state == HISTORY_OWED)
		m->owed_since_ms = h->owed_since_ms;
	else
		entry_del(b, h->lane, h->due_ms, m->id, recipient);
	message_end_recipient(m, recipient);
	return true;
}

static bool
edit_fail(struct batch *b, struct message_state *m, uint32_t recipient, struct history_record *h,
	  const struct attempt *attempt)
{
	if (h->state == HISTORY_OWED)
		return false;
	entry_del(b, h->lane, h->due_ms, m->id, recipient);
	if (attempt != NULL)
		history_add_attempt(h, attempt, &b->arena);
	recipient_owe(b, m, recipient, h, REPORT_FAILED);
	return true;
}

/* Due as it was. */
static bool
to_lane(struct batch *b, struct message_state *m, uint32_t recipient, struct history_record *h,
	const struct lane_name *name)
{
	struct lane_node *to = lane_named(b, name);

	if (to == NULL || to->id == h->lane)
		return false;
	recipient_place(b, m, recipient, h, to, h->due_ms);
	return true;
}

static bool
edit_move(struct batch *b, struct message_state *m, uint32_t recipient, struct history_record *h,
	  const struct queue_edit *edit)
{
	if (h->state == HISTORY_OWED || h->lane != edit->from_lane)
		return false;
	return to_lane(b, m, recipient, h, edit->lane);
}

static bool
edit_priority(struct batch *b, struct message_state *m, uint32_t recipient,
	      struct history_record *h, uint8_t priority)
{
	struct lane_node *from = h->state != HISTORY_OWED ? lane_get(b, h->lane) : NULL;
	struct lane_name name;

	if (from == NULL || from->record.name.priority == PRIORITY_REPORT)
		return false;
	name = from->record.name;
	name.priority = priority;
	return to_lane(b, m, recipient, h, &name);
}

static bool
edit_recipient(struct batch *b, struct message_state *m, uint32_t recipient,
	       const struct queue_edit *edit)
{
	struct history_record h;

	history_get(b, m, recipient, &h);
	switch (edit->kind) {
	case EDIT_HOLD:
		return edit_hold(b, m, recipient, &h, true, 0);
	case EDIT_RELEASE:
		return edit_hold(b, m, recipient, &h, false, edit->due_ms);
	case EDIT_RETRY:
		return edit_retry(b, m, recipient, &h, edit->due_ms);
	case EDIT_REMOVE:
		return edit_remove(b, m, recipient, &h);
	case EDIT_FAIL:
		return edit_fail(b, m, recipient, &h, edit->attempt);
	case EDIT_MOVE:
		return edit_move(b, m, recipient, &h, edit);
	case EDIT_PRIORITY:
		return edit_priority(b, m, recipient, &h, edit->priority);
	}
	return false;
}

/* One message; false: the slice is full and this message has more. */
static bool
edit_message(struct batch *b, uint64_t id, struct queue_edit *edit)
{
	struct message_state m;
	bool all = true;

	if (message_load(b, id, true, &m) < 0)
		return true;
	for (uint32_t i = 0; i < m.recipients && b->txn.error == 0; i++) {
		if (!m.open[i] || (edit->only_recipient != UINT32_MAX && edit->only_recipient != i))
			continue;
		if (edit->changed == EDIT_SLICE) {
			all = false;
			break;
		}
		if (edit_recipient(b, &m, i, edit))
			edit->changed++;
	}
	if (edit->kind == EDIT_REMOVE && m.owed_since_ms != 0)
		recipient_unowe(b, &m);
	message_finish(b, &m);
	return all;
}

/*
 * An operation that is tried again (in halves) starts where the caller said: so `resume` is set
 * at the end only.
 */
int
edit_apply(struct batch *b, struct queue_edit *edit)
{
	size_t at = edit->start;

	edit->changed = 0;
	while (at < edit->count && edit->changed < EDIT_SLICE && at - edit->start < EDIT_SLICE &&
	       b->txn.error == 0) {
		if (!edit_message(b, edit->ids[at], edit))
			break;
		at++;
	}
	edit->resume = at;
	edit->more = at < edit->count;
	return 0;
}
