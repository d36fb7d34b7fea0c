/*
 * import: messages of an archive become messages of this queue, under new ids. Home loop.
 *
 * One message at a time per peer: import-message, import-recipient…, import-content…,
 * import-commit; what is begun and not committed is dropped with its peer. A recipient that has
 * been tried, is on hold or is owed a report becomes what it was (restore.c).
 *
 * The new id is of the time of arrival, so that lifetime and delay warning go on: both are found
 * by id. It stands in the upper half of its millisecond, where queue_next_id() has no reason to
 * come.
 *
 * Tenant and priority are what they were; the pool, too, if there is one of that name here. What an
 * archive does not tell (one of an older version, or salvaged) is judged by the configuration.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/control/job.h"
#include "mta/outbound/dispatcher.h"
#include "policy/site_key.h"

enum { RECIPIENTS_MAX = 100000 };

struct control_import {
	struct reactor *home;
	struct arena arena;
	struct queue_accept accept;
	int64_t release_ms;		/* asked for by its sender; 0: none */
	struct envelope envelope;
	struct lane_name *lanes;
	struct import_recipient *states;
	size_t cap;
	struct draft *draft;
	struct buf header;
	uint64_t header_size, body_size, got;
	struct control_job *waiting;	/* for room in the draft, or for the queue */
	struct control_restore *restore;
	int result;
};

