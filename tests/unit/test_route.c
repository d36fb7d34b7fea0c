/* Routes: which pattern wins, and each form of `deliver`, right and wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mta/base/buf.h"
#include "policy/route.h"

static struct arena names;

static void
name_all(struct routes *routes)
{
	for (size_t i = 0; i < routes->count; i++)
		route_set_name(&routes->routes[i], &names);
	routes_sort(routes);
}

static const char *
found(const char *domain)
{
	static struct route list[] = {
		{ .pattern = SPAN("*") },
		{ .pattern = SPAN("*.example.org") },
		{ .pattern = SPAN("mail.example.org") },
		{ .pattern = SPAN("*.org") },
		{ .pattern = SPAN("*.sub.example.org") },
		{ .pattern = SPAN("[192.0.2.1]") },
		{ .pattern = SPAN("example.com") },
	};
	struct routes routes = { .routes = list, .count = sizeof(list) / sizeof(list[0]) };
	const struct route *route;

	name_all(&routes);
	route = route_find(&routes, span_str(domain));
	return route ? route->pattern.at : "none";
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
	struct route list[] = { { .pattern = SPAN("*.example.org") },
				{ .pattern = SPAN("example.com") } };
	struct routes routes = { .routes = list, .count = 2 };
	char label[512] = { 0 };
	struct span huge = { label, sizeof(label) - 1 };

	(void)state;
	memset(label, 'a', huge.len);
	name_all(&routes);
	assert_null(route_find(&routes, SPAN("example.org")));
	assert_null(route_find(&routes, SPAN("example.net")));
	assert_null(route_find(&routes, SPAN("[192.0.2.1]")));
	assert_null(route_find(&routes, huge));
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
	struct route list[] = { { .pattern = SPAN("xn--bcher-kva.example") },
				{ .pattern = SPAN("*.xn--bcher-kva.example") },
				{ .pattern = SPAN("*") } };
	struct routes routes = { .routes = list, .count = 3 };

	(void)state;
	expect_pattern("B\xc3\xbc" "cher.Example", "xn--bcher-kva.example");
	expect_pattern("*.b\xc3\x9c" "cher.example", "*.xn--bcher-kva.example");
	expect_pattern("*.XN--bcher-kva.example", "*.xn--bcher-kva.example");
	expect_pattern("\xe2\x80\x8b.example", NULL);
	expect_pattern("*.\xff.example", NULL);
	name_all(&routes);
	assert_string_equal(route_find(&routes, SPAN("b\xc3\xbc" "cher.example"))->pattern.at,
			    "xn--bcher-kva.example");
	assert_string_equal(route_find(&routes, SPAN("xn--bcher-kva.example"))->pattern.at,
			    "xn--bcher-kva.example");
	assert_string_equal(route_find(&routes, SPAN("a.b\xc3\xbc" "cher.example"))->pattern.at,
			    "*.xn--bcher-kva.example");
	assert_string_equal(route_find(&routes, SPAN("a.m\xc3\xbcl.example"))->pattern.at, "*");
	assert_string_equal(route_find(&routes, SPAN("\xff.example"))->pattern.at, "*");
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
		assert_true(span_eq(route.hosts[0].name, span_str(cases[i].name)));
		assert_int_equal(route.hosts[0].address.family, cases[i].family);
		assert_int_equal(route.hosts[0].port, cases[i].port);
		assert_int_equal(route.hosts[0].use_mx, cases[i].use_mx);
		assert_true(span_starts(route.site_key, SPAN("static:smtp:")));
		if (cases[i].family != 0)
			assert_int_equal(route.hosts[0].address.port, cases[i].port);
	}
	arena_free(&arena);
}

/* In their order; and what is read from a site's key is what stood in the file. */
static void
test_deliver_several(void **state)
{
	static const char *const bad[] = {
		"smtp:[a.example]:25,", ",smtp:[a.example]", "smtp:[a.example], mx",
		"smtp:[a.example] smtp:[b.example]",
		"smtp:[a.example]:25, smtp:[A.example]:25", "smtp:[a.example], discard",
		"smtp:[a.example],,smtp:[b.example]",
	};
	struct arena arena = { 0 };
	struct route route = { 0 }, again = { 0 };
	struct buf many = { 0 };
	const char *error = NULL;

	(void)state;
	assert_true(route_parse_deliver(SPAN("smtp:[a.example]:587, smtps:[192.0.2.1] "
					     ",smtp:b.example"), &arena,
					&route, &error));
	assert_int_equal(route.host_count, 3);
	assert_true(span_eq(route.hosts[0].name, SPAN("a.example")));
	assert_int_equal(route.hosts[0].port, 587);
	assert_true(route.hosts[1].tls_on_connect);
	assert_int_equal(route.hosts[1].port, 465);
	assert_true(route.hosts[2].use_mx && route_is_static(&route));
	assert_true(span_eq(route.site_key,
			    SPAN("static:smtp:[a.example]:587,smtps:[192.0.2.1],smtp:b.example")));
	assert_true(route_parse_deliver(span_skip(route.site_key, 7), &arena, &again, &error));
	assert_true(span_eq(again.site_key, route.site_key));
	assert_true(route_parse_deliver(SPAN("smtp:b.example"), &arena, &route, &error));
	assert_false(route_is_static(&route));
	route.user = SPAN("anna");
	assert_true(route_is_static(&route));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		error = NULL;
		assert_false(route_parse_deliver(span_str(bad[i]), &arena, &route, &error));
		assert_non_null(error);
	}
	for (int i = 0; i < ROUTE_HOSTS_MAX + 1; i++) {
		buf_printf(&many, "%ssmtp:[h%d.example]", i > 0 ? "," : "", i);
		assert_int_equal(route_parse_deliver(buf_span(&many), &arena, &route, &error),
				 i < ROUTE_HOSTS_MAX);
	}
	buf_free(&many);
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
	assert_true(route_parse_deliver(SPAN("reject:550 5.1.1 no such user"), &arena, &route,
					&error));
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
		"", "MX", "mx:", "mx:0", "mx:65536", "mx25", "mx:+25", "smtp:", "smtp:[", "smtp:[]",
		"smtp:[]:25",
		"smtp:[127.0.0.1", "smtp:[127.0.0.1]2525", "smtp:[127.0.0.1]:",
		"smtp:[127.0.0.1]:99999",
		"smtp:127.0.0.1:25", "smtp:::1", "smtp:a b", "smtp:-x.org", "smtp:*.example.org",
		"lmtp:unix:/run/x",
		"reject:", "reject:550", "reject:550 no", "reject:550 4.1.1 x",
		"reject:250 2.0.0 ok", "reject:550 5.1.1 ",
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

