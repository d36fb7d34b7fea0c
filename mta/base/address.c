/*
 * address: a validator written as small readers, each of which takes a piece off the front of a
 * span and says whether it was well formed. RFC 5321 §4.1.2 and §4.1.3, RFC 6531 §3.3, RFC 3461 §4.
 * See address.h.
 *
 * Every branch validates: quoted parts, source routes that are thrown away, literals. Nothing is
 * unfolded or guessed. Tolerated beyond the grammar: underscores in domains, for there are hosts
 * that have them.
 */
#include "mta/base/address.h"

#include <arpa/inet.h>

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_high(char c)
{
	return ((unsigned char)c & 0x80) != 0;
}

static bool
is_alnum(char c)
{
	return is_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
}

static bool
is_atext(char c)
{
	return is_alnum(c) || is_high(c) || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

static bool
has_high(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (is_high(s.at[i]))
			return true;
	return false;
}

/* Octets of the well-formed UTF-8 sequence at the start of s, or 0. */
static size_t
utf8_sequence(struct span s)
{
	unsigned char first = (unsigned char)s.at[0];
	unsigned char low = 0x80, high = 0xBF;
	size_t len;

	if (first < 0x80)
		return 1;
	if (first < 0xC2 || first > 0xF4)
		return 0;
	len = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
	if (s.len < len)
		return 0;
	if (first == 0xE0)
		low = 0xA0;		/* overlong */
	else if (first == 0xED)
		high = 0x9F;		/* surrogates */
	else if (first == 0xF0)
		low = 0x90;
	else if (first == 0xF4)
		high = 0x8F;		/* above U+10FFFF */
	for (size_t i = 1; i < len; i++) {
		unsigned char c = (unsigned char)s.at[i];

		if (c < low || c > high)
			return 0;
		low = 0x80;
		high = 0xBF;
	}
	return len;
}

bool
utf8_valid(struct span s)
{
	while (s.len > 0) {
		size_t len = utf8_sequence(s);

		if (len == 0)
			return false;
		s = span_skip(s, len);
	}
	return true;
}

static bool
label_valid(struct span label, bool utf8)
{
	/* the A-label of a U-label is at most 63 octets: the resolver's to check */
	if (label.len == 0 || label.len > (has_high(label) ? (size_t)ADDRESS_DOMAIN_MAX : 63))
		return false;
	if (label.at[0] == '-' || label.at[label.len - 1] == '-')
		return false;
	for (size_t i = 0; i < label.len; i++) {
		char c = label.at[i];

		if (!is_alnum(c) && c != '-' && c != '_' && !(utf8 && is_high(c)))
			return false;
	}
	return true;
}

bool
domain_valid(struct span domain, bool utf8)
{
	struct span rest = domain, label = domain;
	bool numeric = true;

	if (domain.len == 0 || domain.len > ADDRESS_DOMAIN_MAX || domain.at[domain.len - 1] == '.')
		return false;
	if (domain.at[0] == '[')
		return domain_literal_valid(domain);
	if (utf8 && !utf8_valid(domain))
		return false;
	while (rest.len > 0) {
		label = span_cut(&rest, '.');
		if (!label_valid(label, utf8))
			return false;
	}
	/* an IPv4 address without brackets is no host name */
	for (size_t i = 0; i < label.len; i++)
		numeric = numeric && is_digit(label.at[i]);
	return !numeric;
}

bool
domain_literal_valid(struct span literal)
{
	char text[INET6_ADDRSTRLEN + 1];
	unsigned char binary[16];
	int family = AF_INET;

	if (literal.len < 3 || literal.at[0] != '[' || literal.at[literal.len - 1] != ']')
		return false;
	literal = span_of(literal.at + 1, literal.len - 2);
	if (span_istarts(literal, SPAN("IPv6:"))) {
		family = AF_INET6;
		literal = span_skip(literal, 5);
	}
	if (literal.len >= sizeof(text) || span_find(literal, '\0') != NULL)
		return false;
	memcpy(text, literal.at, literal.len);
	text[literal.len] = '\0';
	return inet_pton(family, text, binary) == 1;
}

/*
 * The octets of an unquoted local part at the start of s; 0 if there is none, or it is no
 * dot-string.
 */
static size_t
dot_string_len(struct span s)
{
	size_t len = 0;
	bool dot = true;

	while (len < s.len && (is_atext(s.at[len]) || s.at[len] == '.')) {
		if (s.at[len] == '.' && dot)
			return 0;
		dot = s.at[len] == '.';
		len++;
	}
	return dot ? 0 : len;
}

/*
 * The octets of a quoted string with its quotes at the start of s; 0 if it is malformed or does not
 * end.
 */
static size_t
quoted_len(struct span s)
{
	for (size_t i = 1; i < s.len; i++) {
		unsigned char c = (unsigned char)s.at[i];

		if (c == '"')
			return i + 1;
		if (c == '\\' && ++i == s.len)
			return 0;
		c = (unsigned char)s.at[i];
		if (c < ' ' || c == 127)
			return 0;
	}
	return 0;
}

/* What a quoted string means, if it could have been written without quotes; else as it is. */
static struct span
drop_needless_quotes(struct span quoted, struct arena *arena)
{
	char *plain = arena_alloc(arena, quoted.len);
	size_t len = 0;

	for (size_t i = 1; i + 1 < quoted.len; i++) {
		if (quoted.at[i] == '\\')
			i++;
		plain[len++] = quoted.at[i];
	}
	if (len > 0 && dot_string_len(span_of(plain, len)) == len)
		return span_of(plain, len);
	return arena_copy(arena, quoted);
}

/* The octets up to the first of the two stops that stands outside quotes and brackets. */
static size_t
token_len(struct span s, char stop1, char stop2)
{
	bool quoted = false, literal = false;
	size_t i;

	for (i = 0; i < s.len; i++) {
		char c = s.at[i];

		if (quoted && c == '\\' && i + 1 < s.len)
			i++;
		else if (c == '"' && !literal)
			quoted = !quoted;
		else if (!quoted && (c == '[' || c == ']'))
			literal = c == '[';
		else if (!quoted && !literal && (c == stop1 || c == stop2))
			break;
	}
	return i;
}

/* "@a,@b:" is checked and thrown away (RFC 5321 appendix C). */
static bool
skip_source_route(struct span *mailbox, bool utf8)
{
	struct span rest = *mailbox;

	if (rest.len == 0 || rest.at[0] != '@')
		return true;
	for (;;) {
		size_t len = token_len(rest, ',', ':');

		if (len < 2 || len == rest.len || rest.at[0] != '@')
			return false;
		if (!domain_valid(span_of(rest.at + 1, len - 1), utf8))
			return false;
		*mailbox = span_skip(rest, len + 1);
		if (rest.at[len] == ':')
			return true;
		rest = *mailbox;
	}
}

static enum address_error
parse_local_alone(struct span local, unsigned flags, struct address *ret)
{
	bool postmaster =
		(flags & ADDRESS_POSTMASTER_OK) != 0 && span_ieq(local, SPAN("postmaster"));

	if (!postmaster && (flags & ADDRESS_BARE_LOCAL_OK) == 0)
		return ADDRESS_NO_DOMAIN;
	ret->domain = SPAN("");
	return ADDRESS_OK;
}

/* The whole of text is a mailbox, or what the flags allow in place of one. */
static enum address_error
parse_mailbox(struct span text, unsigned flags, struct arena *arena, struct address *ret)
{
	bool utf8 = (flags & ADDRESS_UTF8) != 0;
	struct address address = { .utf8 = has_high(text) };
	enum address_error error = ADDRESS_OK;
	bool quoted = text.len > 0 && text.at[0] == '"';
	size_t len;

	if (address.utf8 && !utf8)
		return ADDRESS_NEEDS_UTF8;
	if (address.utf8 && !utf8_valid(text))
		return ADDRESS_BAD_UTF8;
	if (text.len > ADDRESS_PATH_MAX - 2)
		return ADDRESS_TOO_LONG;
	len = quoted ? quoted_len(text) : dot_string_len(text);
	if (len == 0)
		return ADDRESS_SYNTAX;
	if (len > ADDRESS_LOCAL_MAX)
		return ADDRESS_TOO_LONG;
	address.local = span_first(text, len);
	text = span_skip(text, len);
	if (text.len == 0)
		error = parse_local_alone(address.local, flags, &address);
	else if (text.at[0] != '@' || !domain_valid(span_skip(text, 1), utf8))
		error = ADDRESS_SYNTAX;
	else
		address.domain = arena_lower(arena, span_skip(text, 1));
	if (error != ADDRESS_OK)
		return error;
	address.local = quoted ? drop_needless_quotes(address.local, arena)
			       : arena_copy(arena, address.local);
	*ret = address;
	return ADDRESS_OK;
}

enum address_error
address_parse(struct span text, unsigned flags, struct arena *arena, struct address *ret)
{
	if (text.len == 0 && (flags & ADDRESS_NULL_OK) != 0) {
		*ret = (struct address){ .local = SPAN(""), .domain = SPAN("") };
		return ADDRESS_OK;
	}
	return parse_mailbox(text, flags, arena, ret);
}

enum address_error
address_parse_path(struct span text, unsigned flags, struct arena *arena, struct address *ret,
		   struct span *rest)
{
	bool bracket = text.len > 0 && text.at[0] == '<';
	struct span mailbox;
	enum address_error error;
	size_t len;

	if (!bracket && (flags & ADDRESS_STRICT) != 0)
		return ADDRESS_SYNTAX;
	if (bracket)
		text = span_skip(text, 1);
	len = bracket ? token_len(text, '>', '>') : token_len(text, ' ', '\t');
	if (bracket && len == text.len)
		return ADDRESS_SYNTAX;
	mailbox = span_first(text, len);
	text = span_skip(text, len + bracket);
	if (text.len > 0 && text.at[0] != ' ' && text.at[0] != '\t')
		return ADDRESS_SYNTAX;
	if (!bracket)
		flags &= ~(unsigned)ADDRESS_NULL_OK;
	if (!skip_source_route(&mailbox, (flags & ADDRESS_UTF8) != 0))
		return has_high(mailbox) && (flags & ADDRESS_UTF8) == 0 ? ADDRESS_NEEDS_UTF8
									: ADDRESS_SYNTAX;
	error = address_parse(mailbox, flags, arena, ret);
	if (error == ADDRESS_OK)
		*rest = text;
	return error;
}

struct span
address_text(const struct address *address, struct arena *arena)
{
	size_t len = address->local.len + (address->domain.len > 0) + address->domain.len;
	char *at = arena_alloc(arena, len + 1);

	if (address->local.len > 0)
		memcpy(at, address->local.at, address->local.len);
	if (address->domain.len > 0) {
		at[address->local.len] = '@';
		memcpy(at + address->local.len + 1, address->domain.at, address->domain.len);
	}
	return span_of(at, len);
}

/*
 * Where the domain's '@' stands; text.len if there is no domain. No domain has a quote or an '@'.
 */
static size_t
domain_at(struct span text)
{
	for (size_t i = text.len; i > 0 && text.at[i - 1] != '"'; i--)
		if (text.at[i - 1] == '@')
			return i - 1;
	return text.len;
}

struct span
address_domain_of(struct span text)
{
	return span_skip(text, domain_at(text) + 1);
}

struct span
address_local_of(struct span text)
{
	return span_first(text, domain_at(text));
}

static int
hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * Lower-case hex and a bare '=' are let pass: both are seen, and neither is ambiguous. An encoded
 * control octet is not: what is decoded ends up in headers and logs.
 */
bool
xtext_decode(struct span s, struct arena *arena, struct span *ret)
{
	char *out = arena_alloc(arena, s.len + 1);
	size_t len = 0;

	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.at[i];

		if (c < 33 || c > 126)
			return false;
		if (c == '+') {
			int high = i + 2 < s.len ? hex_value(s.at[i + 1]) : -1;
			int low = i + 2 < s.len ? hex_value(s.at[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			c = (unsigned char)(high * 16 + low);
			if (c < ' ' || c == 127)
				return false;
			i += 2;
		}
		out[len++] = (char)c;
	}
	*ret = span_of(out, len);
	return true;
}

void
xtext_encode(struct span s, struct buf *out)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.at[i];

		if (c < 33 || c > 126 || c == '+' || c == '=')
			buf_printf(out, "+%02X", c);
		else
			buf_byte(out, (char)c);
	}
}
