/* reason: see reason.h. RFC 3463, RFC 3464 §2.3. Any thread. */
#include "mta/bounce/reason.h"

#include <assert.h>

#include "mta/base/address.h"

enum { LINE_WANTED = 76, WORD_MAX = 900 };

/* ---- text --------------------------------------------------------------------------------- */

bool
has_high_octets(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.at[i] > 127)
			return true;
	return false;
}

struct span
report_clean(struct span text, bool utf8, struct arena *arena)
{
	char *out = arena_alloc(arena, text.len + 1);
	size_t len = 0;

	utf8 = utf8 && utf8_valid(text);
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.at[i];

		if (utf8 && c == 0xC2 && (unsigned char)text.at[i + 1] < 0xA0) {
			/* a C1 control: some readers take U+0085 for the end of a line */
			c = '?';
			i++;
		} else if (c == '\t') {
			c = ' ';
		} else if (c < ' ' || c == 127 || (c > 127 && !utf8)) {
			c = '?';
		}
		out[len++] = (char)c;
	}
	return span_of(out, len);
}

struct span
report_squeeze(struct span clean, struct arena *arena)
{
	char *out = arena_alloc(arena, clean.len + 1);
	size_t len = 0;

	for (size_t i = 0; i < clean.len; i++)
		if (clean.at[i] != ' ' || (len > 0 && out[len - 1] != ' '))
			out[len++] = clean.at[i];
	return span_trim(span_of(out, len));
}

/*
 * Octets of the word at the start of s, cut where it is too long for any line, but not inside a
 * UTF-8 sequence.
 */
static size_t
word_len(struct span s)
{
	const char *blank = span_find(s, ' ');
	size_t len = blank ? (size_t)(blank - s.at) : s.len;

	if (len <= WORD_MAX)
		return len;
	for (len = WORD_MAX; len > WORD_MAX - 4 && ((unsigned char)s.at[len] & 0xC0) == 0x80; len--)
		;
	return len;
}

void
report_fold(struct span clean, size_t used, const char *indent, struct buf *out)
{
	size_t column = used;
	bool first = true;

	while (clean.len > 0) {
		size_t len = word_len(clean);

		if (!first && column + 1 + len > LINE_WANTED) {
			buf_printf(out, "\r\n%s", indent);
			column = strlen(indent);
		} else if (!first) {
			buf_byte(out, ' ');
			column++;
		} else if (column + len > WORD_MAX + LINE_WANTED) {
			buf_printf(out, "\r\n%s", indent);
			column = strlen(indent);
		}
		buf_append(out, span_first(clean, len));
		column += len;
		first = false;
		clean = span_skip(clean, len);
		if (clean.len > 0 && clean.at[0] == ' ')
			clean = span_skip(clean, 1);
	}
}

/* ---- reason ------------------------------------------------------------------------------- */

/* Does a text begin with a reply's code? The queue's own texts ("connection refused") do not. */
static bool
begins_with_code(struct span text, uint16_t *code)
{
	uint64_t n;

	if (text.len < 3 || !span_to_u64(span_first(text, 3), 599, &n) || n < 200)
		return false;
	if (text.len > 3 && text.at[3] != ' ' && text.at[3] != '-')
		return false;
	*code = (uint16_t)n;
	return true;
}

/* "550 5.1.1 no such user", whether or not the text bears code and status already. */
static struct span
reply_line(const struct attempt *a, struct arena *arena)
{
	struct span text = a->text, rest, line;
	struct status status = a->status;
	struct buf out = { 0 };
	uint16_t code;
	size_t len;

	if (a->code == 0 || (begins_with_code(text, &code) && code == a->code))
		return text;
	rest = span_trim(text);
	if (status_parse(rest, &status, &len))
		status.klass = 0;			/* it stands in the text */
	reply_to_line(&(struct reply){ a->code, status, rest }, &out);
	line = arena_copy(arena, buf_span(&out));
	buf_free(&out);
	return line;
}

/* What is noted when time is over: no words of a host, and no host. */
static bool
is_expiry(const struct attempt *a)
{
	return a->code == 0 && a->host.len == 0 && a->status.subject == 4 && a->status.detail == 7;
}