/* ---- by sender and by user ------------------------------------------------------------------ */

static struct span shop[] = { SPAN("shop.example") }, below[] = { SPAN("*.shop.example") },
		   billing[] = { SPAN("Billing@shop.example") }, null_path[] = { SPAN("<>") },
		   anyone[] = { SPAN("*") }, anna[] = { SPAN("anna") },
		   both[] = { SPAN("other.example"), SPAN("shop.example") };

static struct route conditional[] = {
	{ .pattern = SPAN("*"), .line = 1 },
	{ .pattern = SPAN("*"), .senders = shop, .sender_count = 1, .line = 2 },
	{ .pattern = SPAN("*"), .senders = below, .sender_count = 1, .line = 3 },
	{ .pattern = SPAN("*"), .senders = billing, .sender_count = 1, .line = 4 },
	{ .pattern = SPAN("*"), .users = anna, .user_count = 1, .line = 5 },
	{ .pattern = SPAN("*"), .users = anna, .user_count = 1, .senders = shop, .sender_count = 1,
	  .line = 6 },
	{ .pattern = SPAN("*"), .senders = null_path, .sender_count = 1, .line = 7 },
	{ .pattern = SPAN("*"), .senders = anyone, .sender_count = 1, .line = 8 },
	{ .pattern = SPAN("example.org"), .senders = shop, .sender_count = 1, .line = 9 },
	{ .pattern = SPAN("local.example"), .line = 10 },
};
enum { CONDITIONAL = sizeof(conditional) / sizeof(*conditional) };

