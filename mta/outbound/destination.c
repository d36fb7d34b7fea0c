/* destination: see destination.h. */
#include "mta/outbound/destination.h"

struct span
destination_key(const struct route *route, struct span domain, struct arena *arena)
{
	struct span place;

	if (route->kind == DELIVER_SMTP && !route->host.use_mx)
		return route->site_key;
	if (route->kind != DELIVER_MX || domain.len == 0 || domain.at[0] != '[')
		return (struct span){ 0 };
	place = arena_printf(arena, "static:smtp:%.*s:%u", SPAN_FMT(domain),
			     (unsigned)route->mx_port);
	return site_key_of(place, route, SITE_MX_INSECURE, arena);
}

struct span
destination_mx_domain(const struct route *route, struct span domain)
{
	return route->kind == DELIVER_SMTP ? route->host.name : domain;
}

struct span
destination_key_by_mx(const struct route *route, const struct mx_set *set, struct arena *arena)
{
	uint16_t port = route != NULL && route->kind == DELIVER_SMTP ? route->host.port :
			route != NULL				     ? route->mx_port :
								       25;
	enum site_mx mx = set->implicit ? SITE_MX_IMPLICIT :
			  set->secure	? SITE_MX_SECURE :
					  SITE_MX_INSECURE;

	return site_key_of(mx_site_key(set, port, arena), route, mx, arena);
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
	ret->tls_on_connect = route.host.tls_on_connect;
	ret->is_static = true;
	ret->port = route.host.port;
	ret->address = route.host.address;
	ret->address.port = route.host.port;
	if (ret->address.family == 0) {
		ret->hosts = arena_alloc(arena, sizeof(*ret->hosts));
		ret->hosts[0].name = route.host.name;
		ret->host_count = 1;
	}
}
