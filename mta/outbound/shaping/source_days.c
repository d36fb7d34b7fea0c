/* source_days: see source_days.h. */
#include "mta/outbound/shaping/source_days.h"

#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "policy/source.h"

enum {
	DAYS_MAX = 100000,		/* beyond: no more sites for sources that are new */
	STORED_AT_ONCE = 100, STORE_MS = 1000, AGAIN_MS = 10000, PAGE = 500,
	SITE_MOST = 400,		/* a longer one's beginning, and its hash */
};

struct source_days {
	struct reactor *home;
	struct map map;
	struct list dirty;
	uv_timer_t timer;
	int64_t swept_day;
	bool storing, closed;
	struct queue_note notes[STORED_AT_ONCE];
	struct source_day *stored[STORED_AT_ONCE];
	size_t count;
	struct arena arena;		/* of what is being stored */
	void (*rest)(void *arg);
	void *arg;
};

int64_t
source_today(void)
{
	return wall_ms() / SOURCE_DAY_MS;
}

/* ---- what there is ------------------------------------------------------------------------ */

static struct span
key_of(struct span source, struct span site, struct arena *arena)
{
	if (site.len > SITE_MOST)
		return arena_printf(arena, "%.*s%c%.*s %016llx", SPAN_FMT(source), '\0',
				    SPAN_FMT(span_first(site, SITE_MOST)),
				    (unsigned long long)hash_bytes(site.at, site.len, 0));
	return arena_printf(arena, "%.*s%c%.*s", SPAN_FMT(source), '\0', SPAN_FMT(site));
}

static struct source_day *
find(const struct source_days *days, struct span key)
{
	struct map_node *node = map_find(&days->map, hash_bytes(key.at, key.len, 0));

	for (; node != NULL; node = map_next_same(node)) {
		struct source_day *day = CONTAINER_OF(node, struct source_day, node);

		if (span_eq(day->key, key))
			return day;
	}
	return NULL;
}

static struct source_day *
add(struct source_days *days, struct span key, int64_t day)
{
	struct source_day *d = xcalloc(1, sizeof(*d) + key.len);

	memcpy(d->room, key.at, key.len);
	d->key = span_of(d->room, key.len);
	d->day = day;
	d->owner = days;
	list_init(&d->dirty);
	map_add(&days->map, &d->node, hash_bytes(key.at, key.len, 0));
	return d;
}

struct source_day *
source_day_of(struct source_days *days, struct span source, struct span site, bool make)
{
	struct arena arena = { 0 };
	struct span key = key_of(source, site, &arena);
	struct source_day *day = find(days, key);
	int64_t today = source_today();

	if (day == NULL && make && days->map.count < DAYS_MAX)
		day = add(days, key, today);
	arena_free(&arena);
	if (day != NULL && day->day < today) {
		day->day = today;
		day->sent = 0;
	} else if (day != NULL &&
		   day->day > today + 1) { /* the clock was set back: that day may never come */
		day->day = today;
	}
	return day;
}

struct span
source_day_source(const struct source_day *day)
{
	struct span rest = day->key;

	return span_cut(&rest, '\0');
}

struct span
source_day_site(const struct source_day *day)
{
	struct span rest = day->key;

	span_cut(&rest, '\0');
	return rest;
}

void
source_days_each(struct source_days *days, void (*each)(void *arg, const struct source_day *day),
		 void *arg)
{
	for (size_t i = 0; i < days->map.size; i++)
		for (struct map_node *n = days->map.buckets[i]; n != NULL; n = n->next)
			each(arg, CONTAINER_OF(n, struct source_day, node));
}

/* ---- storing ------------------------------------------------------------------------------ */

static void
on_timer(uv_timer_t *timer)
{
	source_days_store(timer->data);
}

static void
store_in(struct source_days *days, uint64_t ms)
{
	if (!days->closed && !uv_is_active((uv_handle_t *)&days->timer))
		uv_timer_start(&days->timer, on_timer, ms, 0);
}

void
source_day_changed(struct source_day *day)
{
	if (!list_linked(&day->dirty))
		list_add_last(&day->owner->dirty, &day->dirty);
	store_in(day->owner, STORE_MS);
}

static bool
is_over(const struct source_day *day)
{
	return day->day < source_today() && day->flying == 0;
}

/* What was of another day goes from the store, then from memory. */
static void
sweep(struct source_days *days)
{
	int64_t today = source_today();

	if (days->swept_day == today)
		return;
	days->swept_day = today;
	for (size_t i = 0; i < days->map.size; i++)
		for (struct map_node *n = days->map.buckets[i]; n != NULL; n = n->next) {
			struct source_day *day = CONTAINER_OF(n, struct source_day, node);

			if (is_over(day) && !list_linked(&day->dirty))
				list_add_last(&days->dirty, &day->dirty);
		}
}

