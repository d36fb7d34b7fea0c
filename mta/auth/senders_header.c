/*
 * senders_header: the addresses of From: fields (RFC 5322 §3.4, read strictly), and whether they
 * are the user's. See senders.h. No recursion: comments have a depth, groups one level.
 */
#include <errno.h>

#include "mta/auth/senders.h"
#include "mta/base/address.h"

enum { CULPRIT_MAX = 200 };

struct reader {
	struct span rest;
	struct arena arena;
	bool (*each)(void *arg, struct span address);
	void *arg;
	int given;
	bool stop;			/* each said false */
};

/* A blank, or a fold: CRLF and a blank. Its octets, or 0. */
static size_t
blank_len(struct span s)
{
	if (s.len > 0 && (s.at[0] == ' ' || s.at[0] == '\t'))
		return 1;
	if (s.len > 2 && s.at[0] == '\r' && s.at[1] == '\n' && (s.at[2] == ' ' || s.at[2] == '\t'))
		return 3;
	return 0;
}

/* What may stand in a comment, a quoted string or a word: no control octets. */
static bool
is_text(char c)
{
	return (unsigned char)c >= ' ' && c != 127;
}

/* False: a comment that does not end. */
static bool
skip_comment(struct span *s)
{
	size_t depth = 0, blank;

	do {
		char c;

		if (s->len == 0)
			return false;
		c = s->at[0];
		blank = blank_len(*s);
		depth += c == '(';
		depth -= c == ')';
		if (c == '\\' && (s->len < 2 || !is_text(s->at[1])))
			return false;
		if (blank == 0 && !is_text(c))
			return false;
		*s = span_skip(*s, blank > 0 ? blank : c == '\\' ? 2 : 1);
	} while (depth > 0);
	return true;
}

static bool
skip_blanks(struct span *s)
{
	for (;;) {
		size_t blank = blank_len(*s);

		if (blank > 0)
			*s = span_skip(*s, blank);
		else if (s->len > 0 && s->at[0] == '(') {
			if (!skip_comment(s))
				return false;
		} else {
			return true;
		}
	}
}

static bool
is_atom(char c)
{
	return is_text(c) && c != ' ' && strchr("()<>@,;:\\\"[]", c) == NULL;
}

/* Appends the quoted string at the front, with its quotes, unfolded. */
static bool
take_quoted(struct span *s, struct buf *out)
{
	buf_byte(out, '"');
	*s = span_skip(*s, 1);
	while (s->len > 0 && s->at[0] != '"') {
		size_t blank = blank_len(*s);
		size_t len = blank > 0 ? blank : s->at[0] == '\\' ? 2 : 1;

		if (s->len < len || (blank == 0 && !is_text(s->at[len - 1])))
			return false;
		buf_append(out, blank == 3 ? span_of(s->at + 2, 1) : span_first(*s, len));
		*s = span_skip(*s, len);
	}
	if (s->len == 0)
		return false;
	buf_byte(out, '"');
	*s = span_skip(*s, 1);
	return true;
}

/*
 * Words up to what is none; appended to out with a blank wherever blanks stood. In a name brackets
 * are words, too: many write them.
 */
static bool
take_words(struct span *s, bool brackets, struct buf *out)
{
	const char *before;

	for (;;) {
		before = s->at;
		if (!skip_blanks(s))
			return false;
		if (s->len == 0)
			return true;
		if (s->at != before && buf_len(out) > 0)
			buf_byte(out, ' ');
		if (s->at[0] == '"') {
			if (!take_quoted(s, out))
				return false;
		} else if (is_atom(s->at[0]) ||
			   (brackets && (s->at[0] == '[' || s->at[0] == ']'))) {
			buf_byte(out, s->at[0]);
			*s = span_skip(*s, 1);
		} else {
			return true;
		}
	}
}

static bool
take_literal(struct span *s, struct buf *out)
{
	while (s->len > 0 && s->at[0] != ']') {
		if (!is_text(s->at[0]) || s->at[0] == '\\' || s->at[0] == ' ')
			return false;
		buf_byte(out, s->at[0]);
		*s = span_skip(*s, 1);
	}
	if (s->len == 0)
		return false;
	buf_byte(out, ']');
	*s = span_skip(*s, 1);
	return skip_blanks(s);
}

