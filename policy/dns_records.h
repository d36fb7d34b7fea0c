/*
 * dns_records: the DNS records and the policy file to be published for this server, as text ready
 * to paste into a zone file (RFC 1035 §5). Given facts, text out. Pure.
 */
#ifndef TRAM_POLICY_DNS_RECORDS_H
#define TRAM_POLICY_DNS_RECORDS_H

#include "mta/base/buf.h"
#include "policy/mta_sts.h"

struct dns_records_key {		/* a certificate that the MX host presents, or will */
	uint8_t spki_sha256[32];
	struct span label;		/* "ECDSA 256, /etc/tram/mx.pem": goes into a comment */
	bool next;			/* of the key used next: published beforehand */
};

struct dns_records_facts {
	struct span domain;		/* whose mail comes here */
	struct span host;		/* our name */
	uint16_t preference;		/* of the MX: 10 */
	uint16_t port;			/* of the TLSA records: 25 */
	uint32_t ttl;			/* 0: none is written */
	const struct dns_records_key *keys;
	size_t key_count;
	const struct sts_policy *sts;	/* NULL: no MTA-STS; mx empty: our host */
	struct span sts_id;		/* empty: made from the policy's text */
	struct span tlsrpt;		/* "mailto:tls@example.org"; empty: none */
	bool sends;			/* deliveries are made under senders at it (verp) */
};

/* Each appended with a comment that says what it is for. */
void dns_records_mx(const struct dns_records_facts *facts, struct buf *out);
void dns_records_tlsa(const struct dns_records_facts *facts, struct buf *out);
void dns_records_sts(const struct dns_records_facts *facts, struct buf *out);
void dns_records_tlsrpt(const struct dns_records_facts *facts, struct buf *out);
/* The file at STS_POLICY_PATH of mta-sts.DOMAIN, as it must be there; facts->sts is set. */
void dns_records_policy_file(const struct dns_records_facts *facts, struct buf *out);
/* All of these; then, as a comment, the policy file and where it goes. */
void dns_records_all(const struct dns_records_facts *facts, struct buf *out);

/*
 * Is it published? Compares an answer with what should be there; of MTA-STS only that the record is
 * well-formed, and has the id if sts_id is given.
 */
enum dns_record_state {
	DNS_RECORD_THERE,
	DNS_RECORD_MISSING,
	DNS_RECORD_DIFFERENT,		/* others are there, or too many */
	DNS_RECORD_INSECURE,		/* TLSA: there, but the zone is not signed: no use */
	DNS_RECORD_UNKNOWN,		/* the look-up failed */
};
const char *dns_record_state_text(enum dns_record_state state);
enum dns_record_state dns_records_check_mx(const struct dns_records_facts *facts,
					   const struct dns_answer *answer);
enum dns_record_state dns_records_check_tlsa(const struct dns_records_facts *facts, size_t key,
					     const struct dns_answer *answer);
enum dns_record_state dns_records_check_sts(const struct dns_records_facts *facts,
					    const struct dns_answer *answer);
enum dns_record_state dns_records_check_tlsrpt(const struct dns_records_facts *facts,
					       const struct dns_answer *answer);
/* The names to look up for all of them: MX, TLSA, TXT, TXT. */
void dns_records_needs(const struct dns_records_facts *facts, struct arena *arena,
		       struct facts_needs *ret);

#endif
