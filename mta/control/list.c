/*
 * list: queue list, queue show, explain: what is here, and why. One answer line per recipient.
 * Home loop.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/control/job.h"
#include "mta/control/walk.h"
#include "mta/outbound/dispatcher.h"
#include "mta/outbound/explain/hold_reason.h"
#include "mta/delivery/outcome.h"

struct listing {
	struct walk walk;
	struct dispatcher_flight flight;
	struct control_job *job;
	json_t *asked;			/* the row that waits for its flight */
	uint64_t rows;
	uint64_t shown;			/* message whose own line is written */
};

/* ---- where every walk goes ---------------------------------------------------------------- */

static const char *
in_flight(void *dispatcher, uint64_t id, uint32_t recipient)
{
	return dispatcher_in_flight(dispatcher, id, recipient);
}

struct walk_source
job_walk_source(const struct control_job *job)
{
	struct reactor *home = job_home(job);

	return (struct walk_source){ .port = home->port, .below = queue_next_id(home->queue),
				     .in_flight = in_flight, .arg = home->dispatcher };
}

/* ---- explain ------------------------------------------------------------------------------ */

static void
explain_way(struct control_job *job, uint64_t lane_id, json_t *object)
{
	struct queue_port *port = job_home(job)->port;
	struct lane_record lane;
	struct site_record site;
	const char *state;

	if (queue_read_lane(port, lane_id, &job->arena, &lane) < 0)
		return;
	json_object_set_new(object, "domain", json_text(lane.name.domain));
	json_object_set_new(object, "route", json_text(route_label_text(lane.name.route)));
	if (lane.name.pool.len > 0)
		json_object_set_new(object, "pool",
				    json_text(dispatcher_pool_text(job_home(job)->dispatcher,
								   lane.name.pool, &job->arena)));
	if (lane.name.tenant.len > 0)
		json_object_set_new(object, "tenant", json_text(lane.name.tenant));
	if (priority_mt(lane.name.priority) != 0)
		json_object_set_new(object, "priority",
				    json_integer(priority_mt(lane.name.priority)));
	if (lane.site == 0 || queue_read_site(port, lane.site, &job->arena, &site) < 0)
		return;
	json_object_set_new(object, "site", json_text(site.key));
	state = dispatcher_site_state(job_home(job)->dispatcher, lane.site);
	json_object_set_new(object, "site_state",
			    json_string(state != NULL ? state : "not in memory"));
	if (site.state.last.at_ms == 0)
		return;
	json_object_set_new(object, "site_failed_ms", json_integer(site.state.last.at_ms));
	json_object_set_new(object, "site_failed_host", json_text(site.state.last.host));
	json_object_set_new(object, "site_failed_text", json_text(site.state.last.text));
}

/* It is due: who comes first? */
static void
explain_place(struct control_job *job, const struct walk_row *row, json_t *object)
{
	const struct history_record *h = &row->history;
	const struct queue_entry entry = {
		.lane = h->lane, .due_ms = h->due_ms, .id = row->id, .recipient = row->recipient
	};
	struct dispatcher_place place;
	json_t *told = json_object();

	dispatcher_place_in_lane(job_home(job)->dispatcher, &entry, &place);
	json_object_set_new(told, "before", json_integer((json_int_t)place.before));
	if (place.more)
		json_object_set_new(told, "more", json_true());
	if (place.head_due_ms != 0)
		json_object_set_new(told, "head_due_ms", json_integer(place.head_due_ms));
	if (place.lanes > 0) {
		json_object_set_new(told, "lanes", json_integer((json_int_t)place.lanes));
		json_object_set_new(told, "tenants", json_integer((json_int_t)place.tenants));
	}
	json_object_set_new(object, "place", told);
}

static const char *
time_waited_for(const struct walk_row *row)
{
	const struct message_record *r = &row->message->record;

	if ((r->flags & MESSAGE_RELEASED) != 0 && row->history.due_ms == r->due_ms &&
	    row->history.attempt_count == 0)
		return "the time that its sender asked for";
	return "the time of its next try";
}

static void
explain_wait(struct control_job *job, const struct walk_row *row, json_t *object)
{
	const struct history_record *h = &row->history;
	int64_t until, now = wall_ms();
	struct hold_reasons why;

	if (row->state == CONTROL_HELD) {
		json_object_set_new(object, "waits_for", json_string("an operator: it is on hold"));
		return;
	}
	if (row->state == CONTROL_OWED) {
		json_object_set_new(object, "waits_for",
				    json_string("the report to its sender, which is being made"));
		return;
	}
	if (row->in_flight != NULL) {
		json_object_set_new(object, "waits_for",
				    json_string("its delivery, which is going on now"));
		return;
	}
	dispatcher_held_by(job_home(job)->dispatcher, h->lane, &job->arena, &why);
	until = hold_until(&why);
	if (why.count > 0) {
		json_object_set_new(object, "blocked_by", json_text(why.list[0].text));
		json_object_set_new(object, "held_by", holds_json(&why));
	}
	json_object_set_new(object, "next_ms", json_integer(until > h->due_ms ? until : h->due_ms));
	json_object_set_new(object, "waits_for",
			    json_string(h->due_ms > now ? time_waited_for(row)
					: why.count > 0 ? "the way to be free"
							: "its turn: it may go now"));
	if (h->due_ms <= now)
		explain_place(job, row, object);
}

