/*
 * dns/tlsa: the octets of a TLSA record → a value (RFC 6698 §2.1, RFC 7671). Pure.
 */
#ifndef TRAM_DNS_TLSA_H
#define TRAM_DNS_TLSA_H

#include <stdbool.h>
#include <stdint.h>

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/span.h"

enum { TLSA_PKIX_TA = 0, TLSA_PKIX_EE = 1, TLSA_DANE_TA = 2, TLSA_DANE_EE = 3 };	/* usage */
enum { TLSA_CERTIFICATE = 0, TLSA_SPKI = 1 };				/* selector */
enum { TLSA_FULL = 0, TLSA_SHA256 = 1, TLSA_SHA512 = 2 };		/* matching */

enum { TLSA_PREFIX_MAX = sizeof("_65535._tcp.") - 1 };

struct dns_tlsa {
	uint8_t usage, selector, matching;
	struct span data;		/* octets: a digest, or DER */
};

/* False: shorter than its three numbers and one octet of data. data points into rdata. */
bool dns_tlsa_read(struct span rdata, struct dns_tlsa *ret);

/*
 * May SMTP use it (RFC 7672 §3.1)? DANE-TA and DANE-EE only, known selectors and matchings, a
 * digest of its length. Whether a full certificate or key (matching 0) can be read is only known
 * to the TLS library.
 */
bool dns_tlsa_usable(const struct dns_tlsa *tlsa);

/* "_25._tcp.mx.example.org"; empty if that would be too long to be asked for. */
struct span dns_tlsa_name(struct span base, uint16_t port, struct arena *arena);

/* "3 1 1 0a1b…": as in a zone file. */
struct span dns_tlsa_text(const struct dns_tlsa *tlsa, struct arena *arena);

#endif
