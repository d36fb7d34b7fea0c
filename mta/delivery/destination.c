/* destination: see destination.h. */
#include "mta/delivery/destination.h"

static enum site_mx
mx_of(const struct mx_set *set)
{
	return set->implicit ? SITE_MX_IMPLICIT : set->secure ? SITE_MX_SECURE : SITE_MX_INSECURE;
}

struct span
destination_key(const struct route *route, struct span domain, enum route_wish wish,
		struct arena *arena)
{
	struct span place;

	if (route_is_static(route))
		return site_key_of(site_key_place(route->site_key), route, wish, SITE_MX_INSECURE,
				   arena);
	if (route->kind != DELIVER_MX || domain.len == 0 || domain.at[0] != '[')
		return (struct span){ 0 };
	place = arena_printf(arena, "static:smtp:%.*s:%u", SPAN_FMT(domain),
			     (unsigned)route->mx_port);
	return site_key_of(place, route, wish, SITE_MX_INSECURE, arena);
}

struct span
destination_mx_domain(const struct route *route, struct span domain)
{
	return route->kind == DELIVER_SMTP ? route->hosts[0].name : domain;
}

struct span
destination_key_by_mx(const struct route *route, const struct mx_set *set, enum route_wish wish,
		      struct arena *arena)
{
	uint16_t port = route != NULL && route->kind == DELIVER_SMTP ? route->hosts[0].port :
			route != NULL				     ? route->mx_port :
								       25;

	return site_key_of(mx_site_key(set, port, arena), route, wish, mx_of(set), arena);
}

void
destination_read(struct span key, struct arena *arena, struct destination *ret)
{
	struct span place = site_key_place(key);
	struct route route = { 0 };
	struct mx_set set = { 0 };
	const char *error;

	*ret = (struct destination){ 0 };
	if (!site_key_tls(key, arena, &ret->tls))
		return;
	if (!span_starts(place, SPAN("static:"))) {
		if (mx_parse_site_key(place, arena, &set, &ret->port)) {
			ret->hosts = set.hosts;
			ret->host_count = set.count;
		}
		return;
	}
	if (!route_parse_deliver(span_skip(place, 7), arena, &route, &error))
		return;
	ret->relays = route.hosts;
	ret->relay_count = route.host_count;
	destination_relay(ret, 0, arena);
}

void
destination_relay(struct destination *to, size_t n, struct arena *arena)
{
	const struct deliver_host *relay = &to->relays[n];

	to->port = relay->port;
	to->tls_on_connect = relay->tls_on_connect;
	to->is_static = !relay->use_mx;
	to->tls.mx = SITE_MX_INSECURE;
	to->next_hop = relay->use_mx ? relay->name : SPAN("");
	to->address = relay->address;
	to->address.port = relay->port;
	to->hosts = arena_alloc(arena, sizeof(*to->hosts));
	to->hosts[0].name = relay->name;
	to->host_count = relay->address.family == 0 && !relay->use_mx;
}

void
destination_relay_mx(struct destination *to, const struct mx_set *set, struct arena *arena)
{
	to->hosts = arena_alloc(arena, set->count * sizeof(*set->hosts) + 1);
	for (size_t i = 0; i < set->count; i++) {
		to->hosts[i] = set->hosts[i];
		to->hosts[i].name = arena_copy(arena, set->hosts[i].name);
	}
	to->host_count = set->count;
	to->tls.mx = mx_of(set);
}
