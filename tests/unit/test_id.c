/* test_id: ids and dates as text. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mta/base/clock.h"
#include "mta/base/id.h"

static void
test_round_trip(void **state)
{
	static const uint64_t ids[] = { 1, 31, 32, 0xFFFF, 1ULL << 48, UINT64_MAX,
					0x019A9A9A9A9A0001 };
	char text[ID_TEXT_LEN + 1];
	uint64_t back;

	(void)state;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		assert_int_equal(strlen(id_format(ids[i], text)), ID_TEXT_LEN);
		assert_true(id_parse(span_str(text), &back));
		assert_int_equal(back, ids[i]);
		for (char *c = text; *c != '\0'; c++)
			*c = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
		assert_true(id_parse(span_str(text), &back));
		assert_int_equal(back, ids[i]);
	}
	assert_string_equal(id_format(UINT64_MAX, text), "fzzzzzzzzzzzz");
	assert_string_equal(id_format(1, text), "0000000000001");
}

static void
test_sorts_like_text(void **state)
{
	char before[ID_TEXT_LEN + 1], text[ID_TEXT_LEN + 1];
	uint64_t id = 1;

	(void)state;
	id_format(0, before);
	for (int i = 0; i < 2000; i++) {
		assert_true(strcmp(before, id_format(id, text)) < 0);
		memcpy(before, text, sizeof(text));
		id += 1 + id / 50;
	}
}

static void
test_refused(void **state)
{
	static const char *const bad[] = {
		"", "0000000000000", "000000000001", "00000000000001", "g000000000000",
		"000000000000i",
		"000000000000l", "000000000000o", "000000000000u", "00000000000-1", "000000000000 ",
		"zzzzzzzzzzzzz",
	};
	uint64_t id = 77;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(id_parse(span_str(bad[i]), &id));
	assert_false(id_parse(span_of("00000000000\0001", 13), &id));
	assert_int_equal(id, 77);
	assert_int_equal(id_time_ms(id_at(1763696855123)), 1763696855123);
	assert_int_equal(id_at(-5), 0);
}

static void
test_dates(void **state)
{
	char date[RFC5322_DATE_MAX], iso[ISO_DATE_MAX];

	(void)state;
	setenv("TZ", "UTC0", 1);
	tzset();
	assert_string_equal(clock_rfc5322(1763696855123, date), "Fri, 21 Nov 2025 03:47:35 +0000");
	setenv("TZ", "XXX-5:30", 1);
	tzset();
	assert_string_equal(clock_rfc5322(1763696855123, date), "Fri, 21 Nov 2025 09:17:35 +0530");
	setenv("TZ", "YYY3:30", 1);
	tzset();
	assert_string_equal(clock_rfc5322(1763696855123, date), "Fri, 21 Nov 2025 00:17:35 -0330");
	assert_string_equal(clock_iso(1763696855123, iso), "2025-11-21T03:47:35.123Z");
	assert_string_equal(clock_iso(0, iso), "1970-01-01T00:00:00.000Z");
	assert_string_equal(clock_iso(-1, iso), "1969-12-31T23:59:59.999Z");
	clock_rfc5322(INT64_MAX, date);
	clock_iso(INT64_MIN, iso);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_sorts_like_text),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_dates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
