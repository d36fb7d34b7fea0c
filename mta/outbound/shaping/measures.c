/*
 * measures: see measures.h. Here: the set of them, and how it is kept; measures_apply.c has what
 * they do.
 */
#include "mta/outbound/shaping/measures.h"

#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/shaping/measures_private.h"
#include "policy/site_key.h"

enum { TICK_MS = 1000, LOAD_PAGE = 64 };

static const uint64_t place_seed = UINT64_C(0x706c616365);

/* ---- which there are ---------------------------------------------------------------------- */

static uint64_t
place_hash(struct span place)
{
	return hash_bytes(place.at, place.len, place_seed);
}

struct kept_measure *
measures_find(struct measures *ms, enum measure_kind kind, enum response_scope scope,
	      struct span place, struct span name)
{
	struct map_node *node = map_find(&ms->by_place, place_hash(place));

	for (; node != NULL; node = map_next_same(node)) {
		struct kept_measure *k = CONTAINER_OF(node, struct kept_measure, by_place);

		if (k->m.kind == kind && k->m.scope == scope && span_eq(k->m.place, place) &&
		    span_eq(k->m.name, name))
			return k;
	}
	return NULL;
}

static void
set_text(struct buf *buf, struct span *field, struct span text)
{
	buf_clear(buf);
	buf_append(buf, span_first(text, MEASURE_TEXT_MAX));
	*field = buf_span(buf);
}

void
measure_set_texts(struct kept_measure *k, struct span rule, struct span reason)
{
	set_text(&k->rule, &k->m.rule, rule);
	set_text(&k->reason, &k->m.reason, reason);
}

struct kept_measure *
measures_add(struct measures *ms, const struct measure *m)
{
	struct kept_measure *k;

	if (ms->by_place.count >= MEASURES_MAX) {
		if (!ms->full)
			log_message(LOG_WARNING, "measures",
				    "there are %d of them: replies change nothing more",
				    MEASURES_MAX);
		ms->full = true;
		return NULL;
	}
	k = xcalloc(1, sizeof(*k));
	k->owner = ms;
	k->m = *m;
	k->m.place = arena_copy(&k->arena, m->place);
	k->m.name = arena_copy(&k->arena, m->name);
	measure_set_texts(k, m->rule, m->reason);
	map_add(&ms->by_place, &k->by_place, place_hash(m->place));
	list_add_last(&ms->all, &k->node);
	ms->generation++;
	ms->full = false;
	if (!ms->stopped && !uv_is_active((uv_handle_t *)&ms->timer))
		uv_timer_start(&ms->timer, measures_on_timer, TICK_MS, TICK_MS);
	return k;
}

static void
measure_free(struct kept_measure *k)
{
	list_remove(&k->node);
	arena_free(&k->arena);
	buf_free(&k->rule);
	buf_free(&k->reason);
	buf_free(&k->value);
	free(k);
}

/* ---- keeping them ------------------------------------------------------------------------- */

/* Kind, scope, and hashes of the place and the name: a key of its own for each. */
static struct span
note_key(struct kept_measure *k)
{
	k->key[0] = (uint8_t)(k->m.kind << 4 | k->m.scope);
	site_key_hash(k->m.place, k->key + 1);
	site_key_hash(k->m.name, k->key + 17);
	return span_of(k->key, sizeof(k->key));
}

static void
on_saved(struct queue_op *op)
{
	struct kept_measure *k = CONTAINER_OF(op, struct kept_measure, note.op);
	struct measures *ms = k->owner;
	struct dispatcher *d = ms->dispatcher;

	k->saving = false;
	d->settling--;
	if (op->result < 0 && !ms->stopped) {
		log_message(LOG_ERROR, "measures",
			    "one could not be kept (%s); a restart would forget it",
			    strerror(-op->result));
		k->dirty = !k->over;
	}
	/* one like it that has begun since has the row now */
	if (k->over && measures_find(ms, k->m.kind, k->m.scope, k->m.place, k->m.name) != NULL)
		k->dirty = false;
	if (k->dirty && (k->over || ms->stopped))
		measure_save(k);
	else if (k->over && !k->dirty)
		measure_free(k);
	dispatcher_check_stopped(d);
}

