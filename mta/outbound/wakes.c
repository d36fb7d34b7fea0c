/*
 * wakes: which of the sites that are asleep come to memory now. Home loop only.
 *
 * Rows of `wake` are read by time, and what is due comes to memory until there is no room. Room is
 * shared by tenant: whose mail brought a site has it, and may have so many of them (share_room())
 * that whoever comes then finds some. So the rows of one who has no more room may stand before
 * those of others, any number of them: from there on a pass goes through the rest, a page at a
 * time, and takes what is due for tenants that have room. It is paced by how much it has looked at,
 * so that it costs next to nothing however much waits, and there is none as long as there is room
 * for everybody.
 */
#include "mta/base/clock.h"
#include "mta/outbound/dispatcher_private.h"

enum {
	SHARE_OF_SITES = 3,		/* times what is free, for one tenant */
	SHARE_OF_SITES_URGENT = 8,	/* … for its mail of a priority above the usual one */
	/* a pass over so many rows, and the next one that much later */
	PASS_LEAST_MS = 100, PASS_ROWS_PER_MS = 20,
};

/*
 * Long before one tenant has all that it may: what it has no more need of makes room for what it
 * has.
 */
bool
sites_are_many(const struct dispatcher *d)
{
	return d->window.sites >= d->window.max_sites / 2;
}

/* Whoever has all there are may have one more: nobody need be asked for. */
static bool
all_have_room(const struct dispatcher *d)
{
	return d->window.sites < d->window.max_sites - d->window.max_sites / 4;
}

static bool
has_room(const struct dispatcher *d, const struct share *share, size_t factor)
{
	const struct window *w = &d->window;

	return share_room(share != NULL ? share->sites : 0, w->sites, w->max_sites, factor) > 0;
}

bool
sites_have_room(const struct dispatcher *d, const struct share *share, uint8_t priority)
{
	return has_room(d, share,
			priority_mt(priority) > 0 ? SHARE_OF_SITES_URGENT : SHARE_OF_SITES);
}

void
sites_wait(struct dispatcher *d)
{
	d->sites_wait = true;
	dispatcher_wake_at(d, wall_ms() + 1000);
}

struct site *
site_load_for(struct dispatcher *d, uint64_t id, uint64_t lane)
{
	struct arena arena = { 0 };
	struct lane_record record;
	bool room = true;

	if (!all_have_room(d) && queue_read_lane(d->home->port, lane, &arena, &record) == 0)
		room = sites_have_room(d, share_find(&d->window, tenant_mark(record.name.tenant)),
				       record.name.priority);
	arena_free(&arena);
	if (room)
		return site_load(d, id);
	sites_wait(d);
	return NULL;
}

/* Is a lane of it due whose tenant has room? Or none at all: then its row is only put right. */
static bool
site_may_come(struct dispatcher *d, uint64_t id, int64_t now)
{
	struct queue_asleep row, after = { 0 };
	int64_t next = INT64_MAX;
	size_t n = 0, tenants = 0;

	if (all_have_room(d))
		return true;
	for (bool first = true;; first = false) {
		if (queue_read_asleep(d->home->port, id, &after, now, &row, 1, &n, &next,
				      &tenants) < 0 ||
		    n == 0)
			return first && has_room(d, NULL, SHARE_OF_SITES);
		if (has_room(d, share_find(&d->window, row.tenant), SHARE_OF_SITES))
			return true;
		after = (struct queue_asleep){ .tenant = row.tenant, .due_ms = INT64_MAX,
					       .lane = UINT64_MAX };
	}
}

static void
site_comes(struct dispatcher *d, uint64_t id)
{
	struct site *site = site_load(d, id);

	if (site != NULL)
		site_settle_down(site);
}

/* Those behind it are looked at by and by. */
static void
pass_begin(struct dispatcher *d, const struct queue_wake *behind, int64_t now)
{
	struct wake_pass *pass = &d->pass;

	if (pass->under_way)
		return;
	pass->under_way = true;
	pass->after = *behind;
	pass->rows = 0;
	if (pass->next_ms < now || pass->next_ms > now + RECHECK_MS)
		pass->next_ms = now;
}

void
wakes_scan(struct dispatcher *d, int64_t now)
{
	struct queue_wake page[PAGE], after = { 0 };
	size_t n = 0;

	d->wake_at_ms = INT64_MAX;
	site_load_lanes(d->unresolved);
	do {
		if (queue_read_wakes(d->home->port, &after, INT64_MAX, page, PAGE, &n) < 0) {
			dispatcher_wake_at(d, now + 1000);
			return;
		}
		for (size_t i = 0; i < n; i++) {
			struct site *site = window_site(&d->window, page[i].site);

			after = page[i];
			if (page[i].at_ms > now) {
				dispatcher_wake_at(d, page[i].at_ms);
				return;
			}
			if (site == NULL && !site_may_come(d, page[i].site, now)) {
				sites_wait(d);
				pass_begin(d, &page[i], now);
				return;
			}
			if (site == NULL) {
				site_comes(d, page[i].site);
			} else if (site->mode == SITE_BACKOFF &&
				   site->state.backoff.next_ms <= now) {
				site_probe_now(site);
				site_settle_down(site);
			} else if (site->mode == SITE_BACKOFF) {
				dispatcher_wake_at(d, site->state.backoff.next_ms);
			}
		}
	} while (n == PAGE);
}

void
wakes_pass(struct dispatcher *d, int64_t now)
{
	struct wake_pass *pass = &d->pass;
	struct queue_wake page[PAGE];
	size_t n = 0;

	if (!pass->under_way || pass->next_ms > now)
		return;
	if (queue_read_wakes(d->home->port, &pass->after, now, page, PAGE, &n) < 0)
		n = 0;
	for (size_t i = 0; i < n; i++)
		if (window_site(&d->window, page[i].site) == NULL &&
		    site_may_come(d, page[i].site, now))
			site_comes(d, page[i].site);
	pass->rows += n;
	pass->next_ms = now + 1;
	if (n == PAGE && has_room(d, NULL, SHARE_OF_SITES)) {
		pass->after = page[n - 1];
		return;
	}
	pass->under_way = false;
	pass->next_ms = now + PASS_LEAST_MS + (int64_t)(pass->rows / PASS_ROWS_PER_MS);
}

int64_t
wakes_next_ms(const struct dispatcher *d)
{
	return d->pass.under_way && d->pass.next_ms < d->wake_at_ms ? d->pass.next_ms
								    : d->wake_at_ms;
}
