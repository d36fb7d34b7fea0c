/*
 * types: one reader for each type of value: text → the field of its directive. Each says
 * what would be right.
 */
#include <pwd.h>
#include <stdio.h>
#include <sys/un.h>

#include "mta/config/private.h"

static bool
wrong(const struct reading *r, struct span value, const char *what)
{
	return config_fail(r->load, r->at, "%s = \"%.*s\": %s", r->directive->name, SPAN_FMT(value),
			   what);
}

static struct arena *
arena_of(const struct reading *r)
{
	return &r->load->config->arena;
}

static char *
field(const struct reading *r)
{
	return r->base + r->directive->offset;
}

static void
store_span(const struct reading *r, struct span value)
{
	memcpy(field(r), &value, sizeof(value));
}

/* A list is a pointer into the arena, and its count. */
static void
store_list(const struct reading *r, const void *list)
{
	memcpy(field(r), &list, sizeof(list));
	memcpy(r->base + r->directive->count_offset, &r->count, sizeof(r->count));
}

static void
store_number(const struct reading *r, int64_t value)
{
	int32_t narrow = (int32_t)value;
	bool flag = value != 0;

	switch (r->directive->width) {
	case 8:
		memcpy(field(r), &value, 8);
		break;
	case 4:
		memcpy(field(r), &narrow, 4);
		break;
	default:
		memcpy(field(r), &flag, sizeof(flag));
	}
}

/* ---- text and names ----------------------------------------------------------------------- */

static bool
read_text(const struct reading *r)
{
	for (size_t i = 0; i < r->values[0].len; i++)
		if ((unsigned char)r->values[0].at[i] > '~')
			return wrong(r, r->values[0], "only ASCII can be sent here");
	if (r->values[0].len > 200)
		return wrong(r, r->values[0], "it is too long; 200 characters at most");
	store_span(r, r->values[0]);
	return true;
}

static bool
read_path(const struct reading *r)
{
	const char *path = r->values[0].at; /* the arena's copies end in NUL */

	if (path[0] != '/')
		return wrong(r, r->values[0], "write the whole path, from the first /");
	memcpy(field(r), &path, sizeof(path));
	return true;
}

static bool
read_words(const struct reading *r)
{
	struct span *list = arena_alloc(arena_of(r), r->count * sizeof(*list));

	for (size_t i = 0; i < r->count; i++)
		list[i] = r->values[i];
	store_list(r, list);
	return true;
}

static bool
read_paths(const struct reading *r)
{
	struct span *list = arena_alloc(arena_of(r), r->count * sizeof(*list));

	for (size_t i = 0; i < r->count; i++) {
		list[i] = r->values[i];
		if (list[i].at[0] != '/')
			return wrong(r, list[i], "write the whole path, from the first /");
	}
	store_list(r, list);
	return true;
}

/* A program and its arguments, as they are: no shell reads them. */
static bool
read_command(const struct reading *r)
{
	if (r->values[0].at[0] != '/')
		return wrong(r, r->values[0],
			     "write the whole path of the program, from the first /");
	return read_words(r);
}

static bool
read_user(const struct reading *r)
{
	const char *name = r->values[0].at;

	if (getpwnam(name) == NULL)
		return wrong(
		    r, r->values[0],
		    "there is no such user; create it (useradd --system), or remove the line");
	memcpy(field(r), &name, sizeof(name));
	return true;
}

static bool
read_domain(const struct reading *r)
{
	struct span name = arena_lower(arena_of(r), r->values[0]);

	if (!domain_valid(name, false) || name.at[0] == '[')
		return wrong(r, r->values[0], "it is not a host name like mail.example.org");
	store_span(r, name);
	return true;
}

static bool
read_domains(const struct reading *r)
{
	struct span *list = arena_alloc(arena_of(r), r->count * sizeof(*list));

	for (size_t i = 0; i < r->count; i++) {
		list[i] = arena_lower(arena_of(r), r->values[i]);
		if (!domain_valid(list[i], false))
			return wrong(r, r->values[i],
				     "it is not a host name like mail.example.org");
	}
	store_list(r, list);
	return true;
}

static bool
read_patterns(const struct reading *r)
{
	struct span *list = arena_alloc(arena_of(r), r->count * sizeof(*list));

	for (size_t i = 0; i < r->count; i++)
		if (!domain_pattern_read(r->values[i], arena_of(r), &list[i]))
			return wrong(r, r->values[i],
				     "it is not a domain; write example.org, or *.example.org for "
				     "all below it");
	store_list(r, list);
	return true;
}

