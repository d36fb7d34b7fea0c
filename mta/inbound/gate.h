/*
 * gate: accepts connections and hands each to the reactor with fewest sessions; owns what spans
 * sessions: connection counts, the rate of local users, what users send, descriptors. First
 * reactor's loop.
 */
#ifndef TRAM_GATE_H
#define TRAM_GATE_H

#include "mta/auth/quota.h"
#include "mta/auth/throttle.h"
#include "mta/inbound/receiver.h"

struct gate;

enum { GATE_ERROR_MAX = 512 };

/*
 * Binds everything the configuration names. -errno, and a sentence in error. reactors: all of
 * them, home first.
 */
int gate_open(struct reactor *reactors, unsigned count, struct gate **ret,
	      char error[GATE_ERROR_MAX]);
/*
 * After a reload (home->config is the new one): binds what is new first, then closes what is
 * gone.
 */
int gate_reconfigure(struct gate *gate, char error[GATE_ERROR_MAX]);
/* drain: listeners stay, new ones get 421 */
void gate_accepting(struct gate *gate, bool on);
void gate_close(struct gate *gate);			/* stops listening; sessions go on */
void gate_free(struct gate *gate);
size_t gate_sessions(const struct gate *gate);		/* in all */
/* sessions_gone(arg) once there is none. */
void gate_when_empty(struct gate *gate, void (*gone)(void *arg), void *arg);

/* On the home reactor: may this local user send one more message now? */
bool gate_local_user_may_send(struct gate *gate, uint32_t uid, size_t per_minute);
/* On the home reactor: a login failed, or not. Guesses are counted over all sessions. */
struct throttle_verdict gate_login_failed(struct gate *gate, const struct netaddr *client,
					  struct span user, uint64_t guess);
/* Before a password is checked. */
struct throttle_verdict gate_login_begins(struct gate *gate, const struct netaddr *client,
					  struct span user);
void gate_login_succeeded(struct gate *gate, const struct netaddr *client, struct span user);
struct throttle *gate_throttle(struct gate *gate);	/* the home reactor's */
size_t gate_failed_logins(const struct gate *gate);	/* since the start */
uint64_t gate_guess_seed(const struct gate *gate);	/* any thread */
struct quota *gate_quota(struct gate *gate);		/* of users; the home reactor's */
/* A session has ended: sends it home, where it is uncounted and freed. */
void gate_session_ended(struct session *session);

#endif
