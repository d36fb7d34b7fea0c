/*
 * smtp/reply_parser: a remote server's replies, one at a time; hostile bytes (RFC 5321 §4.2). Pure.
 *
 * At most max_octets of a reply are kept and at most max_lines lines read: beyond either it is an error.
 * Control octets in the text become '?'; a bare LF ends a line as CRLF does; lines of one reply must bear one
 * code (the last one counts when they do not, as is common practice).
 */
#ifndef TRAM_SMTP_REPLY_PARSER_H
#define TRAM_SMTP_REPLY_PARSER_H

#include "mta/base/buf.h"
#include "mta/base/reply.h"

enum reply_parse { REPLY_MORE, REPLY_DONE, REPLY_BAD };

struct reply_parser {
	struct buf text;		/* lines so far, parted by '\n', without codes */
	struct buf line;
	uint16_t code;
	struct status status;
	size_t lines, octets;
	bool done;
};

void reply_parser_init(struct reply_parser *p);
/*
 * Takes some of in (*taken). REPLY_DONE: *ret is one whole reply; its text lives until the next call. The status
 * is that of the first line that has one whose class agrees with the code.
 */
enum reply_parse reply_parser_take(struct reply_parser *p, struct span in, size_t *taken, struct reply *ret);
void reply_parser_free(struct reply_parser *p);

#endif
