/*
 * returns: what is known of mail that may come back. One for the process; it stands in the queue's
 * notes, so it outlives the process:
 *
 *	the key that addresses of deliveries are made with (policy/verp.h): made once for a queue
 *	a record of each delivered recipient that may come back (policy/delivered.h), which keeps
 *	its sender when the message has left the queue: as many as `records` octets hold, the oldest
 *	go first, and none is kept for longer than `lifetime`
 *
 * A record rides with the settle of its recipient, in the same transaction: it costs no commit of
 * its own. And it counts what came back, by class and by tenant. Read by every reactor, on its own
 * port; changed on the home loop only.
 */
#ifndef TRAM_RETURNS_H
#define TRAM_RETURNS_H

#include "mta/base/map.h"
#include "policy/classify.h"
#include "policy/delivered.h"
#include "policy/verp.h"
#include "queue/queue.h"

struct config;
struct reactor;
struct returns;

/* Reads the key, or makes it. Before the loops run. 0 or negative errno. */
int returns_open(struct reactor *home, struct returns **ret);
/* its handles; then run the loop until it is empty */
void returns_close(struct returns *r);
void returns_free(struct returns *r);		/* NULL is fine */

/* Those of the configuration, which must live as long, and the queue's own. */
struct verp_keys returns_keys(const struct returns *r, const struct config *config);
/*
 * Who sent it, and to whom: from its record, or from the queue where it still is. On the port's
 * thread.
 */
bool returns_find(struct queue_port *port, uint64_t id, uint32_t recipient, struct arena *arena,
		  struct delivered *ret);
/*
 * The same, of the first of its recipients that has one of these addresses; case does not matter.
 * Reads all its records: once for all that somebody claims.
 */
bool returns_find_address(struct queue_port *port, uint64_t id, const struct span *addresses,
			  size_t count, struct arena *arena, struct delivered *ret);

/* ---- home loop only ----------------------------------------------------------------------- */

/* Before the settle that it belongs to is submitted. */
void returns_keep(struct returns *r, const struct delivered *d);

enum returns_what {
	RETURNS_BOUNCE, RETURNS_DELAY, RETURNS_COMPLAINT, RETURNS_AUTOREPLY, RETURNS_OTHER,
	RETURNS_UNMATCHED,		/* beside one of the others: no message of ours was found */
	RETURNS_KINDS
};

const char *returns_name(enum returns_what what);

enum { RETURNS_TENANTS_MAX = 1000 };

struct returns_tenant {
	struct map_node node;
	struct span name;
	uint32_t classes[REPLY_CLASSES];
	struct returns_tenant *next;
};

struct returns_facts {			/* since the start */
	uint64_t counts[RETURNS_KINDS];
	uint32_t classes[REPLY_CLASSES];
	/* at most so many; the rest counts for none of them */
	const struct returns_tenant *tenants;
	uint64_t records, octets;	/* kept, about */
};
const struct returns_facts *returns_facts(const struct returns *r);

void returns_count(struct returns *r, enum returns_what what);
/* A bounce's or complaint's. site: 0, unknown. */
void returns_count_class(struct returns *r, enum reply_class class, struct span tenant,
			 uint64_t site);
/* Who else counts by site. */
void returns_watch(struct returns *r,
		   void (*counted)(void *arg, uint64_t site, enum reply_class class), void *arg);

#endif
