/*
 * hold_reason: why mail does not go now, in one shape for all that can hold it: `tramctl explain`,
 * `sites`, `what-if` and `top` print it. Each part that can hold mail adds its own reason (holds.c
 * calls them in the order in which a message meets them); the first is the one that is told where
 * there is room for one only. Pure; home loop.
 *
 *	r = hold_add(why, HOLD_SHAPE);
 *	r->what = SPAN("newsletters");                  the name that people know it by
 *	r->text = arena_printf(arena, "shape newsletters: 100 messages an hour to google are sent");
 *	r->since_ms, r->until_ms = …                    0: not known
 *	hold_number(r, "sent", 100); hold_number(r, "most", 100);
 */
#ifndef TRAM_HOLD_REASON_H
#define TRAM_HOLD_REASON_H

#include <jansson.h>
#include <stdbool.h>

#include "mta/base/span.h"

enum hold_kind {
	HOLD_STOPPING,			/* the server is */
	HOLD_DISK,			/* results of deliveries could not be kept */
	HOLD_OPERATOR,			/* a lane, by hand */
	HOLD_LOOKUP,			/* its destination is being looked up */
	HOLD_LOOKUP_FAILED,		/* … and could not be: the lane backs off */
	HOLD_RESOLVER,			/* is not known to validate yet, and DANE asks for it */
	/* the site, its provider or a source there: by hand or by a rule */
	HOLD_SUSPENDED,
	HOLD_BACKOFF,			/* of a site: no connection could be made */
	HOLD_PROBE,			/* one connection is on its way, all else waits for it */
	HOLD_SHAPE,			/* a rate or number of a shape block */
	HOLD_SLOWED,			/* by a rule, for what the other side has said */
	HOLD_WARM_UP,			/* the day's ceiling of each source is reached */
	HOLD_SOURCE,			/* no source of its pool can be used now */
	HOLD_CONNECTIONS,		/* the configuration's limit of connections to one site */
	HOLD_DELIVERIES,		/* … and to all */
	HOLD_PAUSE,			/* after a connection that failed beside others */
	HOLD_CONCURRENCY,		/* as many as the site has shown that it takes */
	HOLD_TENANT,			/* other tenants, or priorities, have their turn */
	HOLD_KINDS
};

enum { HOLD_NUMBERS_MAX = 6, HOLD_REASONS_MAX = 12 };

struct hold_number { const char *name; int64_t value; };

struct hold_reason {
	enum hold_kind kind;
	struct span what;		/* of the site, shape, rule, source …; may be empty */
	struct span text;		/* one line for people, without since and until */
	int64_t since_ms, until_ms;	/* wall time; 0: not known */
	/* of these it is enough that one is over: the sources of a pool */
	bool either;
	struct hold_number numbers[HOLD_NUMBERS_MAX];
	size_t number_count;
};

struct hold_reasons {
	struct hold_reason list[HOLD_REASONS_MAX];
	size_t count;
	struct hold_reason spare;	/* takes what is too many */
};

const char *hold_kind_name(enum hold_kind kind);	/* "back-off" */
/* Never NULL; its spans are the caller's, or in an arena that lives as long. */
struct hold_reason *hold_add(struct hold_reasons *why, enum hold_kind kind);
void hold_number(struct hold_reason *reason, const char *name, int64_t value);
/* The first that stops mail; NULL: none does. */
const struct hold_reason *hold_first(const struct hold_reasons *why);
bool holds_have(const struct hold_reasons *why, enum hold_kind kind);
/*
 * When all that has to be over is over, as far as is known; 0: not known. A slow-down holds
 * nothing: it lets less through.
 */
int64_t hold_until(const struct hold_reasons *why);
/* {"kind", "what", "text", "since_ms", "until_ms", and the numbers by their names} */
json_t *hold_json(const struct hold_reason *reason);
json_t *holds_json(const struct hold_reasons *why);	/* an array */

#endif
