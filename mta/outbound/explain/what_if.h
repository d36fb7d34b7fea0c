/*
 * what_if: the whole decision for a message that does not exist, as a delivery would take it now:
 * its route and why that one, its site, hosts and addresses, what TLS with each of them must be,
 * who logs in, the limits that hold there and their counters, and what holds such mail now
 * (`tramctl what-if`). It is a tls_check that makes no connection: the same functions decide. That
 * the message is taken at all has been judged before. Home loop.
 */
#ifndef TRAM_WHAT_IF_H
#define TRAM_WHAT_IF_H

#include "mta/outbound/explain/tls_check.h"
#include "policy/route.h"
#include "queue/record.h"

/* spans need live until what_if_start() has returned only */
struct what_if_message {
	struct lane_name lane;		/* where it would wait */
	struct span sender, user, recipient;
	const struct route *route;	/* as chosen by the configuration of now */
	enum route_wish wish;
	int64_t release_ms;		/* it is to wait until then; 0: it is not */
	struct span ask_sender;		/* this domain is looked up first: can it get mail? */
};

/* Rows as of tls_check.h; over and good, too. NULL: *error. */
struct tls_check *what_if_start(struct dispatcher *d, const struct what_if_message *message,
				void (*more)(void *arg), void *arg, const char **error);

#endif
