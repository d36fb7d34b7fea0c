/* shaping: see shaping.h. The counters are in shaping_counters.c. Home loop only. */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/outbound/shaping/shaping_private.h"

enum {
	RELEASE_MOST = 100,		/* that go on at one time */
	RELEASE_AGAIN_MS = 20,		/* until the next ones, if those did not want it */
	/* who waits longer leaves memory, if that is short of room … */
	STAY_SHORT_MS = 1000,
	STAY_LONG_MS = 30000,		/* … or if it is not */
};

/* ---- what holds for a site ---------------------------------------------------------------- */

/* The name, or address, of the host that is called first. */
static struct span
first_host(struct site *site)
{
	const struct destination *to = site_destination(site);
	char text[NETADDR_TEXT_MAX];

	if (to->host_count > 0)
		return to->hosts[0].name;
	if (to->next_hop.len > 0)
		return to->next_hop;
	if (to->address.family != 0)
		return arena_copy(&site->arena, span_str(netaddr_format(&to->address, text)));
	return SPAN("");
}

/* Found once for each configuration: most messages are asked for by what is here already. */
struct shaping_site *
shaping_facts(struct site *site)
{
	struct shaping *s = site->owner->shaping;
	const struct shapes *shapes = &config_of(site->owner)->shapes;
	struct shaping_site *f = site->shaping;

	if (f != NULL && f->generation == s->generation)
		return f;
	f = arena_alloc(&site->arena, sizeof(*f));
	site->shaping = f;
	f->generation = s->generation;
	f->place = arena_copy(&site->arena, site_key_place(site->key));
	if ((shapes->count == 0 && shapes->provider_count == 0) || site->mode == SITE_LOOKUP)
		return f;
	f->host = first_host(site);
	f->provider = shape_provider(shapes, f->host);
	f->shapes = arena_alloc(&site->arena, (shapes->count + 1) * sizeof(struct shape *));
	if (f->provider != NULL)
		f->shapes[f->count++] = &s->provider_shape;
	for (size_t i = 0; i < shapes->count; i++) {
		const struct shape *shape = &shapes->shapes[i];

		if (!shape_of_site(shapes, shape, f->provider, f->host))
			continue;
		f->shapes[f->count++] = shape;
		f->of_lanes = f->of_lanes || shape->of_lanes;
		f->paced = f->paced || shape->limits[SHAPE_MESSAGES_SECOND] > 0 ||
			   shape->limits[SHAPE_MESSAGES_MINUTE] > 0;
	}
	return f;
}

struct span
shaping_provider(struct site *site)
{
	const struct shaping_site *f = shaping_facts(site);

	return f->provider != NULL ? f->provider->name : SPAN("");
}

bool
shaping_is_paced(struct site *site)
{
	return shaping_facts(site)->paced;
}

size_t
shaping_messages_per_connection(struct site *site, struct span source)
{
	const struct shaping_site *f = shaping_facts(site);
	size_t least = 0;

	for (size_t i = 0; i < f->count; i++) {
		size_t most = f->shapes[i]->messages_per_connection;

		if (most > 0 && (least == 0 || most < least) &&
		    shape_of_source(f->shapes[i], source))
			least = most;
	}
	return least;
}

/* Does it hold the site as a whole, whatever lane and source? */
bool
shaping_is_of_site(const struct shape *shape)
{
	return !shape->of_lanes && shape->source_count == 0 && (shape->per & SHAPE_SOURCE) == 0;
}

struct shaping_counter *
shaping_counter_for(struct site *site, const struct shape *shape, struct span source,
		    const struct lane *lane)
{
	const struct shaping_site *f = shaping_facts(site);
	struct shaping_who who = {
		.site = f->provider != NULL ? f->provider->name : f->place,
		.host = f->host,
		.source = source,
		.tenant = lane != NULL ? lane->tenant_name : SPAN(""),
		.domain = lane != NULL ? lane->domain : SPAN(""),
	};

	return shaping_counter(site->owner->shaping, shape, f->provider != NULL, &who);
}

bool
shaping_holds_for(const struct shape *shape, const struct lane *lane, struct span source)
{
	return shape_of_source(shape, source) &&
	       (lane == NULL ? !shape->of_lanes
			     : shape_of_lane(shape, lane->tenant_name, lane->domain));
}

/* ---- waiting ------------------------------------------------------------------------------ */

/* Who waits goes when its turn has come, and who comes anew is behind those that wait. */
static bool
must_queue(const struct shaping_queue *queue, const struct shaping_wait *wait)
{
	return queue->count > 0 && wait->turn != queue;
}

