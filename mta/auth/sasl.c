/*
 * sasl: see sasl.h. A state says which line is awaited; a question, what the owner is finding out.
 * Each mechanism is a function that takes the decoded message of its state.
 */
#include "mta/auth/sasl.h"

#include <assert.h>
#include <stdlib.h>

#include "mta/auth/prep.h"
#include "mta/auth/sasl_private.h"
#include "mta/base/base64.h"

enum sasl_state {
	STATE_NEW,
	STATE_FIRST,			/* the first message of the mechanism */
	STATE_LOGIN_PASSWORD,
	STATE_SCRAM_FINAL,
	STATE_SCRAM_LAST,		/* the empty answer to the server's signature */
	STATE_RELAY,
	STATE_TOKEN_LAST,		/* whatever the client says to the error in JSON */
	STATE_ENDED,
};

enum { NAMES_ROOM = 4 * (SASL_NAME_MAX + 1) };

static enum sasl_action
end_with(struct sasl *s, enum sasl_failure failure, const char *why, struct reply reply)
{
	explicit_bzero(s->decoded.at ? s->decoded.at : (char[1]){ 0 }, s->decoded.cap);
	s->password = s->token = s->message = SPAN("");
	s->state = STATE_ENDED;
	s->asked = false;
	s->failure = failure;
	s->why = why;
	s->reply = reply;
	return failure == SASL_NO_FAILURE ? SASL_SUCCESS : SASL_FAIL;
}

static enum sasl_action
end_well(struct sasl *s)
{
	return end_with(s, SASL_NO_FAILURE, NULL,
			REPLY(235, 2, 7, 0, "authentication successful"));
}

/* One text for all that is wrong with credentials. */
static enum sasl_action
end_refused(struct sasl *s, const char *why)
{
	return end_with(s, SASL_BAD_CREDENTIALS, why,
			REPLY(535, 5, 7, 8, "authentication failed"));
}

static enum sasl_action
end_malformed(struct sasl *s, const char *why)
{
	return end_with(s, SASL_BAD_SYNTAX, why,
			REPLY(501, 5, 5, 2, "not a message of this mechanism"));
}

static enum sasl_action
end_temporary(struct sasl *s, const char *why)
{
	return end_with(s, SASL_BACKEND_FAILED, why,
			REPLY(454, 4, 7, 0, "temporary authentication failure, try again later"));
}

static enum sasl_action
challenge(struct sasl *s, enum sasl_state next, struct span text)
{
	s->state = next;
	buf_clear(&s->challenge);
	base64_encode(text, &s->challenge);
	return SASL_CHALLENGE;
}

static enum sasl_action
ask(struct sasl *s, enum sasl_action question)
{
	s->asked = true;
	s->question = question;
	return question;
}

/* Prepared, into names, where there is room for all that ever comes. */
static bool
take_name(struct sasl *s, struct span raw, struct span *ret)
{
	size_t before = s->names.end;

	if (raw.len > SASL_NAME_MAX || !prep_name(raw, &s->names))
		return false;
	*ret = span_of(s->names.at + before, s->names.end - before);
	assert(s->names.end <= NAMES_ROOM);
	return true;
}

/* user, and authzid if it is not empty. Acting as oneself is no wish to act as another. */
static bool
take_names(struct sasl *s, struct span user, struct span authzid)
{
	if (!take_name(s, user, &s->user))
		return false;
	if (authzid.len > 0 && !take_name(s, authzid, &s->authzid))
		return false;
	if (span_eq(s->authzid, s->user))
		s->authzid = SPAN("");
	return true;
}

static bool
may_act_as(const struct sasl *s)
{
	return s->authzid.len == 0 || s->config->authzid_allowed;
}

static enum sasl_action
ask_password(struct sasl *s, struct span password)
{
	if (!may_act_as(s))
		return end_refused(s, "wants to act as another user");
	if (password.len == 0 || password.len > PREP_PASSWORD_MAX ||
	    span_find(password, '\0') != NULL)
		return end_refused(s, "no password, or one that none can have");
	s->password = password;
	return ask(s, SASL_VERIFY_PASSWORD);
}

