/*
 * auth/checker: passwords are checked in libuv's pool, one at a time in the whole process, so that
 * guesses take at most one thread of it, and never a loop.
 *
 * What waits is bounded in all and per client, and clients take turns: one who guesses waits for
 * itself. There are three ranks, each with its own room: the better go first, but for every fourth
 * check, so that none waits for ever. A check that came out right is remembered for a while (as a
 * keyed digest, in a bounded table), so that a program that logs in for each message does not pay
 * each time.
 */
#ifndef TRAM_AUTH_CHECKER_H
#define TRAM_AUTH_CHECKER_H

#include <uv.h>

#include "mta/auth/passwords.h"
#include "mta/base/list.h"

struct checker;				/* one per process, shared by the loops */

struct checker_config {
	size_t max_waiting;		/* of a rank; 0: 100; half of them for one client */
	int64_t remember_ms;		/* 0: not at all */
};

struct checker *checker_new(const struct checker_config *config);
/* after all ports are closed and their loops have run empty */
void checker_free(struct checker *checker);
size_t checker_waiting(struct checker *checker);	/* for metrics */

/* What is known of who asks, the best first. */
enum check_rank { CHECK_FRIEND, CHECK_UNKNOWN, CHECK_SUSPECT, CHECK_RANKS };

/* One per loop. */
struct checker_port {
	struct checker *checker;
	uv_async_t wake;
	struct list done;		/* under the checker's lock */
	struct list open;		/* submitted here, not told yet */
	bool closing;
};

int checker_port_init(struct checker_port *port, struct checker *checker, uv_loop_t *loop);
/* Cancels all that is open. The loop must run until it is empty. */
void checker_port_close(struct checker_port *port);

/* Embedded in whoever waits. */
struct check {
	/* on the port's loop, never inside checker_submit() */
	void (*done)(struct check *check, bool right);
	struct check_job *job;		/* NULL: nothing is open */
};

/*
 * client: whom it counts for (netaddr_limit_key). The password is copied, and wiped. 0; or -EBUSY:
 * too much waits: 454 4.7.0, done is not called.
 */
int checker_submit(struct checker_port *port, struct check *check, enum check_rank rank,
		   uint64_t client, const struct password_hash *hash, struct span password);
/* done does not come; no harm if none is open */
void check_cancel(struct check *check);

#endif
