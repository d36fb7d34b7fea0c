/*
 * dns/mx: which hosts take a domain's mail, in which order (RFC 5321 §5.1, RFC 7505). Pure.
 */
#ifndef TRAM_DNS_MX_H
#define TRAM_DNS_MX_H

#include "dns/answer.h"
#include "mta/base/reply.h"

enum { MX_HOSTS_MAX = 32, MX_TTL_MIN_MS = 30000 };

struct mx_host {
	struct span name;
	uint16_t preference;
};

struct mx_set {				/* where a domain's mail goes */
	struct mx_host *hosts;		/* by preference; equals by name (shuffled per attempt) */
	size_t count;
	bool implicit;			/* no MX: the domain itself */
	bool secure;			/* DNSSEC vouches for it, where the resolver is trusted */
	struct span canonical;		/* the domain after its CNAMEs; of the answer, not copied */
	int64_t ttl_ms;			/* at least MX_TTL_MIN_MS, but 0 for a temporary failure */
	struct reply failure;		/* count 0: why; 5xx or 4xx with its status */
};

/*
 * MX answer → set. Null MX → 556 5.1.10. NXDOMAIN, BAD_NAME → 550 5.1.2. TEMPORARY → 451 4.4.3.
 * NODATA → implicit. Hosts that are an IP literal, "localhost", no host name at all or empty are
 * dropped (the first two unless `lax`): none left → 550 5.4.4. Our own names (and all of equal or
 * worse preference) are dropped: none left → 554 5.4.6.
 */
void mx_from_answer(const struct dns_answer *answer, struct span domain,
		    const struct span *own_names, size_t own_count, bool lax, struct arena *arena,
		    struct mx_set *ret);

/*
 * "mx:a.example,b.example>c.example:25": the sorted set of names, for the site's key. Equals are
 * parted by ',' (in the order of their names), a worse preference begins at '>': so a set read
 * back (preferences 0, 1, 2 …) is still tried in its order, and domains that number the same
 * order differently share a site.
 */
struct span mx_site_key(const struct mx_set *set, uint16_t port, struct arena *arena);
bool mx_parse_site_key(struct span key, struct arena *arena, struct mx_set *ret, uint16_t *port);

/* Shuffles equals; chance: a seed. */
void mx_shuffle(struct mx_host *hosts, size_t count, uint64_t chance);

/*
 * IPv6 and IPv4 addresses of one host, interleaved (IPv6 first), at most `most`; private ones
 * dropped unless allowed. Either answer may be NULL or a failure. Returns how many.
 */
size_t mx_interleave(const struct dns_answer *a6, const struct dns_answer *a4, bool allow_private,
		     struct netaddr *ret, size_t most);

#endif
