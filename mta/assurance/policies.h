/*
 * policies: the MTA-STS policies of the domains that mail goes to (RFC 8461): looked up, fetched,
 * kept and refreshed. What holds when is policy/mta_sts.h's; this asks the DNS and the policy hosts
 * for it. Home loop only.
 *
 * A policy that is known is answered at once, and its renewal goes on beside it. Who asks about a
 * domain that nothing is known of waits for its record and, if there is one, for the policy host:
 * no longer than the resolver takes, and then sts-timeout; after that there is no policy. What was
 * fetched is in memory and in the queue's notes, so that it holds on after a restart.
 */
#ifndef TRAM_POLICIES_H
#define TRAM_POLICIES_H

#include "mta/reactor/reactor.h"
#include "policy/mta_sts.h"
#include "policy/tlsrpt.h"

struct policies;

struct policy_wait {			/* embedded in who waits */
	struct list node;
	/* policy as policies_ask() says; good during the call only. The wait is over. */
	void (*done)(struct policy_wait *wait, const struct sts_policy *policy, struct span why);
};

/*
 * changed: another policy holds for this domain (A-labels) now, or none. Never within policies_ask.
 */
struct policies *policies_start(struct reactor *home,
				void (*changed)(void *arg, struct span domain), void *arg);
/*
 * True: *ret is the policy that holds (its mode may be none or testing), or NULL: none does; *why
 * says so. Both are good until the next call. False: wait->done comes later.
 */
bool policies_ask(struct policies *p, struct span domain, struct policy_wait *wait,
		  const struct sts_policy **ret, struct span *why);
void policies_cancel(struct policy_wait *wait);		/* fine if it is over */
/* The policy that holds, as far as it is known without asking. */
const struct sts_policy *policies_known(struct policies *p, struct span domain);
/* Until when it is good without asking again (wall clock), at most `until_ms`. */
int64_t policies_until(struct policies *p, struct span domain, int64_t until_ms);
/* False: the last fetch went well, or none was tried. For TLSRPT. */
bool policies_trouble(struct policies *p, struct span domain, enum tlsrpt_result *ret);

/* Before resolver and HTTPS client close: what is asked is cancelled; the loop must run on. */
void policies_close(struct policies *p);
void policies_free(struct policies *p);

#endif
