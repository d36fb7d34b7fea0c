/*
 * data: the dot codec, a line at a time by memchr, so that the octets of a line are looked at by
 * the C library's vector code alone. What it promises: only CRLF.CRLF ends a message, whatever else
 * stands in it and however it is cut. See data.h. Any thread.
 */
#include "mta/smtp/data.h"

#include <assert.h>

enum {
	AT_LINE_START,		/* behind CRLF, or at the beginning */
	IN_LINE,		/* behind anything else, a bare CR or LF too: a dot is a dot here */
	AFTER_CR,		/* the CR belongs to the content that was handed out */
	/* a dot at the start of a line, not handed out: stuffing, or the end */
	AFTER_DOT,
	AFTER_DOT_CR,		/* and a CR, not handed out */
};

enum { BLOCK = 64 };

/* A loop of fixed length and no branch: the compiler makes vectors of it. */
static bool
is_plain_block(const char *p)
{
	unsigned char bad = 0;

	for (int i = 0; i < BLOCK; i++)
		bad |= (unsigned char)(((p[i] == '\r') ^ (p[i + 1] == '\n')) |
				       ((p[i] == '\n') & (p[i + 1] == '.')));
	return bad == 0;
}

size_t
data_plain_run(struct span s)
{
	size_t at = 0;

	if (s.len > 0 && s.at[0] == '\n')
		return 0;
	while (at + BLOCK < s.len && is_plain_block(s.at + at))
		at += BLOCK;
	return at > 0 && s.at[at - 1] == '\r' ? at - 1 : at;
}

void
data_decoder_init(struct data_decoder *d, bool normalise, size_t max_line)
{
	*d = (struct data_decoder){ .state = AT_LINE_START,
				    .normalise = normalise,
				    .max_line = max_line };
}

static void
check_octets(struct data_decoder *d, struct span content)
{
	if (!d->saw_8bit)
		d->saw_8bit = !span_is_ascii(content);
	if ((d->faults & DATA_NUL) == 0 && span_find(content, '\0') != NULL)
		d->faults |= DATA_NUL;
}

static void
count_line(struct data_decoder *d, size_t octets)
{
	d->line += octets;
	if (d->max_line != 0 && d->line > d->max_line)
		d->faults |= DATA_LONG_LINE;
}

/*
 * Whole blocks in which nothing has to be done, unless a line in them is too long: that one is left
 * to scan_line(). Returns their octets.
 */
static size_t
plain_run(struct data_decoder *d, struct span in)
{
	size_t run = data_plain_run(in), at = 0;

	while (at < run) {
		size_t room = d->max_line == 0	       ? run - at
			      : d->line < d->max_line ? d->max_line - d->line
						      : 0;
		size_t window = room < run - at ? room : run - at;
		const char *lf = memrchr(in.at + at, '\n', window);

		if (lf != NULL) {
			at = (size_t)(lf - in.at) + 1;
			d->line = 0;
		} else if (room < run - at) {
			break;
		} else {
			d->line += run - at;
			at = run;
		}
	}
	if (at > 0)
		d->state = in.at[at - 1] == '\n' ? AT_LINE_START : IN_LINE;
	return at;
}

/*
 * Reads a line, or as much of it as in has: at the end of it the state is known. Returns its octets
 * with CRLF. If it has to be mended, stops there: behind a bare CR (AFTER_CR then finds that no LF
 * follows), before a bare LF (IN_LINE then finds it first).
 */
static size_t
scan_line(struct data_decoder *d, struct span in)
{
	const char *lf = span_find(in, '\n');
	size_t len = lf ? (size_t)(lf - in.at) : in.len;		/* without the LF */
	const char *cr = span_find(span_first(in, len), '\r');
	size_t before_cr = cr ? (size_t)(cr - in.at) : len;

	if (before_cr + 1 < len) {
		if (d->normalise) {
			count_line(d, before_cr + 1);
			d->state = AFTER_CR;
			return before_cr + 1;
		}
		d->faults |= DATA_BARE_NEWLINE;
		cr = in.at[len - 1] == '\r' ? in.at + len - 1 : NULL;
	}
	if (lf == NULL) {
		count_line(d, len);
		d->state = cr ? AFTER_CR : IN_LINE;
		return len;
	}
	if (cr != NULL) {
		count_line(d, len + 1);
		d->line = 0;
		d->state = AT_LINE_START;
		return len + 1;
	}
	count_line(d, len);
	d->state = IN_LINE;
	if (d->normalise)
		return len;
	d->faults |= DATA_BARE_NEWLINE;
	return len + 1;
}

