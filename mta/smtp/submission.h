/*
 * smtp/submission: what a mail program may leave out of a header, and what it must not send on
 * (RFC 6409 §8). For mail that is handed in by its author, never for mail that is relayed. Pure.
 */
#ifndef TRAM_SMTP_SUBMISSION_H
#define TRAM_SMTP_SUBMISSION_H

#include "mta/base/buf.h"
#include "mta/base/span.h"

struct submission_facts {
	struct span hostname;
	uint64_t id;
	int64_t now_ms;
};

/*
 * Appends the header block (with its blank line, if it has one; it may be empty) without Bcc
 * fields; with Date and Message-ID, if it has none.
 */
void submission_complete(struct span header, const struct submission_facts *facts,
			 struct buf *out);

#endif
