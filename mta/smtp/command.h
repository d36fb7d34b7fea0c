/*
 * smtp/command: one command line → a value; nobody reads the text again. Pure.
 */
#ifndef TRAM_SMTP_COMMAND_H
#define TRAM_SMTP_COMMAND_H

#include "mta/base/address.h"
#include "mta/base/arena.h"
#include "mta/base/envelope.h"
#include "mta/base/reply.h"
#include "mta/smtp/mail_wishes.h"

enum smtp_verb {
	VERB_UNKNOWN,
	VERB_HELO,
	VERB_EHLO,
	VERB_MAIL,
	VERB_RCPT,
	VERB_DATA,
	VERB_BDAT,
	VERB_RSET,
	VERB_NOOP,
	VERB_VRFY,
	VERB_EXPN,
	VERB_HELP,
	VERB_QUIT,
	VERB_STARTTLS,
	VERB_AUTH,
	VERB_COUNT
};

struct smtp_command {
	enum smtp_verb verb;
	/* HELO, EHLO name; VRFY, HELP, NOOP text; AUTH: all of it, in the line itself */
	struct span argument;
	struct address path;			/* MAIL, RCPT */
	uint64_t size;				/* MAIL SIZE=, BDAT chunk size */
	bool last;				/* BDAT … LAST */
	uint8_t body, ret, notify;		/* enum body_type, dsn_ret, dsn_notify */
	bool smtputf8;
	bool requiretls;
	struct span envid, orcpt;
	struct mail_wishes wishes;		/* MAIL */
};

struct smtp_command_limits {
	bool strict_addresses, local_submission, offer_binarymime;
	bool extended;				/* EHLO was said: parameters are allowed */
	/* AUTH is offered: AUTH= on MAIL is known (RFC 4954 §5) */
	bool auth;
	bool smtputf8;				/* MAIL had SMTPUTF8: RCPT may go beyond ASCII */
	bool tls;				/* REQUIRETLS counts */
	/* MT-PRIORITY, HOLDFOR and HOLDUNTIL, BY are known */
	bool priority, hold, by;
};

/*
 * line without its CRLF. True: *ret is set (spans in the arena). False: *error is the reply (500,
 * 501, 504, 553, 555 …) and ret->verb tells the verb, if it was known. Control octets and NUL
 * anywhere: 500 5.5.2.
 */
bool smtp_command_parse(struct span line, const struct smtp_command_limits *limits,
			struct arena *arena, struct smtp_command *ret, struct reply *error);

#endif
