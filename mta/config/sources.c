/*
 * sources: what a source, or a pool of them, does not show by itself: addresses that are there
 * twice, sources that there are none of, plans that shrink; and addresses that are not this
 * machine's, which is a warning, for they may come later.
 */
#include <errno.h>
#include <unistd.h>

#include "mta/config/private.h"

enum { PLAN_MAX = 1000000000 };

static struct place
place_in(const struct load *load, enum section_kind kind, size_t index, const char *name)
{
	const char *const names[] = { name, NULL };
	struct place at = config_section(load, kind, index)->at;

	config_place(load, names, kind, index, &at);
	return at;
}

/* ---- sources ------------------------------------------------------------------------------ */

/* Not EACCES and the like: whoever looks (tramctl, too) need not be who will run it. */
static bool
is_local(const struct netaddr *address)
{
	struct sockaddr_storage sa;
	socklen_t len = netaddr_to_sockaddr(address, &sa);
	int fd = socket(address->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool local = fd < 0 || bind(fd, (struct sockaddr *)&sa, len) == 0 || errno != EADDRNOTAVAIL;

	if (fd >= 0)
		close(fd);
	return local;
}

static bool
check_address(struct load *load, size_t n, const struct netaddr *address, struct place at)
{
	const struct sources *all = &load->config->sources;
	char text[NETADDR_TEXT_MAX];

	netaddr_format(address, text);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < all->sources[i].address_count; j++)
			if (netaddr_same_ip(&all->sources[i].addresses[j], address))
				return config_fail(
					load, at,
					"source %.*s: %s is an address of source %.*s already "
					"(line %d); remove one",
					SPAN_FMT(all->sources[n].name), text,
					SPAN_FMT(all->sources[i].name), all->sources[i].line);
	if (load->warnings != NULL && !is_local(address))
		config_warn(load, at,
			    "source %.*s: %s is not an address of this machine: nothing can be "
			    "sent from "
			    "there; add it (ip address add), or remove it here",
			    SPAN_FMT(all->sources[n].name), text);
	return true;
}

static bool
check_addresses(struct load *load, size_t n)
{
	const struct source *source = &load->config->sources.sources[n];
	struct place at = place_in(load, SECTION_SOURCE, n, "address");

	if (source->address_count == 0)
		return config_fail(load, at,
				   "source %.*s has no address; add: address = {\"192.0.2.1\", "
				   "\"2001:db8::1\"}", SPAN_FMT(source->name));
	for (size_t i = 0; i < source->address_count; i++) {
		for (size_t j = 0; j < i; j++)
			if (source->addresses[i].family == source->addresses[j].family)
				return config_fail(
					load, at,
					"source %.*s has two addresses of one family; make it "
					"two sources, and put both in a pool",
					SPAN_FMT(source->name));
		if (!check_address(load, n, &source->addresses[i], at))
			return false;
	}
	return true;
}

static bool
check_plan(struct load *load, size_t n)
{
	static const char *const start[] = { "warmup-start", NULL };
	struct source *source = &load->config->sources.sources[n];
	struct place at = place_in(load, SECTION_SOURCE, n, "warmup-plan");
	bool starts = config_place(load, start, SECTION_SOURCE, n, &at);

	if (starts != (source->plan_count > 0))
		return config_fail(load, at, "source %.*s: %s; add: %s", SPAN_FMT(source->name),
				   starts ? "warmup-start needs a plan"
					  : "warmup-plan needs its first day",
				   starts ? "warmup-plan = {50, 100, 200, 400}"
					  : "warmup-start = \"2026-11-21\"");
	if (source->plan_count > WARMUP_DAYS_MAX)
		return config_fail(load, at, "source %.*s: warmup-plan has %zu days; %d at most",
				   SPAN_FMT(source->name), source->plan_count, WARMUP_DAYS_MAX);
	source->plan =
		arena_alloc(&load->config->arena, (source->plan_count + 1) * sizeof(*source->plan));
	for (size_t i = 0; i < source->plan_count; i++) {
		if (!span_to_u64(source->plan_words[i], PLAN_MAX, &source->plan[i]) ||
		    source->plan[i] == 0)
			return config_fail(
				load, at,
				"source %.*s: warmup-plan has \"%.*s\"; write how many mails may "
				"be sent on each day, from 1 to %d: {50, 100, 200, 400}",
				SPAN_FMT(source->name), SPAN_FMT(source->plan_words[i]), PLAN_MAX);
		if (i > 0 && source->plan[i] < source->plan[i - 1])
			return config_fail(
				load, at,
				"source %.*s: warmup-plan shrinks on day %zu, from %llu to %llu; "
				"let it grow",
				SPAN_FMT(source->name), i + 1,
				(unsigned long long)source->plan[i - 1],
				(unsigned long long)source->plan[i]);
	}
	return true;
}

/* ---- pools -------------------------------------------------------------------------------- */

