/*
 * destination: from a route to the key of a site, and from the key to the hosts and what holds
 * there. For lanes, for deliveries, and for those who ask what a delivery would do. Pure.
 */
#ifndef TRAM_DESTINATION_H
#define TRAM_DESTINATION_H

#include "dns/mx.h"
#include "policy/site_key.h"

/* Where a site's mail goes: read from its key once, shared by its deliveries through copies. */
struct destination {
	/* named by the configuration, in this order: destination_relay() */
	struct deliver_host *relays;
	size_t relay_count;
	struct mx_host *hosts;		/* by preference */
	size_t host_count;
	struct netaddr address;		/* instead of hosts: a static address */
	uint16_t port;
	struct site_tls tls;
	/* a relay's domain, whose MX are to be the hosts; or empty */
	struct span next_hop;
	bool tls_on_connect;
	bool is_static;			/* the host is named by the configuration, not by the DNS */
	size_t messages;		/* per connection */
};

/*
 * The key of the site where this route takes mail for the domain; empty: it is by the MX records of
 * destination_mx_domain(). Not for routes that take it nowhere. In the arena, or the route's.
 */
struct span destination_key(const struct route *route, struct span domain, enum route_wish wish,
			    struct arena *arena);
struct span destination_mx_domain(const struct route *route, struct span domain);
/* … which are these; route may be NULL. */
struct span destination_key_by_mx(const struct route *route, const struct mx_set *set,
				  enum route_wish wish, struct arena *arena);
/*
 * What cannot be read has no host: its deliveries end at once. If relays are named the first one
 * fills the rest, as by destination_relay().
 */
void destination_read(struct span key, struct arena *arena, struct destination *ret);
/*
 * From now on it is its n-th relay. One whose MX must be asked for (next_hop) has no hosts until
 * destination_relay_mx().
 */
void destination_relay(struct destination *to, size_t n, struct arena *arena);
void destination_relay_mx(struct destination *to, const struct mx_set *set, struct arena *arena);

#endif
