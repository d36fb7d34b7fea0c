/*
 * smtp/server: one inbound SMTP session as a pure machine. Bytes in, actions out; no I/O, no clock,
 * no policy.
 *
 * The owner feeds what it read and does what comes back, in a loop:
 *
 *	while (in.len > 0 || asked again) {
 *		size_t n = smtp_server_take(server, in, &step);		in = span_skip(in, n);
 *		switch (step.action) …
 *	}
 *
 * Replies gather in server->out; the owner sends all of it when the step is SMTP_WAIT (one flush
 * for each group of pipelined commands), before TLS, before closing, and whenever it grows beyond
 * its liking. While a question is open smtp_server_take() takes no bytes (it returns SMTP_WAIT), so
 * pipelining, ordering and back-pressure follow from the shape. smtp_server_answer() resumes it.
 *
 * RFC 5321, 1869, 1870, 2034, 2920, 3030, 3207, 3461, 4954, 6152, 6531, 8689, 9422. Memory: the
 * machine holds at most one command line, the transaction's envelope (bounded by its limits), and
 * the replies not yet sent.
 */
#ifndef TRAM_SMTP_SERVER_H
#define TRAM_SMTP_SERVER_H

#include "mta/base/address.h"
#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/envelope.h"
#include "mta/base/reply.h"
#include "mta/smtp/mail_wishes.h"

/* What the session offers and allows. Shared by many sessions, read only. */
struct smtp_server_config {
	struct span hostname;			/* in the greeting, EHLO and 221 */
	struct span banner;			/* behind the name in the greeting: "ESMTP tram" */
	uint64_t max_message_size;		/* octets; SIZE; never 0 */
	size_t max_recipients;			/* per transaction; 452 4.5.3 above */
	/* text line with CRLF; above: 500 5.2.3 … after the dot */
	size_t max_line;
	/* command line with CRLF (≥ 1000 with our extensions); 500 5.5.2 above */
	size_t max_command;
	/* transactions per session; then 421 4.7.0 … and close */
	size_t max_messages;
	/* failed commands in a session; then 421 4.7.0 and close */
	size_t max_errors;
	/* NOOP, RSET, VRFY, HELP, EHLO since the last message; then errors */
	size_t max_junk;
	/* the angle brackets are required and no blank may follow the colon */
	bool strict_addresses;
	/* a bare LF or CR in content becomes CRLF (never ends the message) */
	bool normalise_newlines;
	bool offer_binarymime;
	/* a local program: bare local parts are allowed in paths */
	bool local_submission;
	/* the listener can do TLS (and the session has none yet) */
	bool offer_starttls;
	/* no mail without TLS: 530 5.7.0 (RFC 3207 §4) */
	bool require_tls;
	/* no mail of who has not logged in: 530 5.7.0 (RFC 4954 §6) */
	bool require_auth;
	/* nothing is offered before TLS: say so (538 5.7.11), not that AUTH is unknown */
	bool auth_needs_tls;
	/* to who may relay, or has logged in: MT-PRIORITY, up to max_priority; */
	bool offer_priority;
	uint64_t max_priority;
	/* FUTURERELEASE, for so long; DELIVERBY, from so soon on; 0: not offered */
	int64_t hold_max_ms, by_min_ms;
	size_t max_auth_line;			/* of AUTH and what follows it, with CRLF */
};

enum smtp_server_action {
	/* nothing more to do until more bytes, or the answer, come: send server->out */
	SMTP_WAIT,
	SMTP_APPEND,		/* step.bytes belongs to the message (un-stuffed, CRLF lines) */
	SMTP_ASK,		/* decide step.question, then smtp_server_answer() */
	/* the message begun is void (RSET, error, QUIT in BDAT …): drop the draft; go on */
	SMTP_ABORT,
	/* send out, drop unread input, shake hands, then smtp_server_tls_done() */
	SMTP_START_TLS,
	SMTP_CLOSE,		/* send out, then close */
};

enum smtp_question {
	SMTP_QUESTION_NONE,
	SMTP_QUESTION_MAIL,	/* server->envelope has the reverse-path and its parameters */
	/* server->asked has the recipient: answered 2xx it joins the envelope */
	SMTP_QUESTION_RCPT,
	/* before 354, or the first BDAT: may a message begin now? answer 354 or 4xx/5xx */
	SMTP_QUESTION_DATA,
	SMTP_QUESTION_MESSAGE,	/* all of it has been appended: 250 only once it is durable */
	/*
	 * auth_text: what stands behind AUTH; then each line of the client's that follows a 334.
	 * 334 and its text go out as they are; 235: logged in; the rest ends the exchange.
	 */
	SMTP_QUESTION_AUTH,
	SMTP_QUESTION_AUTH_LINE,
};

struct smtp_server_step {
	enum smtp_server_action action;
	enum smtp_question question;
	/* SMTP_APPEND: part of the input given, valid until the next call */
	struct span bytes;
};

