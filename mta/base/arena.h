/*
 * arena: memory that is freed all at once, when a transaction or a delivery ends.
 *
 * What a peer can size meets its limit before it gets here, so an allocation that fails aborts.
 * A zeroed arena is a valid empty one. One thread at a time.
 */
#ifndef TRAM_BASE_ARENA_H
#define TRAM_BASE_ARENA_H

#include <stddef.h>

#include "mta/base/span.h"

struct arena {
	struct arena_block *block;	/* newest first */
	size_t used;			/* of the newest block */
	size_t total;			/* octets asked for, in all */
};

void *arena_alloc(struct arena *arena, size_t size);		/* zeroed, aligned for anything */
/* also NUL-terminated, beyond its len */
struct span arena_copy(struct arena *arena, struct span s);
char *arena_str(struct arena *arena, struct span s);		/* the same, as a C string */
/* a copy with ASCII letters in lower case */
struct span arena_lower(struct arena *arena, struct span s);
struct span arena_printf(struct arena *arena, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void arena_free(struct arena *arena);				/* empty, and usable again */

/* malloc and realloc for the few long-lived objects; abort when memory is gone. */
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);

#endif
