/* arena: blocks that double up to 64 KB; see arena.h. */
#include "mta/base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCK_FIRST = 1024, BLOCK_MAX = 65536 };

struct arena_block {
	struct arena_block *older;
	size_t size;
	alignas(max_align_t) char bytes[];
};

void *
xcalloc(size_t count, size_t size)
{
	void *p = calloc(count, size);

	if (p == NULL && count != 0 && size != 0)
		abort();
	return p;
}

void *
xrealloc(void *old, size_t size)
{
	void *p = realloc(old, size);

	if (p == NULL && size != 0)
		abort();
	return p;
}

static void
arena_grow(struct arena *arena, size_t size)
{
	size_t want = arena->block ? arena->block->size * 2 : BLOCK_FIRST;
	struct arena_block *block;

	if (want > BLOCK_MAX)
		want = BLOCK_MAX;
	if (want < size)
		want = size;
	block = malloc(sizeof(*block) + want);
	if (block == NULL)
		abort();
	block->older = arena->block;
	block->size = want;
	arena->block = block;
	arena->used = 0;
}

void *
arena_alloc(struct arena *arena, size_t size)
{
	size_t rounded = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	void *p;

	if (rounded < size)
		abort();
	if (arena->block == NULL || arena->block->size - arena->used < rounded)
		arena_grow(arena, rounded);
	p = arena->block->bytes + arena->used;
	arena->used += rounded;
	arena->total += rounded;
	return memset(p, 0, size);
}

char *
arena_str(struct arena *arena, struct span s)
{
	char *p = arena_alloc(arena, s.len + 1);

	if (s.len > 0)
		memcpy(p, s.at, s.len);
	return p;
}

struct span
arena_copy(struct arena *arena, struct span s)
{
	return span_of(arena_str(arena, s), s.len);
}

struct span
arena_lower(struct arena *arena, struct span s)
{
	char *at = arena_str(arena, s);

	for (size_t i = 0; i < s.len; i++)
		at[i] = ascii_lower(at[i]);
	return span_of(at, s.len);
}

struct span
arena_printf(struct arena *arena, const char *format, ...)
{
	char room[256];			/* most fits: it is formatted once only */
	va_list ap;
	char *p;
	int len;

	va_start(ap, format);
	len = vsnprintf(room, sizeof(room), format, ap);
	va_end(ap);
	if (len < 0)
		abort();
	p = arena_alloc(arena, (size_t)len + 1);
	if ((size_t)len < sizeof(room)) {
		memcpy(p, room, (size_t)len + 1);
		return span_of(p, (size_t)len);
	}
	va_start(ap, format);
	vsnprintf(p, (size_t)len + 1, format, ap);
	va_end(ap);
	return span_of(p, (size_t)len);
}

void
arena_free(struct arena *arena)
{
	struct arena_block *block = arena->block;

	while (block != NULL) {
		struct arena_block *older = block->older;

		free(block);
		block = older;
	}
	*arena = (struct arena){ 0 };
}
