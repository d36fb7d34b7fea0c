/*
 * reporter_private: what reporter.c (reports that are owed) and reporter_age.c (expiry, delay
 * warnings) share.
 */
#ifndef TRAM_REPORTER_PRIVATE_H
#define TRAM_REPORTER_PRIVATE_H

#include "mta/outbound/dispatcher_private.h"

enum {
	SOON_MS = 20, IDLE_MS = 1000, GATHER_MS = 60000, MORE_MS = 100,
	WALK_PAGE = 100, AT_ONCE = 8,
};

struct reporter {
	struct dispatcher *d;
	uv_timer_t timer, walker;
	struct map making;		/* ids whose report is with the queue */
	bool stopping, walking;
	bool more;			/* a walk has found more than it could do at once */
	struct queue_cursor_set cursors;
	uint64_t expiry_id, delay_id;
	struct dispatcher_edit expire;
	struct attempt expired;
	uint64_t *expire_ids;
	uint64_t expire_next;		/* the cursor once the edit is done */
	uint64_t *expire_cursor;	/* … and which one: expiry_id or report_id */
	/* reports of ours may have a shorter life: walked apart, anew after a start */
	uint64_t report_id;
	bool expiring;
	/*
	 * how far those are seen to that may go later than they came, or are to be there by a time
	 */
	struct queue_moment expired_at, warned_at, by_at, next_at;
	struct queue_moment *moment_cursor;
};

/* True: there was something to report, and it is with the queue. */
bool reporter_make(struct reporter *r, uint64_t id, bool delay);
/* reporter_age.c */
void reporter_begin_walk(struct reporter *r);

#endif
