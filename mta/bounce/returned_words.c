/*
 * returned_words: reports in words alone, as servers write or wrote them: qmail (QSBMF), Exim (with
 * X-Failed-Recipients), sendmail, Postfix and Exchange whose parts were lost on the way, and others
 * that say "<address>: reason". Pure. Guesses, but cautious ones: an answer of a person or of a
 * machine on holiday is no bounce, whatever it quotes.
 */
#include "mta/bounce/returned_private.h"

#include "mta/smtp/header.h"

enum {
	TEXT_MAX = 64 << 10,		/* looked at, the copy of the message included */
	INTRO_MAX = 4096,		/* where words that say what it is are looked for */
	REASON_MAX = 2000,
};

struct words {
	struct arena *arena;
	struct returned *ret;
	struct span text;		/* up to the copy of the message */
	struct span copy;		/* empty: there is none */
	enum returned_action action;
};

static bool
has_any(struct span text, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (returned_has(text, words[i]))
			return true;
	return false;
}

#define HAS_ANY(text, words) has_any(text, words, sizeof(words) / sizeof((words)[0]))

/* ---- is it one? --------------------------------------------------------------------------- */

static bool
is_answer(struct span subject)
{
	static const char *const begins[] = {
		"re:", "aw:", "sv:", "fwd:", "fw:", "wg:", "out of office", "automatic reply",
		"auto:",
		"autoreply", "auto-reply", "auto reply", "vacation", "abwesen",
		"automatische antwort",
	};

	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
		if (span_istarts(subject, span_str(begins[i])))
			return true;
	return false;
}

static bool
subject_says_so(struct span subject)
{
	static const char *const says[] = {
		"undeliver", "delivery status", "delivery failure", "delivery failed",
		"delivery has failed",
		"failure notice", "returned mail", "returned to sender", "mail delivery",
		"non-delivery",
		"nondeliver", "non delivery", "could not be delivered", "couldn't be delivered",
		"not be delivered",
		"not delivered", "delivery notification", "delivery report", "mail system error",
		"permanent error",
		"delivery problem", "delivery error", "delivery delay", "warning: message",
		"message delayed",
		"unzustellbar", "nicht zugestellt", "unable to deliver", "message you sent blocked",
	};

	return HAS_ANY(subject, says);
}

static bool
is_from_server(struct span header)
{
	static const char *const senders[] = { "mailer-daemon", "mail-daemon", "postmaster@",
					       "mail delivery s",
					       "mail administrator", "mdaemon@", "mail system" };
	struct span value;

	return header_find(header, SPAN("From"), &value) &&
	       HAS_ANY(span_first(value, 500), senders);
}

static bool
is_delay(struct span header, struct span text)
{
	static const char *const says[] = { "no action is required", "do not need to resend",
					    "warning message only",
					    "has not yet been delivered", "not been delivered yet",
					    "will continue to be made", "will keep trying",
					    "still being tried",
					    "will be retried" };
	static const char *const subjects[] = { "delay", "warning:" };
	static const char *const final[] = { "permanent", "giving up", "given up",
					     "i've given up" };
	struct span subject = SPAN("");

	header_find(header, SPAN("Subject"), &subject);
	text = span_first(text, INTRO_MAX);
	return (HAS_ANY(text, says) || HAS_ANY(span_first(subject, 500), subjects)) &&
	       !HAS_ANY(text, final);
}

/* ---- the copy of the message -------------------------------------------------------------- */

static bool
begins_copy(struct span line)
{
	static const char *const says[] = { "copy of the", "copy of your", "original message",
					    "message header",
					    "message follows", "unsent message", "returned message",
					    "undelivered message", "headers of the message",
					    "header of the message" };

	line = span_trim(line);
	return line.len < 200 && (span_starts(line, SPAN("--")) || span_starts(line, SPAN("=="))) &&
	       HAS_ANY(line, says);
}

static void
cut_copy(struct words *w)
{
	struct span rest = w->text;

	while (rest.len > 0) {
		struct span before = rest, line = returned_line(&rest);

		if (!begins_copy(line))
			continue;
		w->copy = rest;
		w->text = span_first(w->text, w->text.len - before.len);
		return;
	}
}

