/*
 * bounce: see bounce.h. The report's parts are written first, each into a buf of its own; then a
 * boundary is chosen that stands in none of them, and they are put together.
 *
 * What reaches a line here from a message, a remote host or xtext has been through
 * report_clean(): it cannot begin a line of its own. The copy of the message's header goes into
 * the body of a part, a line at a time. Any thread.
 */
#include "mta/bounce/bounce.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "mta/base/address.h"
#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/bounce/words.h"
#include "mta/smtp/header.h"
#include "mta/smtp/mail_wishes.h"

enum { TEXT_LINE_MAX = 998, MESSAGE_ID_MAX = 900, BOUNDARY_MAX = 64 };

struct part {
	const char *type, *description;
	struct buf own;
	struct span content;		/* in own, or the caller's */
};

struct report {
	const struct bounce_facts *facts;
	struct bounce_reason *reasons;
	struct arena arena;
	bool utf8;			/* the status part may hold UTF-8 */
	struct part words, status, original;
};

/* ---- the status part: fields -------------------------------------------------------------- */

static void
put_clean(struct report *r, const char *name, const char *type, struct span clean)
{
	struct buf *out = &r->status.own;
	size_t before = buf_len(out);

	if (clean.len == 0)
		return;
	buf_printf(out, "%s: %s%s", name, type, type[0] != '\0' ? "; " : "");
	report_fold(clean, buf_len(out) - before, " ", out);
	buf_append(out, SPAN("\r\n"));
}

static void
put_field(struct report *r, const char *name, const char *type, struct span value)
{
	put_clean(r, name, type,
		  report_squeeze(report_clean(value, r->utf8, &r->arena), &r->arena));
}

static void
put_date(struct report *r, const char *name, int64_t wall)
{
	char date[RFC5322_DATE_MAX];

	put_field(r, name, "", span_str(clock_rfc5322(wall, date)));
}

static unsigned
utf8_code_point(struct span *s)
{
	unsigned char c = (unsigned char)s->at[0];
	size_t len = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
	unsigned n = len == 1 ? c : c & (0x7FU >> len);

	for (size_t i = 1; i < len; i++)
		n = n << 6 | ((unsigned char)s->at[i] & 0x3F);
	*s = span_skip(*s, len);
	return n;
}

/*
 * An address beyond ASCII in a place that has no room for it: "\x{FC}", RFC 6533 §3
 * (utf-8-addr-xtext).
 */
static struct span
utf8_to_ascii(struct span s, struct arena *arena)
{
	struct buf out = { 0 };
	struct span ret;

	while (s.len > 0) {
		unsigned c = utf8_code_point(&s);

		if (c > 126 || c <= ' ' || c == '\\' || c == '+' || c == '=')
			buf_printf(&out, "\\x{%02X}", c);
		else
			buf_byte(&out, (char)c);
	}
	ret = arena_copy(arena, buf_span(&out));
	buf_free(&out);
	return ret;
}

static void
put_utf8(unsigned c, struct buf *out)
{
	if (c < 0x80) {
		buf_byte(out, (char)c);
		return;
	}
	if (c < 0x800) {
		buf_byte(out, (char)(0xC0 | c >> 6));
	} else {
		if (c < 0x10000) {
			buf_byte(out, (char)(0xE0 | c >> 12));
		} else {
			buf_byte(out, (char)(0xF0 | c >> 18));
			buf_byte(out, (char)(0x80 | (c >> 12 & 0x3F)));
		}
		buf_byte(out, (char)(0x80 | (c >> 6 & 0x3F)));
	}
	buf_byte(out, (char)(0x80 | (c & 0x3F)));
}

