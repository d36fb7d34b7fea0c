/*
 * Any octets as a server's replies: the same replies come out whole and octet by octet, and they
 * are clean.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "mta/smtp/reply_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_OCTETS = 1000 };

static void
check(const struct reply *reply, enum reply_parse result)
{
	assert(result == REPLY_BAD ? reply->code == 0 : reply->code >= 200 && reply->code <= 599);
	assert(reply->status.klass == 0 || reply->status.klass == reply_class(reply));
	assert(reply->text.len <= 2 * MAX_OCTETS);
	for (size_t i = 0; i < reply->text.len; i++)
		assert((unsigned char)reply->text.at[i] >= ' ' || reply->text.at[i] == '\n');
}

static void
run(struct span in, size_t piece, struct buf *out)
{
	struct reply_parser p;

	reply_parser_init(&p, MAX_OCTETS);
	while (in.len > 0) {
		struct reply reply;
		size_t taken;
		enum reply_parse result =
			reply_parser_take(&p, span_first(in, piece), &taken, &reply);

		assert(taken > 0 || result == REPLY_BAD);
		in = span_skip(in, taken);
		if (result != REPLY_MORE) {
			check(&reply, result);
			reply_to_line(&reply, out);
			buf_byte(out, '\n');
		}
		if (result == REPLY_BAD)
			break;
	}
	reply_parser_free(&p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = { 0 }, cut = { 0 };

	run(span_of(data, size), size ? size : 1, &whole);
	run(span_of(data, size), 1, &cut);
	assert(span_eq(buf_span(&whole), buf_span(&cut)));
	buf_free(&whole);
	buf_free(&cut);
	return 0;
}
