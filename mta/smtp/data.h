/*
 * smtp/data: the dot codec (RFC 5321 §4.5.2). Whole runs, found by memchr, never octet by octet.
 * Pure.
 *
 * Only CRLF.CRLF ends a message. A bare CR or LF, and NUL, are found here: noted (the message is
 * then refused by the server) or, for LF and CR, normalised to CRLF; neither ever ends the message.
 */
#ifndef TRAM_SMTP_DATA_H
#define TRAM_SMTP_DATA_H

#include "mta/base/buf.h"
#include "mta/base/span.h"

enum data_fault { DATA_OK = 0, DATA_BARE_NEWLINE = 1, DATA_NUL = 2, DATA_LONG_LINE = 4 };

struct data_decoder {
	uint8_t state;			/* where in CRLF.CRLF the last octet stood: see data.c */
	bool normalise;
	bool saw_8bit;
	uint8_t faults;			/* enum data_fault, or'ed */
	size_t line;			/* octets of the current line */
	size_t max_line;		/* with CRLF; 0 = none */
};

void data_decoder_init(struct data_decoder *d, bool normalise, size_t max_line);

/*
 * Takes some of in. Returns the octets taken; *content is the run that belongs to the message (a
 * part of in, or a static CR or LF that in does not hold; may be empty), *end whether the final dot
 * has been read. Go on until *end, or until nothing was taken and *content is empty: only then is
 * in empty.
 */
size_t data_decode(struct data_decoder *d, struct span in, struct span *content, bool *end);

/*
 * Content that came by BDAT: the same faults, no dots, nothing is normalised. Call for every piece;
 * last (with the last piece, or an empty one) finds a CR that nothing follows.
 */
void data_check(struct data_decoder *d, struct span content, bool last);

/*
 * The octets at the start of s, in blocks, that hold no bare CR or LF, and no LF with a dot behind
 * it; they end neither with a CR nor before such a dot. 0: look closer. What stands before s is
 * not known: a LF that it begins with counts as bare.
 */
size_t data_plain_run(struct span s);

/*
 * Sending: dot-stuffs whole runs into out; *at_line_start is kept between calls (true at the
 * beginning).
 */
void data_encode(struct span content, bool *at_line_start, struct buf *out);
/* The same for what data_plain_run() has found; not empty. */
void data_encode_plain(struct span run, bool *at_line_start, struct buf *out);
/* The end of the message: CRLF if the last line has none, then ".CRLF". */
void data_encode_end(bool at_line_start, struct buf *out);

#endif
