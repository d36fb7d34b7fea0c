/*
 * base64: RFC 4648 §4, by the letter: padded, no blanks, no bits left over. Any thread.
 */
#ifndef TRAM_BASE_BASE64_H
#define TRAM_BASE_BASE64_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"

void base64_encode(struct span octets, struct buf *out);
/* Into the arena; false if it is not base64. */
bool base64_decode(struct span text, struct arena *arena, struct span *ret);
/* The same to where text.len / 4 * 3 octets have room; on failure some may have been written. */
bool base64_decode_to(struct span text, char *to, size_t *len);

#endif
