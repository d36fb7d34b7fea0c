/*
 * top: the sites, or the tenants, where most happens now, for `tramctl top`. What is asked goes
 * once through what is in memory (bounded by the window) and keeps the first few. Home loop only.
 *
 * What tenants have had is counted by name, for TENANTS_MAX of them; those that nothing was heard
 * of for a minute make room. All others are counted as one.
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/delivery/outcome.h"
#include "mta/outbound/dispatcher_private.h"

enum { TENANTS_MAX = 2000, SWEEP_MS = 1000 };

struct tenant_traffic {
	struct map_node node;		/* by hash of the name */
	struct span name;		/* in the same allocation */
	struct traffic traffic;
	int64_t at_ms;			/* last heard of */
	size_t lanes, ready, in_flight;	/* while it is asked for */
	char octets[];
};

struct tenants_seen {
	struct map map;
	struct tenant_traffic *others;
	int64_t swept_ms;
};

/* ---- what goes out ------------------------------------------------------------------------ */

static struct tenant_traffic *
tenant_new(struct span name)
{
	struct tenant_traffic *t = xcalloc(1, sizeof(*t) + name.len);

	if (name.len > 0)
		memcpy(t->octets, name.at, name.len);
	t->name = span_of(t->octets, name.len);
	return t;
}

static void
sweep(struct tenants_seen *seen, int64_t now)
{
	if (now - seen->swept_ms < SWEEP_MS)
		return;
	seen->swept_ms = now;
	for (size_t i = 0; i < seen->map.size; i++)
		for (struct map_node *next, *n = seen->map.buckets[i]; n != NULL; n = next) {
			struct tenant_traffic *t = CONTAINER_OF(n, struct tenant_traffic, node);

			next = n->next;
			if (now - t->at_ms < TRAFFIC_LONG_MS)
				continue;
			map_remove(&seen->map, n);
			free(t);
		}
}

static struct tenant_traffic *
tenant_find(struct tenants_seen *seen, struct span name, int64_t now)
{
	uint64_t hash = hash_bytes(name.at, name.len, 0);
	struct tenant_traffic *t;

	for (struct map_node *n = map_find(&seen->map, hash); n != NULL; n = map_next_same(n)) {
		t = CONTAINER_OF(n, struct tenant_traffic, node);
		if (span_eq(t->name, name))
			return t;
	}
	if (seen->map.count >= TENANTS_MAX)
		sweep(seen, now);
	if (seen->map.count >= TENANTS_MAX) {
		if (seen->others == NULL)
			seen->others = tenant_new(SPAN("(all others)"));
		return seen->others;
	}
	t = tenant_new(name);
	t->at_ms = now;
	map_add(&seen->map, &t->node, hash);
	return t;
}

static struct tenants_seen *
tenants_of(struct dispatcher *d)
{
	if (d->tenants == NULL)
		d->tenants = xcalloc(1, sizeof(*d->tenants));
	return d->tenants;
}

void
top_count(struct lane *lane, enum traffic_end end)
{
	int64_t now = mono_ms();
	struct tenant_traffic *t = tenant_find(tenants_of(lane->owner), lane->tenant_name, now);

	t->at_ms = now;
	traffic_note(&t->traffic, end, now);
	traffic_note(&lane->site->traffic, end, now);
}

void
top_free(struct dispatcher *d)
{
	struct map_node *n;

	if (d->tenants == NULL)
		return;
	while ((n = map_any(&d->tenants->map)) != NULL) {
		map_remove(&d->tenants->map, n);
		free(CONTAINER_OF(n, struct tenant_traffic, node));
	}
	map_free(&d->tenants->map);
	free(d->tenants->others);
	free(d->tenants);
}

/* ---- the first few ------------------------------------------------------------------------ */

struct chosen { uint64_t score, second; void *what; };

struct choice {
	struct chosen *best;		/* the highest first */
	size_t count, most;
};

static bool
is_before(const struct chosen *a, const struct chosen *b)
{
	return a->score != b->score ? a->score > b->score : a->second > b->second;
}

