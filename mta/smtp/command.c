/*
 * command: the grammar of command lines in three tables: verbs, MAIL's parameters, RCPT's
 * parameters. To add a verb or a parameter, start there. RFC 5321 §4.1, 1870, 3030, 3461, 6152,
 * 6531. See command.h. Any thread.
 */
#include "mta/smtp/command.h"

#include "mta/smtp/texts.h"

enum { ENVID_MAX = 100, ORCPT_MAX = 500, AUTH_PARAMETER_MAX = 500, HELO_NAME_MAX = 255,
       SIZE_DIGITS_MAX = 20 };

/* One line on its way to a value. */
struct parse {
	const struct smtp_command_limits *limits;
	struct arena *arena;
	struct smtp_command *ret;
	struct span rest;			/* what follows the verb, trimmed */
};

/* A reader says which text to refuse with; TEXT_COUNT: all is well. */
#define FINE TEXT_COUNT

struct parameter {
	struct span key;
	enum smtp_text (*read)(struct parse *p, struct span value, bool has_value);
};

static enum smtp_text
read_number(struct span digits, enum smtp_text error, uint64_t *ret)
{
	if (digits.len == 0 || digits.len > SIZE_DIGITS_MAX)
		return error;
	for (size_t i = 0; i < digits.len; i++)
		if (digits.at[i] < '0' || digits.at[i] > '9')
			return error;
	if (!span_to_u64(digits, UINT64_MAX, ret))
		*ret = UINT64_MAX;	/* 20 digits can say more: too large in any case */
	return FINE;
}

static enum smtp_text
read_size(struct parse *p, struct span value, bool has_value)
{
	(void)has_value;
	return read_number(value, TEXT_SIZE_SYNTAX, &p->ret->size);
}

static enum smtp_text
read_body(struct parse *p, struct span value, bool has_value)
{
	(void)has_value;
	if (span_ieq(value, SPAN("7BIT")))
		p->ret->body = BODY_7BIT;
	else if (span_ieq(value, SPAN("8BITMIME")))
		p->ret->body = BODY_8BITMIME;
	else if (!span_ieq(value, SPAN("BINARYMIME")))
		return TEXT_BODY_SYNTAX;
	else if (!p->limits->offer_binarymime)
		return TEXT_BODY_BINARY;
	else
		p->ret->body = BODY_BINARYMIME;
	return FINE;
}

static enum smtp_text
read_smtputf8(struct parse *p, struct span value, bool has_value)
{
	(void)value;
	p->ret->smtputf8 = true;
	return has_value ? TEXT_UTF8_SYNTAX : FINE;
}

/* RFC 8689 §2: it is offered inside TLS only. */
static enum smtp_text
read_requiretls(struct parse *p, struct span value, bool has_value)
{
	(void)value;
	p->ret->requiretls = true;
	if (has_value)
		return TEXT_REQUIRETLS_SYNTAX;
	return p->limits->tls ? FINE : TEXT_REQUIRETLS_NEEDS_TLS;
}

static enum smtp_text
read_ret(struct parse *p, struct span value, bool has_value)
{
	(void)has_value;
	if (span_ieq(value, SPAN("FULL")))
		p->ret->ret = RET_FULL;
	else if (span_ieq(value, SPAN("HDRS")))
		p->ret->ret = RET_HDRS;
	else
		return TEXT_RET_SYNTAX;
	return FINE;
}

static enum smtp_text
read_envid(struct parse *p, struct span value, bool has_value)
{
	struct span decoded;

	(void)has_value;
	if (value.len == 0 || value.len > ENVID_MAX || !xtext_decode(value, p->arena, &decoded))
		return TEXT_ENVID_SYNTAX;
	p->ret->envid = arena_copy(p->arena, value);
	return FINE;
}

static uint8_t
notify_word(struct span word)
{
	if (span_ieq(word, SPAN("NEVER")))
		return NOTIFY_NEVER;
	if (span_ieq(word, SPAN("SUCCESS")))
		return NOTIFY_SUCCESS;
	if (span_ieq(word, SPAN("FAILURE")))
		return NOTIFY_FAILURE;
	return span_ieq(word, SPAN("DELAY")) ? NOTIFY_DELAY : 0;
}

