/*
 * shape: the blocks `shape` and `provider`: their names, and what each alone cannot show: that a
 * block limits something, that something can meet it, and that its limits do not make each other
 * vain.
 */
#include "mta/config/private.h"

#define OTHERS SPAN("others")

static struct place
shape_place(const struct load *load, size_t index, const char *name)
{
	const char *const names[] = { name, NULL };
	struct place at = config_section(load, SECTION_SHAPE, index)->at;

	config_place(load, names, SECTION_SHAPE, index, &at);
	return at;
}

bool
config_name_provider(struct load *load, struct section *section, struct span title)
{
	struct shapes *shapes = &load->config->shapes;

	for (size_t i = 0; i < section->index; i++)
		if (span_eq(shapes->providers[i].name, title))
			return config_fail(load, section->at,
					   "there is a second provider \"%.*s\" (the first in line "
					   "%d); put the hosts of "
					   "both in one, or rename one",
					   SPAN_FMT(title), shapes->providers[i].line);
	if (span_eq(title, OTHERS))
		return config_fail(load, section->at,
				   "a provider cannot be called \"others\": that is, in a shape, "
				   "every site that no "
				   "shape names; rename it");
	shapes->providers[section->index].name = section->name = title;
	shapes->providers[section->index].line = section->at.line;
	return true;
}

bool
config_name_shape(struct load *load, struct section *section, struct span title)
{
	struct shapes *shapes = &load->config->shapes;

	if (title.len > 100)
		return config_fail(load, section->at,
				   "the name of a shape has at most 100 characters; shorten it");
	for (size_t i = 0; i < section->index; i++)
		if (span_eq(shapes->shapes[i].name, title))
			return config_fail(load, section->at,
					   "there is a second shape \"%.*s\" (the first in line "
					   "%d); rename one: its "
					   "counters go by its name",
					   SPAN_FMT(title), shapes->shapes[i].line);
	shapes->shapes[section->index].name = section->name = title;
	shapes->shapes[section->index].line = section->at.line;
	return true;
}

/* ---- providers ---------------------------------------------------------------------------- */

/* Does this pattern take all that the other one does? */
static bool
takes_all(struct span pattern, struct span other)
{
	if (span_eq(pattern, other) || span_eq(pattern, SPAN("*")))
		return true;
	return span_starts(pattern, SPAN("*.")) &&
	       span_ends(span_starts(other, SPAN("*.")) ? span_skip(other, 1) : other,
			 span_skip(pattern, 1));
}

/* The first provider in the file whose pattern takes all of this one. */
static const struct provider *
taken_by(const struct shapes *shapes, size_t before, struct span pattern)
{
	for (size_t i = 0; i < before; i++)
		for (size_t j = 0; j < shapes->providers[i].mx_count; j++)
			if (takes_all(shapes->providers[i].mx[j], pattern))
				return &shapes->providers[i];
	return NULL;
}

static bool
check_provider(struct load *load, size_t index)
{
	const struct shapes *shapes = &load->config->shapes;
	const struct provider *p = &shapes->providers[index], *first = NULL;
	struct place at = config_section(load, SECTION_PROVIDER, index)->at;
	size_t left = 0;

	if (p->mx_count == 0)
		return config_fail(load, at,
				   "provider \"%.*s\" has no hosts; add: mx = {\"*.example.net\"}",
				   SPAN_FMT(p->name));
	for (size_t i = 0; i < p->mx_count; i++) {
		const struct provider *other = taken_by(shapes, index, p->mx[i]);

		left += other == NULL;
		first = other != NULL ? other : first;
	}
	if (left == 0)
		return config_fail(load, at,
				   "provider \"%.*s\" can have no site: all its hosts are those of "
				   "\"%.*s\" (line %d), and "
				   "the first one counts; remove it, or put it before that one",
				   SPAN_FMT(p->name), SPAN_FMT(first->name), first->line);
	return true;
}

/* ---- whom a shape can meet ---------------------------------------------------------------- */

static const struct provider *
provider_named(const struct shapes *shapes, struct span name)
{
	for (size_t i = 0; i < shapes->provider_count; i++)
		if (span_eq(shapes->providers[i].name, name))
			return &shapes->providers[i];
	return NULL;
}

/* "others": "*", as far as no shape names it. */
static bool
read_others(struct load *load, struct shape *shape, size_t index)
{
	if (shape->site_count > 1)
		return config_fail(load, shape_place(load, index, "site"),
				   "shape \"%.*s\": \"others\" stands alone, for it is what no "
				   "shape names; make a shape "
				   "of the rest",
				   SPAN_FMT(shape->name));
	shape->others = true;
	return true;
}

