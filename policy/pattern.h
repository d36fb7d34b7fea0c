/*
 * pattern: a regular expression of the operator's on text of a peer's. Pure; any thread.
 *
 * Compiled once and never changed, so that several threads may match with one. It backtracks, and
 * the text comes from outside: match, depth and heap have limits, all expressions that one work
 * tries have one together (some tens of ms), and the text has a greatest length; what would cost
 * more is PATTERN_TOO_MUCH, which is no match.
 */
#ifndef TRAM_POLICY_PATTERN_H
#define TRAM_POLICY_PATTERN_H

#include "mta/base/buf.h"
#include "mta/base/span.h"

enum {
	PATTERN_MAX = 500,		/* octets of an expression */
	PATTERN_TEXT_MAX = 500,		/* of the text; the rest is not looked at */
	PATTERN_STEPS = 2000,		/* of the matcher, from each place in the text */
	PATTERN_WORK_STEPS = 500000,	/* of one work, with all expressions together */
};

struct pattern;
struct pattern_work;			/* what matching needs; one thread at a time */

enum pattern_result { PATTERN_NO, PATTERN_YES, PATTERN_TOO_MUCH };

/* Letters match in both cases. NULL: error has what is wrong with it, as words. */
struct pattern *pattern_new(struct span text, struct buf *error);
void pattern_free(struct pattern *pattern);			/* NULL is fine */

struct pattern_work *pattern_work_new(void);
void pattern_work_free(struct pattern_work *work);

/* Anywhere in the text. */
enum pattern_result pattern_match(const struct pattern *pattern, struct pattern_work *work,
				  struct span text);

#endif