/* Patterns of host names, or addresses. */
static bool
read_hosts(const struct reading *r)
{
	struct span *list = arena_alloc(arena_of(r), r->count * sizeof(*list));
	char text[NETADDR_TEXT_MAX];
	struct netaddr address;

	for (size_t i = 0; i < r->count; i++) {
		if (netaddr_parse(r->values[i], 0, &address))
			list[i] = arena_copy(arena_of(r), span_str(netaddr_format(&address, text)));
		else if (!domain_pattern_read(r->values[i], arena_of(r), &list[i]))
			return wrong(r, r->values[i],
				     "it is not a host; write mx.example.org, *.example.org for "
				     "all below it, or an "
				     "address");
	}
	store_list(r, list);
	return true;
}

static bool
read_mailbox(const struct reading *r)
{
	struct address address;

	if (address_parse(r->values[0], 0, arena_of(r), &address) != ADDRESS_OK)
		return wrong(r, r->values[0], "it is not a mail address like admin@example.org");
	store_span(r, address_text(&address, arena_of(r)));
	return true;
}

static bool
read_senders(const struct reading *r)
{
	struct span *list = arena_alloc(arena_of(r), r->count * sizeof(*list));

	for (size_t i = 0; i < r->count; i++)
		if (!sender_pattern_read(r->values[i], arena_of(r), &list[i]))
			return wrong(r, r->values[i],
				     "it is no sender; write anna@example.org, example.org, "
				     "*.example.org, or <> for reports");
	store_list(r, list);
	return true;
}

static bool
read_choice(const struct reading *r)
{
	const char *const *words = r->directive->words;
	struct buf all = { 0 };
	int64_t i = 0;

	for (; words[i] != NULL; i++) {
		if (span_eq(span_str(words[i]), r->values[0])) {
			buf_free(&all);
			store_number(r, i);
			return true;
		}
		buf_printf(&all, "%s%s",
			   i == 0		  ? ""
			   : words[i + 1] == NULL ? " or "
						  : ", ",
			   words[i]);
	}
	config_fail(r->load, r->at, "%s = \"%.*s\": it must be %.*s", r->directive->name,
		    SPAN_FMT(r->values[0]), SPAN_FMT(buf_span(&all)));
	buf_free(&all);
	return false;
}

/* ---- numbers ------------------------------------------------------------------------------ */

static struct span
bound_text(const struct reading *r, int64_t bound)
{
	if (r->directive->type == &type_time)
		return units_time_text(bound, arena_of(r));
	if (r->directive->type == &type_size)
		return units_size_text(bound, arena_of(r));
	return arena_printf(arena_of(r), "%lld", (long long)bound);
}

static bool
read_any_number(const struct reading *r,
		bool (*parse)(struct span text, int64_t *ret, const char **error))
{
	const struct directive *d = r->directive;
	const char *error;
	int64_t value;

	if (!parse(r->values[0], &value, &error))
		return wrong(r, r->values[0], error);
	if (value < d->min || value > d->max) {
		struct span min = bound_text(r, d->min), max = bound_text(r, d->max);

		return config_fail(r->load, r->at, "%s = \"%.*s\": it must be from %.*s to %.*s",
				   d->name, SPAN_FMT(r->values[0]), SPAN_FMT(min), SPAN_FMT(max));
	}
	store_number(r, value);
	return true;
}

static bool
read_time(const struct reading *r)
{
	return read_any_number(r, units_time);
}

static bool
read_size(const struct reading *r)
{
	return read_any_number(r, units_size);
}

static bool
read_number(const struct reading *r)
{
	return read_any_number(r, units_number);
}

static bool
read_boolean(const struct reading *r)
{
	static const struct span yes[] = { SPAN("yes"), SPAN("on"), SPAN("true") };
	static const struct span no[] = { SPAN("no"), SPAN("off"), SPAN("false") };

	for (size_t i = 0; i < 3; i++) {
		if (!span_eq(r->values[0], yes[i]) && !span_eq(r->values[0], no[i]))
			continue;
		store_number(r, span_eq(r->values[0], yes[i]));
		return true;
	}
	return wrong(r, r->values[0], "it must be yes or no");
}

static bool
read_mode(const struct reading *r)
{
	int64_t mode = 0;

	if (r->values[0].len < 3 || r->values[0].len > 4)
		return wrong(r, r->values[0], "permissions are three octal digits: 0660");
	for (size_t i = 0; i < r->values[0].len; i++) {
		char c = r->values[0].at[i];

		if (c < '0' || c > '7')
			return wrong(r, r->values[0], "permissions are three octal digits: 0660");
		mode = mode * 8 + (c - '0');
	}
	if (mode > 0777)
		return wrong(r, r->values[0], "permissions are at most 0777");
	store_number(r, mode);
	return true;
}

