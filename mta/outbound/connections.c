/*
 * connections: the deliveries that jobs go over. Home loop only.
 *
 * How many connections a site gets, and when it is left alone: backoff.c.
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/shaping/shaping_private.h"

/* ---- where a site is ---------------------------------------------------------------------- */

struct destination *
site_destination(struct site *site)
{
	if (site->to != NULL)
		return site->to;
	site->to = arena_alloc(&site->arena, sizeof(*site->to));
	destination_read(site->key, &site->arena, site->to);
	return site->to;
}

/*
 * The route by which mail gets there; of several routes to one site, the first in memory counts. A
 * stale lane's does not: it may lead elsewhere now, and its password is for there.
 */
static const struct route *
site_route(const struct site *site)
{
	LIST_EACH(struct lane, lane, &site->lanes, in_site)
		if (!lane->stale)
			return route_labelled(&config_of(site->owner)->access.routes, lane->domain,
					      lane->route);
	return NULL;
}

size_t
site_max_connections(const struct site *site)
{
	const struct route *route = site_route(site);
	size_t most = config_of(site->owner)->limits.connections_per_site;

	return route != NULL && route->connections > 0 ? route->connections : most;
}

static size_t
site_messages(struct site *site, struct span source)
{
	const struct route *route = site_route(site);
	size_t most = config_of(site->owner)->limits.messages_per_connection;
	size_t shaped = shaping_messages_per_connection(site, source);

	if (route != NULL && route->messages_per_connection > 0)
		most = route->messages_per_connection;
	return shaped > 0 && shaped < most ? shaped : most;
}

/* ---- connections -------------------------------------------------------------------------- */

/* So that a crash knows what is in doubt; the queue is told at the end of the turn. */
static void
note_taken(struct dispatcher *d, uint64_t id)
{
	if (d->taken_count == d->taken_cap) {
		d->taken_cap = d->taken_cap ? d->taken_cap * 2 : 64;
		d->taken = xrealloc(d->taken, d->taken_cap * sizeof(*d->taken));
	}
	d->taken[d->taken_count++] = id;
}

static void
give(struct connection *c, struct job *job)
{
	note_taken(c->site->owner, job->id);
	job_entries_fly(job, job);
	source_gave(c->from, job->count);
	list_remove(&c->idle);
	if (c->outstanding++ == 0)
		c->moved_ms = mono_ms();
	c->given++;
	delivery_give(c->delivery, c->site->owner->home->post, job);
}

static void
connection_free(struct connection *c)
{
	list_remove(&c->in_site);
	list_remove(&c->idle);
	shaping_disconnected(c);
	c->site->connection_count--;
	c->site->owner->connections--;
	c->share->connections--;
	share_release(&c->site->owner->window, c->share);
	source_closed(c->from);
	free(c);
}

static void on_job_returned(struct job *job);

/* No address of any host exists: what waits there fails with that reply. */
static void
site_fail_ready(struct site *site, const struct reply *reply)
{
	struct job *job;

	for (int i = 0; i < PAGE && (job = take_job(site->owner, site, NULL)) != NULL; i++)
		settle_without_delivery(site->owner, job, reply, false);
}

/* It never got through to a host: is that the site's trouble, or this connection's? */
static void
connection_failed(struct connection *c)
{
	struct site *site = c->site;
	struct dispatcher *d = site->owner;
	const struct delivery *delivery = c->delivery;
	/* that work, or may still: only the last to fail speaks for the site */
	size_t left = 0;

	LIST_EACH(struct connection, other, &site->connections, in_site)
		left += other != c && !other->ended;
	if (!d->stopping && !c->aborted)
		measures_by_failure(site, c->source, delivery);
	if (d->stopping || site->mode == SITE_BACKOFF)
		return;				/* it is known already */
	if (source_failed(c->from, delivery))
		return;				/* it is ours: no host was called in vain */
	if (delivery->failure.code >= 500) {
		/* nor has what is still on its way to it any hope */
		c->hopeless = true;
		site_fail_ready(site, &delivery->failure);
	} else {
		site_failed(site, &delivery->failure, delivery->failure_host, left);
	}
}

/* It has ended and all its jobs are home. */
static void
connection_gone(struct connection *c)
{
	struct site *site = c->site;
	struct dispatcher *d = site->owner;

	delivery_release(c->delivery, d->home->post);
	connection_free(c);
	site_touch(site);		/* what is ready may need a new one */
	site_settle_down(site);		/* the site may be gone after it */
	dispatcher_touch(d);
	dispatcher_check_stopped(d);
}

/*
 * A job that was given meanwhile is still on its way there and back: the delivery is released
 * behind it.
 */
