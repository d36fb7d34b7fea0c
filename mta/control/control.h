/*
 * control: the operator's socket (tramctl). On the first reactor's loop only.
 *
 * Whoever may open the socket may command (its mode says who; the peer's uid and pid are logged
 * with each command that changes something). A bad request closes that peer, never the daemon;
 * long answers are made in slices between other work, and no faster than they are read. What the
 * daemon as a whole must do stands in control_owner. protocol.h says what goes over the socket.
 */
#ifndef TRAM_CONTROL_H
#define TRAM_CONTROL_H

#include <jansson.h>
#include <stdbool.h>

#include "mta/base/buf.h"

struct control;
struct netaddr;
struct reactor;

enum { CONTROL_ERROR_MAX = 512 };

/*
 * The owner gathers the sessions of all reactors, then calls done with an array of objects
 * (which it gives away).
 */
struct control_sessions {
	void (*done)(struct control_sessions *request, json_t *array);
	json_t *array;			/* for the owner's use meanwhile */
	unsigned pending;
};

struct control_owner {
	void *arg;
	/* 0, or negative errno; message: what was wrong (nothing has changed then), or warnings. */
	int (*reload)(void *arg, struct buf *message);
	void (*drain)(void *arg, bool on);
	void (*stop)(void *arg);
	/* done may be called at once or later, on this loop, exactly once. */
	void (*sessions)(void *arg, struct control_sessions *request);
	void (*stats)(void *arg, json_t *into);			/* adds members */
	void (*certificates)(void *arg, json_t *array);		/* adds an object for each */
	void (*bans)(void *arg, json_t *array);			/* the same */
	/* forgets the failed logins of its network; false: there were none */
	bool (*pardon)(void *arg, const struct netaddr *address);
};

/*
 * Listens at home->config->control. owner is copied. -errno, and a sentence in error.
 * home->dispatcher, home->queue and home->port must be there.
 */
int control_start(struct reactor *home, const struct control_owner *owner, struct control **ret,
		  char error[CONTROL_ERROR_MAX]);
/*
 * Closes the socket and its peers, and removes the socket's file. It frees itself while the loop
 * runs on, as soon as nothing that the queue, the dispatcher or the pool works on for it is
 * left. NULL is fine.
 */
void control_stop(struct control *control);

#endif
