/*
 * shape: buckets and windows are never exceeded, and the next moment is exact; who is meant; the
 * record.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "policy/shape.h"

enum { SECOND = 1000, MINUTE = 60000, HOUR = 60 * MINUTE };
static const int64_t start = INT64_C(1795271234567);
static uint64_t seed;

static uint64_t
any(uint64_t below)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (seed >> 33) % below;
}

static int64_t
next_after(const struct shape *shape, struct shape_counts *counts, int64_t now)
{
	struct shape_hold hold;
	int64_t at = shape_next_send(shape, counts, now, 0);

	assert_true(at > now);
	assert_false(shape_may_send(shape, counts, at - 1, &hold));
	assert_true(shape_may_send(shape, counts, at, &hold));
	return at;
}

struct sent { int64_t at; uint64_t n; };

/* Sends at random moments whenever it may; the most within any `within` (half open). */
static uint64_t
busiest(const struct shape *shape, size_t rounds, int64_t within, bool of_recipients,
	uint64_t mean_wait)
{
	struct sent *all = calloc(rounds, sizeof(*all));
	struct shape_counts counts = { 0 };
	uint64_t most = 0, sum = 0;
	int64_t now = start;
	size_t n = 0, first = 0;

	for (size_t i = 0; i < rounds; i++) {
		struct shape_hold hold;

		now += (int64_t)any(mean_wait);
		if (!shape_may_send(shape, &counts, now, &hold)) {
			int64_t at = next_after(shape, &counts, now);

			assert_true(hold.until_ms == at);
			if (any(2))
				now = at;
			continue;
		}
		assert_true(shape_sends(shape, &counts, now) >= 1);
		all[n].at = now;
		all[n].n = 1;
		if (of_recipients) {
			size_t room = shape_recipients(shape, &counts, now);

			assert_true(room > 0);
			all[n].n = 1 + any(room < 5 ? room : 5);
		}
		shape_send(shape, &counts, now, all[n++].n);
	}
	for (size_t i = 0; i < n; i++) {
		sum += all[i].n;
		while (all[first].at <= all[i].at - within)
			sum -= all[first++].n;
		most = sum > most ? sum : most;
	}
	shape_counts_free(&counts);
	free(all);
	return most;
}

static void
buckets_are_never_exceeded(void **state)
{
	(void)state;
	for (seed = 1; seed < 40; seed++) {
		uint64_t save = seed, limit = 1 + any(200);
		struct shape shape = { .limits[SHAPE_MESSAGES_MINUTE] = limit,
				       .burst = any(limit / 2 + 1) };

		shape_settle(&shape);
		assert_true(busiest(&shape, 3000, MINUTE, false, 2 * MINUTE / limit) <= limit);
		shape = (struct shape){ .limits[SHAPE_MESSAGES_SECOND] = limit * 20 };
		assert_true(busiest(&shape, 3000, SECOND, false, 3) <= limit * 20);
		seed = save;
	}
}

static void
a_flow_gets_all_of_its_rate(void **state)
{
	struct shape shape = { .limits[SHAPE_MESSAGES_MINUTE] = 7 };
	struct shape_counts counts = { 0 };
	struct shape_hold hold;
	int64_t now = start;
	size_t sent = 0;

	(void)state;
	for (; now < start + HOUR; now++)
		if (shape_may_send(&shape, &counts, now, &hold)) {
			shape_send(&shape, &counts, now, 1);
			sent++;
		}
	assert_int_equal(sent, 7 * 60);		/* not one is lost to rounding */
}

static void
windows_are_never_exceeded(void **state)
{
	(void)state;
	for (seed = 100; seed < 120; seed++) {
		uint64_t save = seed, limit = 1 + any(300);
		struct shape shape = { .limits[SHAPE_MESSAGES_HOUR] = limit };

		assert_true(busiest(&shape, 4000, HOUR, false, 2 * HOUR / limit) <= limit);
		shape = (struct shape){ .limits[SHAPE_RECIPIENTS_DAY] = limit };
		assert_true(busiest(&shape, 4000, 24 * HOUR, true, 60 * HOUR / limit) <= limit);
		seed = save;
	}
}

