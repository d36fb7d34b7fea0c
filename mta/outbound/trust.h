/*
 * trust: does the resolver validate DNSSEC? Asked at the start, every hour, and every minute while
 * it does not (policy/resolver_test.h). Home loop only; deliveries get what it says when they begin.
 */
#ifndef TRAM_TRUST_H
#define TRAM_TRUST_H

#include "mta/reactor/reactor.h"
#include "policy/resolver_test.h"

struct trust;

struct trust *trust_start(struct reactor *home);
/* The configuration may name another resolver, or other names: it is asked anew. */
void trust_reconfigure(struct trust *trust);
enum resolver_trust trust_now(const struct trust *trust);
/* "the resolver validates DNSSEC: AD for …", for `stats`. */
const char *trust_text(const struct trust *trust);
void trust_close(struct trust *trust);		/* its timer; the loop must run on */
void trust_free(struct trust *trust);

#endif
