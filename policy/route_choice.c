/*
 * route_choice: which of several routes a message takes, by its sender and the user who handed it
 * in; and the labels by which lanes remember that. See route.h. Pure.
 */
#include <stdio.h>

#include "mta/base/address.h"
#include "mta/base/buf.h"
#include "mta/base/crc32c.h"
#include "policy/route.h"

enum {
	NAME_MOST = 200,		/* longer ones are cut, and marked */
	MARK_LEN = 16,			/* digits */
	RANK_ANY = 1,			/* of senders: "*" */
	RANK_BELOW = 2,			/* … "*.b": and its length */
	RANK_DOMAIN = 1000,
	RANK_ADDRESS = 2000,
	RANK_USER = 10000,
};

/* ---- who sends ---------------------------------------------------------------------------- */

bool
sender_pattern_read(struct span text, struct arena *arena, struct span *ret)
{
	struct address address;
	struct span domain;

	if (span_eq(text, SPAN("<>"))) {
		*ret = SPAN("<>");
		return true;
	}
	if (span_find(text, '@') == NULL)
		return domain_pattern_read(text, arena, ret);
	if (address_parse(text, ADDRESS_UTF8, arena, &address) != ADDRESS_OK ||
	    !domain_pattern_read(address.domain, arena, &domain))
		return false;
	text = address_text(&address, arena);
	*ret = arena_printf(arena, "%.*s@%.*s", SPAN_FMT(address_local_of(text)), SPAN_FMT(domain));
	return true;
}

int
sender_pattern_rank(struct span pattern, struct span sender)
{
	struct span domain = address_domain_of(sender);

	if (sender.len == 0)
		return span_eq(pattern, SPAN("<>")) ? RANK_ADDRESS : 0;
	if (span_eq(pattern, SPAN("<>")))
		return 0;
	if (span_find(pattern, '@') != NULL)
		return span_ieq(address_local_of(pattern), address_local_of(sender)) &&
			       domain_pattern_matches(address_domain_of(pattern), domain) ?
			       RANK_ADDRESS :
			       0;
	if (!domain_pattern_matches(pattern, domain))
		return 0;
	if (span_eq(pattern, SPAN("*")))
		return RANK_ANY;
	return span_starts(pattern, SPAN("*.")) ? RANK_BELOW + (int)pattern.len : RANK_DOMAIN;
}

static int
rank_of(const struct route *route, const struct route_facts *facts)
{
	int rank = 1, best = 0;

	for (size_t i = 0; i < route->user_count && rank < RANK_USER; i++)
		if (facts->user.len > 0 && span_ieq(route->users[i], facts->user))
			rank += RANK_USER;
	if (route->user_count > 0 && rank < RANK_USER)
		return 0;
	for (size_t i = 0; i < route->sender_count; i++) {
		int found = sender_pattern_rank(route->senders[i], facts->sender);

		best = found > best ? found : best;
	}
	return route->sender_count > 0 && best == 0 ? 0 : rank + best;
}

struct route_fit
route_fit(const struct route *route, const struct route_facts *facts)
{
	struct route_fit fit = { .other_user = route->user_count > 0,
				 .other_sender = route->sender_count > 0 };
	int best = 0;

	for (size_t i = 0; i < route->user_count && fit.other_user; i++)
		if (facts->user.len > 0 && span_ieq(route->users[i], facts->user)) {
			fit.user = route->users[i];
			fit.other_user = false;
		}
	for (size_t i = 0; i < route->sender_count; i++) {
		int rank = sender_pattern_rank(route->senders[i], facts->sender);

		if (rank > best) {
			fit.sender = route->senders[i];
			fit.other_sender = false;
			best = rank;
		}
	}
	fit.fits = !fit.other_user && !fit.other_sender;
	return fit;
}

struct choosing {
	const struct route_facts *facts;
	const struct route *found;
};

static bool
choose_one(void *arg, const struct route *routes, size_t count)
{
	struct choosing *c = arg;
	int best = 0;

	for (size_t i = 0; i < count; i++) {
		int rank = rank_of(&routes[i], c->facts);

		if (rank > best)
			c->found = &routes[i];
		best = rank > best ? rank : best;
	}
	return c->found == NULL;
}

const struct route *
route_choose(const struct routes *routes, const struct route_facts *facts)
{
	struct choosing c = { .facts = facts };

	routes_each(routes, facts->domain, choose_one, &c);
	return c.found;
}

static bool
find_one(void *arg, const struct route *routes, size_t count)
{
	const struct route **found = arg;

	(void)count;
	if (routes[0].sender_count == 0 && routes[0].user_count == 0)
		*found = &routes[0];
	return *found == NULL;
}

const struct route *
route_find(const struct routes *routes, struct span domain)
{
	const struct route *found = NULL;

	routes_each(routes, domain, find_one, &found);
	return found;
}

static bool
share_one(const struct span *a, size_t a_count, const struct span *b, size_t b_count)
{
	if (a_count == 0 || b_count == 0)
		return a_count == b_count;
	for (size_t i = 0; i < a_count; i++)
		for (size_t j = 0; j < b_count; j++)
			if (span_ieq(a[i], b[j]))
				return true;
	return false;
}

