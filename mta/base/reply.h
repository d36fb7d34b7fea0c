/*
 * reply: what one SMTP server says to a client, as a value (RFC 5321 §4.2, RFC 3463).
 *
 * The same shape serves what we say and what a remote host said to us. An outcome of mail is a
 * reply (or the `struct status` in it), never an errno. Any thread.
 */
#ifndef TRAM_BASE_REPLY_H
#define TRAM_BASE_REPLY_H

#include "mta/base/buf.h"
#include "mta/base/span.h"

/* An enhanced status code, RFC 3463; klass 0 = none given. */
struct status {
	uint8_t klass;			/* 2, 4 or 5 */
	uint16_t subject, detail;	/* 0 to 999 */
};

struct reply {
	uint16_t code;			/* 200 to 599; 0 = no reply at all */
	struct status status;
	/* lines parted by '\n'; no CR, no control octet but the '\n' */
	struct span text;
};

/* A reply from literals: REPLY(550, 5, 7, 1, "relaying denied"). */
#define REPLY(code_, k, s, d, text_) ((struct reply)REPLY_INIT(code_, k, s, d, text_))
#define REPLY_INIT(code_, k, s, d, text_) /* for static ones */ \
	{ (code_), { (k), (s), (d) }, { "" text_, sizeof(text_) - 1 } }

static inline int
reply_class(const struct reply *reply)
{
	return reply->code / 100;
}

/* "5.7.1", at most 12 octets with the NUL. Returns out. */
char *status_format(struct status status, char out[16]);

/*
 * Reads "5.1.1" at the start of s. True: *ret is set and *len tells the octets read. False: nothing
 * was set. Leading zeros and numbers above 999 are refused, as are classes other than 2, 4 and 5.
 */
bool status_parse(struct span s, struct status *ret, size_t *len);

/*
 * Appends the reply as it goes on the wire: each line with code, '-' or ' ', status (if any) and
 * text, at most 512 octets with CRLF (longer text is folded into more lines at a blank, or cut
 * where there is none). Octets that must not be on a line are replaced by '?'.
 */
void reply_format(const struct reply *reply, struct buf *out);

/* One line for logs and DSNs: "550 5.7.1 relaying denied / second line". */
void reply_to_line(const struct reply *reply, struct buf *out);

#endif
