/*
 * reason: what a report says of one recipient: action, status, and whose words gave the reason.
 * Shared by the report's part for people (words.c) and the one for programs (bounce.c). Pure.
 *
 * Everything here that came from a message or a remote host goes out through report_clean() and
 * report_fold(): no control octet leaves, and no line is longer than RFC 5322 §2.1.1 allows.
 */
#ifndef TRAM_BOUNCE_REASON_H
#define TRAM_BOUNCE_REASON_H

#include "mta/bounce/bounce.h"

enum bounce_cause {
	CAUSE_ACTION,			/* not a failure: the action says all */
	CAUSE_REFUSED,			/* somebody, or we, said no for good */
	CAUSE_EXPIRED,			/* tried until time was over */
	/* time was over (or is passing) and no host of its site took mail at all */
	CAUSE_NEVER_TRIED,
};

struct bounce_reason {
	const char *action;		/* RFC 3464 §2.3.3 */
	enum bounce_cause cause;
	struct status status;
	const struct attempt *attempt;	/* the one that decides; NULL: it never had one */
	struct span host;		/* a name, or an address literal; may be empty */
	/* a reply ("550 5.1.1 no such user") or an error; one line, not yet clean */
	struct span said;
	bool by_smtp;			/* said is a reply */
};

void bounce_reason(const struct bounce_facts *facts, const struct bounce_recipient *recipient,
		   struct arena *arena, struct bounce_reason *ret);

bool has_high_octets(struct span s);

/*
 * One line of printable text: control octets become '?', tabs blanks. utf8: well-formed UTF-8
 * stays (but C1 controls); else, and if it is not well formed, octets above 127 become '?'.
 */
struct span report_clean(struct span text, bool utf8, struct arena *arena);
/*
 * Runs of blanks become one, so that no line is ever blank when folded. Not for addresses: they
 * may mean it.
 */
struct span report_squeeze(struct span clean, struct arena *arena);

/*
 * Clean text behind what stands on the line already (used octets), wrapped at blanks; following
 * lines begin with indent.
 */
void report_fold(struct span clean, size_t used, const char *indent, struct buf *out);

#endif
