/*
 * import: messages of an archive become messages of this queue, under new ids. Home loop.
 *
 * One message at a time per peer: import-message, import-recipient…, import-content…,
 * import-commit; what is begun and not committed is dropped with its peer. What was on hold, or
 * owed a report, is so again: such a message enters held, and edits then let each recipient go
 * where it belongs. Attempts before are not restored, so retries begin anew.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/control/job.h"
#include "mta/outbound/dispatcher.h"

enum { RECIPIENTS_MAX = 100000 };

struct import_recipient {
	uint64_t state;			/* enum control_state */
	int64_t due_ms;
	struct attempt attempt;		/* owed */
};

struct control_import {
	struct reactor *home;
	struct arena arena;
	struct queue_accept accept;
	struct envelope envelope;
	struct lane_name *lanes;
	struct import_recipient *states;
	size_t cap;
	struct draft *draft;
	struct buf header;
	uint64_t header_size, body_size, got;
	struct control_job *waiting;	/* for room in the draft, or for the queue */
	struct dispatcher_edit edit;
	uint64_t edit_id;
	size_t next_edit;
	int result;
	bool accepted;
};

static void
import_free(struct control_import *import)
{
	arena_free(&import->arena);
	buf_free(&import->header);
	free(import->envelope.recipients);
	free(import->lanes);
	free(import->states);
	free(import);
}

void
control_import_abort(struct control_import *import)
{
	struct control_job *waiting;

	if (import == NULL)
		return;
	waiting = import->waiting;
	if (import->draft != NULL)
		draft_abort(import->draft);
	import_free(import);
	if (waiting != NULL)		/* its room will never be told now */
		job_wake(waiting);
}

/* Drops what was begun and says why. */
static enum job_next
give_up(struct control_job *job, const char *text, const char *hint)
{
	control_import_abort(*job_import(job));
	*job_import(job) = NULL;
	return job_fail(job, text, hint);
}

/* ---- the envelope ------------------------------------------------------------------------- */

static void
on_room(void *arg)
{
	struct control_import *import = arg;
	struct control_job *job = import->waiting;

	import->waiting = NULL;
	if (job != NULL)
		job_wake(job);
}

static enum job_next
message_step(struct control_job *job)
{
	const struct control_request *r = &job->request;
	struct reactor *home = job_home(job);
	struct control_import *import;

	control_import_abort(*job_import(job));
	*job_import(job) = NULL;
	if (!queue_has_room(home->queue, r->header_size + r->body_size))
		return job_fail_errno(job, -ENOSPC);
	import = xcalloc(1, sizeof(*import));
	import->home = home;
	import->header_size = r->header_size;
	import->body_size = r->body_size;
	import->envelope = (struct envelope){
		.reverse_path = arena_copy(&import->arena, r->reverse_path),
		.envid = arena_copy(&import->arena, r->envid),
		.ret = (uint8_t)r->ret, .body = (uint8_t)r->body, .smtputf8 = r->smtputf8 };
	import->accept = (struct queue_accept){
		.id = queue_next_id(home->queue),
		.arrival_ms = r->arrival_ms > 0 ? (int64_t)r->arrival_ms : wall_ms(),
		.client = arena_copy(&import->arena, r->client),
		.flags = (uint32_t)r->flags | MESSAGE_IMPORTED };
	import->draft = draft_begin(&(struct draft_config){
		.port = home->port, .id = import->accept.id, .room = on_room, .arg = import });
	*job_import(job) = import;
	return job_end(job, NULL);
}

static void
grow(struct control_import *import)
{
	struct envelope *e = &import->envelope;

	if (e->recipient_count < import->cap)
		return;
	import->cap = import->cap == 0 ? 16 : import->cap * 2;
	e->recipients = xrealloc(e->recipients, import->cap * sizeof(*e->recipients));
	import->lanes = xrealloc(import->lanes, import->cap * sizeof(*import->lanes));
	import->states = xrealloc(import->states, import->cap * sizeof(*import->states));
}

static void
fill_state(struct control_import *import, const struct control_request *r,
	   struct import_recipient *to)
{
	size_t len;

	*to = (struct import_recipient){ .state = r->state, .due_ms = (int64_t)r->due_ms };
	to->attempt = (struct attempt){
		.at_ms = wall_ms(), .host = arena_copy(&import->arena, r->host),
		.code = (uint16_t)r->code, .text = arena_copy(&import->arena, r->text) };
	if (!status_parse(r->status, &to->attempt.status, &len))
		to->attempt.status = (struct status){ 5, 0, 0 };
}

static enum job_next
recipient_step(struct control_job *job)
{
	struct control_import *import = *job_import(job);
	const struct control_request *r = &job->request;
	const struct route *route;
	struct address address;
	struct envelope *e;
	size_t n;

	if (import == NULL)
		return job_fail(job, "No message was begun.", "The archive is out of order.");
	e = &import->envelope;
	if (e->recipient_count == RECIPIENTS_MAX)
		return give_up(job, "The message has too many recipients.",
			       "It was not made by this program.");
	if (address_parse(r->address, ADDRESS_UTF8, &import->arena, &address) != ADDRESS_OK)
		return give_up(job, "A recipient is not an address.", "The archive is damaged.");
	grow(import);
	n = e->recipient_count++;
	e->recipients[n] = (struct recipient){
		.address = address_text(&address, &import->arena),
		.orcpt = arena_copy(&import->arena, r->orcpt), .notify = (uint8_t)r->notify };
	route = route_find(&import->home->config->access.routes, address.domain);
	import->lanes[n] = (struct lane_name){
		.domain = address.domain,
		.route = route == NULL ? SPAN("*") : arena_copy(&import->arena, route->name),
		.priority = (import->accept.flags & MESSAGE_REPORT) != 0 ? PRIORITY_REPORT
									 : PRIORITY_NORMAL
	};
	fill_state(import, r, &import->states[n]);
	return job_end(job, NULL);
}

