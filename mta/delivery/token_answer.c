/*
 * token_answer: see token_answer.h.
 */
#include "mta/delivery/token_answer.h"

#include <jansson.h>

enum { LIFETIME_MAX_S = 365 * 86400 };

/* RFC 6750 §2.1 has a narrower set; what some issue has more. Blanks mean that it is a sentence. */
static const char *
judge(struct span token)
{
	if (token.len == 0)
		return "it prints no token";
	for (size_t i = 0; i < token.len; i++)
		if (token.at[i] <= ' ' || token.at[i] > '~')
			return "what it prints is not a token";
	return NULL;
}

static int64_t
lifetime_ms(const json_t *value)
{
	uint64_t seconds = 0;
	struct span text = { 0 };

	if (json_is_string(value))
		text = span_of(json_string_value(value), json_string_length(value));
	if (json_is_number(value) && json_number_value(value) >= 0 &&
	    json_number_value(value) <= LIFETIME_MAX_S)
		seconds = (uint64_t)json_number_value(value);
	else if (!json_is_string(value) || !span_to_u64(text, LIFETIME_MAX_S, &seconds))
		return -1;
	return (int64_t)seconds * 1000;
}

static const char *
read_json(struct span printed, struct token_answer *ret)
{
	json_t *root = json_loadb(printed.at, printed.len, 0, NULL);
	const json_t *value = json_object_get(root, "access_token");
	struct span token = { 0 };
	const char *wrong;

	if (json_is_string(value))
		token = span_of(json_string_value(value), json_string_length(value));
	if (root == NULL)
		wrong = "what it prints begins like JSON, but is not";
	else if (!json_is_string(value))
		wrong = "the JSON that it prints has no access_token";
	else
		wrong = judge(token);
	if (wrong == NULL) {
		buf_append(&ret->token, token);
		ret->lifetime_ms = lifetime_ms(json_object_get(root, "expires_in"));
	}
	json_decref(root);
	return wrong;
}

const char *
token_answer_read(struct span printed, struct token_answer *ret)
{
	struct span line = printed;
	const char *wrong;

	*ret = (struct token_answer){ .lifetime_ms = -1 };
	while (line.len > 0 && (*line.at == ' ' || *line.at == '\n' || *line.at == '\r'))
		line = span_skip(line, 1);
	if (line.len > 0 && *line.at == '{')
		return read_json(line, ret);
	line = span_cut(&printed, '\n');
	if (line.len > 0 && line.at[line.len - 1] == '\r')
		line.len--;
	wrong = judge(line);
	if (wrong == NULL)
		buf_append(&ret->token, line);
	return wrong;
}
