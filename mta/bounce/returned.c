/* returned: see returned.h; here what is written for programs: RFC 3464 and 5965. */
#include "mta/bounce/returned_private.h"

#include "mta/base/address.h"
#include "mta/base/id.h"
#include "mta/bounce/mime.h"
#include "mta/smtp/header.h"

static const char *const kinds[] = { "other", "autoreply", "bounce", "complaint" };
static const char *const forms[] = { "none", "dsn", "qmail", "exim", "words", "arf", "jmrp" };
static const char *const actions[] = { "failed", "delayed", "delivered", "relayed", "expanded" };

const char *
returned_kind_name(enum returned_kind kind)
{
	return kinds[kind];
}

const char *
returned_form_name(enum returned_form form)
{
	return forms[form];
}

const char *
returned_action_name(enum returned_action action)
{
	return actions[action];
}

/* ---- what both files need ----------------------------------------------------------------- */

struct span
returned_line(struct span *text)
{
	struct span line = span_cut(text, '\n');

	if (line.len > 0 && line.at[line.len - 1] == '\r')
		line.len--;
	return line;
}

bool
returned_has(struct span text, const char *words)
{
	struct span wanted = span_str(words);

	for (size_t i = 0; i + wanted.len <= text.len; i++)
		if (ascii_lower(text.at[i]) == ascii_lower(wanted.at[0]) &&
		    span_ieq(span_of(text.at + i, wanted.len), wanted))
			return true;
	return false;
}

