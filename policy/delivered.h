/*
 * delivered: what is kept of a recipient whose message has left the queue, so that a bounce or a
 * complaint that comes back later finds who sent it: a record among the notes of the queue. Pure.
 */
#ifndef TRAM_POLICY_DELIVERED_H
#define TRAM_POLICY_DELIVERED_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"

enum { DELIVERED_KEY = 12, DELIVERED_TEXT_MAX = 1000 };

struct delivered {
	uint64_t id;			/* of the message */
	uint32_t recipient;		/* its number in it */
	struct span sender, address, tenant;
	uint64_t site;			/* the queue's number of it; 0: unknown */
};

/* The key sorts by time of acceptance. */
void delivered_key(uint64_t id, uint32_t recipient, char ret[DELIVERED_KEY]);
void delivered_encode(const struct delivered *d, struct buf *out);
/* 0, -EPROTO, -EBADMSG (the key, too). */
int delivered_decode(struct span key, struct span octets, struct arena *arena,
		     struct delivered *ret);

#endif
