/* smtp/client_commands: see client_commands.h. RFC 1870, 3030, 3461, 6152, 6531, 9422. */
#include "mta/smtp/client_commands.h"

#include <inttypes.h>

#include "mta/base/address.h"

enum { LIMIT_MAX = 1000000 };

static void
read_limits(struct span list, struct smtp_features *ret)
{
	while (list.len > 0) {
		struct span item = span_cut(&list, ' '), name = span_cut(&item, '=');
		uint64_t n;

		if (!span_to_u64(item, LIMIT_MAX, &n))
			continue;
		if (span_ieq(name, SPAN("RCPTMAX")))
			ret->limit_rcpt = (size_t)n;
		else if (span_ieq(name, SPAN("MAILMAX")))
			ret->limit_mail = (size_t)n;
		else if (span_ieq(name, SPAN("RCPTDOMAINMAX")))
			ret->limit_rcpt_domains = (size_t)n;
	}
}

static void
read_feature(struct span line, struct smtp_features *ret)
{
	struct { struct span name; bool *is;
	} words[] = {
		{ SPAN("PIPELINING"), &ret->pipelining },
		{ SPAN("8BITMIME"), &ret->eightbitmime },
		{ SPAN("BINARYMIME"), &ret->binarymime },
		{ SPAN("CHUNKING"), &ret->chunking },
		{ SPAN("DSN"), &ret->dsn },
		{ SPAN("SMTPUTF8"), &ret->smtputf8 },
		{ SPAN("ENHANCEDSTATUSCODES"), &ret->enhanced },
		{ SPAN("STARTTLS"), &ret->starttls },
		{ SPAN("SIZE"), &ret->size },
		{ SPAN("REQUIRETLS"), &ret->requiretls },
		{ SPAN("MT-PRIORITY"), &ret->mt_priority },
		{ SPAN("DELIVERBY"), &ret->deliverby },
	};
	struct span parameters = line, name = span_cut(&parameters, ' ');
	uint64_t limit;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (span_ieq(name, words[i].name))
			*words[i].is = true;
	if (span_ieq(name, SPAN("SIZE")) && span_to_u64(span_trim(parameters), UINT64_MAX, &limit))
		ret->size_limit = limit;
	if (span_ieq(name, SPAN("DELIVERBY")) &&
	    span_to_u64(span_trim(span_cut(&parameters, ',')), INT32_MAX, &limit))
		ret->by_min_s = limit;
	if (span_ieq(name, SPAN("AUTH")))
		ret->auth = parameters;
	if (span_ieq(name, SPAN("LIMITS")))
		read_limits(parameters, ret);
}

void
client_read_features(struct span text, struct smtp_features *ret)
{
	*ret = (struct smtp_features){ .esmtp = true };
	span_cut(&text, '\n');			/* the first line is its name and a greeting */
	while (text.len > 0)
		read_feature(span_trim(span_cut(&text, '\n')), ret);
}

struct span
client_greeting_name(struct span text)
{
	struct span line = span_cut(&text, '\n'), name = span_cut(&line, ' ');

	if (name.len == 0 || name.len > ADDRESS_DOMAIN_MAX)
		return SPAN("");
	for (size_t i = 0; i < name.len; i++) {
		char c = ascii_lower(name.at[i]);

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
		    memchr("-._:[]", c, 6) == NULL)
			return SPAN("");
	}
	return name;
}

/*
 * Addresses are clean since they were parsed; should one not be, it must not become a second
 * command.
 */
static void
write_clean(struct span s, struct buf *out)
{
	char *at;

	if (s.len == 0)
		return;
	at = buf_reserve(out, s.len);
	for (size_t i = 0; i < s.len; i++)
		at[i] = (unsigned char)s.at[i] < ' ' || s.at[i] == 0x7f ? '?' : s.at[i];
	buf_grew(out, s.len);
}

/* At most 9 digits. */
static void
write_by(const struct smtp_transaction *t, struct buf *out)
{
	const struct envelope *e = t->envelope;
	int64_t left = t->by_left_s, most = 999999999;

	left = left > most ? most : left < -most ? -most : left;
	buf_printf(out, " BY=%" PRId64 ";%c%s", left, e->by_mode == BY_RETURN ? 'R' : 'N',
		   e->by_trace ? "T" : "");
}

void
client_write_mail(const struct smtp_transaction *t, const struct smtp_features *features,
		  bool binary, bool converted, struct buf *out)
{
	const struct envelope *envelope = t->envelope;

	buf_append(out, SPAN("MAIL FROM:<"));
	write_clean(envelope->reverse_path, out);
	buf_byte(out, '>');
	if (features->size && !converted)
		buf_printf(out, " SIZE=%" PRIu64, t->size);
	if (binary)
		buf_append(out, SPAN(" BODY=BINARYMIME"));
	else if (t->needs_8bit && features->eightbitmime)
		buf_append(out, SPAN(" BODY=8BITMIME"));
	if (t->needs_smtputf8)
		buf_append(out, SPAN(" SMTPUTF8"));
	if (t->requiretls && features->requiretls)
		buf_append(out, SPAN(" REQUIRETLS"));
	if (features->mt_priority)	/* 0 as well: RFC 6758 §3.2 */
		buf_printf(out, " MT-PRIORITY=%d", envelope->priority);
	if (features->deliverby && envelope->by_mode != BY_NONE)
		write_by(t, out);
	if (features->dsn && envelope->ret != RET_UNSET)
		buf_append(out, envelope->ret == RET_FULL ? SPAN(" RET=FULL") : SPAN(" RET=HDRS"));
	if (features->dsn && envelope->envid.len > 0) {
		buf_append(out, SPAN(" ENVID="));
		write_clean(envelope->envid, out);
	}
	buf_append(out, SPAN("\r\n"));
}

