/*
 * dns/lookup: MX and address look-ups against the name server of dns_fixture.h; international
 * domains.
 */
#include "dns_fixture.h"

#include <stdio.h>

enum { NEVER_MS = 3600 * 1000 };

static struct dns_server *server;
static struct test_loop loop;
static struct lookup *last;
static const struct span own_names[] = { { "v4.mx.test", 10 } };

static struct {
	unsigned calls;
	size_t count;
	struct reply failure;
	bool implicit;
	char hosts[512];	/* or addresses, blank-separated */
} got;

static void
on_mx(void *arg, const struct mx_set *set)
{
	(void)arg;
	last = NULL;
	got.calls++;
	got.count = set->count;
	got.failure = set->failure;
	got.implicit = set->implicit;
	got.hosts[0] = '\0';
	for (size_t i = 0; i < set->count; i++)
		snprintf(got.hosts + strlen(got.hosts), 200, "%s%.*s", i ? " " : "",
			 SPAN_FMT(set->hosts[i].name));
}

static void
on_addresses(void *arg, const struct host_addresses *found)
{
	char text[NETADDR_TEXT_MAX];

	(void)arg;
	last = NULL;
	got.calls++;
	got.count = found->count;
	got.failure = found->failure;
	got.hosts[0] = '\0';
	for (size_t i = 0; i < found->count; i++)
		snprintf(got.hosts + strlen(got.hosts), 100, "%s%s", i ? " " : "",
			 netaddr_format_port(&found->addresses[i], text));
}

static int
start(void **state)
{
	struct dns_config config;

	(void)state;
	server = server_start();
	config = config_for(server);
	config.timeout_ms = 150;
	config.tries = 1;
	config.grace_ms = NEVER_MS;
	loop_open(&loop, &config);
	memset(&got, 0, sizeof(got));
	return 0;
}

/* The grace is over soon, and no query ever. */
static int
start_impatient(void **state)
{
	struct dns_config config;

	(void)state;
	server = server_start();
	config = config_for(server);
	config.timeout_ms = NEVER_MS;
	config.grace_ms = 20;
	loop_open(&loop, &config);
	memset(&got, 0, sizeof(got));
	return 0;
}

static int
finish(void **state)
{
	(void)state;
	loop_close(&loop);
	server_stop(server);
	return 0;
}

static void
wait_for_it(void)
{
	int64_t end = mono_ms() + 20000;

	assert_non_null(last);		/* never called back before it has returned */
	while (last != NULL) {
		assert_true(mono_ms() < end);
		loop_turn(&loop, 100);
	}
}

static void
expect_mx(const char *domain, bool lax, const char *hosts, bool implicit)
{
	last = lookup_mx(loop.resolver, span_str(domain), NULL, 0, lax, on_mx, NULL);
	wait_for_it();
	assert_string_equal(got.hosts, hosts);
	assert_int_equal(got.implicit, implicit);
}

static void
expect_failure(unsigned code, unsigned klass, unsigned subject, unsigned detail)
{
	wait_for_it();
	assert_int_equal(got.count, 0);
	assert_int_equal(got.failure.code, code);
	assert_int_equal(got.failure.status.klass, klass);
	assert_int_equal(got.failure.status.subject, subject);
	assert_int_equal(got.failure.status.detail, detail);
}

static void
start_mx(const char *domain)
{
	last = lookup_mx(loop.resolver, span_str(domain), own_names, 1, false, on_mx, NULL);
}

static void
start_addresses(const char *host, bool allow_private, const char *own)
{
	struct netaddr address;

	last = lookup_addresses(loop.resolver, span_str(host), 25, allow_private, 8, on_addresses,
				NULL);
	if (own == NULL)
		return;
	assert_true(netaddr_parse_port(span_str(own), 0, &address));
	lookup_drop_own(last, &address, 1);
}

static void
expect_addresses(const char *host, bool allow_private, const char *own, const char *want)
{
	start_addresses(host, allow_private, own);
	wait_for_it();
	assert_string_equal(got.hosts, want);
}

