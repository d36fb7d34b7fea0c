/*
 * holds: what holds the mail of a lane, or of a site, now: every reason, in the order in which a
 * message meets them. What can hold mail adds its own (hold_reason.h); it is asked here, and
 * nowhere else. Home loop only.
 */
#include "mta/base/clock.h"
#include "mta/outbound/dispatcher_private.h"

/*
 * A wait without failures is for a limit of ours (site_sleep(), lane_sleep()), or a suspension,
 * which has told so.
 */
static void
limit_holds(const struct backoff *backoff, struct hold_reasons *why)
{
	struct hold_reason *r;

	for (size_t i = 0; i < why->count; i++)
		if (why->list[i].kind == HOLD_SUSPENDED)
			return;
	r = hold_add(why, HOLD_SHAPE);
	r->until_ms = backoff->next_ms;
	r->text = backoff->text;
}

static void
backoff_holds(struct span key, const struct site_state *state, struct arena *arena,
	      struct hold_reasons *why)
{
	struct hold_reason *r;

	if (state->backoff.failures == 0) {
		limit_holds(&state->backoff, why);
		return;
	}
	r = hold_add(why, HOLD_BACKOFF);
	r->what = key;
	r->since_ms = state->last.at_ms;
	r->until_ms = state->backoff.next_ms;
	r->text = arena_printf(arena, "site %.*s is in back-off after %u failure%s: %.*s",
			       SPAN_FMT(key), state->backoff.failures,
			       state->backoff.failures == 1 ? "" : "s",
			       SPAN_FMT(state->backoff.text));
	hold_number(r, "failures", state->backoff.failures);
}

static void
connections_hold(struct dispatcher *d, const struct site *site, struct arena *arena,
		 struct hold_reasons *why)
{
	size_t most = site_max_connections(site);
	struct hold_reason *r;

	if (site->connection_count >= most) {
		r = hold_add(why, HOLD_CONNECTIONS);
		r->what = site->key;
		r->text =
			arena_printf(arena, "site %.*s: its limit of connections, %zu, is reached",
				     SPAN_FMT(site->key), most);
		hold_number(r, "connections", (int64_t)site->connection_count);
		hold_number(r, "most", (int64_t)most);
	}
	if (d->connections >= d->max_connections) {
		r = hold_add(why, HOLD_DELIVERIES);
		r->what = SPAN("limits.deliveries");
		r->text = arena_printf(arena, "limits.deliveries: all %zu connections are in use",
				       d->connections);
		hold_number(r, "connections", (int64_t)d->connections);
		hold_number(r, "most", (int64_t)d->max_connections);
	} else if (site->slot_tenant != NULL) {
		struct span tenant = ring_tenant_name(site->slot_tenant);
		const struct share *share = share_find(&d->window, tenant_mark(tenant));
		size_t has = share != NULL ? share->connections : 0;

		r = hold_add(why, HOLD_TENANT);
		r->what = tenant;
		r->text = arena_printf(
			arena,
			"tenant %.*s has its share of limits.deliveries: %zu of %zu connections",
			SPAN_FMT(tenant), has, d->max_connections);
		hold_number(r, "connections", (int64_t)has);
		hold_number(r, "most", (int64_t)d->max_connections);
	}
	if (site->pause_until_ms > wall_ms()) {
		r = hold_add(why, HOLD_PAUSE);
		r->what = site->key;
		r->until_ms = site->pause_until_ms;
		r->text = arena_printf(arena,
				       "site %.*s: a connection has failed, the next one waits",
				       SPAN_FMT(site->key));
	}
	if (site->connection_count < most && site->connection_count >= site->limit) {
		r = hold_add(why, HOLD_CONCURRENCY);
		r->what = site->key;
		r->text =
			arena_printf(arena, "site %.*s: all %zu connections allowed now are in use",
				     SPAN_FMT(site->key), site->limit);
		hold_number(r, "connections", (int64_t)site->connection_count);
		hold_number(r, "most", (int64_t)site->limit);
	}
}

