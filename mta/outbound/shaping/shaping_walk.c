/*
 * shaping_walk: after a reload, who sleeps for a limit is woken, for the limit may be another one,
 * or none: sites and lanes that are in memory at once, all others as they are found in the queue, a
 * page at a time. Who wakes for nothing asks, and sleeps on. Home loop only.
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/outbound/shaping/shaping_private.h"

enum { WALK_PAGE = 200, WALK_MS = 20 };

struct waking {				/* a lane that is not in memory */
	struct queue_lane_change change;
	struct dispatcher *owner;
	uint64_t site;
};

/* Without failures: not for want of a host, or of an answer of the DNS. */
static bool
is_limited(const struct backoff *backoff, int64_t now)
{
	return backoff->failures == 0 && backoff->next_ms > now;
}

static void
on_lane_woken(struct queue_op *op)
{
	struct waking *w = CONTAINER_OF(op, struct waking, change.op);
	struct dispatcher *d = w->owner;
	struct site *site = window_site(&d->window, w->site);

	d->settling--;
	if (site != NULL && !d->stopping)
		site_timer_by(site, wall_ms());
	if (!d->stopping)
		dispatcher_wake_at(d, wall_ms());
	free(w);
	dispatcher_check_stopped(d);
}

static void
wake_lane(struct dispatcher *d, uint64_t site, uint64_t id, int64_t now)
{
	struct arena arena = { 0 };
	struct lane_record record;

	if (window_lane(&d->window, id) == NULL &&
	    queue_read_lane(d->home->port, id, &arena, &record) == 0 &&
	    is_limited(&record.backoff, now)) {
		struct waking *w = xcalloc(1, sizeof(*w));

		w->owner = d;
		w->site = site;
		w->change = (struct queue_lane_change){ .op.done = on_lane_woken, .lane = id,
							.set_due = true,
							.due_ms = now, .set_backoff = true };
		d->settling++;
		queue_submit_lane(d->home->port, &w->change);
	}
	arena_free(&arena);
}

/* False: it has more of them. */
static bool
walk_lanes(struct shaping *s, int64_t now)
{
	struct dispatcher *d = s->owner;
	struct queue_asleep page[WALK_PAGE];
	int64_t next = INT64_MAX;
	size_t n = 0, tenants = 0;

	if (queue_read_asleep(d->home->port, s->walk_site.site, &s->walk_lane, INT64_MAX, page,
			      WALK_PAGE, &n, &next, &tenants) < 0)
		return true;
	for (size_t i = 0; i < n; i++) {
		s->walk_lane = page[i];
		wake_lane(d, s->walk_site.site, page[i].lane, now);
	}
	return n < WALK_PAGE;
}

static void
wake_site(struct dispatcher *d, uint64_t id, int64_t now)
{
	struct arena arena = { 0 };
	struct site_record record;

	if (id != 0 && window_site(&d->window, id) == NULL &&
	    queue_read_site(d->home->port, id, &arena, &record) == 0 &&
	    is_limited(&record.state.backoff, now))
		site_retry_stored(d, id);
	arena_free(&arena);
}

/* A page of one site's lanes, then the next sites. */
void
shaping_walk(struct shaping *s, int64_t now)
{
	struct queue_wake page[WALK_PAGE];
	size_t n = 0;

	if (s->walk_ms == 0 || (s->walk_ms > now && s->walk_ms <= now + WALK_MS))
		return;
	s->walk_ms = now + WALK_MS;
	if (s->walk_lanes) {
		s->walk_lanes = !walk_lanes(s, now);
		return;
	}
	if (queue_read_wakes(s->owner->home->port, &s->walk_site, INT64_MAX, page, WALK_PAGE, &n) <
	    0)
		return;					/* again */
	for (size_t i = 0; i < n; i++) {
		s->walk_site = page[i];
		s->walk_lane = (struct queue_asleep){ 0 };
		wake_site(s->owner, page[i].site, now);
		s->walk_lanes = !walk_lanes(s, now);
		if (s->walk_lanes)
			return;
	}
	if (n < WALK_PAGE)
		s->walk_ms = 0;
}

void
shaping_walk_start(struct shaping *s)
{
	struct dispatcher *d = s->owner;
	int64_t now = wall_ms();

	for (size_t i = 0; i < d->window.sites_by_key.size; i++)
		for (struct map_node *n = d->window.sites_by_key.buckets[i]; n != NULL;
		     n = n->next) {
			struct site *site = CONTAINER_OF(n, struct site, by_key);

			if (site->mode == SITE_BACKOFF && site->state.backoff.failures == 0)
				site_probe_now(site);
		}
	s->walk_site = (struct queue_wake){ 0 };
	s->walk_lanes = false;
	s->walk_ms = now;
	dispatcher_wake_at(d, now);
}
