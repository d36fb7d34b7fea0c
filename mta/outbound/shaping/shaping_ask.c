/*
 * shaping_ask: which limits of shapes would hold for mail that is not there: of a site by its key,
 * of a tenant and a domain, from a source; and how far each is used. For what-if and explain. Home
 * loop only.
 */
#include "mta/base/clock.h"
#include "mta/outbound/explain/hold_reason.h"
#include "mta/outbound/shaping/shaping_private.h"

static struct span
first_host(struct span key, struct arena *arena)
{
	struct destination to;
	char text[NETADDR_TEXT_MAX];

	destination_read(key, arena, &to);
	if (to.host_count > 0)
		return to.hosts[0].name;
	if (to.next_hop.len > 0)
		return to.next_hop;
	if (to.address.family != 0)
		return arena_copy(arena, span_str(netaddr_format(&to.address, text)));
	return SPAN("");
}

static void
tell_limits(const struct shaping_counter *c,
	    void (*each)(void *arg, const struct shaping_told *told), void *arg)
{
	for (enum shape_limit limit = 0; limit < SHAPE_LIMITS; limit++)
		if (c->shape->limits[limit] > 0)
			each(arg, &(struct shaping_told){
					  .shape = c->shape->name,
					  .who = c->who_text,
					  .limit = limit,
					  .used = shape_used(c->shape, &c->counts, limit,
							     wall_ms()),
					  .most = shape_limit_now(c->shape, &c->counts, limit,
								  wall_ms()),
				  });
}

static void
add_hold(const struct shaping_counter *c, struct arena *arena, struct hold_reasons *why)
{
	struct shape_hold hold;
	struct hold_reason *r;

	if (shape_may_send(c->shape, &c->counts, wall_ms(), &hold))
		return;
	r = hold_add(why, HOLD_SHAPE);
	r->what = c->shape->name;
	r->until_ms = hold.until_ms == INT64_MAX ? 0 : hold.until_ms;
	r->text = shaping_words(c, &hold, arena);
	hold_number(r, "used", (int64_t)hold.used);
	hold_number(r, "most", (int64_t)hold.most);
}

size_t
shaping_messages_of(struct dispatcher *d, const struct shaping_question *q, struct arena *arena)
{
	const struct shapes *shapes = &config_of(d)->shapes;
	struct span host = first_host(q->key, arena);
	const struct provider *provider = shape_provider(shapes, host);
	size_t least = 0;

	for (size_t i = 0; i < shapes->count; i++) {
		const struct shape *shape = &shapes->shapes[i];
		size_t most = shape->messages_per_connection;

		if (most > 0 && (least == 0 || most < least) && shape_of_source(shape, q->source) &&
		    shape_of_site(shapes, shape, provider, host))
			least = most;
	}
	return least;
}

struct span
shaping_provider_of(struct dispatcher *d, struct span key, struct arena *arena)
{
	const struct provider *provider =
		shape_provider(&config_of(d)->shapes, first_host(key, arena));

	return provider != NULL ? provider->name : SPAN("");
}

void
shaping_tell(struct dispatcher *d, const struct shaping_question *q, struct arena *arena,
	     struct hold_reasons *why, void (*each)(void *arg, const struct shaping_told *told),
	     void *arg)
{
	const struct shapes *shapes = &config_of(d)->shapes;
	struct span host = first_host(q->key, arena);
	const struct provider *provider = shape_provider(shapes, host);
	const struct shaping_who who = {
		.site = provider != NULL ? provider->name : site_key_place(q->key),
		.host = host, .source = q->source, .tenant = q->tenant, .domain = q->domain,
	};

	for (size_t i = 0; i < shapes->count; i++) {
		const struct shape *shape = &shapes->shapes[i];
		const struct shaping_counter *c;

		if (!shape_of_site(shapes, shape, provider, host) ||
		    !shape_of_source(shape, q->source) ||
		    (shape->of_lanes && !shape_of_lane(shape, q->tenant, q->domain)))
			continue;
		c = shaping_counter(d->shaping, shape, provider != NULL, &who);
		if (each != NULL)
			tell_limits(c, each, arg);
		add_hold(c, arena, why);
	}
}
