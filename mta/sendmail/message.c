/*
 * message: standard input becomes a message (RFC 5322): lines get CRLF, the header is completed.
 * Pure.
 */
#include <ctype.h>

#include "mta/base/address.h"
#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/control/text.h"
#include "mta/smtp/header.h"
#include "mta/sendmail/sendmail.h"

/* ---- lines -------------------------------------------------------------------------------- */

/*
 * A whole line without its end; what programs for mailboxes put in front ("From jo Sat Nov …")
 * is no part of it.
 */
static void
take_line(struct sendmail_message *m, struct span line)
{
	if (line.len > 0 && line.at[line.len - 1] == '\r')
		line.len--;
	if (!m->dots_are_text && span_eq(line, SPAN("."))) {
		m->ended = true;
		return;
	}
	if (buf_len(&m->text) == 0 &&
	    (span_starts(line, SPAN("From ")) || span_starts(line, SPAN(">From "))))
		return;
	do {			/* a CR in the middle ends a line too: bare, it could not be sent */
		buf_append(&m->text, span_cut(&line, '\r'));
		buf_append(&m->text, SPAN("\r\n"));
	} while (line.len > 0);
	m->too_large = m->max_size > 0 && buf_len(&m->text) > m->max_size;
}

void
sendmail_message_take(struct sendmail_message *m, struct span octets)
{
	while (octets.len > 0 && !m->ended && !m->too_large) {
		const char *end = span_find(octets, '\n');
		size_t len = end == NULL ? octets.len : (size_t)(end - octets.at);

		buf_append(&m->line, span_first(octets, len));
		octets = span_skip(octets, end == NULL ? len : len + 1);
		if (end != NULL) {
			take_line(m, buf_span(&m->line));
			buf_clear(&m->line);
		}
		m->too_large = m->too_large || (m->max_size > 0 && buf_len(&m->line) > m->max_size);
	}
}

void
sendmail_message_end(struct sendmail_message *m)
{
	if (!m->ended && buf_len(&m->line) > 0)
		take_line(m, buf_span(&m->line));
	buf_free(&m->line);
}

void
sendmail_message_free(struct sendmail_message *m)
{
	buf_free(&m->line);
	buf_free(&m->text);
	buf_free(&m->header);
}

/* ---- the header --------------------------------------------------------------------------- */

/* The next field of a block, and all of its octets; false at the end. */
static bool
next_field(struct span *at, struct span *name, struct span *value, struct span *field)
{
	struct span before = *at;

	if (!header_next(at, name, value))
		return false;
	*field = span_first(before, before.len - at->len);
	return true;
}

struct completing {
	struct sendmail_message *m;
	struct sendmail *s;
	const struct sendmail_facts *facts;
	bool resent;			/* the Resent- fields are the ones that count */
	bool has_from, has_date, has_id;
	struct span *bad;
};

static bool
is_one_of(struct span name, const char *const *names)
{
	for (; *names != NULL; names++)
		if (span_ieq(name, span_str(*names)))
			return true;
	return false;
}

static bool
has_resent(struct span block)
{
	static const char *const names[] = { "Resent-To", "Resent-Cc", "Resent-Bcc", NULL };
	struct span name, value, field;

	while (next_field(&block, &name, &value, &field))
		if (is_one_of(name, names))
			return true;
	return false;
}

/* Copies the field unless it is a Bcc that was read. */
static bool
take_field(struct completing *c, struct span name, struct span value, struct span field)
{
	static const char *const to[] = { "To", "Cc", "Bcc", NULL };
	static const char *const resent_to[] = { "Resent-To", "Resent-Cc", "Resent-Bcc", NULL };
	static const char *const blind[] = { "Bcc", "Resent-Bcc", NULL };

	c->has_from = c->has_from || span_ieq(name, SPAN("From"));
	c->has_date = c->has_date || span_ieq(name, SPAN("Date"));
	c->has_id = c->has_id || span_ieq(name, SPAN("Message-ID"));
	if (c->s->from_header && is_one_of(name, c->resent ? resent_to : to) &&
	    !sendmail_addresses_add(&c->s->recipients, value, &c->s->arena, c->bad))
		return false;
	if (!c->s->from_header || !is_one_of(name, blind))
		buf_append(&c->m->header, field);
	return true;
}

