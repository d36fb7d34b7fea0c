/*
 * drain: nothing more is accepted, and what is queued is delivered; and how far that is. Home
 * loop.
 *
 * It is through when no session is open, nothing is due or in flight or owed a report, so that
 * all that is left waits for a later time or for an operator. As long as the dispatcher has work
 * that is told at once; only then all recipients are looked at.
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/control/job.h"
#include "mta/outbound/dispatcher.h"

struct draining {
	struct walk walk;
	uint64_t message;		/* of the last row */
	uint64_t messages;
	uint64_t recipients[CONTROL_IN_FLIGHT + 1];	/* by enum control_state */
	uint64_t due;			/* of those that wait: may go now */
	int64_t next_ms;		/* when the first of the others goes */
};

static void
set(json_t *object, const char *key, uint64_t n)
{
	json_object_set_new(object, key, json_integer((json_int_t)n));
}

/* What both answers have. *busy: mail may still come in, or is on its way. */
static json_t *
facts(struct control_job *job, bool *busy)
{
	struct reactor *home = job_home(job);
	json_t *object = json_object(), *all = json_object();
	struct queue_facts queue;

	queue_facts(home->queue, &queue);
	dispatcher_stats_json(home->dispatcher, all);
	job_owner(job)->stats(job_owner(job)->arg, all);
	*busy = json_i64(all, "sessions") > 0 || !dispatcher_idle(home->dispatcher);
	json_object_set_new(object, "draining", json_boolean(*job_draining(job)));
	set(object, "messages", queue.messages);
	set(object, "sessions", (uint64_t)json_i64(all, "sessions"));
	set(object, "in_flight", (uint64_t)json_i64(all, "in_flight"));
	json_decref(all);
	return object;
}

static void
count(struct draining *d, const struct walk_row *row)
{
	d->messages += row->id != d->message;
	d->message = row->id;
	d->recipients[row->state]++;
	if (row->state != CONTROL_WAITING)
		return;
	if (row->next_ms <= wall_ms())
		d->due++;
	else if (d->next_ms == 0 || row->next_ms < d->next_ms)
		d->next_ms = row->next_ms;
}

static enum job_next
finish(struct control_job *job, const struct draining *d)
{
	bool busy;
	json_t *object = facts(job, &busy);

	busy = busy || d->due > 0 || d->recipients[CONTROL_OWED] > 0 ||
	       d->recipients[CONTROL_IN_FLIGHT] > 0;
	json_object_set_new(object, "busy", json_boolean(busy));
	set(object, "messages", d->messages);
	set(object, "waiting", d->recipients[CONTROL_WAITING]);
	set(object, "held", d->recipients[CONTROL_HELD]);
	set(object, "owed", d->recipients[CONTROL_OWED]);
	if (d->next_ms > 0)
		json_object_set_new(object, "next_ms", json_integer(d->next_ms));
	return job_end(job, object);
}

static enum job_next
walk_step(struct control_job *job)
{
	struct draining *d = job->state;
	size_t budget = JOB_SLICE;
	struct walk_row row;
	int error;

	for (;;) {
		switch (walk_next(&d->walk, &budget, &row, &error)) {
		case WALK_ROW:
			count(d, &row);
			break;
		case WALK_MISSING:
			break;
		case WALK_PAUSE:
			return JOB_MORE;
		case WALK_DONE:
			return finish(job, d);
		case WALK_ERROR:
			return job_fail_errno(job, error);
		}
	}
}

static void
draining_free(struct control_job *job)
{
	struct draining *d = job->state;

	walk_free(&d->walk);
	free(d);
}

static enum job_next
state_step(struct control_job *job)
{
	struct walk_source source = job_walk_source(job);
	struct draining *d;
	bool busy;
	json_t *object = facts(job, &busy);

	json_object_set_new(object, "busy", json_boolean(busy));
	if (busy)
		return job_end(job, object);
	json_decref(object);
	d = xcalloc(1, sizeof(*d));
	walk_init(&d->walk, &source, &job->request, 0);
	job->state = d;
	job->free_state = draining_free;
	job->step = walk_step;
	return JOB_MORE;
}

static enum job_next
drain_step(struct control_job *job)
{
	*job_draining(job) = !job->request.off;
	job_owner(job)->drain(job_owner(job)->arg, !job->request.off);
	return job_end(job, NULL);
}

void
control_drain_start(struct control_job *job)
{
	job->step = job->request.command == CONTROL_DRAIN ? drain_step : state_step;
}
