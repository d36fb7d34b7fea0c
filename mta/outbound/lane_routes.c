/*
 * lane_routes: where a lane leads: by which route (judged again after a reload; what waits is moved
 * where that has another name now), to which destination (look-ups), and so to which site. Home
 * loop only.
 *
 * A lane whose destination is not known, or not known any more, is in site 0, `unresolved`, which
 * sends nothing; a bounded number of them is looked up at a time. DNS trouble backs off the lane,
 * not a site.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/dispatcher_private.h"

/* ---- by which route ----------------------------------------------------------------------- */

bool
lane_judged(struct dispatcher *d, const struct lane_record *record)
{
	return route_label_holds(&config_of(d)->access.routes, record->name.domain,
				 record->name.route);
}

static const struct route *
route_of(const struct lane *lane)
{
	return route_labelled(&config_of(lane->owner)->access.routes, lane->domain, lane->route);
}

struct reroute {
	struct queue_edit edit;
	struct dispatcher *owner;
	struct arena arena;
	struct lane_name name;
	uint64_t site, lane;
	uint64_t ids[PAGE];
};

/* What is left of the lane goes the same way; it is loaded once it is empty, to be deleted. */
static void
lane_rerouted(struct dispatcher *d, uint64_t site_id, uint64_t lane, int result)
{
	struct site *site = window_site(&d->window, site_id);

	if (d->stopping)
		return;
	if (site == NULL || site->mode == SITE_BACKOFF || result < 0) {
		dispatcher_wake_at(d, wall_ms() + 1000);
		if (site != NULL)
			site_timer_by(site, wall_ms() + 1000);
		return;
	}
	lane_load(site, lane);
	site_settle_down(site);
	dispatcher_touch(d);
}

static void
on_rerouted(struct queue_op *op)
{
	struct reroute *r = CONTAINER_OF(op, struct reroute, edit.op);
	struct dispatcher *d = r->owner;

	if (op->result == 0 && r->edit.more) {
		queue_submit_edit(d->home->port, &r->edit);
		return;
	}
	if (op->result == 0)
		log_message(LOG_INFO, "reroute", "moved %zu recipients of %.*s to route %.*s",
			    r->edit.changed, SPAN_FMT(r->name.domain),
			    SPAN_FMT(route_label_text(r->name.route)));
	d->settling--;
	/* of what is damaged nothing moves: not again at once */
	lane_rerouted(d, r->site, r->lane, r->edit.changed > 0 ? op->result : -EBADMSG);
	arena_free(&r->arena);
	free(r);
	dispatcher_check_stopped(d);
}

/* By its sender and the user who handed it in, as they are stored. */
static struct span
label_now(struct dispatcher *d, const struct lane_record *record, uint64_t id, struct arena *arena)
{
	const struct routes *routes = &config_of(d)->access.routes;
	struct route_facts facts = { .domain = record->name.domain };
	struct queue_message message;

	if (queue_read_message(d->home->port, id, arena, &message) == 0) {
		facts.sender = message.envelope.reverse_path;
		facts.user = message.record.user;
	}
	return route_label(routes, facts.domain, route_choose(routes, &facts),
			   route_label_wish(record->name.route), arena);
}

/* Those of the page that go where the first of them goes. */
static void
choose_ids(struct reroute *r, const struct lane_record *record, const struct queue_entry *page,
	   size_t n)
{
	struct arena arena = { 0 };

	r->name.route = label_now(r->owner, record, page[0].id, &r->arena);
	r->ids[r->edit.count++] = page[0].id;
	for (size_t i = 1; i < n; i++)
		if (page[i].id != page[i - 1].id &&
		    span_eq(label_now(r->owner, record, page[i].id, &arena), r->name.route))
			r->ids[r->edit.count++] = page[i].id;
	arena_free(&arena);
}

