/*
 * mta_sts: the record, the policy and the cache of SMTP MTA Strict Transport Security (RFC 8461).
 * Text in, values and decisions out. Pure: the time is an argument; fetching, storing and asking
 * are the caller's.
 *
 * For a delivery: sts_decide(entry, record, now) says which policy holds and whether the policy
 * host is to be asked; when it has answered, sts_fetched() or sts_fetch_failed() makes the new
 * entry, which is stored (sts_entry_encode) and decided on again.
 */
#ifndef TRAM_POLICY_MTA_STS_H
#define TRAM_POLICY_MTA_STS_H

#include "mta/base/buf.h"
#include "dns/facts.h"

enum {
	STS_POLICY_MAX = 65536,		/* octets of a policy's text */
	STS_MAX_AGE_MAX = 31557600,	/* seconds: a year */
	STS_ID_MAX = 32,
	STS_MX_MAX = 256,		/* patterns kept; a policy with more is refused */
	STS_RETRY_FIRST_MS = 5 * 60 * 1000, STS_RETRY_MOST_MS = 6 * 60 * 60 * 1000,
	STS_REFRESH_MS = 24 * 60 * 60 * 1000,
};

/* ---- the record at _mta-sts.DOMAIN --------------------------------------------------------- */

enum sts_record_outcome {
	STS_RECORD_UNKNOWN,		/* not looked up yet */
	STS_RECORD_NONE,		/* none, several, or one that is not well-formed */
	STS_RECORD_FOUND,
	STS_RECORD_FAILED,		/* the look-up failed */
};

struct sts_record {
	enum sts_record_outcome outcome;
	struct span id;			/* FOUND */
	struct span why;		/* NONE, FAILED: one line; FOUND: empty */
};

/* "_mta-sts.example.org"; empty if that is too long. And the host that has the policy. */
struct span sts_record_name(struct span domain, struct arena *arena);
struct span sts_policy_host(struct span domain, struct arena *arena);	/* mta-sts.example.org */
enum { STS_POLICY_PORT = 443 };
#define STS_POLICY_PATH "/.well-known/mta-sts.txt"

/* One TXT record's text. False: not well-formed. The id points into text. */
bool sts_record_parse(struct span text, struct span *ret_id);
/* A TXT answer; NULL: unknown. The id is in the arena. */
void sts_record_from_answer(const struct dns_answer *answer, struct arena *arena,
			    struct sts_record *ret);

/* ---- the policy ---------------------------------------------------------------------------- */

enum sts_mode { STS_MODE_NONE, STS_MODE_TESTING, STS_MODE_ENFORCE };

struct sts_policy {
	enum sts_mode mode;
	uint32_t max_age;		/* seconds; more than STS_MAX_AGE_MAX counts as that */
	struct span *mx;		/* "mx.example.org", "*.example.org": lower case */
	size_t mx_count;
};

const char *sts_mode_text(enum sts_mode mode);			/* "enforce" */

/* In the arena. False: *error says what is wrong, for people. */
bool sts_policy_parse(struct span text, struct arena *arena, struct sts_policy *ret,
		      const char **error);
/*
 * The same from what the policy host answered (RFC 8461 §3.2, §3.3): 200 and text/plain, or it is
 * none. The body may have been cut at STS_POLICY_MAX + 1 octets.
 */
bool sts_policy_from_response(unsigned status, struct span content_type, struct span body,
			      struct arena *arena, struct sts_policy *ret, const char **error);
/* Host: A-labels, any case. A wildcard stands for exactly one label, the leftmost. */
bool sts_policy_lists(const struct sts_policy *policy, struct span host);
/* As a policy file, CRLF. */
void sts_policy_write(const struct sts_policy *policy, struct buf *out);
/* For TLSRPT: "version: STSv1", "mode: enforce" … Returns how many, at most `most`. */
size_t sts_policy_lines(const struct sts_policy *policy, struct arena *arena, struct span *ret,
			size_t most);

/* ---- the cache: one entry for a policy domain ---------------------------------------------- */

struct sts_entry {			/* zeroed: nothing is known */
	bool has_policy;
	struct span id;			/* of the record it was fetched for */
	struct sts_policy policy;
	int64_t fetched_ms;		/* wall clock */
	int64_t used_ms;		/* last delivery it was used for: kept by the caller */
	uint32_t failures;		/* fetches that failed, in a row */
	int64_t retry_ms;		/* the policy host is not asked again before; 0: may be */
	struct span error;		/* of the last failed fetch, one line, at most 500 octets */
};

/* Until when the policy holds (wall clock); 0: has none. A clock that stepped back adds nothing. */
int64_t sts_entry_expires_ms(const struct sts_entry *entry, int64_t now_ms);

enum sts_use {
	STS_USE_POLICY,			/* policy holds: for this delivery, now */
	STS_USE_NOTHING,		/* no policy holds: deliver as if there were no MTA-STS */
	STS_USE_AFTER_FETCH,		/* wait for the fetch, then decide again */
	STS_USE_AFTER_RECORD,		/* wait for the record, then decide again */
};

struct sts_decision {
	enum sts_use use;
	const struct sts_policy *policy;	/* USE_POLICY; its mode may be `none` */
	bool ask_record;		/* look _mta-sts.DOMAIN up (with USE_POLICY: beside it) */
	bool fetch;			/* ask the policy host (USE_POLICY: in the background) */
	struct span reason;		/* one line: literals, or the entry's error */
};

/*
 * entry may be NULL: nothing is known. An unexpired policy holds whatever became of record and
 * host; an expired one counts as none. It is fetched again when the record's id has changed, and
 * ahead of time when it is a day or half of its life old; after a failed fetch not before retry_ms.
 */
void sts_decide(const struct sts_entry *entry, const struct sts_record *record, int64_t now_ms,
		struct sts_decision *ret);

/*
 * For the sweep that refreshes what is in use: true if the entry is old enough and was used within
 * 30 days. sts_entry_useless: has no policy that holds and no back-off that goes on: delete it.
 */
bool sts_entry_refresh_due(const struct sts_entry *entry, int64_t now_ms);
bool sts_entry_useless(const struct sts_entry *entry, int64_t now_ms);

/*
 * Before a message to this domain fails for good because of the policy (RFC 8461 §5.1): with a
 * record looked up just now, true if the policy must be fetched first.
 */
bool sts_must_check_again(const struct sts_entry *entry, const struct sts_record *record,
			  int64_t now_ms);

/*
 * After a fetch: the entry that replaces *entry (which may be NULL). Its spans are those given. One
 * fetch for a domain at a time: whoever is told to fetch while one is under way waits for that one.
 */
void sts_fetched(const struct sts_entry *entry, const struct sts_policy *policy, struct span id,
		 int64_t now_ms, struct sts_entry *ret);
void sts_fetch_failed(const struct sts_entry *entry, struct span why, int64_t now_ms,
		      struct sts_entry *ret);

/* Versioned, with a CRC. Decoding: 0, -EPROTO (newer), -EBADMSG; spans are in the arena. */
void sts_entry_encode(const struct sts_entry *entry, struct buf *out);
int sts_entry_decode(struct span octets, struct arena *arena, struct sts_entry *ret);

#endif
