/*
 * words: the report's first part, for people: what happened, to whom, what was said, what to do.
 * Pure.
 */
#ifndef TRAM_BOUNCE_WORDS_H
#define TRAM_BOUNCE_WORDS_H

#include "mta/bounce/reason.h"

enum bounce_attached { ATTACHED_NOTHING, ATTACHED_HEADER, ATTACHED_MESSAGE };

/*
 * reasons: one per recipient of the facts. Lines end in CRLF; UTF-8 only where an address or a
 * remote's words have it.
 */
void bounce_words(const struct bounce_facts *facts, const struct bounce_reason *reasons,
		  enum bounce_attached attached, struct buf *out);
/* The report's subject, by the worst that it tells. */
const char *bounce_subject(const struct bounce_facts *facts);

#endif
