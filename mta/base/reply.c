/*
 * reply: status codes and replies to and from text. See reply.h.
 *
 * What is formatted may come from milters, scripts or remote hosts, so nothing in the text can
 * start a new line, and a status that contradicts the code is left out.
 */
#include "mta/base/reply.h"

#include "mta/base/digits.h"

enum { REPLY_LINE_MAX = 512 };		/* with CRLF; RFC 5321 §4.5.3.1.5 */

char *
status_format(struct status status, char out[16])
{
	char *at = digits_put(out, status.klass % 10U, 1);

	*at++ = '.';
	at = digits_put(at, status.subject % 1000U, 1);
	*at++ = '.';
	*digits_put(at, status.detail % 1000U, 1) = '\0';
	return out;
}

/* One number of a status: 1 to 3 digits without a needless zero. */
static bool
parse_number(struct span *s, uint16_t *ret)
{
	unsigned n = 0;
	size_t len = 0;

	while (len < s->len && s->at[len] >= '0' && s->at[len] <= '9') {
		if (len == 3)
			return false;
		n = n * 10 + (unsigned)(s->at[len] - '0');
		len++;
	}
	if (len == 0 || (len > 1 && s->at[0] == '0'))
		return false;
	*ret = (uint16_t)n;
	*s = span_skip(*s, len);
	return true;
}

bool
status_parse(struct span s, struct status *ret, size_t *len)
{
	struct span rest = span_skip(s, 2);
	struct status status;

	if (s.len < 5 || (s.at[0] != '2' && s.at[0] != '4' && s.at[0] != '5') || s.at[1] != '.')
		return false;
	status.klass = (uint8_t)(s.at[0] - '0');
	if (!parse_number(&rest, &status.subject) || rest.len == 0 || rest.at[0] != '.')
		return false;
	rest = span_skip(rest, 1);
	if (!parse_number(&rest, &status.detail))
		return false;
	if (rest.len > 0 && (rest.at[0] == '.' || (unsigned char)rest.at[0] > ' '))
		return false;
	*ret = status;
	*len = s.len - rest.len;
	return true;
}

static bool
status_shown(const struct reply *reply)
{
	return reply->status.klass != 0 && reply->status.klass == reply_class(reply);
}

/* How much of line fits into room octets: cut behind its last blank, or anywhere if it has none. */
static size_t
fold_at(struct span line, size_t room)
{
	if (line.len <= room)
		return line.len;
	for (size_t i = room; i > room / 2; i--)
		if (line.at[i] == ' ')
			return i;
	return room;
}

static void
append_clean(struct span text, bool ascii, struct buf *out)
{
	char *at = buf_reserve(out, text.len);

	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.at[i];

		at[i] = (c < ' ' && c != '\t') || c == 127 || (ascii && c > 126) ? '?' : (char)c;
	}
	buf_grew(out, text.len);
}

static void
append_code(const struct reply *reply, struct buf *out)
{
	char code[DIGITS_MAX];

	buf_append(out, span_of(code, (size_t)(digits_put(code, reply->code % 1000U, 3) - code)));
}

void
reply_format(const struct reply *reply, struct buf *out)
{
	struct span rest = reply->text;
	char status[17] = "";
	size_t room = REPLY_LINE_MAX - 4 - 2;
	bool more;

	if (status_shown(reply)) {
		size_t len = strlen(status_format(reply->status, status));

		status[len] = ' ';
		status[len + 1] = '\0';
		room -= len + 1;
	}
	do {
		const char *newline = span_find(rest, '\n');
		struct span line = newline ? span_first(rest, (size_t)(newline - rest.at)) : rest;
		size_t len = fold_at(line, room);

		more = len < line.len || newline != NULL;
		append_code(reply, out);
		buf_byte(out, more ? '-' : ' ');
		buf_append(out, span_str(status));
		append_clean(span_first(line, len), true, out);
		buf_append(out, SPAN("\r\n"));
		/* behind what was written stands the newline, or the blank it was folded at */
		if (len < line.len)
			len += line.at[len] == ' ';
		else
			len += newline != NULL;
		rest = span_skip(rest, len);
	} while (more);
}

void
reply_to_line(const struct reply *reply, struct buf *out)
{
	struct span rest = reply->text;
	char status[16];
	bool first = true;

	if (reply->code != 0)
		append_code(reply, out);
	if (status_shown(reply)) {
		buf_byte(out, ' ');
		buf_append(out, span_str(status_format(reply->status, status)));
	}
	while (rest.len > 0) {
		struct span line = span_cut(&rest, '\n');

		if (!first)
			buf_append(out, SPAN(" / "));
		else if (reply->code != 0)
			buf_byte(out, ' ');
		append_clean(line, false, out);
		first = false;
	}
}
