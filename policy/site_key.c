/*
 * site_key: see site_key.h. The words are stored in the queue: they may be added to, not changed.
 */
#include "policy/site_key.h"

#include "mta/base/address.h"
#include "mta/base/buf.h"
#include "mta/base/map.h"
#include "dns/mx.h"
#include "queue/record.h"

static const struct {
	enum route_tls tls;
	struct span words;
} words_of[] = {
	{ ROUTE_TLS_OFF, { "tls=off", 7 } },
	{ ROUTE_TLS_MAY, { "tls=may", 7 } },
	{ ROUTE_TLS_REQUIRED, { "tls=required", 12 } },
	{ ROUTE_TLS_VERIFY, { "tls=verify", 10 } },
	{ ROUTE_TLS_DANE, { "tls=dane", 8 } },
	{ ROUTE_TLS_MTA_STS, { "tls=mta-sts", 11 } },
};

static const struct span wish_words[] = {
	[WISH_NONE] = { "", 0 },
	[WISH_REQUIRETLS] = { "requiretls", 10 },
	[WISH_TLS_OPTIONAL] = { "tls-required=no", 15 },
};

static const char *const mx_words[] = { [SITE_MX_INSECURE] = "",
					[SITE_MX_SECURE] = " mx=secure",
					[SITE_MX_IMPLICIT] = " mx=implicit" };

enum route_wish
message_wish(uint32_t flags, struct span reverse_path)
{
	if ((flags & MESSAGE_REQUIRETLS) != 0)
		return reverse_path.len > 0 ? WISH_REQUIRETLS : WISH_NONE;
	return (flags & MESSAGE_TLS_OPTIONAL) != 0 ? WISH_TLS_OPTIONAL : WISH_NONE;
}

static void
put_word(struct span word, struct buf *out)
{
	buf_printf(out, "%zu:%.*s", word.len, SPAN_FMT(word));
}

/*
 * All that a login is, but for the user. What a file holds may change; it is read for each
 * connection.
 */
static uint64_t
hash_login(const struct route *route)
{
	struct buf all = { 0 };
	uint64_t hash;

	put_word(span_str(route->password_file), &all);
	put_word(span_str(route->token_file), &all);
	buf_printf(&all, "%zu;", route->token_command_count);
	for (size_t i = 0; i < route->token_command_count; i++)
		put_word(route->token_command[i], &all);
	buf_printf(&all, "%zu;", route->mechanism_count);
	for (size_t i = 0; i < route->mechanism_count; i++)
		put_word(route->mechanisms[i], &all);
	buf_printf(&all, "%d", route->auth_unverified);
	hash = hash_bytes(buf_span(&all).at, buf_len(&all), 0);
	buf_free(&all);
	return hash;
}

struct span
site_key_of(struct span place, const struct route *route, enum route_wish wish, enum site_mx mx,
	    struct arena *arena)
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
		key = arena_printf(arena, "%.*s user=%.*s login=%016llx", SPAN_FMT(key),
				   SPAN_FMT(buf_span(&user)),
				   (unsigned long long)hash_login(route));
		buf_free(&user);
	}
	if (wish != WISH_NONE)
		key = arena_printf(arena, "%.*s %.*s", SPAN_FMT(key), SPAN_FMT(wish_words[wish]));
	if (mx != SITE_MX_INSECURE && (route == NULL || tls_asks_dane(route->tls, wish)))
		key = arena_printf(arena, "%.*s%s", SPAN_FMT(key), mx_words[mx]);
	return key;
}

struct span
site_key_place(struct span key)
{
	return span_cut(&key, ' ');
}

/* Cuts off what an MTA-STS policy says, which is last. */
static struct span
cut_sts(struct span *key)
{
	static const struct span word = { " sts=", 5 };

	for (size_t i = 0; i + word.len <= key->len; i++)
		if (span_starts(span_skip(*key, i), word)) {
			struct span tail = span_skip(*key, i);

			*key = span_first(*key, i);
			return tail;
		}
	return SPAN("");
}

struct span
site_key_with_sts(struct span key, const struct sts_policy *policy, struct arena *arena)
{
	const char *before = " unlisted=";
	struct mx_set set = { 0 };
	uint16_t port;

	cut_sts(&key);
	if (policy == NULL || policy->mode == STS_MODE_NONE ||
	    !mx_parse_site_key(site_key_place(key), arena, &set, &port))
		return key;
	key = arena_printf(arena, "%.*s sts=%s", SPAN_FMT(key), sts_mode_text(policy->mode));
	for (size_t i = 0; i < set.count; i++)
		if (!sts_policy_lists(policy, set.hosts[i].name)) {
			key = arena_printf(arena, "%.*s%s%.*s", SPAN_FMT(key), before,
					   SPAN_FMT(set.hosts[i].name));
			before = ",";
		}
	return key;
}

bool
site_key_fits(struct span key, const struct route *route)
{
	struct arena arena = { 0 };
	struct site_tls now;
	bool fits = site_key_tls(key, &arena, &now);

	if (cut_sts(&key).len > 0 && !tls_asks_sts(route->tls, now.wish))
		fits = false;
	fits = fits &&
	       span_eq(site_key_of(site_key_place(key), route, now.wish, now.mx, &arena), key);
	arena_free(&arena);
	return fits;
}

static struct span *
read_list(struct span list, struct arena *arena, size_t *ret_count)
{
	struct span *names = arena_alloc(arena, (list.len / 2 + 1) * sizeof(*names));

	while (list.len > 0)
		names[(*ret_count)++] = arena_copy(arena, span_cut(&list, ','));
	return names;
}

static bool
read_word(struct span word, struct arena *arena, struct site_tls *ret)
{
	for (size_t i = 0; i < sizeof(words_of) / sizeof(words_of[0]); i++)
		if (span_eq(word, words_of[i].words)) {
			ret->tls = words_of[i].tls;
			return true;
		}
	if (span_starts(word, SPAN("names=")) && ret->name_count == 0)
		ret->names = read_list(span_skip(word, 6), arena, &ret->name_count);
	else if (span_starts(word, SPAN("unlisted=")) && ret->unlisted_count == 0)
		ret->unlisted = read_list(span_skip(word, 9), arena, &ret->unlisted_count);
	else if (span_starts(word, SPAN("user=")) || span_starts(word, SPAN("login=")))
		ret->login = true;
	else if (span_eq(word, wish_words[WISH_REQUIRETLS]))
		ret->wish = WISH_REQUIRETLS;
	else if (span_eq(word, wish_words[WISH_TLS_OPTIONAL]))
		ret->wish = WISH_TLS_OPTIONAL;
	else if (span_eq(word, SPAN("mx=secure")))
		ret->mx = SITE_MX_SECURE;
	else if (span_eq(word, SPAN("mx=implicit")))
		ret->mx = SITE_MX_IMPLICIT;
	else if (span_eq(word, SPAN("sts=testing")))
		ret->sts = STS_MODE_TESTING;
	else if (span_eq(word, SPAN("sts=enforce")))
		ret->sts = STS_MODE_ENFORCE;
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