static void
test_mx(void **state)
{
	(void)state;
	expect_mx("Example.TEST", false, "v4.mx.test", false);
	expect_mx("nodata.test", false, "nodata.test", true);
	expect_mx("b\xc3\xbc" "cher.test", false, "v4.mx.test", false);
	expect_mx("[192.0.2.1]", false, "[192.0.2.1]", true);
	expect_mx("nodata.b\xc3\xbc" "cher.test", false, "nodata.xn--bcher-kva.test", true);
	start_mx("nullmx.test");
	expect_failure(556, 5, 1, 10);
	start_mx("nx.test");
	expect_failure(550, 5, 1, 2);
	start_mx("servfail.test");
	expect_failure(451, 4, 4, 3);
	start_mx("silent.test");
	expect_failure(451, 4, 4, 3);
	start_mx("plain.test");
	expect_failure(554, 5, 4, 6);		/* its MX is our own name */
	start_mx("a..test");
	expect_failure(550, 5, 1, 2);
	start_mx("\xff\xfe.test");
	expect_failure(550, 5, 1, 2);
	start_mx("");
	expect_failure(550, 5, 1, 2);
	start_mx("[192.0.2.300]");
	expect_failure(550, 5, 1, 2);
}

static void
test_addresses(void **state)
{
	(void)state;
	expect_addresses("both.test", false, NULL, "[2001:db8::1]:25 192.0.2.1:25");
	expect_addresses("v4.test", false, NULL, "192.0.2.1:25");
	expect_addresses("fail6.test", false, NULL, "192.0.2.1:25");
	expect_addresses("deaf6.test", false, NULL, "192.0.2.1:25");
	expect_addresses("chain.test", false, NULL, "192.0.2.3:25");
	expect_addresses("private.test", true, NULL, "[fd00::1]:25 10.0.0.1:25");
	start_addresses("private.test", false, NULL);
	expect_failure(550, 5, 4, 4);
	start_addresses("nodata.test", false, NULL);
	expect_failure(550, 5, 4, 4);
	start_addresses("nx.test", false, NULL);
	expect_failure(550, 5, 4, 4);
	start_addresses("servfail.test", false, NULL);
	expect_failure(451, 4, 4, 3);
	start_addresses("silent.test", false, NULL);
	expect_failure(451, 4, 4, 3);
	start_addresses("a..b", false, NULL);
	expect_failure(550, 5, 4, 4);
}

static void
test_own_addresses(void **state)
{
	(void)state;
	expect_addresses("both.test", false, "192.0.2.1:25", "[2001:db8::1]:25");
	expect_addresses("both.test", false, "192.0.2.1:26", "[2001:db8::1]:25 192.0.2.1:25");
	start_addresses("v4.test", false, "192.0.2.1:25");
	expect_failure(554, 5, 4, 6);
	start_addresses("fail6.test", false, "192.0.2.1:25");
	expect_failure(451, 4, 4, 3);
	start_addresses("[192.0.2.1]", false, "192.0.2.1:25");
	expect_failure(554, 5, 4, 6);
	start_addresses("[127.0.0.2]", true, "0.0.0.0:25");
	expect_failure(554, 5, 4, 6);
	start_addresses("[0.0.0.0]", true, "0.0.0.0:25");
	expect_failure(554, 5, 4, 6);
	expect_addresses("[::1]", true, "0.0.0.0:25", "[::1]:25");
	expect_addresses("[127.0.0.2]", true, "0.0.0.0:2525", "127.0.0.2:25");
}

static void
test_literals(void **state)
{
	(void)state;
	expect_addresses("[192.0.2.1]", false, NULL, "192.0.2.1:25");
	expect_addresses("192.0.2.1", false, NULL, "192.0.2.1:25");
	expect_addresses("[IPv6:2001:db8::1]", false, NULL, "[2001:db8::1]:25");
	expect_addresses("[127.0.0.1]", true, NULL, "127.0.0.1:25");
	start_addresses("[127.0.0.1]", false, NULL);
	expect_failure(550, 5, 4, 4);
	start_addresses("[IPv6:::ffff:127.0.0.1]", false, NULL);
	expect_failure(550, 5, 4, 4);
	assert_int_equal(server->queries, 0);
}

