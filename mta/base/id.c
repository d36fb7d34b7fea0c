/*
 * id: Crockford's base 32, 13 digits of 5 bits for 64: the first digit has 4. See id.h.
 *
 * i, l, o and u are no digits, and are not read as 1 and 0: an id has one spelling, but for its
 * case, so that a text search of the log finds it.
 */
#include "mta/base/id.h"

static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";

char *
id_format(uint64_t id, char out[ID_TEXT_LEN + 1])
{
	for (int i = ID_TEXT_LEN - 1; i >= 0; i--) {
		out[i] = digits[id & 31];
		id >>= 5;
	}
	out[ID_TEXT_LEN] = '\0';
	return out;
}

bool
id_parse(struct span text, uint64_t *ret)
{
	uint64_t id = 0;

	if (text.len != ID_TEXT_LEN)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		const char *digit = memchr(digits, ascii_lower(text.at[i]), 32);

		if (digit == NULL || (i == 0 && digit - digits > 15))
			return false;
		id = id << 5 | (uint64_t)(digit - digits);
	}
	if (id == 0)
		return false;
	*ret = id;
	return true;
}
