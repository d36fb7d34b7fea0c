/*
 * log_line: one line of the log, as logfmt or JSON, built in place; see log.h. Any thread, no
 * shared state but the level and the format. Every value, whoever it comes from, goes through
 * put_value().
 */
#include "mta/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/base/digits.h"
#include "mta/base/id.h"

enum { LINE_TAIL = 24 };	/* kept free for a closing quote and the mark of a cut */
enum plain { IN_QUOTES = 1, BARE = 2 };		/* where a character stands for itself */

static atomic_int log_level = LOG_INFO;
static atomic_int log_format = LOG_LOGFMT;

void
log_line_shape(enum log_level level, enum log_format format)
{
	atomic_store(&log_level, (int)level);
	atomic_store(&log_format, (int)format);
}

/* Appends all of s, or nothing and marks the line as cut. */
static bool
put(struct log_line *line, struct span s)
{
	if (line->cut || line->len + s.len > LOG_LINE_MAX - LINE_TAIL) {
		line->cut = true;
		return false;
	}
	memcpy(line->at + line->len, s.at, s.len);
	line->len += s.len;
	return true;
}

/* Appends as much of s as there is room for. */
static void
put_some(struct log_line *line, struct span s)
{
	size_t room = LOG_LINE_MAX - LINE_TAIL - line->len;

	put(line, span_first(s, room));
	line->cut = line->cut || s.len > room;
}

/* In the room that put() keeps free. */
static void
put_tail(struct log_line *line, struct span s)
{
	assert(line->len + s.len <= LOG_LINE_MAX);
	memcpy(line->at + line->len, s.at, s.len);
	line->len += s.len;
}

/* The character at the start of s: its octets, or 0 if it is no well-formed UTF-8 (RFC 3629 §4). */
static size_t
utf8_char(struct span s, uint32_t *ret)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint8_t first = (uint8_t)s.at[0];
	size_t len = first < 0x80		    ? 1
		     : first < 0xc2 || first > 0xf4 ? 0
		     : first < 0xe0		    ? 2
		     : first < 0xf0		    ? 3
						    : 4;
	uint32_t c = len < 2 ? first : first & (0x7fu >> len);

	if (len == 0 || len > s.len)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if (((uint8_t)s.at[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | ((uint8_t)s.at[i] & 0x3f);
	}
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*ret = c;
	return len;
}

/*
 * Deceives who reads the log on a terminal: control characters of both sets, line ends,
 * reordering.
 */
static bool
harmful(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}

/*
 * The octets at the start of s that are plain: printable ASCII that has no meaning here. Nearly all
 * that is logged is nothing else, and is looked at once.
 */
static size_t
plain_run(struct span s, enum plain where)
{
	static const uint8_t plain[256] = {
		[' '] = IN_QUOTES, ['!'] = IN_QUOTES | BARE, ['#' ... '<'] = IN_QUOTES | BARE,
		['='] = IN_QUOTES, ['>' ... '['] = IN_QUOTES | BARE,
		[']' ... '~'] = IN_QUOTES | BARE,
	};
	size_t at = 0;

	while (at < s.len && (plain[(uint8_t)s.at[at]] & where) != 0)
		at++;
	return at;
}

static bool
needs_quotes(struct span s)
{
	uint32_t c;

	if (s.len == 0)
		return true;
	s = span_skip(s, plain_run(s, BARE));
	for (size_t len; s.len > 0; s = span_skip(s, len)) {
		len = utf8_char(s, &c);
		if (len == 0 || harmful(c) || c == ' ' || c == '"' || c == '=' || c == '\\')
			return true;
	}
	return false;
}

/*
 * One character, as it stands in quotes: \" \\, and for what is harmful \xHH for each octet
 * (logfmt) or \uHHHH (JSON, where an octet that is no UTF-8 becomes U+FFFD). Returns the octets
 * of s it stands for.
 */
static size_t
escape_char(struct span s, bool json, char out[32], size_t *ret_len)
{
	uint32_t c = 0;
	size_t len = utf8_char(s, &c), took = len ? len : 1;
	int n = 0;

	if (len > 0 && !harmful(c)) {
		if (c == '"' || c == '\\')
			out[n++] = '\\';
		memcpy(out + n, s.at, len);
		*ret_len = len + (size_t)n;
		return len;
	}
	if (json)
		n = snprintf(out, 32, "\\u%04x", len ? c : 0xfffd);
	for (size_t i = 0; !json && i < took; i++)
		n += snprintf(out + n, 32 - (size_t)n, "\\x%02x", (unsigned)(uint8_t)s.at[i]);
	*ret_len = (size_t)n;
	return took;
}

static void
put_value(struct log_line *line, struct span value)
{
	bool quoted = line->json || needs_quotes(value);
	char out[32];
	size_t len;

	if (!quoted) {
		if (put(line, value))
			return;
		/* too long as a whole: as much of it as there is room for */
		line->cut = false;
	}
	if (quoted && !put(line, SPAN("\"")))
		return;
	while (value.len > 0 && !line->cut) {
		len = plain_run(value, IN_QUOTES);
		if (len > 0) {
			put_some(line, span_first(value, len));
			value = span_skip(value, len);
		} else {
			value = span_skip(value, escape_char(value, line->json, out, &len));
			put(line, span_of(out, len));
		}
	}
	if (quoted)
		put_tail(line, SPAN("\""));
}

/* False: the line is off, or full. */
static bool
put_key(struct log_line *line, const char *key)
{
	size_t before = line->len;

	if (!line->on)
		return false;
	if (put(line, line->json ? SPAN(",\"") : SPAN(" ")) && put(line, span_str(key)) &&
	    put(line, line->json ? SPAN("\":") : SPAN("=")) &&
	    line->len + 8 <= LOG_LINE_MAX - LINE_TAIL)
		return true;
	line->len = before;
	line->cut = true;
	return false;
}

void
log_line_open(struct log_line *line, enum log_level level, const char *event)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	char time[ISO_DATE_MAX];

	line->on = true;
	line->cut = false;
	line->json = atomic_load_explicit(&log_format, memory_order_relaxed) == LOG_JSON;
	line->len = 0;
	put(line, line->json ? SPAN("{\"time\":") : SPAN("time="));
	put_value(line, span_str(clock_iso(wall_ms(), time)));
	log_str(line, "level", names[level]);
	log_str(line, "event", event);
}

