/* schedule: doubling, bounds, jitter, expiry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/schedule.h"

enum { MINUTE = 60000, HOUR = 60 * MINUTE };

static const struct schedule_config config = {
	.retry_first_ms = 5 * MINUTE, .retry_max_ms = 4 * HOUR, .lifetime_ms = 120 * HOUR,
	.probe_first_ms = MINUTE, .probe_max_ms = 15 * MINUTE,
};

static void
within(int64_t got, int64_t delay)
{
	assert_true(got >= delay - delay / 10 && got <= delay + delay / 10);
}

static void
retries_double_to_a_bound(void **state)
{
	static const int64_t minutes[] = { 5, 5, 10, 20, 40, 80, 160, 240, 240, 240 };
	static const uint32_t chances[] = { 0, 1, UINT32_MAX / 2, UINT32_MAX };

	(void)state;
	for (uint32_t i = 2; i < 10; i++)
		for (int c = 0; c < 4; c++)
			within(schedule_retry(&config, i, 1000000, chances[c]) - 1000000,
			       minutes[i] * MINUTE);
	within(schedule_retry(&config, UINT32_MAX, 0, 7), 4 * HOUR);
}

static void
chance_spreads(void **state)
{
	(void)state;
	assert_int_equal(schedule_retry(&config, 2, 0, 0), 540000);
	assert_true(schedule_retry(&config, 2, 0, UINT32_MAX) >= 658000);
	assert_int_equal(schedule_retry(&config, 2, 0, UINT32_C(1) << 31), 600000);
}

/* A greylist of five minutes lets it pass. */
static void
the_first_wait_is_never_too_short(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		int64_t least = schedule_retry(&config, i, 0, 0),
			most = schedule_retry(&config, i, 0, UINT32_MAX);

		assert_in_range(least, 5 * MINUTE, 5 * MINUTE + 5000);
		assert_in_range(most, 6 * MINUTE - 5000, 7 * MINUTE);
	}
}

static void
probes_double_to_a_bound(void **state)
{
	static const int64_t minutes[] = { 1, 2, 4, 8, 15, 15 };

	(void)state;
	for (uint32_t i = 0; i < 6; i++)
		within(schedule_probe(&config, i + 1, 0, 12345), minutes[i] * MINUTE);
}

static void
odd_bounds_hold(void **state)
{
	struct schedule_config c = config;

	(void)state;
	c.retry_max_ms = MINUTE;
	within(schedule_retry(&c, 1, 0, 0), MINUTE);
	c.retry_max_ms = INT64_C(10) * 365 * 24 * HOUR;
	within(schedule_retry(&c, 200, 0, UINT32_MAX), c.retry_max_ms);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(retries_double_to_a_bound), cmocka_unit_test(chance_spreads),
		cmocka_unit_test(the_first_wait_is_never_too_short),
		cmocka_unit_test(probes_double_to_a_bound), cmocka_unit_test(odd_bounds_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
