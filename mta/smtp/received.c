/*
 * received: see received.h. No octet of what a client gave can end a line or a word of it. Any
 * thread.
 */
#include "mta/smtp/received.h"

#include "mta/base/address.h"
#include "mta/base/clock.h"
#include "mta/base/id.h"

enum { HELO_MAX = 255, RECIPIENT_MAX = 900 };

static const char *
protocol(const struct received_facts *facts)
{
	/* RFC 3848, RFC 6531 §4.3; by tls, auth */
	static const char *const names[2][2] = { { "ESMTP", "ESMTPA" }, { "ESMTPS", "ESMTPSA" } };
	static const char *const utf8[2][2] = { { "UTF8SMTP", "UTF8SMTPA" },
						{ "UTF8SMTPS", "UTF8SMTPSA" } };

	if (facts->utf8)
		return utf8[facts->tls][facts->auth];
	return facts->esmtp ? names[facts->tls][facts->auth] : "SMTP";
}

/*
 * The name the client gave itself is printed as an atom: what could end it, or start a comment,
 * becomes '?'. So does what is not ASCII, even under SMTPUTF8: our own line must not be what
 * makes a message need it.
 */
static void
put_helo(struct span helo, struct buf *out)
{
	if (helo.len == 0) {
		buf_append(out, SPAN("unknown"));
		return;
	}
	for (size_t i = 0; i < helo.len && i < HELO_MAX; i++) {
		char c = helo.at[i];
		bool fine = c > ' ' && c <= '~' && strchr("()<>;,\\\"", c) == NULL;

		buf_byte(out, fine ? c : '?');
	}
	if (helo.len > HELO_MAX)
		buf_append(out, SPAN("..."));
}

/*
 * Parsed addresses hold no control octets; nothing else is taken on trust where a line could
 * begin.
 */
static bool
can_be_shown(struct span recipient, bool utf8)
{
	if (recipient.len == 0 || recipient.len > RECIPIENT_MAX || (utf8 && !utf8_valid(recipient)))
		return false;
	for (size_t i = 0; i < recipient.len; i++) {
		unsigned char c = (unsigned char)recipient.at[i];

		if (c < ' ' || c == 127 || (c > 127 && !utf8))
			return false;
	}
	return true;
}

/* What printf would do, for each message, at a tenth of its cost. */
static void
put_words(struct buf *out, const char *before, struct span middle, const char *behind)
{
	buf_append(out, span_str(before));
	buf_append(out, middle);
	buf_append(out, span_str(behind));
}

void
received_line(const struct received_facts *facts, struct buf *out)
{
	char text[NETADDR_TEXT_MAX], id[ID_TEXT_LEN + 1], date[RFC5322_DATE_MAX];

	buf_append(out, SPAN("Received: "));
	if (facts->local) {
		buf_printf(out, "from localhost (uid %u)\r\n\t", facts->uid);
	} else if (facts->hidden) { /* RFC 5321 wants a name, and nobody has this one (RFC 6761) */
		buf_append(out, SPAN("from hidden.invalid\r\n\t"));
	} else {
		buf_append(out, SPAN("from "));
		put_helo(facts->helo, out);
		put_words(out, " (", span_str(netaddr_format_literal(facts->client, text)),
			  ")\r\n\t");
	}
	put_words(out, "by ", facts->hostname, " (tram) with ");
	buf_append(out, span_str(protocol(facts)));
	if (facts->tls_text.len > 0)
		put_words(out, " (", facts->tls_text, ")\r\n\t");
	else
		buf_byte(out, ' ');
	put_words(out, "id ", span_str(id_format(facts->id, id)), "");
	if (can_be_shown(facts->recipient, facts->utf8))
		put_words(out, "\r\n\tfor <", facts->recipient, ">");
	if (facts->priority != 0)	/* an additional registered clause: RFC 6710 */
		buf_printf(out, "\r\n\tPRIORITY %d", facts->priority);
	put_words(out, ";\r\n\t", span_str(clock_rfc5322(facts->now_ms, date)), "\r\n");
}

struct span
received_client(const struct received_facts *facts, struct arena *arena)
{
	char text[NETADDR_TEXT_MAX];
	struct buf out = { 0 };
	struct span ret;

	if (facts->local)
		return arena_printf(arena, "uid=%u with=local", facts->uid);
	put_words(&out, "client=", span_str(netaddr_format_port(facts->client, text)), " helo=");
	put_helo(facts->helo, &out);
	put_words(&out, " with=", span_str(protocol(facts)), "");
	ret = arena_copy(arena, buf_span(&out));
	buf_free(&out);
	return ret;
}
