/*
 * dns/answer: a DNS response in octets → values; hostile bytes, parsed with libresolv's ns_*. Pure.
 */
#ifndef TRAM_DNS_ANSWER_H
#define TRAM_DNS_ANSWER_H

#include "mta/base/arena.h"
#include "mta/base/netaddr.h"
#include "mta/base/span.h"

enum dns_type { DNS_A = 1, DNS_CNAME = 5, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_TLSA = 52 };

enum dns_outcome {
	DNS_FOUND,	/* at least one record of the type asked for */
	DNS_NODATA,	/* the name exists, the type does not */
	DNS_NXDOMAIN,
	DNS_TEMPORARY,	/* SERVFAIL, REFUSED, timeout, no server, garbage: again, never a bounce */
	DNS_BAD_NAME,	/* cannot be asked for (too long, empty label …): as NXDOMAIN */
};

struct dns_record {
	uint16_t preference;	/* MX */
	struct span name;	/* MX, CNAME: lower case, no final dot; "" for the root (null MX) */
	struct netaddr address;	/* A, AAAA; an IPv4-mapped one is the IPv4 address */
	struct span data;	/* TXT, TLSA: as it came; read by dns/txt and dns/tlsa */
};

struct dns_answer {
	enum dns_outcome outcome;
	struct span text;	/* for people: "SERVFAIL", "timed out after 10 s", "CNAME loop" … */
	struct dns_record *records;
	size_t count;
	struct span canonical;	/* after CNAMEs */
	uint32_t ttl;		/* seconds: the least used, for negatives the SOA's; bounded */
	bool authenticated;	/* AD was set (and counts only if the resolver is trusted) */
	bool edns;		/* the answer had an OPT record */
	uint16_t rcode;		/* with EDNS's upper bits; DNS_RCODE_NONE: none could be read */
};

enum { DNS_RCODE_NONE = 0xffff };

enum {
	DNS_RECORDS_MAX = 100, DNS_CNAMES_MAX = 12,
	DNS_TTL_MAX = 86400, DNS_TTL_NEGATIVE_MAX = 3600,
};

/*
 * Never fails: what cannot be read is DNS_TEMPORARY. The question in the answer must be (name,
 * type); the name as dns_ask() takes it, in any case. CNAME chains inside the answer are followed
 * (to DNS_CNAMES_MAX; a loop or a longer chain is DNS_TEMPORARY), but not where a CNAME is what was
 * asked for. Records beyond DNS_RECORDS_MAX are dropped. Everything in *ret is in the arena.
 */
void dns_answer_parse(struct span message, struct span name, enum dns_type type,
		      struct arena *arena, struct dns_answer *ret);

#endif
