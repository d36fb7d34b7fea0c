/*
 * smtp/client: one outbound SMTP session as a pure machine, the mirror of smtp/server. No I/O,
 * no clock.
 *
 * The owner gives it what arrived (smtp_client_take), asks what happened (the steps it returns),
 * sends client->out whenever it is not empty, and streams the body when asked. The dialogue is a
 * table of states {name, timeout, send, judge}; what is sent and what is awaited have a position
 * each, so pipelining (RFC 2920) is natural: with PIPELINING, MAIL, all RCPTs and DATA go in one
 * write, and the next transaction may be given while the reply to the final dot of this one is
 * awaited, so that its commands travel in the same write as the body's end.
 *
 *	smtp_client_init → take(220…) → CLIENT_READY → smtp_client_send(&transaction) → CLIENT_BODY
 *	→ smtp_client_body(bytes)… → smtp_client_body_end() → CLIENT_DONE (outcomes in the
 *	transaction) → CLIENT_READY → smtp_client_quit() → CLIENT_CLOSED
 *
 * RFC 5321, 1870, 2920, 3030, 3461, 6152, 6531, 9422. Waits of RFC 5321 §4.5.3.2 are told by
 * smtp_client_timeout_ms().
 */
#ifndef TRAM_SMTP_CLIENT_H
#define TRAM_SMTP_CLIENT_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/envelope.h"
#include "mta/base/reply.h"

/* milliseconds; defaults in policy/limits.h (RFC 5321 §4.5.3.2) */
struct smtp_client_timeouts {
	int64_t banner, ehlo, tls, auth, mail, rcpt, data, block, dot, quit;
};

struct smtp_client_config {
	struct span ehlo_name;
	bool pipelining, chunking;		/* use them where offered */
	bool convert_8bit;			/* for a host without 8BITMIME: see convert.h */
	size_t max_reply;			/* octets of one reply that are read */
	struct smtp_client_timeouts timeouts;
};

/* Does the session begin TLS (RFC 3207)? */
enum smtp_client_tls {
	CLIENT_TLS_NEVER,
	/* if it is offered; then there is no way back into plain text */
	CLIENT_TLS_MAY,
	/* without it nothing is said: the session fails at STAGE_TLS */
	CLIENT_TLS_MUST,
};

/* What the server's EHLO offered. */
struct smtp_features {
	/* mechanisms, as named; empty: none; client's arena */
	struct span auth;
	bool esmtp, pipelining, size, eightbitmime, binarymime, chunking, dsn, smtputf8, enhanced,
		starttls;
	bool requiretls;			/* inside TLS; elsewhere it means nothing */
	bool mt_priority, deliverby;
	uint64_t by_min_s;			/* of DELIVERBY; 0: none given */
	uint64_t size_limit;			/* 0: none given */
	/* LIMITS RCPTMAX, MAILMAX, RCPTDOMAINMAX; 0: none given */
	size_t limit_rcpt;
	size_t limit_mail, limit_rcpt_domains;
};

/* where an outcome comes from: decides whom it blames */
enum smtp_stage {				/* stored in the queue: new ones at the end */
	STAGE_CONNECT,				/* used by the owner */
	STAGE_BANNER, STAGE_EHLO, STAGE_TLS,	/* the host */
	STAGE_MAIL,				/* this attempt's recipients */
	STAGE_RCPT,				/* the recipient */
	STAGE_DATA, STAGE_BODY, STAGE_DOT,	/* the message */
	STAGE_QUIT,
	STAGE_AUTH,				/* the host */
};

enum smtp_fate {				/* of one recipient in one attempt */
	FATE_PENDING = 0,
	FATE_DELIVERED,				/* 2xx to the dot (LMTP later: its own reply) */
	FATE_TEMPORARY,				/* 4xx; reply says why */
	FATE_PERMANENT,				/* 5xx */
	/*
	 * "too many recipients", LIMITS, or the session was about to end: send again at once in a
	 * new transaction
	 */
	FATE_NOT_TRIED,
	/* the dot was sent and the connection was lost before its reply */
	FATE_UNCERTAIN,
};

struct smtp_client_recipient {
	const struct recipient *recipient;	/* given */
	enum smtp_fate fate;			/* set */
	enum smtp_stage stage;
	/* in the transaction's arena; code 0: lost connection, ours */
	struct reply reply;
};

struct smtp_transaction {
	struct arena *arena;			/* for what the outcome needs */
	const struct envelope *envelope;	/* its recipients are not used: these are */
	struct smtp_client_recipient *recipients;
	size_t recipient_count;
	/* octets of content (header and body), for SIZE and BDAT */
	uint64_t size;
	bool needs_8bit;			/* content has octets above 127 */
	bool needs_smtputf8;			/* an address, or the header, is not ASCII */
	/*
	 * RFC 8689; with a null reverse-path only where it is offered: a report is not lost for it
	 */
	bool requiretls;
	int64_t by_left_s;			/* until envelope->by_ms, where it has a by_mode */
	/* set */
	/* its MAIL is in the output: if the connection dies it took part */
	bool started;
	bool lost;				/* the connection failed under it */
	/* the server took over NOTIFY: no relayed DSN is owed */
	bool dsn_passed;
	/* the server took over what is to be there by a time (RFC 2852) */
	bool by_passed;
	/* the name in the greeting, for the DSN's Remote-MTA; may be empty */
	struct span final_reply_host;
};

