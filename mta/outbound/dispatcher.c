/*
 * dispatcher: see dispatcher.h; dispatcher_private.h says which file does what. Here: arrivals,
 * time, reload, the end. Home loop only.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/dispatcher_private.h"
#include "mta/reactor/returns.h"
#include "mta/outbound/explain/tls_check.h"

enum { DESCRIPTORS_LEAST = 64 };	/* store, log, resolvers, listeners, standard ones */

uint32_t
chance(void)
{
	uint32_t r = 0;

	if (getrandom(&r, sizeof(r), 0) < 0)
		r = (uint32_t)mono_ms();
	return r;
}

/* ---- work, at the end of a turn ----------------------------------------------------------- */

static void
work_sites(struct letter *letter)
{
	struct dispatcher *d = CONTAINER_OF(letter, struct dispatcher, work_letter);
	struct site *site;

	d->work_posted = false;
	while (d->connections < d->max_connections &&
	       (site = site_next_for_slot(d)) != NULL) {
		/* it goes to the end of them if it still wants for more */
		site_leave_slots(site);
		site_work(site);
	}
	while (!list_empty(&d->dirty)) {
		site = CONTAINER_OF(d->dirty.next, struct site, work_node);
		list_remove(&site->work_node);
		if (site == d->unresolved)
			lanes_resolve(d);
		else
			site_work(site);
	}
	if (d->taken_count > 0)
		queue_taken(d->home->port, d->taken, d->taken_count);
	d->taken_count = 0;
	dispatcher_rearm(d);
}

void
dispatcher_touch(struct dispatcher *d)
{
	if (d->work_posted)
		return;
	d->work_posted = true;
	d->work_letter.open = work_sites;
	post_send(d->home->post, d->home->post, &d->work_letter);
}

void
site_touch(struct site *site)
{
	if (!list_linked(&site->work_node))
		list_add_last(&site->owner->dirty, &site->work_node);
	dispatcher_touch(site->owner);
}

void
dispatcher_touch_all(struct dispatcher *d)
{
	for (size_t i = 0; i < d->window.sites_by_key.size; i++)
		for (struct map_node *n = d->window.sites_by_key.buckets[i]; n != NULL; n = n->next)
			site_touch(CONTAINER_OF(n, struct site, by_key));
}

/* ---- arrivals ----------------------------------------------------------------------------- */

/*
 * It is told after its commit, when a refill may have met it already: what has been read stays
 * as it was read, or something that is settled by now would be tried again.
 */
static void
lane_arrival(struct dispatcher *d, struct lane *lane, const struct queue_arrival *a)
{
	struct parcel *parcel = window_parcel(&d->window, a->id);
	bool room = lane_room(lane) > 0 && lane->ready_count < LANE_READY_MAX;

	lane->touched = true;
	if (room && lane->more_due_ms == INT64_MAX && a->due_ms <= wall_ms() && !lane->leaving &&
	    !lane->stale && lane->site->mode != SITE_BACKOFF &&
	    !lane_has_passed(lane, a->id, a->recipient, a->due_ms) &&
	    (parcel == NULL || !parcel->locked)) {
		window_add_entry(&d->window, lane, a->id, a->recipient, a->due_ms);
		site_touch(lane->site);
		return;
	}
	lane_missed(lane, a->id, a->recipient, a->due_ms);
	if (lane->ready_count < LANE_READY_LOW)
		heap_set(&d->window.timers, &lane->timer, lane->more_due_ms);
	dispatcher_touch(d);
}

static void
arrival(struct dispatcher *d, const struct queue_arrival *a)
{
	struct lane *lane = window_lane(&d->window, a->lane);
	struct site *site;

	if (lane != NULL) {
		lane_arrival(d, lane, a);
		return;
	}
	site = window_site(&d->window, a->site);
	if (site == NULL)
		site = site_load_for(d, a->site, a->lane);	/* reads its lanes, this one too */
	if (site == NULL || site->mode == SITE_BACKOFF)
		return;
	if (a->due_ms > wall_ms())
		site_timer_by(site, a->due_ms);
	else if (!lane_load(site, a->lane))
		site_timer_by(site, wall_ms() + 1000);
	site_touch(site);
	site_settle_down(site);			/* it may be gone after it */
}

void
lane_read_again(struct lane *lane)
{
	lane->cursor = (struct queue_entry){ 0 };
	lane->more_due_ms = 0;
	lane->touched = true;			/* should it be about to leave, it stays */
	heap_set(&lane->owner->window.timers, &lane->timer, wall_ms());
}

