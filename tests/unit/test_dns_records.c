/* dns_records: what is printed for a zone file, and what is made of what is published. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "policy/dns_records.h"

static struct arena arena;
static struct dns_records_key keys[2];
static const struct sts_policy testing = { STS_MODE_TESTING, 86400, NULL, 0 };

static int
teardown(void **state)
{
	(void)state;
	arena_free(&arena);
	return 0;
}

static struct dns_records_facts
facts_of(void)
{
	keys[0].label = SPAN("ECDSA 256, /etc/tram/mx.pem");
	keys[1].label = SPAN("line\nbreak");
	keys[1].next = true;
	memset(keys[0].spki_sha256, 0xab, 32);
	memset(keys[1].spki_sha256, 0x01, 32);
	return (struct dns_records_facts){
		.domain = SPAN("example.org"),
		.host = SPAN("mx.example.org"),
		.preference = 10,
		.port = 25,
		.ttl = 3600,
		.keys = keys,
		.key_count = 2,
		.sts = &testing,
		.sts_id = SPAN("7"),
		.tlsrpt = SPAN("mailto:tls@example.org"),
	};
}

static void
test_printed(void **state)
{
	static const char want[] =
		"; mail for example.org comes here\n"
		"example.org. 3600 IN MX 10 mx.example.org.\n"
		"; DANE: the keys of this server (the zone must be signed)\n"
		"_25._tcp.mx.example.org. 3600 IN TLSA 3 1 1 "
		"abababababababababababababababababababababababababababababababab"
		" ; ECDSA 256, /etc/tram/mx.pem\n"
		"_25._tcp.mx.example.org. 3600 IN TLSA 3 1 1 "
		"0101010101010101010101010101010101010101010101010101010101010101"
		" ; line?break (the next key)\n"
		"; MTA-STS: a new id whenever the policy file changes\n"
		"_mta-sts.example.org. 3600 IN TXT \"v=STSv1; id=7\"\n"
		"; TLSRPT: where others report how TLS to here went\n"
		"_smtp._tls.example.org. 3600 IN TXT \"v=TLSRPTv1; rua=mailto:tls@example.org\"\n"
		"; the policy file, to be had at "
		"https://mta-sts.example.org/.well-known/mta-sts.txt\n"
		"; (a web server with a certificate of its name; CRLF at the end of each line):\n"
		";\tversion: STSv1\n;\tmode: testing\n;\tmx: mx.example.org\n;\tmax_age: 86400\n";
	struct dns_records_facts facts = facts_of();
	struct buf out = { 0 };

	(void)state;
	dns_records_all(&facts, &out);
	buf_byte(&out, '\0');
	assert_string_equal(buf_span(&out).at, want);
	buf_free(&out);
}

static void
test_little(void **state)
{
	struct dns_records_facts facts = facts_of();
	struct buf out = { 0 };

	(void)state;
	facts.ttl = 0;
	facts.key_count = 0;
	facts.sts = NULL;
	facts.tlsrpt = SPAN("");
	dns_records_all(&facts, &out);
	buf_byte(&out, '\0');
	assert_string_equal(buf_span(&out).at, "; mail for example.org comes here\n"
					       "example.org. IN MX 10 mx.example.org.\n");
	buf_free(&out);
}

static struct span
record_of(const struct dns_records_facts *facts)
{
	struct buf out = { 0 };
	struct span all, ret;

	dns_records_sts(facts, &out);
	all = buf_span(&out);
	span_cut(&all, '"');
	ret = arena_copy(&arena, span_cut(&all, '"'));
	buf_free(&out);
	return ret;
}

/* An id of its own follows the policy. */
static void
test_id(void **state)
{
	struct dns_records_facts facts = facts_of();
	struct sts_policy enforce = { STS_MODE_ENFORCE, 86400, NULL, 0 };
	struct span first, second, id;

	(void)state;
	facts.sts_id = SPAN("");
	first = record_of(&facts);
	assert_true(sts_record_parse(first, &id));
	assert_true(span_eq(first, record_of(&facts)));
	facts.sts = &enforce;
	second = record_of(&facts);
	assert_true(sts_record_parse(second, &id));
	assert_false(span_eq(first, second));
}