static void
on_delivery_ended(struct delivery *delivery)
{
	struct connection *c = delivery->owner;

	c->ended = c->quitting = true;
	list_remove(&c->idle);
	if (!c->up)
		c->site->connecting--;
	if (!delivery->was_ready)
		connection_failed(c);
	c->up = true;				/* it does not count as connecting any more */
	if (c->outstanding == 0)
		connection_gone(c);
}

static void
connection_open(struct site *site, const struct lane *lane, const struct source *source)
{
	struct dispatcher *d = site->owner;
	struct connection *c = xcalloc(1, sizeof(*c));
	struct reactor *reactor = &d->reactors[d->next_reactor++ % d->reactor_count];

	c->site = site;
	c->share = share_use(&d->window, lane->tenant_name);
	c->share->connections++;
	c->from = source_opened(site, source);
	c->source = source_at_name(c->from);
	c->mark = source != NULL ? source->mark : 0;
	list_init(&c->idle);
	list_add_last(&site->connections, &c->in_site);
	site->connection_count++;
	site->connecting++;
	d->connections++;
	c->delivery = delivery_new(reactor, config_of(d), site_route(site), site_destination(site),
				   site->key, on_delivery_ended, c);
	c->delivery->trust = trust_now(d->trust);
	if (tls_reports_wanted(config_of(d)))
		c->delivery->tls_reports = d->tls_reports;
	c->delivery->tokens = d->tokens;
	c->delivery->provider = shaping_provider(site);
	shaping_times(site, c->source, &c->delivery->times);
	c->delivery->source = source;
	shaping_connected(c);
	delivery_start(c->delivery, d->home->post);
}

static void
connection_up(struct connection *c)
{
	if (!c->up)
		c->site->connecting--;
	c->up = true;
}

/* It has nothing more to send, and others wait for one of all connections, or for its room. */
static bool
slot_is_wanted(const struct site *site)
{
	const struct dispatcher *d = site->owner;

	return ring_empty(&site->ring) && (!ring_empty(&d->slots) || sites_are_many(d));
}

static void
connection_quit(struct connection *c)
{
	c->quitting = true;
	list_remove(&c->idle);
	delivery_quit(c->delivery, c->site->owner->home->post);
}

/* Nobody waits for a connection that is kept in case something comes for it. */
static void
idle_one_quits(struct dispatcher *d)
{
	if (!list_empty(&d->idle))
		connection_quit(CONTAINER_OF(d->idle.next, struct connection, idle));
}

/* One that does nothing, and that this counter counts: there are others that it holds up. */
void
connections_let_go(const struct shaping_counter *counter)
{
	struct dispatcher *d = counter->owner->owner;

	LIST_EACH(struct connection, c, &d->idle, idle)
		for (size_t i = 0; i < c->counter_count; i++)
			if (c->counters[i] == counter) {
				connection_quit(c);
				return;
			}
}

/* It has no job any more: it is kept, unless it has done its part. */
static void
connection_rests(struct connection *c)
{
	if (c->given >= site_messages(c->site, c->source) || slot_is_wanted(c->site) ||
	    shaping_wants(c))
		connection_quit(c);
	else
		list_add_last(&c->site->owner->idle, &c->idle);
}

/* More than it takes by now: who has done its jobs goes. */
static bool
site_has_too_many(struct site *site)
{
	size_t most = site_slowed(site, site->limit), staying = 0;

	if (site->connection_count <= most)
		return false;
	LIST_EACH(struct connection, c, &site->connections, in_site)
		staying += !c->quitting;
	return staying > most;
}

static void
on_job_returned(struct job *job)
{
	struct connection *c = job->delivery->owner;
	struct site *site = c->site;
	struct dispatcher *d = site->owner;
	bool elsewhere = job->elsewhere;

	c->outstanding--;
	job_entries_fly(job, NULL);
	c->moved_ms = mono_ms();
	shaping_back(job);
	source_returned(c->from, job);
	if (job->tried) {
		connection_up(c);
		site_answered(site, job);
		measures_on_the_way(site, c->source, job);
		measures_by_answers(site, c->source, job);
		site->quick = mono_ms() - job->began_ms <= QUICK_MS ? site->quick + 1 : 0;
	}
	if (c->ended && !job->tried && c->hopeless && !d->stopping)
		settle_without_delivery(d, job, &c->delivery->failure, false);
	else
		settle_job(d, job);
	site_touch(site);
	if (c->ended && c->outstanding == 0)
		connection_gone(c);
	else if ((elsewhere || site_has_too_many(site)) && !c->quitting)
		connection_quit(c);
	else if (c->outstanding == 0 && !c->quitting)
		connection_rests(c);
}

/*
 * Where each message takes no time, a few connections carry all of them: the envelope of the next
 * goes in one write with the body of the one before, which saves both sides a third of their system
 * calls. Elsewhere what waits is spread: nobody stands behind another while a connection has none.
 */
