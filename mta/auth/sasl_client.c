/*
 * sasl_client: see sasl_client.h. A state says which reply is awaited; 334 moves on, 235 ends it
 * well where the mechanism may end, and anything else ends it.
 */
#include "mta/auth/sasl_client.h"

#include <assert.h>

#include "mta/auth/prep.h"
#include "mta/auth/scram_private.h"
#include "mta/base/base64.h"

enum client_state {
	CLIENT_NEW,
	CLIENT_BARE,			/* AUTH was sent without an initial response */
	CLIENT_LOGIN_PASSWORD,		/* LOGIN: the name was sent */
	CLIENT_LAST,			/* all was sent: 235 */
	CLIENT_SCRAM_FIRST,		/* our first message was sent */
	CLIENT_SCRAM_FINAL,		/* our proof was sent */
	CLIENT_SCRAM_LAST,		/* the server's proof was good: 235 */
	CLIENT_CANCELLED,		/* "*" was sent, or the answer to an error about a token */
	CLIENT_ENDED,
};

/* Above it a loop would stand too long (some 10 ms). */
enum { ITERATIONS_INLINE = 20000, COMMAND_MAX = 512, SERVER_ERROR_MAX = 300 };

bool
sasl_client_choose(const struct sasl_client_config *config, unsigned offered,
		   enum sasl_mechanism *ret)
{
	unsigned possible = 0;

	if (config->password.len > 0)
		possible |= 1u << SASL_LOGIN | 1u << SASL_PLAIN | 1u << SASL_SCRAM_SHA_256;
	if (config->password.len > 0 && config->binding.len > 0)
		possible |= 1u << SASL_SCRAM_SHA_256_PLUS;
	if (config->token.len > 0)
		possible |= 1u << SASL_XOAUTH2 | 1u << SASL_OAUTHBEARER;
	if (config->authzid.len > 0)
		possible &= ~(1u << SASL_LOGIN | 1u << SASL_XOAUTH2);	/* they have none */
	if (config->certificate)
		possible |= 1u << SASL_EXTERNAL;
	possible &= offered & config->allowed;
	for (unsigned i = SASL_MECHANISMS; i-- > 0;)
		if ((possible & 1u << i) != 0) {
			*ret = (enum sasl_mechanism)i;
			return true;
		}
	return false;
}

static bool
is_scram(const struct sasl_client *c)
{
	return c->mechanism == SASL_SCRAM_SHA_256 || c->mechanism == SASL_SCRAM_SHA_256_PLUS;
}

static bool
has_token(const struct sasl_client *c)
{
	return c->mechanism == SASL_XOAUTH2 || c->mechanism == SASL_OAUTHBEARER;
}

/* What cannot be prepared goes as it is. */
static void
prepare(bool (*prep)(struct span, struct buf *), struct span raw, struct buf *out)
{
	if (raw.len > 0 && !prep(raw, out))
		buf_append(out, raw);
}

void
sasl_client_init(struct sasl_client *c, const struct sasl_client_config *config,
		 enum sasl_mechanism mechanism)
{
	*c = (struct sasl_client){ .config = config, .mechanism = mechanism };
	prepare(prep_name, config->user, &c->user);
	prepare(prep_name, config->authzid, &c->authzid);
	prepare(prep_password, config->password, &c->password);
}

void
sasl_client_free(struct sasl_client *c)
{
	buf_wipe(&c->out);
	buf_wipe(&c->text);
	buf_wipe(&c->password);
	buf_free(&c->user);
	buf_free(&c->authzid);
	buf_free(&c->server_error);
	scram_client_free(&c->scram);
	*c = (struct sasl_client){ 0 };
}

static enum sasl_client_action
end_failed(struct sasl_client *c, const char *why, const struct reply *reply)
{
	c->state = CLIENT_ENDED;
	c->why = why;
	buf_clear(&c->text);
	buf_append(&c->text, reply->text);
	c->reply = *reply;
	c->reply.text = buf_span(&c->text);
	return SASL_CLIENT_FAILED;
}

static enum sasl_client_action
fail_ourselves(struct sasl_client *c, const char *why)
{
	struct reply reply = REPLY(454, 4, 7, 0, "");

	reply.text = span_str(why);
	return end_failed(c, why, &reply);
}

static enum sasl_client_action
send_line(struct sasl_client *c, struct span message, enum client_state next)
{
	base64_encode(message, &c->out);
	buf_append(&c->out, SPAN("\r\n"));
	c->state = next;
	return SASL_CLIENT_SEND;
}

