/*
 * fuzz_address: what is accepted reads back as the same, and holds nothing that could break a line.
 */
#include <assert.h>

#include "mta/base/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const struct address *address, unsigned flags, struct arena *arena)
{
	struct span text = address_text(address, arena);
	unsigned again_flags = flags | ADDRESS_NULL_OK | ADDRESS_BARE_LOCAL_OK;
	struct address again;

	assert(text.len <= ADDRESS_PATH_MAX);
	assert(address->local.len <= ADDRESS_LOCAL_MAX &&
	       address->domain.len <= ADDRESS_DOMAIN_MAX);
	for (size_t i = 0; i < text.len; i++)
		assert((unsigned char)text.at[i] >= ' ' && text.at[i] != 127);
	assert(utf8_valid(text));
	assert(span_eq(address_local_of(text), address->local));
	assert(span_eq(address_domain_of(text), address->domain));
	assert(address_parse(text, again_flags, arena, &again) == ADDRESS_OK);
	assert(span_eq(again.local, address->local) && span_eq(again.domain, address->domain));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena = { 0 };
	struct address address;
	struct span text, rest, decoded, again;
	struct buf out = { 0 };

	if (size == 0)
		return 0;
	text = span_of(data + 1, size - 1);
	if (address_parse_path(text, data[0], &arena, &address, &rest) == ADDRESS_OK) {
		assert(rest.len == 0 || rest.at[0] == ' ' || rest.at[0] == '\t');
		check(&address, data[0], &arena);
	}
	if (address_parse(text, data[0], &arena, &address) == ADDRESS_OK)
		check(&address, data[0], &arena);
	if (xtext_decode(text, &arena, &decoded)) {
		xtext_encode(decoded, &out);
		assert(xtext_decode(buf_span(&out), &arena, &again) && span_eq(again, decoded));
	}
	buf_free(&out);
	arena_free(&arena);
	return 0;
}
