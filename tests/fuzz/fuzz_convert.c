/*
 * fuzz_convert: what the 8-bit converter makes does not hang on how its input is cut, stays within
 * bounds, and can be read by it again. The first octet sets the cut.
 */
#include <assert.h>

#include "mta/smtp/convert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
convert(struct span in, size_t piece, struct buf *out)
{
	struct convert c;

	convert_init(&c);
	while (in.len > 0) {
		convert_take(&c, span_first(in, piece), out);
		in = span_skip(in, piece);
		assert(c.depth <= CONVERT_DEPTH_MAX && buf_len(&c.header) <= CONVERT_HEADER_MAX);
	}
	convert_end(&c, out);
	convert_free(&c);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = { 0 }, cut = { 0 }, again = { 0 };
	struct span in;

	if (size == 0)
		return 0;
	in = span_of(data + 1, size - 1);
	convert(in, in.len + 1, &whole);
	convert(in, data[0] % 64 + 1U, &cut);
	assert(span_eq(buf_span(&whole), buf_span(&cut)));
	assert(buf_len(&whole) <= 4 * in.len + 200 * (in.len / 2 + 2));
	convert(buf_span(&whole), buf_len(&whole) + 1, &again);
	buf_free(&whole);
	buf_free(&cut);
	buf_free(&again);
	return 0;
}
