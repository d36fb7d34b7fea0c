/*
 * facts_fetch: over a real resolver and a name server on loopback: all needs at once, failures as
 * facts, the grace for one of two addresses, cancelling.
 */
#include "dns_fixture.h"

#include "policy/dane.h"
#include "dns/facts_fetch.h"

static struct arena arena;
static struct facts facts;
static unsigned ended;

static void
on_done(void *arg)
{
	(void)arg;
	ended++;
}

static void
need(struct facts_needs *needs, const char *name, enum dns_type type)
{
	needs->need[needs->count++] = (struct facts_need){ span_str(name), type };
}

struct setting {
	struct dns_server *server;
	struct test_loop loop;
};

static int
setup(void **state)
{
	struct setting *s = calloc(1, sizeof(*s));
	struct dns_config config;

	s->server = server_start();
	config = config_for(s->server);
	config.grace_ms = 50;
	loop_open(&s->loop, &config);
	facts = (struct facts){ .arena = &arena };
	ended = 0;
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct setting *s = *state;

	loop_close(&s->loop);
	server_stop(s->server);
	free(s);
	arena_free(&arena);
	return 0;
}

static enum dns_outcome
outcome_of(const char *name, enum dns_type type)
{
	const struct dns_answer *answer = facts_find(&facts, span_str(name), type);

	assert_non_null(answer);
	return answer->outcome;
}

static void
test_all(void **state)
{
	struct setting *s = *state;
	struct facts_needs needs = { 0 };

	need(&needs, "a.test", DNS_A);
	need(&needs, "a.test", DNS_AAAA);
	need(&needs, "servfail.test", DNS_TLSA);
	need(&needs, "nx.test", DNS_TXT);
	need(&needs, "not..a.name", DNS_A);
	facts_fetch(s->loop.resolver, &facts, &needs, on_done, NULL);
	assert_int_equal(ended, 0);
	loop_run(&s->loop, &ended, 1);
	assert_int_equal(facts.count, 5);
	assert_int_equal(outcome_of("a.test", DNS_A), DNS_FOUND);
	assert_true(facts_find(&facts, SPAN("a.test"), DNS_AAAA)->authenticated);
	assert_int_equal(outcome_of("servfail.test", DNS_TLSA), DNS_TEMPORARY);
	assert_int_equal(outcome_of("nx.test", DNS_TXT), DNS_NXDOMAIN);
	assert_int_equal(outcome_of("not..a.name", DNS_A), DNS_BAD_NAME);
}

/* One of two addresses never comes: it counts as failed after the grace, not after the time-out. */
static void
test_grace(void **state)
{
	struct setting *s = *state;
	struct facts_needs needs = { 0 };

	need(&needs, "deaf6.test", DNS_A);
	need(&needs, "deaf6.test", DNS_AAAA);
	need(&needs, "deaf4.test", DNS_AAAA);
	need(&needs, "deaf4.test", DNS_A);
	facts_fetch(s->loop.resolver, &facts, &needs, on_done, NULL);
	loop_run(&s->loop, &ended, 1);
	assert_int_equal(outcome_of("deaf6.test", DNS_A), DNS_FOUND);
	assert_int_equal(outcome_of("deaf6.test", DNS_AAAA), DNS_TEMPORARY);
	assert_true(span_eq(facts_find(&facts, SPAN("deaf6.test"), DNS_AAAA)->text,
			    SPAN("no answer yet")));
	assert_int_equal(outcome_of("deaf4.test", DNS_A), DNS_TEMPORARY);
}

static void
test_cancel(void **state)
{
	struct setting *s = *state;
	struct facts_needs needs = { 0 };
	struct facts_fetch *fetch;

	facts_fetch_cancel(NULL);
	need(&needs, "silent.test", DNS_TXT);
	need(&needs, "a.test", DNS_A);
	fetch = facts_fetch(s->loop.resolver, &facts, &needs, on_done, NULL);
	needs.need[0] = needs.need[1];
	needs.count = 1;
	while (facts_find(&facts, SPAN("a.test"), DNS_A) == NULL)
		loop_turn(&s->loop, 100);
	facts_fetch_cancel(fetch);
	assert_int_equal(ended, 0);
}

/* The whole circle: judge, fetch, judge. */
static void
test_dane(void **state)
{
	struct setting *s = *state;
	struct dane_question question = { DANE_BY_MX, SPAN("mx.test"), 25, SPAN("dom.test"),
					  SPAN("") };
	struct dane_verdict verdict;
	unsigned rounds = 0;

	for (;;) {
		dane_judge(&question, &facts, &verdict);
		if (verdict.outcome != DANE_NEEDS)
			break;
		facts_fetch(s->loop.resolver, &facts, &verdict.needs, on_done, NULL);
		loop_run(&s->loop, &ended, ++rounds);
	}
	assert_int_equal(rounds, 2);
	assert_int_equal(verdict.outcome, DANE_NONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_grace, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dane, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