static void
the_strictest_counts(void **state)
{
	struct shape shape = { .limits[SHAPE_MESSAGES_SECOND] = 10,
			       .limits[SHAPE_MESSAGES_HOUR] = 5 };
	struct shape_counts counts = { 0 };
	struct arena arena = { 0 };
	struct shape_hold hold;
	int64_t now = start;

	(void)state;
	for (int i = 0; i < 5; i++, now += SECOND) {
		assert_true(shape_may_send(&shape, &counts, now, &hold));
		shape_send(&shape, &counts, now, 1);
	}
	assert_false(shape_may_send(&shape, &counts, now, &hold));
	assert_int_equal(hold.limit, SHAPE_MESSAGES_HOUR);
	assert_int_equal(hold.used, 5);
	assert_true(hold.until_ms > start + HOUR && hold.until_ms <= start + HOUR + 2 * MINUTE);
	assert_true(span_eq(shape_hold_text(&hold, false, &arena),
			    SPAN("5 of 5 messages in the last hour")));
	shape_unsend(&shape, &counts, start, now, 1);
	assert_true(shape_may_send(&shape, &counts, now, &hold));
	arena_free(&arena);
	shape_counts_free(&counts);
}

static bool
may_send(const struct shape *shape, struct shape_counts *counts, int64_t now,
	 struct shape_hold *hold)
{
	bool may = shape_may_send(shape, counts, now, hold);

	if (may)
		shape_send(shape, counts, now, 1);
	return may;
}

/*
 * Four times as slow until the slow-down ends, then half of that; who waits asks again when it
 * changes.
 */
static void
slowed_down(void **state)
{
	struct shape hour = { .limits[SHAPE_MESSAGES_HOUR] = 8, .limits[SHAPE_MESSAGES_DAY] = 100 };
	struct shape minute = { .limits[SHAPE_MESSAGES_MINUTE] = 60 };
	struct shape_counts counts = { .slow = { 4, start + 10 * MINUTE, 20 * MINUTE } };
	struct arena arena = { 0 };
	struct shape_hold hold;

	(void)state;
	assert_int_equal(shape_limit_now(&hour, &counts, SHAPE_MESSAGES_HOUR, start), 2);
	assert_int_equal(shape_limit_now(&hour, &counts, SHAPE_MESSAGES_DAY, start), 100);
	assert_true(may_send(&hour, &counts, start, &hold) &&
		    may_send(&hour, &counts, start, &hold));
	assert_false(may_send(&hour, &counts, start, &hold));
	assert_int_equal(hold.until_ms, start + 10 * MINUTE);
	assert_int_equal(shape_next_send(&hour, &counts, start, 0), start + 10 * MINUTE);
	assert_true(span_eq(shape_hold_text(&hold, false, &arena),
			    SPAN("2 of 2 messages in the last hour (8, if it were not slowed down)")));
	assert_int_equal(shape_sends(&hour, &counts, start + 10 * MINUTE), 2);
	assert_int_equal(shape_sends(&hour, &counts, start + 15 * MINUTE), 6);
	assert_true(may_send(&hour, &counts, start + 15 * MINUTE, &hold));
	shape_counts_free(&counts);

	counts.slow = (struct slowdown){ 4, start + 10 * MINUTE, 20 * MINUTE };
	assert_true(may_send(&minute, &counts, start, &hold));
	assert_false(may_send(&minute, &counts, start + 3999, &hold));
	assert_int_equal(hold.until_ms, start + 4000);
	assert_true(may_send(&minute, &counts, start + 4000, &hold));
	arena_free(&arena);
}

