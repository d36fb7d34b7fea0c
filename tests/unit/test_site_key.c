/*
 * Site keys: what a route says of TLS is part of where its mail goes, there and back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mta/tls/distrust.h"
#include "policy/site_key.h"

static const struct span place = { "mx:a.example,b.example>c.example:25", 35 };

static void
each_way_is_a_site_of_its_own(void **state)
{
	struct arena arena = { 0 };
	struct span keys[ROUTE_TLS_MTA_STS + 1];

	(void)state;
	for (int tls = ROUTE_TLS_AUTO; tls <= ROUTE_TLS_MTA_STS; tls++) {
		struct route route = { .tls = (enum route_tls)tls };
		struct site_tls back;

		keys[tls] = site_key_of(place, &route, WISH_NONE, SITE_MX_INSECURE, &arena);
		assert_true(span_eq(site_key_place(keys[tls]), place));
		assert_true(site_key_tls(keys[tls], &arena, &back));
		assert_int_equal(back.tls, tls);
		assert_int_equal(back.name_count, 0);
		assert_true(site_key_fits(keys[tls], &route));
		for (int other = ROUTE_TLS_AUTO; other < tls; other++)
			assert_false(span_eq(keys[tls], keys[other]));
	}
	assert_true(span_eq(keys[ROUTE_TLS_AUTO], place));
	arena_free(&arena);
}

static void
names_are_part_of_it(void **state)
{
	struct arena arena = { 0 };
	struct span names[] = { SPAN("a.example"), SPAN("b.example") };
	struct route route = { .tls = ROUTE_TLS_VERIFY, .tls_names = names, .tls_name_count = 2 };
	struct span key = site_key_of(place, &route, WISH_NONE, SITE_MX_INSECURE, &arena);
	struct site_tls back;

	(void)state;
	assert_true(site_key_tls(key, &arena, &back));
	assert_int_equal(back.name_count, 2);
	assert_true(span_eq(back.names[1], names[1]));
	route.user = SPAN("anna b@c");
	key = site_key_of(place, &route, WISH_NONE, SITE_MX_INSECURE, &arena);
	assert_true(site_key_tls(key, &arena, &back));
	assert_int_equal(back.name_count, 2);
	assert_true(site_key_fits(key, &route));
	route.tls_name_count = 1;
	assert_false(site_key_fits(key, &route));
	arena_free(&arena);
}

/* Two logins of one user are two sites: each route's secret goes with its own mail. */
static void
logins_are_part_of_it(void **state)
{
	struct arena arena = { 0 };
	struct span words[] = { SPAN("/bin/token"), SPAN("anna") }, plain = SPAN("PLAIN");
	struct route ways[] = {
		{ .password_file = "/etc/a" },
		{ .password_file = "/etc/b" },
		{ .token_file = "/etc/a" },
		{ .token_command = words, .token_command_count = 1 },
		{ .token_command = words, .token_command_count = 2 },
		{ .password_file = "/etc/a", .auth_unverified = true },
		{ .password_file = "/etc/a", .mechanisms = &plain, .mechanism_count = 1 },
	};
	struct span keys[sizeof(ways) / sizeof(ways[0])];
	struct site_tls back;

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		ways[i].tls = ROUTE_TLS_VERIFY;
		ways[i].user = SPAN("anna");
		keys[i] = site_key_of(place, &ways[i], WISH_NONE, SITE_MX_INSECURE, &arena);
		assert_true(site_key_tls(keys[i], &arena, &back));
		assert_true(back.login && site_key_fits(keys[i], &ways[i]));
		assert_null(memmem(keys[i].at, keys[i].len, "/etc", 4));
		for (size_t other = 0; other < i; other++)
			assert_false(site_key_fits(keys[i], &ways[other]));
	}
	arena_free(&arena);
}

