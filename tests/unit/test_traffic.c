/* test_traffic: rates of a window; what holds mail, as JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mta/outbound/explain/hold_reason.h"
#include "mta/outbound/explain/traffic.h"

static void
test_rates(void **state)
{
	struct traffic t = { 0 };
	int64_t now = 1000000 * (int64_t)TRAFFIC_LONG_MS;

	(void)state;
	for (int i = 0; i < 100; i++)
		traffic_note(&t, TRAFFIC_DELIVERED, now);
	traffic_note(&t, TRAFFIC_DEFERRED, now);
	assert_int_equal(traffic_recent(&t, now), 100);
	assert_int_equal(traffic_minute(&t, now), 100);
	assert_int_equal(t.count[TRAFFIC_DELIVERED], 100);
	assert_int_equal(t.count[TRAFFIC_DEFERRED], 1);
	/* half of the next window has passed: half of this one counts still */
	assert_int_equal(traffic_recent(&t, now + TRAFFIC_SHORT_MS * 3 / 2), 50);
	assert_int_equal(traffic_minute(&t, now + TRAFFIC_SHORT_MS * 3 / 2), 100);
	assert_int_equal(traffic_recent(&t, now + TRAFFIC_SHORT_MS * 2), 0);
	assert_int_equal(traffic_minute(&t, now + TRAFFIC_LONG_MS * 3), 0);
}

static void
test_holds(void **state)
{
	struct hold_reasons why = { 0 };
	struct hold_reason *r = hold_add(&why, HOLD_SHAPE);
	json_t *all;

	(void)state;
	r->text = SPAN("not \xff UTF-8");
	r->until_ms = 7;
	for (int i = 0; i <= HOLD_NUMBERS_MAX; i++)
		hold_number(r, "used", i);
	for (int i = 0; i < HOLD_REASONS_MAX + 2; i++)
		hold_add(&why, HOLD_PAUSE)->until_ms = i;
	assert_int_equal(why.count, HOLD_REASONS_MAX);
	assert_int_equal(hold_until(&why), HOLD_REASONS_MAX - 2);
	assert_true(holds_have(&why, HOLD_SHAPE));
	assert_false(holds_have(&why, HOLD_TENANT));
	all = holds_json(&why);
	assert_int_equal(json_array_size(all), HOLD_REASONS_MAX);
	assert_string_equal(json_string_value(json_object_get(json_array_get(all, 0), "text")),
			    "not ? UTF-8");
	assert_string_equal(json_string_value(json_object_get(json_array_get(all, 0), "kind")),
			    "shape");
	json_decref(all);
	for (enum hold_kind kind = 0; kind < HOLD_KINDS; kind++)
		assert_non_null(hold_kind_name(kind));
}

/* All must be over, but of the sources of a pool one; a slow-down stops nothing. */
static void
test_until(void **state)
{
	struct hold_reasons why = { 0 };
	struct hold_reason *r = hold_add(&why, HOLD_SLOWED);

	(void)state;
	r->until_ms = 900;
	assert_null(hold_first(&why));
	assert_int_equal(hold_until(&why), 0);
	hold_add(&why, HOLD_SHAPE)->until_ms = 30;
	assert_int_equal(hold_until(&why), 30);
	for (int64_t until_ms = 70; until_ms >= 50; until_ms -= 10) {
		r = hold_add(&why, HOLD_WARM_UP);
		r->until_ms = until_ms;
		r->either = true;
	}
	assert_int_equal(hold_until(&why), 50);
	hold_add(&why, HOLD_BACKOFF)->until_ms = 60;
	assert_int_equal(hold_until(&why), 60);
	assert_ptr_equal(hold_first(&why), &why.list[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rates),
					    cmocka_unit_test(test_holds),
					     cmocka_unit_test(test_until) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