static void
import_free(struct control_import *import)
{
	arena_free(&import->arena);
	buf_free(&import->header);
	control_restore_free(import->restore);
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

/* Not so long ago that it would expire before it is tried here. */
static int64_t
life_began(const struct config *config, int64_t arrival_ms, bool report)
{
	const struct schedule_config *schedule = &config->queue.schedule;
	int64_t life = report ? schedule->report_lifetime_ms : schedule->lifetime_ms;
	int64_t grace = schedule->probe_max_ms < life / 4 ? schedule->probe_max_ms : life / 4;
	int64_t earliest = wall_ms() - life + grace;

	return arrival_ms > earliest ? arrival_ms : earliest;
}

/* Its life begins with its release. */
static void
heed_release(struct control_import *import, int64_t release_ms)
{
	import->accept.flags &= ~(uint32_t)MESSAGE_RELEASED;
	if (release_ms <= 0)
		return;
	import->accept.flags |= MESSAGE_RELEASED;
	import->release_ms = life_began(import->home->config, release_ms, false);
}

/*
 * What is late already is returned, or told, soon: moments are walked, so one that the walk has
 * passed would not be met.
 */
static void
heed_by(struct control_import *import, const struct control_request *r)
{
	int64_t now = wall_ms(), by = (int64_t)r->by_ms;

	if (r->by_mode == BY_NONE || by <= 0)
		return;
	import->envelope.by_mode = (uint8_t)r->by_mode;
	import->envelope.by_trace = r->by_trace;
	import->envelope.by_ms = by > now ? by : now;
}

static bool
id_is_free(struct control_job *job, uint64_t id)
{
	struct arena scratch = { 0 };
	struct queue_message message;
	int rc = queue_read_message(job_home(job)->port, id, &scratch, &message);

	arena_free(&scratch);
	return rc == -ENOENT;
}

/*
 * Anywhere within a second, so that the id of one that is gone hardly comes again; but not of now,
 * for then it would be ahead of those that a walk meets.
 */
static uint64_t
make_id(struct control_job *job, int64_t at_ms)
{
	int64_t last = wall_ms() - 1;
	uint64_t id;

	do {
		unsigned n = job_import_number(job);
		int64_t ms = at_ms + n / 32768 % 1000;

		id = id_at(ms < last ? ms : last) | 0x8000 | (n & 0x7fff);
	} while (!id_is_free(job, id));
	return id;
}

static enum job_next
message_step(struct control_job *job)
{
	const struct control_request *r = &job->request;
	struct reactor *home = job_home(job);
	struct control_import *import;
	int64_t arrival = wall_ms();

	if (r->arrival_ms > 0 && r->arrival_ms < (uint64_t)arrival)
		arrival = (int64_t)r->arrival_ms;
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
		.ret = (uint8_t)r->ret, .body = (uint8_t)r->body, .smtputf8 = r->smtputf8,
		.priority = r->priority.mt };
	import->accept = (struct queue_accept){
		.id = make_id(job, life_began(home->config, arrival,
					      (r->flags & MESSAGE_REPORT) != 0)),
		.arrival_ms = arrival,
		.client = arena_copy(&import->arena, r->client),
		.user = arena_copy(&import->arena, r->user),
		.flags = (uint32_t)r->flags | MESSAGE_IMPORTED };
	heed_release(import, (int64_t)r->release_ms);
	heed_by(import, r);
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

static struct lane_name
lane_of(struct control_import *import, const struct control_request *r, struct span domain)
{
	const struct config *config = import->home->config;
	const struct routes *routes = &config->access.routes;
	struct span sender = import->envelope.reverse_path, user = import->accept.user;
	bool report = (import->accept.flags & MESSAGE_REPORT) != 0;
	const struct route *route =
		route_choose(routes, &(struct route_facts){ domain, sender, user });
	int mt = r->priority.given ? r->priority.mt : import->envelope.priority;
	struct lane_name lane = {
		.domain = domain,
		.route = arena_copy(&import->arena,
				    route_label(routes, domain, route,
						message_wish(import->accept.flags, sender),
						&import->arena)),
		.tenant = arena_copy(&import->arena, span_first(r->tenant, TENANT_NAME_MAX)),
		.priority = report ? PRIORITY_REPORT : priority_of_mt(mt)
	};

	if (r->tenant.len == 0)
		lane.tenant = tenant_choose(&config->tenants,
					    &(struct tenant_facts){ .may_relay = !report,
								    .user = user,
								    .sender = sender },
					    &import->arena);
	if (pool_find(&config->sources, r->pool) != NULL)
		lane.pool = arena_copy(&import->arena, r->pool);
	else
		lane.pool = arena_copy(
			&import->arena,
			pool_chosen(&config->sources,
				    &(struct pool_facts){ .route = route != NULL ? route->pool
										 : SPAN(""),
							  .sender = sender,
							  .tenant = lane.tenant }));
	return lane;
}

static enum job_next
recipient_step(struct control_job *job)
{
	struct control_import *import = *job_import(job);
	const struct control_request *r = &job->request;
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
	import->lanes[n] = lane_of(import, r, address.domain);
	import->states[n] = (struct import_recipient){ .state = r->state,
						       .due_ms = (int64_t)r->due_ms,
						       .action = (uint8_t)r->action,
						       .uncertain = r->uncertain,
						       .warned = r->warned,
						       .attempt_count = r->attempts };
	return job_end(job, NULL);
}

/* One more of the recipient that was told last. */
static enum job_next
attempt_step(struct control_job *job)
{
	struct control_import *import = *job_import(job);
	const struct control_request *r = &job->request;
	struct import_recipient *to;
	struct attempt *a;
	size_t len;

	if (import == NULL || import->envelope.recipient_count == 0)
		return job_fail(job, "No recipient was begun.", "The archive is out of order.");
	to = &import->states[import->envelope.recipient_count - 1];
	if (to->kept == IMPORT_ATTEMPTS)
		return give_up(job, "A recipient has too many attempts.",
			       "The archive is damaged.");
	if (to->attempts == NULL)
		to->attempts = arena_alloc(&import->arena, IMPORT_ATTEMPTS * sizeof(*a));
	a = &to->attempts[to->kept++];
	*a = (struct attempt){ .at_ms = (int64_t)r->at_ms,
			       .host = arena_copy(&import->arena, r->host),
			       .address = arena_copy(&import->arena, r->peer),
			       .stage = (uint8_t)r->stage,
			       .code = (uint16_t)r->code,
			       .text = arena_copy(&import->arena, span_first(r->text, 1000)),
			       .source = arena_copy(&import->arena, span_first(r->source, 64)),
			       .tls = arena_copy(&import->arena, span_first(r->tls, 200)),
			       .tls_policy = arena_copy(&import->arena,
							span_first(r->tls_policy, 20)),
			       .tls_resumed = r->tls_resumed };
	if (!status_parse(r->status, &a->status, &len))
		a->status = (struct status){ 0 };
	if (to->attempt_count < to->kept)
		to->attempt_count = to->kept;
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

/* All alike and never tried: they enter as they are. Otherwise on hold, and restore.c follows. */
static bool
needs_restore(const struct control_import *import)
{
	const struct import_recipient *first = &import->states[0];

	for (size_t i = 0; i < import->envelope.recipient_count; i++) {
		const struct import_recipient *s = &import->states[i];

		if (s->state == CONTROL_OWED || s->kept > 0 || s->uncertain || s->warned ||
		    s->state != first->state || s->due_ms != first->due_ms ||
		    (import->release_ms != 0 && s->state == CONTROL_WAITING &&
		     s->due_ms != import->release_ms))
			return true;
	}
	return false;
}

static void
on_accepted(struct queue_op *op)
{
	struct control_import *import = CONTAINER_OF(op, struct control_import, accept.op);

	import->result = op->result;
	job_wake(import->waiting);
}

static enum job_next
committed_step(struct control_job *job)
{
	struct control_import *import = job->state;
	char text[ID_TEXT_LEN + 1];
	json_t *object;

	if (import->result == 0 && import->restore != NULL &&
	    control_restore_step(import->restore, &import->result) == JOB_WAITS)
		return JOB_WAITS;
	if (import->result < 0)
		return job_fail_errno(job, import->result);
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
	int64_t due;

	if (import == NULL)
		return job_fail(job, "No message was begun.", "The archive is out of order.");
	if (import->envelope.recipient_count == 0 ||
	    import->got != import->header_size + import->body_size)
		return give_up(job, "The message is not complete.", "The archive is damaged.");
	due = import->states[0].due_ms;
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
	if (import->release_ms != 0)
		due = import->release_ms;
	import->accept.due_ms = due > 0 ? due : wall_ms();
	import->accept.hold = needs_restore(import) || import->states[0].state == CONTROL_HELD;
	if (needs_restore(import))
		import->restore = control_restore_new(job, import->accept.id, import->states,
						      import->envelope.recipient_count);
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
	case CONTROL_IMPORT_ATTEMPT:
		job->step = attempt_step;
		break;
	case CONTROL_IMPORT_CONTENT:
		job->step = content_step;
		break;
	default:
		job->step = commit_step;
	}
}
