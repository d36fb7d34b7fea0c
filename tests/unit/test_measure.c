/*
 * test_measure: how a slow-down deepens and recovers, step by step; what is stored of it comes
 * back.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/measure.h"

enum { SECOND = 1000, TIME = 400 * SECOND };

static struct measure
slowed(uint32_t factor)
{
	return (struct measure){ .kind = MEASURE_SLOW, .scope = SCOPE_SITE,
				 .place = SPAN("mx:a.example:25"),
				 .rule = SPAN("rules:3"), .reason = SPAN("421 4.7.0 too many"),
				 .since_ms = SECOND,
				 .until_ms = SECOND + TIME, .count = 1, .factor = factor,
				 .for_ms = TIME, .step_ms = SECOND,
				 .connections = 20, .per_minute = 600 };
}

static void
test_recovers_by_halves(void **state)
{
	struct measure m = slowed(8);
	int64_t end = m.until_ms, part = TIME / 4;

	(void)state;
	assert_int_equal(measure_factor(&m, SECOND), 8 * MEASURE_UNIT);
	assert_int_equal(measure_divided(&m, 600, end - 1), 75);
	assert_int_equal(measure_divided(&m, 20, end - 1), 2);
	assert_int_equal(measure_divided(&m, 4, end - 1), 1);		/* never nothing */
	assert_int_equal(measure_divided(&m, 600, end), 150);
	assert_int_equal(measure_divided(&m, 600, end + part), 300);
	assert_int_equal(measure_divided(&m, 600, end + 2 * part), 600);
	assert_int_equal(measure_over_ms(&m), end + 2 * part);
	assert_int_equal(measure_factor(&m, end + 1000 * part), MEASURE_UNIT);
	m.factor = 2;
	assert_int_equal(measure_over_ms(&m), end);
}

/* What it was for stays; the years between are forgotten. */
static void
test_clock_set_back(void **state)
{
	const int64_t years = INT64_C(3650) * 86400 * SECOND, now = 10 * SECOND;
	struct measure m = slowed(8), held = { .kind = MEASURE_SUSPEND, .since_ms = years,
					       .until_ms = MEASURE_FOR_GOOD_MS };

	(void)state;
	assert_false(measure_set_back(&m, now));
	assert_int_equal(m.until_ms, SECOND + TIME);
	measure_again(&m, 8, TIME, now + years);	/* a step by a clock that is ahead */
	assert_true(measure_set_back(&m, now));
	assert_int_equal(m.since_ms, SECOND);
	assert_int_equal(m.step_ms, now);
	assert_int_equal(m.until_ms, now + TIME);
	assert_false(measure_set_back(&m, now));
	assert_true(measure_set_back(&held, now));
	assert_int_equal(held.since_ms, now);
	assert_int_equal(held.until_ms, MEASURE_FOR_GOOD_MS);
}

static void
test_deepens_once_in_a_tenth(void **state)
{
	struct measure m = slowed(4);

	(void)state;
	for (int i = 0; i < 50; i++)			/* the answers to what was on its way */
		measure_again(&m, 4, TIME, SECOND + i);
	assert_int_equal(m.factor, 4);
	assert_int_equal(m.count, 51);
	assert_int_equal(m.until_ms, SECOND + 49 + TIME);
	measure_again(&m, 4, TIME, SECOND + TIME / 10);
	assert_int_equal(m.factor, 16);
	measure_again(&m, 4, TIME, SECOND + 2 * (TIME / 10));
	assert_int_equal(m.factor, RESPONSE_FACTOR_MAX);
	measure_again(&m, 4, TIME, SECOND + 3 * (TIME / 10));
	assert_int_equal(m.factor, RESPONSE_FACTOR_MAX);
	measure_again(&m, 2, TIME, m.until_ms + 1);	/* while it recovers: from the start */
	assert_int_equal(m.factor, 2);
}

static void
test_stored(void **state)
{
	struct measure m = slowed(8), got;
	struct arena arena = { 0 };
	struct buf out = { 0 };

	(void)state;
	measure_encode(&m, &out);
	assert_int_equal(measure_decode(buf_span(&out), &arena, &got), 0);
	assert_true(span_eq(got.place, m.place) && span_eq(got.rule, m.rule) &&
		    span_eq(got.reason, m.reason));
	assert_true(got.kind == m.kind && got.factor == 8 && got.until_ms == m.until_ms &&
		    got.per_minute == 600);
	for (size_t i = 0; i < buf_len(&out); i++)
		assert_true(measure_decode(span_first(buf_span(&out), i), &arena, &got) < 0);
	buf_clear(&out);
	m.factor = 0;
	measure_encode(&m, &out);
	assert_int_equal(measure_decode(buf_span(&out), &arena, &got), -EBADMSG);
	buf_clear(&out);
	m = (struct measure){ .kind = MEASURE_SUSPEND, .scope = SCOPE_DOMAIN,
			      .name = SPAN("a.example"), .until_ms = MEASURE_FOR_GOOD_MS };
	measure_encode(&m, &out);
	assert_int_equal(measure_decode(buf_span(&out), &arena, &got), 0);
	assert_int_equal(measure_factor(&got, 0), MEASURE_UNIT);
	assert_int_equal(measure_over_ms(&got), MEASURE_FOR_GOOD_MS);
	buf_free(&out);
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recovers_by_halves),
		cmocka_unit_test(test_deepens_once_in_a_tenth),
		cmocka_unit_test(test_clock_set_back),
		cmocka_unit_test(test_stored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
