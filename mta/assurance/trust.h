/*
 * trust: does the resolver validate DNSSEC? Asked at the start, every hour, and every minute while
 * it does not (policy/resolver_test.h). Home loop only; deliveries get what it says when they
 * begin.
 *
 * Until the first test has come to an end nothing is settled: what depends on it waits, or a
 * restart would be the moment at which nobody asks for DANE. A test ends at the latest when its
 * look-ups do.
 */
#ifndef TRAM_TRUST_H
#define TRAM_TRUST_H

#include "mta/reactor/reactor.h"
#include "policy/resolver_test.h"

struct trust;

/* changed: it is settled, or says something else. */
struct trust *trust_start(struct reactor *home, void (*changed)(void *arg), void *arg);
bool trust_settled(const struct trust *trust);
/* The configuration may name another resolver, or other names: it is asked anew. */
void trust_reconfigure(struct trust *trust);
enum resolver_trust trust_now(const struct trust *trust);
void trust_close(struct trust *trust);		/* its timer; the loop must run on */
void trust_free(struct trust *trust);

#endif
