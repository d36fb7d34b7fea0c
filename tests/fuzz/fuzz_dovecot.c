/*
 * fuzz_dovecot: any octets as Dovecot's side of its auth protocol: the same events whole and cut
 * anyhow, names clean, memory bounded. The first octet sets the cuts.
 */
#include <assert.h>
#include <stdlib.h>

#include "mta/auth/dovecot_codec.h"
#include "mta/base/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
tell(const struct dovecot_codec *c, enum dovecot_event event, struct buf *out)
{
	buf_printf(out, "%d ", event);
	if (event == DOVECOT_READY) {
		assert(c->ready);
		buf_printf(out, "%x\n", c->mechanisms);
		return;
	}
	if (event == DOVECOT_BROKEN) {
		assert(c->why != NULL);
		return;
	}
	assert(c->ready && c->why == NULL);
	buf_printf(out, "%u ", c->id);
	if (event == DOVECOT_CONT) {
		assert(span_find(c->data, '\n') == NULL && span_find(c->data, '\t') == NULL);
		buf_append(out, c->data);
		return;
	}
	assert(c->user.len <= DOVECOT_NAME_MAX && utf8_valid(c->user));
	for (size_t i = 0; i < c->user.len; i++)
		assert((unsigned char)c->user.at[i] >= ' ');
	assert(c->reason.len <= DOVECOT_REASON_MAX);
	buf_append(out, c->user);
	buf_append(out, c->reason);
	buf_printf(out, " %d\n", c->failure);
}

static struct buf
run(struct span in, size_t piece)
{
	struct dovecot_codec c = { 0 };
	struct buf out = { 0 };
	enum dovecot_event event = DOVECOT_MORE;

	while (in.len > 0 && event != DOVECOT_BROKEN) {
		struct span part = span_first(in, piece);
		size_t taken = dovecot_codec_take(&c, part, &event);

		assert(taken <= part.len && (taken > 0 || event == DOVECOT_BROKEN));
		assert(event != DOVECOT_MORE || taken == part.len);
		in = span_skip(in, taken);
		if (event != DOVECOT_MORE)
			tell(&c, event, &out);
	}
	assert(c.line.cap <= 4 * DOVECOT_LINE_MAX);
	dovecot_codec_free(&c);
	return out;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole, one, some;
	struct span in;

	if (size < 1)
		return 0;
	in = span_of(data + 1, size - 1);
	whole = run(in, in.len + 1);
	one = run(in, 1);
	some = run(in, data[0] % 50 + 2);
	assert(span_eq(buf_span(&whole), buf_span(&one)));
	assert(span_eq(buf_span(&whole), buf_span(&some)));
	buf_free(&whole);
	buf_free(&one);
	buf_free(&some);
	return 0;
}