static void
queue_arm(struct shaping *s, struct shaping_queue *queue, int64_t at)
{
	if (queue->count == 0 || at == INT64_MAX)
		heap_remove(&s->timers, &queue->timer);
	else
		heap_set(&s->timers, &queue->timer, at);
	dispatcher_touch(s->owner);
}

static int64_t
queue_next(const struct shaping_queue *queue, int64_t now, size_t more)
{
	const struct shaping_counter *c = queue->counter;

	if (c->shape == NULL)
		return now;
	return queue->connects ? shape_next_connect(c->shape, &c->counts, now, more)
			       : shape_next_send(c->shape, &c->counts, now, more);
}

static void
wait_in(struct shaping *s, struct shaping_queue *queue, struct shaping_wait *wait,
	const struct shape_hold *hold, int64_t now)
{
	int64_t at = queue_next(queue, now, 0);

	wait->turn = NULL;
	wait->hold = *hold;
	if (wait->queue == queue)
		return;
	shaping_wait_end(wait);
	wait->since_ms = now;
	wait->queue = queue;
	list_add_last(&queue->waits, &wait->node);
	if (queue->count++ == 0)
		queue_arm(s, queue, at > now ? at : now + RELEASE_AGAIN_MS);
}

static void
release(struct shaping_wait *wait, struct shaping_queue *queue)
{
	shaping_wait_end(wait);
	wait->turn = queue;
	if (wait->is_lane) {
		struct lane *lane = CONTAINER_OF(wait, struct lane, wait);

		window_unpark_lane(lane);
		site_touch(lane->site);
	} else if (queue->connects) {
		site_touch(CONTAINER_OF(wait, struct site, connect_wait));
	} else {
		site_touch(CONTAINER_OF(wait, struct site, wait));
	}
}

/* As many as may go now; the rest when there is room for one more. */
static void
queue_release(struct shaping *s, struct shaping_queue *queue, int64_t now)
{
	const struct shaping_counter *c = queue->counter;
	size_t room = RELEASE_MOST;
	int64_t next;

	if (c->shape != NULL && queue_next(queue, now, 0) > now)
		room = 0;
	else if (c->shape != NULL && queue->connects)
		room = 1;
	else if (c->shape != NULL)
		room = shape_sends(c->shape, &c->counts, now);
	for (size_t i = 0; i < room && i < RELEASE_MOST && queue->count > 0; i++)
		release(CONTAINER_OF(queue->waits.next, struct shaping_wait, node), queue);
	next = queue_next(queue, now, room < RELEASE_MOST ? room : RELEASE_MOST);
	queue_arm(s, queue, next > now + RELEASE_AGAIN_MS ? next : now + RELEASE_AGAIN_MS);
}

/* Something has ended: is there room for one that waits for that? */
void
shaping_ended(struct shaping *s, struct shaping_queue *queue)
{
	if (queue->count > 0)
		queue_release(s, queue, wall_ms());
}

void
shaping_on_timer(struct shaping *s, int64_t now)
{
	struct heap_node *node;

	while ((node = heap_first(&s->timers)) != NULL && node->at_ms <= now) {
		struct shaping_queue *queue = CONTAINER_OF(node, struct shaping_queue, timer);

		heap_remove(&s->timers, node);
		queue_release(s, queue, now);
	}
	shaping_keep(s, now);
	shaping_walk(s, now);
}

int64_t
shaping_next_ms(const struct shaping *s)
{
	const struct heap_node *node = heap_first(&s->timers);
	int64_t at = shaping_keep_at(s);

	if (s->walk_ms > 0 && s->walk_ms < at)
		at = s->walk_ms;
	return node != NULL && node->at_ms < at ? node->at_ms : at;
}

/* ---- may it? ------------------------------------------------------------------------------ */

struct verdict {			/* of those that hold, the one that does so longest */
	struct shaping_counter *counter;
	struct shape_hold hold;
};

static void
judge(struct verdict *v, struct shaping_counter *c, const struct shape_hold *hold)
{
	if (v->counter != NULL && hold->until_ms <= v->hold.until_ms)
		return;
	v->counter = c;
	v->hold = *hold;
}

static bool
counter_allows_send(struct shaping_counter *c, const struct shaping_wait *wait, int64_t now,
		    struct shape_hold *hold)
{
	if (!shape_may_send(c->shape, &c->counts, now, hold))
		return false;
	if (wait == NULL || !must_queue(&c->sends, wait))
		return true;
	*hold = CONTAINER_OF(c->sends.waits.next, struct shaping_wait, node)->hold;
	hold->until_ms = now;
	return false;
}