static void
a_clock_set_back_costs_one_hour_at_most(void **state)
{
	struct shape shape = { .limits[SHAPE_MESSAGES_HOUR] = 3,
			       .limits[SHAPE_MESSAGES_MINUTE] = 60 };
	struct shape_counts counts = { 0 };
	struct shape_hold hold;
	int64_t now = start, back = start - 300 * HOUR, at;

	(void)state;
	for (int i = 0; i < 3; i++, now += 2 * SECOND)
		shape_send(&shape, &counts, now, 1);
	assert_false(shape_may_send(&shape, &counts, back, &hold));
	assert_true(hold.until_ms > back && hold.until_ms <= back + HOUR + 2 * MINUTE);
	/* and then it is over */
	assert_true(shape_may_send(&shape, &counts, back + HOUR + 2 * MINUTE, &hold));
	shape.limits[SHAPE_MESSAGES_HOUR] = 4;
	shape_send(&shape, &counts, back, 1);
	at = shape_next_send(&shape, &counts, back + SECOND, 0);
	assert_true(at > back && at <= back + HOUR + 2 * MINUTE);
	assert_true(shape_may_send(&shape, &counts, at, &hold));
	shape_counts_free(&counts);
}

static void
connections_at_once_and_anew(void **state)
{
	struct shape shape = { .limits[SHAPE_CONNECTIONS] = 2, .limits[SHAPE_NEW_CONNECTIONS] = 6 };
	struct shape_counts counts = { .open = 2 };
	struct shape_hold hold;

	(void)state;
	assert_false(shape_may_connect(&shape, &counts, start, &hold));
	assert_int_equal(hold.limit, SHAPE_CONNECTIONS);
	assert_true(hold.until_ms == INT64_MAX);
	counts.open = 0;
	assert_true(shape_may_connect(&shape, &counts, start, &hold));
	shape_connect(&shape, &counts, start);
	assert_false(shape_may_connect(&shape, &counts, start + 9999, &hold));
	assert_true(hold.until_ms == start + 10000);
	assert_true(shape_may_connect(&shape, &counts, start + 10000, &hold));
}

static void
the_record_is_what_was_counted(void **state)
{
	struct shape shape = { .limits[SHAPE_MESSAGES_HOUR] = 1000,
			       .limits[SHAPE_RECIPIENTS_DAY] = 100000 };
	struct shape_counts counts = { 0 }, read = { 0 };
	struct buf out = { 0 };
	int64_t now = start, until;

	(void)state;
	seed = 7;
	for (int i = 0; i < 500; i++, now += (int64_t)any(20 * SECOND))
		shape_send(&shape, &counts, now, 1 + any(50));
	assert_true(shape_counts_kept(&counts, now, &until));
	assert_true(until > now + 23 * HOUR && until <= now + 26 * HOUR);
	shape_counts_encode(&counts, now, &out);
	assert_true(shape_record_until(buf_span(&out)) == until);
	assert_true(shape_counts_decode(buf_span(&out), &read));
	for (int i = 0; i < 100; i++, now += 20 * MINUTE)
		for (int l = SHAPE_MESSAGES_HOUR; l <= SHAPE_RECIPIENTS_DAY; l++)
			assert_int_equal(shape_used(&shape, &counts, (enum shape_limit)l, now),
					 shape_used(&shape, &read, (enum shape_limit)l, now));
	assert_false(shape_counts_kept(&counts, start + 60 * HOUR, &until));
	for (size_t i = 0; i < buf_len(&out); i++) {	/* a damaged one says nothing */
		struct shape_counts none = { 0 };
		char *octet = out.at + out.start + i;

		*octet = (char)(*octet ^ 4);
		assert_false(shape_counts_decode(buf_span(&out), &none));
		assert_int_equal(shape_record_until(buf_span(&out)), 0);
		assert_null(none.windows[0]);
		*octet = (char)(*octet ^ 4);
	}
	buf_free(&out);
	shape_counts_free(&counts);
	shape_counts_free(&read);
}