static struct routes
some_routes(struct route *list, size_t count)
{
	struct routes routes = { list, count, false };

	memcpy(list, conditional, count * sizeof(*list));
	name_all(&routes);
	return routes;
}

static int
line_for(const struct routes *routes, const char *domain, const char *sender, const char *user)
{
	const struct route *route = route_choose(
		routes,
		&(struct route_facts){ span_str(domain), span_str(sender), span_str(user) });

	return route != NULL ? route->line : 0;
}

static void
test_sender_and_user(void **state)
{
	struct route list[CONDITIONAL];
	struct routes routes = some_routes(list, CONDITIONAL);

	(void)state;
	assert_true(routes.conditional);
	assert_int_equal(line_for(&routes, "x.example", "a@shop.example", ""), 2);
	assert_int_equal(line_for(&routes, "x.example", "a@deep.shop.example", ""), 3);
	assert_int_equal(line_for(&routes, "x.example", "billing@shop.example", ""), 4);
	assert_int_equal(line_for(&routes, "x.example", "a@else.example", ""), 8);
	assert_int_equal(line_for(&routes, "x.example", "", ""), 7);
	assert_int_equal(line_for(&routes, "x.example", "a@else.example", "Anna"), 5);
	assert_int_equal(line_for(&routes, "x.example", "a@shop.example", "anna"), 6);
	assert_int_equal(line_for(&routes, "x.example", "a@shop.example", "bert"), 2);
	/* the recipient's domain comes first; but if nothing of it fits, the next pattern */
	assert_int_equal(line_for(&routes, "local.example", "a@shop.example", "anna"), 10);
	assert_int_equal(line_for(&routes, "example.org", "a@shop.example", "anna"), 9);
	assert_int_equal(line_for(&routes, "example.org", "a@else.example", ""), 8);
	assert_int_equal(route_find(&routes, SPAN("example.org"))->line, 1);
	routes = some_routes(list, 1);
	assert_false(routes.conditional);
	assert_int_equal(line_for(&routes, "x.example", "", ""), 1);
	memcpy(list, &conditional[1], sizeof(*list));
	name_all(&routes);
	assert_int_equal(line_for(&routes, "x.example", "a@else.example", ""), 0);
	assert_null(route_find(&routes, SPAN("x.example")));
}

static void
test_ambiguous(void **state)
{
	struct route other = { .pattern = SPAN("*"), .senders = both, .sender_count = 2 };

	(void)state;
	assert_true(route_is_ambiguous(&conditional[1], &other));
	assert_false(route_is_ambiguous(&conditional[0], &other));
	assert_false(route_is_ambiguous(&conditional[3], &other));
	assert_false(route_is_ambiguous(&conditional[5], &other));
	other.users = anna;
	other.user_count = 1;
	assert_false(route_is_ambiguous(&conditional[1], &other));
	assert_true(route_is_ambiguous(&conditional[5], &other));
	other.pattern = SPAN("example.org");
	assert_false(route_is_ambiguous(&conditional[5], &other));
}