static enum sasl_action
take_plain(struct sasl *s, struct span message)
{
	struct span authzid, user;

	if (span_find(message, '\0') == NULL)
		return end_malformed(s, "no NUL in PLAIN");
	authzid = span_cut(&message, '\0');
	if (span_find(message, '\0') == NULL)
		return end_malformed(s, "one NUL in PLAIN");
	user = span_cut(&message, '\0');
	if (!take_names(s, user, authzid))
		return end_refused(s, "a name that none can have");
	return ask_password(s, message);
}

static enum sasl_action
take_login(struct sasl *s, struct span message)
{
	/* what is wrong with the name shows when the password has been asked for, as with any */
	if (!take_names(s, message, SPAN("")))
		s->user = SPAN("");
	return challenge(s, STATE_LOGIN_PASSWORD, SPAN("Password:"));
}

static enum sasl_action
take_login_password(struct sasl *s, struct span message)
{
	if (s->user.len == 0)
		return end_refused(s, "a name that none can have");
	return ask_password(s, message);
}

static enum sasl_action
take_token(struct sasl *s, struct span message)
{
	struct span user = SPAN(""), authzid = SPAN(""), token;
	struct buf decoded = { 0 };
	bool good;

	good = s->mechanism == SASL_XOAUTH2 ?
		       sasl_parse_xoauth2(message, &user, &token) :
		       sasl_parse_oauthbearer(message, &decoded, &user, &token);
	if (good && user.len > 0)
		good = take_names(s, user, authzid);
	buf_free(&decoded);
	if (!good)
		return end_malformed(s, "not the form of this mechanism's message");
	s->token = token;
	s->message = message;
	return ask(s, SASL_VERIFY_TOKEN);
}

static enum sasl_action
take_external(struct sasl *s, struct span message)
{
	struct span wanted = message;

	if (!take_name(s, s->facts.external, &s->user))
		return end_refused(s, "the certificate names nobody");
	if (wanted.len > 0 && !take_name(s, wanted, &s->authzid))
		return end_refused(s, "a name that none can have");
	if (span_ieq(s->authzid, s->user))
		s->authzid = SPAN("");
	if (s->authzid.len > 0)
		return end_refused(s, "wants to act as another than the certificate's user");
	return ask(s, SASL_ADMIT);
}

static enum sasl_action
take_scram_first(struct sasl *s, struct span message)
{
	bool relayed = (s->config->relayed & 1u << s->mechanism) != 0;
	enum scram_result result;

	s->scram.plus = s->mechanism == SASL_SCRAM_SHA_256_PLUS;
	s->scram.plus_offered =
		(sasl_offered(s->config, &s->facts) & 1u << SASL_SCRAM_SHA_256_PLUS) != 0;
	s->scram.binding = s->facts.binding;
	if (s->facts.nonce.len > 0 && s->facts.nonce.len < SCRAM_NONCE_MAX)
		memcpy(s->scram.nonce, s->facts.nonce.at, s->facts.nonce.len);
	result = scram_server_first(&s->scram, message);
	if (result == SCRAM_MALFORMED)
		return end_malformed(s, "not a SCRAM message");
	if (!take_names(s, s->scram.user, s->scram.authzid))
		return end_refused(s, "a name that none can have");
	if (result == SCRAM_REFUSED)
		return end_refused(s, s->scram.why);
	if (!may_act_as(s))
		return end_refused(s, "wants to act as another user");
	if (relayed) {
		s->message = message;
		return ask(s, SASL_RELAY);
	}
	return ask(s, SASL_FETCH_SCRAM);
}

