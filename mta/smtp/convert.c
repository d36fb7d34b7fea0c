/*
 * convert: see convert.h. Input is cut into lines; a line is a header's, a delimiter between parts,
 * or content of the part that is open. Any thread.
 */
#include "mta/smtp/convert.h"

#include "mta/smtp/header.h"

enum {
	LINE_HELD_MAX = 512,	/* of a line's beginning; what is longer is no delimiter */
	FIELD_NAME_MAX = 998,
	QUOTED_MAX = 75,	/* octets on a line, and '=' behind them */
	BASE64_MAX = 76,
};

void
convert_init(struct convert *c)
{
	*c = (struct convert){ .mode = CONVERT_HEADER, .top = true };
}

void
convert_free(struct convert *c)
{
	buf_free(&c->line);
	buf_free(&c->header);
}

/* ---- quoted-printable --------------------------------------------------------------------- */

static void
put_quoted(struct convert *c, const char *text, size_t len, struct buf *out)
{
	if (c->column + len > QUOTED_MAX) {
		buf_append(out, SPAN("=\r\n"));
		c->column = 0;
	}
	buf_append(out, span_of(text, len));
	c->column += len;
}

static void
put_encoded(struct convert *c, char octet, struct buf *out)
{
	static const char digits[] = "0123456789ABCDEF";
	unsigned char n = (unsigned char)octet;
	const char text[3] = { '=', digits[n >> 4], digits[n & 15] };

	put_quoted(c, text, sizeof(text), out);
}

static void
quote(struct convert *c, struct span s, struct buf *out)
{
	for (size_t i = 0; i < s.len; i++) {
		char octet = s.at[i];

		if (c->blank != '\0')
			put_quoted(c, &c->blank, 1, out);
		c->blank = '\0';
		if (octet == ' ' || octet == '\t')
			c->blank = octet;
		else if (octet > ' ' && octet <= '~' && octet != '=')
			put_quoted(c, &octet, 1, out);
		else
			put_encoded(c, octet, out);
	}
}

/* A blank at the end of a line might be cut off on the way. */
static void
end_quoted(struct convert *c, struct buf *out)
{
	if (c->blank != '\0')
		put_encoded(c, c->blank, out);
	c->blank = '\0';
}

/* ---- base64 ------------------------------------------------------------------------------- */

static void
put_three(struct convert *c, struct buf *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t n = (uint32_t)c->three[0] << 16 | (uint32_t)c->three[1] << 8 | c->three[2];
	char text[4] = { digits[n >> 18], digits[n >> 12 & 63], digits[n >> 6 & 63],
			 digits[n & 63] };

	for (size_t i = c->have + 1; i < sizeof(text); i++)
		text[i] = '=';
	buf_append(out, span_of(text, sizeof(text)));
	memset(c->three, 0, sizeof(c->three));
	c->have = 0;
	c->column += sizeof(text);
	if (c->column == BASE64_MAX) {
		buf_append(out, SPAN("\r\n"));
		c->column = 0;
	}
}

static void
encode64(struct convert *c, struct span s, struct buf *out)
{
	for (size_t i = 0; i < s.len; i++) {
		c->three[c->have++] = (uint8_t)s.at[i];
		if (c->have == sizeof(c->three))
			put_three(c, out);
	}
}

static void
put_held_newline(struct convert *c, struct buf *out)
{
	if (c->newline)
		encode64(c, SPAN("\r\n"), out);
	c->newline = false;
}

static void
end_base64(struct convert *c, struct buf *out)
{
	if (c->have > 0)
		put_three(c, out);
	if (c->column > 0)
		buf_append(out, SPAN("\r\n"));
	c->newline = false;
}

/* ---- content ------------------------------------------------------------------------------ */

static void
put_content(struct convert *c, struct span s, struct buf *out)
{
	if (c->mode == CONVERT_QUOTED) {
		quote(c, s, out);
	} else if (c->mode == CONVERT_BASE64) {
		if (s.len > 0)
			put_held_newline(c, out);
		encode64(c, s, out);
	} else {
		buf_append(out, s);
	}
}

static void
put_newline(struct convert *c, struct buf *out)
{
	if (c->mode == CONVERT_BASE64) {
		put_held_newline(c, out);
		c->newline = true;
		return;
	}
	end_quoted(c, out);
	buf_append(out, SPAN("\r\n"));
	c->column = 0;
}

