/*
 * Sources and pools: shares by weight, the same source for the same recipient, what moves when a
 * pool changes, who chooses a pool, the plan of a warm-up, days, words, records.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "policy/source.h"

enum { RECIPIENTS = 60000 };

static struct source three[] = {
	{ .name = { "a", 1 } },
	{ .name = { "b", 1 } },
	{ .name = { "c", 1 } },
};

static struct span
recipient(unsigned i, char room[32])
{
	return span_of(room, (size_t)snprintf(room, 32, "user%u@example.org", i));
}

static size_t
first_of(const struct sources *all, const struct pool *pool, unsigned i)
{
	size_t order[POOL_SOURCES_MAX];
	char room[32];

	pool_order(all, pool, pool_key(recipient(i, room)), order);
	return pool->members[order[0]].source;
}

static struct pool
make_pool(const uint64_t weights[3])
{
	struct pool pool = { .name = SPAN("p") };

	for (size_t i = 0; i < 3; i++)
		if (weights[i] > 0)
			pool.members[pool.member_count++] = (struct pool_member){ i, weights[i] };
	return pool;
}

/*
 * Within five standard deviations of what the weight says, and none of them is twice in an order.
 */
static void
shares_are_by_weight(void **state)
{
	static const uint64_t weights[] = { 1, 3, 6 };
	const struct sources all = { .sources = three, .source_count = 3 };
	struct pool pool = make_pool(weights);
	size_t counts[3] = { 0 }, order[POOL_SOURCES_MAX];

	(void)state;
	for (unsigned i = 0; i < RECIPIENTS; i++)
		counts[first_of(&all, &pool, i)]++;
	for (size_t i = 0; i < 3; i++) {
		double share = (double)weights[i] / 10, wanted = share * RECIPIENTS;
		double off = ((double)counts[i] - wanted) * ((double)counts[i] - wanted);

		assert_true(off < 25 * wanted * (1 - share));
	}
	pool_order(&all, &pool, 7, order);
	assert_int_equal(order[0] + order[1] + order[2], 3);
	assert_true(order[0] != order[1] && order[1] != order[2]);
}

/*
 * The second in order of one pool is the first of the pool without the first one: so only its share
 * moves.
 */
static void
only_its_share_moves(void **state)
{
	static const uint64_t before[] = { 1, 1, 1 }, after[] = { 1, 1, 0 }, other[] = { 1, 1, 2 };
	const struct sources all = { .sources = three, .source_count = 3 };
	struct pool whole = make_pool(before), less = make_pool(after), heavier = make_pool(other);
	size_t moved = 0;

	(void)state;
	for (unsigned i = 0; i < RECIPIENTS; i++) {
		size_t was = first_of(&all, &whole, i), is = first_of(&all, &less, i);

		assert_true(was == 2 || was == is);
		assert_int_equal(was, first_of(&all, &whole, i));	/* sticky */
		is = first_of(&all, &heavier, i);
		assert_true(was == is || is == 2);
		moved += was != is;
	}
	assert_true(moved > RECIPIENTS / 10 && moved < RECIPIENTS / 4);	/* 1/3 → 1/2 */
}

static void
who_chooses(void **state)
{
	static struct span news[] = { { "*.shop.example", 14 } }, sub[] = { { "a@x.shop.example",
									      16 } },
			   tenants[] = { { "anna", 4 } };
	struct pool pools[] = {
		{ .name = { "below", 5 }, .senders = news, .sender_count = 1 },
		{ .name = { "one", 3 }, .senders = sub, .sender_count = 1 },
		{ .name = { "anna", 4 }, .tenants = tenants, .tenant_count = 1 },
	};
	const struct sources all = { .pools = pools, .pool_count = 3 };
	struct pool_facts facts = { .header = SPAN("anna"), .route = SPAN("one"),
				    .sender = SPAN("b@x.shop.example"), .tenant = SPAN("ANNA") };

	(void)state;
	assert_ptr_equal(pool_choose(&all, &facts), &pools[2]);
	facts.header = SPAN("nothing");
	assert_ptr_equal(pool_choose(&all, &facts), &pools[1]);
	facts.route = SPAN("gone");
	assert_ptr_equal(pool_choose(&all, &facts), &pools[0]);
	facts.sender = SPAN("a@x.shop.example");
	assert_ptr_equal(pool_choose(&all, &facts), &pools[1]);
	facts.sender = SPAN("");
	assert_ptr_equal(pool_choose(&all, &facts), &pools[2]);
	facts.tenant = SPAN("");
	assert_null(pool_choose(&all, &facts));
	assert_int_equal(pool_chosen(&all, &facts).len, 0);
}