static void
test_policy_file(void **state)
{
	struct dns_records_facts facts = facts_of();
	struct sts_policy policy;
	struct buf out = { 0 };
	const char *error;

	(void)state;
	dns_records_policy_file(&facts, &out);
	assert_true(sts_policy_parse(buf_span(&out), &arena, &policy, &error));
	assert_true(sts_policy_lists(&policy, SPAN("mx.example.org")));
	buf_free(&out);
}

static void
test_checks(void **state)
{
	struct dns_records_facts facts = facts_of();
	struct dns_record record = { .name = SPAN("MX.example.org") };
	struct dns_answer answer = { .outcome = DNS_FOUND, .records = &record, .count = 1 };
	struct facts_needs needs;
	char tlsa[35] = "\3\1\1";

	(void)state;
	dns_records_needs(&facts, &arena, &needs);
	assert_int_equal(needs.count, 4);
	assert_true(span_eq(needs.need[1].name, SPAN("_25._tcp.mx.example.org")));
	assert_int_equal(dns_records_check_mx(&facts, &answer), DNS_RECORD_THERE);
	record.name = SPAN("other.example.org");
	assert_int_equal(dns_records_check_mx(&facts, &answer), DNS_RECORD_DIFFERENT);
	memset(tlsa + 3, 0xab, 32);
	record.data = span_of(tlsa, sizeof(tlsa));
	assert_int_equal(dns_records_check_tlsa(&facts, 0, &answer), DNS_RECORD_INSECURE);
	answer.authenticated = true;
	assert_int_equal(dns_records_check_tlsa(&facts, 0, &answer), DNS_RECORD_THERE);
	assert_int_equal(dns_records_check_tlsa(&facts, 1, &answer), DNS_RECORD_DIFFERENT);
	record.data = SPAN("\x0dv=STSv1; id=7");
	assert_int_equal(dns_records_check_sts(&facts, &answer), DNS_RECORD_THERE);
	facts.sts_id = SPAN("8");
	assert_int_equal(dns_records_check_sts(&facts, &answer), DNS_RECORD_DIFFERENT);
	facts.sts_id = SPAN("");
	assert_int_equal(dns_records_check_sts(&facts, &answer), DNS_RECORD_THERE);
	record.data = SPAN("\x39v=TLSRPTv1; rua=https://x.example/,mailto:tls@example.org  ");
	record.data.len = 0x3a;
	assert_int_equal(dns_records_check_tlsrpt(&facts, &answer), DNS_RECORD_THERE);
	facts.tlsrpt = SPAN("mailto:other@example.org");
	assert_int_equal(dns_records_check_tlsrpt(&facts, &answer), DNS_RECORD_DIFFERENT);
	answer.outcome = DNS_NXDOMAIN;
	assert_int_equal(dns_records_check_mx(&facts, &answer), DNS_RECORD_MISSING);
	assert_int_equal(dns_records_check_tlsrpt(&facts, &answer), DNS_RECORD_MISSING);
	answer.outcome = DNS_TEMPORARY;
	assert_int_equal(dns_records_check_tlsa(&facts, 0, &answer), DNS_RECORD_UNKNOWN);
	assert_int_equal(dns_records_check_sts(&facts, &answer), DNS_RECORD_UNKNOWN);
	assert_string_equal(dns_record_state_text(DNS_RECORD_MISSING), "missing");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_printed, teardown),
		cmocka_unit_test_teardown(test_little, teardown),
		cmocka_unit_test_teardown(test_id, teardown),
		cmocka_unit_test_teardown(test_policy_file, teardown),
		cmocka_unit_test_teardown(test_checks, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
