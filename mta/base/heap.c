/* heap: a binary heap in an array; see heap.h. */
#include "mta/base/heap.h"

#include <assert.h>
#include <stdlib.h>

#include "mta/base/arena.h"

static void
put(struct heap *heap, size_t place, struct heap_node *node)
{
	heap->nodes[place - 1] = node;
	node->place = place;
}

static void
rise(struct heap *heap, struct heap_node *node)
{
	size_t place = node->place;

	while (place > 1 && heap->nodes[place / 2 - 1]->at_ms > node->at_ms) {
		put(heap, place, heap->nodes[place / 2 - 1]);
		place /= 2;
	}
	put(heap, place, node);
}

static void
sink(struct heap *heap, struct heap_node *node)
{
	size_t place = node->place;

	for (;;) {
		size_t child = place * 2;

		if (child > heap->count)
			break;
		if (child < heap->count &&
		    heap->nodes[child]->at_ms < heap->nodes[child - 1]->at_ms)
			child++;
		if (heap->nodes[child - 1]->at_ms >= node->at_ms)
			break;
		put(heap, place, heap->nodes[child - 1]);
		place = child;
	}
	put(heap, place, node);
}

void
heap_set(struct heap *heap, struct heap_node *node, int64_t at_ms)
{
	node->at_ms = at_ms;
	if (node->place == 0) {
		if (heap->count == heap->cap) {
			heap->cap = heap->cap ? heap->cap * 2 : 4;
			heap->nodes = xrealloc(heap->nodes, heap->cap * sizeof(*heap->nodes));
		}
		put(heap, ++heap->count, node);
	}
	rise(heap, node);
	sink(heap, node);
}

void
heap_remove(struct heap *heap, struct heap_node *node)
{
	struct heap_node *last;
	size_t place = node->place;

	if (place == 0)
		return;
	assert(heap->nodes[place - 1] == node);
	last = heap->nodes[heap->count-- - 1];
	node->place = 0;
	if (last == node)
		return;
	put(heap, place, last);
	rise(heap, last);
	sink(heap, last);
}

struct heap_node *
heap_first(const struct heap *heap)
{
	return heap->count ? heap->nodes[0] : NULL;
}

void
heap_free(struct heap *heap)
{
	free(heap->nodes);
	*heap = (struct heap){ 0 };
}