static void
mode_holds(struct dispatcher *d, struct site *site, struct arena *arena, struct hold_reasons *why)
{
	struct hold_reason *r;

	switch (site->mode) {
	case SITE_OPEN:
		break;
	case SITE_BACKOFF:
		backoff_holds(site->key, &site->state, arena, why);
		break;
	case SITE_PROBING:
		r = hold_add(why, HOLD_PROBE);
		r->what = site->key;
		r->text = arena_printf(arena, "site %.*s is being probed by one connection",
				       SPAN_FMT(site->key));
		hold_number(r, "failures", site->state.backoff.failures);
		break;
	case SITE_LOOKUP:
		r = hold_add(why, HOLD_LOOKUP);
		r->text = SPAN("its destination is being looked up");
		hold_number(r, "lookups", (int64_t)d->lookups);
		break;
	}
}

/* In the order of site_may_send() and may_open(): what they ask is told here. */
static void
site_holds(struct site *site, struct arena *arena, struct hold_reasons *why)
{
	struct dispatcher *d = site->owner;
	struct hold_reason *r;

	mode_holds(d, site, arena, why);
	if (site->mode == SITE_BACKOFF || site->mode == SITE_LOOKUP)
		return;
	if (!trust_settled(d->trust) && site_asks_dane(site)) {
		r = hold_add(why, HOLD_RESOLVER);
		r->text = SPAN("the resolver is being tested: does it validate DNSSEC?");
	}
	shaping_site_held_by(site, arena, why);
	if (site->mode == SITE_OPEN)
		connections_hold(d, site, arena, why);
}

void
site_held_by(struct site *site, struct arena *arena, struct hold_reasons *why)
{
	if (site->mode != SITE_LOOKUP)
		measures_hold(site->owner->measures, site->key, SPAN(""), SPAN(""), arena, why);
	site_holds(site, arena, why);
}

/* Of one that is not in memory: what the store says. */
void
site_record_held_by(struct dispatcher *d, const struct site_record *site, struct arena *arena,
		    struct hold_reasons *why)
{
	measures_hold(d->measures, site->key, SPAN(""), SPAN(""), arena, why);
	if (site->state.backoff.next_ms > wall_ms())
		backoff_holds(site->key, &site->state, arena, why);
}

const char *
site_record_state(const struct site_record *site, const struct hold_reasons *why)
{
	if (site->state.backoff.next_ms <= wall_ms())
		return "asleep";
	if (site->state.backoff.failures > 0)
		return "back-off";
	for (size_t i = 0; i < why->count; i++)
		if (why->list[i].kind == HOLD_SUSPENDED)
			return "suspended";
	return "limited";
}

void
dispatcher_holds(const struct dispatcher *d, struct hold_reasons *why)
{
	if (d->stopping)
		hold_add(why, HOLD_STOPPING)->text = SPAN("the server is stopping");
	if (d->stalled > 0)
		hold_add(why, HOLD_DISK)->text =
			SPAN("the disk is full: results of deliveries could not be kept");
}

/* It left memory for a limit, or is about to: nothing waits that could tell. */
static void
shapes_hold(struct dispatcher *d, const struct shaping_question *question, struct arena *arena,
	    struct hold_reasons *why)
{
	if (!holds_have(why, HOLD_SHAPE))
		shaping_tell(d, question, arena, why, NULL, NULL);
}

/* Its site is asleep, and its tenant has as many of them in memory as it may. */
static void
room_holds(struct dispatcher *d, const struct lane_record *lane, struct arena *arena,
	   struct hold_reasons *why)
{
	const struct share *share = share_find(&d->window, tenant_mark(lane->name.tenant));
	size_t has = share != NULL ? share->sites : 0;
	struct hold_reason *r;

	if (window_site(&d->window, lane->site) != NULL || lane->asleep_ms > wall_ms() ||
	    sites_have_room(d, share, lane->name.priority))
		return;
	r = hold_add(why, HOLD_TENANT);
	r->what = lane->name.tenant;
	r->text =
		arena_printf(arena, "tenant %.*s has its share of limits.window-sites: %zu of %zu",
			     SPAN_FMT(lane->name.tenant), has, d->window.max_sites);
	hold_number(r, "sites", (int64_t)has);
	hold_number(r, "most", (int64_t)d->window.max_sites);
}