static void
plans(void **state)
{
	uint64_t plan[] = { 50, 100, 100 };
	struct source source = { .start_day = 100, .plan = plan, .plan_count = 3 }, old = { 0 };

	(void)state;
	assert_int_equal(source_ceiling(&source, 99), 0);
	assert_int_equal(source_ceiling(&source, 100), 50);
	assert_int_equal(source_ceiling(&source, 102), 100);
	assert_int_equal(source_ceiling(&source, 103), SOURCE_NO_CEILING);
	assert_true(source_is_warming(&source, 99) && source_is_warming(&source, 102));
	assert_false(source_is_warming(&source, 103));
	assert_false(source_is_warming(&old, 0));
	assert_int_equal(source_ceiling(&old, 0), SOURCE_NO_CEILING);
}

static void
days_are_read(void **state)
{
	static const char *const bad[] = { "", "2026-02-29", "2100-02-29", "2026-13-01",
					   "2026-00-10", "2026-01-00",
					   "2026-04-31", "26-01-01", "2026/01/01", "2026-1-1",
					   "2026-01-01 ", "1969-12-31" };
	int64_t day = -1;

	(void)state;
	assert_true(source_day_read(SPAN("1970-01-01"), &day));
	assert_int_equal(day, 0);
	assert_true(source_day_read(SPAN("2000-02-29"), &day));
	assert_int_equal(day, 11016);
	assert_true(source_day_read(SPAN("2026-11-21"), &day));
	assert_int_equal(day, 20778);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(source_day_read(span_str(bad[i]), &day));
}

static void
words_are_read(void **state)
{
	static const char *const bad[] = { "", "=3", "a=", "a=0", "a=1001", "a=x", "a=-1",
					   "a=3=4" };
	const char *error = NULL;
	struct span name;
	uint64_t weight;

	(void)state;
	assert_true(pool_word_read(SPAN("a"), &name, &weight, &error));
	assert_int_equal(weight, 1);
	assert_true(pool_word_read(SPAN("b.1=1000"), &name, &weight, &error));
	assert_true(span_eq(name, SPAN("b.1")));
	assert_int_equal(weight, 1000);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		error = NULL;
		assert_false(pool_word_read(span_str(bad[i]), &name, &weight, &error));
		assert_non_null(error);
	}
}

/* Connections of a source that has changed are not those of what it is now. */
static void
marks(void **state)
{
	struct netaddr four = { .family = AF_INET,
				.ip = { 127, 0, 0, 2 } }, six = { .family = AF_INET6,
								  .ip = { [15] = 1 } };
	struct netaddr both[] = { four, six };
	struct source a = { .name = SPAN("a"), .addresses = both, .address_count = 1,
			    .ehlo_name = SPAN("x") }, b = a;

	(void)state;
	source_set_mark(&a);
	b.address_count = 2;
	source_set_mark(&b);
	assert_true(a.mark != 0 && a.mark != b.mark);
	assert_null(source_address(&a, AF_INET6));
	assert_ptr_equal(source_address(&b, AF_INET6), &both[1]);
	b = a;
	b.ehlo_name = SPAN("y");
	source_set_mark(&b);
	assert_true(a.mark != b.mark);
}

static void
records(void **state)
{
	struct buf out = { 0 };
	int64_t day;
	uint64_t sent;

	(void)state;
	source_day_encode(20778, 12345, &out);
	assert_int_equal(source_day_decode(buf_span(&out), &day, &sent), 0);
	assert_int_equal(day, 20778);
	assert_int_equal(sent, 12345);
	for (size_t i = 0; i < buf_len(&out); i++) {
		struct span part = span_first(buf_span(&out), i);

		assert_true(source_day_decode(part, &day, &sent) < 0);
		out.at[i] ^= 1;
		assert_true(source_day_decode(buf_span(&out), &day, &sent) < 0);
		out.at[i] ^= 1;
	}
	buf_free(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_are_by_weight), cmocka_unit_test(only_its_share_moves),
		cmocka_unit_test(who_chooses),		cmocka_unit_test(plans),
		cmocka_unit_test(days_are_read),	cmocka_unit_test(words_are_read),
		cmocka_unit_test(marks),		cmocka_unit_test(records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
