/*
 * idna: see idna.h. The only file that knows <idn2.h>. IDNA 2008 without transitional mappings, as
 * RFC 6531 §3.2 asks for: ß stays ß. Any thread.
 */
#include "dns/idna.h"

#include <idn2.h>

#include "dns/question.h"

enum { U_DOMAIN_MAX = 1024 };

/* The octets may hold anything, also a NUL, which libidn2 would take for the end. */
static bool
to_a_labels(struct span domain, struct arena *arena, struct span *ret)
{
	uint8_t *ascii = NULL;

	if (domain.len > U_DOMAIN_MAX || memchr(domain.at, '\0', domain.len) != NULL)
		return false;
	if (idn2_lookup_u8((const uint8_t *)arena_str(arena, domain), &ascii,
			   IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
		return false;
	*ret = arena_copy(arena, span_str((const char *)ascii));
	idn2_free(ascii);
	return true;
}

bool
domain_to_ascii(struct span domain, struct arena *arena, struct span *ret)
{
	struct span ascii = domain;
	char *lower;

	if (span_starts(domain, SPAN("[")))		/* an address literal, or a bad one */
		return false;
	if (!span_is_ascii(domain) && !to_a_labels(domain, arena, &ascii))
		return false;
	if (ascii.len > 1 && ascii.at[ascii.len - 1] == '.')
		ascii.len--;
	if (!dns_name_valid(ascii))
		return false;
	lower = arena_str(arena, ascii);
	for (size_t i = 0; i < ascii.len; i++)
		lower[i] = ascii_lower(lower[i]);
	*ret = span_of(lower, ascii.len);
	return true;
}
