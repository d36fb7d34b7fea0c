/*
 * fuzz_sasl: any lines as an AUTH exchange. Nobody comes in without the owner's word, names are
 * clean, secrets are gone at the end. The first octet sets the configuration; the first line is
 * what stands behind AUTH.
 */
#include <assert.h>
#include <stdlib.h>

#include "mta/auth/sasl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char octets[] = "0123456789abcdef0123456789abcdef";

static void
check_name(struct span name)
{
	assert(name.len <= SASL_NAME_MAX);
	for (size_t i = 0; i < name.len; i++)
		assert((unsigned char)name.at[i] >= ' ' && name.at[i] != 127);
}

static enum sasl_action
answer(struct sasl *s, enum sasl_action action, bool *said_yes)
{
	struct scram_verifier verifier;

	check_name(s->user);
	check_name(s->authzid);
	if (action == SASL_FETCH_SCRAM) {
		*said_yes = span_eq(s->user, SPAN("user"));	/* if the proof fits */
		assert(scram_verifier_parse(SPAN("{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,"
						 "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
						 "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="),
					    &verifier) == NULL);
		return sasl_answer_scram(s, *said_yes ? &verifier : NULL, SPAN("user"));
	}
	if (action == SASL_VERIFY_PASSWORD)
		assert(s->password.len > 0 && span_find(s->password, '\0') == NULL &&
		       s->user.len > 0);
	if (action == SASL_VERIFY_TOKEN)
		assert(s->token.len > 0);
	if (action == SASL_RELAY && s->message.len % 3 == 1)
		return sasl_answer_relay(s, s->message.len % 2 != 0 ? SPAN("YWJj") : SPAN("?"));
	if (s->user.len % 4 == 1)
		return sasl_answer(s, SASL_TEMPORARY, SPAN(""), NULL);
	*said_yes = s->user.len % 4 != 2;
	return sasl_answer(s, *said_yes ? SASL_OK : SASL_REFUSED,
			   s->user.len % 3 == 0 ? SPAN("spelling") : SPAN(""), NULL);
}

static void
check_end(const struct sasl *s, enum sasl_action action, bool said_yes)
{
	if (action == SASL_SUCCESS) {
		assert(said_yes && s->reply.code == 235 && s->user.len > 0 &&
		       s->failure == SASL_NO_FAILURE);
	} else {
		assert(s->reply.code == 500 || s->reply.code == 501 || s->reply.code == 504 ||
		       s->reply.code == 535 || s->reply.code == 454);
		assert(s->why != NULL && s->failure != SASL_NO_FAILURE);
		assert((s->reply.code == 535) == (s->failure == SASL_BAD_CREDENTIALS));
	}
	assert(s->password.len == 0 && s->token.len == 0 && s->message.len == 0);
	for (size_t i = 0; i < s->decoded.cap; i++)
		assert(s->decoded.at[i] == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sasl_config config = { .offered = (1u << SASL_MECHANISMS) - 1, .max_line = 3000 };
	struct sasl_facts facts = { .nonce = SPAN("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0") };
	struct span lines;
	enum sasl_action action;
	bool said_yes = false;
	struct sasl s;

	if (size < 1)
		return 0;
	if ((data[0] & 1) != 0)
		config.relayed = 1u << SASL_SCRAM_SHA_256;
	config.authzid_allowed = (data[0] & 2) != 0;
	if ((data[0] & 4) != 0)
		facts.binding = span_of(octets, 32);
	if ((data[0] & 8) != 0)
		facts.external = SPAN("anna@example.org");
	lines = span_of(data + 1, size - 1);
	sasl_init(&s, &config, &facts);
	action = sasl_start(&s, span_cut(&lines, '\n'));
	while (action != SASL_SUCCESS && action != SASL_FAIL) {
		if (action != SASL_CHALLENGE)
			action = answer(&s, action, &said_yes);
		else if (lines.len > 0)
			action = sasl_line(&s, span_cut(&lines, '\n'));
		else
			break;
	}
	if (action != SASL_CHALLENGE)
		check_end(&s, action, said_yes);
	sasl_free(&s);
	return 0;
}