/* Lanes of theirs that are not in memory, too. */
static void
read_sites_again(struct dispatcher *d)
{
	for (size_t i = 0; i < d->window.sites_by_key.size; i++)
		for (struct map_node *n = d->window.sites_by_key.buckets[i]; n != NULL; n = n->next)
			site_timer_by(CONTAINER_OF(n, struct site, by_key), wall_ms());
	dispatcher_wake_at(d, wall_ms());
}

void
dispatcher_read_again(struct dispatcher *d)
{
	for (size_t i = 0; i < d->window.lanes.size; i++)
		for (struct map_node *n = d->window.lanes.buckets[i]; n != NULL; n = n->next)
			lane_read_again(CONTAINER_OF(n, struct lane, node));
	read_sites_again(d);
}

static void
on_arrivals(void *arg, const struct queue_arrival *arrivals, size_t count, bool overflow)
{
	struct dispatcher *d = arg;

	if (d->stopping)
		return;
	if (overflow)
		dispatcher_read_again(d);
	for (size_t i = 0; i < count; i++)
		arrival(d, &arrivals[i]);
}

/* ---- time --------------------------------------------------------------------------------- */

void
dispatcher_wake_at(struct dispatcher *d, int64_t at)
{
	if (at < d->wake_at_ms)
		d->wake_at_ms = at;
	dispatcher_touch(d);
}

void
site_timer_by(struct site *site, int64_t at)
{
	if (heap_holds(&site->timer) && site->timer.at_ms <= at)
		return;
	heap_set(&site->owner->window.site_timers, &site->timer, at);
	dispatcher_touch(site->owner);
}

/* A jump of the wall clock: nothing expires until every site has had time for a probe. */
static void
watch_clock(struct dispatcher *d, int64_t now)
{
	int64_t mono = mono_ms();
	int64_t drift = (now - d->last_wall_ms) - (mono - d->last_mono_ms);

	if (drift > RECHECK_MS || drift < -RECHECK_MS) {
		log_message(LOG_WARNING, "clock-jump", "the wall clock jumped by %lld s",
			    (long long)(drift / 1000));
		d->calm_since_ms = mono;
		shaping_ask_again(d->shaping);
		d->wake_at_ms = now;
	}
	if (drift < -RECHECK_MS)
		set_back_begin(d);
	d->last_wall_ms = now;
	d->last_mono_ms = mono;
}

static void
site_on_timer(struct site *site, int64_t now)
{
	if (site->unsaved)
		site_save(site, site->mode == SITE_BACKOFF ? site->state.backoff.next_ms : now);
	if (site->mode != SITE_BACKOFF)
		site_load_lanes(site);
	else if (site->state.backoff.next_ms <= now)
		site_probe_now(site);
	else
		site_timer_by(site, site->state.backoff.next_ms);
	site_touch(site);
	site_settle_down(site);
}

static void
on_timer(uv_timer_t *timer)
{
	struct dispatcher *d = timer->data;
	struct heap_node *node;
	int64_t now = wall_ms();

	if (d->stopping)
		return;
	watch_clock(d, now);
	while ((node = heap_first(&d->window.timers)) != NULL && node->at_ms <= now) {
		heap_remove(&d->window.timers, node);
		lane_on_timer(CONTAINER_OF(node, struct lane, timer));
	}
	while ((node = heap_first(&d->window.site_timers)) != NULL && node->at_ms <= now) {
		struct site *site = CONTAINER_OF(node, struct site, timer);

		heap_remove(&d->window.site_timers, node);
		site_on_timer(site, now);
	}
	shaping_on_timer(d->shaping, now);
	if (d->wake_at_ms <= now)
		wakes_scan(d, now);
	wakes_pass(d, now);
	set_back_go(d);
	dispatcher_touch(d);
}

void
dispatcher_rearm(struct dispatcher *d)
{
	int64_t now = wall_ms(), at = wakes_next_ms(d);
	struct heap_node *lane = heap_first(&d->window.timers),
			 *site = heap_first(&d->window.site_timers);

	if (shaping_next_ms(d->shaping) < at)
		at = shaping_next_ms(d->shaping);
	if (lane != NULL && lane->at_ms < at)
		at = lane->at_ms;
	if (site != NULL && site->at_ms < at)
		at = site->at_ms;
	at = at < now || set_back_wants(d) ? 0 : at - now < RECHECK_MS ? at - now : RECHECK_MS;
	if (!d->stopping)
		uv_timer_start(&d->timer, on_timer, (uint64_t)at, 0);
}

