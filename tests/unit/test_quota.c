/* test_quota: limits per user, that slide; what is told, once in a window; bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "mta/auth/quota.h"

enum { MINUTE = 60000, HOUR = 60 * MINUTE, DAY = 24 * HOUR };

static const struct quota_limits ten_an_hour = { { [QUOTA_MESSAGES_HOUR] = 10 } };

static bool
charge(struct quota *q, const struct quota_limits *limits, const char *user, uint64_t recipients,
       int64_t now, struct quota_verdict *v)
{
	return quota_charge(q, limits, span_str(user), recipients, false, now, v);
}

static void
test_messages(void **state)
{
	struct quota *q = quota_new(0, 1);
	struct quota_verdict v;

	(void)state;
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(quota_ask(q, &ten_an_hour, SPAN("anna"), 0).messages, 10 - i);
		assert_true(charge(q, &ten_an_hour, i % 2 ? "anna" : "Anna", 1000, 0, &v));
		assert_int_equal(v.near, i == 7 ? 1u << QUOTA_MESSAGES_HOUR : 0);
		assert_int_equal(v.exceeded, 0);
		assert_true(v.recipients == UINT64_MAX);
	}
	v = quota_ask(q, &ten_an_hour, SPAN("anna"), 0);
	assert_int_equal(v.messages, 0);
	assert_int_equal(v.count[QUOTA_MESSAGES_HOUR], 10);
	assert_int_equal(v.count[QUOTA_RECIPIENTS_DAY], 10000);
	assert_int_equal(v.exceeded, 1u << QUOTA_MESSAGES_HOUR);
	/* told already, not counted */
	assert_false(charge(q, &ten_an_hour, "anna", 1, 1, &v));
	assert_int_equal(v.exceeded | v.near, 0);
	assert_int_equal(v.count[QUOTA_MESSAGES_HOUR], 10);
	assert_int_equal(quota_ask(q, &ten_an_hour, SPAN("bert"), 0).messages, 10);
	quota_free(q);
}

static void
test_windows_slide(void **state)
{
	struct quota *q = quota_new(0, 1);
	struct quota_verdict v;

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_true(charge(q, &ten_an_hour, "anna", 1, 0, &v));
	assert_int_equal(quota_ask(q, &ten_an_hour, SPAN("anna"), HOUR - 1).messages, 0);
	v = quota_ask(q, &ten_an_hour, SPAN("anna"), HOUR);		/* no sudden second ten */
	assert_int_equal(v.messages, 0);
	/* a new window: told again */
	assert_int_equal(v.near, 1u << QUOTA_MESSAGES_HOUR);
	assert_int_equal(v.exceeded, 1u << QUOTA_MESSAGES_HOUR);
	assert_int_equal(quota_ask(q, &ten_an_hour, SPAN("anna"), HOUR + 30 * MINUTE).messages, 5);
	assert_int_equal(quota_ask(q, &ten_an_hour, SPAN("anna"), 2 * HOUR).messages, 10);
	assert_true(charge(q, &ten_an_hour, "anna", 1, 100LL * DAY, &v));
	assert_int_equal(v.count[QUOTA_MESSAGES_HOUR], 1);
	assert_int_equal(v.count[QUOTA_MESSAGES_DAY], 1);
	quota_free(q);
}

static void
test_recipients(void **state)
{
	const struct quota_limits limits = { { [QUOTA_RECIPIENTS_DAY] = 100,
					       [QUOTA_RECIPIENTS_HOUR] = 60 } };
	struct quota *q = quota_new(0, 1);
	struct quota_verdict v;

	(void)state;
	assert_false(charge(q, &limits, "anna", 61, 0, &v));
	assert_int_equal(v.exceeded, 1u << QUOTA_RECIPIENTS_HOUR);
	assert_int_equal(v.recipients, 60);
	assert_true(charge(q, &limits, "anna", 60, 0, &v));
	assert_int_equal(v.near, 1u << QUOTA_RECIPIENTS_HOUR);
	assert_int_equal(v.recipients, 0);
	assert_true(v.messages == UINT64_MAX);
	assert_true(charge(q, &limits, "anna", 40, 3 * HOUR, &v));
	assert_int_equal(v.near, 1u << QUOTA_RECIPIENTS_DAY);
	assert_int_equal(v.recipients, 0);
	assert_false(charge(q, &limits, "anna", 1, 3 * HOUR, &v));
	assert_int_equal(v.exceeded, 1u << QUOTA_RECIPIENTS_DAY);
	/* some were refused already: told although what is left of them fits */
	assert_true(quota_charge(q, &limits, SPAN("bert"), 60, true, 0, &v));
	assert_int_equal(v.exceeded, 1u << QUOTA_RECIPIENTS_HOUR);
	quota_free(q);
}

static void
test_no_limit(void **state)
{
	const struct quota_limits none = { { 0 } };
	struct quota *q = quota_new(0, 1);
	struct quota_verdict v;

	(void)state;
	assert_false(quota_any(&none));
	assert_true(quota_any(&ten_an_hour));
	for (int i = 0; i < 1000; i++)
		assert_true(charge(q, &none, "anna", UINT32_MAX, 0, &v));
	assert_int_equal(v.near | v.exceeded, 0);
	quota_free(q);
	quota_free(NULL);
}

static void
test_bounds(void **state)
{
	struct quota *q = quota_new(3, 1);
	struct quota_verdict v;
	char name[32], long_name[1000];

	(void)state;
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "user%d", i);
		charge(q, &ten_an_hour, name, 1, 0, &v);
		charge(q, &ten_an_hour, "anna", 1, 0, &v);	/* in use: stays */
	}
	assert_int_equal(v.count[QUOTA_MESSAGES_HOUR], 10);
	/* a clock that goes back gives nothing away */
	assert_int_equal(quota_ask(q, &ten_an_hour, SPAN("anna"), -HOUR).messages, 0);
	assert_int_equal(quota_ask(q, &ten_an_hour, SPAN("user99"), 0).messages, 9);
	assert_int_equal(quota_ask(q, &ten_an_hour, SPAN("user1"), 0).messages, 10);
	memset(long_name, 'x', sizeof(long_name));
	quota_ask(q, &ten_an_hour, span_of(long_name, sizeof(long_name)), 0);
	quota_free(q);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages), cmocka_unit_test(test_windows_slide),
		cmocka_unit_test(test_recipients), cmocka_unit_test(test_no_limit),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
