/*
 * check: tls-check and what-if, what a delivery would meet; dns-records, what to publish. Home
 * loop.
 */
#include <stdlib.h>

#include "mta/control/job.h"
#include "mta/outbound/explain/what_if.h"

static void
check_free_state(struct control_job *job)
{
	tls_check_release(job->state);
}

static void
on_more(void *arg)
{
	struct control_job *job = arg;

	if (job->waits)			/* it may have been woken already */
		job_wake(job);
}

static enum job_next
check_step(struct control_job *job)
{
	struct tls_check *check = job->state;
	json_t *row, *object;

	while ((row = tls_check_next(check)) != NULL)
		job_row(job, row);
	if (!tls_check_over(check))
		return JOB_WAITS;
	object = json_object();
	json_object_set_new(object, "good", json_boolean(tls_check_good(check)));
	return job_end(job, object);
}

enum job_next
control_follow_what_if(struct control_job *job, const struct what_if_message *message)
{
	const char *error = "";

	job->state = what_if_start(job_home(job)->dispatcher, message, on_more, job, &error);
	if (job->state == NULL)
		return job_fail(job, error, "See: tramctl what-if --help");
	job->free_state = check_free_state;
	job->step = check_step;
	return JOB_MORE;
}

static enum job_next
start_step(struct control_job *job)
{
	const struct control_request *r = &job->request;
	const char *error = "";

	if (r->command == CONTROL_DNS_RECORDS ? r->domain.len == 0 || r->host.len > 0 :
						(r->domain.len > 0) == (r->host.len > 0))
		return job_fail(job, "A domain must be named (or, for tls-check, a host).",
				"See: tramctl tls-check --help");
	if (r->command == CONTROL_DNS_RECORDS)
		job->state = dns_check_start(job_home(job)->dispatcher, r->domain, on_more, job,
					     &error);
	else
		job->state = tls_check_start(job_home(job)->dispatcher, r->domain, r->host,
					     on_more, job, &error);
	if (job->state == NULL)
		return job_fail(job, error, "As in: tramctl tls-check example.org, or "
					    "tramctl tls-check --host mx.example.org:25");
	job->free_state = check_free_state;
	job->step = check_step;
	return JOB_MORE;
}

void
control_check_start(struct control_job *job)
{
	job->step = start_step;
}