/* ---- addresses ---------------------------------------------------------------------------- */

static bool
read_networks(const struct reading *r)
{
	struct network *list = arena_alloc(arena_of(r), r->count * sizeof(*list));

	for (size_t i = 0; i < r->count; i++)
		if (!network_parse(r->values[i], &list[i]))
			return wrong(r, r->values[i],
				     "it is not a network; write 10.0.0.0/8, 2001:db8::/32 or one "
				     "address, with no "
				     "bits set behind the prefix");
	store_list(r, list);
	return true;
}

static bool
read_addresses(const struct reading *r)
{
	struct netaddr *list = arena_alloc(arena_of(r), r->count * sizeof(*list));

	for (size_t i = 0; i < r->count; i++)
		if (!netaddr_parse_port(r->values[i], 0, &list[i]))
			return wrong(r, r->values[i],
				     "it is not an address and port; write 0.0.0.0:25 or [::]:25");
	if (r->count == 0)
		return config_fail(
		    r->load, r->at,
		    "address = {}: a listener needs at least one address, e.g. \"0.0.0.0:25\"");
	store_list(r, list);
	return true;
}

/* Of our own: no port, and not all of them. */
static bool
read_ips(const struct reading *r)
{
	static const uint8_t any[16];
	struct netaddr *list = arena_alloc(arena_of(r), r->count * sizeof(*list) + 1);

	for (size_t i = 0; i < r->count; i++)
		if (!netaddr_parse(r->values[i], 0, &list[i]) ||
		    memcmp(list[i].ip, any, sizeof(any)) == 0)
			return wrong(r, r->values[i],
				     "it is not an address of this machine; write 192.0.2.1 or "
				     "2001:db8::1, without a port");
	store_list(r, list);
	return true;
}

static bool
read_date(const struct reading *r)
{
	int64_t day;

	if (!source_day_read(r->values[0], &day))
		return wrong(r, r->values[0], "it is not a day like 2026-11-21");
	store_number(r, day);
	return true;
}

static bool
read_servers(const struct reading *r)
{
	struct dns_config *dns = &r->load->config->resolver;
	size_t most = sizeof(dns->servers) / sizeof(dns->servers[0]);

	if (r->count > most || r->count == 0)
		return config_fail(
		    r->load, r->at,
		    "resolver takes one to %zu addresses; remove the others, or the line", most);
	for (size_t i = 0; i < r->count; i++)
		if (!netaddr_parse_port(r->values[i], 53, &dns->servers[i]) ||
		    dns->servers[i].port == 0)
			return wrong(
			    r, r->values[i],
			    "it is not a name server's address; write 127.0.0.1 or 127.0.0.1:53");
	dns->server_count = r->count;
	return true;
}

static bool
read_deliver(const struct reading *r)
{
	const char *error = NULL;

	return route_parse_deliver(r->values[0], arena_of(r), (struct route *)(void *)r->base,
				   &error) ||
	       wrong(r, r->values[0], error);
}

const struct value_type type_text = { "text", false, read_text };
const struct value_type type_path = { "path", false, read_path };
const struct value_type type_words = { "words", true, read_words };
const struct value_type type_command = { "command", true, read_command };
const struct value_type type_paths = { "paths", true, read_paths };
const struct value_type type_user = { "user", false, read_user };
const struct value_type type_domain = { "name", false, read_domain };
const struct value_type type_domains = { "names", true, read_domains };
const struct value_type type_patterns = { "domains", true, read_patterns };
const struct value_type type_hosts = { "hosts", true, read_hosts };
const struct value_type type_networks = { "networks", true, read_networks };
const struct value_type type_addresses = { "addresses", true, read_addresses };
const struct value_type type_ips = { "ips", true, read_ips };
const struct value_type type_date = { "date", false, read_date };
const struct value_type type_servers = { "servers", true, read_servers };
const struct value_type type_mailbox = { "mailbox", false, read_mailbox };
const struct value_type type_senders = { "senders", true, read_senders };
const struct value_type type_deliver = { "destination", false, read_deliver };
const struct value_type type_time = { "time", false, read_time };
const struct value_type type_size = { "size", false, read_size };
const struct value_type type_number = { "number", false, read_number };
const struct value_type type_boolean = { "boolean", false, read_boolean };
const struct value_type type_mode = { "mode", false, read_mode };
const struct value_type type_choice = { "choice", false, read_choice };