static void
write_notify(uint8_t notify, struct buf *out)
{
	static const struct { uint8_t bit; struct span word; } words[] = {
		{ NOTIFY_SUCCESS, { "SUCCESS", 7 } }, { NOTIFY_FAILURE, { "FAILURE", 7 } },
		{ NOTIFY_DELAY, { "DELAY", 5 } },
	};
	bool first = true;

	if (notify == 0)
		return;
	buf_append(out, SPAN(" NOTIFY="));
	if (notify & NOTIFY_NEVER) {
		buf_append(out, SPAN("NEVER"));
		return;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if ((notify & words[i].bit) == 0)
			continue;
		if (!first)
			buf_byte(out, ',');
		buf_append(out, words[i].word);
		first = false;
	}
}

/*
 * RFC 2852 §4.1.4.2: who knows of no time is to tell the sender of delays, whom it would have told.
 */
static uint8_t
notify_of(const struct smtp_transaction *t, const struct recipient *recipient,
	  const struct smtp_features *features)
{
	if (t->envelope->by_mode != BY_NOTIFY || features->deliverby || t->by_left_s <= 0 ||
	    (recipient->notify & NOTIFY_NEVER) != 0)
		return recipient->notify;
	return (uint8_t)((recipient->notify == 0 ? NOTIFY_FAILURE : recipient->notify) |
			 NOTIFY_DELAY);
}

void
client_write_rcpt(const struct smtp_transaction *t, const struct recipient *recipient,
		  const struct smtp_features *features, struct buf *out)
{
	buf_append(out, SPAN("RCPT TO:<"));
	write_clean(recipient->address, out);
	buf_byte(out, '>');
	if (features->dsn) {
		write_notify(notify_of(t, recipient, features), out);
		if (recipient->orcpt.len > 0) {
			buf_append(out, SPAN(" ORCPT="));
			write_clean(recipient->orcpt, out);
		}
	}
	buf_append(out, SPAN("\r\n"));
}

/* The recipients before the first that would bring one domain too many. */
static size_t
within_domains(const struct smtp_transaction *t, size_t limit)
{
	size_t *firsts = arena_alloc(t->arena, limit * sizeof(*firsts)), count = 0;

	for (size_t i = 0; i < t->recipient_count; i++) {
		struct span domain = address_domain_of(t->recipients[i].recipient->address);
		size_t known = 0;

		while (known < count && !span_ieq(domain,
		       address_domain_of(t->recipients[firsts[known]].recipient->address)))
			known++;
		if (known == limit)
			return i;
		if (known == count)
			firsts[count++] = i;
	}
	return t->recipient_count;
}

size_t
client_recipients_allowed(const struct smtp_transaction *t, const struct smtp_features *features)
{
	size_t allowed = t->recipient_count;

	if (features->limit_rcpt_domains > 0 && features->limit_rcpt_domains < allowed)
		allowed = within_domains(t, features->limit_rcpt_domains);
	if (features->limit_rcpt > 0 && features->limit_rcpt < allowed)
		allowed = features->limit_rcpt;
	return allowed;
}

/* Is it for an address that the message needs SMTPUTF8, and not for its header alone? */
static bool
has_utf8_address(const struct smtp_transaction *t)
{
	bool ascii = span_is_ascii(t->envelope->reverse_path);

	for (size_t i = 0; ascii && i < t->recipient_count; i++)
		ascii = span_is_ascii(t->recipients[i].recipient->address);
	return !ascii;
}

struct reply
client_refusal(const struct smtp_transaction *t, const struct smtp_features *features,
	       bool chunking)
{
	if (features->size_limit > 0 && t->size > features->size_limit) {
		struct reply reply = REPLY(552, 5, 3, 4, "");

		reply.text = arena_printf(t->arena, "the message is larger than the %" PRIu64
					  " octets that the host takes", features->size_limit);
		return reply;
	}
	if (t->needs_smtputf8 && !features->smtputf8 && has_utf8_address(t))
		return REPLY(550, 5, 6, 7,
			     "an address needs SMTPUTF8, which the host does not offer");
	if (t->needs_smtputf8 && !features->smtputf8)
		return REPLY(550, 5, 6, 9,
			     "the header needs SMTPUTF8, which the host does not offer");
	if (t->envelope->body == BODY_BINARYMIME && !(chunking && features->binarymime))
		return REPLY(554, 5, 6, 3,
			     "the message needs BINARYMIME, which the host does not offer");
	if (t->requiretls && !features->requiretls && t->envelope->reverse_path.len > 0)
		return REPLY(550, 5, 7, 30, "REQUIRETLS is needed, which the host does not offer");
	/* RFC 2852 §4.1.4.1; and no other host is looked for that does (§7) */
	if (t->envelope->by_mode == BY_RETURN && !features->deliverby)
		return REPLY(550, 5, 3, 3,
			     "it is to be there by a time or come back, and the host does not "
			     "offer DELIVERBY");
	if (t->envelope->by_mode == BY_RETURN &&
	    (t->by_left_s <= 0 || t->by_left_s < (int64_t)features->by_min_s))
		return REPLY(550, 5, 4, 7, "it cannot be there by the time its sender asked for");
	return (struct reply){ 0 };
}
