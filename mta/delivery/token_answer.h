/*
 * token_answer: what a token command printed → an access token, and how long it is good. Pure.
 */
#ifndef TRAM_TOKEN_ANSWER_H
#define TRAM_TOKEN_ANSWER_H

#include "mta/base/buf.h"

struct token_answer {
	struct buf token;		/* the caller's to wipe and free */
	int64_t lifetime_ms;		/* from now; -1: it does not say */
};

/*
 * The first line, or, if it begins with a brace, all of it as JSON with access_token and perhaps
 * expires_in (seconds, as a number or in quotes). NULL: it is good; else what is wrong with it, and
 * ret has no token.
 */
const char *token_answer_read(struct span printed, struct token_answer *ret);

#endif
