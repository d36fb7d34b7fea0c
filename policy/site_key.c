/*
 * site_key: see site_key.h. The words are stored in the queue: they may be added to, not changed.
 */
#include "policy/site_key.h"

#include "mta/base/address.h"
#include "mta/base/buf.h"

static const struct {
	enum route_tls tls;
	struct span words;
} words_of[] = {
	{ ROUTE_TLS_OFF, { "tls=off", 7 } },
	{ ROUTE_TLS_MAY, { "tls=may", 7 } },
	{ ROUTE_TLS_REQUIRED, { "tls=required", 12 } },
	{ ROUTE_TLS_VERIFY, { "tls=verify", 10 } },
	{ ROUTE_TLS_DANE, { "tls=dane", 8 } },
};

static const char *const mx_words[] = { [SITE_MX_INSECURE] = "",
					[SITE_MX_SECURE] = " mx=secure",
					[SITE_MX_IMPLICIT] = " mx=implicit" };

struct span
site_key_of(struct span place, const struct route *route, enum site_mx mx, struct arena *arena)
{
	struct span key = place;

	for (size_t i = 0; route != NULL && i < sizeof(words_of) / sizeof(words_of[0]); i++)
		if (words_of[i].tls == route->tls)
			key = arena_printf(arena, "%.*s %.*s", SPAN_FMT(place),
					   SPAN_FMT(words_of[i].words));
	for (size_t i = 0; route != NULL && i < route->tls_name_count; i++)
		key = arena_printf(arena, "%.*s%s%.*s", SPAN_FMT(key), i == 0 ? " names=" : ",",
				   SPAN_FMT(route->tls_names[i]));
	if (route != NULL && route->user.len > 0) {
		struct buf user = { 0 };

		xtext_encode(route->user, &user);	/* no blank in it */
		key = arena_printf(arena, "%.*s user=%.*s", SPAN_FMT(key), SPAN_FMT(buf_span(&user)));
		buf_free(&user);
	}
	if (mx != SITE_MX_INSECURE && (route == NULL || tls_asks_dane(route->tls)))
		key = arena_printf(arena, "%.*s%s", SPAN_FMT(key), mx_words[mx]);
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
	struct site_tls now;
	bool fits = site_key_tls(key, &arena, &now) &&
		    span_eq(site_key_of(site_key_place(key), route, now.mx, &arena), key);

	arena_free(&arena);
	return fits;
}

static void
read_names(struct span list, struct arena *arena, struct site_tls *ret)
{
	ret->names = arena_alloc(arena, (list.len / 2 + 1) * sizeof(*ret->names));
	while (list.len > 0)
		ret->names[ret->name_count++] = arena_copy(arena, span_cut(&list, ','));
}

static bool
read_word(struct span word, struct arena *arena, struct site_tls *ret)
{
	for (size_t i = 0; i < sizeof(words_of) / sizeof(words_of[0]); i++)
		if (span_eq(word, words_of[i].words)) {
			ret->tls = words_of[i].tls;
			return true;
		}
	if (span_starts(word, SPAN("names=")))
		read_names(span_skip(word, 6), arena, ret);
	else if (span_starts(word, SPAN("user=")))
		ret->login = true;
	else if (span_eq(word, SPAN("mx=secure")))
		ret->mx = SITE_MX_SECURE;
	else if (span_eq(word, SPAN("mx=implicit")))
		ret->mx = SITE_MX_IMPLICIT;
	else
		return false;
	return true;
}

bool
site_key_tls(struct span key, struct arena *arena, struct site_tls *ret)
{
	*ret = (struct site_tls){ .tls = ROUTE_TLS_AUTO };
	span_cut(&key, ' ');
	while (key.len > 0)
		if (!read_word(span_cut(&key, ' '), arena, ret))
			return false;
	return true;
}
