/* test_tenant: for whom a message is sent, and what the tenant weighs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "policy/tenant.h"

static bool
chosen(const char *by, struct tenant_facts facts, const char *wanted)
{
	struct tenant_rules rules = { 0 };
	struct arena arena = { 0 };
	bool same;

	assert_true(tenant_by_read(span_str(by), &rules));
	same = span_eq(tenant_choose(&rules, &facts, &arena), span_str(wanted));
	arena_free(&arena);
	return same;
}

static void
test_choice(void **state)
{
	const struct tenant_facts anna = {
		.may_relay = true, .user = SPAN("Anna"), .sender = SPAN("x@Shop.example"),
		.header = SPAN("News")
	};
	struct tenant_facts app = anna, stranger = anna, report = anna;

	(void)state;
	app.user = app.header = (struct span){ 0 };
	stranger.may_relay = false;
	report.sender = report.user = (struct span){ 0 };
	assert_true(chosen("user", anna, "anna"));
	assert_true(chosen("user", app, "shop.example"));
	assert_true(chosen("sender-domain", anna, "shop.example"));
	assert_true(chosen("header:X-Tenant", anna, "news"));
	assert_true(chosen("header:X-Tenant", app, "shop.example"));
	assert_true(chosen("none", anna, ""));
	assert_true(chosen("user", stranger, ""));
	assert_true(chosen("header:X-Tenant", stranger, ""));
	assert_true(chosen("user", report, ""));
}

static void
test_words(void **state)
{
	static const char *const bad[] = { "", "header", "header:", "header:a b", "header:a:b",
					   "users", "User" };
	struct tenant_rules rules = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(tenant_by_read(span_str(bad[i]), &rules));
	assert_true(tenant_name_valid(SPAN("a.b-c_d@e+1")));
	assert_false(tenant_name_valid(SPAN("")));
	assert_false(tenant_name_valid(SPAN("a b")));
	assert_false(tenant_name_valid(SPAN("A")));
	assert_false(tenant_name_valid(SPAN("\xc3\xa4")));
}

static void
test_weights(void **state)
{
	struct tenant tenants[] = { { SPAN("news"), 3, 1 }, { SPAN("a"), 9, 2 },
				    { SPAN("newsletter"), 7, 3 } };
	struct tenant_rules rules = { .tenants = tenants, .count = 3 };

	(void)state;
	qsort(tenants, 3, sizeof(tenants[0]), tenant_order);
	assert_int_equal(tenant_weight(&rules, SPAN("news")), 3);
	assert_int_equal(tenant_weight(&rules, SPAN("a")), 9);
	assert_int_equal(tenant_weight(&rules, SPAN("newsletter")), 7);
	assert_int_equal(tenant_weight(&rules, SPAN("new")), 1);
	assert_int_equal(tenant_weight(&rules, SPAN("")), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choice), cmocka_unit_test(test_words),
		cmocka_unit_test(test_weights),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
