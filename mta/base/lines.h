/*
 * lines: files of one entry a line: comments and empty lines passed over, faults told as
 * "FILE:3: what is wrong", 20 of them at most. Pure.
 */
#ifndef TRAM_BASE_LINES_H
#define TRAM_BASE_LINES_H

#include "mta/base/buf.h"
#include "mta/base/span.h"

struct lines {
	struct span name;		/* of the file */
	struct span rest;
	size_t number;			/* of the line given last; from 1 */
	size_t faults;
	size_t max_line;
	struct buf *errors;
};

/* The next line that says something, without blanks around it. False at the end. */
bool lines_next(struct lines *lines, struct span *line);
/* Of the line given last. subject: shown in quotes; empty: none. */
void lines_fault(struct lines *lines, struct span subject, const char *fault);

#endif
