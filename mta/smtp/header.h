/*
 * smtp/header: finds where a message's header block ends while it streams past, and what we must
 * know of it.
 *
 * Gathers the header block (with its blank line) into a buf up to max_size; counts Received fields
 * and lines; tells whether it has octets above 127. A line that is no field ends the header,
 * without a blank line: it is body, as is all of a message whose first line is no field. Pure. RFC
 * 5322 §2.2.
 */
#ifndef TRAM_SMTP_HEADER_H
#define TRAM_SMTP_HEADER_H

#include "mta/base/buf.h"
#include "mta/base/span.h"

struct header_scan {
	/* the header block so far; once complete with its blank line, if it has one */
	struct buf text;
	/* the line begun; once complete: the beginning of the body */
	struct buf held;
	bool complete;			/* what comes now is body */
	/* more than max_size octets or max_lines lines: refuse with 552 5.3.4 */
	bool too_large;
	bool saw_8bit;
	size_t received;		/* Received fields seen */
	size_t lines;			/* header fields, continuation lines too */
	size_t max_size, max_lines;
};

void header_scan_init(struct header_scan *h, size_t max_size, size_t max_lines);
/*
 * Takes octets of the message in order; returns how many: fewer than in.len only if the header is
 * complete, and then the body is h->held (what was taken in earlier calls before it was known to be
 * no field), then the rest. So behind each call, and header_scan_end(): if h->complete, append
 * h->held to the body, and clear it.
 */
size_t header_scan_take(struct header_scan *h, struct span in);
/*
 * The message ended: a header without a blank line is complete now. What is left in h->held is
 * body.
 */
void header_scan_end(struct header_scan *h);
void header_scan_free(struct header_scan *h);

/*
 * Goes through the fields of a header block: *at starts as the whole block and moves on. False at
 * the end. *name without the colon and blanks before it, *value with its folding, without the
 * blanks before it and the last CRLF. Lines that are no fields are passed over.
 */
bool header_next(struct span *at, struct span *name, struct span *value);
/* The next one of this name (ASCII case alike); *value is left alone if there is none. */
bool header_next_named(struct span *at, struct span name, struct span *value);
/* Appends the block without the fields of that name. */
void header_copy_without(struct span block, struct span name, struct buf *out);
/* The first field of that name, or false. */
bool header_find(struct span block, struct span name, struct span *value);

#endif
