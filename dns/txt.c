/* txt: character-strings, each with its length before it; see txt.h. */
#include "dns/txt.h"

enum { STRING_MAX = 255 };

bool
dns_txt_read(struct span rdata, struct arena *arena, struct span *ret)
{
	char *text;
	size_t len = 0;

	if (rdata.len == 0)
		return false;
	text = arena_alloc(arena, rdata.len);
	while (rdata.len > 0) {
		size_t one = (unsigned char)rdata.at[0];

		rdata = span_skip(rdata, 1);
		if (one > rdata.len)
			return false;
		if (one > 0)
			memcpy(text + len, rdata.at, one);
		len += one;
		rdata = span_skip(rdata, one);
	}
	*ret = span_of(text, len);
	return true;
}

void
dns_txt_write(struct span text, struct buf *out)
{
	do {
		struct span string = span_first(text, STRING_MAX);

		buf_byte(out, '"');
		for (size_t i = 0; i < string.len; i++) {
			unsigned char c = (unsigned char)string.at[i];

			if (c == '"' || c == '\\')
				buf_printf(out, "\\%c", c);
			else if (c < ' ' || c > '~')
				buf_printf(out, "\\%03u", c);
			else
				buf_byte(out, (char)c);
		}
		buf_byte(out, '"');
		text = span_skip(text, string.len);
		if (text.len > 0)
			buf_byte(out, ' ');
	} while (text.len > 0);
}
