/* Routes: which pattern wins, and each form of `deliver`, right and wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/route.h"

static const char *
found(const char *domain)
{
	static struct route list[] = {
		{ .name = SPAN("*") },
		{ .name = SPAN("*.example.org") },
		{ .name = SPAN("mail.example.org") },
		{ .name = SPAN("*.org") },
		{ .name = SPAN("*.sub.example.org") },
		{ .name = SPAN("[192.0.2.1]") },
		{ .name = SPAN("example.com") },
	};
	struct routes routes = { list, sizeof(list) / sizeof(list[0]) };
	const struct route *route;

	routes_sort(&routes);
	route = route_find(&routes, span_str(domain));
	return route ? route->name.at : "none";
}

static void
test_most_specific_wins(void **state)
{
	(void)state;
	assert_string_equal(found("mail.example.org"), "mail.example.org");
	assert_string_equal(found("x.mail.example.org"), "*.example.org");
	assert_string_equal(found("www.example.org"), "*.example.org");
	assert_string_equal(found("example.org"), "*.org");
	assert_string_equal(found("a.b.sub.example.org"), "*.sub.example.org");
	assert_string_equal(found("sub.example.org"), "*.example.org");
	assert_string_equal(found("notexample.org"), "*.org");
	assert_string_equal(found("example.com"), "example.com");
	assert_string_equal(found("www.example.com"), "*");
	assert_string_equal(found("org"), "*");
	assert_string_equal(found("[192.0.2.1]"), "[192.0.2.1]");
	assert_string_equal(found("[192.0.2.2]"), "*");
	assert_string_equal(found(""), "*");
}

static void
test_nothing_matches(void **state)
{
	struct route list[] = { { .name = SPAN("*.example.org") }, { .name = SPAN("example.com") } };
	struct routes routes = { list, 2 };
	char label[512] = { 0 };
	struct span huge = { label, sizeof(label) - 1 };

	(void)state;
	memset(label, 'a', huge.len);
	routes_sort(&routes);
	assert_null(route_find(&routes, SPAN("example.org")));
	assert_null(route_find(&routes, SPAN("example.net")));
	assert_null(route_find(&routes, SPAN("[192.0.2.1]")));
	assert_null(route_find(&routes, huge));
	assert_null(route_by_name(&routes, SPAN("*")));
	assert_non_null(route_by_name(&routes, SPAN("*.example.org")));
	routes.count = 0;
	assert_null(route_find(&routes, SPAN("example.org")));
}

static void
expect_pattern(const char *text, const char *want)
{
	struct arena arena = { 0 };
	struct span got = { 0 };
	bool good = domain_pattern_read(span_str(text), &arena, &got);

	assert_int_equal(good, want != NULL);
	if (good)
		assert_true(span_eq(got, span_str(want)));
	arena_free(&arena);
}

static void
test_patterns(void **state)
{
	(void)state;
	expect_pattern("*", "*");
	expect_pattern("example.org", "example.org");
	expect_pattern("*.example.org", "*.example.org");
	expect_pattern("[192.0.2.1]", "[192.0.2.1]");
	expect_pattern("", NULL);
	expect_pattern("*.", NULL);
	expect_pattern("*.[192.0.2.1]", NULL);
	expect_pattern("*example.org", NULL);
	expect_pattern("a.*.org", NULL);
	expect_pattern("user@example.org", NULL);
	assert_true(domain_pattern_matches(SPAN("*"), SPAN("[192.0.2.1]")));
	assert_true(domain_pattern_matches(SPAN("*.example.org"), SPAN("a.b.example.org")));
	assert_false(domain_pattern_matches(SPAN("*.example.org"), SPAN("example.org")));
	assert_false(domain_pattern_matches(SPAN("*.example.org"), SPAN("badexample.org")));
	assert_false(domain_pattern_matches(SPAN("example.org"), SPAN("a.example.org")));
}

/* One domain has two names: U-labels and A-labels match each other. */
static void
test_international(void **state)
{
	struct route list[] = { { .name = SPAN("xn--bcher-kva.example") },
				{ .name = SPAN("*.xn--bcher-kva.example") },
				{ .name = SPAN("*") } };
	struct routes routes = { list, 3 };

	(void)state;
	expect_pattern("B\xc3\xbc" "cher.Example", "xn--bcher-kva.example");
	expect_pattern("*.b\xc3\x9c" "cher.example", "*.xn--bcher-kva.example");
	expect_pattern("*.XN--bcher-kva.example", "*.xn--bcher-kva.example");
	expect_pattern("\xe2\x80\x8b.example", NULL);
	expect_pattern("*.\xff.example", NULL);
	routes_sort(&routes);
	assert_string_equal(route_find(&routes, SPAN("b\xc3\xbc" "cher.example"))->name.at,
			    "xn--bcher-kva.example");
	assert_string_equal(route_find(&routes, SPAN("xn--bcher-kva.example"))->name.at,
			    "xn--bcher-kva.example");
	assert_string_equal(route_find(&routes, SPAN("a.b\xc3\xbc" "cher.example"))->name.at,
			    "*.xn--bcher-kva.example");
	assert_string_equal(route_find(&routes, SPAN("a.m\xc3\xbcl.example"))->name.at, "*");
	assert_string_equal(route_find(&routes, SPAN("\xff.example"))->name.at, "*");
	assert_true(domain_pattern_matches(SPAN("xn--bcher-kva.example"),
					   SPAN("b\xc3\xbc" "cher.example")));
	assert_true(domain_pattern_matches(SPAN("*.xn--bcher-kva.example"),
					   SPAN("a.b\xc3\xbc" "cher.example")));
	assert_false(domain_pattern_matches(SPAN("xn--bcher-kva.example"),
					    SPAN("b\xc3\xb6" "cher.example")));
}

