/* request: see request.h. Pure. */
#include "mta/keeper/request.h"

#include <string.h>

bool
keeper_request_encode(const struct keeper_request *request, struct buf *out)
{
	size_t before = buf_len(out);

	if (request->word_count > KEEPER_WORDS_MAX)
		return false;
	buf_byte(out, (char)request->ask);
	buf_byte(out, (char)request->word_count);
	for (size_t i = 0; i < request->word_count; i++) {
		struct span word = request->words[i];

		if (word.len > UINT16_MAX)
			return false;
		buf_byte(out, (char)(word.len & 0xff));
		buf_byte(out, (char)(word.len >> 8));
		buf_append(out, word);
	}
	return buf_len(out) - before <= KEEPER_REQUEST_MAX;
}

bool
keeper_request_decode(struct span in, struct keeper_request *ret)
{
	if (in.len < 2 || in.len > KEEPER_REQUEST_MAX || in.at[0] <= 0 || in.at[0] >= KEEPER_ASKS)
		return false;
	ret->ask = (enum keeper_ask)in.at[0];
	ret->word_count = (unsigned char)in.at[1];
	if (ret->word_count > KEEPER_WORDS_MAX)
		return false;
	in = span_skip(in, 2);
	for (size_t i = 0; i < ret->word_count; i++) {
		size_t len;

		if (in.len < 2)
			return false;
		len = (unsigned char)in.at[0] | (size_t)(unsigned char)in.at[1] << 8;
		in = span_skip(in, 2);
		if (len > in.len || memchr(in.at, '\0', len) != NULL)
			return false;
		ret->words[i] = span_first(in, len);
		in = span_skip(in, len);
	}
	return in.len == 0;
}