struct returned_recipient *
returned_add(struct returned *ret)
{
	struct returned_recipient *r;

	if (ret->count == RETURNED_RECIPIENTS_MAX)
		return NULL;
	r = &ret->recipients[ret->count++];
	*r = (struct returned_recipient){ 0 };
	return r;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span
returned_address(struct span value, struct arena *arena)
{
	struct span text = mime_unfold(span_first(value, 1000), arena), type = text, rest;
	struct address address;

	if (span_find(text, ';') != NULL && span_find(span_cut(&type, ';'), '@') == NULL)
		text = span_trim(type);
	if (address_parse_path(text, ADDRESS_UTF8 | ADDRESS_BARE_LOCAL_OK, arena, &address,
			       &rest) != ADDRESS_OK ||
	    address.domain.len == 0)
		return SPAN("");
	return address_text(&address, arena);
}

/* One line, blanks squeezed, control octets gone. */
static struct span
one_line(struct span text, struct arena *arena)
{
	char *out;
	size_t len = 0;

	text = span_first(text, 4 * RETURNED_TEXT_MAX);
	out = arena_alloc(arena, text.len + 1);
	for (size_t i = 0; i < text.len && len < RETURNED_TEXT_MAX; i++) {
		unsigned char c = (unsigned char)text.at[i];

		if (c > ' ' && c != 127)
			out[len++] = text.at[i];
		else if (len > 0 && out[len - 1] != ' ')
			out[len++] = ' ';
	}
	return span_trim(span_of(out, len));
}

/* "550", "550-", "#550" at the start: how much of it is to be passed over; 0: it is no code. */
static size_t
code_len(struct span s, uint16_t *code)
{
	size_t hash = s.len > 0 && s.at[0] == '#';
	uint64_t number;

	s = span_skip(s, hash);
	if (s.len < 3 || !span_to_u64(span_first(s, 3), 599, &number) || number < 200)
		return 0;
	if (s.len > 3 && ((s.at[3] >= '0' && s.at[3] <= '9') || s.at[3] == '.'))
		return 0;
	*code = (uint16_t)number;
	return hash + (s.len > 3 && (s.at[3] == '-' || s.at[3] == ' ') ? 4 : 3);
}

void
returned_diagnostic(struct returned_recipient *r, struct span text, struct arena *arena)
{
	struct status status;
	size_t len;

	text = one_line(text, arena);
	text = span_trim(span_skip(text, code_len(text, &r->code)));
	len = text.len > 0 && text.at[0] == '#';
	if (status_parse(span_skip(text, len), &status, &len)) {
		/* "5.0.0" beside "550 5.1.1": the second says more */
		if (r->status.klass == 0 || (r->status.subject == 0 && r->status.detail == 0))
			r->status = status;
		text = span_trim(span_skip(text, len + (text.at[0] == '#')));
	}
	r->diagnostic = text;
}

void
returned_set_header(struct returned *ret, struct span content)
{
	struct span rest;

	while (content.len > 0 && is_blank(content.at[0]))
		content = span_skip(content, 1);
	if (ret->header.len == 0)
		ret->header = mime_header_of(span_first(content, RETURNED_HEADER_MAX), &rest);
}

/* ---- message/delivery-status -------------------------------------------------------------- */

static enum returned_action
action_of(struct span value, bool *known)
{
	*known = true;
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if (span_istarts(value, span_str(actions[i])))
			return (enum returned_action)i;
	*known = span_istarts(value, SPAN("fail"));
	return ACTION_FAILED;
}

/* A group that says nothing of what happened goes by its status. */
static enum returned_action
action_by_status(struct status status)
{
	if (status.klass == 2)
		return ACTION_DELIVERED;
	return status.klass == 4 ? ACTION_DELAYED : ACTION_FAILED;
}

static void
take_diagnostic(struct returned_recipient *r, struct span value, struct arena *arena)
{
	struct span rest = value, type = span_cut(&rest, ';');

	if (type.len == value.len)		/* no type at all */
		rest = value;
	if (r->diagnostic.len == 0)
		returned_diagnostic(r, rest, arena);
}

static void
take_status(struct returned_recipient *r, struct span value)
{
	struct status status;
	size_t len;

	while (value.len > 0 && is_blank(value.at[0]))
		value = span_skip(value, 1);
	if (status_parse(value, &status, &len) &&
	    (r->status.klass == 0 || status.subject != 0 || status.detail != 0))
		r->status = status;
}

/* "dns; mx.example.org (192.0.2.1)" */
static struct span
host_of(struct span value, struct arena *arena)
{
	struct span text = mime_unfold(span_first(value, 500), arena), rest = text;
	struct span type = span_cut(&rest, ';');

	text = span_trim(type.len == text.len ? text : rest);
	return span_cut(&text, ' ');
}

/* The fields of one recipient; some servers put no blank line between two of them. */
static void
take_group(struct returned *ret, struct span group, struct arena *arena)
{
	struct returned_recipient *r = NULL;
	bool known = false, final = false;
	struct span name, value;

	while (header_next(&group, &name, &value)) {
		bool is_final = span_ieq(name, SPAN("Final-Recipient"));
		bool is_original = span_ieq(name, SPAN("Original-Recipient"));
		bool is_action = span_ieq(name, SPAN("Action")),
		     is_status = span_ieq(name, SPAN("Status"));

		if (span_ieq(name, SPAN("Original-Envelope-Id"))) {
			if (ret->envelope_id.len == 0)
				ret->envelope_id = mime_unfold(span_first(value, 500), arena);
			continue;
		}
		if (r != NULL && is_final && final) {
			r->action = known ? r->action : action_by_status(r->status);
			r = NULL;
		}
		if (r == NULL && (is_final || is_original || is_action || is_status)) {
			r = returned_add(ret);
			known = final = false;
		}
		if (r == NULL)
			continue;
		if (is_final)
			r->address = returned_address(value, arena);
		else if (is_original)
			r->original = returned_address(value, arena);
		else if (is_action)
			r->action = action_of(span_trim(value), &known);
		else if (is_status)
			take_status(r, value);
		else if (span_ieq(name, SPAN("Diagnostic-Code")))
			take_diagnostic(r, value, arena);
		else if (span_ieq(name, SPAN("Remote-MTA")))
			r->host = host_of(value, arena);
		final = final || is_final;
	}
	if (r != NULL && !known)
		r->action = action_by_status(r->status);
}

static void
take_delivery_status(struct returned *ret, struct span content, struct arena *arena)
{
	ret->kind = RETURNED_BOUNCE;
	ret->form = FORM_DSN;
	while (content.len > 0 && ret->count < RETURNED_RECIPIENTS_MAX)
		take_group(ret, mime_header_of(content, &content), arena);
}

/* ---- message/feedback-report -------------------------------------------------------------- */

static void
add_complainant(struct returned *ret, struct span address)
{
	struct returned_recipient *r = address.len > 0 ? returned_add(ret) : NULL;

	if (r != NULL)
		r->address = r->original = address;
}

static void
take_feedback(struct returned *ret, struct span content, struct arena *arena)
{
	struct span name, value;

	ret->kind = RETURNED_COMPLAINT;
	ret->form = FORM_ARF;
	while (header_next(&content, &name, &value)) {
		if (span_ieq(name, SPAN("Feedback-Type")) && ret->feedback_type.len == 0)
			ret->feedback_type =
				arena_lower(arena, mime_unfold(span_first(value, 100), arena));
		else if (span_ieq(name, SPAN("Original-Mail-From")) && ret->original_from.len == 0)
			ret->original_from = returned_address(value, arena);
		else if (span_ieq(name, SPAN("Original-Envelope-Id")) && ret->envelope_id.len == 0)
			ret->envelope_id = mime_unfold(span_first(value, 500), arena);
		else if (span_ieq(name, SPAN("Original-Rcpt-To")) ||
			 span_ieq(name, SPAN("Removal-Recipient")))
			add_complainant(ret, returned_address(value, arena));
	}
}

/* Microsoft's programme writes no report: it attaches the message, and marks it. */
static void
take_jmrp(struct returned *ret, struct arena *arena)
{
	struct span value;

	if (!header_find(ret->header, SPAN("X-HmXmrOriginalRecipient"), &value))
		return;
	ret->kind = RETURNED_COMPLAINT;
	ret->form = FORM_JMRP;
	ret->feedback_type = SPAN("abuse");
	add_complainant(ret, returned_address(value, arena));
}

bool
returned_is_complaint(const struct returned *r)
{
	return r->kind == RETURNED_COMPLAINT && !span_eq(r->feedback_type, SPAN("not-spam")) &&
	       !span_istarts(r->feedback_type, SPAN("auth-failure"));
}

/* ---- the whole ---------------------------------------------------------------------------- */

static bool
is_of_machine(struct span header)
{
	static const char *const marks[] = { "X-Autoreply", "X-Autorespond", "X-Autoresponse",
					     "X-Autogenerated",
					     "X-Vacation", "X-Auto-Reply-From" };
	static const char *const subjects[] = { "out of office", "automatic reply", "auto:",
						"autoreply",
						"auto-reply", "auto reply", "vacation",
						"automatische antwort",
						"abwesend", "abwesenheit" };
	struct span value;

	if (header_find(header, SPAN("Auto-Submitted"), &value) && !span_istarts(value, SPAN("no")))
		return true;
	if (header_find(header, SPAN("Precedence"), &value) &&
	    returned_has(span_first(value, 100), "auto"))
		return true;
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (header_find(header, span_str(marks[i]), &value))
			return true;
	if (header_find(header, SPAN("Subject"), &value))
		for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++)
			if (span_istarts(value, span_str(subjects[i])))
				return true;
	return false;
}

