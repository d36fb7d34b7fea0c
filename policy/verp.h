/*
 * verp: an envelope sender of its own for each delivery (variable envelope return path), so that
 * whatever comes back to it tells which one it was. Pure; any thread.
 *
 *	b-0dn4q7k2c0001-0-8wz0m2vkq3t5hs1fgn6ycj4p@bounces.example.org
 *
 * Prefix, id of the message, number of the recipient in it, and 24 letters: 8 of them a mark of the
 * recipient's address (so that a report is not believed when it names somebody else), 16 a check of
 * all of it (80 bits of HMAC-SHA-256 with a key of the queue's own). Lower case, digits and '-' only;
 * at most 64 octets. Who has not had mail from here cannot make one, and nobody else's address is
 * in it.
 */
#ifndef TRAM_POLICY_VERP_H
#define TRAM_POLICY_VERP_H

#include "mta/base/arena.h"
#include "mta/base/span.h"

enum {
	VERP_KEY = 32, VERP_PREFIX_MAX = 16, VERP_RECIPIENT_MAX = 999999,
	VERP_DOMAIN_MAX = 254 - 64 - 1,		/* a path has 256 octets, with < and > */
};

struct verp_rule {			/* a block of the configuration */
	struct span domain;
	struct span prefix;		/* letters and digits */
	/* each list: none given, or one of it must fit; see route.h */
	struct span *senders, *routes, *tenants, *pools;
	size_t sender_count, route_count, tenant_count, pool_count;
};

struct verp_rules {
	struct verp_rule *rules;	/* the first that fits counts */
	size_t count;
};

struct verp_facts {			/* of a delivery */
	struct span sender;		/* the message's reverse-path */
	struct span route;		/* its lane's label */
	struct span tenant, pool;
};

/*
 * NULL: its sender stays. So do the null path, addresses of our own domains for this, and those that
 * have such a mark already: SRS, BATV (prvs=).
 */
const struct verp_rule *verp_choose(const struct verp_rules *rules, const struct verp_facts *facts);

/* recipient: its number; address: as stored. In the arena. */
struct span verp_write(const struct verp_rule *rule, const uint8_t key[VERP_KEY], uint64_t id,
		       uint32_t recipient, struct span address, struct arena *arena);

struct verp_address {
	uint64_t id;
	uint32_t recipient;
	uint64_t mark;			/* 40 bits */
};

enum verp_verdict {
	VERP_FOREIGN,			/* of no domain of the rules */
	VERP_UNKNOWN,			/* of one, but nobody's: not of this form, or forged */
	VERP_GOOD,
};

/* Letters may have changed their case on the way. How old it is tells its id. */
enum verp_verdict verp_read(const struct verp_rules *rules, const uint8_t key[VERP_KEY],
			    struct span address, struct verp_address *ret);
/* Is this the recipient it was made for? */
bool verp_is_for(const uint8_t key[VERP_KEY], const struct verp_address *verp, struct span address);
bool verp_has_domain(const struct verp_rules *rules, struct span domain);

#endif
