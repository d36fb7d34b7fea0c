/*
 * shaping_counters: who has sent how much: one counter for each shape and each value of what it is
 * counted by. Found by their key: the name of the shape, then the values. Home loop only.
 *
 * Bounded: who has not been used for a minute is forgotten, for its buckets are full again by then,
 * and sooner if there are many; what counts hours or days is in the queue, and read again. It is
 * written a second after it has changed, so that a crash forgets no more than that, and removed
 * from the queue by the hour when it is over.
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/shaping/shaping_private.h"

enum {
	KEEP_MS = 1000,			/* between two writes of one counter */
	KEEP_MOST = 1000,		/* written at a time */
	FORGET_MS = 61000,		/* longer than any bucket takes to be full */
	SWEEP_FIRST_MS = 60000, SWEEP_MS = 3600000, SWEEP_ROWS = 200,
};

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

/* A key that is too long for the queue ends in its hash. */
static struct span
note_key(struct span key, struct arena *arena)
{
	if (key.len <= NOTE_KEY_MAX)
		return key;
	return arena_printf(arena, "%.*s%c%016llx", NOTE_KEY_MAX - 32, key.at, '\0',
			    (unsigned long long)hash_bytes(key.at, key.len, key_seed));
}

/* What it has counted before. */
static void
counter_read(struct shaping_counter *c)
{
	struct arena arena = { 0 };
	struct buf record = { 0 };

	if (queue_read_note(c->owner->owner->home->port, NOTE_SHAPE, note_key(c->key, &arena),
			    &record) == 0)
		shape_counts_decode(buf_span(&record), &c->counts);
	buf_free(&record);
	arena_free(&arena);
}

static void
queue_init(struct shaping_queue *queue, struct shaping_counter *c, bool connects)
{
	list_init(&queue->waits);
	queue->counter = c;
	queue->connects = connects;
}

static struct shaping_counter *
counter_new(struct shaping *s, const struct shape *shape, uint64_t hash,
	    const struct shaping_who *who)
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
	c->used_ms = wall_ms();
	if (s->forget_ms == 0)
		s->forget_ms = c->used_ms + FORGET_MS;
	if (c->keeps)
		counter_read(c);
	return c;
}

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

/* Nobody waits for it, nothing under way is counted in it, and the queue knows all it says. */
static bool
is_unused(const struct shaping_counter *c)
{
	return c->refs == 0 && c->sends.count == 0 && c->connects.count == 0 &&
	       !list_linked(&c->changed);
}

/* There are never more than the window has reason for. */
static void
make_room(struct shaping *s)
{
	struct shaping_counter *oldest;

	if (s->counters.count <
	    config_of(s->owner)->limits.window_sites + config_of(s->owner)->limits.window_entries)
		return;
	oldest = CONTAINER_OF(s->recent.next, struct shaping_counter, recent);
	if (list_linked(&oldest->changed))
		shaping_keep_all(s, wall_ms());
	if (is_unused(oldest)) {
		counter_free(oldest);
		return;
	}
	list_remove(&oldest->recent);		/* the next one next time */
	list_add_last(&s->recent, &oldest->recent);
}

static struct shaping_counter *
counter_get(struct shaping *s, const struct shape *shape, bool provider,
	    const struct shaping_who *who)
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
	make_room(s);
	return counter_new(s, shape, hash, who);
}

struct shaping_counter *
shaping_counter(struct shaping *s, const struct shape *shape, bool provider,
		const struct shaping_who *who)
{
	struct shaping_counter *c = counter_get(s, shape, provider, who);

	if ((shape->per & (SHAPE_SITE | SHAPE_HOST)) != 0)
		c->counts.slow = measures_slowdown(s->owner->measures, provider, who->site);
	return c;
}

/* ---- life --------------------------------------------------------------------------------- */

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
			return shapes->shapes[i].of_lanes == c->of_lanes ? &shapes->shapes[i]
									 : NULL;
	return NULL;
}

void
shaping_counters_renew(struct shaping *s)
{
	LIST_EACH(struct shaping_counter, c, &s->recent, recent) {
		bool kept = c->keeps;

		c->shape = shape_now(s, c);
		c->keeps = c->shape != NULL && shape_keeps(c->shape);
		if (c->keeps && !kept)
			counter_read(c);
	}
}

void
shaping_changed(struct shaping_counter *c, int64_t now)
{
	struct shaping *s = c->owner;

	c->used_ms = now;
	list_remove(&c->recent);
	list_add_last(&s->recent, &c->recent);
	if (!c->keeps || list_linked(&c->changed))
		return;
	list_add_last(&s->changed, &c->changed);
	if (s->keep_ms == 0)
		s->keep_ms = now + KEEP_MS;
}

/* ---- the queue's copy --------------------------------------------------------------------- */

struct keeping {			/* in its own arena */
	struct queue_note note;
	struct shaping *owner;
	struct arena arena;
};

