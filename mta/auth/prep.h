/*
 * auth/prep: names and passwords made comparable: SASLprep (RFC 4013) by GNU libidn (the only file
 * with <stringprep.h> is prep.c). Any thread.
 */
#ifndef TRAM_AUTH_PREP_H
#define TRAM_AUTH_PREP_H

#include "mta/base/buf.h"
#include "mta/base/span.h"

enum { PREP_NAME_MAX = 255, PREP_PASSWORD_MAX = 1024 };

/*
 * Appends the prepared name. False (and nothing appended): empty, too long, no UTF-8, or it has
 * control octets or what else SASLprep forbids.
 */
bool prep_name(struct span name, struct buf *out);
/*
 * Appends the prepared password; one that SASLprep forbids is appended as it is, for that is how
 * others hash it, too. False: empty, too long, or with a NUL.
 */
bool prep_password(struct span password, struct buf *out);

/* Wipes what it held, then gives the room back. */
void buf_wipe(struct buf *b);

#endif