/* Where no shape names the site; one that asks for more, or for any site, does not count. */
static void
the_others(void **state)
{
	struct span mx[] = { SPAN("*.google.com") }, google[] = { SPAN("google") },
		    any[] = { SPAN("*") };
	struct span host[] = { SPAN("*.example.net") }, tenants[] = { SPAN("shop") };
	struct provider provider = { .name = SPAN("google"), .mx = mx, .mx_count = 1 };
	struct shape list[] = {
		{ .sites = any, .site_count = 1, .others = true },
		{ .sites = google, .site_count = 1 },
		{ .hosts = host, .host_count = 1 },
		{ .sites = any, .site_count = 1 },
		{ .hosts = host, .host_count = 1, .tenants = tenants, .tenant_count = 1 },
	};
	struct shapes shapes = { .shapes = list, .count = 5, .providers = &provider,
				 .provider_count = 1 };

	(void)state;
	assert_false(shape_of_site(&shapes, &list[0], &provider, SPAN("mx.google.com")));
	assert_false(shape_of_site(&shapes, &list[0], NULL, SPAN("mx.example.net")));
	assert_true(shape_of_site(&shapes, &list[0], NULL, SPAN("mx.example.org")));
	assert_true(shape_of_site(&shapes, &list[1], &provider, SPAN("mx.google.com")));
	assert_true(shape_of_site(&shapes, &list[3], &provider, SPAN("mx.google.com")));
	list[2] = list[4];
	assert_true(shape_of_site(&shapes, &list[0], NULL, SPAN("mx.example.net")));
}

static void
who_is_meant(void **state)
{
	struct span google_mx[] = { SPAN("*.google.com"), SPAN("*.googlemail.com") },
		    pattern[] = { SPAN("*.example.net") };
	struct span sites[] = { SPAN("google") }, tenants[] = { SPAN("shop") },
		    domains[] = { SPAN("*.example.org") };
	struct provider provider = { .name = SPAN("google"), .mx = google_mx, .mx_count = 2 };
	struct shapes shapes = { .providers = &provider, .provider_count = 1 };
	struct shape shape = { .sites = sites, .site_count = 1, .tenants = tenants,
			       .tenant_count = 1, .domains = domains, .domain_count = 1 };

	(void)state;
	assert_ptr_equal(shape_provider(&shapes, SPAN("aspmx.l.google.com")), &provider);
	assert_null(shape_provider(&shapes, SPAN("google.com.example.net")));
	assert_true(shape_of_site(&shapes, &shape, &provider, SPAN("aspmx.l.google.com")));
	assert_false(shape_of_site(&shapes, &shape, NULL, SPAN("mx.example.net")));
	shape.sites = pattern;
	assert_true(shape_of_site(&shapes, &shape, NULL, SPAN("mx.example.net")));
	assert_true(shape_of_lane(&shape, SPAN("shop"), SPAN("a.example.org")));
	assert_false(shape_of_lane(&shape, SPAN(""), SPAN("a.example.org")));
	assert_false(shape_of_lane(&shape, SPAN("shop"), SPAN("example.com")));
	shape_settle(&shape);
	assert_int_equal(shape.per, SHAPE_SITE | SHAPE_TENANT | SHAPE_DOMAIN);
	assert_true(shape.of_lanes);
	assert_true(shape_patterns_meet(SPAN("*.a.example"), SPAN("x.a.example")));
	assert_true(shape_patterns_meet(SPAN("*.x.a.example"), SPAN("*.a.example")));
	assert_true(shape_patterns_meet(SPAN("a.example"), SPAN("*")));
	assert_false(shape_patterns_meet(SPAN("a.example"), SPAN("*.a.example")));
	assert_false(shape_patterns_meet(SPAN("*.b.example"), SPAN("*.a.example")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets_are_never_exceeded),
		cmocka_unit_test(a_flow_gets_all_of_its_rate),
		cmocka_unit_test(windows_are_never_exceeded),
		cmocka_unit_test(the_strictest_counts),
		cmocka_unit_test(slowed_down),
		cmocka_unit_test(a_clock_set_back_costs_one_hour_at_most),
		cmocka_unit_test(connections_at_once_and_anew),
		cmocka_unit_test(the_record_is_what_was_counted),
		cmocka_unit_test(who_is_meant),
		cmocka_unit_test(the_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
