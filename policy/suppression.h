/*
 * suppression: an address, or a domain, that no mail goes to: its key and its record among the
 * notes of the queue, and a filter that says of nearly every other address at once that it is not
 * in the list. Pure; any thread.
 */
#ifndef TRAM_POLICY_SUPPRESSION_H
#define TRAM_POLICY_SUPPRESSION_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "policy/classify.h"

enum { SUPPRESSION_KEY_MAX = 500, SUPPRESSION_REASON_MAX = 200 };

struct suppression {
	enum reply_class class;
	int64_t since_ms, until_ms;	/* until_ms 0: until it is taken from the list */
	struct span reason;		/* one line, or empty */
};

void suppression_encode(const struct suppression *s, struct buf *out);
/* 0, -EPROTO, -EBADMSG. */
int suppression_decode(struct span octets, struct arena *arena, struct suppression *ret);

/*
 * The key of "a@example.org", or of a domain ("example.org" or "@example.org"): "@example.org".
 * ASCII letters are lowered, in the local part too: who writes to Jo@ and jo@ writes to one
 * mailbox. False: it is neither.
 */
bool suppression_key(struct span text, struct arena *arena, struct span *ret);

/*
 * Which keys may be in the list. It only grows; while it is empty it takes no memory that counts,
 * and at most 1 MB. Several threads may use it at a time.
 */
struct suppression_filter;

struct suppression_filter *suppression_filter_new(uint64_t seed);
void suppression_filter_free(struct suppression_filter *filter);	/* NULL is fine */
void suppression_filter_add(struct suppression_filter *filter, struct span key);
/* False: it is not. */
bool suppression_filter_may_hold(const struct suppression_filter *filter, struct span key);

#endif
