/* resolver_test: see resolver_test.h. RFC 4035 §4.9.3, RFC 6840 §5.7, RFC 7672 §2.1. */
#include "policy/resolver_test.h"

#include <assert.h>
#include <stdio.h>

enum { RCODE_SERVFAIL = 2, GOOD = 0, BAD = 1 };

void
resolver_test_init(struct resolver_test *test, struct resolver_test_name good,
		   struct resolver_test_name bad, int64_t now_ms)
{
	assert(good.name.len > 0);
	*test = (struct resolver_test){
		.good = good,
		.bad = bad,
		.trust = RESOLVER_UNTESTED,
		.next_ms = now_ms,
		.since_ms = now_ms,
		.text = "the resolver has not been tested yet",
	};
}

bool
resolver_test_start(struct resolver_test *test, int64_t now_ms, struct facts_needs *ret)
{
	if (test->asking || now_ms < test->next_ms)
		return false;
	*ret = (struct facts_needs){ .count = 1 };
	ret->need[GOOD] = (struct facts_need){ test->good.name, test->good.type };
	if (test->bad.name.len > 0)
		ret->need[ret->count++] = (struct facts_need){ test->bad.name, test->bad.type };
	test->asking = true;
	test->good_answered = false;
	test->bad_answered = test->bad.name.len == 0;
	test->good_finding = FINDING_NOTHING;
	test->bad_finding = test->bad_answered ? FINDING_RIGHT : FINDING_NOTHING;
	return true;
}

/* A signed "there is no such record" is as good. */
static enum resolver_finding
judge_good(const struct dns_answer *answer)
{
	switch (answer->outcome) {
	case DNS_FOUND:
	case DNS_NODATA:
	case DNS_NXDOMAIN: return answer->authenticated ? FINDING_RIGHT : FINDING_WRONG;
	case DNS_TEMPORARY:
	case DNS_BAD_NAME: break;
	}
	return FINDING_NOTHING;
}

static enum resolver_finding
judge_bad(const struct dns_answer *answer)
{
	switch (answer->outcome) {
	case DNS_FOUND:
	case DNS_NODATA:
	case DNS_NXDOMAIN: return FINDING_WRONG;
	case DNS_TEMPORARY:
		return answer->rcode == RCODE_SERVFAIL ? FINDING_RIGHT : FINDING_NOTHING;
	case DNS_BAD_NAME: break;
	}
	return FINDING_NOTHING;
}

static void
say(struct resolver_test *test, const char *what, struct span name)
{
	snprintf(test->text, sizeof(test->text), "%s%.*s", what, SPAN_FMT(name));
}

/* Both are answered: what they show, or the present state if that is nothing. */
static enum resolver_trust
conclude(struct resolver_test *test)
{
	if (test->good_finding == FINDING_WRONG) {
		say(test, "the resolver does not validate DNSSEC: no AD for the signed name ",
		    test->good.name);
		return RESOLVER_FAILS;
	}
	if (test->bad_finding == FINDING_WRONG) {
		say(test, "the resolver does not validate DNSSEC: it answers for the bogus name ",
		    test->bad.name);
		return RESOLVER_FAILS;
	}
	if (test->good_finding == FINDING_NOTHING) {
		say(test, "the resolver could not be tested: no answer for the signed name ",
		    test->good.name);
		return test->trust;
	}
	if (test->bad_finding == FINDING_NOTHING) {
		say(test, "the resolver could not be tested: no answer for the bogus name ",
		    test->bad.name);
		return test->trust;
	}
	say(test, "the resolver validates DNSSEC: AD for ", test->good.name);
	return RESOLVER_VALIDATES;
}

static void
finish(struct resolver_test *test, int64_t now_ms)
{
	bool sure = test->good_finding == FINDING_RIGHT && test->bad_finding == FINDING_RIGHT;

	test->asking = false;
	test->next_ms = now_ms + (sure ? RESOLVER_TEST_AGAIN_MS : RESOLVER_TEST_RETRY_MS);
}

bool
resolver_test_answer(struct resolver_test *test, size_t which, const struct dns_answer *answer,
		     int64_t now_ms)
{
	enum resolver_trust trust;

	assert(test->asking && which <= BAD);
	if (which == GOOD) {
		test->good_finding = judge_good(answer);
		test->good_answered = true;
	} else {
		test->bad_finding = judge_bad(answer);
		test->bad_answered = true;
	}
	if (!test->good_answered || !test->bad_answered)
		return false;
	trust = conclude(test);
	finish(test, now_ms);
	if (trust == test->trust)
		return false;
	test->trust = trust;
	test->since_ms = now_ms;
	return true;
}

void
resolver_test_hurry(struct resolver_test *test, int64_t now_ms)
{
	if (now_ms < test->next_ms)
		test->next_ms = now_ms;
}

const char *
resolver_trust_text(enum resolver_trust trust)
{
	switch (trust) {
	case RESOLVER_UNTESTED: return "untested";
	case RESOLVER_VALIDATES: return "validates";
	case RESOLVER_FAILS: return "does not validate";
	}
	return "?";
}
