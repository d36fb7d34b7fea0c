/*
 * facts_fetch: asks the resolver for what a decision needs, and adds what it says to the table:
 * the driver of DESIGN's "policy asks for facts". Runs on the resolver's thread; knows nothing of
 * what is decided.
 *
 *	dane_judge(&question, &facts, &verdict);
 *	if (verdict.outcome == DANE_NEEDS)
 *		fetch = facts_fetch(resolver, &facts, &verdict.needs, on_facts, arg);
 *	… on_facts: judge again.
 */
#ifndef TRAM_DNS_FACTS_FETCH_H
#define TRAM_DNS_FACTS_FETCH_H

#include "dns/resolver.h"
#include "dns/facts.h"

struct facts_fetch;

/*
 * Asks all of needs (at least one) at once. done is called when each is in the table, never before
 * this has returned; the fetch is gone then. Of a host's A and AAAA, when one has brought an
 * address, the other is waited for no longer than the resolver's grace_ms; it then counts as
 * failed. The table must live until done or cancel.
 */
struct facts_fetch *facts_fetch(struct dns_resolver *resolver, struct facts *facts,
				const struct facts_needs *needs, void (*done)(void *arg),
				void *arg);

/* done will not come. NULL is fine. Before the resolver is closed. */
void facts_fetch_cancel(struct facts_fetch *fetch);

#endif