/* At a delimiter, which takes the line end before it; or, without one, at the message's end. */
static void
end_content(struct convert *c, bool delimiter, struct buf *out)
{
	if (c->mode == CONVERT_BASE64) {
		if (!delimiter)
			put_held_newline(c, out);
		end_base64(c, out);
	} else {
		end_quoted(c, out);
	}
	c->column = 0;
}

/* ---- header fields ------------------------------------------------------------------------ */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Past blanks, line ends of folding, and comments. */
static struct span
skip_blanks(struct span s)
{
	size_t nested = 0;

	while (s.len > 0 && (nested > 0 || is_blank(s.at[0]) || s.at[0] == '(')) {
		if (s.at[0] == '(')
			nested++;
		else if (s.at[0] == ')')
			nested--;
		else if (s.at[0] == '\\' && s.len > 1)
			s = span_skip(s, 1);
		s = span_skip(s, 1);
	}
	return s;
}

/* Cuts off what stands before the next of these, blank or line end. */
static struct span
cut_until(struct span *s, const char *specials)
{
	struct span rest = skip_blanks(*s), token = rest;
	size_t len = 0;

	while (len < rest.len && rest.at[len] > ' ' && rest.at[len] < 127 &&
	       strchr(specials, rest.at[len]) == NULL)
		len++;
	token.len = len;
	*s = skip_blanks(span_skip(rest, len));
	return token;
}

static struct span
cut_token(struct span *s)
{
	return cut_until(s, "()<>@,;:\\\"/[]=");
}

/*
 * A token (one with '/' or '=' is seen, too) or a quoted string, in at most size octets; what is
 * longer has length 0.
 */
static size_t
cut_value(struct span *s, char *ret, size_t size)
{
	struct span rest = skip_blanks(*s), token;
	size_t len = 0;

	if (rest.len == 0 || rest.at[0] != '"') {
		*s = rest;
		token = cut_until(s, "();\"");
		if (token.len <= size)
			memcpy(ret, token.at, token.len);
		return token.len <= size ? token.len : 0;
	}
	for (rest = span_skip(rest, 1); rest.len > 0 && rest.at[0] != '"';
	     rest = span_skip(rest, 1)) {
		if (rest.at[0] == '\\' && rest.len > 1)
			rest = span_skip(rest, 1);
		if (rest.at[0] == '\r' || rest.at[0] == '\n')
			continue;
		if (len < size)
			ret[len] = rest.at[0];
		len++;
	}
	*s = skip_blanks(span_skip(rest, 1));
	return len <= size ? len : 0;
}

/* What a header says of its content. */
struct content {
	struct span type, subtype;	/* empty: none given, or not understood */
	char boundary[CONVERT_BOUNDARY_MAX];
	size_t boundary_len;
	bool has_type, has_version, has_encoding;
	bool is_8bit, is_binary;	/* encoding; neither: 7bit, or encoded already */
	bool is_encoded;
};

static void
read_type(struct span value, struct content *ret)
{
	char other[1];

	ret->has_type = true;
	ret->type = cut_token(&value);
	if (value.len == 0 || value.at[0] != '/')
		return;
	value = span_skip(value, 1);
	ret->subtype = cut_token(&value);
	while (value.len > 0) {
		struct span name;

		if (value.at[0] != ';') {		/* rubbish: what is behind it may be good */
			value = span_skip(value, 1);
			continue;
		}
		value = span_skip(value, 1);
		name = cut_token(&value);
		if (value.len == 0 || value.at[0] != '=')
			continue;
		value = span_skip(value, 1);
		if (span_ieq(name, SPAN("boundary")) && ret->boundary_len == 0)
			ret->boundary_len =
				cut_value(&value, ret->boundary, sizeof(ret->boundary));
		else
			cut_value(&value, other, sizeof(other));
	}
}

static void
read_encoding(struct span value, struct content *ret)
{
	struct span word = cut_token(&value);

	ret->has_encoding = true;
	ret->is_8bit = span_ieq(word, SPAN("8bit"));
	ret->is_binary = span_ieq(word, SPAN("binary"));
	ret->is_encoded = !ret->is_8bit && !ret->is_binary && !span_ieq(word, SPAN("7bit"));
}

static struct content
read_content(struct span header)
{
	struct content ret = { .boundary_len = 0 };
	struct span name, value;

	while (header_next(&header, &name, &value)) {
		if (span_ieq(name, SPAN("Content-Type")) && !ret.has_type)
			read_type(value, &ret);
		else if (span_ieq(name, SPAN("Content-Transfer-Encoding")) && !ret.has_encoding)
			read_encoding(value, &ret);
		else if (span_ieq(name, SPAN("MIME-Version")))
			ret.has_version = true;
	}
	return ret;
}

