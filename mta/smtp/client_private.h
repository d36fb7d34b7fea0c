/*
 * smtp/client_private: what the parts of the client share.
 *
 *	client.c		positions, replies, what the owner calls: start reading here
 *	client_dialogue.c	the table of states: what each sends, and how it judges the reply
 *	client_fates.c		what becomes of the recipients
 *	client_body.c		the message's octets
 *	client_commands.c	the text of MAIL, RCPT and the EHLO reply
 */
#ifndef TRAM_SMTP_CLIENT_PRIVATE_H
#define TRAM_SMTP_CLIENT_PRIVATE_H

#include "mta/smtp/client.h"
#include "mta/smtp/convert.h"
#include "mta/smtp/reply_parser.h"

enum state {				/* in the order of a session, and of a transaction */
	AT_BANNER, AT_EHLO, AT_HELO, AT_STARTTLS, AT_TLS, AT_AUTH, AT_QUIT,
	AT_RSET, AT_MAIL, AT_RCPT, AT_DATA, AT_DOT, AT_BDAT, AT_END,
};

struct position {
	enum state state;
	size_t recipient;		/* AT_RCPT */
};

struct run {
	struct smtp_transaction *t;	/* NULL: the session's own */
	struct position sender, receiver;
	/* recipients that are to be named: fewer than the transaction has, by LIMITS */
	size_t count;
	size_t pending, accepted;
	bool bdat;
	bool convert;			/* the content becomes 7-bit on the way */
	bool mail_ok;
	bool streaming;			/* 354, or our BDAT: the body goes out now */
	bool body_told;			/* the owner knows */
	bool handed_over;		/* the end of the message is in the output */
	bool over;			/* the server has ended the transaction: no RSET is owed */
	bool finished;			/* to be reported */
	uint64_t octets;		/* of the body, by BDAT */
};

struct smtp_client_private {
	struct reply_parser parser;
	struct run session, runs[2];	/* the oldest first */
	size_t run_count;
	bool pipelining;
	bool auth_due;			/* the owner has not been told that it is its turn */
	bool tls_due;			/* the owner has not been told to shake hands */
	bool unsolicited;		/* the reply being read began when nothing was awaited */
	bool needs_rset;
	bool ready_told, quitting, closed;
	bool at_line_start, held_cr;	/* of the body */
	struct convert *converter;	/* of the run that is streaming, if it converts */
	struct buf converted;
};

struct client_state {
	const char *name;		/* of what is waited for */
	enum smtp_stage stage;
	size_t timeout;			/* its offset in struct smtp_client_timeouts */
	void (*perform)(struct smtp_client *client, struct run *run);
	void (*judge)(struct smtp_client *client, struct run *run, const struct reply *reply);
};

extern const struct client_state client_states[];

static inline bool
run_awaits(const struct run *run)
{
	return !run->finished && (run->receiver.state != run->sender.state ||
				  run->receiver.recipient != run->sender.recipient);
}

struct run *client_streaming_run(struct smtp_client_private *p);	/* or NULL */
struct position client_position_after(const struct run *run, struct position at);
/* AT_EHLO, AT_HELO, AT_QUIT */
void client_session_sends(struct smtp_client *client, enum state state);

/* client_body.c: before the first octet, and when there will be no more. */
void client_begin_body(struct smtp_client *client, struct run *run);
void client_drop_converter(struct smtp_client *client);

/* The stage at which the run is, for who is to blame. */
enum smtp_stage client_stage_of(const struct run *run);
enum smtp_fate client_fate_of(const struct reply *reply);
/* A copy for an outcome, of bounded length; many recipients may share it. */
struct reply client_keep_reply(struct arena *arena, const struct reply *reply);
/* For a recipient that is still pending; for all that are. */
void client_settle(struct run *run, size_t i, enum smtp_fate fate, enum smtp_stage stage,
		   struct reply kept);
void client_settle_all(struct run *run, enum smtp_fate fate, enum smtp_stage stage,
		       const struct reply *reply);
void client_finish(struct smtp_client *client, struct run *run);

/*
 * All that is pending ends here, and so does the session. reply: 421, or code 0 and a text of
 * ours.
 */
void client_fail(struct smtp_client *client, enum smtp_stage stage, const struct reply *reply);
/* The same for a reply that makes no sense: "what: 250 ok". */
void client_fail_protocol(struct smtp_client *client, enum smtp_stage stage, struct span what,
			  const struct reply *reply);

#endif
