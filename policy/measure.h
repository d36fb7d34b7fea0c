/*
 * measure: what is done about a site for what it has said, or because an operator says so: it is
 * sent to more slowly, or not at all, until a time; its record among the notes of the queue. Pure;
 * any thread.
 *
 * A slow-down divides by its factor until until_ms; then the factor is halved after each quarter of
 * the time that it was for, until it is 1. It divides what was measured when it began, and the
 * rates of shapes (shape.h).
 */
#ifndef TRAM_POLICY_MEASURE_H
#define TRAM_POLICY_MEASURE_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "policy/response_rules.h"

enum measure_kind { MEASURE_SLOW, MEASURE_SUSPEND };

enum { MEASURE_TEXT_MAX = 300, MEASURE_PLACE_MAX = 16384 };

#define MEASURE_FOR_GOOD_MS INT64_C(4102444800000)	/* until somebody ends it: 2100 */

/* By what is divided: how much, until when, and for how long it was to be. All zero: nothing is. */
struct slowdown {
	uint32_t factor;
	int64_t until_ms, for_ms;
};

struct measure {
	enum measure_kind kind;
	enum response_scope scope;	/* SLOW: SCOPE_SITE */
	/* site_key_place() of the site, or "provider:NAME"; of SCOPE_DOMAIN: empty */
	struct span place;
	struct span name;		/* of the source, tenant or domain */
	struct span rule;		/* "FILE:LINE"; empty: by hand */
	struct span reason;		/* the reply, or the operator's words; one line */
	int64_t since_ms, until_ms;
	uint64_t count;			/* replies that led to it */
	/* SLOW */
	uint32_t factor;
	int64_t for_ms;
	int64_t step_ms;		/* when the factor was set last */
	uint64_t connections;		/* what is divided: so many */
	uint64_t per_minute;		/* … and messages; 0: not known */
};

/* The factor now, in 1/16: 16 is none. */
enum { MEASURE_UNIT = 16 };
uint32_t slowdown_factor(const struct slowdown *s, int64_t now_ms);
/* When that is another one; INT64_MAX: it stays. */
int64_t slowdown_next_ms(const struct slowdown *s, int64_t now_ms);
/* What remains of a number that is divided; 1 at least. */
uint64_t slowdown_divided(const struct slowdown *s, uint64_t number, int64_t now_ms);
uint32_t measure_factor(const struct measure *m, int64_t now_ms);
/*
 * It began, or a step of it, by a clock that was ahead: its times go back by that much. False: it
 * did not.
 */
bool measure_set_back(struct measure *m, int64_t now_ms);
int64_t measure_over_ms(const struct measure *m);	/* when all of it is over */
/*
 * A slow-down once more: its time begins anew, and, if the last step is far enough away, it is
 * slower.
 */
void measure_again(struct measure *m, uint32_t factor, int64_t for_ms, int64_t now_ms);
uint64_t measure_divided(const struct measure *m, uint64_t number, int64_t now_ms);

void measure_encode(const struct measure *m, struct buf *out);
/* 0, -EPROTO, -EBADMSG. */
int measure_decode(struct span octets, struct arena *arena, struct measure *ret);

/* "rules:12 (slow 4 …): 421 too many" without times, for people. In the arena. */
struct span measure_text(const struct measure *m, int64_t now_ms, struct arena *arena);

#endif