enum smtp_server_state {			/* in the order of a session */
	SERVER_GREETING,			/* the greeting has not been given */
	SERVER_FRESH,				/* no EHLO or HELO yet */
	SERVER_IDLE,				/* greeted, no transaction */
	SERVER_AUTH,				/* 334 was said: the next line is no command */
	SERVER_MAIL,				/* MAIL accepted */
	SERVER_RCPT,				/* at least one RCPT accepted */
	SERVER_DATA,				/* between 354 and the dot */
	SERVER_BDAT,				/* inside a chunk */
	SERVER_BDAT_NEXT,			/* between chunks */
	SERVER_BDAT_FAILED,			/* chunks are swallowed, 503, until RSET */
	SERVER_CLOSING,
};

enum smtp_helo { HELO_NONE, HELO_HELO, HELO_EHLO };

struct smtp_server {
	const struct smtp_server_config *config;
	enum smtp_server_state state;
	enum smtp_question question;		/* open now */
	struct buf out;				/* replies to send; the owner consumes it */
	/* facts, for Received, policy and log */
	enum smtp_helo helo;
	/* as the client gave it, control octets refused; session life */
	struct span helo_name;
	bool tls;
	/* the mechanisms that EHLO shows: the owner's, anew after TLS; empty: AUTH is unknown */
	struct span auth_offer;
	struct span auth_text;			/* of the open question; wiped by its answer */
	bool authenticated;
	bool privileged;			/* the owner's: it may relay, logged in or not */
	/* the owner's: of this client; the config's at first */
	int max_priority;
	int64_t now_ms;				/* the owner's: wall time, for FUTURERELEASE */
	bool chunking_used;			/* this message came by BDAT */
	bool saw_8bit;				/* this message's content has octets above 127 */
	/* the transaction */
	struct arena arena;			/* freed by RSET, the end of a message, EHLO */
	struct envelope envelope;
	struct recipient asked;			/* SMTP_QUESTION_RCPT */
	uint64_t declared_size;			/* SIZE= on MAIL, or 0 */
	struct mail_wishes wishes;		/* the rest of MAIL; within what is offered */
	uint64_t content_octets;		/* appended so far */
	/* counters of the session */
	size_t commands, errors, junk, messages, recipients_refused;
	/* line buffer, decoder, BDAT counters: server_private.h */
	struct smtp_server_private *p;
};

/*
 * The owner answers "may we greet?" by the reply it gives: 220 (text ignored), or 421/554 and then
 * close.
 */
void smtp_server_init(struct smtp_server *server, const struct smtp_server_config *config);
/* NULL: 220 */
void smtp_server_greet(struct smtp_server *server, const struct reply *instead);
void smtp_server_free(struct smtp_server *server);

/*
 * Takes some of in, returns how many octets, and sets *step. Call again until it returns SMTP_WAIT;
 * with in empty it goes on with what it holds. Never takes bytes while a question is open.
 * Bytes that are there already when it is called after a DATA was answered 354 are data sent before
 * the go-ahead: refused, and the session ends. With SMTP_CLOSE and SMTP_START_TLS all of in is
 * taken, and nothing of it was looked at.
 */
size_t smtp_server_take(struct smtp_server *server, struct span in, struct smtp_server_step *step);

/*
 * The answer to the open question. For MAIL, RCPT: 2xx, 4xx, 5xx. 421 closes the session after it
 * is sent.
 */
void smtp_server_answer(struct smtp_server *server, const struct reply *reply);

/*
 * The message being received is refused before its end (too large a header, no disk, too many
 * hops …): what is left of it is swallowed, then this reply is given instead of
 * SMTP_QUESTION_MESSAGE. The draft is the owner's to drop at once. No effect outside of DATA and
 * BDAT. The first call counts; what is wrong with the octets themselves goes before it.
 */
void smtp_server_refuse_message(struct smtp_server *server, const struct reply *reply);

/*
 * Ends the session from our side: "421 4.3.2 …" (shutdown, idle too long …). Follow with
 * SMTP_CLOSE's duties.
 */
void smtp_server_close(struct smtp_server *server, const struct reply *reply);

/*
 * The handshake is done: after STARTTLS, EHLO is forgotten (RFC 3207 §4.2); or before the greeting,
 * on a listener where TLS comes first.
 */
void smtp_server_tls_done(struct smtp_server *server);

/* The client has nothing in progress and may be told 421 without harm. */
bool smtp_server_idle(const struct smtp_server *server);

/*
 * HOLDFOR, HOLDUNTIL and BY are within what EHLO says: TEXT_COUNT (texts.h), or why not. A priority
 * above max_priority is lowered.
 */
unsigned smtp_server_judge_wishes(const struct smtp_server_config *config, int max_priority,
				  int64_t now_ms, struct mail_wishes *wishes);

/* What the session waits for, for `tramctl sessions`: "command", "data", "answer: recipient" … */
const char *smtp_server_waiting_for(const struct smtp_server *server);

#endif
