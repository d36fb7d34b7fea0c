/*
 * smtp/mail_wishes: the parameters of MAIL that say how a message is to be carried: MT-PRIORITY
 * (RFC 6710), HOLDFOR and HOLDUNTIL (RFC 4865), BY (RFC 2852). Text → value. Pure.
 */
#ifndef TRAM_MAIL_WISHES_H
#define TRAM_MAIL_WISHES_H

#include "mta/base/envelope.h"

enum { MT_PRIORITY_MAX = 9 };

struct mail_wishes {			/* as asked for; zeroed: nothing is */
	bool has_priority;
	int8_t priority;
	uint64_t hold_for_s;		/* 0: not given */
	int64_t hold_until_ms;		/* wall time; 0: not given */
	int64_t by_s;			/* from now; may be negative with BY_NOTIFY */
	uint8_t by_mode;		/* enum by_mode */
	bool by_trace;
};

/* False: the text is not what the parameter takes. */
bool wish_read_priority(struct span text, int8_t *ret);			/* "-9" to "9" */
/* RFC 6758's field: the same, among comments. */
bool wish_read_priority_field(struct span text, int8_t *ret);
bool wish_read_hold_for(struct span text, uint64_t *ret_s);		/* 1 to 9 digits, not 0 */
/* RFC 3339: "2026-11-21T08:00:00Z" */
bool wish_read_hold_until(struct span text, int64_t *ret_ms);
bool wish_read_by(struct span text, struct mail_wishes *ret);		/* "3600;R", "-5;NT" */
/* "2026-11-21T08:00:00Z" */
enum { WISH_TIME_MAX = 24 };
char *wish_time_text(int64_t ms, char out[WISH_TIME_MAX]);

#endif
