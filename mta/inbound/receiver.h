/*
 * receiver: one inbound session: a stream, a server machine, and the message being received. ←
 * mail comes in.
 *
 * Lives on its reactor's loop. The gate makes it by a letter and gets it back by the same letter
 * when it has ended, so that the gate's counts are right without a lock.
 */
#ifndef TRAM_RECEIVER_H
#define TRAM_RECEIVER_H

#include "dns/lookup.h"
#include "mta/net/post.h"
#include "mta/net/stream.h"
#include "mta/reactor/reactor.h"
#include "mta/smtp/header.h"
#include "mta/smtp/server.h"
#include "policy/access.h"

struct session {
	struct letter letter;			/* gate → reactor, and back */
	struct list node;			/* reactor->sessions */
	struct reactor *reactor;
	struct config *config;			/* the one it began under */
	const struct smtp_server_config *smtp;
	const struct listener *settings;	/* of the listener; NULL: a local program */
	struct span listener;			/* its name, for the log */
	int fd;					/* until the stream has it */
	struct access_client client;
	uint32_t uid;				/* of a local program */
	uint64_t limit_key;			/* the gate's: what it is counted under */
	/* sessions of its reactor from which on strangers must not be slow */
	size_t crowd;
	uint64_t number;			/* of the session, in the log */
	int64_t began_ms;			/* monotonic */

	struct stream stream;
	struct smtp_server server;
	/* before the reply to a failed command; NULL: none is running */
	uv_timer_t *delay;
	size_t commands_seen, errors_seen;
	struct lookup *lookup;			/* of the sender's domain */
	/*
	 * AUTH: what is offered, who has logged in; the exchange under way, and what it has sent
	 * home
	 */
	struct buf auth_offer, user;
	struct exchange *exchange;
	size_t outcomes;			/* and questions of what its user may send */
	/* for an answer; for the peer to read our last words; to end soon */
	bool waiting, lingering, hurried;
	const char *why;			/* how it ended */
	size_t accepted;			/* messages */

	/* the message */
	uint64_t id;
	struct draft *draft;
	uint64_t recipients_left;		/* of its user, for this message */
	bool recipients_refused;		/* for they were more than that */
	struct header_scan header;
	struct returning *returning;		/* what of it came back: bounces.c; NULL: nothing */
	struct lane_name *lanes;		/* one per recipient accepted */
	size_t lane_cap;
	uint64_t message_octets;
	size_t memory;				/* counted in reactor->memory_used */
	int64_t data_began_ms;
	uint64_t data_began_octets;
	struct queue_accept accept;
	struct buf stored_header;
	/* the accept is with the queue: its memory must live */
	bool accepting;
	bool closed;				/* the stream is gone */
};

/* on its reactor: everything above `stream` is set */
void session_start(struct session *s);
/* The server stops: 421 to the idle, the rest after their message. now: at once. */
void session_hurry(struct session *s, bool now);
void session_free(struct session *s);		/* by the gate, at the end */

#endif
