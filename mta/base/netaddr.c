/*
 * netaddr: see netaddr.h. An IPv4-mapped IPv6 address becomes the IPv4 one at every entry, so
 * that no list of networks can be passed by writing an address in the other form (RFC 4291
 * §2.5.5.2).
 */
#include "mta/base/netaddr.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "mta/base/digits.h"

static const uint8_t mapped_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static size_t
ip_len(const struct netaddr *addr)
{
	return addr->family == AF_INET ? 4 : addr->family == AF_INET6 ? 16 : 0;
}

static void
set_ipv6(struct netaddr *ret, const uint8_t ip[16], uint16_t port)
{
	*ret = (struct netaddr){ .port = port };
	if (memcmp(ip, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		ret->family = AF_INET;
		memcpy(ret->ip, ip + 12, 4);
	} else {
		ret->family = AF_INET6;
		memcpy(ret->ip, ip, 16);
	}
}

bool
netaddr_parse(struct span ip, uint16_t port, struct netaddr *ret)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t octets[16];

	if (ip.len == 0 || ip.len >= sizeof(text) || span_find(ip, '\0') != NULL)
		return false;
	memcpy(text, ip.at, ip.len);
	text[ip.len] = '\0';
	if (inet_pton(AF_INET, text, octets) == 1) {
		*ret = (struct netaddr){ .family = AF_INET, .port = port };
		memcpy(ret->ip, octets, 4);
		return true;
	}
	if (inet_pton(AF_INET6, text, octets) != 1)
		return false;
	set_ipv6(ret, octets, port);
	return true;
}

/* Behind the address: nothing (the default counts, if there is one) or ":25". */
static bool
parse_port(struct span text, uint16_t default_port, uint16_t *ret)
{
	uint64_t port;

	if (text.len == 0) {
		*ret = default_port;
		return default_port != 0;
	}
	if (text.at[0] != ':' || !span_to_u64(span_skip(text, 1), UINT16_MAX, &port))
		return false;
	*ret = (uint16_t)port;
	return true;
}

bool
netaddr_parse_port(struct span text, uint16_t default_port, struct netaddr *ret)
{
	struct span ip, rest = text;
	uint16_t port;

	if (text.len > 0 && text.at[0] == '[') {
		const char *end = span_find(text, ']');

		if (end == NULL)
			return false;
		ip = span_of(text.at + 1, (size_t)(end - text.at) - 1);
		rest = span_skip(text, ip.len + 2);
	} else {
		ip = span_cut(&rest, ':');
		/* an IPv6 address without its brackets bears no port */
		if (span_find(rest, ':') != NULL)
			return default_port != 0 && netaddr_parse(text, default_port, ret);
		rest = span_skip(text, ip.len);
	}
	return parse_port(rest, default_port, &port) && netaddr_parse(ip, port, ret);
}

bool
netaddr_from_sockaddr(const struct sockaddr *sa, struct netaddr *ret)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	switch (sa->sa_family) {
	case AF_INET:
		memcpy(&in, sa, sizeof(in));
		*ret = (struct netaddr){ .family = AF_INET, .port = ntohs(in.sin_port) };
		memcpy(ret->ip, &in.sin_addr, 4);
		return true;
	case AF_INET6:
		memcpy(&in6, sa, sizeof(in6));
		set_ipv6(ret, in6.sin6_addr.s6_addr, ntohs(in6.sin6_port));
		return true;
	case AF_UNIX:
		*ret = (struct netaddr){ .family = AF_UNIX };
		return true;
	default:
		return false;
	}
}

socklen_t
netaddr_to_sockaddr(const struct netaddr *addr, struct sockaddr_storage *ret)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(addr->port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(addr->port) };

	memset(ret, 0, sizeof(*ret));
	if (addr->family == AF_INET) {
		memcpy(&in.sin_addr, addr->ip, 4);
		memcpy(ret, &in, sizeof(in));
		return sizeof(in);
	}
	if (addr->family == AF_INET6) {
		memcpy(&in6.sin6_addr, addr->ip, 16);
		memcpy(ret, &in6, sizeof(in6));
		return sizeof(in6);
	}
	return 0;
}

/*
 * The address alone; returns what is behind it. By hand for IPv4: inet_ntop() is made of sprintf().
 */
static char *
put_ip(const struct netaddr *addr, char out[INET6_ADDRSTRLEN])
{
	char *at = out;

	if (addr->family == AF_INET6) {
		inet_ntop(AF_INET6, addr->ip, out, INET6_ADDRSTRLEN);
		return out + strlen(out);
	}
	for (int i = 0; i < 4; i++) {
		if (i > 0)
			*at++ = '.';
		at = digits_put(at, addr->ip[i], 1);
	}
	return at;
}

/* "local", or "none" */
static char *
format_other(const struct netaddr *addr, char out[NETADDR_TEXT_MAX])
{
	snprintf(out, NETADDR_TEXT_MAX, "%s", addr->family == AF_UNIX ? "local" : "none");
	return out;
}

char *
netaddr_format(const struct netaddr *addr, char out[NETADDR_TEXT_MAX])
{
	if (ip_len(addr) == 0)
		return format_other(addr, out);
	*put_ip(addr, out) = '\0';
	return out;
}

