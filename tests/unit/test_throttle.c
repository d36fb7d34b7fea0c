/* test_throttle: delays, bans, decay, bounds; and that guessing locks nobody out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "mta/auth/throttle.h"

enum { SEED = 42, MINUTE = 60000, HOUR = 3600000 };

static struct netaddr
addr(const char *text)
{
	struct netaddr a;

	assert_true(netaddr_parse(span_str(text), 1234, &a));
	return a;
}

static struct throttle_verdict
fail_once(struct throttle *t, const char *from, const char *user, const char *password, int64_t now)
{
	struct netaddr a = addr(from);
	uint64_t guess = throttle_guess(SEED, span_str(user), span_str(password));

	return throttle_failed(t, &a, span_str(user), guess, now);
}

static struct throttle_verdict
look(const struct throttle *t, const char *from, const char *user, int64_t now)
{
	struct netaddr a = addr(from);

	return throttle_ask(t, &a, span_str(user), now);
}

static void
succeed(struct throttle *t, const char *from, const char *user, int64_t now)
{
	struct netaddr a = addr(from);

	throttle_succeeded(t, &a, span_str(user), now);
}

static void
test_delays(void **state)
{
	static const int64_t delays[] = { 0, 0, 0, 1000, 2000, 4000, 8000, 15000, 15000, 15000 };
	struct throttle *t = throttle_new(&(struct throttle_config){ 0 }, SEED);
	char password[16];

	(void)state;
	for (int i = 0; i < 10; i++) {
		snprintf(password, sizeof(password), "%d", i);
		assert_int_equal(fail_once(t, "192.0.2.1", "anna", password, 1000).delay_ms,
				 delays[i]);
	}
	assert_int_equal(look(t, "192.0.2.1", "", 1000).delay_ms, 15000);
	assert_int_equal(look(t, "192.0.2.1", "", 1000).address_failures, 10);
	assert_int_equal(look(t, "192.0.2.2", "bert", 1000).delay_ms, 0);
	/* as anna, whoever it is waits */
	assert_int_equal(look(t, "192.0.2.2", "ANNA", 1000).delay_ms, 15000);
	assert_int_equal(look(t, "192.0.2.2", "", 1000).delay_ms, 0);
	/* half in a quarter of an hour, all of it some time */
	assert_int_equal(look(t, "192.0.2.1", "", 1000 + 15 * MINUTE).address_failures, 5);
	assert_int_equal(look(t, "192.0.2.1", "anna", 1000 + 3 * HOUR).delay_ms, 0);
	/* the clock went back: nothing grows */
	assert_int_equal(look(t, "192.0.2.1", "", 0).address_failures, 10);
	throttle_free(t);
}

static void
count(void *arg, const struct netaddr *address, int64_t until_ms)
{
	(void)address;
	assert_true(until_ms > 0);
	(*(int *)arg)++;
}

static void
test_ban(void **state)
{
	struct throttle *t = throttle_new(&(struct throttle_config){ .ban_after = 5 }, SEED);
	struct throttle_verdict v = { 0 };
	struct netaddr a = addr("2001:db8::1");
	char user[16];
	int banned = 0;

	(void)state;
	for (int i = 0; i < 5; i++) {
		assert_false(v.ban_begins);
		snprintf(user, sizeof(user), "user%d", i);
		v = fail_once(t, "2001:db8::1", user, "pw", 1000);
	}
	assert_true(v.ban_begins);
	assert_int_equal(v.banned_until_ms, 1000 + HOUR);
	/* its /64 */
	assert_int_equal(look(t, "2001:db8:0:0:ffff::9", "", 2000).banned_until_ms, 1000 + HOUR);
	assert_int_equal(look(t, "2001:db8:0:1::1", "", 2000).banned_until_ms, 0);
	v = fail_once(t, "2001:db8::1", "x", "pw", 2000);
	assert_false(v.ban_begins);
	assert_int_equal(v.banned_until_ms, 1000 + HOUR);
	throttle_banned(t, 2000, count, &banned);
	assert_int_equal(banned, 1);
	assert_int_equal(look(t, "2001:db8::1", "", 1000 + HOUR).banned_until_ms, 0);
	/* again: twice as long */
	for (int i = 0; i < 6 && !v.ban_begins; i++) {
		snprintf(user, sizeof(user), "other%d", i);
		v = fail_once(t, "2001:db8::1", user, "pw", 2000 + HOUR);
	}
	assert_int_equal(v.banned_until_ms, 2000 + HOUR + 2 * HOUR);
	assert_true(throttle_pardon(t, &a));
	assert_false(throttle_pardon(t, &a));
	assert_int_equal(look(t, "2001:db8::1", "", 3000 + HOUR).banned_until_ms, 0);
	throttle_free(t);
}

/* A device that has an old password tries the same one for ever. */
static void
test_same_guess(void **state)
{
	struct throttle *t = throttle_new(&(struct throttle_config){ 0 }, SEED);
	struct throttle_verdict v;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		v = fail_once(t, "192.0.2.1", i % 2 != 0 ? "anna" : "bert", "old", i * 10000);
		assert_false(v.ban_begins);
	}
	assert_int_equal(v.delay_ms, 15000);
	throttle_free(t);
}