static void
on_kept(struct queue_op *op)
{
	struct keeping *k = CONTAINER_OF(op, struct keeping, note.op);
	struct arena arena = k->arena;
	struct shaping *s = k->owner;

	if (op->result < 0 && !s->full)
		log_message(LOG_WARNING, "shape-counts",
			    "counters of hours and days cannot be kept (%s): a restart "
			    "would forget them",
			    strerror(-op->result));
	s->full = op->result < 0;
	s->owner->settling--;
	arena_free(&arena);
	dispatcher_check_stopped(s->owner);
}

static struct keeping *
keeping_new(void)
{
	struct arena arena = { 0 };
	struct keeping *k = arena_alloc(&arena, sizeof(*k));

	k->arena = arena;
	return k;
}

/* notes: the first is the operation, the others go with it. */
static void
keeping_submit(struct shaping *s, struct keeping *k, struct queue_note *notes, size_t count)
{
	struct arena arena = k->arena;

	if (count == 0) {
		arena_free(&arena);
		return;
	}
	k->note = notes[0];
	k->note.more = notes + 1;
	k->note.more_count = count - 1;
	k->note.op.done = on_kept;
	k->owner = s;
	s->owner->settling++;
	queue_submit_note(s->owner->home->port, &k->note);
}

static void
keep_one(const struct shaping_counter *c, int64_t now, struct arena *arena, struct queue_note *ret)
{
	struct buf record = { 0 };
	int64_t until;

	*ret = (struct queue_note){ .kind = NOTE_SHAPE,
				    .key = arena_copy(arena, note_key(c->key, arena)) };
	ret->remove = !shape_counts_kept(&c->counts, now, &until);
	if (ret->remove)
		return;
	shape_counts_encode(&c->counts, now, &record);
	ret->value = arena_copy(arena, buf_span(&record));
	buf_free(&record);
}

static void
keep_some(struct shaping *s, int64_t now)
{
	struct keeping *k = keeping_new();
	struct queue_note *notes = arena_alloc(&k->arena, KEEP_MOST * sizeof(*notes));
	size_t count = 0;

	while (count < KEEP_MOST && !list_empty(&s->changed)) {
		struct shaping_counter *c =
			CONTAINER_OF(s->changed.next, struct shaping_counter, changed);

		list_remove(&c->changed);
		keep_one(c, now, &k->arena, &notes[count++]);
	}
	keeping_submit(s, k, notes, count);
}

void
shaping_keep_all(struct shaping *s, int64_t now)
{
	while (!list_empty(&s->changed))
		keep_some(s, now);
	s->keep_ms = 0;
}

/* A page of what is kept: what is over is removed. */
static void
sweep(struct shaping *s, int64_t now)
{
	struct queue_note_row rows[SWEEP_ROWS];
	struct keeping *k = keeping_new();
	struct queue_note *notes = arena_alloc(&k->arena, SWEEP_ROWS * sizeof(*notes));
	size_t n = 0, count = 0;

	queue_read_notes(s->owner->home->port, NOTE_SHAPE, SPAN(""), buf_span(&s->sweep_after),
			 &k->arena, rows, SWEEP_ROWS, &n);
	for (size_t i = 0; i < n; i++)
		if (rows[i].damaged || shape_record_until(rows[i].value) <= now)
			notes[count++] = (struct queue_note){ .kind = NOTE_SHAPE,
							      .key = rows[i].key, .remove = true };
	buf_clear(&s->sweep_after);
	if (n > 0)
		buf_append(&s->sweep_after, rows[n - 1].key);
	s->sweep_ms = now + (n > 0 ? KEEP_MS : SWEEP_MS);
	keeping_submit(s, k, notes, count);
}

static void
forget_unused(struct shaping *s, int64_t now)
{
	LIST_EACH(struct shaping_counter, c, &s->recent, recent) {
		if (c->used_ms <= now && c->used_ms > now - FORGET_MS)
			break;
		if (is_unused(c))
			counter_free(c);
	}
	s->forget_ms = s->counters.count > 0 ? now + FORGET_MS : 0;
}

void
shaping_keep(struct shaping *s, int64_t now)
{
	if (s->keep_ms > 0 && (s->keep_ms <= now || s->keep_ms > now + KEEP_MS)) {
		keep_some(s, now);
		s->keep_ms = list_empty(&s->changed) ? 0 : now + KEEP_MS;
	}
	if (s->forget_ms > 0 && s->forget_ms <= now)
		forget_unused(s, now);
	if (s->sweep_ms == 0)
		s->sweep_ms = now + SWEEP_FIRST_MS;
	else if (s->sweep_ms <= now)
		sweep(s, now);
}

int64_t
shaping_keep_at(const struct shaping *s)
{
	int64_t at = s->sweep_ms;

	if (s->keep_ms > 0 && s->keep_ms < at)
		at = s->keep_ms;
	return s->forget_ms > 0 && s->forget_ms < at ? s->forget_ms : at;
}

void
shaping_stop(struct shaping *s)
{
	shaping_keep_all(s, wall_ms());
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
	buf_free(&s->sweep_after);
	free(s);
}
