/* fuzz_suppression: any octets as a record, and as an address or domain: a key's key is itself. */
#include <assert.h>

#include "policy/suppression.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena = { 0 };
	struct suppression entry;
	struct span key, again;
	struct buf octets = { 0 };

	if (suppression_decode(span_of(data, size), &arena, &entry) == 0) {
		assert(entry.class < REPLY_CLASSES && entry.reason.len <= SUPPRESSION_REASON_MAX);
		suppression_encode(&entry, &octets);
	}
	if (suppression_key(span_of(data, size), &arena, &key)) {
		assert(key.len > 1 && key.len <= SUPPRESSION_KEY_MAX);
		assert(suppression_key(key, &arena, &again) && span_eq(key, again));
	}
	buf_free(&octets);
	arena_free(&arena);
	return 0;
}
