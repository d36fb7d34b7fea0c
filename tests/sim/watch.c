/*
 * watch: what the dispatcher holds in memory: within its bounds, and nothing of it forgotten. See
 * sim.h.
 */
#include <inttypes.h>

#include "tests/sim/sim.h"

void
watch_step(struct dispatcher *d)
{
	const struct window *w = &d->window;
	static size_t connections;

	if (w->entries > w->max_entries + PAGE)
		fail("%zu entries in memory, %zu is the limit", w->entries, w->max_entries);
	if (w->sites > w->max_sites + 1)
		fail("%zu sites in memory, %zu is the limit", w->sites, w->max_sites);
	if (w->lanes.count > w->max_entries + SITE_LANES_PAGE)
		fail("%zu lanes in memory, %zu is the limit", w->lanes.count, w->max_entries);
	/* a reload may have made them fewer */
	if (d->connections > d->max_connections && d->connections > connections)
		fail("%zu connections, %zu is the limit", d->connections, d->max_connections);
	if (d->lookups > config_of(d)->limits.lookups + 1)
		fail("%zu look-ups, %zu is the limit", d->lookups, config_of(d)->limits.lookups);
	connections = d->connections;
	if (d->connections >= d->max_connections || sites_are_many(d) ||
	    w->entries >= w->max_entries / 2 || w->lanes.count >= w->max_entries / 2 ||
	    d->lookups >= config_of(d)->limits.lookups)
		world->crowded = world->mono;
}

static void
watch_lane(struct dispatcher *d, struct lane *lane, size_t *entries)
{
	size_t ready = 0;

	LIST_EACH(struct entry, entry, &lane->ready, in_lane) {
		if (entry->lane != lane || entry->in_flight)
			fail("an entry is not where it should be");
		ready++;
	}
	if (ready != lane->ready_count)
		fail("a lane has %zu ready entries, and counts %zu", ready, lane->ready_count);
	*entries += ready + lane->in_flight;
	if ((ready > 0) != (ring_holds(&lane->turn) || (ready > 0 && lane->wait.queue != NULL)))
		fail("a lane of %.*s with %zu ready entries has %s turn", SPAN_FMT(lane->domain),
		     ready, ready > 0 ? "no" : "a");
	if (!d->stopping && lane_idle(lane) && lane->more_due_ms != INT64_MAX &&
	    !heap_holds(&lane->timer) && !lane->passed_over)
		fail("a lane of %.*s has more to send, and nothing wakes it",
		     SPAN_FMT(lane->domain));
	if (!d->stopping && lane_idle(lane) && !heap_holds(&lane->timer) && !lane->passed_over)
		fail("an idle lane of %.*s stays for ever", SPAN_FMT(lane->domain));
}

static void
watch_site(struct dispatcher *d, struct site *site, size_t *lanes, size_t *entries)
{
	size_t ready = 0, in_flight = 0, connections = 0, count = 0, connecting = 0;

	LIST_EACH(struct lane, lane, &site->lanes, in_site) {
		if (lane->site != site)
			fail("a lane is not where it should be");
		watch_lane(d, lane, entries);
		ready += lane->ready_count;
		in_flight += lane->in_flight;
		count++;
	}
	LIST_EACH(struct connection, c, &site->connections, in_site) {
		connections++;
		connecting += !c->up;
	}
	if (count != site->lane_count || ready != site->ready_count || in_flight != site->in_flight)
		fail("%.*s has lost count", SPAN_FMT(site->key));
	if (connections != site->connection_count || connecting != site->connecting)
		fail("%.*s has lost count of its connections", SPAN_FMT(site->key));
	if (site->mode == SITE_PROBING && connections > site_max_connections(site))
		fail("%.*s is probed by %zu connections", SPAN_FMT(site->key), connections);
	if (connections > site_max_connections(site) && world->reloads == 0)
		fail("%.*s has %zu connections", SPAN_FMT(site->key), connections);
	*lanes += count;
}

void
watch_deep(struct dispatcher *d)
{
	size_t sites = 0, lanes = 0, entries = 0;

	for (size_t i = 0; i < d->window.sites_by_key.size; i++)
		for (struct map_node *n = d->window.sites_by_key.buckets[i]; n != NULL;
		     n = n->next) {
			watch_site(d, CONTAINER_OF(n, struct site, by_key), &lanes, &entries);
			sites++;
		}
	if (sites != d->window.sites || lanes != d->window.lanes.count ||
	    entries != d->window.entries)
		fail("the window has lost count: %zu sites of %zu, %zu lanes of %zu, %zu entries "
		     "of %zu",
		     sites, d->window.sites, lanes, d->window.lanes.count, entries,
		     d->window.entries);
}