/* Reads "\x{FC}" at the start of s: its octets, or 0. */
static size_t
embedded_char(struct span s, unsigned *ret)
{
	unsigned n = 0;
	size_t i;

	if (!span_starts(s, SPAN("\\x{")))
		return 0;
	for (i = 3; i < s.len && i < 9 && s.at[i] != '}'; i++) {
		char c = ascii_lower(s.at[i]);

		if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
			return 0;
		n = n * 16 + (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	if (i == 3 || i == s.len || s.at[i] != '}' || n > 0x10FFFF)
		return 0;
	*ret = n;
	return i + 1;
}

/* The address that an ORCPT of type utf-8 means. False: it is none. */
static bool
utf8_from_orcpt(struct span s, struct arena *arena, struct span *ret)
{
	struct buf out = { 0 };
	bool fine = true;

	while (s.len > 0 && fine) {
		unsigned c = 0;
		size_t len = embedded_char(s, &c);

		if (len > 0) {
			put_utf8(c, &out);
			fine = c > ' ' && c != 127;
		} else {
			buf_byte(&out, s.at[0]);
			fine = s.at[0] != '\\' || s.len == 1 || s.at[1] != 'x';
		}
		s = span_skip(s, len > 0 ? len : 1);
	}
	fine = fine && utf8_valid(buf_span(&out));	/* surrogates are refused here */
	if (fine)
		*ret = arena_copy(arena, buf_span(&out));
	buf_free(&out);
	return fine;
}

static void
put_address(struct report *r, const char *name, struct span address)
{
	if (!has_high_octets(address) || !utf8_valid(address))
		put_clean(r, name, "rfc822", report_clean(address, false, &r->arena));
	else
		put_field(r, name, "utf-8", r->utf8 ? address : utf8_to_ascii(address, &r->arena));
}

/*
 * What the sender called the recipient; as it came where it cannot be decoded. Nothing if
 * nothing was given.
 */
static void
put_original_recipient(struct report *r, struct span orcpt)
{
	struct span address = orcpt, type, decoded;
	bool utf8;

	if (orcpt.len == 0)
		return;
	type = span_cut(&address, ';');
	if (type.len == 0 || address.len == 0)
		return;
	utf8 = span_ieq(type, SPAN("utf-8"));
	if (!xtext_decode(address, &r->arena, &decoded))
		decoded = address;		/* UTF-8 itself, which is allowed under SMTPUTF8 */
	if (utf8 && utf8_from_orcpt(decoded, &r->arena, &decoded)) {
		if (!r->utf8)
			decoded = utf8_to_ascii(decoded, &r->arena);
	} else if (has_high_octets(decoded) && !has_high_octets(address)) {
		decoded = address;
	}
	type = report_clean(type, false, &r->arena);
	put_field(r, "Original-Recipient", arena_str(&r->arena, type), decoded);
}

static void
put_envelope_id(struct report *r, struct span envid)
{
	struct span decoded;

	if (!xtext_decode(envid, &r->arena, &decoded) || has_high_octets(decoded))
		decoded = envid;
	put_field(r, "Original-Envelope-Id", "", decoded);
}

/* ---- the status part: message/delivery-status, RFC 3464 ----------------------------------- */

/*
 * RFC 4865 §5.1.2: what was asked for. Which way it was is not kept: a time of day had no
 * thousandths, a span counts from the arrival.
 */
static void
put_release(struct report *r, const struct message_record *record)
{
	char at[WISH_TIME_MAX];
	struct span asked;

	if (record->due_ms % 1000 == 0)
		asked = arena_printf(&r->arena, "until;%s", wish_time_text(record->due_ms, at));
	else
		asked = arena_printf(&r->arena, "for;%" PRId64,
				     (record->due_ms - record->arrival_ms) / 1000);
	put_field(r, "Future-Release-Request", "", asked);
}

static void
put_message_fields(struct report *r)
{
	const struct queue_message *message = r->facts->message;
	char id[ID_TEXT_LEN + 1];

	put_field(r, "Reporting-MTA", "dns", r->facts->hostname);
	if (message->envelope.envid.len > 0)
		put_envelope_id(r, message->envelope.envid);
	put_date(r, "Arrival-Date", message->record.arrival_ms);
	if (message->envelope.by_mode != BY_NONE)	/* RFC 2852 §5 */
		put_date(r, "Deliver-By-Date", message->envelope.by_ms);
	if ((message->record.flags & MESSAGE_RELEASED) != 0)
		put_release(r, &message->record);
	put_field(r, "X-Tram-Queue-ID", "", span_str(id_format(message->record.id, id)));
}

static void
put_recipient_fields(struct report *r, const struct recipient *recipient,
		     const struct bounce_reason *reason)
{
	char status[16];

	buf_append(&r->status.own, SPAN("\r\n"));
	put_original_recipient(r, recipient->orcpt);
	put_address(r, "Final-Recipient", recipient->address);
	put_field(r, "Action", "", span_str(reason->action));
	put_field(r, "Status", "", span_str(status_format(reason->status, status)));
	put_field(r, "Remote-MTA", "dns", reason->host);
	put_field(r, "Diagnostic-Code", reason->by_smtp ? "smtp" : "x-tram", reason->said);
	if (reason->attempt != NULL)
		put_date(r, "Last-Attempt-Date", reason->attempt->at_ms);
	if (r->facts->delay)
		put_date(r, "Will-Retry-Until", r->facts->gives_up_ms);
}

/*
 * UTF-8 in the fields only for senders who speak it, and only if an address needs it (RFC 6533
 * §4).
 */
static bool
status_is_utf8(const struct bounce_facts *facts)
{
	if (!facts->message->envelope.smtputf8)
		return false;
	for (size_t i = 0; i < facts->count; i++) {
		const struct recipient *recipient = facts->recipients[i].recipient;

		if (has_high_octets(recipient->address) ||
		    span_istarts(recipient->orcpt, SPAN("utf-8;")))
			return true;
	}
	return false;
}

static void
write_status(struct report *r)
{
	r->utf8 = status_is_utf8(r->facts);
	r->status.type = r->utf8 ? "message/global-delivery-status" : "message/delivery-status";
	r->status.description = "Delivery report";
	put_message_fields(r);
	for (size_t i = 0; i < r->facts->count; i++)
		put_recipient_fields(r, r->facts->recipients[i].recipient, &r->reasons[i]);
	r->status.content = buf_span(&r->status.own);
}

/* ---- the message reported on -------------------------------------------------------------- */

/* Up to the blank line, or to where the queue says that the body begins. */
static struct span
header_block(const struct bounce_facts *facts)
{
	struct span rest = facts->content;
	uint64_t size = facts->message->record.header_size;

	if (facts->full && size > 0 && size < rest.len)
		rest.len = (size_t)size;
	for (struct span at = rest; at.len > 0;) {
		struct span line = span_cut(&at, '\n');

		if (line.len == 0 || (line.len == 1 && line.at[0] == '\r'))
			return span_first(rest, (size_t)(line.at - rest.at));
	}
	return rest;
}

/* Text that may travel as it is: CRLF lines of bearable length, no NUL. */
static bool
is_mail_text(struct span s)
{
	if (span_find(s, '\0') != NULL)
		return false;
	while (s.len > 0) {
		bool last = span_find(s, '\n') == NULL;
		struct span line = span_cut(&s, '\n');

		if (!last && (line.len == 0 || line.at[line.len - 1] != '\r'))
			return false;
		if (!last)
			line.len--;
		if (line.len > TEXT_LINE_MAX || span_find(line, '\r') != NULL)
			return false;
	}
	return true;
}

/*
 * Where a line that is too long is cut: at its last blank, or anywhere, but not inside a UTF-8
 * sequence.
 */
static size_t
cut_at(struct span line)
{
	size_t at;

	for (at = TEXT_LINE_MAX - 1; at > TEXT_LINE_MAX / 2; at--)
		if (line.at[at] == ' ' || line.at[at] == '\t')
			return at;
	for (at = TEXT_LINE_MAX - 1;
	     at > TEXT_LINE_MAX - 4 && ((unsigned char)line.at[at] & 0xC0) == 0x80; at--)
		;
	return at;
}

static void
put_header_line(struct span line, struct buf *out)
{
	while (line.len >= TEXT_LINE_MAX) {
		size_t at = cut_at(line);
		bool blank = line.at[at] == ' ' || line.at[at] == '\t';

		buf_append(out, span_first(line, at));
		buf_append(out, span_str(blank ? "\r\n" : "\r\n "));
		line = span_skip(line, at);
	}
	buf_append(out, line);
	buf_append(out, SPAN("\r\n"));
}

/* Octets that BINARYMIME may have brought and that are no text are replaced. */
static void
put_header_block(struct span block, struct arena *arena, struct buf *out)
{
	char *at = arena_str(arena, block);

	for (size_t i = 0; i < block.len; i++)
		if (at[i] == '\0' || (at[i] == '\r' && at[i + 1] != '\n'))
			at[i] = '?';
	block.at = at;
	while (block.len > 0) {
		struct span line = span_cut(&block, '\n');

		if (line.len > 0 && line.at[line.len - 1] == '\r')
			line.len--;
		put_header_line(line, out);
	}
}

static bool
any_failed(const struct bounce_facts *facts)
{
	for (size_t i = 0; i < facts->count && !facts->delay; i++)
		if (facts->recipients[i].action == REPORT_FAILED)
			return true;
	return false;
}

/*
 * Raw octets that are no UTF-8 do not make a message "global": it goes back in the type that it
 * came in.
 */
static enum bounce_attached
write_original(struct report *r)
{
	const struct bounce_facts *facts = r->facts;
	struct span block = header_block(facts);
	bool global = has_high_octets(block) && utf8_valid(block);

	if (facts->content.len == 0)
		return ATTACHED_NOTHING;
	if (facts->full && any_failed(facts) && is_mail_text(facts->content)) {
		r->original.type = global ? "message/global" : "message/rfc822";
		r->original.description = "Your message";
		r->original.content = facts->content;
		return ATTACHED_MESSAGE;
	}
	r->original.type = global ? "message/global-headers" : "text/rfc822-headers";
	r->original.description = "The header of your message";
	put_header_block(block, &r->arena, &r->original.own);
	r->original.content = buf_span(&r->original.own);
	return ATTACHED_HEADER;
}

/* The Message-ID, if it is one that can be repeated as it is. */
static bool
find_message_id(const struct bounce_facts *facts, struct span *ret)
{
	struct span value;
	const char *end;

	if (!header_find(header_block(facts), SPAN("Message-ID"), &value))
		return false;
	while (value.len > 0 && value.at[0] != '<')
		value = span_skip(value, 1);
	end = span_find(value, '>');
	if (end == NULL || end - value.at < 3 || end - value.at > MESSAGE_ID_MAX)
		return false;
	value.len = (size_t)(end - value.at) + 1;
	for (size_t i = 1; i < value.len; i++)
		if (value.at[i] <= ' ' || value.at[i] > '~' || value.at[i] == '<')
			return false;
	*ret = value;
	return true;
}

/* ---- putting it together ------------------------------------------------------------------ */

static bool
holds(struct span s, const char *text)
{
	return s.len > 0 && memmem(s.at, s.len, text, strlen(text)) != NULL;
}

/* Nobody can know the id beforehand; should somebody have guessed, the next number is tried. */
static void
choose_boundary(const struct report *r, char out[BOUNDARY_MAX])
{
	char id[ID_TEXT_LEN + 1];
	unsigned n = 0;

	do {
		snprintf(out, BOUNDARY_MAX, "=_%s.%u", id_format(r->facts->id, id), n++);
	} while (holds(r->words.content, out) || holds(r->status.content, out) ||
		 holds(r->original.content, out));
}

static void
put_part(const struct part *part, const char *boundary, bool eight_bit, struct buf *out)
{
	if (part->type == NULL)
		return;
	buf_printf(out, "--%s\r\nContent-Type: %s\r\nContent-Description: %s\r\n%s\r\n", boundary,
		   part->type, part->description,
		   eight_bit ? "Content-Transfer-Encoding: 8bit\r\n" : "");
	buf_append(out, part->content);
	buf_append(out, SPAN("\r\n"));
}

/* True: it has octets above 127 somewhere. */
static bool
put_body(struct report *r, const char *boundary, struct buf *out)
{
	bool words = has_high_octets(r->words.content), status = has_high_octets(r->status.content);
	bool original = has_high_octets(r->original.content) ||
			(r->facts->content_8bit && r->original.content.at == r->facts->content.at);

	r->words.type = words ? "text/plain; charset=utf-8" : "text/plain; charset=us-ascii";
	r->words.description = "What happened";
	buf_append(out, SPAN("This is a delivery report in MIME format.\r\n\r\n"));
	put_part(&r->words, boundary, words, out);
	put_part(&r->status, boundary, status, out);
	put_part(&r->original, boundary, original, out);
	buf_printf(out, "--%s--\r\n", boundary);
	return words || status || original;
}

static void
put_header(struct report *r, const char *boundary, bool eight_bit, struct buf *out)
{
	const struct bounce_facts *facts = r->facts;
	struct span host = report_clean(facts->hostname, true, &r->arena);
	struct span to = report_clean(facts->message->envelope.reverse_path, true, &r->arena),
		    message_id;
	char date[RFC5322_DATE_MAX], id[ID_TEXT_LEN + 1];

	buf_printf(out, "From: Mail Delivery System <MAILER-DAEMON@%.*s>\r\n", SPAN_FMT(host));
	buf_printf(out, "To: <%.*s>\r\n", SPAN_FMT(to));
	buf_printf(out, "Subject: %s\r\n", bounce_subject(facts));
	buf_printf(out, "Date: %s\r\n", clock_rfc5322(facts->now_ms, date));
	buf_printf(out, "Message-ID: <%s@%.*s>\r\n", id_format(facts->id, id), SPAN_FMT(host));
	if (find_message_id(facts, &message_id))
		buf_printf(out, "In-Reply-To: %.*s\r\nReferences: %.*s\r\n", SPAN_FMT(message_id),
			   SPAN_FMT(message_id));
	buf_printf(out, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
	buf_printf(out,
		   "Content-Type: multipart/report; "
		   "report-type=delivery-status;\r\n\tboundary=\"%s\"\r\n",
		   boundary);
	if (eight_bit)
		buf_append(out, SPAN("Content-Transfer-Encoding: 8bit\r\n"));
	buf_append(out, SPAN("\r\n"));
}

uint32_t
bounce_build(const struct bounce_facts *facts, struct buf *header, struct buf *body)
{
	struct report r = { .facts = facts };
	char boundary[BOUNDARY_MAX];
	size_t before = buf_len(header);
	enum bounce_attached attached;
	bool eight_bit, utf8;

	assert(facts->count > 0 && facts->message->envelope.reverse_path.len > 0);
	r.reasons = arena_alloc(&r.arena, facts->count * sizeof(*r.reasons));
	for (size_t i = 0; i < facts->count; i++)
		bounce_reason(facts, &facts->recipients[i], &r.arena, &r.reasons[i]);
	attached = write_original(&r);
	write_status(&r);
	bounce_words(facts, r.reasons, attached, &r.words.own);
	r.words.content = buf_span(&r.words.own);
	choose_boundary(&r, boundary);
	eight_bit = put_body(&r, boundary, body);
	put_header(&r, boundary, eight_bit, header);
	utf8 = has_high_octets(span_skip(buf_span(header), before));
	buf_free(&r.words.own);
	buf_free(&r.status.own);
	buf_free(&r.original.own);
	arena_free(&r.arena);
	return MESSAGE_REPORT | (eight_bit || utf8 ? MESSAGE_8BIT : 0u) |
	       (utf8 ? MESSAGE_HEADER_UTF8 : 0u);
}