static bool
check_member(struct load *load, struct pool *pool, struct span word, struct place at)
{
	const struct sources *all = &load->config->sources;
	const struct source *source;
	const char *error;
	struct span name;
	uint64_t weight;

	if (!pool_word_read(word, &name, &weight, &error))
		return config_fail(load, at, "pool %.*s: \"%.*s\": %s", SPAN_FMT(pool->name),
				   SPAN_FMT(word), error);
	source = source_find(all, name);
	if (source == NULL)
		return config_fail(
			load, at,
			"pool %.*s: there is no source %.*s; %s: source \"%.*s\" { address "
			"= \"192.0.2.1\" }",
			SPAN_FMT(pool->name), SPAN_FMT(name),
			pool_find(all, name) != NULL ? "that is a pool, which has sources; add"
						     : "add",
			SPAN_FMT(name));
	for (size_t i = 0; i < pool->member_count; i++)
		if (&all->sources[pool->members[i].source] == source)
			return config_fail(
				load, at,
				"pool %.*s has source %.*s twice; write it once, with a weight: "
				"\"%.*s=2\"",
				SPAN_FMT(pool->name), SPAN_FMT(name), SPAN_FMT(name));
	pool->members[pool->member_count++] =
		(struct pool_member){ (size_t)(source - all->sources), weight };
	return true;
}

static bool
check_pool(struct load *load, size_t n)
{
	struct pool *pool = &load->config->sources.pools[n];
	struct place at = place_in(load, SECTION_POOL, n, "sources");

	if (pool->word_count == 0 || pool->word_count > POOL_SOURCES_MAX)
		return config_fail(
			load, at,
			"pool %.*s needs sources, %d at most; add: sources = {\"a\", \"b=3\"}",
			SPAN_FMT(pool->name), POOL_SOURCES_MAX);
	for (size_t i = 0; i < pool->word_count; i++)
		if (!check_member(load, pool, pool->words[i], at))
			return false;
	return true;
}

static bool
is_among(const struct span *list, size_t count, struct span word)
{
	for (size_t i = 0; i < count; i++)
		if (span_ieq(list[i], word))
			return true;
	return false;
}

/* Nothing would say which of the two it is. */
static bool
check_twice(struct load *load, size_t n, const char *what)
{
	const struct pool *all = load->config->sources.pools, *mine = &all[n];
	bool senders = what[0] == 's';
	const struct span *list = senders ? mine->senders : mine->tenants;
	size_t count = senders ? mine->sender_count : mine->tenant_count;

	for (size_t i = 0; i < count; i++) {
		size_t other = 0;

		while (other < n &&
		       !is_among(senders ? all[other].senders : all[other].tenants,
				 senders ? all[other].sender_count : all[other].tenant_count,
				 list[i]))
			other++;
		if (other < n || is_among(list, i, list[i]))
			return config_fail(load, place_in(load, SECTION_POOL, n, what),
					   "pool %.*s: %s: \"%.*s\" stands in pool %.*s already "
					   "(line %d); remove "
					   "one",
					   SPAN_FMT(mine->name), what, SPAN_FMT(list[i]),
					   SPAN_FMT(all[other].name), all[other].line);
	}
	return true;
}

static bool
check_routes(struct load *load)
{
	const struct sources *all = &load->config->sources;
	const struct routes *routes = &load->config->access.routes;
	struct place at = { load->config->path, 1 };

	for (size_t i = 0; i < routes->count; i++) {
		const struct route *route = &routes->routes[i];

		if (route->pool.len == 0 || pool_find(all, route->pool) != NULL)
			continue;
		at.line = route->line;
		for (size_t j = 0; j < load->section_count; j++)
			if (load->sections[j].kind == SECTION_ROUTE &&
			    load->sections[j].at.line == route->line)
				at = place_in(load, SECTION_ROUTE, load->sections[j].index, "pool");
		return config_fail(
			load, at,
			"route \"%.*s\": there is no pool %.*s%s; add: pool \"%.*s\" { sources = "
			"{\"a\"} }",
			SPAN_FMT(route->name), SPAN_FMT(route->pool),
			source_find(all, route->pool) != NULL ? " (that is a source)" : "",
			SPAN_FMT(route->pool));
	}
	return true;
}

static bool
check_header(struct load *load)
{
	static const char *const names[] = { "pool-header", NULL };
	const struct sources *all = &load->config->sources;
	struct place at = { load->config->path, 1 };

	if (all->header.len == 0)
		return true;
	config_place(load, names, SECTION_TOP, 0, &at);
	for (size_t i = 0; i < all->header.len; i++)
		if (all->header.at[i] <= ' ' || all->header.at[i] == ':' || all->header.at[i] > '~')
			return config_fail(
				load, at,
				"pool-header = \"%.*s\": it is not the name of a header field; "
				"write \"X-Pool\"",
				SPAN_FMT(all->header));
	if (config_field_is_mails(all->header))
		return config_fail(load, at,
				   "pool-header = \"%.*s\": the field is taken out of the mail, "
				   "which needs it; take one "
				   "of its own: \"X-Pool\"",
				   SPAN_FMT(all->header));
	if (all->pool_count == 0)
		return config_fail(load, at,
				   "pool-header: there is no pool that it could name; add: pool "
				   "\"news\" { sources = {\"a\"} }, or remove it");
	return true;
}

bool
config_check_sources(struct load *load)
{
	struct sources *all = &load->config->sources;

	for (size_t i = 0; i < all->source_count; i++) {
		if (all->sources[i].ehlo_name.len == 0)
			all->sources[i].ehlo_name = load->config->client.ehlo_name;
		if (!check_addresses(load, i) || !check_plan(load, i))
			return false;
		source_set_mark(&all->sources[i]);
	}
	for (size_t i = 0; i < all->pool_count; i++)
		if (!check_pool(load, i) || !check_twice(load, i, "senders") ||
		    !check_twice(load, i, "tenants"))
			return false;
	return check_routes(load) && check_header(load);
}
