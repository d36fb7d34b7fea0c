/*
 * dns/resolver: asks one name server set through c-ares (channel.c). One per reactor.
 *
 * No cache: MX answers belong to the lane (kept by TTL), address answers to one attempt;
 * identical questions in flight are asked once. Query ids are random and unique in flight; EDNS
 * with the AD bit; truncation falls back to TCP. After a FORMERR to EDNS that question is asked
 * without it, on another channel; the others keep EDNS. After a SERVFAIL, REFUSED or NOTIMP the
 * other servers are asked, where there are others.
 *
 * At most 256 questions are sent within a second without an answer (the kernel's socket buffers
 * hold no more), and 4,096 are under way in all; the rest waits its turn here. How many may be
 * asked at once is the caller's limit.
 *
 * The event loop is given as functions, so that this folder knows no libuv.
 */
#ifndef TRAM_DNS_RESOLVER_H
#define TRAM_DNS_RESOLVER_H

#include "dns/answer.h"
#include "mta/base/list.h"

struct dns_resolver;

struct dns_loop {		/* given by the reactor */
	void *arg;
	/*
	 * Watch this descriptor (or stop: both false; it is closed right after); then call
	 * dns_resolver_ready().
	 */
	void (*watch)(void *arg, int fd, bool readable, bool writable);
	/* Call dns_resolver_tick() after so many ms; -1: not needed. Replaces the last wish. */
	void (*timer)(void *arg, int64_t ms);
};

struct dns_config {
	struct netaddr servers[4];	/* count 0: the system's (/etc/resolv.conf) */
	size_t server_count;
	int timeout_ms;			/* of one try: 5,000 */
	int tries;			/* 3 */
	int grace_ms;			/* for the second of two answers: 500 */
	bool tcp;			/* always by TCP */
	bool trusted;			/* AD counts (always so over loopback) */
};

int dns_resolver_open(const struct dns_config *config, const struct dns_loop *loop,
		      struct dns_resolver **ret);
/* Does what it says of DNSSEC count? Not if its answers could be forged on the way to us. */
bool dns_resolver_trusted(const struct dns_resolver *resolver);
/*
 * Outstanding queries end without their callback, and are gone: not to be cancelled. May be
 * called from a callback. NULL is fine.
 */
void dns_resolver_close(struct dns_resolver *resolver);
/* After an error on the descriptor: both true. */
void dns_resolver_ready(struct dns_resolver *resolver, int fd, bool readable, bool writable);
void dns_resolver_tick(struct dns_resolver *resolver);

/*
 * The answer is valid during the callback only. It is never called before dns_ask() has returned,
 * and the query is gone once it is called. A name that cannot be asked for (A-labels only; a
 * final dot is tolerated) gets DNS_BAD_NAME in the loop's next turn.
 */
struct dns_query;
struct dns_query *dns_ask(struct dns_resolver *resolver, struct span name, enum dns_type type,
			  void (*done)(void *arg, const struct dns_answer *answer), void *arg);
void dns_cancel(struct dns_query *query);	/* its callback will not come; NULL is fine */

/*
 * Who has one of two answers, and can do with it, waits for the other no longer than grace_ms:
 * then over() is called, as a query's callback would be. Embedded in who waits, zeroed; the
 * resolver's close ends it as dns_grace_end() does.
 */
struct dns_grace {
	struct list node;
	int64_t over_at_ms;
	void (*over)(struct dns_grace *grace);
};

void dns_grace_begin(struct dns_resolver *resolver, struct dns_grace *grace,
		     void (*over)(struct dns_grace *grace));
void dns_grace_end(struct dns_grace *grace);	/* fine if it has not begun */

#endif