/* The header without its encoding, and with this one. */
static void
put_header(struct span header, const char *encoding, struct buf *out)
{
	struct span at = header, rest = header, name, value;

	while (header_next(&at, &name, &value)) {
		if (!span_ieq(name, SPAN("Content-Transfer-Encoding")))
			buf_append(out, span_first(rest, rest.len - at.len));
		rest = at;
	}
	buf_append(out, rest);
	buf_printf(out, "Content-Transfer-Encoding: %s\r\n", encoding);
}

static bool
is_multipart(const struct content *content)
{
	return span_ieq(content->type, SPAN("multipart"));
}

static bool
is_message(const struct convert *c, const struct content *content)
{
	if (!content->has_type)
		return c->digest;
	return span_ieq(content->type, SPAN("message")) &&
	       (span_ieq(content->subtype, SPAN("rfc822")) ||
		span_ieq(content->subtype, SPAN("global")));
}

/* The parts of a multipart follow; before the first comes a preamble. */
static void
enter_multipart(struct convert *c, const struct content *content)
{
	struct convert_level *level = &c->levels[c->depth++];

	memcpy(level->boundary, content->boundary, content->boundary_len);
	level->len = (uint8_t)content->boundary_len;
	level->digest = span_ieq(content->subtype, SPAN("digest"));
	c->mode = CONVERT_AS_IS;
}

/* How the content of a part that has no parts itself is written. */
static enum convert_mode
leaf_mode(const struct convert *c, const struct content *content)
{
	bool text = !content->has_type || span_ieq(content->type, SPAN("text")) ||
		    span_ieq(content->type, SPAN("message"));

	if (content->is_encoded || is_multipart(content))
		return CONVERT_AS_IS;
	if (content->is_binary || (content->is_8bit && !text))
		return CONVERT_BASE64;
	if (content->is_8bit)
		return CONVERT_QUOTED;
	if (!c->top)
		return CONVERT_AS_IS;
	return text ? CONVERT_QUOTED : CONVERT_BASE64;
}

/* The header is whole: writes it, and says what follows. True: it says something new. */
static bool
end_header(struct convert *c, struct buf *out)
{
	static const char *const names[] = { [CONVERT_QUOTED] = "quoted-printable",
					     [CONVERT_BASE64] = "base64" };
	struct span header = buf_span(&c->header);
	struct content content = read_content(header);
	bool declared = content.is_8bit || content.is_binary, top = c->top;
	const char *encoding = declared ? "7bit" : NULL;

	if (is_multipart(&content) && content.boundary_len > 0 && !content.is_encoded &&
	    c->depth < CONVERT_DEPTH_MAX) {
		enter_multipart(c, &content);
	} else if (is_message(c, &content) && !content.is_encoded) {
		c->mode = CONVERT_HEADER;
	} else {
		c->mode = leaf_mode(c, &content);
		encoding = names[c->mode];
	}
	if (encoding != NULL && header.len > 0 && !span_ends(header, SPAN("\r\n")))
		buf_append(&c->header, SPAN("\r\n"));
	header = buf_span(&c->header);
	if (encoding != NULL)
		put_header(header, encoding, out);
	else
		buf_append(out, header);
	if (encoding != NULL && top && !content.has_version)
		buf_append(out, SPAN("MIME-Version: 1.0\r\n"));
	if (encoding != NULL && top && !content.has_type)	/* RFC 1428 §3 */
		buf_append(out, SPAN("Content-Type: text/plain; charset=unknown-8bit\r\n"));
	c->top = c->digest = false;
	buf_free(&c->header);
	return encoding != NULL;
}

/* ---- lines -------------------------------------------------------------------------------- */

/* Which multipart the line parts or ends; false: it is none's. */
static bool
is_delimiter(const struct convert *c, struct span line, size_t *level, bool *last)
{
	if (!span_starts(line, SPAN("--")))
		return false;
	line = span_skip(line, 2);
	for (size_t i = c->depth; i > 0; i--) {
		const struct convert_level *l = &c->levels[i - 1];
		struct span rest;

		if (!span_starts(line, span_of(l->boundary, l->len)))
			continue;
		rest = span_skip(line, l->len);
		*last = span_starts(rest, SPAN("--"));
		rest = span_skip(rest, *last ? 2 : 0);
		while (rest.len > 0 && is_blank(rest.at[0]))
			rest = span_skip(rest, 1);
		if (rest.len > 0)
			continue;
		*level = i - 1;
		return true;
	}
	return false;
}