/* What a policy says of the hosts is part of it; how it says so is not. */
static void
policies_are_part_of_it(void **state)
{
	struct arena arena = { 0 };
	struct span all[] = { SPAN("*.example") }, both[] = { SPAN("a.example"),
							      SPAN("b.example") };
	struct sts_policy policy = { .mode = STS_MODE_ENFORCE, .mx = all, .mx_count = 1 };
	struct route route = { .tls = ROUTE_TLS_AUTO }, deaf = { .tls = ROUTE_TLS_MAY };
	struct span bare = SPAN("mx:b.example>a.example,c.other:25 mx=secure"), key;
	struct site_tls back;

	(void)state;
	key = site_key_with_sts(bare, &policy, &arena);
	assert_string_equal(key.at, "mx:b.example>a.example,c.other:25 mx=secure sts=enforce "
				    "unlisted=c.other");
	assert_true(site_key_fits(key, &route));
	assert_false(site_key_fits(key, &deaf));
	assert_true(site_key_tls(key, &arena, &back));
	assert_int_equal(back.sts, STS_MODE_ENFORCE);
	assert_int_equal(back.mx, SITE_MX_SECURE);
	assert_int_equal(back.unlisted_count, 1);
	policy.mx = both;
	policy.mx_count = 2;
	assert_true(span_eq(site_key_with_sts(key, &policy, &arena), key));
	policy.mode = STS_MODE_TESTING;
	policy.mx_count = 0;
	assert_string_equal(site_key_with_sts(key, &policy, &arena).at,
			    "mx:b.example>a.example,c.other:25 mx=secure sts=testing "
			    "unlisted=b.example,a.example,c.other");
	policy.mode = STS_MODE_NONE;
	assert_true(span_eq(site_key_with_sts(key, &policy, &arena), bare));
	assert_true(span_eq(site_key_with_sts(key, NULL, &arena), bare));
	key = SPAN("static:smtp:[192.0.2.1]:25");
	policy.mode = STS_MODE_ENFORCE;
	assert_true(span_eq(site_key_with_sts(key, &policy, &arena), key));
	arena_free(&arena);
}

/* What a message asks for is told apart, and stands beside what the route says. */
static void
wishes_are_part_of_it(void **state)
{
	struct arena arena = { 0 };
	struct route route = { .tls = ROUTE_TLS_VERIFY, .user = SPAN("anna") };
	struct span keys[WISH_TLS_OPTIONAL + 1];
	struct site_tls back;

	(void)state;
	for (int wish = WISH_NONE; wish <= WISH_TLS_OPTIONAL; wish++) {
		keys[wish] =
			site_key_of(place, &route, (enum route_wish)wish, SITE_MX_SECURE, &arena);
		assert_true(site_key_tls(keys[wish], &arena, &back));
		assert_int_equal(back.wish, wish);
		assert_int_equal(back.tls, ROUTE_TLS_VERIFY);
		/* how the hosts became known matters to REQUIRETLS by any route */
		assert_int_equal(back.mx,
				 wish == WISH_REQUIRETLS ? SITE_MX_SECURE : SITE_MX_INSECURE);
		assert_true(back.login && site_key_fits(keys[wish], &route));
		for (int other = WISH_NONE; other < wish; other++)
			assert_false(span_eq(keys[wish], keys[other]));
	}
	arena_free(&arena);
}

/* A queue of a newer version may know more: nothing is sent less safely than it says. */
static void
unknown_words_are_refused(void **state)
{
	static const char *const keys[] = { "mx:a:25 tls=quantum", "mx:a:25 tls=may more",
					    "mx:a:25 ",
					    "mx:a:25 tls=may=" };
	struct arena arena = { 0 };
	struct site_tls back;

	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		assert_int_equal(site_key_tls(span_str(keys[i]), &arena, &back), i == 2);
	arena_free(&arena);
}

static void
distrust_is_bounded_and_ends(void **state)
{
	struct distrust *d = distrust_new();
	struct netaddr address = { 0 };

	(void)state;
	assert_true(netaddr_parse(SPAN("192.0.2.1"), 25, &address));
	assert_false(distrust_has(d, &address, 0));
	distrust_add(d, &address, 100);
	assert_true(distrust_has(d, &address, 99));
	assert_false(distrust_has(d, &address, 100));
	distrust_remove(d, &address);
	assert_false(distrust_has(d, &address, 0));
	for (int i = 0; i < 100000; i++) {
		address.ip[13] = (uint8_t)(i >> 16);
		address.ip[14] = (uint8_t)(i >> 8);
		address.ip[15] = (uint8_t)i;
		distrust_add(d, &address, 1000 + i);
		assert_true(distrust_has(d, &address, 0));
	}
	distrust_free(d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_way_is_a_site_of_its_own),
		cmocka_unit_test(names_are_part_of_it),
		cmocka_unit_test(logins_are_part_of_it),
		cmocka_unit_test(policies_are_part_of_it),
		cmocka_unit_test(wishes_are_part_of_it),
		cmocka_unit_test(unknown_words_are_refused),
		cmocka_unit_test(distrust_is_bounded_and_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
