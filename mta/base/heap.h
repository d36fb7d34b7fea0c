/*
 * heap: embedded nodes, the one with the smallest time first. O(log n); a node knows its place,
 * so that it can be moved or taken out. One thread at a time.
 */
#ifndef TRAM_BASE_HEAP_H
#define TRAM_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
	int64_t at_ms;
	size_t place;		/* 1-based index; 0 = in no heap */
};

struct heap {
	struct heap_node **nodes;
	size_t count, cap;
};

static inline bool
heap_holds(const struct heap_node *node)
{
	return node->place != 0;
}

void heap_set(struct heap *heap, struct heap_node *node, int64_t at_ms);	/* add, or move */
/* no harm if in none */
void heap_remove(struct heap *heap, struct heap_node *node);
struct heap_node *heap_first(const struct heap *heap);				/* or NULL */
void heap_free(struct heap *heap);

#endif
