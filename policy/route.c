/*
 * route: patterns, the search for the most specific one, and the words of `deliver`; which one of
 * several is taken stands in route_choice.c. See route.h.
 */
#include "policy/route.h"

#include <stdlib.h>

#include "dns/idna.h"
#include "mta/base/address.h"

enum { SMTP_PORT = 25, SMTPS_PORT = 465 };

static int
compare_names(struct span a, struct span b)
{
	size_t both = a.len < b.len ? a.len : b.len;
	int order = both == 0 ? 0 : memcmp(a.at, b.at, both);

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int
compare_routes(const void *a, const void *b)
{
	const struct route *left = a, *right = b;
	int order = compare_names(left->pattern, right->pattern);

	if (order == 0)
		order = compare_names(left->name, right->name);
	return order != 0 ? order : (left->line > right->line) - (left->line < right->line);
}

static bool
asks_who_sends(const struct route *route)
{
	return route->sender_count > 0 || route->user_count > 0;
}

/* FNV-1a: of what an operator writes, so that nobody can aim at it. */
static uint64_t
mark_of(struct span name)
{
	uint64_t mark = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < name.len; i++)
		mark = (mark ^ (unsigned char)name.at[i]) * UINT64_C(0x100000001b3);
	return mark;
}

void
routes_sort(struct routes *routes)
{
	routes->conditional = false;
	for (size_t i = 0; i < routes->count; i++) {
		struct route *route = &routes->routes[i];

		route->mark = mark_of(route->name);
		routes->conditional = routes->conditional || asks_who_sends(route);
	}
	if (routes->count > 1)
		qsort(routes->routes, routes->count, sizeof(*routes->routes), compare_routes);
}

/* Those with this pattern: they stand together. */
static const struct route *
with_pattern(const struct routes *routes, struct span pattern, size_t *ret_count)
{
	size_t low = 0, high = routes->count, end;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_names(routes->routes[middle].pattern, pattern) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (end = low; end < routes->count && span_eq(routes->routes[end].pattern, pattern);)
		end++;
	*ret_count = end - low;
	return &routes->routes[low];
}

/* As patterns are written: A-labels. What has no such form stays as it is, for "*" to match. */
static struct span
canonical(struct span domain, struct arena *arena)
{
	struct span ascii;

	return span_is_ascii(domain) || !domain_to_ascii(domain, arena, &ascii) ? domain : ascii;
}

struct walk {
	const struct routes *routes;
	bool (*each)(void *arg, const struct route *routes, size_t count);
	void *arg;
};

/* False: that was the last. */
static bool
walk_pattern(const struct walk *walk, struct span pattern)
{
	size_t count;
	const struct route *first = with_pattern(walk->routes, pattern, &count);

	if (count == 0)
		return true;
	/* the one that any sender may take has the shortest name: it stands first */
	return walk->each(walk->arg, first, count) && asks_who_sends(first);
}

static void
walk_canonical(const struct walk *walk, struct span domain)
{
	bool literal = domain.len > 0 && domain.at[0] == '[';
	char wildcard[ADDRESS_DOMAIN_MAX + 1] = "*";

	if (!walk_pattern(walk, domain))
		return;
	if (!literal && domain.len < sizeof(wildcard))
		for (const char *dot; (dot = span_find(domain, '.')) != NULL;
		     domain = span_skip(domain, 1)) {
			domain = span_skip(domain, (size_t)(dot - domain.at));
			memcpy(wildcard + 1, domain.at, domain.len);
			if (!walk_pattern(walk, span_of(wildcard, domain.len + 1)))
				return;
		}
	walk_pattern(walk, SPAN("*"));
}

void
routes_each(const struct routes *routes, struct span domain,
	    bool (*each)(void *arg, const struct route *routes, size_t count), void *arg)
{
	const struct walk walk = { routes, each, arg };
	struct arena arena = { 0 };

	walk_canonical(&walk, canonical(domain, &arena));
	arena_free(&arena);
}

bool
domain_pattern_read(struct span text, struct arena *arena, struct span *ret)
{
	bool below = span_starts(text, SPAN("*."));
	struct span domain = arena_lower(arena, span_skip(text, below ? 2 : 0)), ascii;

	if (span_eq(text, SPAN("*"))) {
		*ret = SPAN("*");
		return true;
	}
	if (!domain_valid(domain, true) || (below && domain.at[0] == '['))
		return false;
	if (!span_is_ascii(domain)) {
		if (!domain_to_ascii(domain, arena, &ascii))
			return false;
		domain = ascii;
	}
	*ret = below ? arena_printf(arena, "*.%.*s", SPAN_FMT(domain)) : domain;
	return true;
}

static bool
matches_canonical(struct span pattern, struct span domain)
{
	bool literal = domain.len > 0 && domain.at[0] == '[';

	if (span_eq(pattern, SPAN("*")))
		return true;
	if (span_starts(pattern, SPAN("*.")))
		return !literal && domain.len >= pattern.len &&
		       span_ends(domain, span_skip(pattern, 1));
	return span_eq(pattern, domain);
}

bool
domain_pattern_matches(struct span pattern, struct span domain)
{
	struct arena arena = { 0 };
	bool matches = matches_canonical(pattern, canonical(domain, &arena));

	arena_free(&arena);
	return matches;
}

/* ":25", or nothing. */
static bool
parse_port(struct span text, uint16_t fallback, uint16_t *ret)
{
	uint64_t port;

	if (text.len == 0) {
		*ret = fallback;
		return true;
	}
	if (text.at[0] != ':' || !span_to_u64(span_skip(text, 1), UINT16_MAX, &port) || port == 0)
		return false;
	*ret = (uint16_t)port;
	return true;
}

