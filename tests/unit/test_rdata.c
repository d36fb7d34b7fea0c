/*
 * dns/tlsa, dns/txt: octets of records, cut and malformed; and such records in whole answers,
 * behind aliases, as dns/answer hands them over.
 */
#include "dns_fixture.h"

#include <stdio.h>

#include "dns/tlsa.h"
#include "dns/txt.h"

static struct arena arena;

static int
teardown(void **state)
{
	(void)state;
	arena_free(&arena);
	return 0;
}

static void
test_tlsa(void **state)
{
	/* RFC 6698 §2.3's first example */
	static const char rdata[] =
		"\0\0\1\xd2\xab\xde\x24\x0d\x7c\xd3\xee\x6b\x4b\x28\xc5\x4d\xf0\x34\xb9"
		"\x79\x83\xa1\xd1\x6e\x8a\x41\x0e\x45\x61\xcb\x10\x66\x18\xe9\x71";
	struct span whole = span_of(rdata, sizeof(rdata) - 1);
	struct dns_tlsa tlsa;

	(void)state;
	assert_int_equal(whole.len, 35);
	assert_true(dns_tlsa_read(whole, &tlsa));
	assert_int_equal(tlsa.usage, TLSA_PKIX_TA);
	assert_int_equal(tlsa.matching, TLSA_SHA256);
	assert_string_equal(dns_tlsa_text(&tlsa, &arena).at,
			    "0 0 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971");
	assert_false(dns_tlsa_usable(&tlsa));
	tlsa.usage = TLSA_DANE_EE;
	assert_true(dns_tlsa_usable(&tlsa));
	tlsa.matching = TLSA_SHA512;
	assert_false(dns_tlsa_usable(&tlsa));
	tlsa.matching = TLSA_FULL;
	assert_true(dns_tlsa_usable(&tlsa));
	for (size_t len = 0; len <= 3; len++)
		assert_false(dns_tlsa_read(span_first(whole, len), &tlsa));
	assert_true(dns_tlsa_read(span_first(whole, 4), &tlsa));
	assert_int_equal(tlsa.data.len, 1);
	assert_string_equal(dns_tlsa_name(SPAN("mx.test"), 25, &arena).at, "_25._tcp.mx.test");
	assert_int_equal(dns_tlsa_name(SPAN("mx..test"), 25, &arena).len, 0);
	assert_int_equal(dns_tlsa_name(SPAN(""), 25, &arena).len, 0);
}

