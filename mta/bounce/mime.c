/* mime: see mime.h. */
#include "mta/bounce/mime.h"

#include "mta/smtp/header.h"

struct walk {
	struct arena *arena;
	struct mime_part *parts;
	size_t count;
	struct span report_type;
};

/* ---- lines and fields --------------------------------------------------------------------- */

/* Cuts the first line off, without its end. */
static struct span
cut_line(struct span *text)
{
	struct span line = span_cut(text, '\n');

	if (line.len > 0 && line.at[line.len - 1] == '\r')
		line.len--;
	return line;
}

struct span
mime_header_of(struct span text, struct span *rest)
{
	*rest = text;
	while (rest->len > 0)
		if (cut_line(rest).len == 0)
			break;
	return span_first(text, text.len - rest->len);
}

struct span
mime_unfold(struct span value, struct arena *arena)
{
	char *out = arena_alloc(arena, value.len + 1);
	size_t len = 0, depth = 0;

	for (size_t i = 0; i < value.len; i++) {
		char c = value.at[i];

		if (c == '(')
			depth++;
		else if (c == ')' && depth > 0)
			depth--;
		else if (depth == 0 && c != '\r' && c != '\n')
			out[len++] = c == '\t' ? ' ' : c;
	}
	return span_trim(span_of(out, len));
}

/* "boundary" of 'multipart/report; report-type=x; boundary="a b"', without its quotes. */
static struct span
parameter(struct span value, struct span name, struct arena *arena)
{
	char *out = arena_alloc(arena, value.len + 1);
	size_t i = 0, len;

	while (i < value.len) {
		size_t at, end;
		bool quoted = false;

		while (i < value.len && value.at[i] != ';')
			i++;
		while (i < value.len && (value.at[i] == ';' || (unsigned char)value.at[i] <= ' '))
			i++;
		for (at = i; i < value.len && value.at[i] != '=' && value.at[i] != ';'; i++)
			;
		end = i;
		if (i < value.len && value.at[i] == '=')
			i++;
		for (len = 0; i < value.len && (quoted || value.at[i] != ';'); i++) {
			if (value.at[i] == '"')
				quoted = !quoted;
			else if (value.at[i] == '\\' && quoted && i + 1 < value.len)
				out[len++] = value.at[++i];
			else if (value.at[i] != '\r' && value.at[i] != '\n')
				out[len++] = value.at[i];
		}
		if (span_ieq(span_trim(span_of(value.at + at, end - at)), name))
			return span_trim(span_of(out, len));
	}
	return SPAN("");
}

/* ---- transfer encodings ------------------------------------------------------------------- */

static int
base64_value(char c)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c != 0 ? strchr(letters, c) : NULL;

	return at != NULL ? (int)(at - letters) : -1;
}

