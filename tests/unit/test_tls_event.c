/* tls_event: which end of which demand is counted as what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/tls_event.h"

static struct arena arena;
static struct dns_tlsa record = { 3, 1, 0, { "xy", 2 } };
static struct span listed[] = { { "mx.dom.test", 11 } }, others[] = { { "*.other.test", 12 } };
static const struct dane_verdict usable = { .outcome = DANE_USABLE, .records = &record, .count = 1,
					    .reason = { "usable", 6 } };
static const struct dane_verdict skip = { .outcome = DANE_SKIP, .reason = { "SERVFAIL", 8 } };
static const struct dane_verdict unusable = { .outcome = DANE_UNUSABLE, .published = 1,
					      .reason = { "unusable", 8 } };
static const struct sts_policy enforce = { STS_MODE_ENFORCE, 1, listed, 1 };
static const struct sts_policy testing = { STS_MODE_TESTING, 1, listed, 1 };
static const struct sts_policy other = { STS_MODE_ENFORCE, 1, others, 1 };
static const struct sts_policy other_testing = { STS_MODE_TESTING, 1, others, 1 };

static int
teardown(void **state)
{
	(void)state;
	arena_free(&arena);
	return 0;
}

static void
test_events(void **state)
{
	static const struct {
		enum tls_wish wish;
		const struct dane_verdict *dane;
		const struct sts_policy *sts;
		enum tls_end end;
		enum tls_trouble trouble;
		int type;			/* -1: no event */
		enum tlsrpt_result result;
		size_t lines, hosts;
	} rows[] = {
		{ TLS_WISH_STRONGEST, NULL, NULL, TLS_END_OPEN, 0, TLSRPT_NO_POLICY, TLSRPT_SUCCESS,
		  0, 0 },
		{ TLS_WISH_STRONGEST, NULL, NULL, TLS_END_TROUBLE, TLS_TROUBLE_NOT_OFFERED,
		  TLSRPT_NO_POLICY, TLSRPT_STARTTLS_NOT_SUPPORTED, 0, 0 },
		{ TLS_WISH_STRONGEST, NULL, NULL, TLS_END_TROUBLE, TLS_TROUBLE_HANDSHAKE,
		  TLSRPT_NO_POLICY, TLSRPT_VALIDATION_FAILURE, 0, 0 },
		{ TLS_WISH_MAY, NULL, NULL, TLS_END_OPEN, 0, -1, 0, 0, 0 },
		{ TLS_WISH_OFF, NULL, NULL, TLS_END_NOT_TRIED, TLS_TROUBLE_HANDSHAKE, -1, 0, 0, 0 },
		{ TLS_WISH_VERIFY, NULL, NULL, TLS_END_TROUBLE, TLS_TROUBLE_NOT_VERIFIED, -1, 0, 0,
		  0 },
		{ TLS_WISH_STRONGEST, &usable, NULL, TLS_END_OPEN, 0, TLSRPT_TLSA, TLSRPT_SUCCESS,
		  1, 0 },
		{ TLS_WISH_STRONGEST, &usable, &enforce, TLS_END_TROUBLE, TLS_TROUBLE_REFUSED,
		  TLSRPT_TLSA, TLSRPT_STARTTLS_NOT_SUPPORTED, 1, 0 },
		{ TLS_WISH_STRONGEST, &usable, NULL, TLS_END_TROUBLE, TLS_TROUBLE_NOT_VERIFIED,
		  TLSRPT_TLSA, TLSRPT_CERTIFICATE_EXPIRED, 1, 0 },
		{ TLS_WISH_STRONGEST, &unusable, NULL, TLS_END_OPEN, 0, TLSRPT_TLSA,
		  TLSRPT_TLSA_INVALID, 0, 0 },
		{ TLS_WISH_STRONGEST, &skip, &enforce, TLS_END_NOT_TRIED, 0, TLSRPT_TLSA,
		  TLSRPT_DNSSEC_INVALID, 0, 0 },
		{ TLS_WISH_STRONGEST, NULL, &enforce, TLS_END_OPEN, 0, TLSRPT_STS, TLSRPT_SUCCESS,
		  4, 1 },
		{ TLS_WISH_STRONGEST, NULL, &testing, TLS_END_TROUBLE, TLS_TROUBLE_NOT_VERIFIED,
		  TLSRPT_STS, TLSRPT_CERTIFICATE_EXPIRED, 4, 1 },
		{ TLS_WISH_STRONGEST, NULL, &other, TLS_END_NOT_TRIED, 0, TLSRPT_STS,
		  TLSRPT_VALIDATION_FAILURE, 4, 1 },
		{ TLS_WISH_STRONGEST, NULL, &other_testing, TLS_END_OPEN, 0, TLSRPT_STS,
		  TLSRPT_VALIDATION_FAILURE, 4, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct tls_question question = { .wish = rows[i].wish,
						 .host = SPAN("mx.dom.test"),
						 .next_hop = SPAN("dom.test"),
						 .resolver = RESOLVER_VALIDATES,
						 .dane = rows[i].dane,
						 .sts = rows[i].sts };
		struct tlsrpt_event event;
		struct tls_demand demand;

		tls_policy_decide(&question, &arena, &demand);
		assert_int_equal(tls_event(&question, &demand, rows[i].end, rows[i].trouble,
					   TLSRPT_CERTIFICATE_EXPIRED, &arena, &event),
				 rows[i].type >= 0);
		if (rows[i].type < 0)
			continue;
		assert_int_equal(event.type, rows[i].type);
		assert_int_equal(event.result, rows[i].result);
		assert_int_equal(event.line_count, rows[i].lines);
		assert_int_equal(event.host_count, rows[i].hosts);
	}
}

static void
test_no_policy(void **state)
{
	struct tlsrpt_event event;

	(void)state;
	tls_event_no_policy(TLSRPT_STS_WEBPKI_INVALID, &event);
	assert_int_equal(event.type, TLSRPT_STS);
	assert_int_equal(event.result, TLSRPT_STS_WEBPKI_INVALID);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_events, teardown),
		cmocka_unit_test_teardown(test_no_policy, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