static void
take_part(struct returned *ret, const struct mime_part *part, struct arena *arena)
{
	if (span_eq(part->type, SPAN("message/delivery-status")) ||
	    span_eq(part->type, SPAN("message/global-delivery-status"))) {
		if (ret->kind == RETURNED_OTHER)
			take_delivery_status(ret, part->content, arena);
	} else if (span_eq(part->type, SPAN("message/feedback-report"))) {
		if (ret->kind == RETURNED_OTHER)
			take_feedback(ret, part->content, arena);
	} else if (span_eq(part->type, SPAN("message/rfc822")) ||
		   span_eq(part->type, SPAN("message/global")) ||
		   span_eq(part->type, SPAN("text/rfc822-headers")) ||
		   span_eq(part->type, SPAN("message/rfc822-headers")) ||
		   span_eq(part->type, SPAN("message/global-headers"))) {
		returned_set_header(ret, part->content);
	}
}

static struct span
words_of(const struct mime_part *parts, size_t count, struct arena *arena)
{
	struct span html = SPAN("");

	for (size_t i = 0; i < count; i++) {
		if (span_eq(parts[i].type, SPAN("text/plain")) && parts[i].content.len > 0)
			return parts[i].content;
		if (span_eq(parts[i].type, SPAN("text/html")) && html.len == 0)
			html = parts[i].content;
	}
	return mime_html_text(html, arena);
}

