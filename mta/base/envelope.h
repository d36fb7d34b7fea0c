/*
 * envelope: what MAIL and RCPT said (RFC 5321, 1870, 6152, 3030, 3461, 6531), as values.
 *
 * All spans live in the transaction's arena (inbound), or in the arena that a stored message was
 * read into.
 */
#ifndef TRAM_BASE_ENVELOPE_H
#define TRAM_BASE_ENVELOPE_H

#include "mta/base/span.h"

enum dsn_notify {			/* 0: NOTIFY was not given */
	NOTIFY_NEVER = 1,
	NOTIFY_SUCCESS = 2,
	NOTIFY_FAILURE = 4,
	NOTIFY_DELAY = 8,
};

enum dsn_ret { RET_UNSET = 0, RET_FULL = 1, RET_HDRS = 2 };

enum body_type { BODY_7BIT = 0, BODY_8BITMIME = 1, BODY_BINARYMIME = 2 };

/* What becomes of a message that is not delivered by the time it asks for (RFC 2852). */
enum by_mode { BY_NONE, BY_RETURN, BY_NOTIFY };

struct recipient {
	/* as address_text gives it: the local part's case kept, the domain lowered */
	struct span address;
	struct span orcpt;		/* "rfc822;…" as it came, still xtext; empty: not given */
	uint8_t notify;			/* enum dsn_notify */
};

struct envelope {
	struct span reverse_path;	/* empty: the null path */
	struct span envid;		/* as it came, still xtext; empty: not given */
	uint8_t ret;			/* enum dsn_ret */
	uint8_t body;			/* enum body_type */
	bool smtputf8;
	bool requiretls;		/* RFC 8689; stored as MESSAGE_REQUIRETLS */
	int8_t priority;		/* RFC 6710: -9 to 9 */
	uint8_t by_mode;		/* enum by_mode */
	bool by_trace;			/* each host that passes it on tells so */
	int64_t by_ms;			/* wall time; by the owner, from what MAIL asked for */
	struct recipient *recipients;
	size_t recipient_count;
};

/*
 * FAILURE is owed by default, DELAY is ours to choose (RFC 3461 §4.1): asked for, or nothing
 * said.
 */
static inline bool
notify_wants(uint8_t notify, enum dsn_notify what)
{
	if (notify == 0)
		return what == NOTIFY_FAILURE || what == NOTIFY_DELAY;
	return (notify & NOTIFY_NEVER) == 0 && (notify & what) != 0;
}

#endif
