/* dns/answer and dns/question: what a message in octets says, and that no octets do harm. */
#include "dns_fixture.h"

#include <stdio.h>

#include "dns/question.h"

static struct packet p;
static struct arena arena;
static struct dns_answer answer;

static void
parse(const char *name, enum dns_type type)
{
	uint8_t *exact = malloc(p.len > 0 ? p.len : 1); /* so that a sanitizer sees the end */

	memcpy(exact, p.at, p.len);
	dns_answer_parse(span_of(exact, p.len), span_str(name), type, &arena, &answer);
	free(exact);
}

static void
expect_failed(const char *text)
{
	assert_int_equal(answer.outcome, DNS_TEMPORARY);
	assert_int_equal(answer.count, 0);
	assert_int_equal(answer.ttl, 0);
	assert_string_equal(arena_str(&arena, answer.text), text);
}

static int
teardown(void **state)
{
	(void)state;
	arena_free(&arena);
	return 0;
}

static void
test_records(void **state)
{
	(void)state;
	packet_begin(&p, 1, QR | RD | RA | AD, "Example.TEST", DNS_MX);
	packet_mx(&p, "example.test", 300, 10, "MX1.Example.test");
	packet_mx(&p, "EXAMPLE.test", 200, 20, "mx2.example.test");
	packet_a(&p, "mx1.example.test", 1, "192.0.2.1");
	packet_opt(&p, 0);
	parse("example.test", DNS_MX);
	assert_int_equal(answer.outcome, DNS_FOUND);
	assert_int_equal(answer.count, 2);
	assert_int_equal(answer.ttl, 200);
	assert_true(answer.authenticated && answer.edns);
	assert_int_equal(answer.rcode, 0);
	assert_int_equal(answer.records[0].preference, 10);
	assert_true(span_eq(answer.records[0].name, SPAN("mx1.example.test")));
	assert_true(span_eq(answer.canonical, SPAN("example.test")));

	packet_begin(&p, 1, QR, "example.test", DNS_AAAA);
	packet_a(&p, "example.test", UINT32_MAX, "2001:db8::1");
	packet_a(&p, "example.test", 5, "::ffff:127.0.0.1");
	parse("EXAMPLE.test", DNS_AAAA);
	assert_int_equal(answer.count, 2);
	assert_int_equal(answer.ttl, 0);		/* RFC 2181: the top bit makes it zero */
	assert_int_equal(answer.records[0].address.family, AF_INET6);
	assert_true(netaddr_is_loopback(&answer.records[1].address));
	assert_false(answer.authenticated);

	packet_begin(&p, 1, QR, "example.test", DNS_A);
	packet_a(&p, "example.test", 0x7fffffff, "192.0.2.1");
	parse("example.test", DNS_A);
	assert_int_equal(answer.ttl, DNS_TTL_MAX);
}

static void
test_null_mx(void **state)
{
	(void)state;
	packet_begin(&p, 1, QR, "example.test", DNS_MX);
	packet_mx(&p, "example.test", 300, 0, "");
	parse("example.test", DNS_MX);
	assert_int_equal(answer.count, 1);
	assert_int_equal(answer.records[0].name.len, 0);
}

static void
test_odd_names(void **state)
{
	(void)state;
	packet_begin(&p, 1, QR, "example.test", DNS_MX);
	packet_record(&p, SECTION_AN, "example.test", DNS_MX, 1, "\0\1\3a\nb\2c.\0", 10);
	parse("example.test", DNS_MX);
	assert_string_equal(arena_str(&arena, answer.records[0].name), "a\\010b.c\\.");
}

static void
test_negatives(void **state)
{
	(void)state;
	packet_begin(&p, 1, QR | RA | 3, "example.test", DNS_A);
	packet_soa(&p, 900, 120);
	parse("example.test", DNS_A);
	assert_int_equal(answer.outcome, DNS_NXDOMAIN);
	assert_int_equal(answer.ttl, 120);

	packet_begin(&p, 1, QR | RA, "example.test", DNS_A);
	packet_soa(&p, 1000000, 1000000);
	parse("example.test", DNS_A);
	assert_int_equal(answer.outcome, DNS_NODATA);
	assert_int_equal(answer.ttl, DNS_TTL_NEGATIVE_MAX);

	packet_begin(&p, 1, QR | RA, "example.test", DNS_A);
	packet_cname(&p, "example.test", 30, "b.test");
	packet_soa(&p, 900, 120);
	parse("example.test", DNS_A);
	assert_int_equal(answer.outcome, DNS_NODATA);
	assert_int_equal(answer.ttl, 30);
	assert_true(span_eq(answer.canonical, SPAN("b.test")));

	packet_begin(&p, 1, QR | RA, "example.test", DNS_A);
	parse("example.test", DNS_A);
	assert_int_equal(answer.outcome, DNS_NODATA);
	assert_int_equal(answer.ttl, 0);

	packet_begin(&p, 1, QR, "example.test", DNS_A);
	parse("example.test", DNS_A);
	expect_failed("referral from a server that does not recurse");
}

