/*
 * sending: what goes next to a site, from which source, and over which of its connections, or a new
 * one. Home loop only.
 */
#include "mta/base/clock.h"
#include "mta/outbound/shaping/shaping_private.h"

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
	connections_idle_one_quits(d);
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
	shaping_sent(job, site, c->source);
	site_message_goes(site, wall_ms());
	connection_give(c, job);
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
