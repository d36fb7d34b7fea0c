/*
 * state: sites, top, sessions, certificates, bans, stats, reload, stop: what is not about messages.
 * Home loop.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/control/job.h"
#include "mta/outbound/dispatcher.h"
#include "mta/outbound/explain/hold_reason.h"
#include "mta/reactor/suppressed.h"

enum { TOP_USUALLY = 40 };

/* ---- rows of an array --------------------------------------------------------------------- */

struct rows {
	struct control_sessions sessions;
	struct control_job *job;
	json_t *array;			/* what is in memory */
	size_t at;
	uint64_t told;
	uint64_t *known;		/* sites in memory, sorted: not told again from the store */
	size_t known_count;
	struct queue_wake after;
};

static void
rows_free(struct control_job *job)
{
	struct rows *r = job->state;

	json_decref(r->array);
	free(r->known);
	free(r);
}

static enum job_next
rows_end(struct control_job *job, const struct rows *r)
{
	json_t *object = json_object();

	json_object_set_new(object, "rows", json_integer((json_int_t)r->told));
	return job_end(job, object);
}

static bool
rows_full(const struct rows *r)
{
	return r->job->request.limit > 0 && r->told >= r->job->request.limit;
}

/* A slice of the array; true: it is through. */
static bool
rows_slice(struct rows *r)
{
	for (size_t n = 0; n < JOB_SLICE && r->at < json_array_size(r->array) && !rows_full(r);
	     n++) {
		job_row(r->job, json_incref(json_array_get(r->array, r->at++)));
		r->told++;
	}
	return r->at == json_array_size(r->array) || rows_full(r);
}

static struct rows *
rows_new(struct control_job *job)
{
	struct rows *r = xcalloc(1, sizeof(*r));

	r->job = job;
	job->state = r;
	job->free_state = rows_free;
	return r;
}

/* ---- sessions ----------------------------------------------------------------------------- */

static void
on_sessions(struct control_sessions *request, json_t *array)
{
	struct rows *r = CONTAINER_OF(request, struct rows, sessions);

	r->array = array;
	job_wake(r->job);
}

static enum job_next
sessions_step(struct control_job *job)
{
	struct rows *r = job->state;

	if (r->array == NULL) {
		r->sessions.done = on_sessions;
		job_owner(job)->sessions(job_owner(job)->arg, &r->sessions);
		return JOB_WAITS;
	}
	return rows_slice(r) ? rows_end(job, r) : JOB_MORE;
}

/* ---- certificates ------------------------------------------------------------------------- */

static enum job_next
sources_step(struct control_job *job)
{
	struct rows *r = job->state;

	if (r->array == NULL)
		r->array = dispatcher_sources_json(job_home(job)->dispatcher);
	return rows_slice(r) ? rows_end(job, r) : JOB_MORE;
}

static enum job_next
certs_step(struct control_job *job)
{
	struct rows *r = job->state;

	if (r->array == NULL) {
		r->array = json_array();
		job_owner(job)->certificates(job_owner(job)->arg, r->array);
	}
	return rows_slice(r) ? rows_end(job, r) : JOB_MORE;
}

/* ---- bans --------------------------------------------------------------------------------- */

static enum job_next
bans_step(struct control_job *job)
{
	struct rows *r = job->state;

	if (r->array == NULL) {
		r->array = json_array();
		job_owner(job)->bans(job_owner(job)->arg, r->array);
	}
	return rows_slice(r) ? rows_end(job, r) : JOB_MORE;
}

static enum job_next
pardon_step(struct control_job *job)
{
	struct netaddr address;

	if (!netaddr_parse(job->request.client, 0, &address))
		return job_fail(job, "That is not an IP address.", "See them in: tramctl bans");
	if (!job_owner(job)->pardon(job_owner(job)->arg, &address))
		return job_fail(job, "No login from there has failed lately.",
				"Those that are banned are in: tramctl bans");
	return job_end(job, NULL);
}

/* ---- sites -------------------------------------------------------------------------------- */