static enum sasl_action
take_scram_final(struct sasl *s, struct span message)
{
	struct buf out = { 0 };
	enum sasl_action action;

	switch (scram_server_final(&s->scram, message, &out)) {
	case SCRAM_OK:
		action = challenge(s, STATE_SCRAM_LAST, buf_span(&out));
		break;
	case SCRAM_REFUSED:
		action = end_refused(s, s->scram.why);
		break;
	default:
		action = end_malformed(s, "not a SCRAM message");
	}
	buf_free(&out);
	return action;
}

static enum sasl_action
take_first(struct sasl *s, struct span message)
{
	switch (s->mechanism) {
	case SASL_PLAIN:
		return take_plain(s, message);
	case SASL_LOGIN:
		return take_login(s, message);
	case SASL_XOAUTH2:
	case SASL_OAUTHBEARER:
		return take_token(s, message);
	case SASL_EXTERNAL:
		return take_external(s, message);
	default:
		return take_scram_first(s, message);
	}
}

static enum sasl_action
take_message(struct sasl *s, struct span message)
{
	switch (s->state) {
	case STATE_FIRST:
		return take_first(s, message);
	case STATE_LOGIN_PASSWORD:
		return take_login_password(s, message);
	case STATE_SCRAM_FINAL:
		return take_scram_final(s, message);
	case STATE_SCRAM_LAST:
		if (message.len > 0)
			return end_malformed(s, "the last SCRAM message is not empty");
		return end_well(s);
	case STATE_RELAY:
		s->message = message;
		return ask(s, SASL_RELAY);
	default:
		assert(s->state == STATE_TOKEN_LAST);
		return end_refused(s, s->why);
	}
}

/* base64, or "=" for nothing if it stands behind AUTH. */
static enum sasl_action
take_base64(struct sasl *s, struct span text, bool initial)
{
	size_t len = 0;
	char *to;

	if (initial && span_eq(text, SPAN("=")))
		text = SPAN("");
	explicit_bzero(s->decoded.at ? s->decoded.at : (char[1]){ 0 }, s->decoded.cap);
	buf_clear(&s->decoded);
	to = buf_reserve(&s->decoded, text.len / 4 * 3 + 1);
	if (!base64_decode_to(text, to, &len))
		return end_with(s, SASL_BAD_SYNTAX, "bad base64",
				REPLY(501, 5, 5, 2, "cannot decode the response: not base64"));
	buf_grew(&s->decoded, len);
	return take_message(s, buf_span(&s->decoded));
}

static bool
too_long(const struct sasl *s, struct span line)
{
	return line.len > (s->config->max_line != 0 ? s->config->max_line : SASL_LINE_MAX);
}

static enum sasl_action
end_too_long(struct sasl *s)
{
	return end_with(s, SASL_BAD_SYNTAX, "the line is too long",
			REPLY(500, 5, 5, 6, "authentication exchange line is too long"));
}

void
sasl_init(struct sasl *s, const struct sasl_config *config, const struct sasl_facts *facts)
{
	*s = (struct sasl){ .config = config, .facts = *facts };
}

void
sasl_free(struct sasl *s)
{
	buf_wipe(&s->decoded);
	buf_wipe(&s->challenge);
	buf_free(&s->names);
	scram_server_free(&s->scram);
	*s = (struct sasl){ 0 };
}

enum sasl_action
sasl_start(struct sasl *s, struct span argument)
{
	struct span name, initial;
	bool has_initial;

	assert(s->state == STATE_NEW);
	if (too_long(s, argument))
		return end_too_long(s);
	argument = span_trim(argument);
	name = span_cut(&argument, ' ');
	initial = span_trim(argument);
	has_initial = initial.len > 0;
	if (name.len == 0 || span_find(initial, ' ') != NULL)
		return end_with(s, SASL_BAD_SYNTAX, "AUTH's syntax",
				REPLY(501, 5, 5, 4, "syntax: AUTH mechanism [initial-response]"));
	if (!sasl_find(name, &s->mechanism) ||
	    (sasl_offered(s->config, &s->facts) & 1u << s->mechanism) == 0)
		return end_with(s, SASL_BAD_SYNTAX, "a mechanism that is not offered",
				REPLY(504, 5, 5, 4, "unrecognized authentication type"));
	buf_reserve(&s->names, NAMES_ROOM);
	s->state = STATE_FIRST;
	if (has_initial)
		return take_base64(s, initial, true);
	return challenge(s, STATE_FIRST, s->mechanism == SASL_LOGIN ? SPAN("Username:") : SPAN(""));
}