static void
on_stored(struct queue_op *op)
{
	struct source_days *days = CONTAINER_OF(op, struct source_days, notes[0].op);

	days->storing = false;
	for (size_t i = 0; i < days->count; i++) {
		struct source_day *day = days->stored[i];

		if (op->result < 0 && !list_linked(&day->dirty)) {
			list_add_last(&days->dirty, &day->dirty);
		} else if (days->notes[i].remove && is_over(day)) {
			list_remove(&day->dirty);
			map_remove(&days->map, &day->node);
			free(day);
		}
	}
	arena_free(&days->arena);
	if (op->result < 0)
		log_message(LOG_WARNING, "source-days",
			    "how much new sources have sent today could not be kept: %s",
			    strerror(-op->result));
	else if (!list_empty(&days->dirty))
		source_days_store(days);
	if (op->result < 0)
		store_in(days, AGAIN_MS);
	if (!days->storing)
		days->rest(days->arg);
}

static void
add_note(struct source_days *days, struct source_day *day)
{
	struct queue_note *note = &days->notes[days->count];
	struct buf value = { 0 };

	source_day_encode(day->day, day->sent + day->flying, &value);
	*note = (struct queue_note){ .kind = NOTE_SOURCE_DAY,
				     .key = arena_copy(&days->arena, day->key),
				     .value = arena_copy(&days->arena, buf_span(&value)),
				     .remove = is_over(day) };
	buf_free(&value);
	days->stored[days->count++] = day;
}

void
source_days_store(struct source_days *days)
{
	uv_timer_stop(&days->timer);
	sweep(days);
	if (days->storing || days->closed || list_empty(&days->dirty))
		return;
	days->count = 0;
	LIST_EACH(struct source_day, day, &days->dirty, dirty)
		if (days->count < STORED_AT_ONCE) {
			list_remove(&day->dirty);
			add_note(days, day);
		}
	days->storing = true;
	days->notes[0].op.done = on_stored;
	days->notes[0].more = &days->notes[1];
	days->notes[0].more_count = days->count - 1;
	queue_submit_note(days->home->port, &days->notes[0]);
}

bool
source_days_busy(const struct source_days *days)
{
	return days->storing;
}

/* ---- life --------------------------------------------------------------------------------- */

static void
take_row(struct source_days *days, const struct queue_note_row *row)
{
	struct source_day *day;
	uint64_t sent;
	int64_t at;

	if (row->damaged || source_day_decode(row->value, &at, &sent) < 0) {
		at = 0;				/* it is swept away, or written anew */
		sent = 0;
	}
	day = add(days, row->key, at);
	day->sent = sent;
}

static void
load(struct source_days *days)
{
	struct queue_note_row *rows = xcalloc(PAGE, sizeof(*rows));
	struct buf after = { 0 };
	size_t n = 0;
	int rc;

	do {
		struct arena arena = { 0 };

		rc = queue_read_notes(days->home->port, NOTE_SOURCE_DAY, SPAN(""), buf_span(&after),
				      &arena, rows, PAGE, &n);
		for (size_t i = 0; rc == 0 && i < n; i++)
			take_row(days, &rows[i]);
		if (rc == 0 && n > 0) {
			buf_clear(&after);
			buf_append(&after, rows[n - 1].key);
		}
		arena_free(&arena);
	} while (rc == 0 && n > 0);
	if (rc < 0)
		log_message(LOG_ERROR, "source-days",
			    "how much new sources have sent today cannot be read: %s",
			    strerror(-rc));
	buf_free(&after);
	free(rows);
}

struct source_days *
source_days_start(struct reactor *home, void (*rest)(void *arg), void *arg)
{
	struct source_days *days = xcalloc(1, sizeof(*days));

	days->home = home;
	days->rest = rest;
	days->arg = arg;
	list_init(&days->dirty);
	uv_timer_init(&home->loop, &days->timer);
	days->timer.data = days;
	load(days);
	if (days->map.count > 0)
		store_in(days, STORE_MS);	/* those of yesterday go */
	return days;
}

void
source_days_close(struct source_days *days)
{
	days->closed = true;
	uv_close((uv_handle_t *)&days->timer, NULL);
}

void
source_days_free(struct source_days *days)
{
	struct map_node *node;

	while ((node = map_any(&days->map)) != NULL) {
		map_remove(&days->map, node);
		free(CONTAINER_OF(node, struct source_day, node));
	}
	map_free(&days->map);
	arena_free(&days->arena);
	free(days);
}
