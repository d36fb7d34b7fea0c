/* test_ring: tenants share by weight, ranks go first, nothing starves, reports are last. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mta/outbound/ring.h"

enum { TENANTS = 8, LANES = 5 };

struct lane {
	struct ring_member turn;
	size_t tenant;
	bool blocked;
	uint64_t got;
};

static struct lane *
lane_of(struct ring_member *member)
{
	return member == NULL ? NULL : CONTAINER_OF(member, struct lane, turn);
}

static struct lane *
serve(struct ring *ring, size_t recipients)
{
	struct lane *lane = lane_of(ring_next(ring, NULL, NULL));

	assert_non_null(lane);
	lane->got += recipients;
	ring_served(&lane->turn, recipients);
	return lane;
}

static struct ring_tenant *
tenant(struct ring *ring, const char *name, uint32_t weight)
{
	return ring_tenant_use(ring, span_str(name), false, weight);
}

static void
finish(struct ring *ring, struct lane *lanes, size_t lane_count, struct ring_tenant **tenants,
       size_t tenant_count)
{
	for (size_t i = 0; i < lane_count; i++)
		ring_remove(&lanes[i].turn);
	for (size_t i = 0; i < tenant_count; i++)
		ring_tenant_release(tenants[i]);
	assert_true(ring_empty(ring));
	ring_free(ring);
}

/* The same in each run. */
static size_t
chance(void)
{
	static uint64_t seed = 4711;

	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (size_t)(seed >> 33);
}

/* Messages of 1 to 20 recipients, lanes that come and go: each has its share within 5 %. */
static void
test_weights(void **state)
{
	static const uint32_t weights[TENANTS] = { 1, 1, 2, 3, 5, 8, 13, 20 };
	struct ring ring = { 0 };
	struct ring_tenant *tenants[TENANTS];
	struct lane lanes[TENANTS * LANES] = { 0 };
	uint64_t got[TENANTS] = { 0 }, all = 0, sum = 0;
	char name[2] = "a";

	(void)state;
	for (size_t i = 0; i < TENANTS; i++, name[0]++) {
		tenants[i] = tenant(&ring, name, weights[i]);
		sum += weights[i];
	}
	for (size_t i = 0; i < TENANTS * LANES; i++) {
		lanes[i].tenant = i % TENANTS;
		ring_add(tenants[i % TENANTS], 0, &lanes[i].turn);
	}
	for (int i = 0; i < 200000; i++) {
		size_t n = 1 + chance() % 20;
		struct lane *other = &lanes[TENANTS + chance() % (TENANTS * (LANES - 1))];

		got[serve(&ring, n)->tenant] += n;
		all += n;
		/* all but the first lane of each come and go */
		if (ring_holds(&other->turn))
			ring_remove(&other->turn);
		else
			ring_add(tenants[other->tenant], 0, &other->turn);
	}
	for (size_t i = 0; i < TENANTS; i++) {
		uint64_t fair = all * weights[i] / sum;

		assert_in_range(got[i], fair * 95 / 100, fair * 105 / 100);
	}
	finish(&ring, lanes, TENANTS * LANES, tenants, TENANTS);
}

/* Who comes late has the next turn but one, however much another has had, or waits. */
static void
test_newcomer(void **state)
{
	struct ring ring = { 0 };
	struct ring_tenant *tenants[2] = { tenant(&ring, "news", 1), NULL };
	struct lane lanes[2] = { 0 };
	int behind = 0;

	(void)state;
	ring_add(tenants[0], 0, &lanes[0].turn);
	for (int i = 0; i < 1000000; i++)
		serve(&ring, 1);
	tenants[1] = tenant(&ring, "passwords", 1);
	ring_add(tenants[1], 0, &lanes[1].turn);
	while (serve(&ring, 1) != &lanes[1])
		behind++;
	assert_true(behind <= 1);
	/* and it has not become the only one: by turns from here */
	lanes[0].got = lanes[1].got = 0;
	for (int i = 0; i < 100; i++)
		serve(&ring, 1);
	assert_int_equal(lanes[0].got, 50);
	finish(&ring, lanes, 2, tenants, 2);
}

/* What one did not ask for is not saved up. */
static void
test_no_saving(void **state)
{
	struct ring ring = { 0 };
	struct ring_tenant *tenants[2] = { tenant(&ring, "a", 1), tenant(&ring, "b", 1) };
	struct lane lanes[2] = { 0 };

	(void)state;
	ring_add(tenants[0], 0, &lanes[0].turn);
	for (int i = 0; i < 1000; i++)
		serve(&ring, 1);
	ring_add(tenants[1], 0, &lanes[1].turn);
	for (int i = 0; i < 100; i++)
		serve(&ring, 1);
	assert_in_range(lanes[1].got, 49, 51);
	finish(&ring, lanes, 2, tenants, 2);
}

static bool
not_blocked(void *arg, struct ring_member *member)
{
	(void)arg;
	return !lane_of(member)->blocked;
}

