/*
 * senders: see senders.h. A set of strings "user LF pattern" in lower case; an address has few
 * patterns that fit it, and each is looked up.
 */
#include "mta/auth/senders.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "mta/base/lines.h"
#include "mta/auth/prep.h"
#include "mta/auth/scram.h"
#include "mta/base/address.h"
#include "mta/base/arena.h"
#include "mta/base/map.h"

enum { KEY_MAX = PREP_NAME_MAX + 1 + ADDRESS_PATH_MAX + 4 };

struct permit {
	struct map_node node;
	struct span text;
};

struct senders {
	struct arena arena;
	struct map permits;
	uint64_t seed;
};

static struct span
put_lower(char *to, struct span a, struct span b)
{
	size_t n = 0;

	assert(a.len + b.len < KEY_MAX);
	for (size_t i = 0; i < a.len; i++)
		to[n++] = ascii_lower(a.at[i]);
	to[n++] = '\n';
	for (size_t i = 0; i < b.len; i++)
		to[n++] = ascii_lower(b.at[i]);
	return span_of(to, n);
}

static bool
holds(const struct senders *s, struct span user, struct span pattern)
{
	char room[KEY_MAX];
	struct map_node *node;
	struct span text;

	if (user.len > PREP_NAME_MAX || pattern.len > ADDRESS_PATH_MAX + 2)
		return false;
	text = put_lower(room, user, pattern);
	node = map_find(&s->permits, hash_bytes(text.at, text.len, s->seed));
	for (; node != NULL; node = map_next_same(node))
		if (span_eq(((struct permit *)(void *)node)->text, text))
			return true;
	return false;
}

struct senders *
senders_new(void)
{
	struct senders *s = xcalloc(1, sizeof(*s));

	scram_random(&s->seed, sizeof(s->seed));
	return s;
}

void
senders_free(struct senders *s)
{
	struct map_node *node;

	if (s == NULL)
		return;
	while ((node = map_any(&s->permits)) != NULL)
		map_remove(&s->permits, node);
	map_free(&s->permits);
	arena_free(&s->arena);
	free(s);
}

static bool
pattern_valid(struct span pattern)
{
	struct span domain = address_domain_of(pattern), local = address_local_of(pattern);
	struct arena scratch = { 0 };
	struct address address;
	bool valid;

	if (span_eq(pattern, SPAN("*")))
		return true;
	if (pattern.len == 0 || pattern.len > ADDRESS_PATH_MAX || domain.len == 0)
		return false;
	if (local.len == 0) {
		domain = domain.at[0] == '.' ? span_skip(domain, 1) : domain;
		return domain_valid(domain, true) || domain_literal_valid(domain);
	}
	if (span_ends(local, SPAN("+*")) ? local.len == 2 : span_find(local, '*') != NULL)
		return false;
	valid = address_parse(pattern, ADDRESS_UTF8, &scratch, &address) == ADDRESS_OK;
	arena_free(&scratch);
	return valid;
}

const char *
senders_add(struct senders *s, struct span user, struct span pattern)
{
	struct buf name = { 0 };
	struct permit *permit;
	char room[KEY_MAX];
	struct span text;

	if (s->permits.count >= SENDERS_PATTERNS_MAX)
		return "more addresses than a file may have (2,000,000)";
	if (!pattern_valid(pattern))
		return "neither an address, nor name+*@domain, @domain, @.domain or *";
	if (!prep_name(user, &name)) {
		buf_free(&name);
		return "no user's name; the line's form is user: address, @domain";
	}
	if (!holds(s, buf_span(&name), pattern)) {
		text = put_lower(room, buf_span(&name), pattern);
		permit = arena_alloc(&s->arena, sizeof(*permit));
		permit->text = arena_copy(&s->arena, text);
		map_add(&s->permits, &permit->node, hash_bytes(text.at, text.len, s->seed));
	}
	buf_free(&name);
	return NULL;
}