/* What a lane remembers: good until a route is added or gone that could have been taken. */
static void
test_labels(void **state)
{
	struct route list[CONDITIONAL], fewer[CONDITIONAL];
	struct routes routes = some_routes(list, CONDITIONAL), simple = some_routes(fewer, 1);
	struct span x = SPAN("x.example"), local = SPAN("local.example"), label, word;
	struct arena arena = { 0 };
	const struct route *route;

	(void)state;
	for (int wish = WISH_NONE; wish <= WISH_TLS_OPTIONAL; wish++) {
		label = route_label(&simple, x, &fewer[0], (enum route_wish)wish, &arena);
		assert_int_equal(route_label_wish(label), wish);
		assert_true(route_label_holds(&simple, x, label));
		assert_false(route_label_holds(&routes, x, label));
		assert_ptr_equal(route_labelled(&simple, x, label), &fewer[0]);
		if (wish == WISH_NONE)
			/* outlives it */
			assert_true(span_eq(label, SPAN("*")) && label.at != fewer[0].name.at);
		for (size_t i = 0; i < CONDITIONAL; i++) {
			if (!span_eq(list[i].pattern, SPAN("*")))
				continue;
			label = route_label(&routes, x, &list[i], (enum route_wish)wish, &arena);
			word = route_label_text(label);
			assert_int_equal(route_label_wish(label), wish);
			assert_true(word.len < label.len && span_starts(word, list[i].name));
			assert_true(route_label_holds(&routes, x, label));
			assert_false(route_label_holds(&simple, x, label));
			assert_ptr_equal(route_labelled(&routes, x, label), &list[i]);
			word = route_label_with(label, WISH_REQUIRETLS, &arena);
			assert_true(route_label_wish(word) == WISH_REQUIRETLS &&
				    route_label_holds(&routes, x, word));
			assert_ptr_equal(route_labelled(&routes, x, word), &list[i]);
			assert_true(span_eq(route_label_with(word, (enum route_wish)wish, &arena),
					    label));
		}
	}
	/* a domain whose own route asks nothing is touched by none of this */
	route = route_find(&routes, local);
	label = route_label(&routes, local, route, WISH_NONE, &arena);
	assert_true(span_eq(label, SPAN("local.example")));
	/* no route: told apart from one that is there */
	label = route_label(&routes, x, NULL, WISH_NONE, &arena);
	assert_true(route_label_holds(&routes, x, label));
	assert_null(route_labelled(&routes, x, label));
	assert_true(route_label_holds(&(struct routes){ 0 }, x, SPAN("*")));
	arena_free(&arena);
}

static void
test_names(void **state)
{
	struct span many[100];
	struct route a = { .pattern = SPAN("*"), .senders = many, .sender_count = 100 }, b = a;
	struct span users[] = { SPAN("anna b@c") };

	(void)state;
	for (size_t i = 0; i < 100; i++)
		many[i] = arena_printf(&names, "user%zu@shop.example", i);
	route_set_name(&a, &names);
	many[99] = SPAN("last@shop.example");
	route_set_name(&b, &names);
	assert_true(a.name.len < 250 && !span_eq(a.name, b.name));
	b = (struct route){ .pattern = SPAN("*"), .users = users, .user_count = 1 };
	route_set_name(&b, &names);
	assert_true(span_eq(b.name, SPAN("* user=anna+20b@c")));
}

static void
test_sender_patterns(void **state)
{
	static const char *const good[][2] = {
		{ "<>", "<>" }, { "*", "*" }, { "*.Example.org", "*.example.org" },
		{ "Anna@Example.org", "Anna@example.org" },
		{ "a@b\xc3\xbc" "cher.example", "a@xn--bcher-kva.example" },
	};
	static const char *const bad[] = { "", "<", "a@", "@b", "a@b@c", "a b@c.example",
					   "<a@b.example>", "a@*.b" };
	struct span got;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_true(sender_pattern_read(span_str(good[i][0]), &names, &got));
		assert_true(span_eq(got, span_str(good[i][1])));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(sender_pattern_read(span_str(bad[i]), &names, &got));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_most_specific_wins), cmocka_unit_test(test_nothing_matches),
		cmocka_unit_test(test_patterns),	   cmocka_unit_test(test_international),
		cmocka_unit_test(test_deliver_smtp),	   cmocka_unit_test(test_deliver_other),
		cmocka_unit_test(test_deliver_bad),	   cmocka_unit_test(test_sender_and_user),
		cmocka_unit_test(test_ambiguous),	   cmocka_unit_test(test_labels),
		cmocka_unit_test(test_deliver_several),
		cmocka_unit_test(test_names),		   cmocka_unit_test(test_sender_patterns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
