/*
 * map: 64-bit key → embedded node; a hash table that owns nothing but its buckets.
 *
 * Several nodes may have one key (map_next_same goes through them). One thread at a time.
 */
#ifndef TRAM_BASE_MAP_H
#define TRAM_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map_node {
	struct map_node *next;
	uint64_t key;
};

struct map {
	struct map_node **buckets;
	size_t size;		/* of buckets: zero or a power of two */
	size_t count;
};

void map_add(struct map *map, struct map_node *node, uint64_t key);
void map_remove(struct map *map, struct map_node *node);	/* must be in it */
struct map_node *map_find(const struct map *map, uint64_t key);
struct map_node *map_next_same(const struct map_node *node);
/* some node, or NULL: to empty it */
struct map_node *map_any(const struct map *map);
void map_free(struct map *map);					/* the buckets; must hold no node */

/* A well-mixed 64-bit hash of octets (not against an adversary who sees it: seed at start). */
uint64_t hash_bytes(const void *at, size_t len, uint64_t seed);

#endif
