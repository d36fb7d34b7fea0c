/*
 * measures: what is done about sites for their replies, or by hand: list, suspend, resume, reset.
 * Home loop.
 */
#include <stdlib.h>

#include "mta/control/job.h"
#include "mta/outbound/dispatcher.h"

enum { SLICE = 200 };

struct telling {
	json_t *array;
	size_t at;
};

static enum job_next
list_step(struct control_job *job)
{
	struct telling *t = job->state;
	size_t count, until;

	if (t->array == NULL)
		t->array = dispatcher_measures_json(job_home(job)->dispatcher);
	count = json_array_size(t->array);
	if (job->request.limit > 0 && job->request.limit < count)
		count = (size_t)job->request.limit;
	until = t->at + SLICE < count ? t->at + SLICE : count;
	for (; t->at < until; t->at++)
		job_row(job, json_incref(json_array_get(t->array, t->at)));
	if (t->at < count)
		return JOB_MORE;
	return job_end(job, json_pack("{s:I}", "rows", (json_int_t)count));
}

static void
telling_free(struct control_job *job)
{
	struct telling *t = job->state;

	json_decref(t->array);
	free(t);
}

static enum job_next
order_step(struct control_job *job)
{
	const struct control_request *r = &job->request;
	const struct dispatcher_order order = {
		.what = r->command == CONTROL_SITES_SUSPEND  ? MEASURE_BEGIN
			: r->command == CONTROL_SITES_RESUME ? MEASURE_RESUME
							     : MEASURE_RESET,
		.site = r->site, .source = r->source, .tenant = r->tenant, .reason = r->reason,
		.for_ms = (int64_t)r->for_ms,
	};
	const char *fault = dispatcher_measure(job_home(job)->dispatcher, &order);

	if (fault != NULL)
		return job_fail(job, fault,
				"See what holds: tramctl sites measures; and sites by their keys: "
				"tramctl sites");
	return job_end(job, NULL);
}

void
control_measures_start(struct control_job *job)
{
	if (job->request.command != CONTROL_SITES_MEASURES) {
		job->step = order_step;
		return;
	}
	job->state = xcalloc(1, sizeof(struct telling));
	job->free_state = telling_free;
	job->step = list_step;
}