enum smtp_client_event {
	/* send out, if any; then wait for bytes, until smtp_client_timeout_ms() */
	CLIENT_WAIT,
	/* greeted and idle: smtp_client_send() or smtp_client_quit(), or keep */
	CLIENT_READY,
	/* stream the body of client->current now: smtp_client_body(), …_body_end() */
	CLIENT_BODY,
	/* *done has the fates of every recipient; CLIENT_READY (or closed) follows */
	CLIENT_DONE,
	/*
	 * 220 to STARTTLS came: drop what was read behind it, shake hands, smtp_client_tls_done()
	 */
	CLIENT_START_TLS,
	/*
	 * it is the owner's turn to say something of AUTH: first with auth_reply.code 0, then with
	 * the reply to each line: smtp_client_auth_line(), _done() or _failed()
	 */
	CLIENT_AUTH,
	/* nothing more to say: send out, close. client->failure tells why, code 0 if by QUIT */
	CLIENT_CLOSED,
};

struct smtp_client {
	const struct smtp_client_config *config;
	enum smtp_client_tls want_tls;		/* the owner's; NEVER at first */
	bool tls;				/* it is there */
	/* the owner's: log in before anything else is said */
	bool want_auth;
	struct reply auth_reply;		/* CLIENT_AUTH; its text is good during that step */
	struct buf out;				/* to send; the owner consumes it */
	struct smtp_features features;
	/* the name the server gave itself; client's arena */
	struct span greeting_name;
	struct smtp_transaction *current;	/* whose body is, or will be, streamed */
	/* how the session failed, for the owner's blame: */
	enum smtp_stage failure_stage;
	/* banner, EHLO refused; 421 anywhere; or code 0 and a text of ours */
	struct reply failure;
	size_t transactions;			/* begun in this session */
	size_t replies;				/* read in this session */
	struct arena arena;			/* of the session */
	struct smtp_client_private *p;
};

void smtp_client_init(struct smtp_client *client, const struct smtp_client_config *config);
void smtp_client_free(struct smtp_client *client);
/*
 * The handshake is done: after CLIENT_START_TLS (EHLO is said anew, RFC 3207 §4.2), or before the
 * greeting where TLS comes first.
 */
void smtp_client_tls_done(struct smtp_client *client);
void smtp_client_auth_line(struct smtp_client *client, struct span line);	/* with its CRLF */
void smtp_client_auth_done(struct smtp_client *client);
/* The session ends at STAGE_AUTH, with this reply: the server's, or ours (code 0). */
void smtp_client_auth_failed(struct smtp_client *client, const struct reply *reply);

/*
 * Takes arrived octets (may be empty: to go on), returns how many; *event tells what happened,
 * *done the transaction that ended (CLIENT_DONE). Call until CLIENT_WAIT with all of in taken.
 */
size_t smtp_client_take(struct smtp_client *client, struct span in, enum smtp_client_event *event,
			struct smtp_transaction **done);

/*
 * Begins a transaction: allowed when none is under way, and (smtp_client_can_queue) after
 * body_end() of the one before when the server has PIPELINING; at most one is queued. The
 * transaction stays the owner's and must live until its CLIENT_DONE. One that the server cannot
 * take ends at once by CLIENT_DONE: too large for SIZE (552 5.3.4), SMTPUTF8 needed and absent
 * (550 5.6.7 for an address, 5.6.9 for the header alone), BINARYMIME absent (554 5.6.3), REQUIRETLS
 * needed and absent (550 5.7.30). So does
 * one that is given before CLIENT_READY or while we take leave (quit, 421, MAILMAX reached: then
 * the client quits by itself): not tried. Each recipient's fate is set anew.
 */
void smtp_client_send(struct smtp_client *client, struct smtp_transaction *transaction);
bool smtp_client_can_queue(const struct smtp_client *client);
/* Greeted, does this host take it, by what EHLO said? Why not: what smtp_client_send() would. */
struct reply smtp_client_refusal(const struct smtp_client *client,
				 const struct smtp_transaction *transaction);

/* The body, header block first: any cut. Dot-stuffed, or in BDAT chunks, into client->out. */
void smtp_client_body(struct smtp_client *client, struct span bytes);
void smtp_client_body_end(struct smtp_client *client);
/*
 * The body cannot be had (store damaged): the owner must break the connection; ends all by
 * CLIENT_DONE, temporary.
 */
void smtp_client_body_failed(struct smtp_client *client);

void smtp_client_quit(struct smtp_client *client);

/*
 * The connection was lost (text: "connection reset by peer", "timeout waiting for reply to DATA"
 * …): every pending transaction gets its fates; call take() with nothing until CLIENT_CLOSED to
 * collect them.
 */
void smtp_client_lost(struct smtp_client *client, struct span text);

/*
 * How long to wait for the next octet from now, by the oldest command that is not answered; -1:
 * nothing is awaited.
 */
int64_t smtp_client_timeout_ms(const struct smtp_client *client);
const char *smtp_client_waiting_for(const struct smtp_client *client);	/* "reply to RCPT" … */

#endif