/* ---- recipients --------------------------------------------------------------------------- */

static size_t
indent_of(struct span line)
{
	size_t n = 0;

	while (n < line.len && (line.at[n] == ' ' || line.at[n] == '\t'))
		n++;
	return n;
}

/*
 * "<a@b>:", "<a@b>: host mx said: 550 …", "<a@b> (expanded from <c@b>): …", "<a@b>", "  a@b",
 * "a@b:" at the start of a line: its address, and what follows it there.
 */
static struct span
address_at_start(struct span line, struct arena *arena, struct span *rest)
{
	struct span at = span_trim(line), word;
	const char *end;

	if (at.len == 0 || at.len > 1000 || span_find(at, '@') == NULL)
		return SPAN("");
	if (at.at[0] == '<') {
		end = span_find(at, '>');
		if (end == NULL)
			return SPAN("");
		word = span_of(at.at, (size_t)(end - at.at) + 1);
		at = span_skip(at, word.len);
		if (span_starts(span_trim(at), SPAN("(")) && span_find(at, ')') != NULL)
			at = span_skip(at, (size_t)(span_find(at, ')') - at.at) + 1);
	} else {
		word = at;
		word = span_cut(&word, ' ');
		at = span_skip(at, word.len);
		if (span_ends(word, SPAN(":"))) {
			word.len--;
			at = span_of(word.at + word.len, at.len + 1);
		}
	}
	/* prose goes on; a list of recipients does not */
	at = span_trim(at);
	if (at.len > 0 && at.at[0] != ':')
		return SPAN("");
	*rest = span_trim(span_skip(at, 1));
	return returned_address(word, arena);
}

/*
 * What is said of it: the rest of its line and the lines below, up to an empty one or another
 * address.
 */