/* ---- the content -------------------------------------------------------------------------- */

static enum job_next
content_step(struct control_job *job)
{
	struct control_import *import = *job_import(job);
	struct span data = job->request.data;
	size_t header;

	if (import == NULL)
		return job_fail(job, "No message was begun.", "The archive is out of order.");
	if (draft_error(import->draft) < 0) {
		int error = draft_error(import->draft);

		control_import_abort(import);
		*job_import(job) = NULL;
		return job_fail_errno(job, error);
	}
	if (draft_full(import->draft)) {
		import->waiting = job;
		return JOB_WAITS;
	}
	if (data.len > import->header_size + import->body_size - import->got)
		return give_up(job, "The message is longer than it should be.",
			       "The archive is damaged.");
	header = (size_t)(import->header_size - buf_len(&import->header));
	import->got += data.len;
	buf_append(&import->header, span_first(data, header));
	draft_append(import->draft, span_skip(data, header));
	return job_end(job, NULL);
}

/* ---- the end ------------------------------------------------------------------------------ */

/* All of one kind enter as what they are; otherwise held, and edits follow. */
static bool
needs_edits(const struct control_import *import)
{
	for (size_t i = 0; i < import->envelope.recipient_count; i++)
		if (import->states[i].state == CONTROL_OWED ||
		    import->states[i].state != import->states[0].state)
			return true;
	return false;
}

static int64_t
first_due(const struct control_import *import)
{
	int64_t due = 0;

	for (size_t i = 0; i < import->envelope.recipient_count; i++)
		if (import->states[i].due_ms > 0 && (due == 0 || import->states[i].due_ms < due))
			due = import->states[i].due_ms;
	return due > 0 ? due : wall_ms();
}

static void
on_accepted(struct queue_op *op)
{
	struct control_import *import = CONTAINER_OF(op, struct control_import, accept.op);

	import->result = op->result;
	import->accepted = true;
	job_wake(import->waiting);
}

static void
on_edited(struct dispatcher_edit *edit, int result)
{
	struct control_import *import = CONTAINER_OF(edit, struct control_import, edit);

	import->result = result == -ENOENT ? 0 : result;
	job_wake(import->waiting);
}

/* The next recipient that must not stay held; false: there is none. */
static bool
submit_edit(struct control_import *import)
{
	struct queue_edit *q = &import->edit.edit;

	while (import->next_edit < import->envelope.recipient_count) {
		size_t n = import->next_edit++;
		const struct import_recipient *s = &import->states[n];

		if (s->state == CONTROL_HELD)
			continue;
		*q = (struct queue_edit){
			.kind = s->state == CONTROL_OWED ? EDIT_FAIL : EDIT_RELEASE,
			.ids = &import->accept.id, .count = 1, .only_recipient = (uint32_t)n,
			.due_ms = s->due_ms > 0 ? s->due_ms : wall_ms(), .attempt = &s->attempt };
		import->edit.changed = 0;
		import->edit.done = on_edited;
		dispatcher_submit_edit(import->home->dispatcher, &import->edit);
		return true;
	}
	return false;
}

static enum job_next
committed_step(struct control_job *job)
{
	struct control_import *import = job->state;
	char text[ID_TEXT_LEN + 1];
	json_t *object;

	if (import->result < 0)
		return job_fail_errno(job, import->result);
	if (needs_edits(import) && submit_edit(import))
		return JOB_WAITS;
	object = json_object();
	json_object_set_new(object, "id", json_string(id_format(import->accept.id, text)));
	job->outcome = arena_printf(&job->arena, "imported as %s", text);
	return job_end(job, object);
}

static void
commit_free(struct control_job *job)
{
	import_free(job->state);
}

static enum job_next
commit_step(struct control_job *job)
{
	struct control_import *import = *job_import(job);

	if (import == NULL)
		return job_fail(job, "No message was begun.", "The archive is out of order.");
	if (import->envelope.recipient_count == 0 ||
	    import->got != import->header_size + import->body_size)
		return give_up(job, "The message is not complete.", "The archive is damaged.");
	/* the job owns it from here on, whatever its peer does */
	*job_import(job) = NULL;
	job->state = import;
	job->free_state = commit_free;
	job->step = committed_step;
	import->waiting = job;
	import->accept.op.done = on_accepted;
	import->accept.op.urgent = true;
	import->accept.envelope = &import->envelope;
	import->accept.lanes = import->lanes;
	import->accept.header = buf_span(&import->header);
	import->accept.draft = import->draft;
	import->accept.due_ms = first_due(import);
	import->accept.hold = needs_edits(import) || import->states[0].state == CONTROL_HELD;
	import->draft = NULL;
	queue_submit_accept(import->home->port, &import->accept);
	return JOB_WAITS;
}

void
control_import_start(struct control_job *job)
{
	switch (job->request.command) {
	case CONTROL_IMPORT_MESSAGE:
		job->step = message_step;
		break;
	case CONTROL_IMPORT_RECIPIENT:
		job->step = recipient_step;
		break;
	case CONTROL_IMPORT_CONTENT:
		job->step = content_step;
		break;
	default:
		job->step = commit_step;
	}
}