static bool
is_temporary(const struct attempt *a)
{
	if (a->code >= 200)
		return a->code / 100 != 5;
	return a->status.klass != 5;
}

/* The last attempt that somebody answered, or failed to; NULL: it had none of its own. */
static const struct attempt *
last_own_attempt(const struct history_record *history)
{
	for (size_t i = history ? history->kept : 0; i > 0; i--)
		if (!is_expiry(&history->attempts[i - 1]))
			return &history->attempts[i - 1];
	return NULL;
}

static struct span
host_of(const struct attempt *a, struct arena *arena)
{
	struct span rest = a->address, ip;

	if (a->host.len > 0 || rest.len == 0)
		return a->host;
	if (rest.at[0] == '[') {			/* "[2001:db8::1]:25" */
		rest = span_skip(rest, 1);
		ip = span_cut(&rest, ']');
		return arena_printf(arena, "[IPv6:%.*s]", SPAN_FMT(ip));
	}
	ip = span_cut(&rest, ':');
	return arena_printf(arena, "[%.*s]", SPAN_FMT(ip));
}

/*
 * The class follows the action (RFC 3464 §2.3.4), except that a failure because time was over
 * keeps 4: what it failed of would have passed, and 4.4.7 is what RFC 3463 §3.5 has for it.
 * 5.4.7 stands for a message that never had an attempt of its own: there is no temporary answer
 * to this message that could have passed.
 */
static struct status
status_for(const struct bounce_reason *r, uint8_t klass)
{
	static const struct status broken_connection = { 4, 4, 2 };
	struct status status = { klass, 0, 0 };

	if (r->cause == CAUSE_NEVER_TRIED)
		return (struct status){ klass, 4, 7 };
	if (r->cause == CAUSE_EXPIRED)
		return (struct status){ 4, 4, 7 };
	if (r->attempt == NULL)
		return status;
	if (klass == 4 && r->attempt->code == 0 && r->attempt->status.klass == 0)
		return broken_connection;
	/* what a host says of a success is no reason for a failure, nor the other way round */
	if (r->attempt->status.klass == 0 || (r->attempt->status.klass == 2) != (klass == 2))
		return status;
	status.subject = r->attempt->status.subject;
	status.detail = r->attempt->status.detail;
	return status;
}

static enum bounce_cause
cause_of(const struct bounce_reason *r, uint8_t klass)
{
	if (klass == 2)
		return CAUSE_ACTION;
	if (r->attempt == NULL)
		return CAUSE_NEVER_TRIED;
	if (klass == 4)
		return CAUSE_ACTION;
	return is_temporary(r->attempt) ? CAUSE_EXPIRED : CAUSE_REFUSED;
}

void
bounce_reason(const struct bounce_facts *facts, const struct bounce_recipient *recipient,
	      struct arena *arena, struct bounce_reason *ret)
{
	static const struct { const char *name; uint8_t klass; } actions[] = {
		[REPORT_NONE] = { "delayed", 4 }, [REPORT_FAILED] = { "failed", 5 },
		[REPORT_RELAYED] = { "relayed", 2 }, [REPORT_DELIVERED] = { "delivered", 2 },
		[REPORT_EXPANDED] = { "expanded", 2 },
	};
	enum report_action action = facts->delay ? REPORT_NONE : recipient->action;
	uint8_t klass;
	uint16_t code;

	assert(action <= REPORT_EXPANDED && (action != REPORT_NONE) == !facts->delay);
	klass = actions[action].klass;
	*ret = (struct bounce_reason){ .action = actions[action].name,
				       .attempt = last_own_attempt(recipient->history) };
	ret->cause = cause_of(ret, klass);
	ret->status = status_for(ret, klass);
	if (ret->attempt != NULL) {
		ret->host = host_of(ret->attempt, arena);
		ret->said = reply_line(ret->attempt, arena);
		ret->by_smtp = ret->attempt->code != 0;
	} else if (klass != 2) {
		ret->host = recipient->site_host;
		ret->said = recipient->site_text;
		ret->by_smtp = begins_with_code(ret->said, &code);
	}
}
