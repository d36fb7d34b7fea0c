/* base64: see base64.h. */
#include "mta/base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void
base64_encode(struct span octets, struct buf *out)
{
	char *to = buf_reserve(out, (octets.len + 2) / 3 * 4 + 1);
	size_t n = 0;

	for (size_t i = 0; i < octets.len; i += 3) {
		size_t left = octets.len - i;
		uint32_t three = (uint32_t)(unsigned char)octets.at[i] << 16;

		if (left > 1)
			three |= (uint32_t)(unsigned char)octets.at[i + 1] << 8;
		if (left > 2)
			three |= (unsigned char)octets.at[i + 2];
		to[n++] = alphabet[three >> 18];
		to[n++] = alphabet[three >> 12 & 63];
		to[n++] = left > 1 ? alphabet[three >> 6 & 63] : '=';
		to[n++] = left > 2 ? alphabet[three & 63] : '=';
	}
	buf_grew(out, n);
}

static int
digit_of(char c)
{
	const char *at = c == '\0' ? NULL : memchr(alphabet, c, sizeof(alphabet) - 1);

	return at == NULL ? -1 : (int)(at - alphabet);
}

/* Four digits, the last one or two of which may be padding: octets, or -1. */
static int
decode_four(const char *in, bool last, char *to)
{
	uint32_t three = 0;
	int count = 3;

	if (last && in[3] == '=')
		count = in[2] == '=' ? 1 : 2;
	for (int i = 0; i < 4; i++) {
		int digit = i > count ? 0 : digit_of(in[i]);

		if (digit < 0)
			return -1;
		three = three << 6 | (uint32_t)digit;
	}
	if ((count == 1 && (three & 0xffff) != 0) || (count == 2 && (three & 0xff) != 0))
		return -1;		/* bits behind the end: not what an encoder makes */
	for (int i = 0; i < count; i++)
		to[i] = (char)(three >> (16 - 8 * i) & 0xff);
	return count;
}

bool
base64_decode_to(struct span text, char *to, size_t *len)
{
	size_t n = 0;

	if (text.len % 4 != 0)
		return false;
	for (size_t i = 0; i < text.len; i += 4) {
		int got = decode_four(text.at + i, i + 4 == text.len, to + n);

		if (got < 0)
			return false;
		n += (size_t)got;
	}
	*len = n;
	return true;
}

bool
base64_decode(struct span text, struct arena *arena, struct span *ret)
{
	char *to;
	size_t n;

	if (text.len % 4 != 0)
		return false;
	to = arena_alloc(arena, text.len / 4 * 3 + 1);
	if (!base64_decode_to(text, to, &n))
		return false;
	*ret = span_of(to, n);
	return true;
}
