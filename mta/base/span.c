/* span: comparing, cutting and reading numbers. See span.h. */
#include "mta/base/span.h"

bool
span_ieq(struct span a, struct span b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (ascii_lower(a.at[i]) != ascii_lower(b.at[i]))
			return false;
	return true;
}

bool
span_starts(struct span s, struct span prefix)
{
	return s.len >= prefix.len && span_eq(span_first(s, prefix.len), prefix);
}

bool
span_istarts(struct span s, struct span prefix)
{
	return s.len >= prefix.len && span_ieq(span_first(s, prefix.len), prefix);
}

bool
span_ends(struct span s, struct span suffix)
{
	return s.len >= suffix.len && span_eq(span_skip(s, s.len - suffix.len), suffix);
}

bool
span_is_ascii(struct span s)
{
	uint64_t high = 0;
	size_t i = 0;

	for (; i + 8 <= s.len; i += 8) {
		uint64_t word;

		memcpy(&word, s.at + i, 8);
		high |= word;
	}
	for (; i < s.len; i++)
		high |= (unsigned char)s.at[i];
	return (high & 0x8080808080808080) == 0;
}

struct span
span_trim(struct span s)
{
	while (s.len > 0 && (s.at[0] == ' ' || s.at[0] == '\t'))
		s = span_skip(s, 1);
	while (s.len > 0 && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
		s.len--;
	return s;
}

const char *
span_find(struct span s, char c)
{
	return s.len == 0 ? NULL : memchr(s.at, c, s.len);
}

struct span
span_cut(struct span *s, char c)
{
	const char *at = span_find(*s, c);
	struct span head = *s;

	if (at == NULL) {
		*s = span_skip(*s, s->len);
		return head;
	}
	head.len = (size_t)(at - s->at);
	*s = span_skip(*s, head.len + 1);
	return head;
}

bool
span_to_u64(struct span s, uint64_t max, uint64_t *ret)
{
	uint64_t n = 0;

	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		unsigned digit = (unsigned)(unsigned char)s.at[i] - '0';

		if (digit > 9 || n > (UINT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	if (n > max)
		return false;
	*ret = n;
	return true;
}
