/* measures_view: what people see of measures; see measures.h. */
#include "mta/outbound/shaping/measures.h"

#include <stdio.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/shaping/measures_private.h"
#include "policy/site_key.h"

static void
add_reason(const struct measure *m, struct span site_key, int64_t now, struct arena *arena,
	   struct hold_reasons *why)
{
	struct hold_reason *r =
		hold_add(why, m->kind == MEASURE_SLOW ? HOLD_SLOWED : HOLD_SUSPENDED);

	r->what = arena_copy(arena, m->place.len > 0  ? m->place
				    : m->name.len > 0 ? m->name
						      : site_key);
	r->text = measure_text(m, now, arena);
	r->since_ms = m->since_ms;
	r->until_ms = m->kind == MEASURE_SLOW ? measure_over_ms(m) : m->until_ms;
	if (r->until_ms >= MEASURE_FOR_GOOD_MS)
		r->until_ms = 0;
	hold_number(r, "replies", (int64_t)m->count);
	if (m->kind == MEASURE_SLOW) {
		hold_number(r, "connections", (int64_t)measure_divided(m, m->connections, now));
		if (m->per_minute > 0)
			hold_number(r, "per_minute",
				    (int64_t)measure_divided(m, m->per_minute, now));
	}
}

/* Of one that may not be in memory: by the host that a site is told by. */
struct span
key_provider(struct dispatcher *d, struct span site_key)
{
	const struct provider *provider;
	struct destination to = { 0 };
	struct arena arena = { 0 };
	struct span name = SPAN(""), host;
	char text[NETADDR_TEXT_MAX];

	if (config_of(d)->shapes.provider_count == 0)
		return name;
	destination_read(site_key, &arena, &to);
	host = to.host_count > 0 ? to.hosts[0].name : to.next_hop;
	if (host.len == 0 && to.address.family != 0)
		host = span_str(netaddr_format(&to.address, text));
	provider = shape_provider(&config_of(d)->shapes, host);
	if (provider != NULL)
		name = provider->name;
	arena_free(&arena);
	return name;
}

/* lane: its tenant and domain count; else whatever is of the site. */
static bool
concerns(const struct measure *m, struct span place, struct span provider, struct span tenant,
	 struct span domain)
{
	if (m->scope == SCOPE_DOMAIN)
		return domain.len > 0 && span_eq(m->name, domain);
	if (!span_eq(m->place, place) && (provider.len == 0 || !span_eq(m->place, provider)))
		return false;
	if (m->scope == SCOPE_SOURCE && domain.len > 0)
		return false;			/* another source may do: sources.c tells */
	return m->scope != SCOPE_TENANT || domain.len == 0 || span_eq(m->name, tenant);
}

void
measures_hold(struct measures *ms, struct span site_key, struct span tenant, struct span domain,
	      struct arena *arena, struct hold_reasons *why)
{
	struct span place = site_key_place(site_key);
	struct buf room = { 0 };
	struct span provider = provider_place(key_provider(ms->dispatcher, site_key), &room);
	int64_t now = wall_ms();

	LIST_EACH(struct kept_measure, k, &ms->all, node)
		if (!k->over && measure_over_ms(&k->m) > now &&
		    concerns(&k->m, place, provider, tenant, domain))
			add_reason(&k->m, site_key, now, arena, why);
	buf_free(&room);
}

static json_t *
text(struct span s)
{
	json_t *j = json_stringn(s.len > 0 ? s.at : "", s.len);

	return j != NULL ? j : json_string("?");
}

static json_t *
measure_json(const struct measure *m, int64_t now)
{
	json_t *j = json_object();
	char words[16];
	uint32_t factor;

	json_object_set_new(j, "kind", json_string(m->kind == MEASURE_SLOW ? "slow" : "suspend"));
	json_object_set_new(j, "scope", json_string(response_scope_name(m->scope)));
	json_object_set_new(j, "site", text(m->place));
	json_object_set_new(j, "name", text(m->name));
	json_object_set_new(j, "rule", m->rule.len > 0 ? text(m->rule) : json_string("by hand"));
	json_object_set_new(j, "reason", text(m->reason));
	json_object_set_new(j, "since_ms", json_integer(m->since_ms));
	if (measure_over_ms(m) < MEASURE_FOR_GOOD_MS)
		json_object_set_new(j, "until_ms", json_integer(measure_over_ms(m)));
	json_object_set_new(j, "replies", json_integer((json_int_t)m->count));
	if (m->kind == MEASURE_SUSPEND)
		return j;
	factor = measure_factor(m, now);
	snprintf(words, sizeof(words), "%u.%u", factor / MEASURE_UNIT,
		 factor % MEASURE_UNIT * 10 / MEASURE_UNIT);
	json_object_set_new(j, "factor_text", json_string(words));
	json_object_set_new(j, "factor", json_real((double)factor / MEASURE_UNIT));
	json_object_set_new(j, "connections",
			    json_integer((json_int_t)measure_divided(m, m->connections, now)));
	if (m->per_minute > 0)
		json_object_set_new(j, "per_minute",
				    json_integer((json_int_t)measure_divided(m, m->per_minute,
									     now)));
	return j;
}

json_t *
dispatcher_measures_json(struct dispatcher *d)
{
	struct measures *ms = d->measures;
	json_t *all = json_array();
	int64_t now = wall_ms();

	LIST_EACH(struct kept_measure, k, &ms->all, node)
		if (!k->over && measure_over_ms(&k->m) > now)
			json_array_append_new(all, measure_json(&k->m, now));
	return all;
}
