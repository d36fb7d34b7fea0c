/*
 * shaping_counters: who has sent how much: one counter for each shape and each value of what it is
 * counted by. Found by their key: the name of the shape, then the values. Home loop only.
 *
 * Bounded: who has not been used for a minute is forgotten, for its buckets are full again by then;
 * what counts hours or days is in the queue, and read again.
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/outbound/shaping_private.h"

static const uint64_t key_seed = UINT64_C(0x7368617065);

static void
key_part(struct buf *key, unsigned per, enum shape_per which, char letter, struct span value)
{
	if ((per & which) == 0)
		return;
	buf_byte(key, letter);
	buf_append(key, value);
	buf_byte(key, '\0');
}

static void
make_key(struct buf *key, const struct shape *shape, bool provider, const struct shaping_who *who)
{
	buf_clear(key);
	buf_append(key, shape->name);
	buf_byte(key, '\0');
	key_part(key, shape->per, SHAPE_SITE, provider ? 'p' : 's', who->site);
	key_part(key, shape->per, SHAPE_HOST, 'h', who->host);
	key_part(key, shape->per, SHAPE_SOURCE, 'f', who->source);
	key_part(key, shape->per, SHAPE_TENANT, 't', who->tenant);
	key_part(key, shape->per, SHAPE_DOMAIN, 'd', who->domain);
}

/* "google, tenant shop" */
static void
make_text(struct buf *out, const struct shape *shape, const struct shaping_who *who)
{
	const struct { enum shape_per per; const char *noun; struct span value; } parts[] = {
		{ SHAPE_SITE, "", who->site },		 { SHAPE_HOST, "host ", who->host },
		{ SHAPE_SOURCE, "source ", who->source }, { SHAPE_TENANT, "tenant ", who->tenant },
		{ SHAPE_DOMAIN, "domain ", who->domain },
	};
	size_t n = 0;

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (shape->per & parts[i].per)
			buf_printf(out, "%s%s%.*s", n++ > 0 ? ", " : "", parts[i].noun,
				   parts[i].value.len > 0 ? (int)parts[i].value.len : 4,
				   parts[i].value.len > 0 ? parts[i].value.at : "none");
}

static bool
shape_keeps(const struct shape *shape)
{
	return shape->limits[SHAPE_MESSAGES_HOUR] > 0 || shape->limits[SHAPE_MESSAGES_DAY] > 0 ||
	       shape->limits[SHAPE_RECIPIENTS_HOUR] > 0 || shape->limits[SHAPE_RECIPIENTS_DAY] > 0;
}

static void
queue_init(struct shaping_queue *queue, struct shaping_counter *c, bool connects)
{
	list_init(&queue->waits);
	queue->counter = c;
	queue->connects = connects;
}

static struct shaping_counter *
counter_new(struct shaping *s, const struct shape *shape, uint64_t hash, const struct shaping_who *who)
{
	struct span key = buf_span(&s->key);
	struct buf text = { 0 };
	struct shaping_counter *c;

	make_text(&text, shape, who);
	c = xcalloc(1, sizeof(*c) + key.len + buf_len(&text));
	memcpy(c->text, key.at, key.len);
	memcpy(c->text + key.len, buf_span(&text).at, buf_len(&text));
	c->key = span_of(c->text, key.len);
	c->who_text = span_of(c->text + key.len, buf_len(&text));
	buf_free(&text);
	c->owner = s;
	c->shape = shape;
	c->of_lanes = shape->of_lanes;
	c->keeps = shape_keeps(shape);
	queue_init(&c->sends, c, false);
	queue_init(&c->connects, c, true);
	list_init(&c->changed);
	list_add_last(&s->recent, &c->recent);
	map_add(&s->counters, &c->node, hash);
	return c;
}

struct shaping_counter *
shaping_counter(struct shaping *s, const struct shape *shape, bool provider, const struct shaping_who *who)
{
	struct map_node *node;
	uint64_t hash;

	make_key(&s->key, shape, provider, who);
	hash = hash_bytes(buf_span(&s->key).at, buf_len(&s->key), key_seed);
	for (node = map_find(&s->counters, hash); node != NULL; node = map_next_same(node)) {
		struct shaping_counter *c = CONTAINER_OF(node, struct shaping_counter, node);

		if (c->shape == shape && span_eq(c->key, buf_span(&s->key)))
			return c;
	}
	return counter_new(s, shape, hash, who);
}

/* ---- life --------------------------------------------------------------------------------- */

static void
counter_free(struct shaping_counter *c)
{
	heap_remove(&c->owner->timers, &c->sends.timer);
	heap_remove(&c->owner->timers, &c->connects.timer);
	list_remove(&c->recent);
	list_remove(&c->changed);
	map_remove(&c->owner->counters, &c->node);
	shape_counts_free(&c->counts);
	free(c);
}

/* By its name; it counts on if it still counts by the same. */
static const struct shape *
shape_now(const struct shaping *s, const struct shaping_counter *c)
{
	const struct shapes *shapes = &config_of(s->owner)->shapes;
	struct span name = span_of(c->key.at, strlen(c->key.at));

	if (name.len == 0)
		return &s->provider_shape;
	for (size_t i = 0; i < shapes->count; i++)
		if (span_eq(shapes->shapes[i].name, name))
			return shapes->shapes[i].of_lanes == c->of_lanes ? &shapes->shapes[i] : NULL;
	return NULL;
}

void
shaping_counters_renew(struct shaping *s)
{
	LIST_EACH(struct shaping_counter, c, &s->recent, recent) {
		c->shape = shape_now(s, c);
		c->keeps = c->shape != NULL && shape_keeps(c->shape);
	}
}

void
shaping_changed(struct shaping_counter *c, int64_t now)
{
	c->used_ms = now;
	list_remove(&c->recent);
	list_add_last(&c->owner->recent, &c->recent);
}

void
shaping_keep(struct shaping *s, int64_t now)
{
	(void)s;
	(void)now;
}

int64_t
shaping_keep_at(const struct shaping *s)
{
	return s->keep_ms > 0 ? s->keep_ms : INT64_MAX;
}

void
shaping_free(struct shaping *s)
{
	struct map_node *node;

	while ((node = map_any(&s->counters)) != NULL)
		counter_free(CONTAINER_OF(node, struct shaping_counter, node));
	map_free(&s->counters);
	heap_free(&s->timers);
	buf_free(&s->key);
	free(s);
}