static enum smtp_text
read_notify(struct parse *p, struct span value, bool has_value)
{
	uint8_t notify = 0;

	(void)has_value;
	if (value.len == 0 || value.at[value.len - 1] == ',')
		return TEXT_NOTIFY_SYNTAX;
	while (value.len > 0) {
		uint8_t word = notify_word(span_cut(&value, ','));

		if (word == 0)
			return TEXT_NOTIFY_SYNTAX;
		notify |= word;
	}
	if ((notify & NOTIFY_NEVER) != 0 && notify != NOTIFY_NEVER)
		return TEXT_NOTIFY_SYNTAX;
	p->ret->notify = notify;
	return FINE;
}

static bool
type_valid(struct span type)
{
	for (size_t i = 0; i < type.len; i++) {
		char c = ascii_lower(type.at[i]);

		if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' &&
		    c != '_')
			return false;
	}
	return type.len > 0;
}

/* RFC 3461 §4.2; of type utf-8 the address may come as UTF-8 itself (RFC 6533 §3). */
static enum smtp_text
read_orcpt(struct parse *p, struct span value, bool has_value)
{
	struct span address = value, type = span_cut(&address, ';'), decoded;
	bool utf8 = p->limits->smtputf8 && span_ieq(type, SPAN("utf-8")) && utf8_valid(address);

	(void)has_value;
	if (value.len > ORCPT_MAX || !type_valid(type) || address.len == 0)
		return TEXT_ORCPT_SYNTAX;
	if (!utf8 && !xtext_decode(address, p->arena, &decoded))
		return TEXT_ORCPT_SYNTAX;
	p->ret->orcpt = arena_copy(p->arena, value);
	return FINE;
}

/* Who is said to have sent it first: of no use to us, who trust nobody's word for it. */
static enum smtp_text
read_auth(struct parse *p, struct span value, bool has_value)
{
	struct span decoded;

	(void)has_value;
	if (!p->limits->auth)
		return TEXT_PARAMETER_UNKNOWN;
	if (value.len == 0 || value.len > AUTH_PARAMETER_MAX ||
	    !xtext_decode(value, p->arena, &decoded))
		return TEXT_AUTH_PARAMETER_SYNTAX;
	return FINE;
}

static enum smtp_text
read_priority(struct parse *p, struct span value, bool has_value)
{
	(void)has_value;
	if (!p->limits->priority)
		return TEXT_PARAMETER_UNKNOWN;
	p->ret->wishes.has_priority = true;
	return wish_read_priority(value, &p->ret->wishes.priority) ? FINE : TEXT_PRIORITY_SYNTAX;
}

static enum smtp_text
read_hold_for(struct parse *p, struct span value, bool has_value)
{
	struct mail_wishes *w = &p->ret->wishes;

	(void)has_value;
	if (!p->limits->hold)
		return TEXT_PARAMETER_UNKNOWN;
	return w->hold_until_ms == 0 && wish_read_hold_for(value, &w->hold_for_s)
		       ? FINE
		       : TEXT_HOLD_SYNTAX;
}

static enum smtp_text
read_hold_until(struct parse *p, struct span value, bool has_value)
{
	struct mail_wishes *w = &p->ret->wishes;

	(void)has_value;
	if (!p->limits->hold)
		return TEXT_PARAMETER_UNKNOWN;
	return w->hold_for_s == 0 && wish_read_hold_until(value, &w->hold_until_ms)
		       ? FINE
		       : TEXT_HOLD_SYNTAX;
}

static enum smtp_text
read_by(struct parse *p, struct span value, bool has_value)
{
	(void)has_value;
	if (!p->limits->by)
		return TEXT_PARAMETER_UNKNOWN;
	return wish_read_by(value, &p->ret->wishes) ? FINE : TEXT_BY_SYNTAX;
}

static const struct parameter mail_parameters[] = {
	{ { "SIZE", 4 }, read_size },
	{ { "BODY", 4 }, read_body },
	{ { "SMTPUTF8", 8 }, read_smtputf8 },
	{ { "REQUIRETLS", 10 }, read_requiretls },
	{ { "RET", 3 }, read_ret },
	{ { "ENVID", 5 }, read_envid },
	{ { "AUTH", 4 }, read_auth },
	{ { "MT-PRIORITY", 11 }, read_priority },
	{ { "HOLDFOR", 7 }, read_hold_for },
	{ { "HOLDUNTIL", 9 }, read_hold_until },
	{ { "BY", 2 }, read_by },
	{ { NULL, 0 }, NULL },
};

