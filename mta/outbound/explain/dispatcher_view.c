/*
 * dispatcher_view: what the operator sees of the dispatcher: sites and counters. Why a lane does
 * not go stands in holds.c. Home loop only.
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/dispatcher_private.h"
#include "mta/delivery/outcome.h"

static const char *
mode_name(enum site_mode mode)
{
	static const char *const names[] = { "open", "probing", "back-off", "lookup" };

	return names[mode];
}

const char *
dispatcher_site_state(struct dispatcher *d, uint64_t id)
{
	const struct site *site = window_site(&d->window, id);

	return site != NULL ? mode_name(site->mode) : NULL;
}

static json_t *
json_span(struct span s)
{
	json_t *j = json_stringn(s.at ? s.at : "", s.len);

	return j ? j : json_string("?");		/* not UTF-8 */
}

/* That all its connections are busy holds nothing where nothing is ready. */
static json_t *
holds_of_site(struct site *site)
{
	struct hold_reasons why = { 0 };
	struct arena arena = { 0 };
	json_t *array = json_array();

	site_held_by(site, &arena, &why);
	for (size_t i = 0; i < why.count; i++)
		if (site->ready_count > 0 || why.list[i].kind < HOLD_CONNECTIONS)
			json_array_append_new(array, hold_json(&why.list[i]));
	arena_free(&arena);
	return array;
}

json_t *
dispatcher_site_json(struct site *site)
{
	json_t *j = json_object();
	size_t busy = 0;

	LIST_EACH(struct connection, c, &site->connections, in_site)
		busy += c->outstanding > 0;
	json_object_set_new(
		j, "key", site->key.len ? json_span(site->key) : json_string("(being looked up)"));
	json_object_set_new(j, "id", json_integer((json_int_t)site->id));
	json_object_set_new(j, "state", json_string(
		site_suspended_until(site) > 0 ? "suspended"
		: site->mode == SITE_BACKOFF && site->state.backoff.failures == 0
			? "limited" : mode_name(site->mode)));
	json_object_set_new(j, "connections", json_integer((json_int_t)site->connection_count));
	json_object_set_new(j, "busy", json_integer((json_int_t)busy));
	json_object_set_new(j, "limit", json_integer((json_int_t)site->limit));
	json_object_set_new(j, "lanes", json_integer((json_int_t)site->lane_count));
	json_object_set_new(j, "ready", json_integer((json_int_t)site->ready_count));
	json_object_set_new(j, "in_flight", json_integer((json_int_t)site->in_flight));
	json_object_set_new(j, "failures", json_integer(site->state.backoff.failures));
	if (site->state.backoff.failures > 0) {
		json_object_set_new(j, "next_ms", json_integer(site->state.backoff.next_ms));
		json_object_set_new(j, "last_error", json_span(site->state.backoff.text));
	}
	json_object_set_new(j, "classes", outcome_counts_json(site->classes));
	if (shaping_provider(site).len > 0)
		json_object_set_new(j, "provider", json_span(shaping_provider(site)));
	json_object_set_new(j, "limits", shaping_site_json(site));
	json_object_set_new(j, "sources", sources_at_json(site));
	json_object_set_new(j, "held_by", holds_of_site(site));
	return j;
}

void
dispatcher_add_asleep_site(struct dispatcher *d, uint64_t id, json_t *all)
{
	struct arena arena = { 0 };
	struct hold_reasons why = { 0 };
	struct site_record record;
	json_t *j = json_object();

	if (queue_read_site(d->home->port, id, &arena, &record) == 0) {
		site_record_held_by(d, &record, &arena, &why);
		json_object_set_new(j, "key", json_span(record.key));
		json_object_set_new(j, "id", json_integer((json_int_t)id));
		json_object_set_new(j, "state", json_string(site_record_state(&record, &why)));
		json_object_set_new(j, "lanes", json_integer((json_int_t)record.lanes));
		json_object_set_new(j, "failures", json_integer(record.state.backoff.failures));
		json_object_set_new(j, "next_ms", json_integer(record.wake_ms));
		if (record.state.backoff.failures > 0)
			json_object_set_new(j, "last_error", json_span(record.state.backoff.text));
		json_object_set_new(j, "held_by", holds_json(&why));
		json_array_append_new(all, j);
	} else {
		json_decref(j);
	}
	arena_free(&arena);
}

json_t *
dispatcher_sites_json(struct dispatcher *d)
{
	json_t *all = json_array();
	struct queue_wake page[PAGE], after = { 0 };
	size_t n = 0;

	for (size_t i = 0; i < d->window.sites_by_key.size; i++)
		for (struct map_node *m = d->window.sites_by_key.buckets[i]; m != NULL;
		     m = m->next) {
			struct site *site = CONTAINER_OF(m, struct site, by_key);

			if (site != d->unresolved || site->lane_count > 0)
				json_array_append_new(all, dispatcher_site_json(site));
		}
	if (queue_read_wakes(d->home->port, &after, INT64_MAX, page, PAGE, &n) < 0)
		n = 0;				/* of those asleep the first page: soonest first */
	for (size_t i = 0; i < n; i++)
		if (page[i].site != 0 && window_site(&d->window, page[i].site) == NULL)
			dispatcher_add_asleep_site(d, page[i].site, all);
	return all;
}

