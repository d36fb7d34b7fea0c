/*
 * resolver_test: does the resolver validate DNSSEC? Shown by two names: a signed one must come
 * with AD, a bogus one must be refused with SERVFAIL. Repeated. A state machine without I/O: the
 * caller asks the names and hands in the answers. One thread at a time.
 *
 * Only what an answer shows changes the state: a time-out proves nothing either way, so that
 * nobody turns DANE off by dropping packets.
 */
#ifndef TRAM_POLICY_RESOLVER_TEST_H
#define TRAM_POLICY_RESOLVER_TEST_H

#include "dns/facts.h"

enum resolver_trust {
	RESOLVER_UNTESTED,		/* no test has come to an end yet: as if it failed */
	RESOLVER_VALIDATES,
	RESOLVER_FAILS,
};

enum {
	RESOLVER_TEST_AGAIN_MS = 60 * 60 * 1000,	/* while it validates */
	RESOLVER_TEST_RETRY_MS = 60 * 1000,		/* while it does not, or is silent */
	RESOLVER_TEST_TEXT_MAX = 320,
};

struct resolver_test_name {
	struct span name;
	enum dns_type type;
};

struct resolver_test {
	struct resolver_test_name good, bad;	/* bad.name may be empty: not tested */
	enum resolver_trust trust;
	int64_t next_ms;		/* monotonic: when the next test is due */
	int64_t since_ms;		/* of the present state */
	bool asking;
	bool good_answered, bad_answered;
	enum resolver_finding {
		FINDING_NOTHING,	/* time-out, no server … */
		FINDING_RIGHT,
		FINDING_WRONG,
	} good_finding, bad_finding;
	char text[RESOLVER_TEST_TEXT_MAX];	/* what the last test found, one line */
};

/* The names must outlive it. The first test is due at once. */
void resolver_test_init(struct resolver_test *test, struct resolver_test_name good,
			struct resolver_test_name bad, int64_t now_ms);

/* True: a test begins; ask these names, and hand in every answer. False: not due, or under way. */
bool resolver_test_start(struct resolver_test *test, int64_t now_ms, struct facts_needs *ret);

/*
 * An answer to needs[which]. True: trust has changed: log text, wake the routes that waited.
 */
bool resolver_test_answer(struct resolver_test *test, size_t which,
			  const struct dns_answer *answer, int64_t now_ms);

/* A shorter wait, for a reload or an operator who asks. */
void resolver_test_hurry(struct resolver_test *test, int64_t now_ms);

const char *resolver_trust_text(enum resolver_trust trust);	/* "validates" */

#endif