void
returned_parse(struct span header, struct span body, struct arena *arena, struct returned *ret)
{
	struct mime_part *parts = arena_alloc(arena, MIME_PARTS_MAX * sizeof(*parts));
	struct span report_type;
	size_t count =
		mime_parts(header, span_first(body, RETURNED_BODY_MAX), arena, parts, &report_type);

	*ret = (struct returned){ 0 };
	ret->recipients = arena_alloc(arena, RETURNED_RECIPIENTS_MAX * sizeof(*ret->recipients));
	for (size_t i = 0; i < count; i++)
		take_part(ret, &parts[i], arena);
	if (ret->kind == RETURNED_OTHER)
		take_jmrp(ret, arena);
	/* a receipt for a message that was read says nothing of its delivery (RFC 8098) */
	if (ret->kind == RETURNED_OTHER && span_eq(report_type, SPAN("disposition-notification")))
		ret->kind = RETURNED_AUTOREPLY;
	if (ret->kind == RETURNED_OTHER &&
	    !returned_words(header, words_of(parts, count, arena), arena, ret) &&
	    is_of_machine(header))
		ret->kind = RETURNED_AUTOREPLY;
}

/* ---- whose message it was ----------------------------------------------------------------- */

/* The word behind another: "id" in "by mx.example.org (tram) with ESMTP id 0abc…". */
static struct span
word_behind(struct span text, struct span word)
{
	while (text.len > 0) {
		struct span this = span_cut(&text, ' ');

		if (span_ieq(this, word)) {
			text = span_trim(text);
			return span_cut(&text, ' ');
		}
	}
	return SPAN("");
}

static bool
id_in_received(struct span value, struct span hostname, uint64_t *ret)
{
	char room[1000];
	size_t len = 0;
	struct span text, id;

	for (size_t i = 0; i < value.len && len < sizeof(room); i++)
		room[len++] = is_blank(value.at[i]) || value.at[i] == ';' ? ' ' : value.at[i];
	text = span_of(room, len);
	if (!span_ieq(word_behind(text, SPAN("by")), hostname))
		return false;
	id = word_behind(text, SPAN("id"));
	return id_parse(id, ret);
}

bool
returned_queue_id(const struct returned *returned, struct span hostname, uint64_t *ret)
{
	struct span rest = returned->header, value;

	while (header_next_named(&rest, SPAN("Received"), &value))
		if (id_in_received(value, hostname, ret))
			return true;
	if (!header_find(returned->header, SPAN("Message-ID"), &value))
		return false;
	while (value.len > 0 && (is_blank(value.at[0]) || value.at[0] == '<'))
		value = span_skip(value, 1);
	value = span_cut(&value, '>');
	return value.len > ID_TEXT_LEN && value.at[ID_TEXT_LEN] == '@' &&
	       span_ieq(span_skip(value, ID_TEXT_LEN + 1), hostname) &&
	       id_parse(span_first(value, ID_TEXT_LEN), ret);
}