static void
test_rcodes(void **state)
{
	static const struct {
		unsigned rcode;
		const char *text;
	} cases[] = {
		{ 1, "FORMERR" }, { 2, "SERVFAIL" }, { 4, "NOTIMP" },
		{ 5, "REFUSED" }, { 9, "rcode 9" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		packet_begin(&p, 1, QR | RA | cases[i].rcode, "example.test", DNS_A);
		packet_a(&p, "example.test", 300, "192.0.2.1");
		parse("example.test", DNS_A);
		expect_failed(cases[i].text);
		assert_int_equal(answer.rcode, cases[i].rcode);
	}
	packet_begin(&p, 1, QR | RA, "example.test", DNS_A);
	packet_opt(&p, 1);
	parse("example.test", DNS_A);
	expect_failed("BADVERS");
}

static void
test_cnames(void **state)
{
	char from[32], to[32];

	(void)state;
	packet_begin(&p, 1, QR | RA, "a.test", DNS_MX);
	packet_mx(&p, "c.test", 300, 10, "mx.test");
	packet_mx(&p, "a.test", 300, 10, "beside-a-cname.test");
	packet_cname(&p, "B.test", 100, "C.test");
	packet_cname(&p, "a.test", 200, "b.test");
	parse("a.test", DNS_MX);
	assert_int_equal(answer.outcome, DNS_FOUND);
	assert_int_equal(answer.count, 1);
	assert_int_equal(answer.ttl, 100);
	assert_true(span_eq(answer.canonical, SPAN("c.test")));

	packet_begin(&p, 1, QR | RA, "a.test", DNS_A);
	packet_cname(&p, "a.test", 200, "b.test");
	packet_cname(&p, "b.test", 200, "a.test");
	parse("a.test", DNS_A);
	expect_failed("CNAME loop");

	packet_begin(&p, 1, QR | RA, "a.test", DNS_A);
	packet_cname(&p, "a.test", 200, "a.test");
	parse("a.test", DNS_A);
	expect_failed("CNAME loop");

	for (int length = DNS_CNAMES_MAX; length <= DNS_CNAMES_MAX + 1; length++) {
		packet_begin(&p, 1, QR | RA, "n0.test", DNS_A);
		for (int i = 0; i < length; i++) {
			snprintf(from, sizeof(from), "n%d.test", i);
			snprintf(to, sizeof(to), "n%d.test", i + 1);
			packet_cname(&p, from, 100, to);
		}
		packet_a(&p, to, 100, "192.0.2.1");
		parse("n0.test", DNS_A);
		assert_int_equal(answer.outcome,
				 length == DNS_CNAMES_MAX ? DNS_FOUND : DNS_TEMPORARY);
	}
	expect_failed("too many CNAMEs");
}

static void
test_many_records(void **state)
{
	(void)state;
	packet_begin(&p, 1, QR | RA, "a.test", DNS_A);
	for (int i = 0; i < 2000; i++)
		packet_a(&p, "a.test", 300, "192.0.2.1");
	parse("a.test", DNS_A);
	assert_int_equal(answer.count, DNS_RECORDS_MAX);
}

static void
test_not_an_answer(void **state)
{
	(void)state;
	p.len = 0;
	parse("a.test", DNS_A);
	expect_failed("malformed answer");
	assert_int_equal(answer.rcode, DNS_RCODE_NONE);

	packet_begin(&p, 1, RD, "a.test", DNS_A);		/* a query */
	parse("a.test", DNS_A);
	expect_failed("malformed answer");

	packet_begin(&p, 1, QR | RA, "b.test", DNS_A);
	parse("a.test", DNS_A);
	expect_failed("answer to another question");
	parse("b.test", DNS_MX);
	expect_failed("answer to another question");

	packet_begin(&p, 1, QR | RA | TC, "a.test", DNS_A);
	packet_a(&p, "a.test", 300, "192.0.2.1");
	parse("a.test", DNS_A);
	expect_failed("truncated answer");

	packet_begin(&p, 1, QR | RA, "a.test", DNS_A);
	packet_record(&p, SECTION_AN, "a.test", DNS_A, 1, "123", 3);
	parse("a.test", DNS_A);
	expect_failed("malformed answer");

	packet_begin(&p, 1, QR | RA, "a.test", DNS_MX);
	packet_record(&p, SECTION_AN, "a.test", DNS_MX, 1, "\0\1\1a\0more", 9);
	parse("a.test", DNS_MX);
	expect_failed("malformed answer");

	packet_begin(&p, 1, QR | RA, "a.test", DNS_MX);		/* a name that points at itself */
	packet_record(&p, SECTION_AN, "a.test", DNS_MX, 1, "\0\1\xc0\x2c", 4);
	parse("a.test", DNS_MX);
	assert_int_equal(answer.outcome, DNS_TEMPORARY);
}

/* Cut anywhere, and with each octet changed, it is read without harm. */
static void
test_damage(void **state)
{
	static struct packet whole;

	(void)state;
	packet_begin(&whole, 1, QR | RA, "a.test", DNS_MX);
	packet_cname(&whole, "a.test", 100, "b.test");
	packet_mx(&whole, "b.test", 300, 10, "mx.test");
	packet_soa(&whole, 1, 1);
	packet_opt(&whole, 0);
	for (size_t len = 0; len < whole.len; len++) {
		p = whole;
		p.len = len;
		parse("a.test", DNS_MX);
		assert_int_equal(answer.outcome, DNS_TEMPORARY);
	}
	for (size_t i = 0; i < whole.len; i++) {
		for (unsigned value = 0; value < 256; value++) {
			p.len = 0;
			put(&p, whole.at, whole.len);
			p.at[i] = (uint8_t)value;
			parse("a.test", DNS_MX);
		}
		arena_free(&arena);
	}
}

static void
test_question(void **state)
{
	static const char wire[] =
		"\x12\x34\x01\x20\0\1\0\0\0\0\0\1\1a\4test\0\0\x0f\0\1\0\0\x29\x04\xd0\0\0\0\0\0";
	static const char *const bad[] = {
		"", ".", "a..b", ".a", "a.", "a b", "a\\b", "m\xc3\xbcl.test", "a\tb",
	};
	uint8_t out[DNS_QUESTION_MAX];
	char name[300];
	size_t len;

	(void)state;
	len = dns_question_build(SPAN("a.test"), DNS_MX, 0x1234, true, out);
	assert_int_equal(len, 12 + 8 + 4 + 11);
	assert_int_equal(sizeof(wire), len);
	assert_memory_equal(out, wire, len);
	assert_int_equal(dns_question_build(SPAN("a.test"), DNS_MX, 0x1234, false, out),
			 12 + 8 + 4);
	assert_int_equal(out[11], 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(dns_name_valid(span_str(bad[i])));
	memset(name, 'a', sizeof(name));
	assert_true(dns_name_valid(span_of(name, 63)));
	assert_false(dns_name_valid(span_of(name, 64)));
	for (size_t i = 1; i < sizeof(name); i += 2)
		name[i] = '.';
	assert_true(dns_name_valid(span_of(name, 253)));
	assert_false(dns_name_valid(span_of(name, 255)));
	assert_int_equal(dns_question_build(span_of(name, 253), DNS_A, 1, true, out),
			 DNS_QUESTION_MAX);
	assert_true(dns_name_valid(SPAN("_dmarc.x_y.test")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_records, teardown),
		cmocka_unit_test_teardown(test_null_mx, teardown),
		cmocka_unit_test_teardown(test_odd_names, teardown),
		cmocka_unit_test_teardown(test_negatives, teardown),
		cmocka_unit_test_teardown(test_rcodes, teardown),
		cmocka_unit_test_teardown(test_cnames, teardown),
		cmocka_unit_test_teardown(test_many_records, teardown),
		cmocka_unit_test_teardown(test_not_an_answer, teardown),
		cmocka_unit_test_teardown(test_damage, teardown),
		cmocka_unit_test(test_question),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