/* ---- reload ------------------------------------------------------------------------------- */

/*
 * Half of the descriptors at most: the gate leaves that much (see set_max_sessions() there), and a
 * connection that cannot be made for want of one would be held against the other side.
 */
static void
set_max_connections(struct dispatcher *d)
{
	size_t wanted = config_of(d)->limits.deliveries, have = DESCRIPTORS_LEAST;
	struct rlimit rl = { 0 };

	getrlimit(RLIMIT_NOFILE, &rl);
	if (rl.rlim_cur > 2 * DESCRIPTORS_LEAST)
		have = (size_t)(rl.rlim_cur > 1000000 ? 1000000 : rl.rlim_cur) - DESCRIPTORS_LEAST;
	d->max_connections = wanted < have / 2 ? wanted : have / 2;
	if (d->max_connections < wanted)
		log_message(LOG_WARNING, "descriptors",
			    "the limit of open files allows %zu deliveries, not %zu: raise "
			    "LimitNOFILE",
			    d->max_connections, wanted);
}

static uint32_t
weight_of(void *dispatcher, struct span tenant)
{
	struct dispatcher *d = dispatcher;

	return tenant_weight(&config_of(d)->tenants, tenant);
}

/* Nothing more goes the old way: it is forgotten as soon as what is in flight has landed. */
static void
lane_outdated(struct dispatcher *d, struct lane *lane)
{
	lane->stale = true;
	lane->looks_again = false;
	window_drop_ready(&d->window, lane);
	lane_look_cancel(lane);
}

/* Lanes are forgotten and read again, so that each is judged by the new routes. */
void
dispatcher_reconfigure(struct dispatcher *d)
{
	const struct limits *limits = &config_of(d)->limits;
	struct list_of_lanes { struct lane **at; size_t count; } idle = { 0 };

	d->window.max_entries = limits->window_entries;
	d->window.max_sites = limits->window_sites;
	set_max_connections(d);
	idle.at = xcalloc(d->window.lanes.count + 1, sizeof(struct lane *));
	for (size_t i = 0; i < d->window.lanes.size; i++)
		for (struct map_node *n = d->window.lanes.buckets[i]; n != NULL; n = n->next) {
			struct lane *lane = CONTAINER_OF(n, struct lane, node);

			lane_outdated(d, lane);
			if (lane_idle(lane))
				idle.at[idle.count++] = lane;
		}
	window_weigh(&d->window);
	for (size_t i = 0; i < idle.count; i++)
		window_drop_lane(&d->window, idle.at[i]);
	free(idle.at);
	trust_reconfigure(d->trust);
	tokens_forget(d->tokens);
	shaping_reconfigure(d->shaping);
	sources_reconfigure(d);
	read_sites_again(d);
}

static void
on_trust(void *arg)
{
	struct dispatcher *d = arg;

	if (!d->stopping)
		dispatcher_touch_all(d);
}

static void
on_tls_reports_rest(void *arg)
{
	dispatcher_check_stopped(arg);
}

/* ---- life --------------------------------------------------------------------------------- */

struct dispatcher *
dispatcher_start(struct reactor *home)
{
	struct dispatcher *d = xcalloc(1, sizeof(*d));
	const struct limits *limits = &home->config->limits;

	d->home = home;
	d->reactors = home;		/* the first of an array of all */
	d->reactor_count = home->post->peers;
	d->window.max_entries = limits->window_entries;
	d->window.max_sites = limits->window_sites;
	d->window.weight = weight_of;
	d->window.arg = d;
	set_max_connections(d);
	list_init(&d->dirty);
	d->slots.alike = true;
	list_init(&d->idle);
	list_init(&d->checks);
	d->unresolved = window_add_site(&d->window, 0, SPAN(""));
	d->unresolved->owner = d;
	d->unresolved->mode = SITE_LOOKUP;
	d->started_ms = d->last_wall_ms = wall_ms();
	d->last_mono_ms = d->calm_since_ms = mono_ms();
	uv_timer_init(&home->loop, &d->timer);
	d->timer.data = d;
	queue_port_subscribe(home->port, on_arrivals, d);
	d->trust = trust_start(home, on_trust, d);
	d->policies = policies_start(home, lanes_policy_changed, d);
	d->tokens = tokens_start(&home->loop, home->post, home->runner);
	d->shaping = shaping_start(d);
	d->sources = sources_start(d);
	d->measures = measures_start(d);
	d->reporter = reporter_start(d);
	d->tls_reports = tls_reports_start(home, d->policies, on_tls_reports_rest, d);
	if (home->returns != NULL)		/* in a simulation nothing comes back */
		returns_watch(home->returns, settlement_returned, d);
	d->wake_at_ms = d->started_ms;
	set_back_start(d);
	uv_timer_start(&d->timer, on_timer, 0, 0);
	return d;
}