bool
lane_reroute(struct dispatcher *d, uint64_t lane, const struct lane_record *record)
{
	struct reroute *r;
	struct queue_entry page[PAGE];
	const struct queue_entry from = { 0 };
	size_t n = 0;

	queue_read_entries(d->home->port, lane, &from, page, PAGE, &n);
	if (n == 0)
		return false;
	r = xcalloc(1, sizeof(*r));
	r->owner = d;
	r->lane = lane;
	r->site = record->site;
	r->name = record->name;
	r->name.tenant = arena_copy(&r->arena, record->name.tenant);
	r->name.domain = arena_copy(&r->arena, record->name.domain);
	r->name.pool = arena_copy(&r->arena, record->name.pool);
	choose_ids(r, record, page, n);
	r->edit.op.done = on_rerouted;
	r->edit.kind = EDIT_MOVE;
	r->edit.ids = r->ids;
	r->edit.only_recipient = UINT32_MAX;
	r->edit.from_lane = lane;
	r->edit.lane = &r->name;
	d->settling++;
	queue_submit_edit(d->home->port, &r->edit);
	return true;
}

/* A name is kept, but what it says is read at each attempt: does it still say this site? */
bool
lane_leads_elsewhere(struct dispatcher *d, const struct lane_record *record,
		     const struct site *site)
{
	const struct route *route = route_labelled(&config_of(d)->access.routes,
						   record->name.domain, record->name.route);
	bool is_static = span_starts(site->key, SPAN("static:"));
	bool literal = record->name.domain.len > 0 && record->name.domain.at[0] == '[';

	if (site == d->unresolved || route == NULL)
		return false;
	if (route_is_static(route))
		return !span_eq(site_key_place(route->site_key), site_key_place(site->key)) ||
		       !site_key_fits(site->key, route);
	if (route->kind == DELIVER_DISCARD || route->kind == DELIVER_REJECT)
		return true;
	return (is_static && !literal) || !site_key_fits(site->key, route) ||
	       !lane_policy_fits(d, record->name.domain, route, site);
}

/* ---- to which site ------------------------------------------------------------------------ */

static void
lane_move_to(struct lane *lane, struct site *site, struct span key, int64_t until_ms)
{
	window_move_lane(&lane->owner->window, lane, site);
	site->leaving = false;
	lane->site_until_ms = until_ms;
	lane->change = (struct queue_lane_change){ .set_site = true,
						   .site_key = key,
						   .site_until_ms = until_ms,
						   .set_backoff = lane->backoff.failures > 0 };
	lane->backoff = (struct backoff){ 0 };
	lane_submit(lane);
	site_touch(site);
}

/*
 * The destination is known: the site is found, or made, and the lane goes there; jobs need not
 * wait for the row.
 */
static void
lane_assign(struct lane *lane, struct span key, int64_t until_ms)
{
	struct dispatcher *d = lane->owner;
	struct site *from = lane->site, *site = window_site_by_key(&d->window, key);
	uint64_t id = 0;

	bool room = site != NULL || sites_have_room(d, lane->share, lane->priority);

	if (site == NULL && queue_find_site(d->home->port, key, &id) == 0 && room)
		site = site_load(d, id);
	/* it is in back-off, or there is no room for it: the lane joins it on disk, and leaves */
	if (site == NULL && (id != 0 || !room)) {
		d->sites_wait = d->sites_wait || !room;
		dispatcher_wake_at(d, wall_ms() + 1000);
		window_drop_ready(&d->window, lane);
		lane->site_until_ms = until_ms;
		lane->change =
			(struct queue_lane_change){ .set_site = true,
						    .site_key = arena_copy(&lane->arena, key),
						    .site_until_ms = until_ms };
		lane->leaving = true;
		lane_submit(lane);
		return;
	}
	if (site == NULL) {
		site = window_add_site(&d->window, 0, key);
		site->owner = d;
		site_begins(site, CONCURRENCY_FIRST);
	}
	lane_move_to(lane, site, site->key, until_ms);
	if (site->mode == SITE_BACKOFF)
		window_drop_ready(&d->window, lane);
	site_touch(from);
	site_settle_down(from);		/* it may be gone after it */
}

