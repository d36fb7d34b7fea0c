/*
 * tenant: for whom is a message sent? Tenants share what is scarce by weight. Pure.
 *
 * Only those who may relay (by address, or logged in) are somebody: a stranger could name as many
 * senders as it likes, and each would get a share. All that strangers send is one tenant's, whose
 * name is empty.
 */
#ifndef TRAM_POLICY_TENANT_H
#define TRAM_POLICY_TENANT_H

#include "mta/base/arena.h"
#include "mta/base/span.h"

enum { TENANT_NAME_MAX = 200, TENANT_WEIGHT_MAX = 1000 };

enum tenant_by { TENANT_BY_NONE, TENANT_BY_USER, TENANT_BY_SENDER_DOMAIN, TENANT_BY_HEADER };

struct tenant {				/* of the configuration */
	struct span name;
	uint32_t weight;
	int line;
};

struct tenant_rules {
	struct span wish;		/* as written: "user", "header:X-Tenant" */
	enum tenant_by by;
	struct span header;		/* the field's name */
	struct tenant *tenants;		/* by name, as tenant_order() has it */
	size_t count;
};

struct tenant_facts {
	bool may_relay;
	struct span user;		/* who has logged in; empty: nobody */
	struct span sender;		/* the reverse-path */
	struct span header;		/* the value of the field; empty: it is not there */
};

/* "none", "user", "sender-domain", "header:NAME". False: it is nothing of that. */
bool tenant_by_read(struct span wish, struct tenant_rules *rules);
/* A name as it can be: lower case, letters, digits and - _ . @ +, not too long. */
bool tenant_name_valid(struct span name);
/*
 * By the header if it is there; by the user; else by the sender's domain. In lower case, in the
 * arena. What the header says must be a valid name: see tenant_name_valid().
 */
struct span tenant_choose(const struct tenant_rules *rules, const struct tenant_facts *facts,
			  struct arena *arena);
/* 1 for those that are not in the configuration. */
uint32_t tenant_weight(const struct tenant_rules *rules, struct span name);
int tenant_order(const void *a, const void *b);		/* of struct tenant; for qsort */

#endif