char *
netaddr_format_port(const struct netaddr *addr, char out[NETADDR_TEXT_MAX])
{
	const bool bracketed = addr->family == AF_INET6;
	char *at = out;

	if (ip_len(addr) == 0)
		return format_other(addr, out);
	if (bracketed)
		*at++ = '[';
	at = put_ip(addr, at);
	if (bracketed)
		*at++ = ']';
	*at++ = ':';
	*digits_put(at, addr->port, 1) = '\0';
	return out;
}

char *
netaddr_format_literal(const struct netaddr *addr, char out[NETADDR_TEXT_MAX])
{
	static const char ipv6[] = "IPv6:";
	char *at = out;

	if (ip_len(addr) == 0)
		return format_other(addr, out);
	*at++ = '[';
	if (addr->family == AF_INET6)
		at = mempcpy(at, ipv6, sizeof(ipv6) - 1);
	at = put_ip(addr, at);
	*at++ = ']';
	*at = '\0';
	return out;
}

static bool
prefix_eq(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

bool
netaddr_is_loopback(const struct netaddr *addr)
{
	static const uint8_t one[16] = { [15] = 1 };

	if (addr->family == AF_INET)
		return addr->ip[0] == 127;
	return addr->family == AF_UNIX ||
	       (addr->family == AF_INET6 && memcmp(addr->ip, one, 16) == 0);
}

static bool
private_ipv4(const uint8_t ip[4])
{
	static const struct { uint8_t ip[4], bits;
	} table[] = {
		{ { 0 }, 8 },	       { { 10 }, 8 },	     { { 100, 64 }, 10 },
		{ { 127 }, 8 },	       { { 169, 254 }, 16 }, { { 172, 16 }, 12 },
		{ { 192, 0, 0 }, 24 }, { { 192, 168 }, 16 }, { { 198, 18 }, 15 },
		{ { 224 }, 3 }, /* multicast, reserved and broadcast */
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (prefix_eq(ip, table[i].ip, table[i].bits))
			return true;
	return false;
}

static bool
private_ipv6(const uint8_t ip[16])
{
	static const struct { uint8_t ip[16], bits; } table[] = {
		{ { 0 }, 96 },			/* ::, ::1 and the IPv4-compatible ones */
		{ { 0x01, 0x00 }, 64 },		/* discard only, RFC 6666 */
		{ { 0xfc }, 7 }, { { 0xfe, 0x80 }, 10 }, { { 0xfe, 0xc0 }, 10 }, { { 0xff }, 8 },
	};
	static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (prefix_eq(ip, table[i].ip, table[i].bits))
			return true;
	/* Translated ones lead to the IPv4 address they hold: RFC 6052, RFC 3056. */
	if (memcmp(ip, nat64, sizeof(nat64)) == 0)
		return private_ipv4(ip + 12);
	return ip[0] == 0x20 && ip[1] == 0x02 && private_ipv4(ip + 2);
}

bool
netaddr_is_private(const struct netaddr *addr)
{
	if (addr->family == AF_INET)
		return private_ipv4(addr->ip);
	if (addr->family == AF_INET6)
		return private_ipv6(addr->ip);
	return addr->family == AF_UNIX;
}

bool
netaddr_same_ip(const struct netaddr *a, const struct netaddr *b)
{
	return a->family != 0 && a->family == b->family && memcmp(a->ip, b->ip, ip_len(a)) == 0;
}

static bool
host_bits_clear(const struct network *network)
{
	unsigned total = (unsigned)ip_len(&network->base) * 8;

	for (unsigned bit = network->bits; bit < total; bit++)
		if (network->base.ip[bit / 8] & (0x80u >> (bit % 8)))
			return false;
	return true;
}

bool
network_parse(struct span text, struct network *ret)
{
	struct span rest = text, ip = span_cut(&rest, '/');
	bool given = ip.len < text.len, written_as_ipv6 = span_find(ip, ':') != NULL;
	unsigned total = written_as_ipv6 ? 128 : 32;
	struct network network = { 0 };
	uint64_t bits = total;

	if (!netaddr_parse(ip, 0, &network.base) || (given && !span_to_u64(rest, total, &bits)))
		return false;
	if (written_as_ipv6 && network.base.family == AF_INET) {	/* ::ffff:10.0.0.0/104 */
		if (bits < 96)
			return false;
		bits -= 96;
	}
	network.bits = (uint8_t)bits;
	if (!host_bits_clear(&network))
		return false;
	*ret = network;
	return true;
}

bool
network_holds(const struct network *network, const struct netaddr *addr)
{
	return ip_len(addr) != 0 && addr->family == network->base.family &&
	       prefix_eq(addr->ip, network->base.ip, network->bits);
}

uint64_t
netaddr_limit_key(const struct netaddr *addr)
{
	uint64_t key = 0;

	/* IPv4, local and none lie in 0::/16, where no client's /64 is. */
	if (addr->family == AF_INET6) {
		for (size_t i = 0; i < 8; i++)
			key = key << 8 | addr->ip[i];
		return key;
	}
	if (addr->family != AF_INET)
		return addr->family == AF_UNIX ? 1 : 2;
	for (size_t i = 0; i < 4; i++)
		key = key << 8 | addr->ip[i];
	return 0xffffULL << 32 | key;
}
