/*
 * header: a line at a time. Whole lines are judged where they lie and gathered in one piece; only a
 * line that is cut by the end of the input is held. See header.h. Any thread.
 */
#include "mta/smtp/header.h"

enum line_kind { LINE_BLANK, LINE_FIELD, LINE_FOLDED, LINE_OTHER };

void
header_scan_init(struct header_scan *h, size_t max_size, size_t max_lines)
{
	*h = (struct header_scan){ .max_size = max_size, .max_lines = max_lines };
}

/*
 * The octets of the field name at the start of the line, 0 if it is no field; *colon is where the
 * colon stands.
 */
static size_t
name_len(struct span line, size_t *colon)
{
	size_t len = 0, at;

	while (len < line.len && line.at[len] > ' ' && line.at[len] <= '~' && line.at[len] != ':')
		len++;
	/* blanks before the colon: obsolete, and still seen (RFC 5322 §4.5) */
	for (at = len; at < line.len && (line.at[at] == ' ' || line.at[at] == '\t'); at++)
		;
	if (len == 0 || at == line.len || line.at[at] != ':')
		return 0;
	*colon = at;
	return len;
}

static enum line_kind
judge_line(const struct header_scan *h, struct span line)
{
	size_t colon;

	if (span_eq(line, SPAN("\r\n")) || span_eq(line, SPAN("\n")))
		return LINE_BLANK;
	if (line.at[0] == ' ' || line.at[0] == '\t')
		return h->lines > 0 ? LINE_FOLDED : LINE_OTHER;
	return name_len(line, &colon) > 0 ? LINE_FIELD : LINE_OTHER;
}

/* A whole line: does it belong to the header? Counts it if so. */
static bool
take_line(struct header_scan *h, struct span line)
{
	enum line_kind kind = judge_line(h, line);
	size_t colon;

	if (kind == LINE_OTHER || kind == LINE_BLANK) {
		h->complete = true;
		return kind == LINE_BLANK;
	}
	h->lines++;
	if (kind == LINE_FIELD &&
	    span_ieq(span_first(line, name_len(line, &colon)), SPAN("Received")))
		h->received++;
	h->saw_8bit = h->saw_8bit || !span_is_ascii(line);
	return true;
}

/*
 * The line that turned out to begin the body: until its end it might have been a field, so that one
 * which no header may hold is refused, however the octets were cut.
 */
static void
check_body_line(struct header_scan *h, size_t before, size_t len)
{
	if (h->max_size != 0 && before + len > h->max_size)
		h->too_large = true;
}

/*
 * The line begun earlier goes on; *taken octets of in belong to the header. False: it is not whole
 * yet.
 */
static bool
finish_held(struct header_scan *h, struct span in, size_t *taken)
{
	const char *lf = span_find(in, '\n');
	size_t len = lf ? (size_t)(lf - in.at) + 1 : in.len;
	size_t before = buf_len(&h->held);

	buf_append(&h->held, span_first(in, len));
	*taken = len;
	if (lf == NULL)
		return false;
	if (take_line(h, buf_span(&h->held))) {
		buf_append(&h->text, buf_span(&h->held));
		buf_clear(&h->held);
	} else {
		check_body_line(h, buf_len(&h->text), buf_len(&h->held));
		/*
		 * body after all: what was taken before stays in held, this call's octets are the
		 * caller's
		 */
		h->held.end = h->held.start + before;
		*taken = 0;
	}
	return true;
}

static void
check_limits(struct header_scan *h)
{
	if ((h->max_size != 0 && buf_len(&h->text) + buf_len(&h->held) > h->max_size) ||
	    (h->max_lines != 0 && h->lines > h->max_lines)) {
		h->too_large = true;
		buf_clear(&h->held);
	}
}

size_t
header_scan_take(struct header_scan *h, struct span in)
{
	size_t at = 0, begin = 0;

	if (h->complete || in.len == 0)
		return 0;
	if (h->too_large)
		return in.len;
	if (buf_len(&h->held) > 0) {
		if (!finish_held(h, in, &at))
			check_limits(h);
		begin = at;
	}
	while (!h->complete && !h->too_large && at < in.len) {
		struct span rest = span_skip(in, at);
		const char *lf = span_find(rest, '\n');

		if (lf == NULL) {
			buf_append(&h->text, span_of(in.at + begin, at - begin));
			buf_append(&h->held, rest);
			begin = at = in.len;
		} else if (take_line(h, span_first(rest, (size_t)(lf - rest.at) + 1))) {
			at += (size_t)(lf - rest.at) + 1;
		} else {
			check_body_line(h, buf_len(&h->text) + at - begin,
					(size_t)(lf - rest.at) + 1);
		}
		if (h->max_lines != 0 && h->lines > h->max_lines)
			h->too_large = true;
	}
	buf_append(&h->text, span_of(in.at + begin, at - begin));
	check_limits(h);
	return h->complete ? at : in.len;
}

void
header_scan_end(struct header_scan *h)
{
	if (h->complete || h->too_large)
		return;
	if (buf_len(&h->held) > 0 && take_line(h, buf_span(&h->held))) {
		buf_append(&h->text, buf_span(&h->held));
		buf_clear(&h->held);
		check_limits(h);
	}
	h->complete = true;
}

void
header_scan_free(struct header_scan *h)
{
	buf_free(&h->text);
	buf_free(&h->held);
}

/* Cuts the next field with its continuation lines off *at; false if there is none. */
static struct span
cut_field(struct span *at)
{
	struct span field = *at;
	size_t len = 0;

	do {
		const char *lf = span_find(span_skip(field, len), '\n');

		len = lf ? (size_t)(lf - field.at) + 1 : field.len;
	} while (len < field.len && (field.at[len] == ' ' || field.at[len] == '\t'));
	*at = span_skip(field, len);
	return span_first(field, len);
}

/* False: it is no field. */
static bool
read_field(struct span field, struct span *name, struct span *value)
{
	size_t colon, len = name_len(field, &colon);

	if (len == 0)
		return false;
	*name = span_first(field, len);
	*value = span_skip(field, colon + 1);
	if (span_ends(*value, SPAN("\n")))
		value->len--;
	if (span_ends(*value, SPAN("\r")))
		value->len--;
	while (value->len > 0 && (value->at[0] == ' ' || value->at[0] == '\t'))
		*value = span_skip(*value, 1);
	return true;
}

bool
header_next(struct span *at, struct span *name, struct span *value)
{
	while (at->len > 0)
		if (read_field(cut_field(at), name, value))
			return true;
	return false;
}

bool
header_next_named(struct span *at, struct span wanted, struct span *value)
{
	struct span name, text;

	while (at->len > 0) {
		struct span field = cut_field(at);

		if (span_istarts(field, wanted) && read_field(field, &name, &text) &&
		    name.len == wanted.len) {
			*value = text;
			return true;
		}
	}
	return false;
}

bool
header_find(struct span block, struct span name, struct span *value)
{
	return header_next_named(&block, name, value);
}

void
header_copy_without(struct span block, struct span name, struct buf *out)
{
	while (block.len > 0) {
		struct span field = cut_field(&block);
		size_t colon, len = name_len(field, &colon);

		if (len == 0 || !span_ieq(span_first(field, len), name))
			buf_append(out, field);
	}
}
