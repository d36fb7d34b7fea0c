/*
 * edit: hold, release, retry, bounce, remove, set: of some messages, or of all that a selection
 * finds. Home loop.
 *
 * What is found is handed to the dispatcher in batches; each ends before the next is gathered,
 * and the queue works on at most 500 recipients at a time, behind what others wait for. A crash
 * in between leaves each recipient either changed or not: every edit is idempotent, so to resume
 * is to say it again.
 *
 * A selection by recipient edits only those recipients, even of a message that has others: such
 * a batch is made of one recipient number in several messages. A retry also wakes the sites that
 * these messages wait for.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/base/log.h"
#include "mta/control/job.h"
#include "mta/control/walk.h"
#include "mta/outbound/dispatcher.h"

enum { SITES_MAX = 256 };		/* woken by one retry; any more come by their own probes */

struct editing {
	struct walk walk;
	struct dispatcher_edit edit;
	struct control_job *job;
	struct attempt attempt;
	uint64_t ids[JOB_SLICE];
	struct span to[JOB_SLICE];	/* of one recipient its address; empty: the whole message */
	struct arena names;
	size_t count;
	uint64_t kept_id;		/* found, but belongs to the next batch; 0: none */
	uint32_t kept_recipient;
	struct buf kept_to;
	uint64_t sites[SITES_MAX];
	size_t site_count;
	uint64_t found, changed, missing;
	bool walked;			/* to the end */
	int error;
};

static const enum edit_kind kinds[] = {
	[CONTROL_QUEUE_HOLD] = EDIT_HOLD, [CONTROL_QUEUE_RELEASE] = EDIT_RELEASE,
	[CONTROL_QUEUE_RETRY] = EDIT_RETRY, [CONTROL_QUEUE_BOUNCE] = EDIT_FAIL,
	[CONTROL_QUEUE_REMOVE] = EDIT_REMOVE, [CONTROL_QUEUE_SET] = EDIT_PRIORITY,
};

/* ---- the sites that a retry wakes --------------------------------------------------------- */

static void
note_lane(struct editing *e, uint64_t lane_id)
{
	struct reactor *home = job_home(e->job);
	struct arena scratch = { 0 };
	struct lane_record lane;

	if (e->site_count == SITES_MAX || queue_read_lane(home->port, lane_id, &scratch, &lane) < 0)
		lane.site = 0;
	for (size_t i = 0; i < e->site_count && lane.site != 0; i++)
		if (e->sites[i] == lane.site)
			lane.site = 0;
	if (lane.site != 0)
		e->sites[e->site_count++] = lane.site;
	arena_free(&scratch);
}

static void
note_sites(struct editing *e, const struct walk_row *row)
{
	const struct queue_message *m = row->message;

	if (row->recipient != WALK_WHOLE) {
		note_lane(e, row->history.lane);
		return;
	}
	for (size_t i = 0; i < m->envelope.recipient_count && i < 16; i++)
		note_lane(e, m->lanes[i]);
}

/* ---- one batch ---------------------------------------------------------------------------- */

static bool
wanted(const struct editing *e, const struct walk_row *row)
{
	if (row->recipient == WALK_WHOLE)
		return true;
	switch (e->edit.edit.kind) {
	/* what is due already keeps its place: so the walk by due time ends */
	case EDIT_RETRY:
		return row->state == CONTROL_WAITING && row->history.due_ms > e->walk.now_ms;
	case EDIT_HOLD:
		return row->state == CONTROL_WAITING || row->state == CONTROL_IN_FLIGHT;
	case EDIT_RELEASE:
		return row->state == CONTROL_HELD;
	default:
		return row->state != CONTROL_OWED;
	}
}

/* False: the batch is full, or the row belongs to another. */
static bool
add(struct editing *e, uint64_t id, uint32_t recipient, struct span to)
{
	if (e->count == 0)
		e->edit.edit.only_recipient = recipient;
	if (e->count == JOB_SLICE || e->edit.edit.only_recipient != recipient) {
		e->kept_id = id;
		e->kept_recipient = recipient;
		buf_clear(&e->kept_to);
		buf_append(&e->kept_to, to);
		return false;
	}
	e->to[e->count] = arena_copy(&e->names, to);
	e->ids[e->count++] = id;
	return true;
}

static void
tell_missing(struct editing *e, uint64_t id)
{
	json_t *object = json_object();
	char text[ID_TEXT_LEN + 1];

	json_object_set_new(object, "missing", json_string(id_format(id, text)));
	job_row(e->job, object);
	e->missing++;
}

static void
take_kept(struct editing *e)
{
	uint64_t id = e->kept_id;

	e->kept_id = 0;
	if (id != 0)
		add(e, id, e->kept_recipient, buf_span(&e->kept_to));
}