static void
stored_lane_holds(struct dispatcher *d, uint64_t id, struct arena *arena, struct hold_reasons *why)
{
	struct lane_record lane;
	struct site_record site;
	struct hold_reason *r;
	bool limited;

	if (queue_read_lane(d->home->port, id, arena, &lane) < 0)
		return;
	if (lane.site != 0 && queue_read_site(d->home->port, lane.site, arena, &site) < 0)
		lane.site = 0;
	if (lane.hold)
		hold_add(why, HOLD_OPERATOR)->text = SPAN("its lane is held");
	measures_hold(d->measures, lane.site != 0 ? site.key : SPAN(""), lane.name.tenant,
		      lane.name.domain, arena, why);
	limited = lane.backoff.next_ms > wall_ms() && lane.backoff.failures == 0;
	if (lane.backoff.next_ms > wall_ms() && !limited) {
		r = hold_add(why, HOLD_LOOKUP_FAILED);
		r->what = lane.name.domain;
		r->until_ms = lane.backoff.next_ms;
		r->text = arena_printf(arena, "the look-up of %.*s failed %u time%s: %.*s",
				       SPAN_FMT(lane.name.domain), lane.backoff.failures,
				       lane.backoff.failures == 1 ? "" : "s",
				       SPAN_FMT(lane.backoff.text));
		hold_number(r, "failures", lane.backoff.failures);
		return;
	}
	if (lane.site != 0) {
		shapes_hold(d,
			    &(struct shaping_question){ site.key, lane.name.tenant,
							lane.name.domain, SPAN("") },
			    arena, why);
		sources_held_by(d, site.key, lane.name.pool, arena, why);
	}
	if (lane.site != 0 && why->count == 0)
		room_holds(d, &lane, arena, why);
	/* what is stored of a limit is told only if the limit itself is not: it has its numbers */
	if (limited && why->count == 0)
		limit_holds(&lane.backoff, why);
	if (lane.site != 0 && site.state.backoff.next_ms > wall_ms() &&
	    (site.state.backoff.failures > 0 || why->count == 0))
		backoff_holds(site.key, &site.state, arena, why);
}

void
dispatcher_held_by(struct dispatcher *d, uint64_t id, struct arena *arena, struct hold_reasons *why)
{
	struct lane *lane = window_lane(&d->window, id);

	*why = (struct hold_reasons){ 0 };
	dispatcher_holds(d, why);
	if (lane != NULL) {
		measures_hold(d->measures, lane->site->key, lane->tenant_name, lane->domain, arena,
			      why);
		shaping_lane_held_by(lane, arena, why);
		if (lane->site != d->unresolved)
			sources_held_by(d, lane->site->key, lane->pool, arena, why);
		site_holds(lane->site, arena, why);
		if (lane->ready_count == 0 && lane->site != d->unresolved)
			shapes_hold(d,
				    &(struct shaping_question){ lane->site->key, lane->tenant_name,
								lane->domain,
								  SPAN("") }, arena, why);
		if (why->count == 0 && lane->backoff.next_ms > wall_ms() &&
		    lane->backoff.failures == 0 && lane->backoff.text.len > 0)
			limit_holds(&lane->backoff, why);	/* it is about to leave memory */
	} else {
		stored_lane_holds(d, id, arena, why);
	}
}

void
mail_held_by(struct dispatcher *d, struct span site_key, const struct lane_name *name,
	     struct arena *arena, struct hold_reasons *why)
{
	struct site *site = window_site_by_key(&d->window, site_key);
	struct site_record record;
	uint64_t id;

	*why = (struct hold_reasons){ 0 };
	dispatcher_holds(d, why);
	measures_hold(d->measures, site_key, name->tenant, name->domain, arena, why);
	if (site != NULL)
		site_holds(site, arena, why);
	else if (queue_find_site(d->home->port, site_key, &id) == 0 &&
		 queue_read_site(d->home->port, id, arena, &record) == 0 &&
		 record.state.backoff.next_ms > wall_ms() && record.state.backoff.failures > 0)
		backoff_holds(record.key, &record.state, arena, why);
	sources_held_by(d, site_key, name->pool, arena, why);
	shapes_hold(d, &(struct shaping_question){ site_key, name->tenant, name->domain, SPAN("") },
		    arena, why);
}
