/* returned_private: what returned.c (the fields of reports) and returned_words.c share. */
#ifndef TRAM_BOUNCE_RETURNED_PRIVATE_H
#define TRAM_BOUNCE_RETURNED_PRIVATE_H

#include "mta/bounce/returned.h"

/* One more, or NULL where there are enough. */
struct returned_recipient *returned_add(struct returned *ret);
/* "rfc822; <a@b>" or "a@b" → "a@b"; empty: it is none. */
struct span returned_address(struct span value, struct arena *arena);
/* "550 5.1.1 no such user" → code, status where there was none better, and the rest. */
void returned_diagnostic(struct returned_recipient *r, struct span text, struct arena *arena);
/* Its header, and with it where the message that is returned begins. */
void returned_set_header(struct returned *ret, struct span content);

/* Cuts the first line off, without its end. */
struct span returned_line(struct span *text);
/* Is it in there? ASCII letters alike. */
bool returned_has(struct span text, const char *words);

/*
 * A report without parts for programs. False: it is none, and nothing was set. header: its own;
 * text: its words.
 */
bool returned_words(struct span header, struct span text, struct arena *arena,
		    struct returned *ret);

#endif
