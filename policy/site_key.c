/*
 * site_key: see site_key.h. The words are stored in the queue: they may be added to, not changed.
 */
#include "policy/site_key.h"

static const struct {
	enum route_tls tls;
	struct span words;
} words_of[] = {
	{ ROUTE_TLS_OFF, { "tls=off", 7 } },
	{ ROUTE_TLS_MAY, { "tls=may", 7 } },
	{ ROUTE_TLS_REQUIRED, { "tls=required", 12 } },
	{ ROUTE_TLS_VERIFY, { "tls=verify", 10 } },
};

struct span
site_key_of(struct span place, const struct route *route, struct arena *arena)
{
	struct span key = place;

	for (size_t i = 0; route != NULL && i < sizeof(words_of) / sizeof(words_of[0]); i++)
		if (words_of[i].tls == route->tls)
			key = arena_printf(arena, "%.*s %.*s", SPAN_FMT(place),
					   SPAN_FMT(words_of[i].words));
	for (size_t i = 0; route != NULL && i < route->tls_name_count; i++)
		key = arena_printf(arena, "%.*s%s%.*s", SPAN_FMT(key), i == 0 ? " names=" : ",",
				   SPAN_FMT(route->tls_names[i]));
	return key;
}

struct span
site_key_place(struct span key)
{
	return span_cut(&key, ' ');
}

bool
site_key_fits(struct span key, const struct route *route)
{
	struct arena arena = { 0 };
	bool fits = span_eq(site_key_of(site_key_place(key), route, &arena), key);

	arena_free(&arena);
	return fits;
}

bool
site_key_tls(struct span key, struct arena *arena, struct site_tls *ret)
{
	struct span names = { 0 }, word;
	bool known = true;

	*ret = (struct site_tls){ .tls = ROUTE_TLS_AUTO };
	span_cut(&key, ' ');
	if (key.len == 0)
		return true;
	word = span_cut(&key, ' ');
	for (size_t i = 0; i < sizeof(words_of) / sizeof(words_of[0]); i++)
		if (span_eq(word, words_of[i].words))
			ret->tls = words_of[i].tls;
	known = ret->tls != ROUTE_TLS_AUTO;
	if (span_starts(key, SPAN("names=")))
		names = span_skip(key, 6);
	else
		known = known && key.len == 0;
	ret->names = arena_alloc(arena, (names.len / 2 + 1) * sizeof(*ret->names));
	while (names.len > 0)
		ret->names[ret->name_count++] = arena_copy(arena, span_cut(&names, ','));
	return known;
}
