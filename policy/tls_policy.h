/*
 * tls_policy: what a delivery to this host must do about TLS, and why. The route's wish, what the
 * other side publishes (DANE before MTA-STS) and what the sender asked for (REQUIRETLS, RFC 8689)
 * in; one demand out. Pure.
 *
 *	off        never TLS
 *	may        TLS if it is offered, else plain; nothing is verified
 *	required   TLS, not verified
 *	verify     TLS, verified by CA and name
 *	dane       DANE where it is published, else may; waits while the resolver does not validate
 *	mta-sts    an MTA-STS policy, enforced even if its mode is testing; waits while there is
 *		   none
 *	(none)     DANE, else MTA-STS, else may
 */
#ifndef TRAM_POLICY_TLS_POLICY_H
#define TRAM_POLICY_TLS_POLICY_H

#include "mta/base/reply.h"
#include "policy/dane.h"
#include "policy/mta_sts.h"
#include "policy/resolver_test.h"

enum tls_wish {
	TLS_WISH_STRONGEST,		/* the default */
	TLS_WISH_OFF,
	TLS_WISH_MAY,
	TLS_WISH_REQUIRED,
	TLS_WISH_VERIFY,
	TLS_WISH_DANE,
	TLS_WISH_MTA_STS,
};

bool tls_wish_parse(struct span word, enum tls_wish *ret);	/* "may"; the default has no word */
const char *tls_wish_text(enum tls_wish wish);			/* the default: "strongest" */

struct tls_question {
	enum tls_wish wish;
	struct span host;		/* as connected to: MX host, or the route's */
	struct span next_hop;		/* the domain whose MX was asked for; empty: none */
	bool by_configuration;		/* the route names the host: nobody could have forged it */
	/* so does a signed MX record, or the domain is its own host */
	bool by_dnssec;
	struct span *verify_names;	/* verify: these, if the route has any */
	size_t verify_name_count;
	bool credentials;		/* we will log in there: verified, or not at all */
	bool credentials_unverified_ok;	/* … but the configuration allows it */
	bool requiretls;		/* of the message (RFC 8689 §2) */
	/*
	 * its header has "TLS-Required: No" (§3): waives what others publish, not what the route
	 * says
	 */
	bool tls_required_no;
	enum resolver_trust resolver;
	const struct dane_verdict *dane;	/* not DANE_NEEDS; NULL: was not to be asked */
	const struct sts_policy *sts;		/* the policy that holds; NULL: none */
};

/*
 * Which facts the decision will look at; the others need not be fetched. Set all but dane, sts.
 * Where the configuration names the host nobody's policy is asked for.
 */
bool tls_policy_asks_dane(const struct tls_question *question);
bool tls_policy_asks_sts(const struct tls_question *question);

enum tls_go {
	TLS_GO,				/* connect, and meet the demand */
	TLS_GO_NEXT_HOST,		/* not to this host, now: reply is temporary */
	TLS_GO_LATER,			/* to no host, now: reply is temporary */
	TLS_GO_NEVER,			/* reply is permanent */
};
enum tls_use { TLS_USE_NEVER, TLS_USE_IF_OFFERED, TLS_USE_ALWAYS };
enum tls_proof {
	TLS_PROOF_NONE,
	TLS_PROOF_CA,			/* a chain to a CA, and one of names */
	TLS_PROOF_TLSA,			/* one of tlsa; with DANE-TA one of names, too */
};
enum tls_source {			/* who demands it */
	TLS_SOURCE_DEFAULT,
	TLS_SOURCE_ROUTE,
	TLS_SOURCE_DANE,
	TLS_SOURCE_MTA_STS,
	TLS_SOURCE_SENDER,
};
const char *tls_source_text(enum tls_source source);		/* "mta-sts" */

struct tls_demand {
	enum tls_go go;
	struct reply reply;		/* not GO */
	enum tls_use use;
	enum tls_proof proof;
	bool enforce;			/* false: the proof is tried and noted, no more */
	bool requiretls;		/* MAIL needs REQUIRETLS, offered inside TLS */
	bool final;			/* what all hosts lack is lacking for good: 5xx */
	struct span sni;		/* empty: none (address literal, no TLS) */
	struct span names[4];
	size_t name_count;
	struct span *more_names;	/* the route's own, instead of names */
	size_t more_count;
	const struct dns_tlsa *tlsa;
	size_t tlsa_count;
	enum tls_source source;
	struct span reason;		/* one line for log and explain; in the arena */
};

/* Spans point into the question and what it points to, or into the arena. */
void tls_policy_decide(const struct tls_question *question, struct arena *arena,
		       struct tls_demand *ret);

/* What went wrong at one host. */
enum tls_trouble {
	TLS_TROUBLE_NOT_OFFERED,	/* no STARTTLS in EHLO's reply */
	TLS_TROUBLE_REFUSED,		/* STARTTLS answered 4xx or 5xx */
	TLS_TROUBLE_HANDSHAKE,
	TLS_TROUBLE_NOT_VERIFIED,
	TLS_TROUBLE_NO_REQUIRETLS,	/* TLS, but REQUIRETLS is not offered in it */
};

/*
 * True: go on without TLS, on a new connection (or without the proof); *ret is untouched. False:
 * not with this host, *ret says why: 4xx, or 5xx if demand->final and the trouble is one that
 * lasts; then the next host is tried all the same, and the message bounces only if all say 5xx.
 * detail: from the TLS library or the server's reply; may be empty.
 */
bool tls_policy_trouble(const struct tls_demand *demand, enum tls_trouble trouble,
			struct span host, struct span detail, struct arena *arena,
			struct reply *ret);

/*
 * Two demands with the same key may share a connection (to the same host, with the same login and
 * source address). In the arena.
 */
struct span tls_policy_key(const struct tls_demand *demand, struct arena *arena);

#endif
