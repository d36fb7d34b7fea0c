/*
 * auth/quota: how much each user sends: messages and recipients, by the hour and by the day. Pure:
 * `now` is an argument. One thread at a time.
 *
 * Each count slides: what the current window has, and of the one before as much as still lies
 * within a window's length of now, taken as evenly spread. So nothing is stored for each message,
 * and there is no moment at which a user may send twice as much. The table is bounded: the user
 * longest untouched is dropped. Nothing outlives the process.
 */
#ifndef TRAM_AUTH_QUOTA_H
#define TRAM_AUTH_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mta/base/span.h"

enum quota_kind {
	QUOTA_MESSAGES_HOUR,
	QUOTA_MESSAGES_DAY,
	QUOTA_RECIPIENTS_HOUR,
	QUOTA_RECIPIENTS_DAY,
	QUOTA_KINDS
};

struct quota_limits {
	uint64_t most[QUOTA_KINDS];		/* 0: no limit */
};

struct quota_verdict {
	uint64_t messages, recipients;		/* that are left; UINT64_MAX: any number */
	uint64_t count[QUOTA_KINDS];		/* now */
	/* sets of kinds (1u << kind), to be told: each once in its window */
	unsigned near, exceeded;
};

struct quota;

struct quota *quota_new(size_t max_users, uint64_t seed);	/* 0: 100,000 */
void quota_free(struct quota *quota);				/* NULL is fine */

bool quota_any(const struct quota_limits *limits);		/* is there a limit at all? */
const char *quota_name(enum quota_kind kind);			/* its directive */

/* Before a message: what is left. user: case makes no difference. */
struct quota_verdict quota_ask(struct quota *quota, const struct quota_limits *limits,
			       struct span user, int64_t now_ms);
/* What quota_ask() would count now, for who only looks: nothing is noted, nothing is to be told. */
struct quota_verdict quota_look(struct quota *quota, const struct quota_limits *limits,
				struct span user, int64_t now_ms);
/*
 * The message is here. Counted, and true, if all of it is within the limits. more: recipients were
 * refused already for what the last answer said.
 */
bool quota_charge(struct quota *quota, const struct quota_limits *limits, struct span user,
		  uint64_t recipients, bool more, int64_t now_ms, struct quota_verdict *verdict);

#endif
