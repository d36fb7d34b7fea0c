/*
 * netaddr: addresses, sockets' ends and networks, as values. ::ffff:1.2.3.4 counts as 1.2.3.4.
 * Any thread.
 */
#ifndef TRAM_BASE_NETADDR_H
#define TRAM_BASE_NETADDR_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "mta/base/span.h"

struct netaddr {
	/* AF_INET, AF_INET6, AF_UNIX (no address: a local peer), 0 = none */
	uint8_t family;
	uint8_t ip[16];			/* the first 4 for AF_INET */
	uint16_t port;			/* host order */
};

struct network {
	struct netaddr base;
	uint8_t bits;
};

enum { NETADDR_TEXT_MAX = 64 };

/* "192.0.2.1", "2001:db8::1" */
bool netaddr_parse(struct span ip, uint16_t port, struct netaddr *ret);
/*
 * "192.0.2.1:25", "[2001:db8::1]:25"; without a port default_port is taken (0: the port is
 * required).
 */
bool netaddr_parse_port(struct span text, uint16_t default_port, struct netaddr *ret);
bool netaddr_from_sockaddr(const struct sockaddr *sa, struct netaddr *ret);
socklen_t netaddr_to_sockaddr(const struct netaddr *addr, struct sockaddr_storage *ret);
/* the address alone */
char *netaddr_format(const struct netaddr *addr, char out[NETADDR_TEXT_MAX]);
/* with its port */
char *netaddr_format_port(const struct netaddr *addr, char out[NETADDR_TEXT_MAX]);
/* As RFC 5321 writes it in a Received line: "[192.0.2.1]", "[IPv6:2001:db8::1]". */
char *netaddr_format_literal(const struct netaddr *addr, char out[NETADDR_TEXT_MAX]);
bool netaddr_is_loopback(const struct netaddr *addr);
/* loopback, RFC 1918, link-local, ULA, 0.0.0.0/8, multicast … */
bool netaddr_is_private(const struct netaddr *addr);
bool netaddr_same_ip(const struct netaddr *a, const struct netaddr *b);

/* "10.0.0.0/8", "::1": host bits set are an error */
bool network_parse(struct span text, struct network *ret);
bool network_holds(const struct network *network, const struct netaddr *addr);
/* The network that limits count by: the address for IPv4, its /64 for IPv6; a stable 64-bit key. */
uint64_t netaddr_limit_key(const struct netaddr *addr);

#endif