/* The name cannot be looked up now: the lane backs off, not a site. */
static void
lane_backoff(struct lane *lane, const struct reply *why)
{
	struct dispatcher *d = lane->owner;
	struct log_line l;

	lane->backoff.failures++;
	lane->backoff.next_ms = schedule_probe(&config_of(d)->queue.schedule,
					       lane->backoff.failures, wall_ms(), chance());
	lane->backoff.text = arena_copy(&lane->arena, span_first(why->text, 200));
	if (log_begin(&l, LOG_INFO, "lookup-failed")) {
		log_span(&l, "domain", lane->domain);
		log_reply(&l, "reply", why);
		log_i64(&l, "again", (lane->backoff.next_ms - wall_ms()) / 1000);
		log_end(&l);
	}
	window_drop_ready(&d->window, lane);
	lane->more_due_ms = lane->backoff.next_ms;
	lane->change = (struct queue_lane_change){ .set_backoff = true,
						   .backoff = lane->backoff,
						   .set_due = true,
						   .due_ms = lane->backoff.next_ms };
	dispatcher_wake_at(d, lane->backoff.next_ms);
	lane->leaving = true;
	lane_submit(lane);
}

/* No host takes its mail: what waits fails, or (discarded) is gone. */
static void
lane_fail(struct lane *lane, const struct reply *reply, bool discard)
{
	struct job *job;

	/* what is left comes back here once these are settled */
	for (int i = 0; i < LANE_READY_MAX &&
			(job = take_job(lane->owner, lane->site, lane)) != NULL; i++)
		settle_without_delivery(lane->owner, job, reply, discard);
}

/* It can only move when nothing of it flies: until that has landed nothing more is begun. */
void
lane_found(struct lane *lane, struct span key, int64_t until_ms)
{
	if (lane->in_flight == 0) {
		lane_assign(lane, key, until_ms);
	} else if (span_eq(lane->site->key, key)) {
		lane->site_until_ms = until_ms;
	} else {
		lane->stale = lane->looks_again = true;
		window_drop_ready(&lane->owner->window, lane);
	}
}

static enum route_wish
wish_of(const struct lane *lane)
{
	return route_label_wish(lane->route);
}

static enum route_tls
tls_of(const struct route *route)
{
	return route != NULL ? route->tls : ROUTE_TLS_AUTO;
}

/*
 * Does it mean something if the resolver does not call an MX answer secure? Else its hosts would be
 * known as insecure ones for as long as the answer is kept, and get mail without DANE.
 */
static bool
mx_counts(const struct dispatcher *d, const struct route *route, enum route_wish wish)
{
	if (!tls_asks_dane(tls_of(route), wish))
		return true;
	return trust_settled(d->trust) && (tls_of(route) != ROUTE_TLS_DANE ||
					   trust_now(d->trust) == RESOLVER_VALIDATES);
}

void
lane_look_cancel(struct lane *lane)
{
	lane_asks_cancel(lane);
	if (lane->lookup == NULL)
		return;
	lookup_cancel(lane->lookup);
	lane->lookup = NULL;
	lane->owner->lookups--;
	lane->share->lookups--;
}

static void
on_mx(void *arg, const struct mx_set *set)
{
	struct lane *lane = arg;
	struct dispatcher *d = lane->owner;
	const struct route *route = route_of(lane);
	int64_t ttl = set->ttl_ms > SITE_UNTIL_MIN_MS ? set->ttl_ms : SITE_UNTIL_MIN_MS;
	struct arena arena = { 0 };

	ttl = ttl < SITE_UNTIL_MAX_MS ? ttl : SITE_UNTIL_MAX_MS;
	lane->lookup = NULL;
	d->lookups--;
	lane->share->lookups--;
	site_touch(d->unresolved);		/* the next look-up may begin */
	if (d->stopping)
		return;
	if (set->count > 0 && !mx_counts(d, route, wish_of(lane))) {
		if (lane->site != d->unresolved)
			lane->site_until_ms = wall_ms() + SITE_UNTIL_MIN_MS;
	} else if (set->count > 0) {
		lane_ask_policy(lane, route,
				destination_key_by_mx(route, set, wish_of(lane), &arena),
				wall_ms() + ttl);
	} else if (lane->site != d->unresolved) {
		/* a refresh that failed: the old one serves */
		lane->site_until_ms = wall_ms() + SITE_UNTIL_MIN_MS;
	} else if (reply_class(&set->failure) == 5) {
		lane_fail(lane, &set->failure, false);
	} else {
		lane_backoff(lane, &set->failure);
	}
	arena_free(&arena);
	dispatcher_touch(d);
}