/*
 * What the octets before in have left open, decided by the first octet of in. True: *taken and
 * *content are this call's result. False: the run goes on, or begins, with the first octet; *taken
 * of it have been looked at.
 */
static bool
resume(struct data_decoder *d, char first, size_t *taken, struct span *content, bool *end)
{
	*taken = 1;
	switch (d->state) {
	case AFTER_CR:
		if (first == '\n') {
			count_line(d, 1);
			d->line = 0;
			d->state = AT_LINE_START;
			return false;
		}
		d->state = IN_LINE;
		*taken = 0;
		if (!d->normalise) {
			d->faults |= DATA_BARE_NEWLINE;
			return false;
		}
		d->line = 0;
		*content = SPAN("\n");
		return true;
	case AFTER_DOT_CR:
		if (first == '\n') {
			d->state = AT_LINE_START;
			*end = true;
			return true;
		}
		/* a line that begins with a stuffed dot and a bare CR */
		count_line(d, 1);
		d->state = AFTER_CR;
		*taken = 0;
		*content = SPAN("\r");
		return true;
	case AFTER_DOT:
		if (first == '\r') {
			d->state = AFTER_DOT_CR;
			return true;
		}
		d->state = IN_LINE;		/* it was stuffing */
		break;
	case AT_LINE_START:
		if (first == '.') {
			d->state = AFTER_DOT;
			return true;
		}
		break;
	default:
		assert(d->state == IN_LINE);
	}
	if (first == '\n' && d->normalise) {
		d->line = 0;
		d->state = IN_LINE;
		*content = SPAN("\r\n");
		return true;
	}
	*taken = 0;
	return false;
}

size_t
data_decode(struct data_decoder *d, struct span in, struct span *content, bool *end)
{
	size_t at;

	*content = SPAN("");
	*end = false;
	if (in.len == 0)
		return 0;
	if (resume(d, in.at[0], &at, content, end))
		return at;
	while (at < in.len) {
		if (d->state == AT_LINE_START && in.at[at] == '.')
			break;
		at += plain_run(d, span_skip(in, at));
		at += scan_line(d, span_skip(in, at));
		if (d->normalise && at < in.len && d->state != AT_LINE_START)
			break;
	}
	*content = span_first(in, at);
	check_octets(d, *content);
	return at;
}

void
data_check(struct data_decoder *d, struct span content, bool last)
{
	size_t at = 0;

	assert(!d->normalise);
	check_octets(d, content);
	if (d->state == AFTER_CR && content.len > 0) {
		if (content.at[0] == '\n') {
			count_line(d, 1);
			d->line = 0;
			d->state = AT_LINE_START;
			at = 1;
		} else {
			d->faults |= DATA_BARE_NEWLINE;
		}
	}
	while (at < content.len) {
		at += plain_run(d, span_skip(content, at));
		at += scan_line(d, span_skip(content, at));
	}
	if (last && d->state == AFTER_CR)
		d->faults |= DATA_BARE_NEWLINE;
}

void
data_encode_plain(struct span run, bool *at_line_start, struct buf *out)
{
	if (*at_line_start && run.at[0] == '.')
		buf_byte(out, '.');
	buf_append(out, run);
	*at_line_start = run.at[run.len - 1] == '\n';
}

void
data_encode(struct span content, bool *at_line_start, struct buf *out)
{
	size_t from = 0;

	if (content.len == 0)
		return;
	if (*at_line_start && content.at[0] == '.')
		buf_byte(out, '.');
	for (;;) {
		struct span rest = span_skip(content, from);
		const char *lf;
		size_t at = data_plain_run(rest);

		/* the end of the run that needs no stuffing: a LF with a dot behind it */
		while ((lf = span_find(span_skip(rest, at), '\n')) != NULL) {
			at = (size_t)(lf - rest.at) + 1;
			if (at < rest.len && rest.at[at] == '.')
				break;
		}
		if (lf == NULL)
			at = rest.len;
		buf_append(out, span_first(rest, at));
		from += at;
		if (from == content.len)
			break;
		buf_byte(out, '.');
	}
	*at_line_start = content.at[content.len - 1] == '\n';
}

void
data_encode_end(bool at_line_start, struct buf *out)
{
	if (!at_line_start)
		buf_append(out, SPAN("\r\n"));
	buf_append(out, SPAN(".\r\n"));
}