/* What stands behind "smtp:" or "smtps:". */
static bool
parse_host(struct span text, bool smtps, struct arena *arena, struct deliver_host *ret,
	   const char **error)
{
	struct deliver_host host = { .use_mx = true, .tls_on_connect = smtps };
	struct span name, rest = text;

	if (text.len > 0 && text.at[0] == '[') {
		host.use_mx = false;
		name = span_skip(span_cut(&rest, ']'), 1);
		if (name.len + 1 == text.len) {
			*error = "the closing ] is missing; write smtp:[127.0.0.1]:2525 or "
				 "smtp:[mail.example.org]:25";
			return false;
		}
	} else {
		name = span_cut(&rest, ':');
		rest = span_skip(text, name.len);
	}
	if (!parse_port(rest, smtps ? SMTPS_PORT : SMTP_PORT, &host.port)) {
		*error = "the port must be a number from 1 to 65535 behind a colon; an IPv6 "
			 "address stands in brackets: "
			 "smtp:[::1]:25";
		return false;
	}
	if (netaddr_parse(name, host.port, &host.address)) {
		*error = "an address stands in brackets: smtp:[127.0.0.1]:2525";
		*ret = host;
		return !host.use_mx;
	}
	name = arena_lower(arena, name);
	if (!domain_valid(name, false)) {
		*error = "there is no valid host; write smtp:[127.0.0.1]:2525, "
			 "smtp:[mail.example.org]:25 (its addresses) or "
			 "smtp:example.org (its MX)";
		return false;
	}
	host.name = name;
	*ret = host;
	return true;
}

static bool
parse_one(struct span text, struct arena *arena, struct deliver_host *ret, const char **error)
{
	bool smtps = span_starts(text, SPAN("smtps:"));

	if (!smtps && !span_starts(text, SPAN("smtp:"))) {
		*error = "a list of hosts has smtp:[HOST]:PORT, smtp:DOMAIN or smtps:[HOST]:PORT "
			 "between its commas";
		return false;
	}
	*error = "smtps leads to a host, not to a domain's MX: write smtps:[mail.example.org]:465";
	if (!parse_host(span_skip(text, smtps ? 6 : 5), smtps, arena, ret, error) ||
	    (smtps && ret->use_mx))
		return false;
	ret->text = arena_copy(arena, text);
	return true;
}

/* "smtp:[a]:587, smtp:[b]:587" */
static bool
parse_hosts(struct span text, struct arena *arena, struct route *ret, const char **error)
{
	struct deliver_host *hosts = arena_alloc(arena, ROUTE_HOSTS_MAX * sizeof(*hosts));
	struct span key = SPAN("static:");
	size_t n = 0;
	bool more;

	do {
		more = span_find(text, ',') != NULL;
		if (n == ROUTE_HOSTS_MAX) {
			*error = "it has more than 16 hosts; 16 at most are tried";
			return false;
		}
		if (!parse_one(span_trim(span_cut(&text, ',')), arena, &hosts[n], error))
			return false;
		for (size_t i = 0; i < n; i++)
			if (span_ieq(hosts[i].text, hosts[n].text)) {
				*error = "a host stands there twice; remove one";
				return false;
			}
		key = arena_printf(arena, "%.*s%s%.*s", SPAN_FMT(key), n > 0 ? "," : "",
				   SPAN_FMT(hosts[n].text));
		n++;
	} while (more);
	ret->hosts = hosts;
	ret->host_count = n;
	ret->site_key = key;
	return true;
}

/* "550 5.1.1 text": a permanent reply, its status of the same class. */
static bool
parse_reject(struct span text, struct arena *arena, struct reply *ret)
{
	struct reply reply = { 0 };
	struct span rest = text;
	uint64_t code;
	size_t len = 0;

	if (!span_to_u64(span_cut(&rest, ' '), 599, &code) || code < 400)
		return false;
	reply.code = (uint16_t)code;
	if (!status_parse(rest, &reply.status, &len) || reply.status.klass != code / 100)
		return false;
	reply.text = arena_copy(arena, span_trim(span_skip(rest, len)));
	for (size_t i = 0; i < reply.text.len; i++)
		if ((unsigned char)reply.text.at[i] < ' ' || (unsigned char)reply.text.at[i] > '~')
			return false;
	*ret = reply;
	return reply.text.len > 0;
}

bool
route_parse_deliver(struct span text, struct arena *arena, struct route *ret, const char **error)
{
	if (span_eq(text, SPAN("discard"))) {
		ret->kind = DELIVER_DISCARD;
		return true;
	}
	if (span_eq(text, SPAN("mx")) || span_starts(text, SPAN("mx:"))) {
		ret->kind = DELIVER_MX;
		*error = "the port must be a number from 1 to 65535: mx:2525";
		return parse_port(span_skip(text, 2), SMTP_PORT, &ret->mx_port);
	}
	if (span_starts(text, SPAN("smtp:")) || span_starts(text, SPAN("smtps:"))) {
		ret->kind = DELIVER_SMTP;
		return parse_hosts(text, arena, ret, error);
	}
	if (span_starts(text, SPAN("reject:"))) {
		ret->kind = DELIVER_REJECT;
		ret->reject_text = arena_copy(arena, span_skip(text, 7));
		*error = "a code, a status of its class and a text are needed: reject:550 5.1.1 no "
			 "such user";
		return parse_reject(ret->reject_text, arena, &ret->reject);
	}
	*error = "it must be mx, mx:PORT, smtp:[HOST]:PORT, smtp:DOMAIN, smtps:[HOST]:PORT, "
		 "discard or reject:550 5.1.1 TEXT";
	return false;
}
