/*
 * sasl_names: mechanisms by name and in sets; and the messages of those that carry tokens. See
 * sasl.h and sasl_private.h.
 */
#include "mta/auth/sasl_private.h"
#include "mta/auth/scram_private.h"

static const struct span names[SASL_MECHANISMS] = {
	[SASL_LOGIN] = { "LOGIN", 5 },
	[SASL_PLAIN] = { "PLAIN", 5 },
	[SASL_XOAUTH2] = { "XOAUTH2", 7 },
	[SASL_OAUTHBEARER] = { "OAUTHBEARER", 11 },
	[SASL_SCRAM_SHA_256] = { "SCRAM-SHA-256", 13 },
	[SASL_SCRAM_SHA_256_PLUS] = { "SCRAM-SHA-256-PLUS", 18 },
	[SASL_EXTERNAL] = { "EXTERNAL", 8 },
};

struct span
sasl_name(enum sasl_mechanism mechanism)
{
	return names[mechanism];
}

bool
sasl_find(struct span name, enum sasl_mechanism *ret)
{
	for (unsigned i = 0; i < SASL_MECHANISMS; i++)
		if (span_ieq(name, names[i])) {
			*ret = (enum sasl_mechanism)i;
			return true;
		}
	return false;
}

unsigned
sasl_set_of(struct span words)
{
	enum sasl_mechanism mechanism;
	unsigned set = 0;

	while (words.len > 0)
		if (sasl_find(span_cut(&words, ' '), &mechanism))
			set |= 1u << mechanism;
	return set;
}

void
sasl_names(unsigned set, struct buf *out)
{
	bool first = true;

	for (unsigned i = SASL_MECHANISMS; i-- > 0;) {
		if ((set & 1u << i) == 0)
			continue;
		if (!first)
			buf_byte(out, ' ');
		buf_append(out, names[i]);
		first = false;
	}
}

unsigned
sasl_offered(const struct sasl_config *config, const struct sasl_facts *facts)
{
	unsigned set = config->offered;

	/* a backend that is relayed to does not know our TLS */
	if (facts->binding.len == 0 || (config->relayed & 1u << SASL_SCRAM_SHA_256) != 0)
		set &= ~(1u << SASL_SCRAM_SHA_256_PLUS);
	if (facts->external.len == 0)
		set &= ~(1u << SASL_EXTERNAL);
	return set;
}

/* RFC 6750 §2.1: b64token */
static bool
token_valid(struct span token)
{
	while (token.len > 0 && token.at[token.len - 1] == '=')
		token.len--;
	if (token.len == 0)
		return false;
	for (size_t i = 0; i < token.len; i++) {
		char c = ascii_lower(token.at[i]);

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
		    (c == '\0' || strchr("-._~+/", c) == NULL))
			return false;
	}
	return true;
}

static bool
parse_bearer(struct span value, struct span *token)
{
	if (!span_istarts(value, SPAN("Bearer ")))
		return false;
	*token = span_trim(span_skip(value, 7));
	return token_valid(*token);
}

bool
sasl_parse_xoauth2(struct span message, struct span *user, struct span *token)
{
	struct span first = span_cut(&message, '\1'), second = span_cut(&message, '\1');

	if (!span_istarts(first, SPAN("user=")) || !span_istarts(second, SPAN("auth=")) ||
	    !span_eq(message, SPAN("\1")))
		return false;
	*user = span_skip(first, 5);
	return user->len > 0 && parse_bearer(span_skip(second, 5), token);
}

bool
sasl_parse_oauthbearer(struct span message, struct buf *scratch, struct span *user,
		       struct span *token)
{
	struct span header = span_cut(&message, '\1'), flag, authzid;
	bool found = false;

	flag = span_cut(&header, ',');
	authzid = span_cut(&header, ',');
	if ((!span_eq(flag, SPAN("n")) && !span_eq(flag, SPAN("y"))) || header.len > 0)
		return false;
	if (authzid.len > 0) {
		if (!span_starts(authzid, SPAN("a=")) ||
		    !scram_name_decode(span_skip(authzid, 2), scratch))
			return false;
		*user = buf_span(scratch);
	}
	while (message.len > 0 && message.at[0] != '\1') {
		struct span value = span_cut(&message, '\1'), key = span_cut(&value, '=');

		if (!span_ieq(key, SPAN("auth")))
			continue;
		if (found || !parse_bearer(value, token))
			return false;
		found = true;
	}
	return found && span_eq(message, SPAN("\1"));
}
