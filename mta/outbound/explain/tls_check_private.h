/* tls_check_private: what the files of tls_check share. Home loop only. */
#ifndef TRAM_TLS_CHECK_PRIVATE_H
#define TRAM_TLS_CHECK_PRIVATE_H

#include "mta/delivery/delivery.h"
#include "mta/assurance/policies.h"
#include "mta/outbound/explain/tls_check.h"

struct tls_check {
	struct list node;		/* dispatcher->checks */
	struct dispatcher *dispatcher;
	struct config *config;
	struct arena arena;
	struct span domain;		/* A-labels, lower case, or a literal */
	struct span host;		/* instead: the key of its site */
	const struct route *route;	/* config's; NULL: none */
	enum route_wish wish;		/* of the message */
	struct facts facts;
	struct facts_fetch *fetch;
	struct lookup *lookup;
	struct policy_wait wait;	/* for the MTA-STS policy of: */
	struct span key;		/* the site without it */
	bool sts_record;		/* one is published */
	struct delivery_watch watch;
	struct delivery *delivery;	/* NULL: not yet, or no more */
	void (*more)(void *arg);
	void *arg;
	json_t *rows;
	size_t at;			/* rows given */
	size_t bad;
	struct span at_host;		/* the rows are about this one now */
	struct span first_good, first_good_how;		/* host where mail would go */
	const char *last_verified;
	struct publishing *publishing;	/* dns_check.c: no mail, no delivery */
	/* what_if.c: its end is told there; no connection is made */
	struct what_if *what_if;
	struct span site;		/* the key of the site, once it is known */
	bool over, released, aborted;
};

/* tls_check.c */
struct tls_check *tls_check_new(struct dispatcher *d, struct span domain, struct span host,
				const char **error);
void tls_check_finish(struct tls_check *c);	/* the last that is done with it */
/* There are rows; last in whatever calls it: the check may be gone after it. */
void tls_check_tell(struct tls_check *c);
void tls_check_find_way(struct tls_check *c);	/* route is set: on from there */

/* what_if.c */
void what_if_on_host(struct tls_check *c, const struct delivery *d, enum delivery_event event);
void what_if_no_mx(struct tls_check *c, const struct mx_set *set);
void what_if_conclude(struct tls_check *c);

/* tls_check_rows.c */
enum tls_check_verdict { CHECK_GOOD, CHECK_NOTE, CHECK_BAD };
json_t *tls_check_row(struct tls_check *c, enum tls_check_verdict verdict, const char *step,
		      struct span text);
json_t *tls_check_text(struct span text);	/* of any octets */
const char *tls_check_route_word(enum route_tls tls);
void tls_check_tell_trust(struct tls_check *c, enum resolver_trust trust);
/* False: this route takes mail nowhere. */
bool tls_check_tell_route(struct tls_check *c);
void tls_check_tell_sts(struct tls_check *c, const struct dns_answer *answer);
/* What holds for the route; NULL: nothing. */
void tls_check_tell_policy(struct tls_check *c, const struct sts_policy *policy, struct span why);
void tls_check_tell_mx(struct tls_check *c, const struct mx_set *set);
void tls_check_tell_event(struct tls_check *c, struct delivery *d, enum delivery_event event);
void tls_check_conclude(struct tls_check *c);

#endif
