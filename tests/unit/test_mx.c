/*
 * dns/mx: every outcome of INTEROP's list for MX, the order of hosts, the site's key, and
 * addresses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "dns/mx.h"

static struct arena arena;
static struct mx_set set;
static const struct span own[] = { { "me.test", 7 }, { "Alias.ME.test", 13 } };

static int
teardown(void **state)
{
	(void)state;
	arena_free(&arena);
	return 0;
}

/* "10 a.test, 20 b.test" → the answer. */
static struct dns_answer
answer_of(const char *text)
{
	struct dns_answer answer = { .outcome = DNS_FOUND, .ttl = 300 };
	struct span rest = span_str(text);

	answer.records = arena_alloc(&arena, 128 * sizeof(*answer.records));
	while (rest.len > 0) {
		struct span name = span_trim(span_cut(&rest, ',')), number = span_cut(&name, ' ');
		uint64_t preference;

		assert_true(span_to_u64(number, 65535, &preference));
		answer.records[answer.count].preference = (uint16_t)preference;
		answer.records[answer.count++].name = name;
	}
	return answer;
}

static void
judge(const struct dns_answer *answer, const char *domain, bool lax)
{
	mx_from_answer(answer, span_str(domain), own, 2, lax, &arena, &set);
}

static void
expect_hosts(const char *records, bool lax, const char *key)
{
	struct dns_answer answer = answer_of(records);

	judge(&answer, "example.test", lax);
	assert_string_equal(mx_site_key(&set, 25, &arena).at, key);
	assert_false(set.implicit);
}

static void
expect_failure(unsigned code, unsigned klass, unsigned subject, unsigned detail)
{
	assert_int_equal(set.count, 0);
	assert_int_equal(set.failure.code, code);
	assert_int_equal(set.failure.status.klass, klass);
	assert_int_equal(set.failure.status.subject, subject);
	assert_int_equal(set.failure.status.detail, detail);
	assert_true(set.failure.text.len > 0);
}

static void
test_order(void **state)
{
	struct dns_answer answer;

	(void)state;
	expect_hosts("20 c.test, 10 b.test, 10 a.test", false, "mx:a.test,b.test>c.test:25");
	assert_int_equal(set.ttl_ms, 300000);
	assert_int_equal(set.hosts[2].preference, 20);
	expect_hosts("20 a.test, 10 a.test, 5 b.test", false, "mx:b.test>a.test:25");
	expect_hosts("0 x.test, 0 , 0 y_1.test", false, "mx:x.test,y_1.test:25");
	answer = answer_of("1 a.test");
	answer.ttl = 0;
	judge(&answer, "example.test", false);
	assert_int_equal(set.ttl_ms, MX_TTL_MIN_MS);
}

static void
test_failures(void **state)
{
	struct dns_answer answer = answer_of("0 ");

	(void)state;
	judge(&answer, "example.test", false);
	expect_failure(556, 5, 1, 10);
	answer = (struct dns_answer){ .outcome = DNS_NXDOMAIN, .ttl = 100 };
	judge(&answer, "example.test", false);
	expect_failure(550, 5, 1, 2);
	answer.outcome = DNS_BAD_NAME;
	judge(&answer, "example.test", false);
	expect_failure(550, 5, 1, 2);
	answer = (struct dns_answer){ .outcome = DNS_TEMPORARY, .text = SPAN("SERVFAIL") };
	judge(&answer, "example.test", false);
	expect_failure(451, 4, 4, 3);
	assert_string_equal(set.failure.text.at, "MX look-up of example.test failed: SERVFAIL");
	assert_int_equal(set.ttl_ms, 0);
}

static void
test_implicit(void **state)
{
	struct dns_answer answer = { .outcome = DNS_NODATA, .ttl = 60 };

	(void)state;
	judge(&answer, "example.test", false);
	assert_int_equal(set.count, 1);
	assert_true(set.implicit);
	assert_string_equal(mx_site_key(&set, 2525, &arena).at, "mx:example.test:2525");
	judge(&answer, "ME.test", false);
	expect_failure(554, 5, 4, 6);
	judge(&answer, "localhost", false);
	expect_failure(550, 5, 4, 4);
	judge(&answer, "localhost", true);
	assert_int_equal(set.count, 1);
}

static void
test_own_names(void **state)
{
	struct dns_answer answer;

	(void)state;
	expect_hosts("10 a.test, 20 alias.me.TEST, 20 b.test, 30 c.test", false, "mx:a.test:25");
	answer = answer_of("10 me.test, 20 b.test");
	judge(&answer, "example.test", false);
	expect_failure(554, 5, 4, 6);
	answer = answer_of("10 a.test, 10 me.test");
	judge(&answer, "example.test", false);
	expect_failure(554, 5, 4, 6);
}

static void
test_unusable_hosts(void **state)
{
	struct dns_answer answer;

	(void)state;
	expect_hosts("1 192.0.2.1, 2 localhost, 3 a.localhost, 4 2001:db8::1, 5 good.test, 6 "
		     "b\\010c.test, 7 LOCALHOST",
		     false, "mx:good.test:25");
	expect_hosts("1 192.0.2.1, 2 localhost, 6 b\\010c.test", true, "mx:192.0.2.1>localhost:25");
	answer = answer_of("1 192.0.2.1, 2 localhost");
	judge(&answer, "example.test", false);
	expect_failure(550, 5, 4, 4);
}