static size_t
first_depth(struct site *site)
{
	return site->mode == SITE_OPEN && site->quick >= QUICK_AFTER && !shaping_is_paced(site)
		       ? JOBS_AHEAD_QUICK
		       : 1;
}

static struct span
name_of(const struct source *source)
{
	return source != NULL ? source->name : SPAN("");
}

/*
 * A job that goes behind another one goes where the last one has come back: not behind one that is
 * stuck.
 */
static bool
moves_better(const struct connection *c, const struct connection *other)
{
	return other == NULL || (c->up && !other->up) ||
	       (c->up == other->up && c->moved_ms > other->moved_ms);
}

/*
 * Of those that go from there: one with room first, then a new one, then one that has only one job.
 * NULL: the source is the system's choice.
 */
static struct connection *
pick_connection(struct site *site, const struct source *source, size_t depth)
{
	size_t messages = site_messages(site, name_of(source));
	uint64_t mark = source != NULL ? source->mark : 0;
	int64_t stuck = depth > 1 ? mono_ms() - STUCK_MS : 0;
	struct connection *best = NULL;

	LIST_EACH(struct connection, c, &site->connections, in_site) {
		if (c->mark != mark || c->outstanding >= depth || c->quitting ||
		    c->given >= messages)
			continue;
		if (depth == 1)
			return c;
		if ((c->outstanding == 0 || c->moved_ms > stuck) && moves_better(c, best))
			best = c;
	}
	return best;
}

/* ---- slots: connections of the whole daemon ----------------------------------------------- */

/*
 * Hosts that do not answer hold a connection for minutes: however many of them one tenant has mail
 * for, some are left for others.
 */
static bool
may_have_slot(const struct dispatcher *d, struct span tenant)
{
	const struct share *share = share_find(&d->window, tenant_mark(tenant));

	return share_room(share != NULL ? share->connections : 0, d->connections,
			  d->max_connections, SHARE_OF_SLOTS) > 0;
}

void
site_leave_slots(struct site *site)
{
	ring_remove(&site->slot);
	ring_tenant_release(site->slot_tenant);
	site->slot_tenant = NULL;
}

/* For whose turn it is there now; it keeps its place as long as that is the same one. */
static void
site_wait_for_slot(struct site *site, const struct lane *lane)
{
	struct window *w = &site->owner->window;

	if (ring_holds(&site->slot) &&
	    span_eq(ring_tenant_name(site->slot_tenant), lane->tenant_name))
		return;
	site_leave_slots(site);
	site->slot_tenant = ring_tenant_use(&site->owner->slots, lane->tenant_name, false,
					    w->weight(w->arg, lane->tenant_name));
	ring_add(site->slot_tenant, 0, &site->slot);
}

static bool
slot_is_for(void *dispatcher, struct ring_member *slot)
{
	const struct site *site = CONTAINER_OF(slot, struct site, slot);

	return may_have_slot(dispatcher, ring_tenant_name(site->slot_tenant));
}

struct site *
site_next_for_slot(struct dispatcher *d)
{
	struct ring_member *slot = ring_next(&d->slots, slot_is_for, d);

	if (slot == NULL)
		return NULL;
	ring_served(slot, 1);
	return CONTAINER_OF(slot, struct site, slot);
}

static bool
may_open(struct site *site, const struct lane *lane, const struct source *source)
{
	struct dispatcher *d = site->owner;
	size_t most = site_slowed(site, site_max_connections(site));

	if (site->connection_count >= site->limit || site->connection_count >= most)
		return false;
	if (site->pause_until_ms > wall_ms()) {
		site_timer_by(site, site->pause_until_ms);
		return false;
	}
	if (may_have_slot(d, lane->tenant_name))
		return shaping_may_connect(site, name_of(source));
	site_wait_for_slot(site, lane);
	idle_one_quits(d);
	return false;
}

bool
site_asks_dane(struct site *site)
{
	const struct destination *to = site_destination(site);

	size_t named = to->host_count;

	for (size_t i = 0; i < to->relay_count; i++)
		named += to->relays[i].name.len > 0;
	return named > 0 && tls_asks_dane(to->tls.tls, to->tls.wish);
}

/* Every reason not to send is one line here. */
static bool
site_may_send(struct site *site)
{
	const struct dispatcher *d = site->owner;

	if (d->stopping || d->stalled > 0)
		return false;
	if (site->mode == SITE_BACKOFF || site->mode == SITE_LOOKUP || site->wait.queue != NULL)
		return false;
	if (!trust_settled(d->trust) && site_asks_dane(site))
		return false;
	return !ring_empty(&site->ring);
}

