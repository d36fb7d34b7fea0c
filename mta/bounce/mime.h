/*
 * mime: the parts of a message (RFC 2045, 2046), decoded, as far as a report that came back needs
 * them: what is inside a returned message stays closed. Pure. Everything is bounded, and what goes
 * beyond is left out: the message may have been made to hurt.
 */
#ifndef TRAM_BOUNCE_MIME_H
#define TRAM_BOUNCE_MIME_H

#include "mta/base/arena.h"
#include "mta/base/span.h"

enum {
	MIME_PARTS_MAX = 32,
	MIME_DEPTH_MAX = 6,
	MIME_BOUNDARY_MAX = 200,	/* octets; 70 by the book */
};

struct mime_part {
	struct span type;		/* in lower case: "text/plain" */
	struct span content;		/* decoded; line ends as they came */
};

/*
 * Leaves, in order. header: the message's header block. *report_type: of the outermost
 * multipart/report, in lower case, or empty. What is returned points to the arguments or into the
 * arena.
 */
size_t mime_parts(struct span header, struct span body, struct arena *arena,
		  struct mime_part ret[MIME_PARTS_MAX], struct span *report_type);

/*
 * The header block at the start of text, with the blank line, if it has one; *rest: what follows.
 */
struct span mime_header_of(struct span text, struct span *rest);

/* A value with its folding and comments gone, and blanks around it; in the arena. */
struct span mime_unfold(struct span value, struct arena *arena);

/* Text that was written for people to see, out of HTML: tags gone, "&lt;" and the like read. */
struct span mime_html_text(struct span html, struct arena *arena);

#endif
