/* dovecot_codec: see dovecot_codec.h. */
#include "mta/auth/dovecot_codec.h"

#include "mta/auth/sasl.h"
#include "mta/base/address.h"
#include "mta/base/base64.h"

enum { HANDSHAKE_LINES_MAX = 1000 };

void
dovecot_codec_free(struct dovecot_codec *c)
{
	buf_free(&c->line);
	buf_free(&c->unescaped);
	*c = (struct dovecot_codec){ 0 };
}

static enum dovecot_event
broken(struct dovecot_codec *c, const char *why)
{
	c->why = why;
	return DOVECOT_BROKEN;
}

/* Dovecot's tab-escaping; appended to unescaped, which has room. */
static struct span
unescape(struct dovecot_codec *c, struct span text)
{
	size_t before = c->unescaped.end;

	for (size_t i = 0; i < text.len; i++) {
		char octet = text.at[i];

		if (octet == '\1' && i + 1 < text.len) {
			octet = text.at[++i];
			octet = octet == '0' ? '\0' : octet == '1' ? '\1' : octet == 't' ? '\t' :
				octet == 'r' ? '\r' : octet == 'n' || octet == 'l' ? '\n' : octet;
		}
		buf_byte(&c->unescaped, octet);
	}
	return span_of(c->unescaped.at + before, c->unescaped.end - before);
}

static bool
has_control(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.at[i] < ' ' || s.at[i] == 127)
			return true;
	return false;
}

static bool
take_id(struct dovecot_codec *c, struct span *rest)
{
	uint64_t id;

	if (!span_to_u64(span_cut(rest, '\t'), UINT32_MAX, &id))
		return false;
	c->id = (uint32_t)id;
	return true;
}

static bool
take_user(struct dovecot_codec *c, struct span value)
{
	c->user = unescape(c, value);
	return c->user.len > 0 && c->user.len <= DOVECOT_NAME_MAX && !has_control(c->user) &&
	       utf8_valid(c->user);
}

/* For the log only: whatever it is. */
static void
take_reason(struct dovecot_codec *c, struct span value)
{
	c->reason = unescape(c, span_first(value, DOVECOT_REASON_MAX));
}

static void
take_code(struct dovecot_codec *c, struct span code)
{
	if (span_eq(code, SPAN("temp_fail")) || span_eq(code, SPAN("temp")))
		c->failure = DOVECOT_TEMPORARY;
	else if (span_eq(code, SPAN("authz_fail")) || span_eq(code, SPAN("authz")))
		c->failure = DOVECOT_AUTHZ;
	else if (span_eq(code, SPAN("user_disabled")))
		c->failure = DOVECOT_DISABLED;
	else if (span_eq(code, SPAN("pass_expired")))
		c->failure = DOVECOT_EXPIRED;
}

static enum dovecot_event
take_result(struct dovecot_codec *c, struct span rest, enum dovecot_event event)
{
	c->failure = DOVECOT_REFUSED;
	c->user = c->reason = SPAN("");
	if (!take_id(c, &rest))
		return broken(c, "a result without an id");
	buf_clear(&c->unescaped);
	buf_reserve(&c->unescaped, rest.len + 1);
	while (rest.len > 0) {
		struct span value = span_cut(&rest, '\t'), key = span_cut(&value, '=');

		if (span_eq(key, SPAN("user")) && c->user.len == 0) {
			if (!take_user(c, value))
				return broken(c, "a user's name that is none");
		} else if (span_eq(key, SPAN("reason")) && c->reason.len == 0) {
			take_reason(c, value);
		} else if (event == DOVECOT_FAIL) {
			take_code(c, span_eq(key, SPAN("code")) ? value : key);
		}
	}
	return event;
}

static enum dovecot_event
take_cont(struct dovecot_codec *c, struct span rest)
{
	if (!take_id(c, &rest))
		return broken(c, "a challenge without an id");
	c->data = span_cut(&rest, '\t');
	return DOVECOT_CONT;
}

static void
take_mechanism(struct dovecot_codec *c, struct span rest)
{
	struct span name = span_cut(&rest, '\t');
	enum sasl_mechanism mechanism;

	while (rest.len > 0)
		if (span_eq(span_cut(&rest, '\t'), SPAN("private")))
			return;
	if (sasl_find(name, &mechanism))
		c->mechanisms |= 1u << mechanism;
}

