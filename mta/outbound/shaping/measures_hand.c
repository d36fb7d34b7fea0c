/* measures_hand: measures that an operator takes, and ends; see dispatcher.h. Home loop only. */
#include "mta/outbound/shaping/measures.h"

#include "mta/base/address.h"
#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/shaping/measures_private.h"
#include "mta/outbound/shaping/shaping_private.h"
#include "policy/site_key.h"

static void
log_ended(const struct measure *m)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, m->kind == MEASURE_SLOW ? "slowed" : "suspended"))
		return;
	measure_log(m, &l);
	log_str(&l, "over", "by hand");
	log_end(&l);
}

static size_t
end_all(struct measures *ms, struct span place, enum response_scope scope, struct span name,
	bool slow_too)
{
	size_t ended = 0;

	LIST_EACH(struct kept_measure, k, &ms->all, node) {
		bool meant =
			scope == SCOPE_NONE || (k->m.scope == scope && span_eq(k->m.name, name));

		if (k->over || measure_over_ms(&k->m) <= wall_ms() || !span_eq(k->m.place, place) ||
		    !meant || (k->m.kind == MEASURE_SLOW && !slow_too))
			continue;
		log_ended(&k->m);
		measure_end(k);
		ended++;
	}
	return ended;
}

/* ---- waking what slept for them ----------------------------------------------------------- */

static bool
is_there(struct dispatcher *d, struct span site_key, struct span place)
{
	struct buf room = { 0 };
	bool is = span_eq(site_key_place(site_key), place) ||
		  (span_starts(place, SPAN("provider:")) &&
		   span_eq(provider_place(key_provider(d, site_key), &room), place));

	buf_free(&room);
	return is;
}

static void
wake(struct site *site, bool forget)
{
	if (forget) {
		site->state.backoff = (struct backoff){ .next_ms = site->state.backoff.next_ms };
		site->pause_until_ms = site->next_message_ms = 0;
		if (site->mode == SITE_PROBING)
			site->mode = SITE_OPEN;
	}
	if (site->mode == SITE_BACKOFF)
		site_probe_now(site);
	if (forget)
		site_begins(site, CONCURRENCY_FIRST);
	site_touch(site);
}

static void
wake_place(struct dispatcher *d, struct span place, bool forget)
{
	for (size_t i = 0; i < d->window.sites_by_key.size; i++)
		for (struct map_node *n = d->window.sites_by_key.buckets[i]; n != NULL;
		     n = n->next) {
			struct site *site = CONTAINER_OF(n, struct site, by_key);

			if (site->mode != SITE_LOOKUP && is_there(d, site->key, place))
				wake(site, forget);
		}
	dispatcher_retry_asleep(d, is_there, place, forget);
}

/* ---- orders ------------------------------------------------------------------------------- */

static bool
is_provider(const struct dispatcher *d, struct span name)
{
	const struct shapes *shapes = &config_of(d)->shapes;

	for (size_t i = 0; i < shapes->provider_count; i++)
		if (span_eq(shapes->providers[i].name, name))
			return true;
	return false;
}

/* NULL, or what is wrong with what the order is about. */
static const char *
read_order(struct dispatcher *d, const struct dispatcher_order *order, struct arena *arena,
	   struct measure *ret)
{
	struct span site = order->site;

	if (order->source.len > 0 && order->tenant.len > 0)
		return "A source or a tenant: not both.";
	ret->scope = order->source.len > 0   ? SCOPE_SOURCE
		     : order->tenant.len > 0 ? SCOPE_TENANT
					     : SCOPE_SITE;
	ret->name = arena_copy(arena, order->source.len > 0 ? order->source : order->tenant);
	ret->place = arena_copy(arena, site);
	if (span_starts(site, SPAN("@"))) {
		ret->name = arena_lower(arena, span_skip(site, 1));
		ret->place = SPAN("");
		if (ret->scope != SCOPE_SITE)
			return "A domain is suspended as a whole: leave the source or tenant out.";
		ret->scope = SCOPE_DOMAIN;
		return domain_valid(ret->name, true) ? NULL : "Behind the @ stands no domain.";
	}
	if (is_provider(d, site))
		ret->place = arena_printf(arena, "provider:%.*s", SPAN_FMT(site));
	else if (span_starts(site, SPAN("mx:")) || span_starts(site, SPAN("static:")))
		ret->place = arena_copy(arena, site_key_place(site));
	else if (!span_starts(site, SPAN("provider:")))
		return "There is no site or provider of that name.";
	return NULL;
}

static const char *
begin(struct dispatcher *d, const struct dispatcher_order *order, struct measure *m)
{
	int64_t now = wall_ms();

	m->kind = MEASURE_SUSPEND;
	m->reason = order->reason.len > 0 ? order->reason : SPAN("no reason was given");
	m->since_ms = now;
	m->until_ms = order->for_ms > 0 && order->for_ms < MEASURE_FOR_GOOD_MS - now
			      ? now + order->for_ms
			      : MEASURE_FOR_GOOD_MS;
	/* a shorter time counts, too */
	end_all(d->measures, m->place, m->scope, m->name, false);
	return measures_suspend(d->measures, m) ? NULL : "There are too many: end some first.";
}

const char *
dispatcher_measure(struct dispatcher *d, const struct dispatcher_order *order)
{
	struct measure m = { 0 };
	struct arena arena = { 0 };
	const char *fault = read_order(d, order, &arena, &m);
	bool forget = order->what == MEASURE_RESET;
	size_t ended;

	if (fault == NULL && order->what == MEASURE_BEGIN) {
		fault = begin(d, order, &m);
	} else if (fault == NULL) {
		if (m.scope == SCOPE_SITE)
			m.scope = SCOPE_NONE;
		ended = end_all(d->measures, m.place, m.scope, m.name, forget);
		if (m.place.len > 0)
			wake_place(d, m.place, forget);
		shaping_ask_again(d->shaping);
		shaping_walk_start(d->shaping);		/* lanes, wherever they are */
		if (ended == 0 && !forget)
			fault = "Nothing of it is suspended.";
	}
	arena_free(&arena);
	return fault;
}