/* "@" stands at the front, local before it: one address, which `each` gets. */
static bool
take_domain(struct reader *r, struct buf *local)
{
	struct address address;
	struct span text = span_trim(buf_span(local));
	struct buf whole = { 0 };
	bool good;

	buf_append(&whole, text);
	buf_byte(&whole, '@');
	r->rest = span_skip(r->rest, 1);
	buf_clear(local);
	good = skip_blanks(&r->rest);
	if (good && r->rest.len > 0 && r->rest.at[0] == '[')
		good = take_literal(&r->rest, local);
	else
		good = good && take_words(&r->rest, false, local);
	buf_append(&whole, span_trim(buf_span(local)));
	buf_clear(local);
	good = good && r->given < SENDERS_HEADER_ADDRESSES &&
	       address_parse(buf_span(&whole), ADDRESS_UTF8, &r->arena, &address) == ADDRESS_OK &&
	       address.domain.len > 0;
	buf_free(&whole);
	if (!good)
		return false;
	r->given++;
	r->stop = !r->each(r->arg, address_text(&address, &r->arena));
	return true;
}

/* "<" stands at the front. */
static bool
take_angle(struct reader *r, struct buf *words)
{
	buf_clear(words);
	r->rest = span_skip(r->rest, 1);
	if (!take_words(&r->rest, false, words) || r->rest.len == 0 || r->rest.at[0] != '@' ||
	    buf_len(words) == 0 || !take_domain(r, words))
		return false;
	if (r->stop)
		return true;
	if (r->rest.len == 0 || r->rest.at[0] != '>')
		return false;
	r->rest = span_skip(r->rest, 1);
	return skip_blanks(&r->rest);
}

/* One mailbox, or a name alone (of a group). */
static bool
take_mailbox(struct reader *r, struct buf *words, bool *name_only)
{
	*name_only = false;
	buf_clear(words);
	if (!take_words(&r->rest, true, words))
		return false;
	if (r->rest.len > 0 && r->rest.at[0] == '@') {
		if (buf_len(words) == 0 || !take_domain(r, words))
			return false;
		/* "a@b <c@d>": somebody may show either */
		return r->stop || r->rest.len == 0 || r->rest.at[0] != '<' || take_angle(r, words);
	}
	if (r->rest.len > 0 && r->rest.at[0] == '<')
		return take_angle(r, words);
	*name_only = true;
	return true;
}

static bool
take_list(struct reader *r, struct buf *words)
{
	bool group = false, name_only;

	while (r->rest.len > 0 && !r->stop) {
		char next;

		if (!take_mailbox(r, words, &name_only))
			return false;
		if (r->stop)
			return true;
		next = r->rest.len > 0 ? r->rest.at[0] : '\0';
		if (next == ':') {
			if (group || !name_only || buf_len(words) == 0)
				return false;
			group = true;
		} else {
			/* words that are neither an address nor the name of a group */
			if (name_only && buf_len(words) > 0)
				return false;
			if (next == ';' && !group)
				return false;
			if (next != ';' && next != ',' && next != '\0')
				return false;
			group = group && next != ';';
		}
		r->rest = span_skip(r->rest, 1);
	}
	return !group;
}

int
senders_header_addresses(struct span value, bool (*each)(void *arg, struct span address), void *arg)
{
	struct reader r = { .rest = value, .each = each, .arg = arg };
	struct buf words = { 0 };
	bool good = utf8_valid(value) && take_list(&r, &words);

	arena_free(&r.arena);
	buf_free(&words);
	return good ? r.given : -EINVAL;
}

struct judge {
	const struct senders *senders;
	struct span user;
	struct buf *culprit;
	bool refused;
};

static bool
judge_address(void *arg, struct span address)
{
	struct judge *j = arg;

	if (senders_allow(j->senders, j->user, address))
		return true;
	buf_append(j->culprit, span_first(address, CULPRIT_MAX));
	j->refused = true;
	return false;
}

bool
senders_allow_field(const struct senders *senders, struct span user, struct span value,
		    struct buf *culprit)
{
	struct judge j = { .senders = senders, .user = user, .culprit = culprit };

	if (senders_header_addresses(value, judge_address, &j) < 0) {
		buf_append(culprit, span_first(span_trim(value), CULPRIT_MAX));
		return false;
	}
	return !j.refused;
}