/* How long may it stay in memory for nothing? */
static int64_t
stay_ms(const struct site *site)
{
	const struct window *w = &site->owner->window;

	return w->entries < w->max_entries / 2 && w->lanes.count < w->max_entries / 2 &&
			       !sites_are_many(site->owner)
		       ? STAY_LONG_MS
		       : STAY_SHORT_MS;
}

static enum shaping_answer
site_waits(struct site *site, const struct verdict *v, int64_t now)
{
	struct shaping_queue *queue = &v->counter->sends;
	int64_t at = queue_next(queue, now, queue->count);
	struct arena arena = { 0 };

	if (at != INT64_MAX && at - now > stay_ms(site)) {
		site_sleep(site, at, shaping_words(v->counter, &v->hold, &arena));
		arena_free(&arena);
	} else {
		wait_in(site->owner->shaping, queue, &site->wait, &v->hold, now);
	}
	return SHAPING_SITE_WAITS;
}

static enum shaping_answer
lane_waits(struct lane *lane, const struct verdict *v, int64_t now)
{
	struct shaping_queue *queue = &v->counter->sends;
	int64_t at = queue_next(queue, now, queue->count);
	struct arena arena = { 0 };

	if (at != INT64_MAX && at - now > stay_ms(lane->site)) {
		lane_sleep(lane, at, shaping_words(v->counter, &v->hold, &arena));
		arena_free(&arena);
	} else {
		window_park_lane(lane);
		wait_in(lane->owner->shaping, queue, &lane->wait, &v->hold, now);
	}
	return SHAPING_LANE_WAITS;
}

enum shaping_answer
shaping_may_send(struct lane *lane, struct span source)
{
	struct site *site = lane->site;
	const struct shaping_site *f = shaping_facts(site);
	struct verdict of_site = { 0 }, of_lane = { 0 };
	int64_t now;

	if (f->count == 0)
		return SHAPING_GO;
	now = wall_ms();
	for (size_t i = 0; i < f->count; i++) {
		const struct shape *shape = f->shapes[i];
		bool whole = shaping_is_of_site(shape);
		struct shaping_counter *c;
		struct shape_hold hold;

		if (!shaping_holds_for(shape, shape->of_lanes ? lane : NULL, source))
			continue;
		c = shaping_counter_for(site, shape, source, shape->of_lanes ? lane : NULL);
		if (!counter_allows_send(c, whole ? &site->wait : &lane->wait, now, &hold))
			judge(whole ? &of_site : &of_lane, c, &hold);
	}
	if (of_site.counter != NULL)
		return site_waits(site, &of_site, now);
	return of_lane.counter != NULL ? lane_waits(lane, &of_lane, now) : SHAPING_GO;
}

/* What holds a new connection of the site from that source. */
static bool
connect_verdict(struct site *site, struct span source, const struct shaping_wait *wait, int64_t now,
		struct verdict *ret)
{
	const struct shaping_site *f = shaping_facts(site);

	*ret = (struct verdict){ 0 };
	for (size_t i = 0; i < f->count; i++) {
		struct shaping_counter *c;
		struct shape_hold hold;

		if (f->shapes[i]->of_lanes || !shaping_holds_for(f->shapes[i], NULL, source))
			continue;
		c = shaping_counter_for(site, f->shapes[i], source, NULL);
		if (!shape_may_connect(c->shape, &c->counts, now, &hold)) {
			judge(ret, c, &hold);
		} else if (wait != NULL && must_queue(&c->connects, wait)) {
			hold = CONTAINER_OF(c->connects.waits.next, struct shaping_wait, node)
				       ->hold;
			judge(ret, c, &hold);
		}
	}
	return ret->counter == NULL;
}

/* Of others that end nobody knows when: where there is no room to wait, it comes again. */
static bool
connect_is_far(const struct site *site, const struct shaping_queue *queue, int64_t now, int64_t *at)
{
	*at = queue_next(queue, now, queue->count);
	if (*at != INT64_MAX)
		return *at - now > stay_ms(site);
	*at = now + STAY_SHORT_MS + chance() % (10 * STAY_SHORT_MS);
	return sites_are_many(site->owner);
}

bool
shaping_may_connect(struct site *site, struct span source)
{
	struct arena arena = { 0 };
	struct verdict v;
	int64_t now, at;

	if (shaping_facts(site)->count == 0)
		return true;
	now = wall_ms();
	if (connect_verdict(site, source, &site->connect_wait, now, &v))
		return true;
	if (site->connection_count == 0 && connect_is_far(site, &v.counter->connects, now, &at)) {
		site_sleep(site, at, shaping_words(v.counter, &v.hold, &arena));
		arena_free(&arena);
		return false;
	}
	wait_in(site->owner->shaping, &v.counter->connects, &site->connect_wait, &v.hold, now);
	connections_let_go(v.counter);
	return false;
}