/* What goes next: this message, from there, over that connection. */
struct way {
	struct entry *entry;
	const struct source *source;
	struct connection *connection;
	size_t lanes_left;		/* to be looked at */
};

/* Of its first messages one whose source has an idle connection. */
static bool
fits_idle(void *arg, struct ring_member *turn)
{
	struct way *way = arg;
	struct lane *lane = CONTAINER_OF(turn, struct lane, turn);
	size_t left = IDLE_ENTRIES;
	int64_t until;

	if (way->lanes_left == 0 || lane_suspended_until(lane) > 0)
		return false;
	way->lanes_left--;
	LIST_EACH(struct entry, entry, &lane->ready, in_lane) {
		if (left-- == 0 || !source_pick(entry, &way->source, &until))
			return false;
		way->entry = entry;
		way->connection = pick_connection(lane->site, way->source, 1);
		if (way->connection != NULL &&
		    shaping_source_may(lane, name_of(way->source), &until))
			return true;
	}
	return false;
}

/*
 * No connection is free for the first message, and none can be opened: one that goes another way
 * need not wait for that. If there is none either, an idle connection makes room for the first.
 */
static bool
use_idle(struct site *site, struct way *way)
{
	struct way other = { .lanes_left = IDLE_LANES };
	struct connection *idle = NULL;

	LIST_EACH(struct connection, c, &site->connections, in_site)
		if (c->outstanding == 0 && c->up && !c->quitting)
			idle = c;
	if (idle == NULL)
		return false;
	if (site_next_lane(site, fits_idle, &other) != NULL) {
		*way = other;
		return true;
	}
	if (site->connection_count >= site->limit ||
	    site->connection_count >= site_max_connections(site))
		connection_quit(idle);
	return false;
}

/* May the lane whose turn it is send now, and from where? It has been put to wait else. */
static enum shaping_answer
ask_lane(struct lane *lane, struct way *way)
{
	int64_t until;

	if (site_sleeps(lane->site) || site_paces(lane->site, wall_ms()))
		return SHAPING_SITE_WAITS;
	if (lane_sleeps(lane))
		return SHAPING_LANE_WAITS;
	way->entry = lane_first_entry(lane);
	if (source_pick(way->entry, &way->source, &until))
		return shaping_may_send(lane, name_of(way->source));
	lane_sleep(lane, until, SPAN("no source of its pool can be used"));
	return SHAPING_LANE_WAITS;
}

/* False: nothing can go now. */
static bool
find_connection(struct site *site, struct way *way)
{
	way->connection = pick_connection(site, way->source, first_depth(site));
	if (way->connection == NULL && may_open(site, way->entry->lane, way->source)) {
		connection_open(site, way->entry->lane, way->source);
		way->connection = pick_connection(site, way->source, 1);
	}
	if (way->connection == NULL && !use_idle(site, way) && site->mode == SITE_OPEN &&
	    !shaping_is_paced(site))
		way->connection = pick_connection(site, way->source, JOBS_AHEAD);
	return way->connection != NULL;
}

static void
send_first(struct site *site, const struct way *way)
{
	struct lane *lane = way->entry->lane;
	struct connection *c = way->connection;
	size_t most = config_of(site->owner)->limits.recipients_per_delivery;
	struct job *job;

	if (lane->site_until_ms != 0 && lane->site_until_ms < wall_ms())
		lane_refresh(lane);
	job = take_message(way->entry, c->source, source_room(c->from, most), false);
	job->returned = on_job_returned;
	shaping_sent(job, site, c->source);
	site_message_goes(site, wall_ms());
	give(c, job);
}

void
site_work(struct site *site)
{
	struct way way = { 0 };

	while (site_may_send(site))
		switch (ask_lane(site_next_lane(site, NULL, NULL), &way)) {
		case SHAPING_GO:
			if (!find_connection(site, &way)) {
				site_settle_down(site);
				return;
			}
			send_first(site, &way);
			break;
		case SHAPING_LANE_WAITS:
			break;
		case SHAPING_SITE_WAITS:
			site_settle_down(site);		/* it may be asleep, and gone after it */
			return;
		}
}

void
site_quit(struct site *site, bool now)
{
	LIST_EACH(struct connection, c, &site->connections, in_site) {
		if (now && !c->ended && !c->aborted)
			delivery_abort(c->delivery, site->owner->home->post);
		else if (!now && !c->quitting)
			connection_quit(c);
		c->quitting = true;
		c->aborted = c->aborted || now;
	}
}

void
connections_quit(struct dispatcher *d, bool now)
{
	for (size_t i = 0; i < d->window.sites_by_key.size; i++)
		for (struct map_node *n = d->window.sites_by_key.buckets[i]; n != NULL; n = n->next)
			site_quit(CONTAINER_OF(n, struct site, by_key), now);
}
