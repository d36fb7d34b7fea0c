/*
 * seen: which recipients were met before. Memory grows with what is met: for a tool, not for a
 * daemon.
 */
#ifndef TRAM_TRAMCTL_SEEN_H
#define TRAM_TRAMCTL_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seen {				/* zeroed: none */
	struct seen_place { uint64_t id; uint32_t recipient; bool taken; } *places;
	size_t size, count;		/* size: a power of two */
};

/* False: it was met before. */
bool seen_add(struct seen *seen, uint64_t id, uint32_t recipient);
void seen_free(struct seen *seen);

#endif