/*
 * A name as it may stand in From: as it is, quoted, or encoded (RFC 2047); control octets are
 * left out.
 */
static void
put_phrase(struct span name, struct buf *out)
{
	bool plain = true, ascii = true;
	struct buf clean = { 0 };

	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.at[i];

		if (c < ' ' || c == 0x7f)
			continue;
		ascii = ascii && c < 0x80;
		plain = plain && (isalnum(c) || strchr(" !#$%&'*+-/=?^_`{|}~", c) != NULL);
		if (c < 0x80 && (c == '"' || c == '\\'))
			buf_byte(&clean, '\\');
		buf_byte(&clean, (char)c);
	}
	if (!ascii) {
		buf_append(out, SPAN("=?utf-8?B?"));
		/* an encoded word has at most 75 octets */
		base64_encode(span_first(name, 45), out);
		buf_append(out, SPAN("?="));
	} else if (plain) {
		buf_append(out, buf_span(&clean));
	} else {
		buf_byte(out, '"');
		buf_append(out, buf_span(&clean));
		buf_byte(out, '"');
	}
	buf_free(&clean);
}

static void
add_from(const struct completing *c, struct buf *out)
{
	struct span sender = c->s->sender.len > 0 ? c->s->sender : c->facts->login;
	struct span name = c->s->full_name.len > 0 ? c->s->full_name : c->facts->full_name;

	buf_append(out, SPAN("From: "));
	if (name.len > 0) {
		put_phrase(name, out);
		buf_append(out, SPAN(" <"));
	}
	buf_append(out, sender);
	if (span_find(sender, '@') == NULL) {
		buf_byte(out, '@');
		buf_append(out, c->facts->hostname);
	}
	buf_append(out, name.len > 0 ? SPAN(">\r\n") : SPAN("\r\n"));
}

static void
add_missing(const struct completing *c, struct buf *out)
{
	char date[RFC5322_DATE_MAX], id[ID_TEXT_LEN + 1];

	if (!c->has_id)
		buf_printf(out, "Message-ID: <%s.%016llx@%.*s>\r\n",
			   id_format(id_at(c->facts->now_ms), id),
			   (unsigned long long)c->facts->unique, SPAN_FMT(c->facts->hostname));
	if (!c->has_date)
		buf_printf(out, "Date: %s\r\n", clock_rfc5322(c->facts->now_ms, date));
	if (!c->has_from)
		add_from(c, out);
}

static bool
has_8bit(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.at[i] >= 0x80)
			return true;
	return false;
}

bool
sendmail_message_complete(struct sendmail_message *m, struct sendmail *s,
			  const struct sendmail_facts *facts, struct span *bad)
{
	struct completing c = { .m = m, .s = s, .facts = facts, .bad = bad };
	struct span text = buf_span(&m->text), block, name, value, field;
	struct header_scan scan;
	bool ok = true;

	header_scan_init(&scan, SIZE_MAX, SIZE_MAX);
	m->body = span_skip(text, header_scan_take(&scan, text));
	header_scan_end(&scan);
	block = buf_span(&scan.text);
	c.resent = s->from_header && has_resent(block);
	while (ok && next_field(&block, &name, &value, &field))
		ok = take_field(&c, name, value, field);
	header_scan_free(&scan);
	add_missing(&c, &m->header);
	buf_append(&m->header, SPAN("\r\n"));
	m->eightbit = s->eightbit || has_8bit(buf_span(&m->header)) || has_8bit(m->body);
	return ok;
}
