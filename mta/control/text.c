/* text: see text.h. */
#include "mta/control/text.h"

#include <assert.h>
#include <stdlib.h>

/* Octets of the well-formed UTF-8 sequence at the start of s (RFC 3629), or 0. */
static size_t
utf8_sequence(struct span s)
{
	const unsigned char *p = (const unsigned char *)s.at;
	size_t len;

	if (p[0] < 0x80)
		return 1;
	len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || s.len < len)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

json_t *
json_text(struct span text)
{
	struct buf clean = { 0 };
	json_t *string;

	while (text.len > 0) {
		size_t n = utf8_sequence(text);
		unsigned char c = (unsigned char)text.at[0];

		if (n == 0 || c < 0x20 || c == 0x7f)
			buf_byte(&clean, '?');
		else
			buf_append(&clean, span_first(text, n));
		text = span_skip(text, n == 0 ? 1 : n);
	}
	string = json_stringn(clean.at == NULL ? "" : clean.at, buf_len(&clean));
	assert(string != NULL);
	buf_free(&clean);
	return string;
}

struct span
json_span(const json_t *object, const char *key)
{
	const json_t *string = json_object_get(object, key);

	return json_is_string(string)
		       ? span_of(json_string_value(string), json_string_length(string))
		       : SPAN("");
}

int64_t
json_i64(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

bool
json_flag(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

static int
dump(const char *at, size_t len, void *out)
{
	buf_append(out, span_of(at, len));
	return 0;
}

void
json_line(json_t *object, struct buf *out)
{
	int rc = json_dump_callback(object, dump, out, JSON_COMPACT);

	assert(rc == 0);
	buf_byte(out, '\n');
	json_decref(object);
}