static void
test_cancel(void **state)
{
	(void)state;
	lookup_cancel(NULL);
	start_mx("plain.test");
	lookup_cancel(last);
	start_addresses("both.test", false, NULL);
	lookup_cancel(last);
	start_addresses("[192.0.2.1]", false, NULL);
	lookup_cancel(last);
	start_addresses("silent-both.test", false, NULL);
	while (atomic_load(&server->queries) < 2)
		loop_turn(&loop, 10);
	lookup_cancel(last);
	start_addresses("deaf6.test", false, NULL);	/* one of two has come */
	for (int64_t end = mono_ms() + 60; mono_ms() < end;)
		loop_turn(&loop, 20);
	assert_int_equal(got.calls, 0);
	lookup_cancel(last);
	start_mx("example.test");
	expect_failure(554, 5, 4, 6);
	assert_int_equal(got.calls, 1);
}

static void
test_to_ascii(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "Example.TEST.", "example.test" }, { "_dmarc.x.test", "_dmarc.x.test" },
		{ "m\xc3\xbcl.example", "xn--ml-xka.example" },
		{ "M\xc3\x9cL.example", "xn--ml-xka.example" },
		{ "s\xc3\x9f.de", "xn--s-qfa.de" },
		{ "a\xe3\x80\x82o\xc3\xa9.test", "a.xn--o-bga.test" },
		{ "XN--ml-xka.test", "xn--ml-xka.test" },
		{ "", NULL }, { ".", NULL }, { "a..b", NULL }, { "\xff", NULL }, { "a b", NULL },
		{ "b\xc3\xa9..test", NULL }, { "\xe2\x80\x8b", NULL }, { "[192.0.2.1]", NULL },
	};
	struct arena arena = { 0 };
	char huge[3000];
	struct span out;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		bool good = domain_to_ascii(span_str(cases[i].in), &arena, &out);

		assert_int_equal(good, cases[i].out != NULL);
		if (good)
			assert_string_equal(out.at, cases[i].out);
	}
	assert_false(domain_to_ascii(span_of("b\xc3\xa9\0.test", 9), &arena, &out));
	assert_false(domain_to_ascii(span_of("a\0.test", 7), &arena, &out));
	for (size_t i = 0; i < sizeof(huge); i += 2)
		memcpy(huge + i, "\xc3\xa9", 2);
	assert_false(domain_to_ascii(span_of(huge, sizeof(huge)), &arena, &out));
	assert_false(domain_to_ascii(span_of(huge, 400), &arena, &out));
	arena_free(&arena);
}

/* One of the two never answers: the other's addresses are enough, if they can be used. */
static void
test_grace(void **state)
{
	(void)state;
	expect_addresses("deaf6.test", false, NULL, "192.0.2.1:25");
	expect_addresses("deaf4.test", false, NULL, "[2001:db8::1]:25");
	assert_int_equal(got.calls, 2);
	start_addresses("deaf6.test", false, "192.0.2.1:25");	/* ours: the other decides */
	for (int64_t end = mono_ms() + 100; mono_ms() < end;)
		loop_turn(&loop, 20);
	assert_int_equal(got.calls, 2);
	lookup_cancel(last);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_mx, start, finish),
		cmocka_unit_test_setup_teardown(test_addresses, start, finish),
		cmocka_unit_test_setup_teardown(test_own_addresses, start, finish),
		cmocka_unit_test_setup_teardown(test_literals, start, finish),
		cmocka_unit_test_setup_teardown(test_cancel, start, finish),
		cmocka_unit_test_setup_teardown(test_grace, start_impatient, finish),
		cmocka_unit_test(test_to_ascii),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
