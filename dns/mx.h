/*
 * dns/mx: which hosts take a domain's mail, in which order (RFC 5321 §5.1, RFC 7505). Pure.
 */
#ifndef TRAM_DNS_MX_H
#define TRAM_DNS_MX_H

#include "dns/answer.h"
#include "mta/base/reply.h"

enum { MX_HOSTS_MAX = 32 };

struct mx_host {
	struct span name;
	uint16_t preference;
};

struct mx_set {				/* where a domain's mail goes */
	struct mx_host *hosts;		/* by preference; equals in the order of their names (shuffled per attempt) */
	size_t count;
	bool implicit;			/* no MX: the domain itself */
	int64_t ttl_ms;
	struct reply failure;		/* count 0: why; 5xx or 4xx with its status */
};

/*
 * MX answer → set. Null MX → 556 5.1.10. NXDOMAIN → 550 5.1.2 (5.4.4 …). TEMPORARY → 451 4.4.3. NODATA → implicit.
 * Hosts that are an IP literal, "localhost" or empty are dropped unless `lax`; our own names (and all of equal or
 * worse preference) are dropped: none left → 554 5.4.6.
 */
void mx_from_answer(const struct dns_answer *answer, struct span domain, const struct span *own_names, size_t own_count,
		    bool lax, struct arena *arena, struct mx_set *ret);

/* "mx:a.example,b.example:25": the sorted set of names, for the site's key. */
struct span mx_site_key(const struct mx_set *set, uint16_t port, struct arena *arena);
bool mx_parse_site_key(struct span key, struct arena *arena, struct mx_set *ret, uint16_t *port);

/* Shuffles equals; chance: a seed. */
void mx_shuffle(struct mx_host *hosts, size_t count, uint64_t chance);

/* IPv6 and IPv4 addresses of one host, interleaved (IPv6 first), at most `most`; private ones dropped unless allowed. */
size_t mx_interleave(const struct dns_answer *a6, const struct dns_answer *a4, bool allow_private,
		     struct netaddr *ret, size_t most);

#endif
