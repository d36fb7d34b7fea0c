/*
 * suppressed: the list of addresses and domains that no mail goes to. One for the process; it
 * stands in the queue's notes (queue/queue.h), so it outlives the process.
 *
 * Every reactor asks it, on its own port; an address that is not in the list costs a look at a
 * filter in memory, and no read. It is changed and swept (of what has expired) on the home loop
 * only.
 */
#ifndef TRAM_SUPPRESSED_H
#define TRAM_SUPPRESSED_H

#include "mta/base/arena.h"
#include "policy/suppression.h"
#include "queue/queue.h"

struct reactor;
struct suppressed;

enum { SUPPRESSED_OCTETS_MAX = 40 << 20 };	/* in the notes: some 300,000 addresses */

/* Reads what there is. 0 or negative errno. */
int suppressed_open(struct reactor *home, struct suppressed **ret);
/* its handles; then run the loop until it is empty */
void suppressed_close(struct suppressed *s);
void suppressed_free(struct suppressed *s);	/* NULL is fine */

/* Is mail for this address (as address_text gives it) suppressed now? On the port's thread. */
bool suppressed_find(const struct suppressed *s, struct queue_port *port, struct span address,
		     struct arena *arena, struct suppression *ret);
/* What its sender is told: 550 5.1.1. In the arena. */
struct reply suppressed_reply(const struct suppression *found, struct arena *arena);

/* ---- home loop only ----------------------------------------------------------------------- */

struct suppressed_change {		/* the caller's, until done */
	struct queue_note note;		/* the list's own */
	struct buf value;
	struct span key;		/* of suppression_key(); must live until done, too */
	bool remove;
	struct suppression entry;	/* unless remove */
	bool urgent;			/* somebody waits */
	void (*done)(struct suppressed_change *change);
	int result;			/* 0, or of the queue: -ENOSPC … */
};
/* 0; or (done is not called) -ENOENT: it is not there to be removed, -ENOSPC: the list is full. */
int suppressed_submit(struct suppressed *s, struct suppressed_change *change);
/* The same for one address, with nobody who waits: what cannot be kept is logged. */
void suppressed_add(struct suppressed *s, struct span address, const struct suppression *entry);
/* Entries of the list, about: those that have expired and are not swept yet count. */
uint64_t suppressed_count(const struct suppressed *s);

#endif
