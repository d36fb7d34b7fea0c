/* received: see received.h. */
#include "mta/received.h"

#include "mta/base/clock.h"
#include "mta/base/id.h"

static const char *
protocol(const struct received_facts *facts)
{
	if (facts->utf8)
		return "UTF8SMTP";		/* RFC 6531 §4.3 */
	return facts->esmtp ? "ESMTP" : "SMTP";
}

/* The name the client gave itself is printed as an atom: what could end it, or start a comment, becomes '?'. */
static void
put_helo(struct span helo, bool utf8, struct buf *out)
{
	if (helo.len == 0) {
		buf_append(out, SPAN("unknown"));
		return;
	}
	for (size_t i = 0; i < helo.len && i < 255; i++) {
		unsigned char c = (unsigned char)helo.at[i];
		bool fine = c > 32 && c != 127 && strchr("()<>;\\\"", c) == NULL && (utf8 || c < 128);

		buf_byte(out, fine ? (char)c : '?');
	}
}

void
received_line(const struct received_facts *facts, struct buf *out)
{
	char text[NETADDR_TEXT_MAX], id[ID_TEXT_LEN + 1], date[RFC5322_DATE_MAX];

	buf_append(out, SPAN("Received: "));
	if (facts->local) {
		buf_printf(out, "from localhost (uid %u)\r\n\t", facts->uid);
	} else {
		buf_append(out, SPAN("from "));
		put_helo(facts->helo, facts->utf8, out);
		buf_printf(out, " (%s)\r\n\t", netaddr_format_literal(facts->client, text));
	}
	buf_printf(out, "by %.*s (tram) with %s id %s", SPAN_FMT(facts->hostname), protocol(facts),
		   id_format(facts->id, id));
	if (facts->recipient.len > 0 && facts->recipient.len < 900)
		buf_printf(out, "\r\n\tfor <%.*s>", SPAN_FMT(facts->recipient));
	buf_printf(out, ";\r\n\t%s\r\n", clock_rfc5322(facts->now_ms, date));
}

struct span
received_client(const struct received_facts *facts, struct arena *arena)
{
	char text[NETADDR_TEXT_MAX];

	if (facts->local)
		return arena_printf(arena, "uid=%u with=local", facts->uid);
	return arena_printf(arena, "client=%s helo=%.*s with=%s", netaddr_format_port(facts->client, text),
			    SPAN_FMT(facts->helo), protocol(facts));
}