/* We cannot go on: the exchange is ended by the book, then the failure is told. */
static enum sasl_client_action
cancel(struct sasl_client *c, const char *why)
{
	c->why = why;
	c->state = CLIENT_CANCELLED;
	buf_append(&c->out, SPAN("*\r\n"));
	return SASL_CLIENT_SEND;
}

static void
put_oauthbearer(const struct sasl_client_config *config, struct buf *out)
{
	buf_append(out, SPAN("n,a="));
	scram_name_encode(config->authzid.len > 0 ? config->authzid : config->user, out);
	buf_append(out, SPAN(",\1"));
	if (config->host.len > 0)
		buf_printf(out, "host=%.*s\1", SPAN_FMT(config->host));
	if (config->port != 0)
		buf_printf(out, "port=%u\1", config->port);
}

/* The mechanism's first message; LOGIN's is the name. */
static void
put_first(struct sasl_client *c, struct buf *out)
{
	const struct sasl_client_config *config = c->config;

	switch (c->mechanism) {
	case SASL_PLAIN:
		buf_append(out, config->authzid);
		buf_byte(out, '\0');
		buf_append(out, config->user);
		buf_byte(out, '\0');
		buf_append(out, config->password);
		break;
	case SASL_LOGIN:
		buf_append(out, config->user);
		break;
	case SASL_XOAUTH2:
		buf_append(out, SPAN("user="));
		buf_append(out, config->user);
		buf_byte(out, '\1');
		break;
	case SASL_OAUTHBEARER:
		put_oauthbearer(config, out);
		break;
	case SASL_EXTERNAL:
		buf_append(out, config->authzid);
		break;
	default:
		scram_client_first(&c->scram, out);
	}
	if (has_token(c)) {
		buf_append(out, SPAN("auth=Bearer "));
		buf_append(out, config->token);
		buf_append(out, SPAN("\1\1"));
	}
}

/* At once: growing would leave pieces of secrets behind. */
static struct buf
room_for_first(const struct sasl_client *c)
{
	const struct sasl_client_config *config = c->config;
	struct buf room = { 0 };

	buf_reserve(&room, config->user.len * 3 + config->authzid.len * 3 + config->password.len +
				   config->token.len + config->host.len + SCRAM_NONCE_MAX + 64);
	return room;
}

static enum client_state
after_first(const struct sasl_client *c)
{
	if (is_scram(c))
		return CLIENT_SCRAM_FIRST;
	return c->mechanism == SASL_LOGIN ? CLIENT_LOGIN_PASSWORD : CLIENT_LAST;
}

enum sasl_client_action
sasl_client_start(struct sasl_client *c)
{
	const struct sasl_client_config *config = c->config;
	struct span name = sasl_name(c->mechanism);
	struct buf first = room_for_first(c);
	enum sasl_client_action action = SASL_CLIENT_SEND;

	assert(c->state == CLIENT_NEW);
	c->scram.user = buf_span(&c->user);
	c->scram.authzid = buf_span(&c->authzid);
	c->scram.password = buf_span(&c->password);
	c->scram.binding = config->binding;
	c->scram.plus = c->mechanism == SASL_SCRAM_SHA_256_PLUS;
	if (config->nonce.len < SCRAM_NONCE_MAX && config->nonce.len > 0)
		memcpy(c->scram.nonce, config->nonce.at, config->nonce.len);
	buf_append(&c->out, SPAN("AUTH "));
	buf_append(&c->out, name);
	if (c->mechanism != SASL_LOGIN)		/* some know no initial response there */
		put_first(c, &first);
	/* RFC 4954 §4: what would make the command too long waits for a 334 */
	if (c->mechanism == SASL_LOGIN ||
	    buf_len(&c->out) + 1 + (buf_len(&first) + 2) / 3 * 4 + 2 > COMMAND_MAX) {
		buf_append(&c->out, SPAN("\r\n"));
		c->state = CLIENT_BARE;
	} else if (buf_len(&first) == 0) {
		buf_append(&c->out, SPAN(" =\r\n"));
		c->state = after_first(c);
	} else {
		buf_byte(&c->out, ' ');
		action = send_line(c, buf_span(&first), after_first(c));
	}
	buf_wipe(&first);
	return action;
}

static enum sasl_client_action
send_first(struct sasl_client *c)
{
	struct buf first = room_for_first(c);
	enum sasl_client_action action;

	if (is_scram(c) && buf_len(&c->scram.text) > 0) /* it was too long for the command */
		buf_append(&first, buf_span(&c->scram.text));
	else
		put_first(c, &first);
	action = send_line(c, buf_span(&first), after_first(c));
	buf_wipe(&first);
	return action;
}