static void
test_friends(void **state)
{
	struct throttle *t = throttle_new(&(struct throttle_config){ 0 }, SEED);
	char text[32];

	(void)state;
	succeed(t, "192.0.2.1", "anna", 0);
	succeed(t, "198.51.100.1", "anna", 0);
	/* from everywhere, as anna; and all of it from one office */
	for (int i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "203.0.113.%d", i);
		fail_once(t, text, "anna", text, 1000);
		snprintf(text, sizeof(text), "%d", i);
		fail_once(t, "198.51.100.1", "bert", text, 1000);
	}
	assert_int_equal(look(t, "192.0.2.1", "anna", 1000).delay_ms, 0);
	assert_int_equal(look(t, "192.0.2.1", "Anna", 1000).user_failures, 100);
	assert_int_equal(look(t, "192.0.2.9", "anna", 1000).delay_ms, 15000);
	assert_int_not_equal(look(t, "198.51.100.1", "bert", 1000).banned_until_ms, 0);
	assert_int_not_equal(look(t, "198.51.100.1", "", 1000).banned_until_ms, 0);
	assert_int_equal(look(t, "198.51.100.1", "anna", 1000).banned_until_ms, 0);
	assert_int_equal(look(t, "192.0.2.1", "anna", 40LL * 24 * HOUR).delay_ms, 0);
	throttle_free(t);
}

/* Behind one address: a guesser, anna, who logs in from there, and carl, who never has. */
static void
test_neighbours(void **state)
{
	struct throttle *t = throttle_new(&(struct throttle_config){ .ban_after = 10 }, SEED);
	struct netaddr a = addr("198.51.100.1");
	char text[32];

	(void)state;
	for (int i = 0; i < 20; i++) {
		snprintf(text, sizeof(text), "%d", i);
		fail_once(t, "198.51.100.1", text, "pw", 1000);
	}
	assert_true(throttle_turns_away(t, &a, 1000));
	succeed(t, "198.51.100.1", "anna", 1000);
	assert_false(throttle_turns_away(t, &a, 1000));
	assert_int_equal(look(t, "198.51.100.1", "anna", 1000).banned_until_ms, 0);
	assert_true(look(t, "198.51.100.1", "Anna", 1000).friendly);
	assert_int_not_equal(look(t, "198.51.100.1", "carl", 1000).banned_until_ms, 0);
	assert_true(look(t, "198.51.100.1", "carl", 1000).suspect);
	assert_false(look(t, "192.0.2.1", "carl", 1000).suspect);
	/* her own password, guessed there: for so long */
	for (int i = 0; i < 49; i++) {
		snprintf(text, sizeof(text), "%d", i);
		fail_once(t, "198.51.100.1", "anna", text, 1000);
		fail_once(t, "198.51.100.1", "anna", text, 1000);
	}
	assert_true(look(t, "198.51.100.1", "anna", 1000).friendly);
	fail_once(t, "198.51.100.1", "anna", "once more", 1000);
	assert_false(look(t, "198.51.100.1", "anna", 1000).friendly);
	assert_int_not_equal(look(t, "198.51.100.1", "anna", 1000).banned_until_ms, 0);
	assert_true(look(t, "198.51.100.1", "anna", 1000 + 15 * MINUTE).friendly);
	throttle_free(t);
}

/* A success buys no free guesses. */
static void
test_success_in_between(void **state)
{
	struct throttle *t = throttle_new(&(struct throttle_config){ 0 }, SEED);
	struct throttle_verdict v = { 0 };
	char text[32];
	int tries = 0;

	(void)state;
	while (!v.ban_begins && tries < 100) {
		snprintf(text, sizeof(text), "%d", tries++);
		v = fail_once(t, "192.0.2.1", "anna", text, 1000);
		succeed(t, "192.0.2.1", "mallory", 1000);
	}
	assert_int_equal(tries, 20);
	throttle_free(t);
}

static void
test_bounds(void **state)
{
	struct throttle *t = throttle_new(&(struct throttle_config){ .max_addresses = 1000,
								     .max_users = 1000,
								     .max_friends = 10 },
					  SEED);
	struct netaddr a = addr("10.0.0.0");
	size_t full = 0;
	char user[32];

	(void)state;
	for (int i = 0; i < 100000; i++) {
		a.ip[1] = (uint8_t)(i >> 16);
		a.ip[2] = (uint8_t)(i >> 8);
		a.ip[3] = (uint8_t)i;
		snprintf(user, sizeof(user), "user%d", i);
		throttle_failed(t, &a, span_str(user), 0, i);
		throttle_succeeded(t, &a, span_str(user), i);
		if (i == 5000)
			full = throttle_memory(t);
	}
	assert_true(full > 0 && throttle_memory(t) <= full);
	assert_int_equal(throttle_ask(t, &a, SPAN(""), 100000).address_failures, 1);
	assert_int_equal(look(t, "192.0.2.1", "anna", 100000).delay_ms, 0);
	throttle_configure(t, &(struct throttle_config){ .max_addresses = 10, .never_ban = true });
	assert_true(throttle_memory(t) < full);
	assert_int_not_equal(throttle_guess(1, SPAN("a"), SPAN("b")),
			     throttle_guess(1, SPAN("a"), SPAN("c")));
	assert_int_equal(throttle_guess(1, SPAN("a"), SPAN("b")),
			 throttle_guess(1, SPAN("A"), SPAN("b")));
	throttle_free(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delays), cmocka_unit_test(test_ban),
		cmocka_unit_test(test_same_guess),
		cmocka_unit_test(test_friends), cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_success_in_between), cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
