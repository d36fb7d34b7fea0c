/*
 * tlsrpt: results of TLS per policy domain and day, as RFC 8460 wants them reported. The record,
 * the counters and their stored form. Pure. The report is made in mta/tlsrpt.
 *
 * A day's counters are bounded whatever the other side does: policies, hosts, details and lengths
 * meet a ceiling; what is beyond it is still counted, without its details.
 */
#ifndef TRAM_POLICY_TLSRPT_H
#define TRAM_POLICY_TLSRPT_H

#include "mta/base/buf.h"
#include "mta/base/netaddr.h"
#include "dns/facts.h"

/* ---- the record at _smtp._tls.DOMAIN ------------------------------------------------------- */

enum { TLSRPT_URIS_MAX = 8, TLSRPT_URI_MAX = 1000 };

struct tlsrpt_uri {
	bool https;			/* else mailto */
	/* mailto: the address, percent-decoded, a valid one; https: the whole URI */
	struct span text;
};

struct tlsrpt_record {
	struct tlsrpt_uri uris[TLSRPT_URIS_MAX];
	size_t count;			/* 0: no reports are wanted, or none can be sent */
};

struct span tlsrpt_record_name(struct span domain, struct arena *arena);
/* One TXT record's text. False: not well-formed, or none of its URIs can be used. */
bool tlsrpt_record_parse(struct span text, struct arena *arena, struct tlsrpt_record *ret);
/* A TXT answer → its one record. False: none, several (both with count 0), or a failed look-up. */
bool tlsrpt_record_from_answer(const struct dns_answer *answer, struct arena *arena,
			       struct tlsrpt_record *ret);

/* ---- counters ------------------------------------------------------------------------------ */

enum tlsrpt_policy_type { TLSRPT_NO_POLICY, TLSRPT_TLSA, TLSRPT_STS };

enum tlsrpt_result {			/* RFC 8460 §4.3 */
	TLSRPT_SUCCESS,
	TLSRPT_STARTTLS_NOT_SUPPORTED,
	TLSRPT_CERTIFICATE_HOST_MISMATCH,
	TLSRPT_CERTIFICATE_NOT_TRUSTED,
	TLSRPT_CERTIFICATE_EXPIRED,
	TLSRPT_VALIDATION_FAILURE,	/* anything else in the handshake */
	TLSRPT_TLSA_INVALID,
	TLSRPT_DNSSEC_INVALID,
	TLSRPT_DANE_REQUIRED,
	TLSRPT_STS_POLICY_FETCH_ERROR,
	TLSRPT_STS_POLICY_INVALID,
	TLSRPT_STS_WEBPKI_INVALID,
	TLSRPT_RESULTS,
};

const char *tlsrpt_result_text(enum tlsrpt_result result);	/* "starttls-not-supported" */
const char *tlsrpt_policy_type_text(enum tlsrpt_policy_type type);	/* "sts" */

enum {
	TLSRPT_POLICIES_MAX = 4,	/* of one domain and day: they change seldom */
	TLSRPT_LINES_MAX = 64,		/* of a policy's text */
	TLSRPT_HOSTS_MAX = 64,
	TLSRPT_FAILURES_MAX = 100,	/* kinds of failure, of a policy */
	TLSRPT_TEXT_MAX = 255,		/* octets of each text in here; longer ones are cut */
	TLSRPT_DAY_OCTETS = 60000,	/* of its stored form: details beyond it are left out */
};

/* One session, as the delivery saw it. */
struct tlsrpt_event {
	enum tlsrpt_policy_type type;
	const struct span *lines;	/* the policy's text; NO_POLICY: none */
	size_t line_count;
	const struct span *hosts;	/* STS: its mx patterns */
	size_t host_count;
	enum tlsrpt_result result;
	/* of a failure: what is known */
	struct netaddr sending, receiving;
	struct span receiving_host;	/* MX host name */
	struct span receiving_helo;	/* as it calls itself */
	struct span detail;		/* for people: "certificate has expired" */
};

struct tlsrpt_failure {
	enum tlsrpt_result result;
	struct netaddr sending, receiving;	/* family 0: not known */
	struct span receiving_host, receiving_helo, detail;
	uint64_t count;
};

struct tlsrpt_policy {
	enum tlsrpt_policy_type type;
	const struct span *lines, *hosts;
	size_t line_count, host_count;
	uint64_t successes, failed;
	struct tlsrpt_failure *failures;
	size_t failure_count;
};

struct tlsrpt_day {
	struct span domain;		/* the policy domain: the recipients', lower case */
	uint32_t day;			/* since 1970-01-01, UTC */
	struct tlsrpt_policy policies[TLSRPT_POLICIES_MAX];
	size_t count;
	uint64_t lost;			/* events of policies that found no room */
	size_t octets;			/* of its stored form, at most */
};

static inline uint32_t
tlsrpt_day_of(int64_t wall_ms)
{
	return wall_ms < 0 ? 0 : (uint32_t)(wall_ms / 86400000);
}

/* An empty day. The domain is copied. */
void tlsrpt_day_init(struct tlsrpt_day *day, struct span domain, uint32_t number,
		     struct arena *arena);
/* Adds one; copies into the arena. */
void tlsrpt_count(struct tlsrpt_day *day, const struct tlsrpt_event *event, struct arena *arena);
/* Adds all of `from` (of the same domain and day) to `into`: what memory held to what is stored. */
void tlsrpt_merge(struct tlsrpt_day *into, const struct tlsrpt_day *from, struct arena *arena);

/* Versioned, with a CRC. Decoding: 0, -EPROTO (newer), -EBADMSG; spans are in the arena. */
void tlsrpt_day_encode(const struct tlsrpt_day *day, struct buf *out);
int tlsrpt_day_decode(struct span octets, struct arena *arena, struct tlsrpt_day *ret);

/* ---- a report that is to be posted: what is stored of it until it was taken ----------------- */

struct tlsrpt_post {
	int64_t begun_ms, next_ms;	/* wall time: when it was made; of the next try */
	uint32_t tries;
	struct span url, report_id;
	struct tlsrpt_day day;
};

/* As above. At most TLSRPT_DAY_OCTETS, TLSRPT_URI_MAX and 300 octets. */
void tlsrpt_post_encode(const struct tlsrpt_post *post, struct buf *out);
int tlsrpt_post_decode(struct span octets, struct arena *arena, struct tlsrpt_post *ret);

#endif
