/*
 * suppress: the list of suppressed addresses: list, add, remove. Home loop.
 *
 * Many are added one request after another: `more` says that nobody waits for this one's commit,
 * which then comes with that of the last.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/control/job.h"
#include "mta/reactor/suppressed.h"

struct suppressing {
	struct suppressed_change change;
	struct arena arena;
	struct control_job *job;	/* NULL: it has its answer */
	int result;
	/* list */
	struct span after;
	uint64_t told;
};

/* ---- list --------------------------------------------------------------------------------- */

static void
show(struct suppressing *s, const struct queue_note_row *row, const struct suppression *entry)
{
	json_t *object = json_object();

	json_object_set_new(object, "address", json_text(row->key));
	json_object_set_new(object, "class", json_string(reply_class_name(entry->class)));
	json_object_set_new(object, "since_ms", json_integer(entry->since_ms));
	if (entry->until_ms != 0)
		json_object_set_new(object, "until_ms", json_integer(entry->until_ms));
	json_object_set_new(object, "reason", json_text(entry->reason));
	job_row(s->job, object);
	s->told++;
}

static enum job_next
list_step(struct control_job *job)
{
	struct suppressing *s = job->state;
	struct queue_note_row rows[128];
	struct arena page = { 0 };
	struct suppression entry;
	size_t count = 0;
	bool full = false;
	int rc = queue_read_notes(job_home(job)->port, NOTE_SUPPRESSION, SPAN(""), s->after, &page,
				  rows, 128, &count);

	for (size_t i = 0; i < count && !full; i++) {
		if (!rows[i].damaged && suppression_decode(rows[i].value, &page, &entry) == 0 &&
		    (entry.until_ms == 0 || entry.until_ms > wall_ms()))
			show(s, &rows[i], &entry);
		full = job->request.limit > 0 && s->told >= job->request.limit;
	}
	arena_free(&s->arena);
	if (count > 0)
		s->after = arena_copy(&s->arena, rows[count - 1].key);
	arena_free(&page);
	if (rc < 0)
		return job_fail_errno(job, rc);
	if (count > 0 && !full)
		return JOB_MORE;
	return job_end(job, json_pack("{s:I}", "rows", (json_int_t)s->told));
}

/* ---- add, remove -------------------------------------------------------------------------- */

static void
suppressing_free(struct suppressing *s)
{
	arena_free(&s->arena);
	free(s);
}

static enum job_next
changed_step(struct control_job *job)
{
	struct suppressing *s = job->state;

	return s->result < 0 ? job_fail_errno(job, s->result) : job_end(job, NULL);
}

static void
on_changed(struct suppressed_change *change)
{
	struct suppressing *s = CONTAINER_OF(change, struct suppressing, change);
	struct control_job *job = s->job;

	s->result = change->result;
	if (job == NULL) {
		suppressing_free(s);
		return;
	}
	job->step = changed_step;
	job_wake(job);
}

static enum job_next
refused(struct control_job *job, int rc)
{
	if (rc == -ENOENT)
		return job_fail(job, "It is not on the list.",
				"See what is: tramctl suppress list");
	if (rc == -ENOSPC)
		return job_fail(job, "The list is full.",
				"Remove what is not needed: some 300,000 addresses fit.");
	return job_fail_errno(job, rc);
}

/* NULL, or what is wrong. */
static const char *
read_request(struct suppressing *s)
{
	const struct control_request *r = &s->job->request;
	struct suppression *entry = &s->change.entry;

	if (!suppression_key(r->address, &s->arena, &s->change.key))
		return "That is neither an address nor a domain.";
	s->change.remove = r->command == CONTROL_SUPPRESS_REMOVE;
	s->change.urgent = !r->more;
	entry->class = CLASS_OTHER;
	if (r->class.len > 0 && !reply_class_find(r->class, &entry->class))
		return "There is no such class.";
	entry->since_ms = wall_ms();
	entry->until_ms = r->for_ms > 0 ? entry->since_ms + (int64_t)r->for_ms : 0;
	entry->reason = arena_copy(&s->arena, span_first(r->reason, SUPPRESSION_REASON_MAX));
	return NULL;
}

static enum job_next
change_step(struct control_job *job)
{
	struct suppressing *s = job->state;
	const char *fault = read_request(s);
	int rc;

	if (fault != NULL)
		return job_fail(job, fault, "The classes are in tram.conf(5), REPLIES.");
	s->change.done = on_changed;
	rc = suppressed_submit(job_home(job)->suppressed, &s->change);
	if (rc < 0)
		return refused(job, rc);
	if (s->change.urgent)
		return JOB_WAITS;
	s->job = NULL;			/* it lives on until its commit */
	job->state = NULL;
	return job_end(job, NULL);
}

static void
free_state(struct control_job *job)
{
	if (job->state != NULL)
		suppressing_free(job->state);
}

void
control_suppress_start(struct control_job *job)
{
	struct suppressing *s = xcalloc(1, sizeof(*s));

	s->job = job;
	job->state = s;
	job->free_state = free_state;
	job->step = job->request.command == CONTROL_SUPPRESS_LIST ? list_step : change_step;
}