/* One that a limit holds is passed over, and has no debt to call in afterwards. */
static void
test_blocked(void **state)
{
	struct ring ring = { 0 };
	struct ring_tenant *tenants[2] = { tenant(&ring, "a", 1), tenant(&ring, "b", 1) };
	struct lane lanes[3] = { 0 }, *next;

	(void)state;
	ring_add(tenants[0], 0, &lanes[0].turn);
	ring_add(tenants[1], 0, &lanes[1].turn);
	ring_add(tenants[1], 0, &lanes[2].turn);
	lanes[0].blocked = true;
	for (int i = 0; i < 1000; i++) {
		next = lane_of(ring_next(&ring, not_blocked, NULL));
		assert_true(next == &lanes[1] || next == &lanes[2]);
		ring_served(&next->turn, 1);
		next->got++;
	}
	assert_int_equal(lanes[1].got, 500);		/* by turns */
	lanes[1].blocked = true;			/* the tenant's other lane may */
	next = lane_of(ring_next(&ring, not_blocked, NULL));
	assert_ptr_equal(next, &lanes[2]);
	lanes[0].blocked = lanes[1].blocked = false;
	for (int i = 0; i < 100; i++)
		serve(&ring, 1);
	assert_in_range(lanes[0].got, 49, 52);
	lanes[0].blocked = lanes[1].blocked = lanes[2].blocked = true;
	assert_null(ring_next(&ring, not_blocked, NULL));
	assert_non_null(ring_next(&ring, NULL, NULL));
	finish(&ring, lanes, 3, tenants, 2);
}

/* The first rank goes first; the others are slow, and not stuck. */
static void
test_ranks(void **state)
{
	struct ring ring = { 0 };
	struct ring_tenant *tenants[2] = { tenant(&ring, "a", 1), tenant(&ring, "b", 1) };
	struct lane lanes[5] = { 0 };

	(void)state;
	ring_add(tenants[0], 9, &lanes[0].turn);
	ring_add(tenants[0], 0, &lanes[1].turn);
	ring_add(tenants[0], 18, &lanes[2].turn);
	ring_add(tenants[0], 9, &lanes[3].turn);
	for (int i = 0; i < 5; i++)
		assert_ptr_equal(serve(&ring, 1), &lanes[1]);
	for (int i = 5; i < 10000; i++)
		serve(&ring, 1);
	assert_in_range(lanes[1].got, 9000 - 50, 9000 + 50);
	assert_in_range(lanes[2].got, 500 - 5, 500 + 5);
	assert_in_range(lanes[0].got + lanes[3].got, 500 - 5, 500 + 5);
	assert_in_range(lanes[0].got, 249 - 5, 251 + 5);
	/* a rank is the tenant's own affair: nobody else is behind it */
	ring_add(tenants[1], 18, &lanes[4].turn);
	for (int i = 0; i < 1000; i++)
		serve(&ring, 1);
	assert_in_range(lanes[4].got, 499, 501);
	finish(&ring, lanes, 5, tenants, 2);
}

/* Reports go when nothing else does, but for one turn in 20. */
static void
test_last(void **state)
{
	struct ring ring = { 0 };
	struct ring_tenant *tenants[2] = {
		ring_tenant_use(&ring, SPAN(""), true, 1),
		ring_tenant_use(&ring, SPAN(""), false, 1)
	};
	struct lane lanes[2] = { 0 };

	(void)state;
	assert_ptr_not_equal(tenants[0], tenants[1]);
	ring_add(tenants[0], 19, &lanes[0].turn);
	ring_add(tenants[1], 9, &lanes[1].turn);
	for (int i = 0; i < 19; i++)
		assert_ptr_equal(serve(&ring, 1), &lanes[1]);
	for (int i = 19; i < 1000; i++)
		serve(&ring, 1);
	assert_int_equal(lanes[0].got, 1000 / RING_LAST_EVERY);
	ring_remove(&lanes[1].turn);
	for (int i = 0; i < 10; i++)
		assert_ptr_equal(serve(&ring, 1), &lanes[0]);
	finish(&ring, lanes, 2, tenants, 2);
}

/* A tenant is known as long as somebody uses it, by its name. */
static void
test_tenants(void **state)
{
	struct ring ring = { 0 };
	struct ring_tenant *one = tenant(&ring, "one", 5), *two = tenant(&ring, "two", 0);

	(void)state;
	assert_ptr_equal(tenant(&ring, "one", 7), one);
	assert_true(span_eq(ring_tenant_name(one), SPAN("one")));
	assert_true(ring_empty(&ring));
	assert_null(ring_next(&ring, NULL, NULL));
	ring_tenant_release(one);
	ring_tenant_release(one);
	ring_tenant_release(two);
	ring_tenant_release(NULL);
	ring_free(&ring);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_weights), cmocka_unit_test(test_newcomer),
		cmocka_unit_test(test_no_saving), cmocka_unit_test(test_blocked),
		cmocka_unit_test(test_ranks), cmocka_unit_test(test_last),
		cmocka_unit_test(test_tenants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