static const struct parameter rcpt_parameters[] = {
	{ { "NOTIFY", 6 }, read_notify },
	{ { "ORCPT", 5 }, read_orcpt },
	{ { NULL, 0 }, NULL },
};

static enum smtp_text
read_parameters(struct parse *p, const struct parameter *known)
{
	unsigned seen = 0;

	while (p->rest.len > 0) {
		struct span value = span_cut(&p->rest, ' ');
		bool has_value = span_find(value, '=') != NULL;
		struct span key = span_cut(&value, '=');
		enum smtp_text error;
		unsigned i = 0;

		if (key.len == 0 && !has_value)
			continue;	/* two blanks */
		while (known[i].read != NULL && !span_ieq(known[i].key, key))
			i++;
		if (known[i].read == NULL)
			return TEXT_PARAMETER_UNKNOWN;
		if (!p->limits->extended)
			return TEXT_PARAMETER_NEEDS_EHLO;
		if ((seen & 1U << i) != 0)
			return TEXT_PARAMETER_TWICE;
		seen |= 1U << i;
		error = known[i].read(p, value, has_value);
		if (error != FINE)
			return error;
	}
	return FINE;
}

static enum smtp_text
path_error(enum address_error error, bool sender)
{
	switch (error) {
	case ADDRESS_OK:
		return FINE;
	case ADDRESS_TOO_LONG:
		return sender ? TEXT_SENDER_TOO_LONG : TEXT_RECIPIENT_TOO_LONG;
	case ADDRESS_NEEDS_UTF8:
		return TEXT_NEEDS_UTF8;
	case ADDRESS_NO_DOMAIN:
		return sender ? TEXT_SENDER_NO_DOMAIN : TEXT_RECIPIENT_NO_DOMAIN;
	case ADDRESS_BAD_UTF8:
		return sender ? TEXT_SENDER_BAD_UTF8 : TEXT_RECIPIENT_BAD_UTF8;
	case ADDRESS_SYNTAX:
		break;
	}
	return sender ? TEXT_SENDER_SYNTAX : TEXT_RECIPIENT_SYNTAX;
}

/* "FROM:" or "TO:", then the path; a blank behind the colon is seen from printers and scripts. */
static enum smtp_text
read_path(struct parse *p, struct span keyword, unsigned flags, enum smtp_text syntax)
{
	bool sender = (flags & ADDRESS_NULL_OK) != 0;

	if (!span_istarts(p->rest, keyword))
		return syntax;
	p->rest = span_skip(p->rest, keyword.len);
	if (p->limits->strict_addresses)
		flags |= ADDRESS_STRICT;
	else
		p->rest = span_trim(p->rest);
	if (p->limits->local_submission)
		flags |= ADDRESS_BARE_LOCAL_OK;
	return path_error(address_parse_path(p->rest, flags, p->arena, &p->ret->path, &p->rest),
			  sender);
}

static bool
has_word(struct span text, struct span word)
{
	while (text.len > 0)
		if (span_ieq(span_cut(&text, ' '), word))
			return true;
	return false;
}

static enum smtp_text
parse_mail(struct parse *p)
{
	bool utf8 = p->limits->extended && has_word(p->rest, SPAN("SMTPUTF8"));
	enum smtp_text error;

	error = read_path(p, SPAN("FROM:"), ADDRESS_NULL_OK | (utf8 ? ADDRESS_UTF8 : 0U),
			  TEXT_MAIL_SYNTAX);
	if (error == FINE)
		error = read_parameters(p, mail_parameters);
	/* the word may have stood inside a quoted local part */
	if (error == FINE && p->ret->path.utf8 && !p->ret->smtputf8)
		error = TEXT_NEEDS_UTF8;
	return error;
}

static enum smtp_text
parse_rcpt(struct parse *p)
{
	unsigned flags = ADDRESS_POSTMASTER_OK | (p->limits->smtputf8 ? ADDRESS_UTF8 : 0U);
	enum smtp_text error = read_path(p, SPAN("TO:"), flags, TEXT_RCPT_SYNTAX);

	return error == FINE ? read_parameters(p, rcpt_parameters) : error;
}

/*
 * What may stand in a Received line without quoting: more than a host name, for clients give all
 * kinds of names and are not refused for it (RFC 5321 §4.1.4).
 */
