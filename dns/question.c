/* question: header, one question, perhaps an OPT record; see question.h. */
#include "dns/question.h"

#include <assert.h>

enum { FLAG_RD = 0x01, FLAG_AD = 0x20, CLASS_IN = 1, TYPE_OPT = 41 };

bool
dns_name_valid(struct span name)
{
	size_t label = 0;

	if (name.len == 0 || name.len > DNS_NAME_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.at[i];

		if (c == '.') {
			if (label == 0)
				return false;
			label = 0;
		} else if (c <= ' ' || c > '~' || c == '\\' || ++label > 63) {
			return false;
		}
	}
	return label > 0;
}

static uint8_t *
put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
	return at + 2;
}

size_t
dns_question_build(struct span name, enum dns_type type, uint16_t id, bool edns,
		   uint8_t out[static DNS_QUESTION_MAX])
{
	uint8_t *at = put16(out, id);

	assert(dns_name_valid(name));
	*at++ = FLAG_RD;
	*at++ = FLAG_AD;
	at = put16(at, 1);
	at = put16(at, 0);
	at = put16(at, 0);
	at = put16(at, edns);
	while (name.len > 0) {
		struct span label = span_cut(&name, '.');

		*at++ = (uint8_t)label.len;
		memcpy(at, label.at, label.len);
		at += label.len;
	}
	*at++ = 0;
	at = put16(at, type);
	at = put16(at, CLASS_IN);
	if (edns) {
		*at++ = 0;
		at = put16(at, TYPE_OPT);
		at = put16(at, DNS_UDP_SIZE);
		at = put16(at, 0);
		at = put16(at, 0);
		at = put16(at, 0);
	}
	return (size_t)(at - out);
}