static struct span
address_of(const struct walk_row *row)
{
	return row->recipient == WALK_WHOLE
		       ? SPAN("")
		       : row->message->envelope.recipients[row->recipient].address;
}

/* Gathers until the slice's work is done (false), or there is a batch or no more (true). */
static bool
gather(struct editing *e)
{
	size_t budget = JOB_SLICE;
	struct walk_row row;

	for (;;) {
		switch (walk_next(&e->walk, &budget, &row, &e->error)) {
		case WALK_ROW:
			e->found++;
			if (e->edit.edit.kind == EDIT_RETRY)
				note_sites(e, &row);
			if (wanted(e, &row) && !add(e, row.id, row.recipient, address_of(&row)))
				return true;
			break;
		case WALK_MISSING:
			tell_missing(e, row.id);
			break;
		case WALK_PAUSE:
			return false;
		case WALK_DONE:
			e->error = 0;
			e->walked = true;
			return true;
		case WALK_ERROR:
			e->walked = true;
			return true;
		}
	}
}

/* Who looks for an id in the log finds what became of it. */
static void
log_batch(const struct editing *e)
{
	struct log_line l;

	for (size_t i = 0; i < e->count; i++) {
		if (!log_begin(&l, LOG_INFO, "operator"))
			return;
		log_id(&l, "id", e->ids[i]);
		if (e->to[i].len > 0)
			log_span(&l, "to", e->to[i]);
		log_str(&l, "command", control_command_name(e->job->request.command));
		log_u64(&l, "uid", e->job->uid);
		log_end(&l);
	}
}

static void
on_edited(struct dispatcher_edit *edit, int result)
{
	struct editing *e = CONTAINER_OF(edit, struct editing, edit);

	e->changed += edit->changed;
	if (result == 0 && edit->changed > 0)
		log_batch(e);
	e->count = 0;
	arena_free(&e->names);
	if (result < 0 && result != -ENOENT) {
		e->error = result;
		e->walked = true;
		e->kept_id = 0;
	}
	job_wake(e->job);
}

static enum job_next
submit(struct editing *e)
{
	struct queue_edit *q = &e->edit.edit;

	e->edit.changed = 0;
	e->edit.done = on_edited;
	q->ids = e->ids;
	q->count = e->count;
	q->resume = 0;
	q->changed = 0;
	q->more = false;
	q->due_ms = e->walk.now_ms;
	dispatcher_submit_edit(job_home(e->job)->dispatcher, &e->edit);
	return JOB_WAITS;
}

/* ---- all of them -------------------------------------------------------------------------- */

static enum job_next
finish(struct editing *e)
{
	struct control_job *job = e->job;
	json_t *object;

	if (e->error < 0)
		return job_fail_errno(job, e->error);
	for (size_t i = 0; i < e->site_count; i++)
		dispatcher_retry_site(job_home(job)->dispatcher, e->sites[i]);
	object = json_object();
	json_object_set_new(object, "found", json_integer((json_int_t)e->found));
	json_object_set_new(object, "changed", json_integer((json_int_t)e->changed));
	json_object_set_new(object, "missing", json_integer((json_int_t)e->missing));
	job->outcome = arena_printf(&job->arena, "%llu recipients changed",
				    (unsigned long long)e->changed);
	return job_end(job, object);
}

static void
tell_progress(struct editing *e)
{
	json_t *object = json_object(), *progress = json_object();

	json_object_set_new(progress, "found", json_integer((json_int_t)e->found));
	json_object_set_new(progress, "changed", json_integer((json_int_t)e->changed));
	json_object_set_new(object, "progress", progress);
	job_row(e->job, object);
}

static enum job_next
edit_step(struct control_job *job)
{
	struct editing *e = job->state;

	if (e->count == 0)
		take_kept(e);
	if (!e->walked && !gather(e))
		return JOB_MORE;
	if (e->error < 0 || e->count == 0)
		return finish(e);
	if (!e->walked)
		tell_progress(e);
	return submit(e);
}

static void
edit_free(struct control_job *job)
{
	struct editing *e = job->state;

	walk_free(&e->walk);
	arena_free(&e->names);
	buf_free(&e->kept_to);
	free(e);
}

void
control_edit_start(struct control_job *job)
{
	struct editing *e = xcalloc(1, sizeof(*e));
	struct walk_source source = job_walk_source(job);

	walk_init(&e->walk, &source, &job->request, WALK_WHOLE_OK);
	e->job = job;
	e->edit.edit.kind = kinds[job->request.command];
	e->edit.edit.priority = priority_of_mt(job->request.priority.mt);
	e->attempt = (struct attempt){ .at_ms = wall_ms(),
				       .status = { 5, 0, 0 },
				       .text = SPAN("returned by the operator of this system") };
	e->edit.edit.attempt = &e->attempt;
	job->state = e;
	job->step = edit_step;
	job->free_state = edit_free;
}
