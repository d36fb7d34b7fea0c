/*
 * verp: an envelope sender of its own for each delivery (variable envelope return path), so that
 * whatever comes back to it tells which one it was. Pure; any thread.
 *
 *	b-0dn4q7k2c0001-0-8wz0m2vkq3t5hs1fgn6ycj4p@bounces.example.org
 *
 * Prefix, id of the message, number of the recipient in it, and 24 letters: 8 of them a mark of the
 * recipient's address (so that a report is not believed when it names somebody else), 16 a check of
 * all of it (80 bits of HMAC-SHA-256 with a key: the queue's own, or one that servers share). Lower
 * case, digits and '-' only; at most 64 octets. Who has not had mail from here cannot make one, and
 * nobody else's address is in it.
 */
#ifndef TRAM_POLICY_VERP_H
#define TRAM_POLICY_VERP_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"
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
 * NULL: its sender stays. So do the null path, addresses of our own domains for this, and those
 * that have such a mark already: SRS, BATV (prvs=).
 */
const struct verp_rule *verp_choose(const struct verp_rules *rules, const struct verp_facts *facts);

/* The first makes addresses; what any of them has made is good. */
enum { VERP_KEYS_MAX = 8, VERP_KEYS_FILE_MAX = 64 << 10 };
struct verp_keys {
	const uint8_t (*shared)[VERP_KEY];	/* that servers share, from a file */
	size_t shared_count;
	const uint8_t *own;			/* of the queue */
};

/*
 * A file of keys: one a line, as verp_key_text() writes it. 0, or -EINVAL and faults with their
 * lines.
 */
int verp_keys_parse(struct span file, struct span content, struct buf *faults,
		    uint8_t ret[VERP_KEYS_MAX][VERP_KEY], size_t *ret_count);
void verp_key_text(const uint8_t key[VERP_KEY], struct buf *out);

/* recipient: its number; address: as stored. In the arena. */
struct span verp_write(const struct verp_rule *rule, const struct verp_keys *keys, uint64_t id,
		       uint32_t recipient, struct span address, struct arena *arena);

struct verp_address {
	uint64_t id;
	uint32_t recipient;
	uint64_t mark;			/* 40 bits */
	size_t key;			/* which of the keys has made it */
};

enum verp_verdict {
	VERP_FOREIGN,			/* of no domain of the rules */
	VERP_UNKNOWN,			/* of one, but nobody's: not of this form, or forged */
	VERP_GOOD,
};

/* Letters may have changed their case on the way. How old it is tells its id. */
enum verp_verdict verp_read(const struct verp_rules *rules, const struct verp_keys *keys,
			    struct span address, struct verp_address *ret);
/* Is this the recipient it was made for? */
bool verp_is_for(const struct verp_keys *keys, const struct verp_address *verp,
		 struct span address);
bool verp_has_domain(const struct verp_rules *rules, struct span domain);

#endif