void
log_line_close(struct log_line *line)
{
	if (line->cut)
		put_tail(line, line->json ? SPAN(",\"cut\":\"yes\"") : SPAN(" cut=yes"));
	put_tail(line, line->json ? SPAN("}\n") : SPAN("\n"));
}

bool
log_begin(struct log_line *line, enum log_level level, const char *event)
{
	line->on = (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
	if (line->on)
		log_line_open(line, level, event);
	return line->on;
}

void
log_end(struct log_line *line)
{
	if (!line->on)
		return;
	line->on = false;
	log_line_close(line);
	if (!log_hand_over(span_of(line->at, line->len)))
		while (write(STDERR_FILENO, line->at, line->len) < 0 && errno == EINTR)
			continue;
}

void
log_span(struct log_line *line, const char *key, struct span value)
{
	if (put_key(line, key))
		put_value(line, value);
}

void
log_str(struct log_line *line, const char *key, const char *value)
{
	log_span(line, key, span_str(value));
}

static void
log_number(struct log_line *line, const char *key, const char *digits)
{
	size_t before = line->len;

	if (put_key(line, key) && !put(line, span_str(digits)))
		line->len = before;		/* half a number would be another one */
}

void
log_i64(struct log_line *line, const char *key, int64_t value)
{
	char digits[DIGITS_MAX + 2] = "-";
	char *from = digits + (value < 0);

	*digits_put(from, value < 0 ? -(uint64_t)value : (uint64_t)value, 1) = '\0';
	log_number(line, key, digits);
}

void
log_u64(struct log_line *line, const char *key, uint64_t value)
{
	char digits[DIGITS_MAX + 1];

	*digits_put(digits, value, 1) = '\0';
	log_number(line, key, digits);
}

void
log_id(struct log_line *line, const char *key, uint64_t id)
{
	char text[ID_TEXT_LEN + 1];

	log_str(line, key, id_format(id, text));
}

void
log_addr(struct log_line *line, const char *key, const struct netaddr *addr)
{
	char text[NETADDR_TEXT_MAX];

	log_str(line, key, netaddr_format_port(addr, text));
}

void
log_reply(struct log_line *line, const char *key, const struct reply *reply)
{
	struct buf text = { 0 };

	if (!line->on)
		return;
	reply_to_line(reply, &text);
	log_span(line, key, buf_span(&text));
	buf_free(&text);
}

void
log_errno(struct log_line *line, const char *key, int negative_errno)
{
	const char *name = strerrorname_np(-negative_errno),
		   *text = strerrordesc_np(-negative_errno);
	char out[160];

	if (name != NULL && text != NULL)
		snprintf(out, sizeof(out), "%s: %s", name, text);
	else
		snprintf(out, sizeof(out), "error %d", negative_errno);
	log_str(line, key, out);
}

void
log_message(enum log_level level, const char *event, const char *format, ...)
{
	char text[LOG_LINE_MAX / 2];
	struct log_line line;
	va_list ap;
	int len;

	if (!log_begin(&line, level, event))
		return;
	va_start(ap, format);
	len = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	log_str(&line, "msg", len < 0 ? format : text);
	line.cut = line.cut || len >= (int)sizeof(text);
	log_end(&line);
}