static void
take_delimiter(struct convert *c, struct span line, size_t level, bool last, struct buf *out)
{
	if (c->mode == CONVERT_HEADER)
		end_header(c, out);
	else
		end_content(c, true, out);
	buf_append(out, line);
	c->depth = last ? level : level + 1;
	c->digest = !last && c->levels[level].digest;
	c->mode = last ? CONVERT_AS_IS : CONVERT_HEADER;
}

static bool
is_field(struct span line)
{
	struct span name, value;

	if (line.at[0] == ' ' || line.at[0] == '\t')
		return true;
	line = span_first(line, FIELD_NAME_MAX);
	return header_next(&line, &name, &value);
}

/* Of a header: true if the line belongs to it. */
static bool
take_header_line(struct convert *c, struct span line, struct buf *out)
{
	if (span_eq(line, SPAN("\r\n"))) {
		end_header(c, out);
		buf_append(out, line);
		return true;
	}
	if (is_field(line) && buf_len(&c->header) + line.len <= CONVERT_HEADER_MAX) {
		buf_append(&c->header, line);
		return true;
	}
	if (is_field(line)) {			/* too large to be understood */
		buf_append(out, buf_span(&c->header));
		buf_append(out, line);
		buf_free(&c->header);
		c->mode = CONVERT_AS_IS;
		c->top = c->digest = false;
		return true;
	}
	/* content begins without a blank line, or a message in a message with no header at all */
	do {
		if (end_header(c, out))
			buf_append(out, SPAN("\r\n"));
	} while (c->mode == CONVERT_HEADER);
	return false;
}

/* A whole line; the last one may lack its end. */
static void
take_line(struct convert *c, struct span line, struct buf *out)
{
	bool ended = span_ends(line, SPAN("\r\n"));
	size_t level;
	bool last;

	if (line.len <= LINE_HELD_MAX && is_delimiter(c, line, &level, &last)) {
		take_delimiter(c, line, level, last, out);
		return;
	}
	if (c->mode == CONVERT_HEADER && take_header_line(c, line, out))
		return;
	put_content(c, span_first(line, line.len - (ended ? 2 : 0)), out);
	if (ended)
		put_newline(c, out);
}

/* The beginning of a line too long to be held, or what follows it up to the line's end. */
static void
take_piece(struct convert *c, struct span piece, struct buf *out)
{
	bool ended = span_ends(piece, SPAN("\r\n"));

	put_content(c, span_first(piece, piece.len - (ended ? 2 : 0)), out);
	if (ended)
		put_newline(c, out);
	c->in_line = !ended;
}

/* A header's line is gathered whole, up to the largest that a header may be. */
static size_t
line_limit(const struct convert *c)
{
	return c->mode == CONVERT_HEADER ? (size_t)CONVERT_HEADER_MAX : (size_t)LINE_HELD_MAX;
}

/* As much of the line as is here: is it whole, or too long to wait for its end? */
static void
take_held(struct convert *c, struct buf *out)
{
	struct span held = buf_span(&c->line);
	bool ended = span_ends(held, SPAN("\r\n"));
	bool cr = span_ends(held, SPAN("\r"));

	if (ended && !c->in_line) {
		take_line(c, held, out);
		buf_clear(&c->line);
	} else if (ended || c->in_line || held.len > line_limit(c)) {
		held.len -= cr;			/* the LF may come next */
		if (c->mode != CONVERT_HEADER)
			take_piece(c, held, out);
		else if (!take_header_line(c, held, out))
			put_content(c, held, out);
		c->in_line = !ended;
		buf_clear(&c->line);
		if (cr)
			buf_byte(&c->line, '\r');
	}
}

void
convert_take(struct convert *c, struct span bytes, struct buf *out)
{
	while (bytes.len > 0) {
		const char *lf = span_find(bytes, '\n');
		size_t len = lf ? (size_t)(lf - bytes.at) + 1 : bytes.len;

		buf_append(&c->line, span_first(bytes, len));
		bytes = span_skip(bytes, len);
		take_held(c, out);
	}
}

void
convert_end(struct convert *c, struct buf *out)
{
	if (buf_len(&c->line) > 0 && c->in_line)
		take_piece(c, buf_span(&c->line), out);
	else if (buf_len(&c->line) > 0)
		take_line(c, buf_span(&c->line), out);
	buf_clear(&c->line);
	if (c->mode == CONVERT_HEADER)
		end_header(c, out);
	else
		end_content(c, false, out);
}
