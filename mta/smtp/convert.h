/*
 * smtp/convert: 8-bit content → 7-bit, for a host without 8BITMIME (RFC 6152 §3): each part that
 * says it is 8bit or binary becomes quoted-printable (text) or base64 (RFC 2045 §6). Streaming, and
 * pure.
 *
 * What is not declared stays as it is, but for a message of one part: that one is encoded in any
 * case, and if it is no MIME at all it becomes so. Multiparts and messages in messages are followed
 * to CONVERT_DEPTH_MAX, without recursion; what lies deeper, a boundary that is none (RFC 2046
 * §5.1.1), or a header of a part beyond CONVERT_HEADER_MAX stays as it is. Signatures over the
 * content (DKIM, S/MIME) do not survive. Memory: one header block, and the beginning of a line.
 */
#ifndef TRAM_SMTP_CONVERT_H
#define TRAM_SMTP_CONVERT_H

#include "mta/base/buf.h"
#include "mta/base/span.h"

enum { CONVERT_DEPTH_MAX = 32, CONVERT_BOUNDARY_MAX = 70, CONVERT_HEADER_MAX = 256 * 1024 };

enum convert_mode { CONVERT_HEADER, CONVERT_AS_IS, CONVERT_QUOTED, CONVERT_BASE64 };

struct convert_level {			/* a multipart that is open */
	char boundary[CONVERT_BOUNDARY_MAX];
	uint8_t len;
	bool digest;			/* its parts are messages unless they say otherwise */
};

struct convert {
	enum convert_mode mode;
	struct convert_level levels[CONVERT_DEPTH_MAX];
	size_t depth;
	struct buf line;		/* the line begun, while it may be a delimiter */
	bool in_line;			/* its beginning has been written already */
	struct buf header;		/* the block being read */
	bool top;			/* that is the message's own */
	bool digest;			/* what the header describes is a message by default */
	/* quoted-printable: octets on this line; a blank whose line may end behind it, or 0 */
	size_t column;
	char blank;
	/* base64: octets not yet written; a line end that may belong to a delimiter */
	uint8_t three[3];
	size_t have;
	bool newline;
};

void convert_init(struct convert *c);
/* The message from its header's first octet on, in any cut; what is known of the result → out. */
void convert_take(struct convert *c, struct span bytes, struct buf *out);
void convert_end(struct convert *c, struct buf *out);
void convert_free(struct convert *c);

#endif