static int
by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void
learn_known(struct rows *r)
{
	size_t i;
	json_t *site;

	r->known_count = json_array_size(r->array);
	r->known = xcalloc(r->known_count + 1, sizeof(*r->known));
	json_array_foreach(r->array, i, site)
		r->known[i] = (uint64_t)json_i64(site, "id");
	qsort(r->known, r->known_count, sizeof(*r->known), by_number);
}

static void
tell_asleep(struct rows *r, const struct queue_wake *wake)
{
	struct control_job *job = r->job;
	struct arena scratch = { 0 };
	struct hold_reasons why = { 0 };
	struct site_record site;
	json_t *object;

	if (bsearch(&wake->site, r->known, r->known_count, sizeof(*r->known), by_number) != NULL ||
	    queue_read_site(job_home(job)->port, wake->site, &scratch, &site) < 0) {
		arena_free(&scratch);
		return;
	}
	site_record_held_by(job_home(job)->dispatcher, &site, &scratch, &why);
	object = json_object();
	json_object_set_new(object, "key", json_text(site.key));
	json_object_set_new(object, "id", json_integer((json_int_t)wake->site));
	json_object_set_new(object, "state", json_string(site_record_state(&site, &why)));
	json_object_set_new(object, "lanes", json_integer((json_int_t)site.lanes));
	json_object_set_new(object, "failures", json_integer(site.state.backoff.failures));
	json_object_set_new(object, "next_ms", json_integer(wake->at_ms));
	if (site.state.backoff.text.len > 0)
		json_object_set_new(object, "last_error", json_text(site.state.backoff.text));
	json_object_set_new(object, "held_by", holds_json(&why));
	job_row(job, object);
	r->told++;
	arena_free(&scratch);
}

static enum job_next
asleep_step(struct control_job *job)
{
	struct queue_wake page[128];
	struct rows *r = job->state;
	size_t count = 0;
	int rc = queue_read_wakes(job_home(job)->port, &r->after, INT64_MAX, page, 128, &count);

	if (rc < 0)
		return job_fail_errno(job, rc);
	for (size_t i = 0; i < count && !rows_full(r); i++)
		if (page[i].site != 0) /* 0 is no next hop: lanes whose next hop is not known yet */
			tell_asleep(r, &page[i]);
	if (count < 128 || rows_full(r))
		return rows_end(job, r);
	r->after = page[count - 1];
	return JOB_MORE;
}

static enum job_next
one_site_step(struct control_job *job)
{
	struct rows *r = job->state;
	uint64_t id = 0;

	if (queue_find_site(job_home(job)->port, job->request.site, &id) < 0)
		return job_fail(job, "There is no site with that key.",
				"See its key in: tramctl sites");
	r->array = dispatcher_one_site_json(job_home(job)->dispatcher, id);
	rows_slice(r);
	return rows_end(job, r);
}

static enum job_next
sites_step(struct control_job *job)
{
	struct rows *r = job->state;

	if (job->request.site.len > 0)
		return one_site_step(job);
	if (r->array == NULL) {
		r->array = dispatcher_sites_json(job_home(job)->dispatcher);
		learn_known(r);
	}
	if (rows_slice(r))
		job->step = asleep_step;
	return JOB_MORE;
}

static enum job_next
retry_step(struct control_job *job)
{
	struct reactor *home = job_home(job);
	uint64_t site = 0;

	if (!job->request.all && queue_find_site(home->port, job->request.site, &site) < 0)
		return job_fail(job, "There is no site with that key.",
				"See its key in: tramctl sites");
	dispatcher_retry_site(home->dispatcher, site);
	return job_end(job, NULL);
}

/* ---- top ---------------------------------------------------------------------------------- */

static json_t *whole(struct control_job *job);

static enum job_next
top_step(struct control_job *job)
{
	struct rows *r = job->state;
	uint64_t most = job->request.limit > 0 ? job->request.limit : TOP_USUALLY;
	enum top_sort sort = TOP_RATE;

	if (r->array == NULL) {
		if (job->request.sort.len > 0 && !top_sort_parse(job->request.sort, &sort))
			return job_fail(
				job, "That is nothing to sort by.",
				"Sort by rate, waiting, in-flight, connections or failures.");
		r->array = dispatcher_top_json(job_home(job)->dispatcher, sort,
					       most < TOP_MOST ? (size_t)most : TOP_MOST,
					       job->request.tenants);
	}
	return rows_slice(r) ? job_end(job, whole(job)) : JOB_MORE;
}

