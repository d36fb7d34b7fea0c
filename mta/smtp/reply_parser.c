/*
 * smtp/reply_parser: see reply_parser.h. What is not a reply by the letter is none: a code, then
 * a hyphen, a blank or the line's end. Nothing is guessed, because a guess here can turn a
 * refusal into a delivery.
 */
#include "mta/smtp/reply_parser.h"

#include <stdio.h>

enum { SHOWN_MAX = 80 };	/* octets of a bad line that its error shows */

void
reply_parser_init(struct reply_parser *p, size_t max_octets)
{
	*p = (struct reply_parser){ .max_octets = max_octets };
}

void
reply_parser_free(struct reply_parser *p)
{
	buf_free(&p->text);
	buf_free(&p->line);
}

bool
reply_parser_empty(const struct reply_parser *p)
{
	return p->done || p->octets == 0;
}

static void
append_clean(struct buf *out, struct span text)
{
	char *at;

	if (text.len == 0)
		return;
	at = buf_reserve(out, text.len);
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.at[i];

		at[i] = c == '\t' ? ' ' : c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	buf_grew(out, text.len);
}

static bool
parse_code(struct span line, uint16_t *ret)
{
	uint64_t code;

	if (line.len < 3 || !span_to_u64(span_first(line, 3), 599, &code) || code < 200)
		return false;
	*ret = (uint16_t)code;
	return true;
}

/*
 * The status, if the line has one that agrees with its code; one reply has one, so others stay
 * text.
 */
static struct span
take_status(struct reply_parser *p, struct span text)
{
	struct status status;
	size_t len;

	if (!status_parse(text, &status, &len) || status.klass != p->code / 100)
		return text;
	if (p->status.klass == 0)
		p->status = status;
	else if (p->status.klass != status.klass || p->status.subject != status.subject ||
		 p->status.detail != status.detail)
		return text;
	text = span_skip(text, len);
	return text.len > 0 && text.at[0] == ' ' ? span_skip(text, 1) : text;
}

/* One line without its end. */
static enum reply_parse
take_line(struct reply_parser *p, struct span line)
{
	bool more = line.len > 3 && line.at[3] == '-';

	if (!parse_code(line, &p->code) || (line.len > 3 && !more && line.at[3] != ' '))
		return REPLY_BAD;
	if (p->lines++ > 0)
		buf_byte(&p->text, '\n');
	append_clean(&p->text, take_status(p, span_skip(line, 4)));
	return more ? REPLY_MORE : REPLY_DONE;
}

static enum reply_parse
fail(struct reply_parser *p, struct reply *ret, struct span what, struct span line)
{
	p->bad = true;
	buf_clear(&p->text);
	buf_append(&p->text, what);
	append_clean(&p->text, span_first(line, SHOWN_MAX));
	*ret = (struct reply){ .text = buf_span(&p->text) };
	return REPLY_BAD;
}

static void
begin_reply(struct reply_parser *p)
{
	buf_clear(&p->text);
	buf_clear(&p->line);
	p->code = 0;
	p->status = (struct status){ 0 };
	p->lines = p->octets = 0;
	p->done = false;
}

static struct span
without_cr(struct span line)
{
	if (line.len > 0 && line.at[line.len - 1] == '\r')
		line.len--;
	return line;
}

enum reply_parse
reply_parser_take(struct reply_parser *p, struct span in, size_t *taken, struct reply *ret)
{
	*taken = 0;
	if (p->bad) {
		*taken = in.len;
		*ret = (struct reply){ .text = buf_span(&p->text) };
		return REPLY_BAD;
	}
	if (p->done)
		begin_reply(p);
	while (*taken < in.len) {
		struct span rest = span_skip(in, *taken), line = rest, whole;
		bool ended = span_find(rest, '\n') != NULL;
		enum reply_parse result;

		if (ended)
			line = span_first(rest, (size_t)(span_find(rest, '\n') - rest.at) + 1);
		if (line.len > p->max_octets - p->octets)
			return fail(p, ret, SPAN("a reply without end"), SPAN(""));
		*taken += line.len;
		p->octets += line.len;
		buf_append(&p->line, line);
		if (!ended)
			break;
		whole = span_first(buf_span(&p->line), buf_len(&p->line) - 1);
		result = take_line(p, without_cr(whole));
		if (result == REPLY_BAD)
			return fail(p, ret, SPAN("not a reply of SMTP: "), without_cr(whole));
		buf_clear(&p->line);
		if (result == REPLY_DONE) {
			if (p->status.klass != p->code / 100)
				p->status = (struct status){ 0 };
			p->done = true;
			*ret = (struct reply){ p->code, p->status, buf_span(&p->text) };
			return REPLY_DONE;
		}
		if (p->lines >= REPLY_LINES_MAX)
			return fail(p, ret, SPAN("a reply of too many lines"), SPAN(""));
	}
	return REPLY_MORE;
}