void
measure_save(struct kept_measure *k)
{
	struct dispatcher *d = k->owner->dispatcher;

	k->dirty = true;
	if (k->saving)
		return;
	k->dirty = false;
	k->saving = true;
	buf_clear(&k->value);
	if (!k->over)
		measure_encode(&k->m, &k->value);
	k->note = (struct queue_note){ .op.done = on_saved, .op.urgent = true, .kind = NOTE_MEASURE,
				       .key = note_key(k),
				       .value = buf_span(&k->value), .remove = k->over };
	d->settling++;
	queue_submit_note(d->home->port, &k->note);
}

void
measure_end(struct kept_measure *k)
{
	map_remove(&k->owner->by_place, &k->by_place);
	k->owner->generation++;
	k->over = true;
	measure_save(k);
}

static void
log_over(const struct kept_measure *k)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, k->m.kind == MEASURE_SLOW ? "slowed" : "suspended"))
		return;
	measure_log(&k->m, &l);
	log_str(&l, "over", "time");
	log_end(&l);
}

void
measures_on_timer(uv_timer_t *timer)
{
	struct measures *ms = timer->data;
	int64_t now = wall_ms();

	LIST_EACH(struct kept_measure, k, &ms->all, node) {
		if (!k->over && measure_over_ms(&k->m) <= now) {
			log_over(k);
			measure_end(k);
		} else if (k->dirty && !k->saving) {
			measure_save(k);
		}
	}
	if (list_empty(&ms->all))
		uv_timer_stop(timer);
}

static void
load(struct measures *ms)
{
	struct queue_note_row rows[LOAD_PAGE];
	struct arena arena = { 0 }, keys = { 0 };
	struct span after = SPAN("");
	size_t count = 0;
	int rc;

	do {
		rc = queue_read_notes(ms->dispatcher->home->port, NOTE_MEASURE, SPAN(""), after,
				      &arena, rows, LOAD_PAGE, &count);
		for (size_t i = 0; rc == 0 && i < count; i++) {
			struct measure m;

			after = arena_copy(&keys, rows[i].key);
			if (!rows[i].damaged && measure_decode(rows[i].value, &arena, &m) == 0)
				measures_add(ms, &m);
		}
		arena_free(&arena);
	} while (rc == 0 && count > 0);
	arena_free(&keys);
	if (rc < 0)
		log_message(LOG_ERROR, "measures", "those of before cannot be read: %s",
			    strerror(-rc));
}

void
measures_set_back(struct measures *ms)
{
	int64_t now = wall_ms();

	LIST_EACH(struct kept_measure, k, &ms->all, node)
		if (!k->over && measure_set_back(&k->m, now))
			measure_save(k);
}

struct measures *
measures_start(struct dispatcher *d)
{
	struct measures *ms = xcalloc(1, sizeof(*ms));

	ms->dispatcher = d;
	ms->generation = 1;
	list_init(&ms->all);
	uv_timer_init(&d->home->loop, &ms->timer);
	ms->timer.data = ms;
	load(ms);
	return ms;
}

void
measures_stop(struct measures *ms)
{
	ms->stopped = true;
	uv_timer_stop(&ms->timer);
	LIST_EACH(struct kept_measure, k, &ms->all, node)
		if (k->dirty)
			measure_save(k);
}

void
measures_close(struct measures *ms)
{
	uv_close((uv_handle_t *)&ms->timer, NULL);
	LIST_EACH(struct kept_measure, k, &ms->all, node) {
		if (!k->over)
			map_remove(&ms->by_place, &k->by_place);
		measure_free(k);
	}
	map_free(&ms->by_place);
}

void
measures_free(struct measures *ms)
{
	free(ms);
}