/* A provider's name is taken as it is; all else is a pattern of hosts. */
static bool
read_sites(struct load *load, struct shape *shape, size_t index)
{
	struct config *config = load->config;
	struct span *sites = arena_alloc(&config->arena, (shape->site_count + 1) * sizeof(*sites));

	for (size_t i = 0; i < shape->site_count; i++) {
		struct span word = shape->sites[i];
		char text[NETADDR_TEXT_MAX];
		struct netaddr address;

		if (span_eq(word, OTHERS)) {
			if (!read_others(load, shape, index))
				return false;
			word = SPAN("*");
		}
		sites[i] = word;
		if (provider_named(&config->shapes, word) != NULL)
			continue;
		if (netaddr_parse(word, 0, &address)) {
			sites[i] = arena_copy(&config->arena,
					      span_str(netaddr_format(&address, text)));
			continue;
		}
		if ((span_find(word, '.') == NULL && !span_eq(word, SPAN("*"))) ||
		    !domain_pattern_read(word, &config->arena, &sites[i]))
			return config_fail(
				load, shape_place(load, index, "site"),
				"shape \"%.*s\": there is no provider \"%.*s\"; add: provider "
				"\"%.*s\" { mx = "
				"{\"*.example.net\"} }, or write the site's host, *.example.net",
				SPAN_FMT(shape->name), SPAN_FMT(word), SPAN_FMT(word));
	}
	shape->sites = sites;
	return true;
}

static bool
site_meets(const struct shapes *shapes, struct span site, struct span host)
{
	const struct provider *p = provider_named(shapes, site);

	for (size_t i = 0; p != NULL && i < p->mx_count; i++)
		if (shape_patterns_meet(p->mx[i], host))
			return true;
	return p == NULL && shape_patterns_meet(site, host);
}

static bool
check_meets(struct load *load, const struct shape *shape, size_t index)
{
	for (size_t i = 0; i < shape->site_count; i++)
		for (size_t j = 0; j < shape->host_count; j++)
			if (site_meets(&load->config->shapes, shape->sites[i], shape->hosts[j]))
				return true;
	if (shape->site_count == 0 || shape->host_count == 0)
		return true;
	return config_fail(load, shape_place(load, index, "host"),
			   "shape \"%.*s\" can meet nothing: no host of its site has such a name; "
			   "remove site or host",
			   SPAN_FMT(shape->name));
}

static bool
check_sources(struct load *load, const struct shape *shape, size_t index)
{
	for (size_t i = 0; i < shape->source_count; i++)
		if (source_find(&load->config->sources, shape->sources[i]) == NULL)
			return config_fail(load, shape_place(load, index, "source"),
					   "shape \"%.*s\": there is no source \"%.*s\"; add: "
					   "source \"%.*s\" { address = "
					   "\"192.0.2.1\" }, or name one that is there",
					   SPAN_FMT(shape->name), SPAN_FMT(shape->sources[i]),
					   SPAN_FMT(shape->sources[i]));
	return true;
}

static bool
check_per(struct load *load, const struct shape *shape, size_t index)
{
	static const char *const known[] = { "site", "source", "tenant", "domain", "host" };

	for (size_t i = 0; i < shape->per_count; i++) {
		bool found = false;

		for (size_t j = 0; j < sizeof(known) / sizeof(known[0]); j++)
			found = found || span_eq(shape->per_words[i], span_str(known[j]));
		for (size_t j = 0; j < i; j++)
			if (span_eq(shape->per_words[i], shape->per_words[j]))
				return config_fail(
					load, shape_place(load, index, "per"),
					"shape \"%.*s\": per has \"%.*s\" twice; remove one",
					SPAN_FMT(shape->name), SPAN_FMT(shape->per_words[i]));
		if (!found)
			return config_fail(load, shape_place(load, index, "per"),
					   "shape \"%.*s\": nothing is counted by \"%.*s\"; per "
					   "takes site, source, "
					   "tenant, domain and host",
					   SPAN_FMT(shape->name), SPAN_FMT(shape->per_words[i]));
	}
	return true;
}

/* ---- its limits --------------------------------------------------------------------------- */

static bool
is_connections(const char *name)
{
	return span_starts(span_str(name), SPAN("connections-")) ||
	       span_eq(span_str(name), SPAN("messages-per-connection")) ||
	       span_ends(span_str(name), SPAN("-timeout")) ||
	       span_eq(span_str(name), SPAN("idle-connection"));
}

/* A connection carries the mail of several tenants and domains. */
static bool
check_of_lanes(struct load *load, const struct shape *shape, size_t index)
{
	for (size_t i = 0; i < load->setting_count; i++) {
		const struct setting *s = &load->settings[i];
		const struct section *section = &load->sections[s->section];

		if (section->kind == SECTION_SHAPE && section->index == index && shape->of_lanes &&
		    is_connections(s->directive->name))
			return config_fail(load, s->at,
					   "shape \"%.*s\" is for a tenant or domain, and a "
					   "connection carries mail of "
					   "several; put %s into a shape that asks for (and counts "
					   "by) site, host or "
					   "source only",
					   SPAN_FMT(shape->name), s->directive->name);
	}
	return true;
}

static bool
limits_something(const struct load *load, size_t index)
{
	static const char *const criteria[] = { "site", "host", "domain", "tenant", "source", "per",
						"burst" };

	for (size_t i = 0; i < load->setting_count; i++) {
		const struct section *section = &load->sections[load->settings[i].section];
		bool asks = false;

		if (section->kind != SECTION_SHAPE || section->index != index)
			continue;
		for (size_t j = 0; j < sizeof(criteria) / sizeof(criteria[0]); j++)
			asks = asks || span_eq(span_str(load->settings[i].directive->name),
					       span_str(criteria[j]));
		if (!asks)
			return true;
	}
	return false;
}

