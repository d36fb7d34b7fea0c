/*
 * dns/lookup: the two questions of a delivery, asked through a resolver: "which hosts take mail
 * for this domain?" (lane) and "which addresses has this host?" (attempt). Internationalised
 * domains are asked for as A-labels (libidn2). Runs on the resolver's thread; a callback is never
 * called before the start function has returned.
 */
#ifndef TRAM_DNS_LOOKUP_H
#define TRAM_DNS_LOOKUP_H

#include "dns/idna.h"
#include "dns/mx.h"
#include "dns/resolver.h"

struct lookup;

/*
 * The set is valid during the callback only. A domain that is an address literal ("[192.0.2.1]")
 * is its own host; whether that address may be used is lookup_addresses()' business.
 */
struct lookup *lookup_mx(struct dns_resolver *resolver, struct span domain,
			 const struct span *own_names, size_t own_count, bool lax,
			 void (*done)(void *arg, const struct mx_set *set), void *arg);

struct host_addresses {
	struct netaddr *addresses;	/* interleaved */
	size_t count;
	/*
	 * count 0: 451 4.4.3 (a look-up failed), 550 5.4.4 (no address exists, or none that may
	 * be used), or 554 5.4.6: all are ours, so that hosts of equal or worse preference must
	 * not be tried.
	 */
	struct reply failure;
};

/*
 * A and AAAA together; when one has brought addresses that may be used, the other is waited for no
 * longer than the resolver's grace_ms. The name may be an address literal, with or without its
 * brackets.
 */
struct lookup *lookup_addresses(struct dns_resolver *resolver, struct span host, uint16_t port,
				bool allow_private, size_t most,
				void (*done)(void *arg, const struct host_addresses *found),
				void *arg);

/*
 * To be called right after lookup_addresses(): where we listen ourselves. These are dropped
 * (address and port the same; port 0 is any port), lest mail loop back; 0.0.0.0 and :: stand for
 * loopback, too, but for no interface's address: those must be in the list. They are copied.
 */
void lookup_drop_own(struct lookup *lookup, const struct netaddr *own, size_t count);

/* The callback will not come. NULL is fine; a look-up whose callback has been called is gone. */
void lookup_cancel(struct lookup *lookup);

#endif
