/*
 * fuzz_returned: any octets as a message that came back: bounded, the same twice, and nothing of it
 * outside of what was given or made.
 */
#include <assert.h>

#include "mta/bounce/mime.h"
#include "mta/bounce/returned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
is_printable(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.at[i] < ' ' || s.at[i] == 127)
			return false;
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena = { 0 };
	struct span body, header = mime_header_of(span_of(data, size), &body);
	struct returned r, again;
	uint64_t id;

	returned_parse(header, body, &arena, &r);
	returned_parse(header, body, &arena, &again);
	assert(r.kind == again.kind && r.form == again.form && r.count == again.count);
	assert(r.count <= RETURNED_RECIPIENTS_MAX && r.header.len <= RETURNED_HEADER_MAX);
	assert((r.form == FORM_NONE) == (r.kind == RETURNED_OTHER || r.kind == RETURNED_AUTOREPLY));
	for (size_t i = 0; i < r.count; i++) {
		const struct returned_recipient *one = &r.recipients[i];

		assert(one->diagnostic.len <= RETURNED_TEXT_MAX && is_printable(one->diagnostic));
		assert(is_printable(one->address) && is_printable(one->original));
		assert(one->code == 0 || (one->code >= 200 && one->code < 600));
		assert(span_eq(one->diagnostic, again.recipients[i].diagnostic));
	}
	returned_queue_id(&r, SPAN("relay.example.org"), &id);
	assert(arena.total < 16 * size + (1 << 20));
	arena_free(&arena);
	return 0;
}
