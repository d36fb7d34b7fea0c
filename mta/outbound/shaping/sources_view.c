/* sources_view: what the operator sees of sources and pools. Home loop only. */
#include "mta/base/clock.h"
#include "mta/outbound/shaping/sources_private.h"

static json_t *
json_text(struct span s)
{
	json_t *j = json_stringn(s.at ? s.at : "", s.len);

	return j ? j : json_string("?");		/* not UTF-8 */
}

static void
set_number(json_t *object, const char *name, uint64_t value)
{
	json_object_set_new(object, name, json_integer((json_int_t)value));
}

static json_t *
addresses_json(const struct source *source)
{
	json_t *array = json_array();
	char text[NETADDR_TEXT_MAX];

	for (size_t i = 0; i < source->address_count; i++)
		json_array_append_new(array,
				      json_string(netaddr_format(&source->addresses[i], text)));
	return array;
}

static json_t *
source_json(struct dispatcher *d, const struct source *source)
{
	const struct source_use *use = source_use_of(d->sources, source->name);
	int64_t today = source_today(), now = wall_ms();
	json_t *j = json_object();

	json_object_set_new(j, "source", json_text(source->name));
	json_object_set_new(j, "addresses", addresses_json(source));
	json_object_set_new(j, "ehlo_name", json_text(source->ehlo_name));
	set_number(j, "connections", use->connections);
	set_number(j, "sent_today", use->day == today ? use->today : 0);
	set_number(j, "delivered", use->delivered);
	set_number(j, "deferred", use->deferred);
	set_number(j, "failed", use->failed);
	if (source_is_warming(source, today)) {
		json_object_set_new(j, "warmup_day", json_integer(today - source->start_day + 1));
		json_object_set_new(j, "ceiling", json_integer(source_ceiling(source, today)));
	}
	if (use->broken.next_ms > now || use->broken.failures > 0) {
		json_object_set_new(j, "broken", json_text(use->broken.text));
		json_object_set_new(j, "since_ms", json_integer(use->broken_since_ms));
		json_object_set_new(j, "next_ms", json_integer(use->broken.next_ms));
	}
	return j;
}

struct day_rows {
	struct dispatcher *d;
	const struct source *source;
	json_t *array;
};

static void
add_day(void *arg, const struct source_day *day)
{
	struct day_rows *rows = arg;
	int64_t today = source_today();
	json_t *j;

	if (!span_eq(source_day_source(day), rows->source->name) || day->day < today)
		return;
	j = json_object();
	json_object_set_new(j, "source", json_text(rows->source->name));
	json_object_set_new(j, "site", json_text(source_day_site(day)));
	set_number(j, "sent_today", day->sent + day->flying);
	set_number(j, "in_flight", day->flying);
	json_object_set_new(j, "warmup_day", json_integer(today - rows->source->start_day + 1));
	json_object_set_new(j, "ceiling", json_integer(source_ceiling(rows->source, today)));
	json_object_set_new(j, "stored", json_boolean(!list_linked(&day->dirty) &&
						     !source_days_busy(rows->d->sources->days)));
	json_array_append_new(rows->array, j);
}

json_t *
dispatcher_sources_json(struct dispatcher *d)
{
	const struct sources *all = sources_of(d);
	struct day_rows rows = { .d = d, .array = json_array() };

	for (size_t i = 0; i < all->source_count; i++) {
		rows.source = &all->sources[i];
		json_array_append_new(rows.array, source_json(d, rows.source));
		if (source_is_warming(rows.source, source_today()))
			source_days_each(d->sources->days, add_day, &rows);
	}
	return rows.array;
}

json_t *
sources_at_json(const struct site *site)
{
	json_t *array = json_array();

	LIST_EACH(struct source_at, at, &site->sources, in_site) {
		json_t *j = json_object();

		json_object_set_new(j, "source", json_text(at->use->name));
		set_number(j, "connections", at->connections);
		set_number(j, "delivered", at->delivered);
		set_number(j, "deferred", at->deferred);
		set_number(j, "failed", at->failed);
		json_array_append_new(array, j);
	}
	return array;
}

struct span
dispatcher_pool_text(struct dispatcher *d, struct span pool, struct arena *arena)
{
	if (pool.len == 0 || pool_find(sources_of(d), pool) != NULL)
		return pool;
	return arena_printf(arena, "%.*s (there is none any more: the system chooses the address)",
			    SPAN_FMT(pool));
}