static void
lane_lookup(struct lane *lane, struct span domain)
{
	struct dispatcher *d = lane->owner;
	struct config *config = config_of(d);

	lane->lookup = lookup_mx(d->home->resolver, domain, config->own_names,
				 config->own_name_count, config->allow_private, on_mx, lane);
	d->lookups++;
	lane->share->lookups++;
}

static void
lane_resolve(struct lane *lane)
{
	static const struct reply not_validating = REPLY_INIT(
		451, 4, 7, 5,
		"the route says tls = dane, but the resolver is not known to validate DNSSEC");
	struct dispatcher *d = lane->owner;
	const struct route *route = route_of(lane);
	struct arena arena = { 0 };
	struct span key;

	if (route == NULL) {
		struct reply none = REPLY(550, 5, 4, 4, "no route leads there any more");

		lane_fail(lane, &none, false);
	} else if (route->kind == DELIVER_DISCARD || route->kind == DELIVER_REJECT) {
		struct reply reply = { 550, { 5, 7, 1 }, route->reject_text };

		lane_fail(lane, &reply, route->kind == DELIVER_DISCARD);
	} else if ((key = destination_key(route, lane->domain, wish_of(lane), &arena)).len > 0) {
		lane_assign(lane, key, 0);
	} else if (!mx_counts(d, route, wish_of(lane))) {
		lane_backoff(lane, &not_validating);
	} else {
		lane_lookup(lane, destination_mx_domain(route, lane->domain));
	}
	arena_free(&arena);
}

/* It will be, in a moment. */
static bool
lane_waits_for_trust(const struct lane *lane)
{
	const struct dispatcher *d = lane->owner;

	return !trust_settled(d->trust) &&
	       tls_asks_dane(tls_of(route_of(lane)), wish_of(lane));
}

static bool
may_resolve(void *arg, struct ring_member *turn)
{
	const struct lane *lane = CONTAINER_OF(turn, struct lane, turn);
	const struct dispatcher *d = arg;

	return share_room(lane->share->lookups, d->lookups, config_of(d)->limits.lookups,
			  SHARE_OF_SLOTS) > 0 &&
	       lane->lookup == NULL && lane->asks == NULL && !lane->changing &&
	       lane->in_flight == 0 && !lane_waits_for_trust(lane);
}

void
lanes_resolve(struct dispatcher *d)
{
	/* each once: what is known at once and could not move comes again when it is touched */
	size_t most = d->unresolved->lane_count;

	for (size_t i = 0; i < most; i++) {
		struct lane *lane;

		if (d->lookups >= config_of(d)->limits.lookups || d->stopping || d->stalled > 0)
			return;
		lane = site_next_lane(d->unresolved, may_resolve, d);
		if (lane == NULL)
			return;
		ring_served(&lane->turn, 1);
		lane_resolve(lane);
	}
}

void
lane_refresh(struct lane *lane)
{
	const struct route *route = route_of(lane);

	if (lane->lookup != NULL || lane->asks != NULL || lane->changing || route == NULL ||
	    route_is_static(route) ||
	    lane->owner->lookups >= config_of(lane->owner)->limits.lookups)
		return;
	lane_lookup(lane, destination_mx_domain(route, lane->domain));
}
