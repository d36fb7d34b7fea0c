/* tlsa: three numbers and data; see tlsa.h. */
#include "dns/tlsa.h"

#include "dns/question.h"

enum { NUMBERS = 3, SHA256_SIZE = 32, SHA512_SIZE = 64 };

bool
dns_tlsa_read(struct span rdata, struct dns_tlsa *ret)
{
	if (rdata.len <= NUMBERS)
		return false;
	*ret = (struct dns_tlsa){
		.usage = (uint8_t)rdata.at[0],
		.selector = (uint8_t)rdata.at[1],
		.matching = (uint8_t)rdata.at[2],
		.data = span_skip(rdata, NUMBERS),
	};
	return true;
}

bool
dns_tlsa_usable(const struct dns_tlsa *tlsa)
{
	if (tlsa->usage != TLSA_DANE_TA && tlsa->usage != TLSA_DANE_EE)
		return false;
	if (tlsa->selector != TLSA_CERTIFICATE && tlsa->selector != TLSA_SPKI)
		return false;
	switch (tlsa->matching) {
	case TLSA_FULL: return tlsa->data.len > 0;
	case TLSA_SHA256: return tlsa->data.len == SHA256_SIZE;
	case TLSA_SHA512: return tlsa->data.len == SHA512_SIZE;
	default: return false;
	}
}

struct span
dns_tlsa_name(struct span base, uint16_t port, struct arena *arena)
{
	struct span name = arena_printf(arena, "_%u._tcp.%.*s", (unsigned)port, SPAN_FMT(base));

	return dns_name_valid(name) ? name : SPAN("");
}

struct span
dns_tlsa_text(const struct dns_tlsa *tlsa, struct arena *arena)
{
	static const char digits[] = "0123456789abcdef";
	struct buf out = { 0 };
	struct span ret;

	buf_printf(&out, "%u %u %u ", (unsigned)tlsa->usage, (unsigned)tlsa->selector,
		   (unsigned)tlsa->matching);
	for (size_t i = 0; i < tlsa->data.len; i++) {
		unsigned octet = (unsigned char)tlsa->data.at[i];

		buf_byte(&out, digits[octet >> 4]);
		buf_byte(&out, digits[octet & 15]);
	}
	ret = arena_copy(arena, buf_span(&out));
	buf_free(&out);
	return ret;
}
