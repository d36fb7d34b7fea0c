/* map: chained buckets, doubled when full; see map.h. */
#include "mta/base/map.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/arena.h"

static uint64_t
mix(uint64_t x)
{
	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	x ^= x >> 32;
	return x;
}

uint64_t
hash_bytes(const void *at, size_t len, uint64_t seed)
{
	const unsigned char *p = at;
	uint64_t h = seed ^ (len * UINT64_C(0x9e3779b97f4a7c15));

	for (; len >= 8; len -= 8, p += 8) {
		uint64_t word;

		memcpy(&word, p, 8);
		h = mix(h ^ word);
	}
	for (; len > 0; len--, p++)
		h = (h ^ *p) * UINT64_C(0x100000001b3);
	return mix(h);
}

static struct map_node **
map_bucket(const struct map *map, uint64_t key)
{
	return &map->buckets[mix(key) & (map->size - 1)];
}

static void
map_grow(struct map *map)
{
	struct map_node **old = map->buckets;
	size_t size = map->size;

	map->size = size ? size * 2 : 64;
	map->buckets = xcalloc(map->size, sizeof(*map->buckets));
	for (size_t i = 0; i < size; i++) {
		while (old[i] != NULL) {
			struct map_node *node = old[i];
			struct map_node **to = map_bucket(map, node->key);

			old[i] = node->next;
			node->next = *to;
			*to = node;
		}
	}
	free(old);
}

void
map_add(struct map *map, struct map_node *node, uint64_t key)
{
	struct map_node **bucket;

	if (map->count >= map->size)
		map_grow(map);
	bucket = map_bucket(map, key);
	node->key = key;
	node->next = *bucket;
	*bucket = node;
	map->count++;
}

void
map_remove(struct map *map, struct map_node *node)
{
	struct map_node **at = map_bucket(map, node->key);

	while (*at != node) {
		assert(*at != NULL);
		at = &(*at)->next;
	}
	*at = node->next;
	node->next = NULL;
	map->count--;
}

struct map_node *
map_find(const struct map *map, uint64_t key)
{
	struct map_node *node;

	if (map->size == 0)
		return NULL;
	for (node = *map_bucket(map, key); node != NULL; node = node->next)
		if (node->key == key)
			return node;
	return NULL;
}

struct map_node *
map_next_same(const struct map_node *node)
{
	for (struct map_node *next = node->next; next != NULL; next = next->next)
		if (next->key == node->key)
			return next;
	return NULL;
}

struct map_node *
map_any(const struct map *map)
{
	for (size_t i = 0; i < map->size && map->count > 0; i++)
		if (map->buckets[i] != NULL)
			return map->buckets[i];
	return NULL;
}

void
map_free(struct map *map)
{
	assert(map->count == 0);
	free(map->buckets);
	*map = (struct map){ 0 };
}