static enum smtp_text
parse_helo(struct parse *p)
{
	struct span name = p->rest;

	if (name.len == 0 || name.len > HELO_NAME_MAX)
		return TEXT_HELO_NAME;
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.at[i];

		if (c <= ' ' || c > '~' || strchr("()<>@,;\\\"", c) != NULL)
			return TEXT_HELO_NAME;
	}
	p->ret->argument = arena_copy(p->arena, name);
	return FINE;
}

static enum smtp_text
parse_bdat(struct parse *p)
{
	struct span rest = p->rest, size = span_cut(&rest, ' ');

	rest = span_trim(rest);
	p->ret->last = span_ieq(rest, SPAN("LAST"));
	if (rest.len > 0 && !p->ret->last)
		return TEXT_BDAT_SYNTAX;
	return read_number(size, TEXT_BDAT_SYNTAX, &p->ret->size);
}

static enum smtp_text
parse_nothing(struct parse *p)
{
	return p->rest.len > 0 ? TEXT_NO_ARGUMENT : FINE;
}

static enum smtp_text
parse_text(struct parse *p)
{
	p->ret->argument = arena_copy(p->arena, p->rest);
	return FINE;
}

static enum smtp_text
parse_needed(struct parse *p)
{
	return p->rest.len == 0 ? TEXT_NEEDS_ARGUMENT : parse_text(p);
}

/* Not copied: it may be a password. */
static enum smtp_text
parse_auth(struct parse *p)
{
	p->ret->argument = p->rest;
	return p->rest.len == 0 ? TEXT_NEEDS_ARGUMENT : FINE;
}

static enum smtp_text
parse_unimplemented(struct parse *p)
{
	(void)p;
	return TEXT_NOT_IMPLEMENTED;
}

static const struct {
	struct span name;
	enum smtp_verb verb;
	enum smtp_text (*parse)(struct parse *p);
} verbs[] = {
	{ { "MAIL", 4 }, VERB_MAIL, parse_mail },
	{ { "RCPT", 4 }, VERB_RCPT, parse_rcpt },
	{ { "DATA", 4 }, VERB_DATA, parse_nothing },
	{ { "BDAT", 4 }, VERB_BDAT, parse_bdat },
	{ { "EHLO", 4 }, VERB_EHLO, parse_helo },
	{ { "HELO", 4 }, VERB_HELO, parse_helo },
	{ { "RSET", 4 }, VERB_RSET, parse_nothing },
	{ { "NOOP", 4 }, VERB_NOOP, parse_text },
	{ { "QUIT", 4 }, VERB_QUIT, parse_nothing },
	{ { "VRFY", 4 }, VERB_VRFY, parse_needed },
	{ { "EXPN", 4 }, VERB_EXPN, parse_unimplemented },
	{ { "HELP", 4 }, VERB_HELP, parse_text },
	{ { "STARTTLS", 8 }, VERB_STARTTLS, parse_nothing },
	{ { "AUTH", 4 }, VERB_AUTH, parse_auth },
	{ { "ETRN", 4 }, VERB_UNKNOWN, parse_unimplemented },
	{ { "TURN", 4 }, VERB_UNKNOWN, parse_unimplemented },
	{ { "SEND", 4 }, VERB_UNKNOWN, parse_unimplemented },
	{ { "SOML", 4 }, VERB_UNKNOWN, parse_unimplemented },
	{ { "SAML", 4 }, VERB_UNKNOWN, parse_unimplemented },
};

static bool
has_control(struct span line)
{
	for (size_t i = 0; i < line.len; i++)
		if ((unsigned char)line.at[i] < ' ' || line.at[i] == 127)
			return true;
	return false;
}

bool
smtp_command_parse(struct span line, const struct smtp_command_limits *limits, struct arena *arena,
		   struct smtp_command *ret, struct reply *error)
{
	struct span rest = line, verb = span_cut(&rest, ' ');
	struct parse p = { .limits = limits, .arena = arena, .ret = ret, .rest = span_trim(rest) };
	enum smtp_text text = TEXT_UNKNOWN;

	*ret = (struct smtp_command){ .verb = VERB_UNKNOWN };
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (span_ieq(verb, verbs[i].name)) {
			ret->verb = verbs[i].verb;
			text = has_control(line) ? TEXT_CONTROL_OCTET : verbs[i].parse(&p);
			break;
		}
	}
	if (text == TEXT_UNKNOWN && has_control(line))
		text = TEXT_CONTROL_OCTET;
	if (text == FINE)
		return true;
	*error = smtp_texts[text];
	return false;
}
