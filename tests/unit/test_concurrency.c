/*
 * test_concurrency: the curve of connections against peers that are well, that refuse, and that
 * grow slow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mta/outbound/shaping/concurrency.h"

enum { MOST = 20, SECOND = 1000 };

/* A peer that takes so many at once: of each round those that are too many are told so. */
static bool
round_of(struct concurrency *c, size_t takes, int64_t latency_ms, int64_t now)
{
	size_t sent = c->limit;
	bool dead = false;

	for (size_t i = 0; i < sent; i++)
		if (i < takes)
			concurrency_good(c, MOST, latency_ms, now);
		else
			dead = concurrency_trouble(c, now) || dead;
	assert_true(c->limit >= 1 && c->limit <= MOST);
	return dead;
}

static void
test_grows_at_once_where_all_is_well(void **state)
{
	struct concurrency c;
	int rounds = 0;

	(void)state;
	concurrency_init(&c, CONCURRENCY_FIRST);
	for (; c.limit < MOST; rounds++)
		round_of(&c, MOST, 10, rounds);
	assert_in_range(rounds, 1, 3);
	concurrency_init(&c, 0);
	assert_int_equal(c.limit, 1);
}

static void
test_settles_below_the_limit(void **state)
{
	struct concurrency c;
	size_t troubles = 0;

	(void)state;
	concurrency_init(&c, CONCURRENCY_FIRST);
	for (int i = 0; i < 100; i++)
		round_of(&c, 8, 10, i * SECOND);
	assert_in_range(c.limit, 6, 9);
	for (int i = 100; i < 300; i++) {
		troubles += c.limit > 8;
		round_of(&c, 8, 10, i * SECOND);
	}
	assert_in_range(troubles, 0, 20);	/* a tenth of the rounds, and not each second one */
	assert_in_range(c.limit, 6, 9);
	/* the limit is no more: after a while it goes up again */
	for (int i = 0; i < 100; i++)
		round_of(&c, MOST, 10, 300 * SECOND + CONCURRENCY_FADE_MS + i * SECOND);
	assert_int_equal(c.limit, MOST);
}

static void
test_one_step_a_cohort(void **state)
{
	struct concurrency c;

	(void)state;
	concurrency_init(&c, MOST);
	for (int i = 0; i < MOST; i++)
		concurrency_trouble(&c, 0);
	assert_int_equal(c.limit, 15);		/* twenty answers to one cohort: one step */
	concurrency_trouble(&c, 0);
	assert_int_equal(c.limit, 12);
}

static void
test_dead(void **state)
{
	struct concurrency c;

	(void)state;
	concurrency_init(&c, 1);
	assert_false(concurrency_trouble(&c, 0));
	assert_false(concurrency_trouble(&c, 0));
	concurrency_good(&c, MOST, -1, 0);		/* in a row, or not at all */
	concurrency_init(&c, 1);
	assert_false(concurrency_trouble(&c, 0));
	assert_false(concurrency_trouble(&c, 0));
	assert_true(concurrency_trouble(&c, 0));
	concurrency_init(&c, MOST);
	for (int i = 0; i < 200; i++)
		if (round_of(&c, 0, 10, i))
			return;
	fail_msg("a peer that refuses everything is never found out");
}

static void
test_a_peer_that_grows_slow(void **state)
{
	struct concurrency c;
	size_t lowest = MOST;

	(void)state;
	concurrency_init(&c, CONCURRENCY_FIRST);
	for (int i = 0; i < 50; i++)
		round_of(&c, MOST, 20, i * SECOND);
	assert_int_equal(c.limit, MOST);
	for (int i = 50; i < 60; i++) {			/* two seconds instead of 20 ms */
		size_t before = c.limit;

		round_of(&c, MOST, 2000, i * SECOND);
		assert_true(c.limit <= before && before - c.limit <= 2);	/* gently */
		lowest = c.limit < lowest ? c.limit : lowest;
	}
	assert_in_range(lowest, 1, MOST - 6);
	for (int i = 60; i < 300; i++)			/* well again */
		round_of(&c, MOST, 20, i * SECOND);
	assert_true(c.limit > lowest + 4);
	concurrency_init(&c, 10);
	for (int i = 0; i < 2000; i++)			/* always was slow: that is usual here */
		round_of(&c, MOST, 2000, i * SECOND);
	assert_int_equal(c.limit, MOST);
}

static void
test_refused(void **state)
{
	struct concurrency c;

	(void)state;
	concurrency_init(&c, 10);
	concurrency_refused(&c, 4, 0);
	assert_int_equal(c.limit, 4);
	round_of(&c, MOST, 10, 1);
	assert_int_equal(c.limit, 4);
	concurrency_refused(&c, 0, 0);
	assert_int_equal(c.limit, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grows_at_once_where_all_is_well),
		cmocka_unit_test(test_settles_below_the_limit),
		cmocka_unit_test(test_one_step_a_cohort),
		cmocka_unit_test(test_dead),
		cmocka_unit_test(test_a_peer_that_grows_slow),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
