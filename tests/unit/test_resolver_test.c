/* resolver_test: what each pair of answers shows, and when the next test is due. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "policy/resolver_test.h"

static const struct resolver_test_name good = { { "signed.test", 11 }, DNS_A };
static const struct resolver_test_name bad = { { "bogus.test", 10 }, DNS_A };

enum kind { AD, AD_NODATA, AD_NX, PLAIN, PLAIN_NX, SERVFAIL, TIMEOUT, BADNAME };

static struct dns_answer
answer_of(enum kind kind)
{
	struct dns_answer answer = { .outcome = DNS_FOUND, .text = SPAN("found") };

	answer.authenticated = kind == AD || kind == AD_NODATA || kind == AD_NX;
	if (kind == AD_NODATA)
		answer.outcome = DNS_NODATA;
	if (kind == AD_NX || kind == PLAIN_NX)
		answer.outcome = DNS_NXDOMAIN;
	if (kind == SERVFAIL || kind == TIMEOUT)
		answer.outcome = DNS_TEMPORARY;
	if (kind == BADNAME)
		answer.outcome = DNS_BAD_NAME;
	answer.rcode = kind == SERVFAIL ? 2 : kind == TIMEOUT ? DNS_RCODE_NONE : 0;
	return answer;
}

static bool
run(struct resolver_test *test, enum kind first, enum kind second, int64_t now)
{
	struct dns_answer one = answer_of(first), two = answer_of(second);
	struct facts_needs needs;

	assert_true(resolver_test_start(test, now, &needs));
	assert_int_equal(needs.count, 2);
	assert_true(span_eq(needs.need[0].name, good.name));
	assert_true(span_eq(needs.need[1].name, bad.name));
	assert_false(resolver_test_start(test, now, &needs));		/* under way */
	if (now % 2 == 0) {
		assert_false(resolver_test_answer(test, 0, &one, now));
		return resolver_test_answer(test, 1, &two, now);
	}
	assert_false(resolver_test_answer(test, 1, &two, now));
	return resolver_test_answer(test, 0, &one, now);
}

static void
test_findings(void **state)
{
	static const struct {
		enum kind good, bad;
		enum resolver_trust trust;	/* UNTESTED: nothing is shown */
	} rows[] = {
		{ AD, SERVFAIL, RESOLVER_VALIDATES },	  { AD_NODATA, SERVFAIL,
							    RESOLVER_VALIDATES },
		{ AD_NX, SERVFAIL, RESOLVER_VALIDATES },  { PLAIN, SERVFAIL, RESOLVER_FAILS },
		{ PLAIN_NX, SERVFAIL, RESOLVER_FAILS },	  { PLAIN, PLAIN, RESOLVER_FAILS },
		{ AD, PLAIN, RESOLVER_FAILS },		  { AD, AD, RESOLVER_FAILS },
		{ AD, PLAIN_NX, RESOLVER_FAILS },	  { PLAIN, TIMEOUT, RESOLVER_FAILS },
		{ TIMEOUT, PLAIN, RESOLVER_FAILS },	  { TIMEOUT, TIMEOUT, RESOLVER_UNTESTED },
		{ SERVFAIL, SERVFAIL, RESOLVER_UNTESTED }, { AD, TIMEOUT, RESOLVER_UNTESTED },
		{ TIMEOUT, SERVFAIL, RESOLVER_UNTESTED }, { BADNAME, SERVFAIL, RESOLVER_UNTESTED },
		{ AD, BADNAME, RESOLVER_UNTESTED },
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(*rows); i++) {
		enum resolver_trust want = rows[i / 2].trust;
		struct resolver_test test;
		bool changed;

		resolver_test_init(&test, good, bad, 0);
		assert_int_equal(test.trust, RESOLVER_UNTESTED);
		changed = run(&test, rows[i / 2].good, rows[i / 2].bad, (int64_t)i);
		assert_int_equal(test.trust, want);
		assert_int_equal(changed, want != RESOLVER_UNTESTED);
		assert_true(strlen(test.text) > 0);
		assert_int_equal(test.next_ms - (int64_t)i, want == RESOLVER_VALIDATES ?
								    RESOLVER_TEST_AGAIN_MS :
								    RESOLVER_TEST_RETRY_MS);
	}
}

/* What proves nothing changes nothing; what does, does. */
static void
test_over_time(void **state)
{
	struct resolver_test test;
	struct facts_needs needs;
	int64_t now = 1000;

	(void)state;
	resolver_test_init(&test, good, bad, now);
	assert_true(run(&test, AD, SERVFAIL, now));
	assert_int_equal(test.since_ms, now);
	assert_false(resolver_test_start(&test, now + RESOLVER_TEST_AGAIN_MS - 1, &needs));
	now += RESOLVER_TEST_AGAIN_MS;
	assert_false(run(&test, TIMEOUT, TIMEOUT, now));
	assert_int_equal(test.trust, RESOLVER_VALIDATES);
	assert_int_equal(test.next_ms, now + RESOLVER_TEST_RETRY_MS);
	assert_non_null(strstr(test.text, "could not be tested"));
	now += RESOLVER_TEST_RETRY_MS;
	assert_true(run(&test, PLAIN, SERVFAIL, now));
	assert_int_equal(test.trust, RESOLVER_FAILS);
	assert_non_null(strstr(test.text, "signed.test"));
	assert_false(resolver_test_start(&test, now + 1, &needs));
	resolver_test_hurry(&test, now + 1);
	assert_true(run(&test, AD, SERVFAIL, now + 1));
	assert_int_equal(test.since_ms, now + 1);
	assert_string_equal(resolver_trust_text(test.trust), "validates");
}

static void
test_without_bogus_name(void **state)
{
	struct resolver_test_name no_name = { { "", 0 }, DNS_A };
	struct dns_answer answer = answer_of(AD);
	struct resolver_test test;
	struct facts_needs needs;

	(void)state;
	resolver_test_init(&test, good, no_name, 5);
	assert_false(resolver_test_start(&test, 4, &needs));
	assert_true(resolver_test_start(&test, 5, &needs));
	assert_int_equal(needs.count, 1);
	assert_true(resolver_test_answer(&test, 0, &answer, 6));
	assert_int_equal(test.trust, RESOLVER_VALIDATES);
}

/* A name as long as names get does not overflow the text. */
static void
test_long_name(void **state)
{
	char name[253];
	struct resolver_test_name longest = { { name, sizeof(name) }, DNS_A };
	struct dns_answer answer = answer_of(PLAIN);
	struct resolver_test test;
	struct facts_needs needs;

	(void)state;
	memset(name, 'n', sizeof(name));
	resolver_test_init(&test, longest, good, 0);
	assert_true(resolver_test_start(&test, 0, &needs));
	assert_false(resolver_test_answer(&test, 1, &answer, 0));
	assert_true(resolver_test_answer(&test, 0, &answer, 0));
	assert_true(strlen(test.text) > sizeof(name));
	assert_true(span_ends(span_str(test.text), span_of(name, sizeof(name))));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_findings),
		cmocka_unit_test(test_over_time),
		cmocka_unit_test(test_without_bogus_name),
		cmocka_unit_test(test_long_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
