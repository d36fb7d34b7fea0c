/*
 * concurrency: how many connections a site takes, learned from how it answers. Pure; home loop.
 *
 * It grows with good answers and shrinks with trouble (421, "too much", connections that break), in
 * cohorts: after a step down, the answers to what was sent before it count for nothing. As in TCP,
 * and unlike Postfix, whose steps up and down are alike: up to the first trouble each good answer
 * adds a connection, so that a site that takes all we have gets it in a few rounds; each cohort
 * with trouble takes a quarter away, at least one; then a cohort of good answers adds one, up to
 * just below where the trouble was, and there only each eighth: so it settles below the other
 * side's limit instead of swinging through it. What was learned fades after ten minutes without
 * trouble. Three cohorts of trouble in a row at one connection, and the site is as good as dead.
 *
 * A peer that answers more and more slowly is in trouble before it says so. Against the best of
 * what was usual, which follows slowly if it is not that good any more: four times that and half a
 * second more takes one connection away for each cohort, twice that and a quarter of a second keeps
 * it from growing.
 */
#ifndef TRAM_CONCURRENCY_H
#define TRAM_CONCURRENCY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CONCURRENCY_FIRST = 5,		/* of a site that nothing is known of */
	CONCURRENCY_COHORTS = 3,	/* of trouble, at one connection */
	CONCURRENCY_FADE_MS = 600000,
};

struct concurrency {
	size_t limit;			/* now, 1 at least */
	size_t good;			/* answers since the last step */
	size_t cohort;			/* answers until the next step down */
	size_t trouble_at;		/* the limit at the last trouble; 0: none */
	int64_t trouble_ms;
	unsigned failed;		/* cohorts in a row */
	int64_t usual_us, latency_us;	/* 0: none was measured */
};

void concurrency_init(struct concurrency *c, size_t limit);
/*
 * most: what the configuration allows. latency_ms: of its answers to one message; negative: not
 * known.
 */
void concurrency_good(struct concurrency *c, size_t most, int64_t latency_ms, int64_t now_ms);
/* True: it is as good as dead. */
bool concurrency_trouble(struct concurrency *c, int64_t now_ms);
/* A connection was refused or broke before any mail, beside so many that work. */
void concurrency_refused(struct concurrency *c, size_t left, int64_t now_ms);

#endif
