/*
 * net/post: how loops talk: letters, handed over once per loop turn, with a wake-up only when
 * the other's box was empty. The only thing that reactors share. A letter is embedded in what it
 * is about, and ownership of that goes with it.
 *
 * A letter to one's own loop is opened later in the same turn, before the loop sleeps: never
 * inside post_send().
 */
#ifndef TRAM_NET_POST_H
#define TRAM_NET_POST_H

#include <stdbool.h>
#include <uv.h>

struct letter {
	struct letter *next;
	void (*open)(struct letter *letter);	/* on the receiving loop */
};

struct letters {			/* first in, first out */
	struct letter *first, **last;
};

struct post {				/* one per loop */
	uv_loop_t *loop;
	unsigned index, peers;		/* which of how many */
	struct post *all;		/* the array of all of them; fixed while loops run */
	uv_mutex_t lock;
	struct letters box;		/* under lock: from other loops */
	uv_async_t wake;
	uv_prepare_t turn_end;
	struct letters own;		/* to ourselves */
	struct letters *out;		/* one per peer */
	void (*flush)(void *arg);	/* at the end of each turn: queue_port_flush */
	void *flush_arg;
};

/* All posts are made by one thread before the loops run. 0 or negative errno. */
int post_init(struct post *post, uv_loop_t *loop, struct post *all, unsigned index, unsigned peers);
/* closes its handles; the loop must run once more */
void post_close(struct post *post);
/*
 * Once all loops have ended: letters that were on their way between them are opened, for they may
 * own what they are about.
 */
void post_free(struct post *post);

void post_send(struct post *from, struct post *to, struct letter *letter);

#endif
