/*
 * tls_reports: what has been counted of TLS to others, and reports on it at once. Home loop.
 */
#include <stdlib.h>

#include "mta/control/job.h"
#include "mta/outbound/dispatcher.h"
#include "mta/assurance/tls_reports.h"

enum { NOTES_A_STEP = 50 };

struct listing {
	struct tls_reports_wait wait;
	struct control_job *job;
	bool asked, ready;
	struct buf after;
	uint64_t told;
};

static struct tls_reports *
reports_of(const struct control_job *job)
{
	return dispatcher_tls_reports(job_home(job)->dispatcher);
}

static void
listing_free(struct control_job *job)
{
	struct listing *l = job->state;

	buf_free(&l->after);
	free(l);
}

static void
on_ready(struct tls_reports_wait *wait)
{
	struct listing *l = CONTAINER_OF(wait, struct listing, wait);

	l->ready = true;
	job_wake(l->job);
}

/* Asks once. False: it is not through yet, on_ready() comes. */
static bool
is_ready(struct control_job *job, enum tls_reports_wish wish)
{
	struct listing *l = job->state;

	if (!l->asked) {
		l->asked = true;
		l->wait.done = on_ready;
		tls_reports_ask(reports_of(job), wish, &l->wait);
	}
	return l->ready;
}

static bool
is_full(const struct listing *l)
{
	return l->job->request.limit > 0 && l->told >= l->job->request.limit;
}

/* The rows of the next note; false: there is none, or enough is told. */
static bool
tell_note(struct listing *l)
{
	json_t *array = json_array(), *row;
	bool more = tls_reports_rows(reports_of(l->job), &l->after, array);
	size_t i;

	json_array_foreach(array, i, row)
		if (!is_full(l)) {
			job_row(l->job, json_incref(row));
			l->told++;
		}
	json_decref(array);
	return more && !is_full(l);
}

static enum job_next
list_step(struct control_job *job)
{
	struct listing *l = job->state;
	json_t *object;

	if (!is_ready(job, TLS_REPORTS_FLUSH))
		return JOB_WAITS;
	for (int i = 0; i < NOTES_A_STEP; i++)
		if (!tell_note(l)) {
			object = json_object();
			json_object_set_new(object, "rows", json_integer((json_int_t)l->told));
			return job_end(job, object);
		}
	return JOB_MORE;
}

static enum job_next
send_step(struct control_job *job)
{
	struct listing *l = job->state;
	json_t *object;

	if (!tls_reports_wanted(job_home(job)->config))
		return job_fail(job, "No reports are made: there is no contact for them.",
				"Set tls-report-contact in the configuration.");
	if (!is_ready(job, TLS_REPORTS_SEND))
		return JOB_WAITS;
	object = json_object();
	json_object_set_new(object, "sent", json_integer((json_int_t)l->wait.sent));
	json_object_set_new(object, "unwanted", json_integer((json_int_t)l->wait.unwanted));
	json_object_set_new(object, "later", json_integer((json_int_t)l->wait.later));
	return job_end(job, object);
}

void
control_tls_reports_start(struct control_job *job)
{
	struct listing *l = xcalloc(1, sizeof(*l));

	l->job = job;
	job->state = l;
	job->free_state = listing_free;
	job->step = job->request.command == CONTROL_TLS_REPORTS ? list_step : send_step;
}