static void
test_deliver_smtp(void **state)
{
	static const struct {
		const char *text, *name;
		uint8_t family;
		uint16_t port;
		bool use_mx;
	} cases[] = {
		{ "smtp:[127.0.0.1]:2525", "", AF_INET, 2525, false },
		{ "smtp:[127.0.0.1]", "", AF_INET, 25, false },
		{ "smtp:[::1]:26", "", AF_INET6, 26, false },
		{ "smtp:[Mail.Example.Org]:587", "mail.example.org", 0, 587, false },
		{ "smtp:example.org", "example.org", 0, 25, true },
		{ "smtp:example.org:2525", "example.org", 0, 2525, true },
	};
	struct arena arena = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct route route = { 0 };
		const char *error = NULL;

		assert_true(route_parse_deliver(span_str(cases[i].text), &arena, &route, &error));
		assert_int_equal(route.kind, DELIVER_SMTP);
		assert_true(span_eq(route.host.name, span_str(cases[i].name)));
		assert_int_equal(route.host.address.family, cases[i].family);
		assert_int_equal(route.host.port, cases[i].port);
		assert_int_equal(route.host.use_mx, cases[i].use_mx);
		assert_true(span_starts(route.site_key, SPAN("static:smtp:")));
		if (cases[i].family != 0)
			assert_int_equal(route.host.address.port, cases[i].port);
	}
	arena_free(&arena);
}

static void
test_deliver_other(void **state)
{
	struct arena arena = { 0 };
	struct route route = { 0 };
	const char *error;

	(void)state;
	assert_true(route_parse_deliver(SPAN("mx"), &arena, &route, &error));
	assert_int_equal(route.kind, DELIVER_MX);
	assert_int_equal(route.mx_port, 25);
	assert_true(route_parse_deliver(SPAN("mx:2525"), &arena, &route, &error));
	assert_int_equal(route.mx_port, 2525);
	assert_true(route_parse_deliver(SPAN("discard"), &arena, &route, &error));
	assert_int_equal(route.kind, DELIVER_DISCARD);
	assert_true(route_parse_deliver(SPAN("reject:550 5.1.1 no such user"), &arena, &route, &error));
	assert_int_equal(route.kind, DELIVER_REJECT);
	assert_true(span_eq(route.reject_text, SPAN("550 5.1.1 no such user")));
	assert_int_equal(route.reject.code, 550);
	assert_int_equal(route.reject.status.detail, 1);
	assert_true(span_eq(route.reject.text, SPAN("no such user")));
	assert_true(route_parse_deliver(SPAN("reject:450 4.2.1 later"), &arena, &route, &error));
	arena_free(&arena);
}

static void
test_deliver_bad(void **state)
{
	static const char *const bad[] = {
		"", "MX", "mx:", "mx:0", "mx:65536", "mx25", "mx:+25", "smtp:", "smtp:[", "smtp:[]", "smtp:[]:25",
		"smtp:[127.0.0.1", "smtp:[127.0.0.1]2525", "smtp:[127.0.0.1]:", "smtp:[127.0.0.1]:99999",
		"smtp:127.0.0.1:25", "smtp:::1", "smtp:a b", "smtp:-x.org", "smtp:*.example.org", "lmtp:unix:/run/x",
		"reject:", "reject:550", "reject:550 no", "reject:550 4.1.1 x", "reject:250 2.0.0 ok", "reject:550 5.1.1 ",
		"reject:550 5.1.1 a\r\nb", "reject:99 5.1.1 x", "discard:x", "smtp:[::1]:25:25",
	};
	struct arena arena = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct route route = { 0 };
		const char *error = NULL;

		assert_false(route_parse_deliver(span_str(bad[i]), &arena, &route, &error));
		assert_non_null(error);
	}
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_most_specific_wins), cmocka_unit_test(test_nothing_matches),
		cmocka_unit_test(test_patterns),	   cmocka_unit_test(test_international),
		cmocka_unit_test(test_deliver_smtp),	   cmocka_unit_test(test_deliver_other),
		cmocka_unit_test(test_deliver_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