static void
test_txt(void **state)
{
	static const struct {
		struct span rdata, text;
		bool fine;
	} rows[] = {
		{ { "\5hello", 6 }, { "hello", 5 }, true },
		{ { "\2he\3llo", 7 }, { "hello", 5 }, true },
		{ { "\0", 1 }, { "", 0 }, true },
		{ { "\1a\0\1b", 5 }, { "ab", 2 }, true },
		{ { "\3\0\"\xff", 4 }, { "\0\"\xff", 3 }, true },
		{ { "", 0 }, { "", 0 }, false },
		{ { "\1", 1 }, { "", 0 }, false },
		{ { "\6hello", 6 }, { "", 0 }, false },
		{ { "\5hello\1", 7 }, { "", 0 }, false },
		{ { "\377", 1 }, { "", 0 }, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct span text = { 0 };

		assert_int_equal(dns_txt_read(rows[i].rdata, &arena, &text), rows[i].fine);
		assert_true(span_eq(text, rows[i].text));
	}
}

static void
expect_written(struct span text, const char *want)
{
	struct buf out = { 0 };

	dns_txt_write(text, &out);
	assert_true(span_eq(buf_span(&out), span_str(want)));
	buf_free(&out);
}

static void
test_txt_written(void **state)
{
	char text[256], want[300];

	(void)state;
	expect_written(SPAN(""), "\"\"");
	expect_written(SPAN("v=STSv1; id=1"), "\"v=STSv1; id=1\"");
	expect_written(SPAN("a\"b\\c"), "\"a\\\"b\\\\c\"");
	expect_written(SPAN("\n\xc3"), "\"\\010\\195\"");
	memset(text, 'x', sizeof(text));
	snprintf(want, sizeof(want), "\"%.255s\" \"x\"", text);
	expect_written(span_of(text, 256), want);
	snprintf(want, sizeof(want), "\"%.255s\"", text);
	expect_written(span_of(text, 255), want);
}

static struct packet *
packet_of(const char *name, enum dns_type type, unsigned flags)
{
	struct packet *p = calloc(1, sizeof(*p));

	packet_begin(p, 1, QR | RD | RA | flags, name, type);
	return p;
}

static struct dns_answer
parse(struct packet *p, const char *name, enum dns_type type)
{
	struct dns_answer answer;

	dns_answer_parse(span_of(p->at, p->len), span_str(name), type, &arena, &answer);
	free(p);
	return answer;
}

static void
test_in_answers(void **state)
{
	struct packet *p = packet_of("_25._tcp.mx.test", DNS_TLSA, AD);
	struct dns_answer answer;
	struct dns_tlsa tlsa;
	struct span text;

	(void)state;
	packet_cname(p, "_25._tcp.mx.test", 60, "tlsa.test");
	packet_record(p, SECTION_AN, "tlsa.test", DNS_TLSA, 300, "\3\1\1abc", 6);
	packet_record(p, SECTION_AN, "tlsa.test", DNS_TLSA, 300, "", 0);
	packet_record(p, SECTION_AN, "other.test", DNS_TLSA, 300, "\3\1\1xyz", 6);
	answer = parse(p, "_25._tcp.mx.test", DNS_TLSA);
	assert_int_equal(answer.outcome, DNS_FOUND);
	assert_int_equal(answer.count, 2);
	assert_int_equal(answer.ttl, 60);
	assert_true(answer.authenticated);
	assert_true(dns_tlsa_read(answer.records[0].data, &tlsa));
	assert_true(span_eq(tlsa.data, SPAN("abc")));
	assert_false(dns_tlsa_read(answer.records[1].data, &tlsa));
	p = packet_of("a.test", DNS_TXT, 0);
	packet_record(p, SECTION_AN, "a.test", DNS_TXT, 300, "\2he\3llo", 7);
	answer = parse(p, "a.test", DNS_TXT);
	assert_int_equal(answer.count, 1);
	assert_true(dns_txt_read(answer.records[0].data, &arena, &text));
	assert_true(span_eq(text, SPAN("hello")));
}

/* Asked for, a CNAME is not followed. */
static void
test_cname(void **state)
{
	struct packet *p = packet_of("a.test", DNS_CNAME, AD);
	struct dns_answer answer;

	(void)state;
	packet_cname(p, "a.test", 60, "B.test");
	packet_cname(p, "b.test", 60, "c.test");
	answer = parse(p, "a.test", DNS_CNAME);
	assert_int_equal(answer.outcome, DNS_FOUND);
	assert_int_equal(answer.count, 1);
	assert_true(span_eq(answer.records[0].name, SPAN("b.test")));
	assert_true(span_eq(answer.canonical, SPAN("a.test")));
	assert_true(answer.authenticated);
	p = packet_of("a.test", DNS_CNAME, 0);
	packet_soa(p, 60, 60);
	assert_int_equal(parse(p, "a.test", DNS_CNAME).outcome, DNS_NODATA);
	/* a loop is no loop for who does not walk */
	p = packet_of("a.test", DNS_CNAME, 0);
	packet_cname(p, "a.test", 60, "a.test");
	assert_int_equal(parse(p, "a.test", DNS_CNAME).outcome, DNS_FOUND);
}

/* What DANE wants to know of an MX answer. */
static void
test_mx_is_secure(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct packet *p = packet_of("a.test", DNS_MX, i == 0 ? AD : 0);
		struct dns_answer answer;
		struct mx_set set;

		packet_cname(p, "a.test", 60, "b.test");
		packet_mx(p, "b.test", 60, 10, "mx.test");
		answer = parse(p, "a.test", DNS_MX);
		mx_from_answer(&answer, SPAN("a.test"), NULL, 0, false, &arena, &set);
		assert_int_equal(set.count, 1);
		assert_int_equal(set.secure, i == 0);
		assert_true(span_eq(set.canonical, SPAN("b.test")));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_tlsa, teardown),
		cmocka_unit_test_teardown(test_txt, teardown),
		cmocka_unit_test_teardown(test_txt_written, teardown),
		cmocka_unit_test_teardown(test_in_answers, teardown),
		cmocka_unit_test_teardown(test_cname, teardown),
		cmocka_unit_test_teardown(test_mx_is_secure, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
