/* tlsrpt_record: where reports are wanted, RFC 8460 §3; see tlsrpt.h. */
#include "dns/question.h"
#include "dns/txt.h"
#include "mta/base/address.h"
#include "policy/tlsrpt.h"

#define VERSION "v=TLSRPTv1"

struct span
tlsrpt_record_name(struct span domain, struct arena *arena)
{
	struct span name = arena_printf(arena, "_smtp._tls.%.*s", SPAN_FMT(domain));

	return dns_name_valid(name) ? name : SPAN("");
}

static int
hex_digit(char c)
{
	c = ascii_lower(c);
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
percent_decode(struct span s, struct arena *arena, struct span *ret)
{
	char *out = arena_alloc(arena, s.len + 1);
	size_t len = 0;

	for (size_t i = 0; i < s.len; i++) {
		int high, low;

		if (s.at[i] != '%') {
			out[len++] = s.at[i];
			continue;
		}
		if (s.len - i < 3)
			return false;
		high = hex_digit(s.at[i + 1]);
		low = hex_digit(s.at[i + 2]);
		if (high < 0 || low < 0)
			return false;
		out[len++] = (char)(high * 16 + low);
		i += 2;
	}
	*ret = span_of(out, len);
	return true;
}

/* "mailto:reports@example.org?subject=x": the fields behind '?' are not ours to obey. */
static bool
read_mailto(struct span uri, struct arena *arena, struct tlsrpt_uri *ret)
{
	struct span rest = uri, decoded;
	struct address address;

	rest = span_cut(&rest, '?');
	if (!percent_decode(rest, arena, &decoded) ||
	    address_parse(decoded, 0, arena, &address) != ADDRESS_OK)
		return false;
	*ret = (struct tlsrpt_uri){ .https = false, .text = address_text(&address, arena) };
	return true;
}

static bool
read_https(struct span uri, struct arena *arena, struct tlsrpt_uri *ret)
{
	struct span host = span_skip(uri, sizeof("https://") - 1);

	if (host.len == 0 || host.at[0] == '/')
		return false;
	for (size_t i = 0; i < uri.len; i++)
		if (uri.at[i] <= ' ' || uri.at[i] > '~' || strchr("\"<>\\^`{|}", uri.at[i]) != NULL)
			return false;
	*ret = (struct tlsrpt_uri){ .https = true, .text = arena_copy(arena, uri) };
	return true;
}

/* Other schemes, and what cannot be read, are passed over. */
static void
add_uri(struct span uri, struct arena *arena, struct tlsrpt_record *record)
{
	struct tlsrpt_uri *next = &record->uris[record->count];
	bool fine = false;

	if (record->count == TLSRPT_URIS_MAX || uri.len > TLSRPT_URI_MAX)
		return;
	if (span_istarts(uri, SPAN("mailto:")))
		fine = read_mailto(span_skip(uri, sizeof("mailto:") - 1), arena, next);
	else if (span_istarts(uri, SPAN("https://")))
		fine = read_https(uri, arena, next);
	if (fine)
		record->count++;
}

/* A version and a delimiter: others are not about TLSRPT at all. */
static bool
is_candidate(struct span text)
{
	struct span rest = span_skip(text, sizeof(VERSION) - 1);

	rest = span_trim(rest);
	return span_starts(text, SPAN(VERSION)) && rest.len > 0 && rest.at[0] == ';';
}

bool
tlsrpt_record_parse(struct span text, struct arena *arena, struct tlsrpt_record *ret)
{
	struct tlsrpt_record record = { 0 };
	struct span rest = text, uris = { 0 };

	if (!is_candidate(text))
		return false;
	span_cut(&rest, ';');
	while (rest.len > 0) {
		struct span value = span_trim(span_cut(&rest, ';')), name;

		if (value.len == 0 && rest.len == 0)
			break;
		if (span_find(value, '=') == NULL)
			return false;
		name = span_cut(&value, '=');
		if (uris.len == 0 && span_eq(name, SPAN("rua")))
			uris = value;
	}
	while (uris.len > 0)
		add_uri(span_trim(span_cut(&uris, ',')), arena, &record);
	if (record.count == 0)
		return false;
	*ret = record;
	return true;
}

bool
tlsrpt_record_from_answer(const struct dns_answer *answer, struct arena *arena,
			  struct tlsrpt_record *ret)
{
	struct span text, candidate = { 0 };
	size_t candidates = 0;

	*ret = (struct tlsrpt_record){ 0 };
	if (answer->outcome != DNS_FOUND)
		return false;
	for (size_t i = 0; i < answer->count; i++)
		if (dns_txt_read(answer->records[i].data, arena, &text) && is_candidate(text)) {
			candidate = text;
			candidates++;
		}
	return candidates == 1 && tlsrpt_record_parse(candidate, arena, ret);
}
