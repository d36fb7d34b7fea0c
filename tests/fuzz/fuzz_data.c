/*
 * fuzz_data: the dot codec and the header scan do not hang on how their input is cut, and what is
 * encoded is decoded to the same. The first octet sets mode and cut.
 */
#include <assert.h>

#include "mta/smtp/data.h"
#include "mta/smtp/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	struct buf content;
	uint8_t faults;
	size_t taken;
	bool end;
};

static struct result
decode(struct span in, size_t piece, bool normalise)
{
	struct data_decoder d;
	struct result r = { 0 };

	data_decoder_init(&d, normalise, 50);
	while (!r.end && r.taken < in.len) {
		struct span content, rest = span_first(span_skip(in, r.taken), piece);
		size_t taken = data_decode(&d, rest, &content, &r.end);

		assert(taken > 0 || content.len > 0);
		buf_append(&r.content, content);
		r.taken += taken;
	}
	r.faults = d.faults;
	return r;
}

static void
check_decoder(struct span in, size_t piece, bool normalise)
{
	struct result whole = decode(in, in.len, normalise), cut = decode(in, piece, normalise);

	assert(whole.end == cut.end && whole.taken == cut.taken && whole.faults == cut.faults);
	assert(span_eq(buf_span(&whole.content), buf_span(&cut.content)));
	if (whole.end && (whole.faults & DATA_BARE_NEWLINE) == 0) {
		struct buf wire = { 0 };
		struct result back;
		bool start = true;

		data_encode(buf_span(&whole.content), &start, &wire);
		assert(start);
		data_encode_end(start, &wire);
		back = decode(buf_span(&wire), piece, false);
		assert(back.end && back.taken == buf_len(&wire));
		assert(span_eq(buf_span(&back.content), buf_span(&whole.content)));
		buf_free(&wire);
		buf_free(&back.content);
	}
	buf_free(&whole.content);
	buf_free(&cut.content);
}

/* Header and body, put together again, are the message. */
static void
scan(struct span in, size_t piece, struct header_scan *h, struct buf *body)
{
	header_scan_init(h, 300, 20);
	while (in.len > 0) {
		struct span part = span_first(in, piece);
		bool before = h->complete;
		size_t taken = header_scan_take(h, part);

		if (h->complete && !before)
			buf_append(body, buf_span(&h->held));
		if (h->complete)
			buf_append(body, span_skip(part, taken));
		in = span_skip(in, piece);
	}
	if (!h->complete) {
		header_scan_end(h);
		buf_append(body, buf_span(&h->held));
	}
}

static void
check_header(struct span in, size_t piece)
{
	struct header_scan whole, cut;
	struct buf body = { 0 }, cut_body = { 0 };
	struct span at, name, value;

	scan(in, in.len, &whole, &body);
	scan(in, piece, &cut, &cut_body);
	assert(whole.too_large == cut.too_large);
	if (!whole.too_large) {
		assert(span_eq(buf_span(&whole.text), buf_span(&cut.text)));
		assert(span_eq(buf_span(&body), buf_span(&cut_body)));
		assert(whole.received == cut.received && whole.lines == cut.lines);
		assert(buf_len(&whole.text) + buf_len(&body) == in.len);
	}
	at = buf_span(&whole.text);
	while (header_next(&at, &name, &value))
		assert(name.len > 0);
	header_scan_free(&whole);
	header_scan_free(&cut);
	buf_free(&body);
	buf_free(&cut_body);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in;
	size_t piece;

	if (size < 2)
		return 0;
	in = span_of(data + 1, size - 1);
	piece = (data[0] >> 1) % 16 + 1;
	check_decoder(in, piece, data[0] & 1);
	check_header(in, piece);
	return 0;
}