bool
shaping_source_may(struct lane *lane, struct span source, int64_t *until_ms)
{
	const struct shaping_site *f = shaping_facts(lane->site);
	int64_t now = f->count > 0 ? wall_ms() : 0;
	bool may = true;

	*until_ms = 0;
	for (size_t i = 0; i < f->count; i++) {
		const struct shape *shape = f->shapes[i];
		const struct lane *whose = shape->of_lanes ? lane : NULL;
		struct shaping_counter *c;
		struct shape_hold hold;

		if (shaping_is_of_site(shape) || !shaping_holds_for(shape, whose, source))
			continue;
		c = shaping_counter_for(lane->site, shape, source, whose);
		if (shape_may_send(shape, &c->counts, now, &hold))
			continue;
		may = false;
		*until_ms = hold.until_ms > *until_ms ? hold.until_ms : *until_ms;
	}
	return may;
}

size_t
shaping_recipients(struct lane *lane, struct span source, size_t most)
{
	const struct shaping_site *f = shaping_facts(lane->site);
	int64_t now = f->count > 0 ? wall_ms() : 0;

	for (size_t i = 0; i < f->count; i++) {
		const struct shape *shape = f->shapes[i];
		const struct lane *whose = shape->of_lanes ? lane : NULL;
		size_t room;

		if (!shaping_holds_for(shape, whose, source))
			continue;
		room = shape_recipients(
			shape, &shaping_counter_for(lane->site, shape, source, whose)->counts, now);
		most = room < most ? room : most;
	}
	return most > 0 ? most : 1;
}

static bool
counts_recipients(const struct shape *shape)
{
	return shape->recipients_per_transaction > 0 || shape->limits[SHAPE_RECIPIENTS_HOUR] > 0 ||
	       shape->limits[SHAPE_RECIPIENTS_DAY] > 0;
}

bool
shaping_may_join(struct lane *lane, struct span source)
{
	const struct shaping_site *f = shaping_facts(lane->site);
	int64_t now = f->of_lanes ? wall_ms() : 0;

	if (lane->wait.queue != NULL)
		return false;
	for (size_t i = 0; f->of_lanes && i < f->count; i++) {
		const struct shape *shape = f->shapes[i];
		struct shaping_counter *c;
		struct shape_hold hold;

		if (!shape->of_lanes || !shaping_holds_for(shape, lane, source))
			continue;
		c = shaping_counter_for(lane->site, shape, source, lane);
		if (counts_recipients(shape) || !counter_allows_send(c, &lane->wait, now, &hold))
			return false;
	}
	return true;
}

/* ---- life --------------------------------------------------------------------------------- */

static void
read_limits(struct shaping *s)
{
	const struct limits *limits = &config_of(s->owner)->limits;

	s->generation++;
	s->provider_shape = (struct shape){ .per = SHAPE_SITE };
	s->provider_shape.limits[SHAPE_CONNECTIONS] = limits->connections_per_site;
}

struct shaping *
shaping_start(struct dispatcher *d)
{
	struct shaping *s = xcalloc(1, sizeof(*s));

	s->owner = d;
	list_init(&s->recent);
	list_init(&s->changed);
	read_limits(s);
	return s;
}

void
shaping_ask_again(struct shaping *s)
{
	for (size_t i = 0; i < s->counters.size; i++)
		for (struct map_node *n = s->counters.buckets[i]; n != NULL; n = n->next) {
			struct shaping_counter *c = CONTAINER_OF(n, struct shaping_counter, node);

			while (c->sends.count > 0)
				release(CONTAINER_OF(c->sends.waits.next, struct shaping_wait,
						     node),
					&c->sends);
			while (c->connects.count > 0)
				release(CONTAINER_OF(c->connects.waits.next, struct shaping_wait,
						     node),
					&c->connects);
			heap_remove(&s->timers, &c->sends.timer);
			heap_remove(&s->timers, &c->connects.timer);
		}
}

void
shaping_reconfigure(struct shaping *s)
{
	read_limits(s);
	shaping_counters_renew(s);
	shaping_ask_again(s);
	shaping_walk_start(s);
}

/* The first in the file that says something; a connection is not of a tenant or domain. */
void
shaping_times(struct site *site, struct span source, struct shape_times *ret)
{
	const struct shaping_site *f = shaping_facts(site);

	*ret = (struct shape_times){ 0 };
	for (size_t i = 0; i < f->count; i++)
		if (!f->shapes[i]->of_lanes && shape_of_source(f->shapes[i], source))
			shape_times_add(ret, &f->shapes[i]->times);
}
