/* delivered: see delivered.h. */
#include "policy/delivered.h"

#include <errno.h>

#include "policy/codec.h"

enum { VERSION = 1, KIND = 'D' };

void
delivered_key(uint64_t id, uint32_t recipient, char ret[DELIVERED_KEY])
{
	for (int i = 0; i < 8; i++)
		ret[i] = (char)(id >> (56 - 8 * i) & 0xff);
	for (int i = 0; i < 4; i++)
		ret[8 + i] = (char)(recipient >> (24 - 8 * i) & 0xff);
}

static uint64_t
number_at(struct span key, size_t from, size_t octets)
{
	uint64_t n = 0;

	for (size_t i = 0; i < octets; i++)
		n = n << 8 | (unsigned char)key.at[from + i];
	return n;
}

void
delivered_encode(const struct delivered *d, struct buf *out)
{
	struct encoder e;

	encoder_begin(&e, VERSION, KIND, out);
	encoder_span(&e, span_first(d->sender, DELIVERED_TEXT_MAX));
	encoder_span(&e, span_first(d->address, DELIVERED_TEXT_MAX));
	encoder_span(&e, span_first(d->tenant, DELIVERED_TEXT_MAX));
	encoder_number(&e, d->site, 8);
	encoder_end(&e);
}

int
delivered_decode(struct span key, struct span octets, struct arena *arena, struct delivered *ret)
{
	struct decoder d;
	int rc = decoder_begin(&d, octets, VERSION, KIND, arena);

	if (rc < 0)
		return rc;
	if (key.len != DELIVERED_KEY)
		return -EBADMSG;
	ret->id = number_at(key, 0, 8);
	ret->recipient = (uint32_t)number_at(key, 8, 4);
	ret->sender = decoder_span(&d, DELIVERED_TEXT_MAX);
	ret->address = decoder_span(&d, DELIVERED_TEXT_MAX);
	ret->tenant = decoder_span(&d, DELIVERED_TEXT_MAX);
	ret->site = decoder_number(&d, 8);
	return decoder_end(&d);
}