bool
route_is_ambiguous(const struct route *a, const struct route *b)
{
	return span_eq(a->pattern, b->pattern) &&
	       share_one(a->senders, a->sender_count, b->senders, b->sender_count) &&
	       share_one(a->users, a->user_count, b->users, b->user_count);
}

/* ---- names and labels --------------------------------------------------------------------- */

static void
put_list(struct buf *out, const char *word, const struct span *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		buf_printf(out, "%s", i == 0 ? word : ",");
		xtext_encode(list[i], out);	/* no blank in it */
	}
}

void
route_set_name(struct route *route, struct arena *arena)
{
	struct buf name = { 0 };
	struct span whole;
	uint32_t mark;

	buf_append(&name, route->pattern);
	put_list(&name, " sender=", route->senders, route->sender_count);
	put_list(&name, " user=", route->users, route->user_count);
	whole = buf_span(&name);
	mark = crc32c(0, whole.at, whole.len);
	route->name =
		whole.len <= route->pattern.len + NAME_MOST
			? arena_copy(arena, whole)
			: arena_printf(arena, "%.*s...%08x",
				       SPAN_FMT(span_first(whole, route->pattern.len + NAME_MOST)),
				       mark);
	buf_free(&name);
}

static const struct {
	enum route_wish wish;
	struct span word;
} wishes[] = {
	{ WISH_REQUIRETLS, { " requiretls", 11 } },
	{ WISH_TLS_OPTIONAL, { " tls-required=no", 16 } },
};

struct candidates {
	uint64_t mark;
	bool conditional;
	size_t count;
	struct span name;		/* asked for; .at NULL: none */
	const struct route *named;
};

static bool
note_candidates(void *arg, const struct route *routes, size_t count)
{
	struct candidates *c = arg;

	for (size_t i = 0; i < count; i++) {
		c->mark = (c->mark ^ routes[i].mark) * UINT64_C(0x9e3779b97f4a7c15);
		c->mark ^= c->mark >> 32;
		c->conditional = c->conditional || routes[i].sender_count > 0 ||
				 routes[i].user_count > 0;
		if (c->name.at != NULL && span_eq(routes[i].name, c->name))
			c->named = &routes[i];
	}
	c->count += count;
	return true;
}

struct label {
	struct span name;
	enum route_wish wish;
	bool marked;
	struct span mark;
};

static struct label
read_label(struct span text)
{
	struct label l = { .name = text };
	size_t tail = MARK_LEN + 2;

	if (text.len >= tail && span_starts(span_skip(text, text.len - tail), SPAN(" @"))) {
		l.marked = true;
		l.mark = span_skip(text, text.len - MARK_LEN);
		l.name = span_first(text, text.len - tail);
	}
	for (size_t i = 0; i < sizeof(wishes) / sizeof(*wishes); i++)
		if (span_ends(l.name, wishes[i].word)) {
			l.wish = wishes[i].wish;
			l.name = span_first(l.name, l.name.len - wishes[i].word.len);
			break;
		}
	return l;
}

static struct span
wish_word(enum route_wish wish)
{
	for (size_t i = 0; i < sizeof(wishes) / sizeof(*wishes); i++)
		if (wishes[i].wish == wish)
			return wishes[i].word;
	return SPAN("");
}

struct span
route_label(const struct routes *routes, struct span domain, const struct route *route,
	    enum route_wish wish, struct arena *arena)
{
	struct candidates c = { 0 };
	struct span word = wish_word(wish), name = route != NULL ? route->name : SPAN("");

	if (routes->conditional)
		routes_each(routes, domain, note_candidates, &c);
	if (c.conditional)
		return arena_printf(arena, "%.*s%.*s @%016llx", SPAN_FMT(name), SPAN_FMT(word),
				    (unsigned long long)c.mark);
	return arena_printf(arena, "%.*s%.*s", SPAN_FMT(name), SPAN_FMT(word));
}

bool
route_label_holds(const struct routes *routes, struct span domain, struct span label)
{
	struct label l = read_label(label);
	struct candidates c = { .name = l.name };
	char mark[MARK_LEN + 1];

	routes_each(routes, domain, note_candidates, &c);
	if (c.count == 0)
		return true;			/* wherever it was to go, nothing leads there */
	if (!c.conditional)
		return !l.marked && c.named != NULL;
	snprintf(mark, sizeof(mark), "%016llx", (unsigned long long)c.mark);
	return l.marked && span_eq(l.mark, span_str(mark));
}

const struct route *
route_labelled(const struct routes *routes, struct span domain, struct span label)
{
	struct candidates c = { .name = read_label(label).name };

	routes_each(routes, domain, note_candidates, &c);
	return c.named;
}

struct span
route_label_with(struct span label, enum route_wish wish, struct arena *arena)
{
	struct label l = read_label(label);
	struct span word = wish_word(wish);

	if (l.wish == wish)
		return label;
	return arena_printf(arena, "%.*s%.*s%s%.*s", SPAN_FMT(l.name), SPAN_FMT(word),
			    l.marked ? " @" : "", SPAN_FMT(l.mark));
}

enum route_wish
route_label_wish(struct span label)
{
	return read_label(label).wish;
}

struct span
route_label_text(struct span label)
{
	struct label l = read_label(label);

	return l.marked ? span_first(label, label.len - MARK_LEN - 2) : label;
}
