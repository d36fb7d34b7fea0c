/*
 * shaping_view: what is told of limits: which one holds a site or lane now, with its numbers, and
 * what each of a site has used. Home loop only.
 */
#include "mta/base/clock.h"
#include "mta/outbound/explain/hold_reason.h"
#include "mta/outbound/shaping/shaping_private.h"

struct span
shaping_words(const struct shaping_counter *c, const struct shape_hold *hold, struct arena *arena)
{
	struct span text = shape_hold_text(hold, c->shape->of_lanes, arena);

	if (c->shape == &c->owner->provider_shape)
		return arena_printf(arena, "limits.connections-per-site, for %.*s: %.*s",
				    SPAN_FMT(c->who_text), SPAN_FMT(text));
	return arena_printf(arena, "shape \"%.*s\", for %.*s: %.*s", SPAN_FMT(c->shape->name),
			    SPAN_FMT(c->who_text), SPAN_FMT(text));
}

static void
wait_holds(const struct shaping_wait *wait, struct arena *arena, struct hold_reasons *why)
{
	const struct shaping_counter *c;
	struct hold_reason *r;

	if (wait->queue == NULL || wait->queue->counter->shape == NULL)
		return;
	c = wait->queue->counter;
	r = hold_add(why, HOLD_SHAPE);
	r->what = c->shape->name.len > 0 ? c->shape->name : SPAN("limits.connections-per-site");
	r->since_ms = wait->since_ms;
	r->until_ms = heap_holds(&wait->queue->timer) ? wait->queue->timer.at_ms : 0;
	r->text = shaping_words(c, &wait->hold, arena);
	hold_number(r, "used", (int64_t)wait->hold.used);
	hold_number(r, "most", (int64_t)wait->hold.most);
	hold_number(r, "waiting", (int64_t)wait->queue->count);
}

void
shaping_site_held_by(struct site *site, struct arena *arena, struct hold_reasons *why)
{
	wait_holds(&site->wait, arena, why);
	wait_holds(&site->connect_wait, arena, why);
}

void
shaping_lane_held_by(struct lane *lane, struct arena *arena, struct hold_reasons *why)
{
	wait_holds(&lane->wait, arena, why);
}

static void
add_limits(struct site *site, const struct shape *shape, struct span source, json_t *array)
{
	const struct shaping_counter *c = shaping_counter_for(site, shape, source, NULL);
	int64_t now = wall_ms();

	for (int i = 0; i < SHAPE_LIMITS; i++) {
		enum shape_limit limit = (enum shape_limit)i;
		json_t *j;

		if (shape->limits[i] == 0)
			continue;
		j = json_object();
		json_object_set_new(j, "shape",
				    shape->name.len > 0
					    ? json_stringn(shape->name.at, shape->name.len)
					    : json_string("limits.connections-per-site"));
		json_object_set_new(j, "limit", json_string(shape_limit_name(limit)));
		json_object_set_new(j, "used",
				    json_integer((json_int_t)shape_used(shape, &c->counts, limit,
									now)));
		json_object_set_new(j, "most",
				    json_integer((json_int_t)shape_limit_now(shape, &c->counts,
									     limit, now)));
		if (shape_limit_now(shape, &c->counts, limit, now) < shape->limits[i])
			json_object_set_new(j, "undivided",
					    json_integer((json_int_t)shape->limits[i]));
		json_array_append_new(array, j);
	}
}

json_t *
shaping_site_json(struct site *site)
{
	const struct shaping_site *f = shaping_facts(site);
	json_t *array = json_array();

	for (size_t i = 0; i < f->count; i++)
		if (shaping_is_of_site(f->shapes[i]))
			add_limits(site, f->shapes[i], SPAN(""), array);
	return array;
}