static void
take_line(struct senders *s, struct lines *lines, struct span line)
{
	struct span user = span_trim(span_cut(&line, ':')), pattern;
	const char *fault;
	bool none = true;

	while (line.len > 0) {
		pattern = span_trim(span_cut(&line, ','));
		if (pattern.len == 0)
			continue;
		none = false;
		fault = senders_add(s, user, pattern);
		if (fault != NULL)
			lines_fault(lines, pattern, fault);
	}
	if (none)
		lines_fault(lines, user, "no addresses; the line's form is user: address, @domain");
}

int
senders_parse(struct span name, struct span content, struct buf *errors, struct senders **ret)
{
	struct lines lines = {
		.name = name, .rest = content, .max_line = SENDERS_LINE_MAX, .errors = errors
	};
	struct senders *s;
	struct span line;

	if (content.len > SENDERS_FILE_MAX) {
		buf_printf(errors, "%.*s: larger than 64 MB, which a list of senders is not\n",
			   SPAN_FMT(name));
		return -EINVAL;
	}
	s = senders_new();
	while (lines_next(&lines, &line))
		take_line(s, &lines, line);
	if (lines.faults > 0) {
		senders_free(s);
		return -EINVAL;
	}
	*ret = s;
	return 0;
}

/* "anna+list@b" → "anna+*@b" by way of give; false if it has no extension. */
static bool
extension_pattern(struct span local, struct span domain, char room[KEY_MAX], struct span *ret)
{
	const char *plus = local.len > 0 && local.at[0] != '"' ? span_find(local, '+') : NULL;
	size_t len;

	if (plus == NULL || plus == local.at)
		return false;
	len = (size_t)(plus - local.at) + 1;
	memcpy(room, local.at, len);
	room[len++] = '*';
	room[len++] = '@';
	memcpy(room + len, domain.at, domain.len);
	*ret = span_of(room, len + domain.len);
	return true;
}

/* "@b", and "@.c" for each c that b lies below. */
static bool
allows_domain(const struct senders *s, struct span user, struct span domain)
{
	char room[KEY_MAX];
	struct span rest = domain;

	room[0] = '@';
	memcpy(room + 1, domain.at, domain.len);
	if (holds(s, user, span_of(room, domain.len + 1)))
		return true;
	while (rest.len > 0) {
		span_cut(&rest, '.');
		room[1] = '.';
		memcpy(room + 2, rest.at, rest.len);
		if (rest.len > 0 && holds(s, user, span_of(room, rest.len + 2)))
			return true;
	}
	return false;
}

static bool
allows(const struct senders *s, struct span user, struct span address)
{
	struct span local = address_local_of(address), domain = address_domain_of(address), pattern;
	char room[KEY_MAX];

	return holds(s, user, SPAN("*")) || holds(s, user, address) ||
	       (extension_pattern(local, domain, room, &pattern) && holds(s, user, pattern)) ||
	       (domain.len > 0 && allows_domain(s, user, domain));
}

/* The user's name is this address, but for an extension. */
static bool
is_own(struct span user, struct span address)
{
	struct span local = address_local_of(address), domain = address_domain_of(address);
	struct span own_local = address_local_of(user), own_domain = address_domain_of(user);

	if (own_domain.len == 0 || !span_ieq(own_domain, domain))
		return false;
	if (span_ieq(local, own_local))
		return true;
	return local.at[0] != '"' && local.len > own_local.len && own_local.len > 0 &&
	       span_ieq(span_first(local, own_local.len), own_local) &&
	       local.at[own_local.len] == '+';
}

bool
senders_allow(const struct senders *s, struct span user, struct span address)
{
	if (address.len == 0)
		return true;
	if (user.len == 0 || address.len > ADDRESS_PATH_MAX)
		return false;
	if (is_own(user, address))
		return true;
	return s != NULL && (allows(s, user, address) || allows(s, SPAN("*"), address));
}
