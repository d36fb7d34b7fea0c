/*
 * dns/lookup: the two questions of a delivery, asked through a resolver: "which hosts take mail for this domain?"
 * (lane) and "which addresses has this host?" (attempt). Internationalised domains are asked for as A-labels
 * (libidn2). Runs on the resolver's thread; a callback is never called before the start function has returned.
 */
#ifndef TRAM_DNS_LOOKUP_H
#define TRAM_DNS_LOOKUP_H

#include "dns/mx.h"
#include "dns/resolver.h"

struct lookup;

/* The set is valid during the callback only. */
struct lookup *lookup_mx(struct dns_resolver *resolver, struct span domain, const struct span *own_names,
			 size_t own_count, bool lax, void (*done)(void *arg, const struct mx_set *set), void *arg);

struct host_addresses {
	struct netaddr *addresses;	/* interleaved */
	size_t count;
	struct reply failure;		/* count 0: 451 4.4.3 (a look-up failed) or 550 5.4.4 (no address exists) */
};

/* A and AAAA together. The name may be an address literal. own_addresses are dropped (mail loops back: 554 5.4.6). */
struct lookup *lookup_addresses(struct dns_resolver *resolver, struct span host, uint16_t port, bool allow_private,
				size_t most, void (*done)(void *arg, const struct host_addresses *found), void *arg);

void lookup_cancel(struct lookup *lookup);	/* NULL is fine */

/* U-label → A-label form, lower case, in the arena; false: not a domain that can be looked up. */
bool domain_to_ascii(struct span domain, struct arena *arena, struct span *ret);

#endif