static json_t *
explain_row(struct control_job *job, const struct walk_row *row)
{
	json_t *object = walk_row_json(row), *tries = walk_attempts_json(&row->history), *one;
	size_t i;

	json_array_foreach(tries, i, one) {
		const char *class =
			outcome_of_attempt(job_home(job)->config, &row->history.attempts[i]);

		if (class[0] != '\0')
			json_object_set_new(one, "class", json_string(class));
	}
	json_object_set_new(object, "tries", tries);
	if (row->history.warned)
		json_object_set_new(object, "warned", json_true());
	explain_wait(job, row, object);
	explain_way(job, row->history.lane, object);
	return object;
}

static void
on_flight(struct dispatcher_flight *flight)
{
	struct listing *l = CONTAINER_OF(flight, struct listing, flight);
	const struct delivery_flight *f = &flight->flight;
	struct control_job *job = l->job;
	json_t *told = json_object();

	if (f->host[0] != '\0')
		json_object_set_new(told, "host", json_text(span_str(f->host)));
	if (f->address[0] != '\0')
		json_object_set_new(told, "address", json_string(f->address));
	json_object_set_new(told, "stage",
			    json_string(f->there ? f->waits_for : "its outcome is told"));
	json_object_set_new(told, "before", json_integer((json_int_t)f->before));
	if (f->there && f->began_ms > 0)
		json_object_set_new(told, "since_ms",
				    json_integer(wall_ms() - (mono_ms() - f->began_ms)));
	json_object_set_new(l->asked, "flight", told);
	job_row(job, l->asked);
	l->asked = NULL;
	job_wake(job);
}

/* With which host, and how far it is, is known where its connection is. */
static bool
explain_flight(struct control_job *job, struct listing *l, const struct walk_row *row,
	       json_t *object)
{
	l->job = job;
	l->asked = object;
	l->flight.done = on_flight;
	if (dispatcher_ask_flight(job_home(job)->dispatcher, row->id, row->recipient, &l->flight))
		return true;
	l->asked = NULL;
	json_object_set_new(object, "waits_for",
			    json_string("its delivery, whose outcome is being kept"));
	return false;
}

/* ---- rows --------------------------------------------------------------------------------- */

/* True: the job must wait. */
static bool
show_row(struct control_job *job, struct listing *l, const struct walk_row *row)
{
	json_t *object;

	if (job->request.command != CONTROL_QUEUE_LIST && l->shown != row->id) {
		l->shown = row->id;
		object = json_object();
		json_object_set_new(object, "message", walk_message_json(row->id, row->message));
		job_row(job, object);
	}
	object = job->request.command == CONTROL_EXPLAIN ? explain_row(job, row)
							 : walk_row_json(row);
	if (job->request.command == CONTROL_QUEUE_SHOW) {
		const struct recipient *r = &row->message->envelope.recipients[row->recipient];

		json_object_set_new(object, "notify", json_integer(r->notify));
		json_object_set_new(object, "orcpt", json_text(r->orcpt));
	}
	l->rows++;
	if (job->request.command == CONTROL_EXPLAIN && row->in_flight != NULL &&
	    explain_flight(job, l, row, object))
		return true;
	job_row(job, object);
	return false;
}

static enum job_next
missing(struct control_job *job, uint64_t id)
{
	char text[ID_TEXT_LEN + 1];
	struct span sentence =
		arena_printf(&job->arena, "Message %s is not in the queue.", id_format(id, text));

	return job_fail(job, sentence.at,
			"It was delivered, bounced or removed; the log has its id.");
}

static enum job_next
finish(struct control_job *job, const struct listing *l)
{
	json_t *object = json_object();

	json_object_set_new(object, "rows", json_integer((json_int_t)l->rows));
	return job_end(job, object);
}

static enum job_next
list_step(struct control_job *job)
{
	struct listing *l = job->state;
	size_t budget = JOB_SLICE;
	struct walk_row row;
	int error;

	for (;;) {
		if (job->request.limit > 0 && l->rows >= job->request.limit)
			return finish(job, l);
		switch (walk_next(&l->walk, &budget, &row, &error)) {
		case WALK_ROW:
			if (show_row(job, l, &row))
				return JOB_WAITS;
			break;
		case WALK_MISSING:
			return missing(job, row.id);
		case WALK_PAUSE:
			return JOB_MORE;
		case WALK_DONE:
			return finish(job, l);
		case WALK_ERROR:
			return job_fail_errno(job, error);
		}
	}
}

static void
list_free(struct control_job *job)
{
	struct listing *l = job->state;

	walk_free(&l->walk);
	free(l);
}

void
control_list_start(struct control_job *job)
{
	struct listing *l = xcalloc(1, sizeof(*l));
	struct walk_source source = job_walk_source(job);

	walk_init(&l->walk, &source, &job->request, 0);
	job->state = l;
	job->step = list_step;
	job->free_state = list_free;
}
