/*
 * tls/distrust: see distrust.h. A table by address, sets of four: few enough to look at all of one.
 */
#include "mta/tls/distrust.h"

#include <stdlib.h>

#include "mta/base/arena.h"
#include "mta/base/map.h"

enum { SETS = 256, WAYS = 4 };

struct distrusted {
	struct netaddr address;
	int64_t until_ms;		/* 0: free */
};

struct distrust {
	struct distrusted sets[SETS][WAYS];
};

struct distrust *
distrust_new(void)
{
	return xcalloc(1, sizeof(struct distrust));
}

void
distrust_free(struct distrust *distrust)
{
	free(distrust);
}

static struct distrusted *
set_of(const struct distrust *distrust, const struct netaddr *address)
{
	uint64_t hash = hash_bytes(address->ip, sizeof(address->ip), address->port);

	return (struct distrusted *)distrust->sets[hash % SETS];
}

static struct distrusted *
find(const struct distrust *distrust, const struct netaddr *address)
{
	struct distrusted *set = set_of(distrust, address);

	for (size_t i = 0; i < WAYS; i++)
		if (set[i].until_ms != 0 && set[i].address.port == address->port &&
		    netaddr_same_ip(&set[i].address, address))
			return &set[i];
	return NULL;
}

void
distrust_add(struct distrust *distrust, const struct netaddr *address, int64_t until_ms)
{
	struct distrusted *set = set_of(distrust, address), *at = find(distrust, address);

	if (at == NULL) {
		at = &set[0];
		for (size_t i = 1; i < WAYS; i++)
			if (set[i].until_ms < at->until_ms)
				at = &set[i];
	}
	*at = (struct distrusted){ *address, until_ms };
}

bool
distrust_has(const struct distrust *distrust, const struct netaddr *address, int64_t now_ms)
{
	const struct distrusted *at = find(distrust, address);

	return at != NULL && now_ms < at->until_ms;
}

void
distrust_remove(struct distrust *distrust, const struct netaddr *address)
{
	struct distrusted *at = find(distrust, address);

	if (at != NULL)
		at->until_ms = 0;
}
