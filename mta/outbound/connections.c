/*
 * connections: the deliveries that jobs go over: opened, told of what comes back, let go. Home loop
 * only.
 *
 * What goes over which of them: sending.c. How many connections a site gets, and when it is left
 * alone: backoff.c.
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

size_t
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

static void on_job_returned(struct job *job);

void
connection_give(struct connection *c, struct job *job)
{
	job->returned = on_job_returned;
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

void
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

void
connection_quit(struct connection *c)
{
	c->quitting = true;
	list_remove(&c->idle);
	delivery_quit(c->delivery, c->site->owner->home->post);
}

void
connections_idle_one_quits(struct dispatcher *d)
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