/* ---- the daemon as a whole ---------------------------------------------------------------- */

static void
set(json_t *object, const char *key, uint64_t n)
{
	json_object_set_new(object, key, json_integer((json_int_t)n));
}

static json_t *
whole(struct control_job *job)
{
	struct reactor *home = job_home(job);
	struct queue_facts facts;
	json_t *object = json_object();

	queue_facts(home->queue, &facts);
	set(object, "queue_messages", facts.messages);
	set(object, "queue_octets", facts.live_bytes);
	set(object, "queue_max_octets", facts.max_size);
	set(object, "queue_disk_free", facts.disk_free);
	set(object, "queue_commits", facts.commits);
	set(object, "queue_operations", facts.operations);
	set(object, "queue_last_commit_us", (uint64_t)facts.last_commit_us);
	set(object, "queue_in_doubt", facts.in_doubt);
	json_object_set_new(object, "queue_clean_start", json_boolean(facts.clean_start));
	set(object, "suppressed", suppressed_count(home->suppressed));
	dispatcher_stats_json(home->dispatcher, object);
	job_owner(job)->stats(job_owner(job)->arg, object);
	json_object_set_new(object, "draining", json_boolean(*job_draining(job)));
	json_object_set_new(object, "at_ms", json_integer(mono_ms()));
	return object;
}

static enum job_next
stats_step(struct control_job *job)
{
	return job_end(job, whole(job));
}

/* Lines become parts of one sentence. */
static const char *
one_line(struct control_job *job, struct span text)
{
	struct buf line = { 0 };
	const char *ret;

	while (text.len > 0) {
		buf_append(&line, span_cut(&text, '\n'));
		if (text.len > 0)
			buf_append(&line, SPAN("; "));
	}
	ret = arena_str(&job->arena, buf_span(&line));
	buf_free(&line);
	return ret;
}

static enum job_next
reload_step(struct control_job *job)
{
	struct buf message = { 0 };
	int rc = job_owner(job)->reload(job_owner(job)->arg, &message);
	const char *text = one_line(job, buf_span(&message));
	json_t *object;

	buf_free(&message);
	if (rc < 0)
		return job_fail(job, text[0] != '\0' ? text : strerror(-rc),
				"Nothing has changed. Mend the file; `tramd -n` checks it.");
	object = json_object();
	json_object_set_new(object, "message", json_text(span_str(text)));
	return job_end(job, object);
}

static enum job_next
stop_now(struct control_job *job)
{
	job_owner(job)->stop(job_owner(job)->arg);
	return job_end(job, NULL);
}

/* The line goes out before anything is stopped. */
static enum job_next
stop_step(struct control_job *job)
{
	json_t *object = json_object();

	json_object_set_new(object, "stopping", json_true());
	job_row(job, object);
	job->step = stop_now;
	return JOB_MORE;
}

void
control_state_start(struct control_job *job)
{
	switch (job->request.command) {
	case CONTROL_SITES:
		rows_new(job);
		job->step = sites_step;
		break;
	case CONTROL_SITES_RETRY:
		job->step = retry_step;
		break;
	case CONTROL_TOP:
		rows_new(job);
		job->step = top_step;
		break;
	case CONTROL_SESSIONS:
		rows_new(job);
		job->step = sessions_step;
		break;
	case CONTROL_CERTS:
		rows_new(job);
		job->step = certs_step;
		break;
	case CONTROL_SOURCES:
		rows_new(job);
		job->step = sources_step;
		break;
	case CONTROL_BANS:
		rows_new(job);
		job->step = bans_step;
		break;
	case CONTROL_PARDON:
		job->step = pardon_step;
		break;
	case CONTROL_RELOAD:
		job->step = reload_step;
		break;
	case CONTROL_STOP:
		job->step = stop_step;
		break;
	default:
		job->step = stats_step;
	}
}
