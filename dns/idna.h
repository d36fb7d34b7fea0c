/*
 * idna: internationalised domains (RFC 5890): what people write in UTF-8 (U-labels) and what the
 * DNS holds (A-labels, "xn--…") name the same domain. Pure.
 */
#ifndef TRAM_DNS_IDNA_H
#define TRAM_DNS_IDNA_H

#include "mta/base/arena.h"
#include "mta/base/span.h"

/* U-label → A-label form, lower case, in the arena; false: not a domain that can be looked up. */
bool domain_to_ascii(struct span domain, struct arena *arena, struct span *ret);

#endif