static bool
has_landed(const struct dispatcher *d)
{
	return d->stopping && d->connections == 0 && d->settling == 0 && d->flying == 0 &&
	       d->checking == 0 && !reporter_busy(d->reporter);
}

bool
dispatcher_still(const struct dispatcher *d)
{
	return has_landed(d) && !tls_reports_busy(d->tls_reports) && !sources_busy(d->sources);
}

/* What the last deliveries counted is written before it is over. */
void
dispatcher_check_stopped(struct dispatcher *d)
{
	void (*stopped)(void *) = d->stopped;

	if (stopped == NULL || !has_landed(d))
		return;
	shaping_stop(d->shaping);
	if (!has_landed(d))
		return;
	tls_reports_stop(d->tls_reports);
	sources_stop(d->sources);
	stopped = d->stopped;		/* it may have come back here, and be over */
	if (stopped == NULL || !dispatcher_still(d))
		return;
	d->stopped = NULL;
	stopped(d->stopped_arg);
}

void
dispatcher_stop(struct dispatcher *d, void (*stopped)(void *arg), void *arg)
{
	bool again = d->stopping;

	d->stopping = true;
	d->giving_up = again;
	d->stopped = stopped;
	d->stopped_arg = arg;
	reporter_stop(d->reporter);
	measures_stop(d->measures);
	tls_checks_stop(d);
	uv_timer_stop(&d->timer);
	connections_quit(d, again);		/* the second time: at once */
	dispatcher_check_stopped(d);
}

struct tls_reports *
dispatcher_tls_reports(struct dispatcher *d)
{
	return d->tls_reports;
}

bool
dispatcher_idle(const struct dispatcher *d)
{
	return d->flying == 0 && d->window.entries == 0 && d->lookups == 0 && d->settling == 0 &&
	       !reporter_busy(d->reporter);
}

static void
free_window(struct dispatcher *d)
{
	struct map_node *node;

	while ((node = map_any(&d->window.lanes)) != NULL) {
		struct lane *lane = CONTAINER_OF(node, struct lane, node);

		lane_look_cancel(lane);
		lane->changing = false;
		window_drop_lane(&d->window, lane);
	}
	while ((node = map_any(&d->window.sites_by_key)) != NULL) {
		struct site *site = CONTAINER_OF(node, struct site, by_key);

		site->changing = false;
		site_leave_slots(site);
		window_drop_site(&d->window, site);
	}
	/* locked by edits that never went */
	while ((node = map_any(&d->window.parcels)) != NULL) {
		map_remove(&d->window.parcels, node);
		free(CONTAINER_OF(node, struct parcel, node));
	}
	map_free(&d->window.parcels);
	map_free(&d->window.lanes);
	map_free(&d->window.sites_by_id);
	map_free(&d->window.sites_by_key);
	ring_free(&d->slots);
	map_free(&d->window.shares);
	heap_free(&d->window.timers);
	heap_free(&d->window.site_timers);
}

/*
 * Before the resolver closes: look-ups are cancelled here. The handles close with the loop's
 * next turn.
 */
void
dispatcher_close(struct dispatcher *d)
{
	uv_close((uv_handle_t *)&d->timer, NULL);
	trust_close(d->trust);
	tokens_close(d->tokens);
	reporter_close(d->reporter);
	sources_close(d->sources);
	measures_close(d->measures);
	tls_reports_close(d->tls_reports);
	free_window(d);
	policies_close(d->policies);
}

void
dispatcher_free(struct dispatcher *d)
{
	trust_free(d->trust);
	policies_free(d->policies);
	tokens_free(d->tokens);
	reporter_free(d->reporter);
	sources_free(d->sources);
	measures_free(d->measures);
	tls_reports_free(d->tls_reports);
	shaping_free(d->shaping);
	set_back_free(d);
	top_free(d);
	free(d->taken);
	free(d);
}