static bool
check_burst(struct load *load, const struct shape *shape, size_t index)
{
	uint64_t second = shape->limits[SHAPE_MESSAGES_SECOND],
		 minute = shape->limits[SHAPE_MESSAGES_MINUTE];
	uint64_t least = second > 0 && (minute == 0 || second < minute) ? second : minute;

	if (shape->burst == 0)
		return true;
	if (least == 0)
		return config_fail(load, shape_place(load, index, "burst"),
				   "shape \"%.*s\": burst says how much of messages-per-second or "
				   "messages-per-minute goes "
				   "at once; set one of them, or remove burst",
				   SPAN_FMT(shape->name));
	if (shape->burst > least / 2 && shape->burst > 1)
		return config_fail(load, shape_place(load, index, "burst"),
				   "shape \"%.*s\": burst = %llu is more than half of its rate, "
				   "%llu, and would leave too "
				   "little of it for a steady flow; lower it to %llu",
				   SPAN_FMT(shape->name), (unsigned long long)shape->burst,
				   (unsigned long long)least,
				   (unsigned long long)(least / 2 > 0 ? least / 2 : 1));
	return true;
}

/* The second of a pair is met before the first ever can be. */
static void
warn_vain(struct load *load, const struct shape *shape, size_t index)
{
	static const struct { enum shape_limit vain, by; uint64_t times; } pairs[] = {
		{ SHAPE_MESSAGES_MINUTE, SHAPE_MESSAGES_SECOND, 60 },
		{ SHAPE_MESSAGES_HOUR, SHAPE_MESSAGES_SECOND, 3600 },
		{ SHAPE_MESSAGES_HOUR, SHAPE_MESSAGES_MINUTE, 60 },
		{ SHAPE_MESSAGES_DAY, SHAPE_MESSAGES_MINUTE, 1440 },
		{ SHAPE_MESSAGES_DAY, SHAPE_MESSAGES_HOUR, 24 },
		{ SHAPE_MESSAGES_HOUR, SHAPE_MESSAGES_DAY, 1 },
		{ SHAPE_MESSAGES_MINUTE, SHAPE_MESSAGES_HOUR, 1 },
		{ SHAPE_MESSAGES_MINUTE, SHAPE_MESSAGES_DAY, 1 },
		{ SHAPE_MESSAGES_SECOND, SHAPE_MESSAGES_MINUTE, 1 },
		{ SHAPE_RECIPIENTS_DAY, SHAPE_RECIPIENTS_HOUR, 24 },
		{ SHAPE_RECIPIENTS_HOUR, SHAPE_RECIPIENTS_DAY, 1 },
		{ SHAPE_CONNECTIONS, SHAPE_MESSAGES_HOUR, 1 },
	};
	const struct limits *limits = &load->config->limits;

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		uint64_t vain = shape->limits[pairs[i].vain], by = shape->limits[pairs[i].by];

		if (vain > 0 && by > 0 && vain >= by * pairs[i].times)
			config_warn(load, shape_place(load, index, shape_limit_name(pairs[i].vain)),
				    "shape \"%.*s\": %s = %llu is never reached, for %s = %llu is "
				    "met first; remove one",
				    SPAN_FMT(shape->name), shape_limit_name(pairs[i].vain),
				    (unsigned long long)vain, shape_limit_name(pairs[i].by),
				    (unsigned long long)by);
	}
	if (!shape->of_lanes && shape->per == SHAPE_SITE &&
	    shape->limits[SHAPE_CONNECTIONS] > limits->connections_per_site)
		config_warn(load, shape_place(load, index, "connections"),
			    "shape \"%.*s\": connections = %llu is never reached, for "
			    "connections-per-site is %zu; raise that",
			    SPAN_FMT(shape->name),
			    (unsigned long long)shape->limits[SHAPE_CONNECTIONS],
			    limits->connections_per_site);
}

static bool
check_shape(struct load *load, struct shape *shape, size_t index)
{
	if (!check_sources(load, shape, index) || !check_per(load, shape, index) ||
	    !read_sites(load, shape, index) || !check_meets(load, shape, index))
		return false;
	shape_settle(shape);
	if (!limits_something(load, index))
		return config_fail(load, config_section(load, SECTION_SHAPE, index)->at,
				   "shape \"%.*s\" limits nothing; add, say: messages-per-minute = "
				   "100, or remove it",
				   SPAN_FMT(shape->name));
	if (!check_of_lanes(load, shape, index) || !check_burst(load, shape, index))
		return false;
	warn_vain(load, shape, index);
	return true;
}

bool
config_check_shapes(struct load *load)
{
	struct shapes *shapes = &load->config->shapes;

	for (size_t i = 0; i < shapes->provider_count; i++)
		if (!check_provider(load, i))
			return false;
	for (size_t i = 0; i < shapes->count; i++)
		if (!check_shape(load, &shapes->shapes[i], i))
			return false;
	return true;
}
