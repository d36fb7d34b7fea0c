/*
 * server_private: what server.c (bytes in, actions out), server_verbs.c (commands) and
 * server_content.c (DATA and BDAT) share, and nobody else includes.
 *
 * draft: the owner has begun a message and has not been told its end. Whatever voids it goes
 * through server_drop_draft(), so that SMTP_ABORT is owed once and only then.
 */
#ifndef TRAM_SMTP_SERVER_PRIVATE_H
#define TRAM_SMTP_SERVER_PRIVATE_H

#include "mta/smtp/command.h"
#include "mta/smtp/data.h"
#include "mta/smtp/server.h"
#include "mta/smtp/texts.h"

struct smtp_server_private {
	struct buf line;		/* what has arrived of a command line that was cut */
	size_t line_octets;		/* of that line, kept or not */
	char line_last;			/* its last octet */
	struct buf helo;		/* the bytes of helo_name */
	struct buf auth;		/* the bytes of auth_text */
	struct arena scratch;		/* the command being judged */
	size_t refused;			/* recipients of this transaction */
	bool lowered;			/* its priority: MAIL's reply says so */
	/* owed to the owner, or to the client */
	bool ask_due, abort_due, tls_due;
	bool go_ahead_due;		/* 354, if no data is there before it */
	/* the message */
	bool draft;
	bool swallow;			/* its content is read and thrown away */
	bool ended;			/* its end, or the chunk's, has been read */
	struct data_decoder decoder;
	struct reply refusal;		/* the owner's; code 0: none */
	uint64_t octets;		/* of content read, appended or not */
	/* the chunk */
	uint64_t chunk_left;
	bool chunk_last;
	bool chunk_refused;		/* it is no part of a message: refusal is its reply */
	bool chunk_fails;		/* and all chunks after it are refused too */
};

/* server.c */
void server_say(struct smtp_server *server, const struct reply *reply);
void server_say_text(struct smtp_server *server, enum smtp_text text);
void server_end(struct smtp_server *server, const struct reply *reply);
void server_end_text(struct smtp_server *server, enum smtp_text text);
void server_ask(struct smtp_server *server, enum smtp_question question);
void server_drop_draft(struct smtp_server *server);
void server_reset(struct smtp_server *server);		/* no transaction: FRESH or IDLE */

/* A line of an AUTH exchange becomes a question; kept until it is answered. */
void server_ask_auth(struct smtp_server *server, enum smtp_question question, struct span text);

/* server_verbs.c: one command line without its end */
void server_command(struct smtp_server *server, struct span line);
void server_refuse_recipient(struct smtp_server *server, const struct reply *reply);
bool server_is_http(struct span line);

/* server_content.c */
void server_begin_data(struct smtp_server *server);	/* answered 354 */
void server_begin_chunk(struct smtp_server *server, const struct smtp_command *command);
void server_refuse_chunk(struct smtp_server *server, const struct reply *reply);
size_t server_take_content(struct smtp_server *server, struct span in,
			   struct smtp_server_step *step);
void server_finish_content(struct smtp_server *server);	/* once ended */

#endif
