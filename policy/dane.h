/*
 * dane: must this host be authenticated by TLSA records, and by which (RFC 7672, 6698, 7671)?
 * Facts in, verdict out. Pure. To be asked only while the resolver validates (resolver_test.h).
 *
 * "Secure" is dns_answer.authenticated: the validating resolver vouches for the whole chain of
 * CNAMEs. Bogus answers come as SERVFAIL, hence DNS_TEMPORARY.
 */
#ifndef TRAM_POLICY_DANE_H
#define TRAM_POLICY_DANE_H

#include "dns/tlsa.h"
#include "dns/facts.h"

enum dane_path {			/* how the host became known */
	DANE_BY_MX,			/* by an MX answer that was secure */
	DANE_BY_INSECURE_MX,		/* then TLSA records prove nothing: always DANE_NONE */
	DANE_DIRECT,			/* the domain has no MX, or the route names the host */
};

struct dane_question {
	enum dane_path path;
	struct span host;		/* A-labels; an address literal is DANE_NONE */
	uint16_t port;
	struct span next_hop;		/* BY_MX: the domain whose MX was asked for */
	struct span next_hop_expanded;	/* BY_MX: the MX answer's canonical name; may be empty */
};

/* From what MX said (mx_set): implicit → DIRECT, secure → BY_MX. */
enum dane_path dane_path_of(bool implicit, bool secure);

enum dane_outcome {
	DANE_NEEDS,			/* look verdict.needs up, add the answers, ask again */
	DANE_NONE,			/* not published, or not securely: DANE says nothing here */
	DANE_USABLE,			/* TLS, authenticated by one of records */
	DANE_UNUSABLE,			/* only records we cannot use: TLS, not authenticated */
	DANE_SKIP,			/* a look-up failed: this host must not be used now */
};

struct dane_verdict {
	enum dane_outcome outcome;
	struct facts_needs needs;	/* DANE_NEEDS */
	struct span base;		/* USABLE, UNUSABLE: the TLSA base domain; the SNI */
	struct dns_tlsa *records;	/* USABLE: the usable ones */
	size_t count;
	size_t published;		/* of all of base's records */
	struct span names[3];		/* USABLE: for DANE-TA, any of these in the certificate */
	size_t name_count;
	uint32_t ttl;			/* seconds for which the answers behind it are good */
	struct span reason;		/* one line, for log and explain */
};

/*
 * Everything in *ret lives as long as the question and the table. If the TLS library refuses all
 * of records (a DER that cannot be read), USABLE is to be taken for UNUSABLE: dane_none_fit().
 */
void dane_judge(const struct dane_question *question, const struct facts *facts,
		struct dane_verdict *ret);
void dane_none_fit(struct dane_verdict *verdict);

/* For TLSRPT: each record as "3 1 1 0a1b…". Returns how many were written, at most `most`. */
size_t dane_policy_lines(const struct dane_verdict *verdict, struct arena *arena,
			 struct span *ret, size_t most);

#endif
