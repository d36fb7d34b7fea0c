/*
 * fuzz_response: any octets as a file of rules about replies, and as the text of a reply: a rule is
 * found again when it is asked for again, it is one of those that were read, and the rules that are
 * built in are always good.
 */
#include <assert.h>
#include <errno.h>

#include "policy/response_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct response_reply
reply_of(struct span in)
{
	static const uint16_t codes[] = { 0, 421, 450, 451, 452, 550, 553, 554 };
	static const char *const hosts[] = { "gmail-smtp-in.l.google.com", "mta7.am0.yahoodns.net",
					     "mx00.gmx.net", "" };
	uint8_t first = in.len > 0 ? (uint8_t)in.at[0] : 0,
		second = in.len > 1 ? (uint8_t)in.at[1] : 0;
	struct response_reply r = { .reply = { first % CLASSIFY_STAGES, codes[first / 8 % 8], { 0 },
					       in, span_str(hosts[second % 4]) },
				    .class = second % REPLY_CLASSES, .place = in,
				    .provider = span_first(in, second % 16) };
	size_t len;

	if (status_parse(span_skip(in, 2), &r.reply.status, &len))
		r.reply.text = span_skip(in, 2 + len);
	return r;
}

static void
judge(const struct response_rule *rule)
{
	if (rule == NULL)
		return;
	assert(rule->name.len > 0 && rule->number > 0);
	assert(rule->slow == 0 ||
	       (rule->slow >= 2 && rule->slow <= RESPONSE_FACTOR_MAX && rule->slow_ms > 0));
	assert((rule->suspend != SCOPE_NONE) == (rule->suspend_ms > 0));
	assert(rule->slow > 0 || rule->suspend != SCOPE_NONE || rule->next_mx ||
	       rule->fate != FATE_AS_SAID || rule->becomes != REPLY_CLASSES);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct response_rules *builtin;
	struct response_rules *own = NULL;
	struct buf errors = { 0 };
	struct span in = span_of(data, size);
	struct response_reply r = reply_of(in);
	int rc;

	if (builtin == NULL)
		assert(response_rules_parse(SPAN(""), SPAN(""), true, &errors, &builtin) == 0);
	judge(response_rules_find(builtin, &r));
	rc = response_rules_parse(SPAN("rules"), in, false, &errors, &own);
	assert((rc == 0) == (own != NULL) && (rc == 0) == (buf_len(&errors) == 0));
	assert(rc == 0 || rc == -EINVAL);
	if (rc == 0) {
		const struct response_rule *rule = response_rules_find(own, &r);

		judge(rule);
		assert(rule == response_rules_find(own, &r));
	}
	response_rules_free(own);
	buf_free(&errors);
	return 0;
}