static void
test_many_hosts(void **state)
{
	struct dns_answer answer = { .outcome = DNS_FOUND, .count = 100 };
	struct mx_set back;
	uint16_t port;

	(void)state;
	answer.records = arena_alloc(&arena, 100 * sizeof(*answer.records));
	for (unsigned i = 0; i < 100; i++) {
		answer.records[i].preference = (uint16_t)(100 - i);
		answer.records[i].name = arena_printf(&arena, "h%u.test", i);
	}
	judge(&answer, "example.test", false);
	assert_int_equal(set.count, MX_HOSTS_MAX);
	assert_string_equal(set.hosts[0].name.at, "h99.test");
	assert_true(mx_parse_site_key(mx_site_key(&set, 25, &arena), &arena, &back, &port));
	assert_int_equal(back.count, MX_HOSTS_MAX);
}

static void
test_site_key(void **state)
{
	static const char *const bad[] = {
		"", "mx:", "mx::25", "mx:a.test", "mx:a.test:", "mx:a.test:0", "mx:a,,b:25",
		"mx:a>:25", "smtp:a:25", "mx:a:65536", "mx:a:2x",
	};
	struct mx_set back, untouched = { .count = 7 };
	uint16_t port;

	(void)state;
	expect_hosts("20 c.test, 10 b.test, 10 a.test, 70 d.test", false,
		     "mx:a.test,b.test>c.test>d.test:25");
	assert_true(
		mx_parse_site_key(SPAN("mx:a.test,b.test>c.test>d.test:26"), &arena, &back, &port));
	assert_int_equal(port, 26);
	assert_int_equal(back.count, 4);
	assert_int_equal(back.hosts[1].preference, 0);
	assert_int_equal(back.hosts[3].preference, 2);
	mx_shuffle(back.hosts, back.count, 5);
	assert_string_equal(mx_site_key(&back, 26, &arena).at, "mx:a.test,b.test>c.test>d.test:26");
	assert_true(mx_parse_site_key(SPAN("mx:[IPv6:2001:db8::1]:25"), &arena, &back, &port));
	assert_string_equal(back.hosts[0].name.at, "[IPv6:2001:db8::1]");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(mx_parse_site_key(span_str(bad[i]), &arena, &untouched, &port));
	assert_int_equal(untouched.count, 7);
}

static void
test_shuffle(void **state)
{
	unsigned first[3] = { 0 };

	(void)state;
	for (uint64_t chance = 0; chance < 3000; chance++) {
		struct mx_host hosts[] = {
			{ SPAN("a"), 1 }, { SPAN("b"), 1 }, { SPAN("c"), 1 }, { SPAN("d"), 2 }
		};

		mx_shuffle(hosts, 4, chance);
		assert_int_equal(hosts[3].name.at[0], 'd');
		first[hosts[0].name.at[0] - 'a']++;
	}
	for (size_t i = 0; i < 3; i++)
		assert_in_range(first[i], 850, 1150);
	mx_shuffle(NULL, 0, 1);
}

static struct dns_answer
addresses_of(const char *text)
{
	struct dns_answer answer = { .outcome = DNS_FOUND };
	struct span rest = span_str(text);

	answer.records = arena_alloc(&arena, 16 * sizeof(*answer.records));
	while (rest.len > 0)
		assert_true(netaddr_parse(span_cut(&rest, ' '), 0,
					  &answer.records[answer.count++].address));
	return answer;
}

static void
expect_interleaved(const struct dns_answer *a6, const struct dns_answer *a4, bool allow_private,
		   size_t most, const char *want)
{
	struct netaddr found[8];
	size_t count = mx_interleave(a6, a4, allow_private, found, most);
	struct buf text = { 0 };
	char ip[NETADDR_TEXT_MAX];

	for (size_t i = 0; i < count; i++)
		buf_printf(&text, "%s%s", i ? " " : "", netaddr_format(&found[i], ip));
	buf_byte(&text, '\0');
	assert_string_equal(buf_span(&text).at, want);
	buf_free(&text);
}

static void
test_interleave(void **state)
{
	struct dns_answer a6 = addresses_of("2001:db8::1 fd00::1 2001:db8::2 2001:db8::1");
	struct dns_answer a4 = addresses_of("10.0.0.1 192.0.2.1 192.0.2.2 192.0.2.3");
	struct dns_answer failed = { .outcome = DNS_TEMPORARY };

	(void)state;
	expect_interleaved(&a6, &a4, false, 8,
			   "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 192.0.2.3");
	expect_interleaved(
		&a6, &a4, true, 8,
		"2001:db8::1 10.0.0.1 fd00::1 192.0.2.1 2001:db8::2 192.0.2.2 192.0.2.3");
	expect_interleaved(&a6, &a4, false, 2, "2001:db8::1 192.0.2.1");
	expect_interleaved(&a6, &a4, false, 1, "2001:db8::1");
	expect_interleaved(NULL, &a4, false, 2, "192.0.2.1 192.0.2.2");
	expect_interleaved(&a6, &failed, false, 8, "2001:db8::1 2001:db8::2");
	expect_interleaved(NULL, NULL, false, 8, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_order, teardown),
		cmocka_unit_test_teardown(test_failures, teardown),
		cmocka_unit_test_teardown(test_implicit, teardown),
		cmocka_unit_test_teardown(test_own_names, teardown),
		cmocka_unit_test_teardown(test_unusable_hosts, teardown),
		cmocka_unit_test_teardown(test_many_hosts, teardown),
		cmocka_unit_test_teardown(test_site_key, teardown),
		cmocka_unit_test_teardown(test_shuffle, teardown),
		cmocka_unit_test_teardown(test_interleave, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