enum sasl_action
sasl_line(struct sasl *s, struct span line)
{
	assert(!s->asked && s->state != STATE_NEW && s->state != STATE_ENDED);
	if (too_long(s, line))
		return end_too_long(s);
	if (s->state == STATE_TOKEN_LAST)
		return end_refused(s, s->why);
	if (span_eq(line, SPAN("*")))
		return end_with(s, SASL_CANCELLED, "cancelled by the client",
				REPLY(501, 5, 7, 0, "authentication cancelled"));
	return take_base64(s, line, false);
}

/* The backend's spelling, if it gave one that is a name. */
static bool
take_spelling(struct sasl *s, struct span user)
{
	struct span spelling;

	if (user.len == 0 || span_eq(user, s->user))
		return s->user.len > 0;
	if (!take_name(s, user, &spelling))
		return false;
	s->user = spelling;
	return true;
}

enum sasl_action
sasl_answer(struct sasl *s, enum sasl_verdict verdict, struct span user, const char *why)
{
	bool token = s->question == SASL_VERIFY_TOKEN;

	assert(s->asked && s->question != SASL_FETCH_SCRAM);
	s->asked = false;
	if (verdict == SASL_TEMPORARY)
		return end_temporary(s, why != NULL ? why : "the backend cannot tell");
	if (verdict == SASL_OK && !take_spelling(s, user))
		return end_temporary(s, "the backend names no user");
	if (verdict == SASL_OK)
		return end_well(s);
	if (!token)
		return end_refused(s, why != NULL ? why : "wrong password, or no such user");
	end_refused(s, why != NULL ? why : "the token is not accepted");
	return challenge(s, STATE_TOKEN_LAST, SPAN("{\"status\":\"401\",\"schemes\":\"bearer\"}"));
}

enum sasl_action
sasl_answer_scram(struct sasl *s, const struct scram_verifier *verifier, struct span user)
{
	uint32_t iterations = s->config->imagined_iterations;
	struct scram_verifier imagined;
	struct buf out = { 0 };
	enum sasl_action action;

	assert(s->asked && s->question == SASL_FETCH_SCRAM);
	s->asked = false;
	scram_verifier_imagine(span_of(s->config->secret, SCRAM_KEY), s->user,
			       iterations != 0 ? iterations : SCRAM_ITERATIONS, &imagined);
	if (verifier != NULL && !take_spelling(s, user))
		verifier = NULL;
	scram_server_challenge(&s->scram, verifier != NULL ? verifier : &imagined, &out);
	action = challenge(s, STATE_SCRAM_FINAL, buf_span(&out));
	buf_free(&out);
	return action;
}

enum sasl_action
sasl_answer_relay(struct sasl *s, struct span text)
{
	char *octets;
	size_t len;
	bool good;

	assert(s->asked && s->question != SASL_FETCH_SCRAM);
	s->asked = false;
	octets = xcalloc(1, text.len / 4 * 3 + 1);
	good = text.len <= SASL_LINE_MAX && base64_decode_to(text, octets, &len);
	free(octets);
	if (!good)
		return end_temporary(s, "the backend's challenge is not base64");
	if (s->question == SASL_VERIFY_TOKEN) {
		end_refused(s, "the token is not accepted");
		s->state = STATE_TOKEN_LAST;
	} else if (s->question == SASL_RELAY) {
		s->state = STATE_RELAY;
		s->message = SPAN("");
	} else {
		return end_temporary(s, "the backend asks on when all has been said");
	}
	buf_clear(&s->challenge);
	buf_append(&s->challenge, text);
	return SASL_CHALLENGE;
}
