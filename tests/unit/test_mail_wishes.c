/*
 * test_mail_wishes: what the field MT-Priority may look like. The parameters of MAIL are played in
 * transcripts.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "mta/smtp/mail_wishes.h"

static void
test_field(void **state)
{
	static const struct { struct span text; int8_t is; } good[] = {
		{ SPAN("4"), 4 }, { SPAN("-9"), -9 }, { SPAN("0"), 0 }, { SPAN("4 (ultra)"), 4 },
		{ SPAN("\r\n\t(so (very) \\) high) -3(x) \t"), -3 },
	};
	static const struct span bad[] = {
		SPAN(""), SPAN("10"), SPAN("-0"), SPAN("+1"), SPAN("4 4"), SPAN("- 4"),
		SPAN("4 (ultra"), SPAN("(4"), SPAN("(4)"), SPAN("4)"), SPAN("4 (\\"), SPAN("4\0"),
	};
	int8_t priority;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(wish_read_priority_field(good[i].text, &priority));
		assert_int_equal(priority, good[i].is);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(wish_read_priority_field(bad[i], &priority));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_field) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