/* Whatever else stands there is passed over (RFC 2045 §6.8), and an end in the middle is an end. */
static struct span
decode_base64(struct span text, struct arena *arena)
{
	char *out = arena_alloc(arena, text.len / 4 * 3 + 4);
	unsigned long bits = 0;
	unsigned have = 0;
	size_t len = 0;

	for (size_t i = 0; i < text.len && text.at[i] != '='; i++) {
		int value = base64_value(text.at[i]);

		if (value < 0)
			continue;
		bits = (bits << 6 | (unsigned long)value) & 0xffffff;
		have += 6;
		if (have >= 8) {
			have -= 8;
			out[len++] = (char)(bits >> have & 0xff);
		}
	}
	return span_of(out, len);
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Blanks at the end of a line are not taken out, for here nobody signs. */
static struct span
decode_quoted(struct span text, struct arena *arena)
{
	char *out = arena_alloc(arena, text.len + 1);
	size_t len = 0;

	for (size_t i = 0; i < text.len; i++) {
		struct span next = span_skip(text, i + 1);

		if (text.at[i] != '=') {
			out[len++] = text.at[i];
		} else if (next.len >= 2 && hex_value(next.at[0]) >= 0 &&
			   hex_value(next.at[1]) >= 0) {
			out[len++] = (char)(hex_value(next.at[0]) * 16 + hex_value(next.at[1]));
			i += 2;
		} else if (span_starts(next, SPAN("\r\n"))) {
			i += 2;
		} else if (span_starts(next, SPAN("\n"))) {
			i += 1;
		} else {
			out[len++] = '=';
		}
	}
	return span_of(out, len);
}

static struct span
decode(struct span header, struct span body, struct arena *arena)
{
	struct span encoding = SPAN("");

	if (header_find(header, SPAN("Content-Transfer-Encoding"), &encoding))
		encoding = mime_unfold(encoding, arena);
	if (span_ieq(encoding, SPAN("base64")))
		return decode_base64(body, arena);
	if (span_ieq(encoding, SPAN("quoted-printable")))
		return decode_quoted(body, arena);
	return body;
}

/* ---- parts -------------------------------------------------------------------------------- */

static void walk_part(struct walk *w, struct span header, struct span body, unsigned depth);

enum delimiter { NO_DELIMITER, DELIMITER, LAST_DELIMITER };

static enum delimiter
delimiter_of(struct span line, struct span boundary)
{
	if (!span_starts(line, SPAN("--")) || !span_starts(span_skip(line, 2), boundary))
		return NO_DELIMITER;
	line = span_trim(span_skip(line, 2 + boundary.len));
	if (line.len == 0)
		return DELIMITER;
	return span_eq(line, SPAN("--")) ? LAST_DELIMITER : NO_DELIMITER;
}

/* The line end before a delimiter is the delimiter's. */
static struct span
without_end(struct span body)
{
	if (span_ends(body, SPAN("\n")))
		body.len--;
	if (span_ends(body, SPAN("\r")))
		body.len--;
	return body;
}

static void
walk_multipart(struct walk *w, struct span body, struct span boundary, unsigned depth)
{
	struct span rest = body, part = SPAN("");
	enum delimiter found = NO_DELIMITER;
	bool begun = false;

	while (rest.len > 0 && found != LAST_DELIMITER && w->count < MIME_PARTS_MAX) {
		struct span before = rest, header, content;

		found = delimiter_of(cut_line(&rest), boundary);
		if (found == NO_DELIMITER && rest.len > 0)
			continue;
		if (begun) {			/* the last one may not have been closed */
			size_t end = found == NO_DELIMITER ? 0 : before.len;

			part = without_end(span_first(part, part.len - end));
			header = mime_header_of(part, &content);
			walk_part(w, header, content, depth + 1);
		}
		part = rest;
		begun = true;
	}
}

/* Without a field, or with one that says nothing: text. */
static struct span
type_of(struct span header, struct span *value, struct arena *arena)
{
	struct span type = SPAN("");

	*value = SPAN("");
	if (header_find(header, SPAN("Content-Type"), value))
		type = mime_unfold(span_first(*value, 2000), arena);
	type = span_trim(span_cut(&type, ';'));
	return span_find(type, '/') != NULL ? arena_lower(arena, type) : SPAN("text/plain");
}

static void
walk_part(struct walk *w, struct span header, struct span body, unsigned depth)
{
	struct span value, type = type_of(header, &value, w->arena), boundary;

	if (w->count == MIME_PARTS_MAX)
		return;
	value = span_first(value, 2000);
	if (span_starts(type, SPAN("multipart/"))) {
		boundary = parameter(value, SPAN("boundary"), w->arena);
		if (w->report_type.len == 0 && span_eq(type, SPAN("multipart/report")))
			w->report_type = arena_lower(
				w->arena, parameter(value, SPAN("report-type"), w->arena));
		if (depth < MIME_DEPTH_MAX && boundary.len > 0 &&
		    boundary.len <= MIME_BOUNDARY_MAX) {
			walk_multipart(w, body, boundary, depth);
			return;
		}
		type = SPAN("text/plain");
	}
	w->parts[w->count++] = (struct mime_part){ type, decode(header, body, w->arena) };
}

size_t
mime_parts(struct span header, struct span body, struct arena *arena,
	   struct mime_part ret[MIME_PARTS_MAX], struct span *report_type)
{
	struct walk w = { arena, ret, 0, SPAN("") };

	walk_part(&w, header, body, 0);
	*report_type = w.report_type;
	return w.count;
}

/* ---- HTML --------------------------------------------------------------------------------- */

static const struct { const char *name; char octet;
} entities[] = {
	{ "&lt;", '<' },   { "&gt;", '>' },  { "&amp;", '&' }, { "&quot;", '"' },
	{ "&nbsp;", ' ' }, { "&#39;", '\'' }, { "&#64;", '@' },
};

/* How much of text the entity at its start takes; 1: there is none. */
static size_t
read_entity(struct span text, char *octet)
{
	for (size_t i = 0; i < sizeof(entities) / sizeof(entities[0]); i++)
		if (span_istarts(text, span_str(entities[i].name))) {
			*octet = entities[i].octet;
			return strlen(entities[i].name);
		}
	*octet = text.at[0];
	return 1;
}

static bool
ends_line(struct span tag)
{
	return span_istarts(tag, SPAN("<br")) || span_istarts(tag, SPAN("<p")) ||
	       span_istarts(tag, SPAN("</p")) || span_istarts(tag, SPAN("</tr")) ||
	       span_istarts(tag, SPAN("</div")) || span_istarts(tag, SPAN("</h"));
}

struct span
mime_html_text(struct span html, struct arena *arena)
{
	char *out = arena_alloc(arena, html.len + 1);
	size_t len = 0, i = 0;
	bool in_tag = false;

	while (i < html.len) {
		struct span rest = span_skip(html, i);
		char octet = html.at[i];

		if (in_tag) {
			in_tag = octet != '>';
			i++;
		} else if (octet == '<') {
			in_tag = true;
			out[len++] = ends_line(rest) ? '\n' : ' ';
			i++;
		} else {
			i += read_entity(rest, &octet);
			out[len++] = octet;
		}
	}
	return span_of(out, len);
}