json_t *
dispatcher_one_site_json(struct dispatcher *d, uint64_t id)
{
	struct site *site = window_site(&d->window, id);
	json_t *all = json_array();

	if (site != NULL)
		json_array_append_new(all, dispatcher_site_json(site));
	else
		dispatcher_add_asleep_site(d, id, all);
	return all;
}

/*
 * The back-off is taken back in the store, so that whoever loads the site finds it open for a
 * probe.
 */
struct site_retry {
	struct queue_site_change change;
	struct dispatcher *owner;
	struct arena arena;
};

static void
on_site_retried(struct queue_op *op)
{
	struct site_retry *r = CONTAINER_OF(op, struct site_retry, change.op);
	struct dispatcher *d = r->owner;
	struct site *site;

	d->settling--;
	site = d->stopping ? NULL : site_load(d, r->change.site);
	if (site != NULL)
		site_settle_down(site);		/* nothing of it may be due */
	arena_free(&r->arena);
	free(r);
	dispatcher_touch(d);
	dispatcher_check_stopped(d);
}

static void
retry_stored(struct dispatcher *d, uint64_t id, bool forget)
{
	struct site_retry *r = xcalloc(1, sizeof(*r));
	struct site_record record;

	if (queue_read_site(d->home->port, id, &r->arena, &record) < 0) {
		arena_free(&r->arena);
		free(r);
		return;
	}
	r->owner = d;
	r->change.op.done = on_site_retried;
	r->change.site = id;
	r->change.state = record.state;
	if (forget) {
		r->change.state.backoff = (struct backoff){ 0 };
		r->change.state.concurrency = 0;
	}
	r->change.state.backoff.next_ms = wall_ms();
	r->change.wake_ms = wall_ms();
	d->settling++;
	queue_submit_site(d->home->port, &r->change);
}

void
site_retry_stored(struct dispatcher *d, uint64_t id)
{
	retry_stored(d, id, false);
}

void
dispatcher_retry_asleep(struct dispatcher *d,
			bool (*which)(struct dispatcher *d, struct span key, struct span arg),
			struct span arg, bool forget)
{
	struct queue_wake page[PAGE], after = { 0 };
	size_t n = 0;

	do {
		if (queue_read_wakes(d->home->port, &after, INT64_MAX, page, PAGE, &n) < 0)
			return;
		for (size_t i = 0; i < n; i++) {
			struct arena arena = { 0 };
			struct site_record record;

			after = page[i];
			if (page[i].site != 0 && window_site(&d->window, page[i].site) == NULL &&
			    queue_read_site(d->home->port, page[i].site, &arena, &record) == 0 &&
			    which(d, record.key, arg))
				retry_stored(d, page[i].site, forget);
			arena_free(&arena);
		}
	} while (n == PAGE);
}

static void
retry_one(struct dispatcher *d, uint64_t id)
{
	struct site *site = window_site(&d->window, id);

	if (site == NULL)
		site_retry_stored(d, id);
	else if (site->mode == SITE_BACKOFF) {
		site_probe_now(site);
		site_settle_down(site);
	}
}

void
dispatcher_retry_site(struct dispatcher *d, uint64_t id)
{
	struct queue_wake page[PAGE], after = { 0 };
	size_t n = 0;

	if (id != 0) {
		retry_one(d, id);
		return;
	}
	do {
		if (queue_read_wakes(d->home->port, &after, INT64_MAX, page, PAGE, &n) < 0)
			return;
		for (size_t i = 0; i < n; i++) {
			if (page[i].site != 0)
				retry_one(d, page[i].site);
			after = page[i];
		}
	} while (n == PAGE);
}

void
dispatcher_stats_json(struct dispatcher *d, json_t *into)
{
	const struct { const char *name; uint64_t value;
	} counters[] = {
		{ "delivered", d->delivered },
		{ "deferred", d->deferred },
		{ "failed", d->failed },
		{ "uncertain", d->uncertain },
		{ "discarded", d->discarded },
		{ "reports", d->reports },
		{ "connections_out", d->connections },
		{ "in_flight", d->flying },
		{ "lookups", d->lookups },
		{ "window_entries", d->window.entries },
		{ "window_lanes", d->window.lanes.count },
		{ "window_sites", d->window.sites - (d->unresolved != NULL) },	/* which is none */
		{ "stalled", d->stalled },
	};

	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		json_object_set_new(into, counters[i].name,
				    json_integer((json_int_t)counters[i].value));
	json_object_set_new(into, "classes", outcome_counts_json(d->classes));
}