static struct span
reason_below(struct words *w, struct span said, struct span *rest, bool indented)
{
	struct span ignored;
	struct buf text = { 0 };
	struct span ret;

	buf_append(&text, said);
	while (rest->len > 0 && buf_len(&text) < REASON_MAX) {
		struct span before = *rest, line = returned_line(rest);

		if (span_trim(line).len == 0 || (indented && indent_of(line) == 0) ||
		    address_at_start(line, w->arena, &ignored).len > 0) {
			*rest = before;
			break;
		}
		buf_byte(&text, ' ');
		buf_append(&text, span_first(span_trim(line), REASON_MAX));
	}
	ret = arena_copy(w->arena, buf_span(&text));
	buf_free(&text);
	return ret;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_code(struct span s, size_t at)
{
	if (at + 3 > s.len || (s.at[at] != '4' && s.at[at] != '5') || s.at[at + 1] > '5' ||
	    !is_digit(s.at[at + 1]) || !is_digit(s.at[at + 2]))
		return false;
	if (at > 0 && (is_digit(s.at[at - 1]) || s.at[at - 1] == '.' || s.at[at - 1] == '-'))
		return false;
	return at + 3 == s.len || s.at[at + 3] == ' ' || s.at[at + 3] == '-';
}

/* "5.1.1" in "(#5.1.1)": its octets, or 0. */
static size_t
status_at(struct span s, size_t at, struct status *ret)
{
	size_t end = at, len;

	if (at > 0 && (is_digit(s.at[at - 1]) || s.at[at - 1] == '.'))
		return 0;
	while (end < s.len && end < at + 12 && (is_digit(s.at[end]) || s.at[end] == '.'))
		end++;
	if (end > at && s.at[end - 1] == '.')
		end--;
	return status_parse(span_of(s.at + at, end - at), ret, &len) && len == end - at ? len : 0;
}

/* The reply in it: "550 5.1.1 …"; or only a status, and then all of it is what was said. */
static bool
take_reply(struct returned_recipient *r, struct span reason, struct arena *arena)
{
	struct status status = { 0 };

	for (size_t i = 0; i < reason.len; i++) {
		if (is_code(reason, i)) {
			returned_diagnostic(r, span_skip(reason, i), arena);
			return true;
		}
		if (status.klass == 0)
			status_at(reason, i, &status);
	}
	returned_diagnostic(r, reason, arena);
	if (r->status.klass == 0)
		r->status = status;
	return status.klass != 0;
}

static bool
has_reply(struct span line, struct arena *arena)
{
	struct returned_recipient ignored = { 0 };

	return take_reply(&ignored, line, arena);
}

static void
add(struct words *w, struct span address, struct span reason)
{
	struct returned_recipient *r;

	for (size_t i = 0; i < w->ret->count; i++)
		if (span_ieq(w->ret->recipients[i].address, address)) {
			if (w->ret->recipients[i].code == 0 && reason.len > 0)
				take_reply(&w->ret->recipients[i], reason, w->arena);
			return;
		}
	r = returned_add(w->ret);
	if (r == NULL)
		return;
	r->address = address;
	r->action = w->action;
	take_reply(r, reason, w->arena);
}

static void
take_lines(struct words *w)
{
	struct span rest = w->text;

	while (rest.len > 0 && w->ret->count < RETURNED_RECIPIENTS_MAX) {
		struct span line = returned_line(&rest), said = SPAN("");
		struct span address = address_at_start(line, w->arena, &said);

		if (address.len > 0)
			add(w, address, reason_below(w, said, &rest, indent_of(line) > 0));
	}
}

/*
 * Nothing that looks like a list: the first address in the text, and the first line with a reply.
 */
static void
take_prose(struct words *w)
{
	struct span rest = w->text, address = SPAN(""), reason = SPAN("");

	while (rest.len > 0) {
		struct span line = span_first(returned_line(&rest), REASON_MAX), words = line;

		if (reason.len == 0 && has_reply(line, w->arena))
			reason = line;
		while (words.len > 0 && address.len == 0) {
			struct span word = span_cut(&words, ' ');

			while (word.len > 0 && strchr("'\"(.,;:)", word.at[word.len - 1]) != NULL)
				word.len--;
			while (word.len > 0 && strchr("'\"(", word.at[0]) != NULL)
				word = span_skip(word, 1);
			if (span_find(word, '@') != NULL && word.len < 320)
				address = returned_address(word, w->arena);
		}
	}
	if (address.len > 0)
		add(w, address, reason.len > 0 ? reason : span_first(w->text, RETURNED_TEXT_MAX));
}

static void
take_failed_header(struct words *w, struct span value)
{
	value = span_first(value, 8000);
	while (value.len > 0 && w->ret->count < RETURNED_RECIPIENTS_MAX) {
		struct span address = returned_address(span_trim(span_cut(&value, ',')), w->arena);

		if (address.len > 0)
			add(w, address, SPAN(""));
	}
}

bool
returned_words(struct span header, struct span text, struct arena *arena, struct returned *ret)
{
	struct words w = { arena, ret, span_first(text, TEXT_MAX), SPAN(""), ACTION_FAILED };
	struct span subject = SPAN(""), failed = SPAN("");
	bool exim = header_find(header, SPAN("X-Failed-Recipients"), &failed);
	bool qmail = span_starts(span_trim(span_first(text, 100)), SPAN("Hi. This is the"));

	header_find(header, SPAN("Subject"), &subject);
	subject = span_first(subject, 500);
	if (!exim && !qmail && (is_answer(subject) || !is_from_server(header)) &&
	    !(subject_says_so(subject) && !is_answer(subject)))
		return false;
	cut_copy(&w);
	if (is_delay(header, w.text))
		w.action = ACTION_DELAYED;
	take_lines(&w);
	if (exim)
		take_failed_header(&w, failed);
	if (ret->count == 0 && subject_says_so(subject))
		take_prose(&w);
	if (ret->count == 0 && !(subject_says_so(subject) && is_from_server(header)))
		return false;
	ret->kind = RETURNED_BOUNCE;
	ret->form = exim ? FORM_EXIM : qmail ? FORM_QMAIL : FORM_WORDS;
	returned_set_header(ret, w.copy);
	return true;
}