/* An error about a token: told once more, as a code, when we have answered (RFC 7628 §3.2.3). */
static enum sasl_client_action
take_token_error(struct sasl_client *c, struct span message)
{
	message = span_first(message, SERVER_ERROR_MAX);
	for (size_t i = 0; i < message.len; i++)
		buf_byte(&c->server_error,
			 message.at[i] < ' ' || message.at[i] > '~' ? '?' : message.at[i]);
	c->token_refused = true;
	return send_line(c, c->mechanism == SASL_OAUTHBEARER ? SPAN("\1") : SPAN(""),
			 CLIENT_CANCELLED);
}

static enum sasl_client_action
send_proof(struct sasl_client *c)
{
	struct buf message = { 0 };
	enum sasl_client_action action;

	scram_client_final(&c->scram, &message);
	action = send_line(c, buf_span(&message), CLIENT_SCRAM_FINAL);
	buf_free(&message);
	return action;
}

void
sasl_client_work(struct sasl_client *c)
{
	scram_client_calculate(&c->scram);
}

enum sasl_client_action
sasl_client_worked(struct sasl_client *c)
{
	return send_proof(c);
}

static enum sasl_client_action
take_challenge(struct sasl_client *c, struct span message)
{
	switch (c->state) {
	case CLIENT_BARE:
		return send_first(c);
	case CLIENT_LOGIN_PASSWORD:
		return send_line(c, c->config->password, CLIENT_LAST);
	case CLIENT_LAST:
		return has_token(c) ? take_token_error(c, message) :
				      cancel(c, "the server asks on when all has been said");
	case CLIENT_SCRAM_FIRST:
		if (!scram_client_read(&c->scram, message))
			return cancel(c, c->scram.why);
		if (c->scram.iterations > ITERATIONS_INLINE)
			return SASL_CLIENT_WORK;
		scram_client_calculate(&c->scram);
		return send_proof(c);
	case CLIENT_SCRAM_FINAL:
		if (!scram_client_verify(&c->scram, message))
			return cancel(c, c->scram.why);
		return send_line(c, SPAN(""), CLIENT_SCRAM_LAST);
	case CLIENT_SCRAM_LAST:
		return cancel(c, "the server asks on when all has been said");
	default:
		return fail_ourselves(c, "the server asks on after the exchange was cancelled");
	}
}

static enum sasl_client_action
take_334(struct sasl_client *c, struct span text)
{
	enum sasl_client_action action;
	struct buf message = { 0 };
	size_t len = 0;
	char *to;

	text = span_trim(text);
	/* some put words where base64 belongs, and mean nothing by them */
	if (c->state == CLIENT_BARE || c->state == CLIENT_LOGIN_PASSWORD)
		return take_challenge(c, SPAN(""));
	to = buf_reserve(&message, text.len / 4 * 3 + 1);
	if (text.len > SASL_LINE_MAX || !base64_decode_to(text, to, &len)) {
		buf_free(&message);
		return c->state == CLIENT_CANCELLED ?
			       fail_ourselves(c, "the server asks on after the end") :
			       cancel(c, "the server's challenge is not base64");
	}
	buf_grew(&message, len);
	action = take_challenge(c, buf_span(&message));
	buf_free(&message);
	return action;
}

/* Are the credentials themselves refused, not the mechanism, the session or the moment? */
static bool
refuses_credentials(const struct reply *reply)
{
	return reply->code == 535 || reply->code == 525 ||
	       (reply_class(reply) == 5 && reply->status.subject == 7 &&
		(reply->status.detail == 8 || reply->status.detail == 13));
}

enum sasl_client_action
sasl_client_reply(struct sasl_client *c, const struct reply *reply)
{
	assert(c->state != CLIENT_NEW && c->state != CLIENT_ENDED);
	buf_clear(&c->out);
	if (reply->code == 334)
		return take_334(c, reply->text);
	if (reply_class(reply) == 2) {
		if (c->state == CLIENT_LAST || c->state == CLIENT_SCRAM_LAST) {
			c->state = CLIENT_ENDED;
			return SASL_CLIENT_DONE;
		}
		return fail_ourselves(c, is_scram(c) ?
			"the server says yes without having proved that it knows the password" :
			"the server says yes before anything was proved to it");
	}
	if (c->state == CLIENT_CANCELLED && !c->token_refused)
		return fail_ourselves(c, c->why);
	c->refused = refuses_credentials(reply);
	if (has_token(c) && c->refused)
		c->token_refused = true;
	return end_failed(c, NULL, reply);
}
