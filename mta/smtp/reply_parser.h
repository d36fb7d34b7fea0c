/*
 * smtp/reply_parser: a remote server's replies, one at a time; hostile bytes (RFC 5321 §4.2).
 * Pure.
 *
 * At most max_octets of a reply are read, in at most REPLY_LINES_MAX lines: beyond either it is
 * an error, as is a line without a code from 200 to 599. Control octets in the text become '?'
 * (a tab a blank); a bare LF ends a line as CRLF does; lines of one reply must bear one code
 * (the last one counts when they do not, as is common practice).
 */
#ifndef TRAM_SMTP_REPLY_PARSER_H
#define TRAM_SMTP_REPLY_PARSER_H

#include "mta/base/buf.h"
#include "mta/base/reply.h"

enum { REPLY_LINES_MAX = 500 };

enum reply_parse { REPLY_MORE, REPLY_DONE, REPLY_BAD };

struct reply_parser {
	struct buf text;		/* lines so far, parted by '\n', without codes */
	struct buf line;		/* of the current line, what came before */
	uint16_t code;
	struct status status;
	size_t lines, octets, max_octets;
	bool done, bad;
};

void reply_parser_init(struct reply_parser *p, size_t max_octets);
/*
 * Takes some of in (*taken). REPLY_DONE: *ret is one whole reply; its text lives until the next
 * call. The status is that of the first line that has one whose class agrees with the code; it
 * is not part of the text. REPLY_BAD, from then on for ever: *ret has code 0 and a text that
 * says what is wrong.
 */
enum reply_parse reply_parser_take(struct reply_parser *p, struct span in, size_t *taken,
				   struct reply *ret);
/* Nothing of a next reply has been taken. */
bool reply_parser_empty(const struct reply_parser *p);
void reply_parser_free(struct reply_parser *p);

#endif
