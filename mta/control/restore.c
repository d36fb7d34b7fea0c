/*
 * restore: an imported message's recipients become what they were when they were exported: their
 * attempts, doubt and warning, on hold, owed a report, or due when they were due. Home loop.
 *
 * The message has entered on hold, so nothing can go before this ends; if tramd ends meanwhile it
 * stays on hold, and the operator has not been told that it is queued. It is done with what the
 * queue offers anyway: attempts are settled, one after another (they wait NEVER then), a report
 * of nothing marks who was warned, and edits let each recipient go where it belongs.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/control/job.h"
#include "mta/outbound/dispatcher.h"

/* Due in no time that comes, and not on hold. */
#define NEVER (INT64_MAX / 2)

struct control_restore {
	struct control_job *job;
	const struct import_recipient *recipients;
	size_t count;
	struct arena arena;
	struct queue_message message;
	uint64_t id;
	struct queue_settle settle;
	struct queue_report warn;
	struct dispatcher_edit edit;
	size_t next_settle, next_edit;
	bool loaded, warned;
	int result;
};

struct control_restore *
control_restore_new(struct control_job *job, uint64_t id, const struct import_recipient *recipients,
		    size_t count)
{
	struct control_restore *r = xcalloc(1, sizeof(*r));

	r->job = job;
	r->id = id;
	r->recipients = recipients;
	r->count = count;
	return r;
}

void
control_restore_free(struct control_restore *r)
{
	if (r == NULL)
		return;
	arena_free(&r->arena);
	free(r);
}

/* ---- attempts ----------------------------------------------------------------------------- */

/* The i-th of all: the first and the last are known, of those between one stands for each. */
static const struct attempt *
attempt_at(const struct import_recipient *from, size_t i)
{
	size_t first = from->kept < HISTORY_FIRST ? from->kept : HISTORY_FIRST;
	size_t last = from->kept - first;

	if (i >= from->attempt_count - last)
		return &from->attempts[from->kept - (from->attempt_count - i)];
	return &from->attempts[i < first ? i : first - 1];
}

static bool
was_settled(const struct import_recipient *from)
{
	return from->kept > 0 || from->uncertain || from->state == CONTROL_OWED;
}

static size_t
settles_of(const struct import_recipient *from)
{
	if (!was_settled(from))
		return 0;
	return from->kept == 0 ? 1 : from->attempt_count;
}

/* Of a recipient that is owed a report the last one says why. */
static void
add_settles(struct control_restore *r, uint32_t n, struct settle_recipient *to)
{
	const struct import_recipient *from = &r->recipients[n];
	size_t count = settles_of(from);

	for (size_t i = 0; i < count; i++) {
		bool owe = from->state == CONTROL_OWED && i + 1 == count;

		to[i] = (struct settle_recipient){
			.recipient = n,
			.kind = owe ? SETTLE_OWED : SETTLE_RETRY,
			.lane = r->message.lanes[n],
			.old_due_ms = i == 0 ? DUE_HELD : NEVER,
			.due_ms = NEVER,
			.uncertain = from->uncertain,
			.action = from->action != REPORT_NONE ? from->action : REPORT_FAILED,
			.attempt = from->kept > 0 ? attempt_at(from, i) : NULL };
	}
}

static void
on_settled(struct queue_op *op)
{
	struct control_restore *r = CONTAINER_OF(op, struct control_restore, settle.op);

	r->result = op->result;
	job_wake(r->job);
}

/* Some hundred attempts a transaction; false: there are none left. */
static bool
submit_settles(struct control_restore *r)
{
	size_t count = 0, from = r->next_settle, at = 0;
	struct settle_recipient *rows;

	while (r->next_settle < r->count && count < JOB_SLICE)
		count += settles_of(&r->recipients[r->next_settle++]);
	if (count == 0)
		return false;
	rows = arena_alloc(&r->arena, count * sizeof(*rows));
	for (; from < r->next_settle; at += settles_of(&r->recipients[from++]))
		add_settles(r, (uint32_t)from, rows + at);
	r->settle = (struct queue_settle){ .op.done = on_settled, .op.urgent = true, .id = r->id,
					   .recipients = rows, .count = count };
	queue_submit_settle(job_home(r->job)->port, &r->settle);
	return true;
}

/* ---- warned ------------------------------------------------------------------------------- */

static void
on_warned(struct queue_op *op)
{
	struct control_restore *r = CONTAINER_OF(op, struct control_restore, warn.op);

	r->result = op->result;
	job_wake(r->job);
}

static bool
submit_warned(struct control_restore *r)
{
	uint32_t *numbers = arena_alloc(&r->arena, r->count * sizeof(*numbers));
	size_t count = 0;

	r->warned = true;
	for (size_t i = 0; i < r->count; i++)
		if (r->recipients[i].warned)
			numbers[count++] = (uint32_t)i;
	if (count == 0)
		return false;
	r->warn = (struct queue_report){ .op.done = on_warned, .id = r->id, .recipients = numbers,
					 .count = count, .delay = true };
	queue_submit_report(job_home(r->job)->port, &r->warn);
	return true;
}

/* ---- where each belongs ------------------------------------------------------------------- */

/* What brings it there; false: it is there. What is owed stays as it is, but the reporter looks. */
static bool
edit_for(const struct import_recipient *to, enum edit_kind *kind, int64_t *due_ms)
{
	*due_ms = to->due_ms > 0 ? to->due_ms : wall_ms();
	if (to->state == CONTROL_OWED)
		*kind = EDIT_FAIL;
	else if (to->state == CONTROL_HELD)
		*kind = EDIT_HOLD;
	else
		*kind = was_settled(to) ? EDIT_RETRY : EDIT_RELEASE;
	return to->state == CONTROL_HELD && !was_settled(to);
}

static bool
all_alike(const struct control_restore *r)
{
	enum edit_kind first, kind;
	int64_t first_due, due;

	edit_for(&r->recipients[0], &first, &first_due);
	for (size_t i = 1; i < r->count; i++) {
		edit_for(&r->recipients[i], &kind, &due);
		if (kind != first || due != first_due)
			return false;
	}
	return true;
}

static void
on_edited(struct dispatcher_edit *edit, int result)
{
	struct control_restore *r = CONTAINER_OF(edit, struct control_restore, edit);

	r->result = result == -ENOENT ? 0 : result;
	job_wake(r->job);
}

static bool
submit_edit(struct control_restore *r)
{
	struct queue_edit *q = &r->edit.edit;
	bool whole = r->next_edit == 0 && all_alike(r);

	while (r->next_edit < r->count) {
		size_t n = r->next_edit++;
		enum edit_kind kind;
		int64_t due;

		if (edit_for(&r->recipients[n], &kind, &due))
			continue;
		r->edit = (struct dispatcher_edit){ .done = on_edited };
		*q = (struct queue_edit){ .kind = kind, .ids = &r->id, .count = 1,
					  .only_recipient = whole ? UINT32_MAX : (uint32_t)n,
					  .due_ms = due };
		if (whole)
			r->next_edit = r->count;
		dispatcher_submit_edit(job_home(r->job)->dispatcher, &r->edit);
		return true;
	}
	return false;
}

enum job_next
control_restore_step(struct control_restore *r, int *error)
{
	if (!r->loaded) {
		r->loaded = true;
		r->result = queue_read_message(job_home(r->job)->port, r->id, &r->arena,
					       &r->message);
	}
	*error = r->result;
	if (r->result < 0)
		return JOB_DONE;
	if (submit_settles(r) || (!r->warned && submit_warned(r)) || submit_edit(r))
		return JOB_WAITS;
	return JOB_DONE;
}
