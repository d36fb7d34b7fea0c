/*
 * lanes: which lanes and sites are in memory, and how they leave; lane_routes.c has where a lane
 * leads. Home loop only.
 *
 * What leaves memory leaves nothing behind but its rows: `asleep` and `wake` are put right first
 * (never too late), and whatever arrived meanwhile keeps it here.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/dispatcher_private.h"

static void lane_leave(struct lane *lane, int64_t due_ms);

void
site_wake_lanes(struct site *site)
{
	LIST_EACH(struct lane, lane, &site->lanes, in_site)
		if (lane->more_due_ms != INT64_MAX)
			heap_set(&site->owner->window.timers, &lane->timer, lane->more_due_ms);
}

/* ---- reading lanes ------------------------------------------------------------------------ */

/*
 * A site that takes its mail slowly must not fill the window, nor a tenant that has much of it: a
 * tenant has three times what is left free at most, a site eight times that; and when the window is
 * half full each site has a little, or each tenant a tenth.
 */
static size_t
less(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t
above(size_t most, size_t has)
{
	return most > has ? most - has : 0;
}

size_t
lane_room(const struct lane *lane)
{
	const struct window *w = &lane->owner->window;
	size_t has = lane->share->entries, ready = lane->site->ready_count;
	size_t room = share_room(has, w->entries, w->max_entries, 3), fair, tenth;

	room = less(room, share_room(ready, w->entries, w->max_entries, 8));
	fair = above(SITE_READY_FAIR, ready);
	tenth = above(w->max_entries / 10, has);
	if (w->entries >= w->max_entries / 2)
		room = less(room, fair > tenth ? fair : tenth);
	return room;
}

static bool
window_is_full(const struct window *w)
{
	return w->entries >= w->max_entries || w->lanes.count >= w->max_entries;
}

/* The same for a lane more. */
static bool
site_has_lane_room(const struct site *site, struct span tenant)
{
	const struct window *w = &site->owner->window;
	const struct share *share = share_find(w, tenant_mark(tenant));
	size_t has = share != NULL ? share->lanes : 0, lanes = w->lanes.count;

	if (w->entries >= w->max_entries || share_room(has, lanes, w->max_entries, 3) == 0 ||
	    share_room(site->lane_count, lanes, w->max_entries, 8) == 0)
		return false;
	return lanes < w->max_entries / 2 || site->lane_count < w->max_entries / 10 ||
	       has < w->max_entries / 10;
}

/* What waits for something that is further away than this leaves memory; sooner if others wait. */
static int64_t
stay_ms(const struct site *site)
{
	const struct window *w = &site->owner->window;

	return w->lanes.count < w->max_entries / 2 && w->entries < w->max_entries &&
	       !sites_are_many(site->owner) ? STAY_MS : 1000;
}

static bool
lane_may_leave(const struct lane *lane, int64_t now)
{
	return lane->more_due_ms > now + stay_ms(lane->site);
}

/* How long it stays then, in case something arrives for it. */
static int64_t
lane_linger_ms(const struct lane *lane)
{
	if (stay_ms(lane->site) == STAY_MS)
		return LINGER_MS;
	return lane_idle(lane) ? 100 : 1000;
}

/*
 * When to come by again: its next entry; sooner if that is far, to leave memory; in a second if
 * there was no room.
 */
static void
lane_arm(struct lane *lane)
{
	int64_t now = wall_ms(), at = lane->more_due_ms;

	if (at <= now)
		at = now + 1000;
	else if (lane_may_leave(lane, now))
		at = now + lane_linger_ms(lane);
	heap_set(&lane->owner->window.timers, &lane->timer, at);
}

void
lane_refill(struct lane *lane)
{
	struct dispatcher *d = lane->owner;
	struct window *w = &d->window;
	struct queue_entry page[PAGE];
	int64_t now = wall_ms();
	size_t room;

	while (lane->more_due_ms <= now && lane->ready_count < LANE_READY_LOW &&
	       (room = less(lane_room(lane), PAGE)) > 0) {
		size_t n = 0;
		int rc = queue_read_entries(d->home->port, lane->node.key, &lane->cursor, page,
					    room, &n);

		if (rc < 0) {
			log_message(LOG_ERROR, "queue", "cannot read a lane: %s", strerror(-rc));
			heap_set(&w->timers, &lane->timer, now + 1000);
			return;
		}
		lane->more_due_ms = n < room ? INT64_MAX : page[n - 1].due_ms;
		for (size_t i = 0; i < n; i++) {
			struct parcel *parcel = window_parcel(w, page[i].id);

			if (page[i].due_ms > now) {
				lane->more_due_ms = page[i].due_ms;
				break;
			}
			lane->cursor = page[i];
			if (parcel != NULL && parcel->locked)
				lane->passed_over = true;
			else
				window_add_entry(w, lane, page[i].id, page[i].recipient,
						 page[i].due_ms);
		}
	}
	lane_arm(lane);
	if (lane->ready_count > 0)
		site_touch(lane->site);
}

/* What the DNS said is no longer good: somebody else may be there by now. */
static bool
mx_expired(int64_t until_ms, int64_t now)
{
	return until_ms != 0 && (until_ms < now || until_ms > now + SITE_UNTIL_MAX_MS);
}

bool
lane_load(struct site *site, uint64_t id)
{
	struct dispatcher *d = site->owner;
	struct arena arena = { 0 };
	struct lane_record record;
	struct lane *lane;
	int64_t now = wall_ms();
	bool renamed;

	if (window_lane(&d->window, id) != NULL)
		return true;
	if (queue_read_lane(d->home->port, id, &arena, &record) < 0 || record.site != site->id ||
	    record.hold) {
		arena_free(&arena);
		return true;
	}
	if (!site_has_lane_room(site, record.name.tenant)) {
		arena_free(&arena);
		return false;
	}
	renamed = !lane_judged(d, &record);
	if (!renamed || !lane_reroute(d, id, &record)) {
		if (lane_leads_elsewhere(d, &record, site) || mx_expired(record.site_until_ms, now))
			site = d->unresolved;
		lane = window_add_lane(&d->window, id, &record, site);
		lane->owner = d;
		site->leaving = false;
		lane->stale = renamed;
		/* all of it is on hold: it is judged when that is over; or nothing is left of it */
		if (renamed) {
			lane_leave(lane, INT64_MAX);
		} else if (record.backoff.next_ms > now) { /* its row in asleep was too early */
			lane->more_due_ms = record.backoff.next_ms;
			dispatcher_wake_at(d, record.backoff.next_ms);
			lane_leave(lane, record.backoff.next_ms);
		} else {
			lane_refill(lane);
		}
	}
	arena_free(&arena);
	return true;
}

/* ---- reading sites ------------------------------------------------------------------------ */

/* A pass over many tenants costs a look at each: then not at every wish of one of them. */
static int64_t
scan_again_ms(int64_t at, int64_t now, size_t tenants)
{
	int64_t least = now + (int64_t)(tenants / 10 < 1000 ? tenants / 10 : 1000);

	return at > least ? at : least;
}

/*
 * Tenant by tenant: one that has no room, for it has so many lanes here already, comes back to the
 * rest in a moment, and keeps no other from being read.
 */
void
site_load_lanes(struct site *site)
{
	struct dispatcher *d = site->owner;
	struct queue_asleep page[SITE_LANES_PAGE], at = { 0 };
	int64_t now = wall_ms(), next = INT64_MAX;
	size_t n = 0, tenants = 0, i;

	if (site->id == 0 && site != d->unresolved)
		return;				/* it has no row yet: nothing sleeps in it */
	heap_remove(&d->window.site_timers, &site->timer);
	do {
		if (queue_read_asleep(d->home->port, site->id, &at, now, page, SITE_LANES_PAGE, &n,
				      &next, &tenants) < 0) {
			heap_set(&d->window.site_timers, &site->timer, now + 1000);
			return;
		}
		for (i = 0; i < n; i++) {
			at = page[i];
			if (window_is_full(&d->window) || !lane_load(site, at.lane))
				break;
		}
		if (i < n) {
			next = now + ROOM_MS;
			at.due_ms = INT64_MAX;
			at.lane = UINT64_MAX;
			tenants++;
		}
	} while (i < n || n == SITE_LANES_PAGE);
	if (next != INT64_MAX)
		heap_set(&d->window.site_timers, &site->timer, scan_again_ms(next, now, tenants));
}

static void
site_take_state(struct site *site, const struct site_record *record)
{
	site->state = record->state;
	site->state.backoff.text = arena_copy(&site->arena, record->state.backoff.text);
	site->state.last.host = arena_copy(&site->arena, record->state.last.host);
	site->state.last.text = arena_copy(&site->arena, record->state.last.text);
	if (record->state.backoff.failures > 0)
		site->mode = SITE_PROBING;
	site_begins(site, site->mode == SITE_PROBING	 ? 1
			  : record->state.concurrency > 0 ? record->state.concurrency
							  : CONCURRENCY_FIRST);
}

struct site *
site_load(struct dispatcher *d, uint64_t id)
{
	struct site *site = window_site(&d->window, id);
	struct arena arena = { 0 };
	struct site_record record;
	int64_t now = wall_ms();

	if (site != NULL)
		return site->mode == SITE_BACKOFF ? NULL : site;
	if (d->window.sites >= d->window.max_sites) {
		sites_wait(d);
		return NULL;
	}
	if (queue_read_site(d->home->port, id, &arena, &record) < 0) {
		arena_free(&arena);
		return NULL;
	}
	site = window_site_by_key(&d->window, record.key);
	if (site != NULL) {			/* it is here, and will soon be told its id */
		dispatcher_wake_at(d, now + 1000);
		arena_free(&arena);
		return site->mode == SITE_BACKOFF ? NULL : site;
	}
	if (record.state.backoff.next_ms > now || record.state.suspended) {
		dispatcher_wake_at(d, record.state.suspended ? INT64_MAX
							     : record.state.backoff.next_ms);
		arena_free(&arena);
		return NULL;
	}
	site = window_add_site(&d->window, id, record.key);
	site->owner = d;
	site_take_state(site, &record);
	arena_free(&arena);
	if (site_sleeps(site))			/* its row is put later; then it goes */
		return NULL;
	site_load_lanes(site);
	site_touch(site);
	return site;
}

/* ---- leaving ------------------------------------------------------------------------------ */

/* The lane went to that site by its key; the row it found there, or made, tells the id. */
static void
site_is(struct site *site, uint64_t id)
{
	struct dispatcher *d = site->owner;

	if (site == d->unresolved || id == 0 || site->id == id ||
	    window_site(&d->window, id) != NULL)
		return;
	window_site_named(&d->window, site, id);
	if (site->mode == SITE_BACKOFF)		/* it failed before it had a row */
		site_save(site, site->state.backoff.next_ms);
}

/* Forgotten, while its site may stay: that has to know when to read it again. */
static void
lane_forget(struct lane *lane, int64_t due_ms)
{
	struct site *site = lane->site,
		    *stored = window_site(&site->owner->window, lane->stored_site);

	window_drop_lane(&site->owner->window, lane);
	if (due_ms == INT64_MAX)
		return;
	site_timer_by(site, due_ms);
	if (stored != NULL)
		site_timer_by(stored, due_ms);
}

/* What was in flight has landed: by the routes of now, or to the hosts of now. */
static void
lane_renew(struct lane *lane, int64_t after_ms)
{
	if (!lane->looks_again) {
		lane_forget(lane, wall_ms() + after_ms);
		return;
	}
	lane->stale = lane->looks_again = false;
	window_move_lane(&lane->owner->window, lane, lane->owner->unresolved);
	lane_refill(lane);
}

/* When the queue has its row in `asleep`: what it knows of the lane counts, not what we knew. */
static int64_t
stored_asleep_ms(const struct lane *lane)
{
	struct arena arena = { 0 };
	struct lane_record record = { .asleep_ms = wall_ms() + 1000 };

	if (lane->change.gone)
		record.asleep_ms = INT64_MAX;
	else
		queue_read_lane(lane->owner->home->port, lane->node.key, &arena, &record);
	arena_free(&arena);
	return record.asleep_ms;
}

static void
on_lane_changed(struct queue_op *op)
{
	struct lane *lane = CONTAINER_OF(op, struct lane, change.op);
	struct dispatcher *d = lane->owner;
	struct site *site = lane->site;
	bool leaves = lane->leaving && !lane->touched && !lane->passed_over && lane->in_flight == 0;

	if (op->result == 0 && lane->change.set_site && !lane->leaving)
		site_is(site, lane->change.site_id);
	if (op->result == 0)
		lane->stored_site = lane->change.site_id;
	lane->changing = lane->leaving = false;
	d->settling--;
	if (lane->stale && lane_idle(lane)) {
		lane_renew(lane, op->result < 0 ? 1000 : 0);
	} else if (op->result < 0 || !leaves) {
		lane->touched = false;
		heap_set(&d->window.timers, &lane->timer, wall_ms() + 1000);
		site_touch(site);
	} else {
		lane_forget(lane, stored_asleep_ms(lane));
	}
	site_settle_down(site);
	dispatcher_touch(d);
	dispatcher_check_stopped(d);
}

void
lane_submit(struct lane *lane)
{
	lane->changing = true;
	lane->touched = false;
	lane->change.op.done = on_lane_changed;
	lane->change.lane = lane->node.key;
	lane->owner->settling++;
	queue_submit_lane(lane->owner->home->port, &lane->change);
}

/*
 * Its row in `asleep` is put at due_ms (the queue never puts it later than its first entry),
 * then it is forgotten.
 */
static void
lane_leave(struct lane *lane, int64_t due_ms)
{
	lane->change = (struct queue_lane_change){ .set_due = true, .due_ms = due_ms };
	lane->leaving = true;
	lane_submit(lane);
}

/* What else there is to write of it goes first: then it only stays, and asks again in a second. */
void
lane_sleep(struct lane *lane, int64_t until_ms, struct span text)
{
	window_park_lane(lane);
	window_drop_ready(&lane->owner->window, lane);
	window_unpark_lane(lane);
	if (lane->changing || lane->in_flight > 0) {
		heap_set(&lane->owner->window.timers, &lane->timer, wall_ms() + 1000);
		return;
	}
	lane->backoff = (struct backoff){ .next_ms = until_ms,
					  .text = arena_copy(&lane->arena, text) };
	lane->change = (struct queue_lane_change){ .set_due = true, .due_ms = until_ms,
						   .set_backoff = true, .backoff = lane->backoff };
	lane->leaving = true;
	heap_remove(&lane->owner->window.timers, &lane->timer);
	lane_submit(lane);
}

/* Something of it is due. */
static void
lane_wake(struct lane *lane)
{
	if (lane_idle(lane) && mx_expired(lane->site_until_ms, wall_ms()))
		window_move_lane(&lane->owner->window, lane, lane->owner->unresolved);
	lane_refill(lane);
}

static void
lane_go_on(struct lane *lane)
{
	if (lane->ready_count < LANE_READY_LOW && lane->more_due_ms <= wall_ms())
		lane_wake(lane);
	else
		lane_arm(lane);
	if (lane->site->mode == SITE_LOOKUP && lane->ready_count > 0)
		site_touch(lane->site); /* it could not be moved while something was in flight */
}

void
lane_settle_down(struct lane *lane)
{
	struct site *site = lane->site;

	if (site->mode == SITE_BACKOFF && lane_idle(lane))
		lane_forget(lane, site->state.backoff.next_ms);
	else if (lane->stale && lane_idle(lane))
		lane_renew(lane, 0);
	else if (site->mode != SITE_BACKOFF && !lane->stale)
		lane_go_on(lane);
	site_settle_down(site);
}

void
lane_on_timer(struct lane *lane)
{
	struct dispatcher *d = lane->owner;
	struct site *site = lane->site;
	int64_t now = wall_ms();

	if (lane->stale || site->mode == SITE_BACKOFF) {
		lane_settle_down(lane);		/* its entries are the queue's until that is over */
	} else if (lane->more_due_ms <= now) {
		lane_wake(lane);
		site_settle_down(site);
	} else if (lane_may_leave(lane, now) && lane_idle(lane) && !lane->passed_over &&
		   !d->stopping) {
		lane_leave(lane, lane->more_due_ms);
	} else {
		lane_arm(lane);
	}
}

static void
on_site_changed(struct queue_op *op)
{
	struct site *site = CONTAINER_OF(op, struct site, change.op);
	struct dispatcher *d = site->owner;

	site->changing = false;
	d->settling--;
	/* again in a second; until then it must not be forgotten */
	if (op->result < 0) {
		site->unsaved = !site->leaving;
		site->leaving = false;
		heap_set(&d->window.site_timers, &site->timer, wall_ms() + 1000);
	} else if (site->unsaved) {
		site_save(site,
			  site->mode == SITE_BACKOFF ? site->state.backoff.next_ms : wall_ms());
	}
	site_settle_down(site);
	dispatcher_touch(d);
	dispatcher_check_stopped(d);
}

void
site_save(struct site *site, int64_t wake_ms)
{
	if (site == site->owner->unresolved || site->id == 0)
		return;
	if (site->changing) {
		site->unsaved = true;
		return;
	}
	site->unsaved = false;
	site->changing = true;
	site->state.concurrency = (uint32_t)site->limit;
	site->change = (struct queue_site_change){ .op.done = on_site_changed, .site = site->id,
						   .state = site->state, .wake_ms = wake_ms };
	site->owner->settling++;
	queue_submit_site(site->owner->home->port, &site->change);
}

/* Nothing of it is in memory any more: its row in `wake` is put at its first lane asleep. */
void
site_leave(struct site *site)
{
	const struct queue_asleep from = { 0 };
	struct queue_asleep row;
	int64_t again = wall_ms() + 1000, first = INT64_MAX;
	size_t n = 0, tenants = 0;

	queue_read_asleep(site->owner->home->port, site->id, &from, -1, &row, 1, &n, &first,
			  &tenants);
	site->leaving = true;
	site_save(site, first != INT64_MAX ? first : 0);
	/* overdue: something keeps its lane from being read, which must not spin */
	if (first != INT64_MAX)
		dispatcher_wake_at(site->owner, first > again ? first : again);
}

/*
 * A scan of `wake` while its row was on its way has not seen that row, and forgot what was known of
 * it: so it is said again, now that the row is written.
 */
static void
site_drop(struct site *site)
{
	struct dispatcher *d = site->owner;
	int64_t again = wall_ms() + 1000, at = site->change.wake_ms;

	if (site->mode == SITE_BACKOFF)
		dispatcher_wake_at(d, site->state.backoff.next_ms);
	if (heap_holds(&site->timer) && (at == 0 || site->timer.at_ms < at))
		at = site->timer.at_ms;			/* something arrived meanwhile */
	if (at > 0)
		dispatcher_wake_at(d, at > again ? at : again);
	if (d->sites_wait)				/* soon, with others that leave now */
		dispatcher_wake_at(d, again - 900);
	d->sites_wait = false;
	site_leave_slots(site);
	window_drop_site(&d->window, site);
}

void
site_settle_down(struct site *site)
{
	struct dispatcher *d = site->owner;

	if (site == d->unresolved || site->changing || site->unsaved ||
	    !list_empty(&site->connections))
		return;
	if (site->mode == SITE_BACKOFF) {
		LIST_EACH(struct lane, lane, &site->lanes, in_site)
			if (lane_idle(lane))
				lane_forget(lane, site->state.backoff.next_ms);
	}
	if (!list_empty(&site->lanes))
		return;
	if (site->mode == SITE_BACKOFF || site->leaving || site->id == 0)
		site_drop(site);
	else if (!heap_holds(&site->timer) || site->timer.at_ms > wall_ms() + stay_ms(site))
		site_leave(site);
}