static void
choose(struct choice *c, uint64_t score, uint64_t second, void *what)
{
	struct chosen one = { score, second, what };
	size_t at = c->count;

	if (c->count == c->most && (c->most == 0 || !is_before(&one, &c->best[c->most - 1])))
		return;
	if (c->count < c->most)
		c->count++;
	else
		at--;
	for (; at > 0 && is_before(&one, &c->best[at - 1]); at--)
		c->best[at] = c->best[at - 1];
	c->best[at] = one;
}

static void
add_traffic(json_t *j, const struct traffic *t, int64_t now)
{
	uint64_t recent = traffic_recent(t, now);

	json_object_set_new(j, "per_second", json_real((double)recent * 1000 / TRAFFIC_SHORT_MS));
	json_object_set_new(j, "per_minute", json_integer((json_int_t)traffic_minute(t, now)));
	json_object_set_new(j, "delivered", json_integer((json_int_t)t->count[TRAFFIC_DELIVERED]));
	json_object_set_new(j, "deferred", json_integer((json_int_t)t->count[TRAFFIC_DEFERRED]));
	json_object_set_new(j, "failed", json_integer((json_int_t)t->count[TRAFFIC_FAILED]));
}

/* ---- sites -------------------------------------------------------------------------------- */

static uint64_t
site_score(const struct site *site, enum top_sort sort, int64_t now)
{
	switch (sort) {
	case TOP_RATE:
		return traffic_minute(&site->traffic, now);
	case TOP_WAITING:
		return site->ready_count;
	case TOP_IN_FLIGHT:
		return site->in_flight;
	case TOP_CONNECTIONS:
		return site->connection_count;
	case TOP_FAILURES:
		return site->traffic.count[TRAFFIC_DEFERRED] + site->traffic.count[TRAFFIC_FAILED];
	}
	return 0;
}

/* Lanes that lead there and are not in memory. */
static size_t
lanes_asleep(struct site *site)
{
	struct dispatcher *d = site->owner;
	struct arena arena = { 0 };
	struct site_record record;
	size_t n = 0;

	if (site->id != 0 && queue_read_site(d->home->port, site->id, &arena, &record) == 0 &&
	    record.lanes > site->lane_count)
		n = record.lanes - site->lane_count;
	arena_free(&arena);
	return n;
}

/* The limits may allow more than the site takes as yet. */
static size_t
allowed_now(const struct site *site)
{
	size_t most = site_max_connections(site);

	return site->limit < most ? site->limit : most;
}

static json_t *
site_row(struct site *site, int64_t now)
{
	json_t *j = dispatcher_site_json(site);

	add_traffic(j, &site->traffic, now);
	json_object_set_new(j, "limit", json_integer((json_int_t)allowed_now(site)));
	json_object_set_new(j, "asleep", json_integer((json_int_t)lanes_asleep(site)));
	return j;
}

/* Those in back-off and the like: they have left memory. */
static void
add_asleep(struct dispatcher *d, size_t most, json_t *rows)
{
	struct queue_wake page[PAGE], after = { 0 };
	size_t n = 0;

	if (queue_read_wakes(d->home->port, &after, INT64_MAX, page, PAGE, &n) < 0)
		return;
	for (size_t i = 0; i < n && json_array_size(rows) < most; i++)
		if (page[i].site != 0 && window_site(&d->window, page[i].site) == NULL)
			dispatcher_add_asleep_site(d, page[i].site, rows);
}

static json_t *
top_sites(struct dispatcher *d, enum top_sort sort, size_t most)
{
	struct choice c = { .best = xcalloc(most, sizeof(struct chosen)), .most = most };
	json_t *rows = json_array();
	int64_t now = mono_ms();

	for (size_t i = 0; i < d->window.sites_by_key.size; i++)
		for (struct map_node *m = d->window.sites_by_key.buckets[i]; m != NULL;
		     m = m->next) {
			struct site *site = CONTAINER_OF(m, struct site, by_key);

			if (site != d->unresolved || site->lane_count > 0)
				choose(&c, site_score(site, sort, now),
				       site->in_flight + site->ready_count, site);
		}
	for (size_t i = 0; i < c.count; i++)
		json_array_append_new(rows, site_row(c.best[i].what, now));
	free(c.best);
	add_asleep(d, most, rows);
	return rows;
}