static enum dovecot_event
take_handshake(struct dovecot_codec *c, struct span command, struct span rest)
{
	if (++c->lines > HANDSHAKE_LINES_MAX)
		return broken(c, "a handshake without end");
	if (!c->version_seen) {
		c->version_seen = span_eq(command, SPAN("VERSION")) &&
				  span_eq(span_cut(&rest, '\t'), SPAN("1"));
		return c->version_seen
			       ? DOVECOT_MORE
			       : broken(c, "it does not begin with VERSION 1: not Dovecot's "
					   "socket for clients (auth-client)");
	}
	if (span_eq(command, SPAN("MECH")))
		take_mechanism(c, rest);
	if (!span_eq(command, SPAN("DONE")))
		return DOVECOT_MORE;
	c->ready = true;
	return DOVECOT_READY;
}

static enum dovecot_event
take_line(struct dovecot_codec *c, struct span line)
{
	struct span rest = line, command = span_cut(&rest, '\t');

	if (!c->ready)
		return take_handshake(c, command, rest);
	if (span_eq(command, SPAN("OK")))
		return take_result(c, rest, DOVECOT_OK);
	if (span_eq(command, SPAN("FAIL")))
		return take_result(c, rest, DOVECOT_FAIL);
	if (span_eq(command, SPAN("CONT")))
		return take_cont(c, rest);
	return DOVECOT_MORE;		/* what newer ones say besides */
}

size_t
dovecot_codec_take(struct dovecot_codec *c, struct span in, enum dovecot_event *event)
{
	size_t taken = 0;

	if (c->why != NULL) {
		*event = DOVECOT_BROKEN;
		return in.len;
	}
	*event = DOVECOT_MORE;
	while (*event == DOVECOT_MORE && taken < in.len) {
		struct span rest = span_skip(in, taken);
		const char *newline = span_find(rest, '\n');
		struct span piece =
			span_first(rest, newline ? (size_t)(newline - rest.at) : rest.len);

		if (c->complete)
			buf_clear(&c->line);
		c->complete = newline != NULL;
		taken += piece.len + (newline != NULL);
		if (buf_len(&c->line) + piece.len > DOVECOT_LINE_MAX) {
			*event = broken(c, "a line without end");
			return in.len;
		}
		buf_append(&c->line, piece);
		if (newline != NULL)
			*event = take_line(c, buf_span(&c->line));
	}
	return *event == DOVECOT_BROKEN ? in.len : taken;
}

static void
put_escaped(struct span text, struct buf *out)
{
	static const char specials[5] = { '\0', '\1', '\t', '\r', '\n' };

	for (size_t i = 0; i < text.len; i++) {
		const char *special = memchr(specials, text.at[i], sizeof(specials));

		if (special == NULL) {
			buf_byte(out, text.at[i]);
			continue;
		}
		buf_byte(out, '\1');
		buf_byte(out, "01trn"[special - specials]);
	}
}

void
dovecot_put_hello(uint32_t pid, struct buf *out)
{
	buf_printf(out, "VERSION\t1\t2\nCPID\t%u\n", pid);
}

static void
put_address(const char *letter, const struct netaddr *addr, struct buf *out)
{
	char text[NETADDR_TEXT_MAX];

	if (addr == NULL || (addr->family != AF_INET && addr->family != AF_INET6))
		return;
	buf_printf(out, "\t%sip=%s\t%sport=%u", letter, netaddr_format(addr, text), letter,
		   addr->port);
}

void
dovecot_put_auth(uint32_t id, struct span mechanism, struct span service,
		 const struct dovecot_facts *facts, const struct span *initial, struct buf *out)
{
	/* at once: growing would leave pieces of a password behind */
	buf_reserve(out, 512 + service.len * 2 + facts->session.len * 2 +
				 (initial != NULL ? initial->len * 2 : 0));
	buf_printf(out, "AUTH\t%u\t%.*s\tservice=", id, SPAN_FMT(mechanism));
	put_escaped(service, out);
	buf_append(out, SPAN("\tnologin"));
	if (facts->tls)
		buf_append(out, SPAN("\tsecured=tls"));
	if (facts->valid_certificate)
		buf_append(out, SPAN("\tvalid-client-cert"));
	put_address("r", facts->client, out);
	put_address("l", facts->local, out);
	if (facts->session.len > 0) {
		buf_append(out, SPAN("\tsession="));
		put_escaped(facts->session, out);
	}
	if (initial != NULL) {
		buf_append(out, SPAN("\tresp="));
		base64_encode(*initial, out);
	}
	buf_byte(out, '\n');
}

void
dovecot_put_cont(uint32_t id, struct span response, struct buf *out)
{
	buf_reserve(out, 32 + response.len * 2);
	buf_printf(out, "CONT\t%u\t", id);
	base64_encode(response, out);
	buf_byte(out, '\n');
}

void
dovecot_put_cancel(uint32_t id, struct buf *out)
{
	buf_printf(out, "CANCEL\t%u\n", id);
}
