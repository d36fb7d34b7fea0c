/* codec: see codec.h. */
#include "policy/codec.h"

#include <assert.h>
#include <errno.h>

#include "mta/base/crc32c.h"

enum { HEAD = 2, TAIL = 4 };	/* version and kind; CRC */

void
encoder_begin(struct encoder *e, uint8_t version, char kind, struct buf *out)
{
	*e = (struct encoder){ out, buf_len(out) };
	encoder_number(e, version, 1);
	encoder_number(e, (uint8_t)kind, 1);
}

void
encoder_number(struct encoder *e, uint64_t value, size_t octets)
{
	char *at = buf_reserve(e->out, octets);

	for (size_t i = 0; i < octets; i++)
		at[i] = (char)(value >> (8 * (octets - 1 - i)) & 255);
	buf_grew(e->out, octets);
}

void
encoder_span(struct encoder *e, struct span s)
{
	assert(s.len <= UINT32_MAX);
	encoder_number(e, s.len, 4);
	buf_append(e->out, s);
}

void
encoder_end(struct encoder *e)
{
	struct span record = span_skip(buf_span(e->out), e->from);

	encoder_number(e, crc32c(0, record.at, record.len), TAIL);
}

static uint64_t
number_at(const char *at, size_t octets)
{
	uint64_t value = 0;

	for (size_t i = 0; i < octets; i++)
		value = value << 8 | (unsigned char)at[i];
	return value;
}

int
decoder_begin(struct decoder *d, struct span octets, uint8_t version, char kind,
	      struct arena *arena)
{
	if (octets.len < HEAD + TAIL)
		return -EBADMSG;
	if (number_at(octets.at + octets.len - TAIL, TAIL) !=
	    crc32c(0, octets.at, octets.len - TAIL))
		return -EBADMSG;
	if ((uint8_t)octets.at[0] > version)
		return -EPROTO;
	if (octets.at[0] == 0 || octets.at[1] != kind)
		return -EBADMSG;
	*d = (struct decoder){ span_of(octets.at + HEAD, octets.len - HEAD - TAIL), arena, false };
	return 0;
}

static struct span
take(struct decoder *d, size_t len)
{
	struct span taken = span_first(d->left, len);

	if (d->left.len < len) {
		d->bad = true;
		d->left.len = 0;
		return SPAN("");
	}
	d->left = span_skip(d->left, len);
	return taken;
}

uint64_t
decoder_number(struct decoder *d, size_t octets)
{
	struct span taken = take(d, octets);

	return number_at(taken.at, taken.len);
}

uint64_t
decoder_upto(struct decoder *d, size_t octets, uint64_t most)
{
	uint64_t value = decoder_number(d, octets);

	if (value <= most)
		return value;
	d->bad = true;
	return 0;
}

struct span
decoder_span(struct decoder *d, size_t most)
{
	return arena_copy(d->arena, take(d, (size_t)decoder_upto(d, 4, most)));
}

int
decoder_end(const struct decoder *d)
{
	return d->bad || d->left.len > 0 ? -EBADMSG : 0;
}
