/*
 * fuzz_verp: any octets as the address that something came back to, and as the recipient and the
 * sender of a delivery: what is made with the key is known again, whatever the case of its letters,
 * and nothing else is.
 */
#include <assert.h>
#include <stdlib.h>

#include "mta/base/address.h"
#include "policy/tenant.h"
#include "policy/verp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct verp_rule rule = { .domain = { "bounces.example.org", 19 }, .prefix = { "b", 1 } };
static const struct verp_rules rules = { &rule, 1 };
static const uint8_t key[VERP_KEY] = "only we have this one";

static const struct verp_keys keys = { .own = key };

static void
check_made(struct span address, uint64_t id, uint32_t recipient, struct arena *arena)
{
	struct span made = verp_write(&rule, &keys, id, recipient, address, arena);
	struct verp_address read;
	const uint8_t other[VERP_KEY] = { 1 };
	const struct verp_keys other_keys = { .own = other };
	char *shouted = arena_alloc(arena, made.len);

	assert(made.len <= 64 + 1 + rule.domain.len);
	for (size_t i = 0; i < made.len; i++)
		shouted[i] = made.at[i] >= 'a' && made.at[i] <= 'z' ? (char)(made.at[i] - 32)
								    : made.at[i];
	assert(verp_read(&rules, &keys, span_of(shouted, made.len), &read) == VERP_GOOD);
	assert(read.id == id && read.recipient == recipient && verp_is_for(&keys, &read, address));
	assert(verp_read(&rules, &other_keys, made, &read) == VERP_UNKNOWN);
	shouted[2] = shouted[2] == '0' ? '1' : '0';
	assert(verp_read(&rules, &keys, span_of(shouted, made.len), &read) == VERP_UNKNOWN);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size), tenant;
	struct arena arena = { 0 };
	struct verp_address read;
	struct tenant_rules by;
	struct span address =
		arena_printf(&arena, "%.*s@bounces.example.org", SPAN_FMT(span_first(in, 100)));

	assert(verp_read(&rules, &keys, in, &read) != VERP_GOOD);
	assert(verp_read(&rules, &keys, address, &read) != VERP_GOOD);
	check_made(in, 1 + size * UINT64_C(0x123456789), (uint32_t)(size % VERP_RECIPIENT_MAX),
		   &arena);
	assert(verp_choose(&rules, &(struct verp_facts){ .sender = address }) == NULL);
	verp_choose(&rules, &(struct verp_facts){ in, in, in, in });
	if (tenant_by_read(in, &by)) {
		tenant = tenant_choose(&by, &(struct tenant_facts){ true, in, in, in }, &arena);
		assert(tenant.len <= TENANT_NAME_MAX);
	}
	arena_free(&arena);
	return 0;
}