/* ---- tenants ------------------------------------------------------------------------------ */

static uint64_t
tenant_score(const struct tenant_traffic *t, enum top_sort sort, int64_t now)
{
	switch (sort) {
	case TOP_RATE:
		return traffic_minute(&t->traffic, now);
	case TOP_WAITING:
		return t->ready;
	case TOP_IN_FLIGHT:
	case TOP_CONNECTIONS:
		return t->in_flight;
	case TOP_FAILURES:
		return t->traffic.count[TRAFFIC_DEFERRED] + t->traffic.count[TRAFFIC_FAILED];
	}
	return 0;
}

static void
forget_counts(struct tenant_traffic *t)
{
	t->lanes = t->ready = t->in_flight = 0;
}

/* What each has in memory now. */
static void
count_lanes(struct dispatcher *d, struct tenants_seen *seen, int64_t now)
{
	for (size_t i = 0; i < seen->map.size; i++)
		for (struct map_node *n = seen->map.buckets[i]; n != NULL; n = n->next)
			forget_counts(CONTAINER_OF(n, struct tenant_traffic, node));
	if (seen->others != NULL)
		forget_counts(seen->others);
	for (size_t i = 0; i < d->window.lanes.size; i++)
		for (struct map_node *n = d->window.lanes.buckets[i]; n != NULL; n = n->next) {
			const struct lane *lane = CONTAINER_OF(n, struct lane, node);
			struct tenant_traffic *t = tenant_find(seen, lane->tenant_name, now);

			t->at_ms = now;
			t->lanes++;
			t->ready += lane->ready_count;
			t->in_flight += lane->in_flight;
		}
}

static json_t *
tenant_row(struct dispatcher *d, const struct tenant_traffic *t, int64_t now)
{
	json_t *j = json_object(), *name = json_stringn(t->name.at, t->name.len);

	json_object_set_new(j, "tenant", name != NULL ? name : json_string("?"));
	json_object_set_new(j, "weight",
			    json_integer((json_int_t)tenant_weight(&config_of(d)->tenants,
								   t->name)));
	json_object_set_new(j, "lanes", json_integer((json_int_t)t->lanes));
	json_object_set_new(j, "ready", json_integer((json_int_t)t->ready));
	json_object_set_new(j, "in_flight", json_integer((json_int_t)t->in_flight));
	add_traffic(j, &t->traffic, now);
	return j;
}

static json_t *
top_tenants(struct dispatcher *d, enum top_sort sort, size_t most)
{
	struct choice c = { .best = xcalloc(most, sizeof(struct chosen)), .most = most };
	struct tenants_seen *seen = tenants_of(d);
	json_t *rows = json_array();
	int64_t now = mono_ms();

	count_lanes(d, seen, now);
	for (size_t i = 0; i < seen->map.size; i++)
		for (struct map_node *n = seen->map.buckets[i]; n != NULL; n = n->next) {
			struct tenant_traffic *t = CONTAINER_OF(n, struct tenant_traffic, node);

			choose(&c, tenant_score(t, sort, now), t->in_flight + t->ready, t);
		}
	for (size_t i = 0; i < c.count; i++)
		json_array_append_new(rows, tenant_row(d, c.best[i].what, now));
	if (seen->others != NULL)
		json_array_append_new(rows, tenant_row(d, seen->others, now));
	free(c.best);
	return rows;
}

bool
top_sort_parse(struct span word, enum top_sort *ret)
{
	static const char *const words[] = {
		[TOP_RATE] = "rate",		   [TOP_WAITING] = "waiting",
		[TOP_IN_FLIGHT] = "in-flight",	   [TOP_CONNECTIONS] = "connections",
		[TOP_FAILURES] = "failures",
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (span_eq(word, span_str(words[i]))) {
			*ret = (enum top_sort)i;
			return true;
		}
	return false;
}

json_t *
dispatcher_top_json(struct dispatcher *d, enum top_sort sort, size_t most, bool tenants)
{
	return tenants ? top_tenants(d, sort, most) : top_sites(d, sort, most);
}
