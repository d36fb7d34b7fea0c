/* response_actions: what a rule about a reply does: reading it, and what goes together. Pure. */
#include "policy/response_private.h"

#define SECOND_MS INT64_C(1000)
#define DAY_MS (24 * 3600 * SECOND_MS)

static const char *const scopes[] = {
	[SCOPE_NONE] = "none", [SCOPE_SITE] = "site", [SCOPE_SOURCE] = "source",
	[SCOPE_TENANT] = "tenant", [SCOPE_DOMAIN] = "domain",
};

const char *
response_scope_name(enum response_scope scope)
{
	return scopes[scope];
}

static bool
read_time(struct span text, int64_t *ret)
{
	static const struct { char unit; int64_t ms;
	} units[] = { { 's', SECOND_MS }, { 'm', 60 * SECOND_MS }, { 'h', 3600 * SECOND_MS },
		      { 'd', DAY_MS } };
	uint64_t n;

	if (text.len < 2 || !span_to_u64(span_first(text, text.len - 1), 100000, &n) || n == 0)
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (text.at[text.len - 1] == units[i].unit &&
		    (int64_t)n * units[i].ms <= 30 * DAY_MS) {
			*ret = (int64_t)n * units[i].ms;
			return true;
		}
	return false;
}

static const char *
read_for(struct span *line, struct span *at, int64_t *ret)
{
	static const char *const wrong =
		"how long? write for and a time, from 1s to 30d, behind it: for 10m";

	*at = rule_word(line);
	if (!span_eq(*at, SPAN("for")))
		return wrong;
	*at = rule_word(line);
	return read_time(*at, ret) ? NULL : wrong;
}

static const char *
read_slow(struct response_rule *rule, struct span *line, struct span *at)
{
	uint64_t factor;

	if (rule->slow != 0)
		return "a second slow; write one";
	*at = rule_word(line);
	if (!span_to_u64(*at, RESPONSE_FACTOR_MAX, &factor) || factor < 2)
		return "how much more slowly? Write a whole number from 2 to 64: slow 2 for 10m";
	rule->slow = (uint32_t)factor;
	return read_for(line, at, &rule->slow_ms);
}

static const char *
read_suspend(struct response_rule *rule, struct span *line, struct span *at)
{
	if (rule->suspend != SCOPE_NONE)
		return "a second suspend; write one";
	*at = rule_word(line);
	for (enum response_scope i = SCOPE_SITE; i <= SCOPE_DOMAIN; i++)
		if (span_eq(*at, span_str(scopes[i])))
			rule->suspend = i;
	if (rule->suspend == SCOPE_NONE)
		return "suspend what? Write site, source, tenant or domain: suspend source for 1h";
	return read_for(line, at, &rule->suspend_ms);
}

static const char *
read_becomes(struct response_rule *rule, struct span *line, struct span *at)
{
	if (rule->becomes != REPLY_CLASSES)
		return "a second class; write one";
	*at = rule_word(line);
	return reply_class_find(*at, &rule->becomes)
		       ? NULL
		       : "no such class; those there are stand in tram.conf(5)";
}

static const char *
read_fate(struct response_rule *rule, enum response_fate fate)
{
	if (rule->fate != FATE_AS_SAID)
		return "temporary or permanent, once; not both";
	rule->fate = fate;
	return NULL;
}

static const char *
read_action(struct response_rule *rule, struct span *line, struct span *at)
{
	*at = rule_word(line);
	if (span_eq(*at, SPAN("slow")))
		return read_slow(rule, line, at);
	if (span_eq(*at, SPAN("suspend")))
		return read_suspend(rule, line, at);
	if (span_eq(*at, SPAN("class")))
		return read_becomes(rule, line, at);
	if (span_eq(*at, SPAN("temporary")))
		return read_fate(rule, FATE_SOFTENED);
	if (span_eq(*at, SPAN("permanent")))
		return read_fate(rule, FATE_HARDENED);
	if (!span_eq(*at, SPAN("next-mx")))
		return "no such action; write slow, suspend, next-mx, temporary, permanent or "
		       "class";
	if (rule->next_mx)
		return "a second next-mx; write one";
	rule->next_mx = true;
	return NULL;
}

/* The comma belongs to the word before it: it is cut off for the reader of that word. */
static bool
cut_actions(struct span *line, struct span *first)
{
	const char *comma = span_find(*line, ',');
	size_t n = 0;

	/* conditions have commas, too: those of the actions stand before the first = and / */
	while (n < line->len && line->at[n] != '=' && line->at[n] != '/')
		n++;
	if (comma == NULL || comma >= line->at + n)
		return false;
	*first = span_first(*line, (size_t)(comma - line->at));
	*line = span_trim(span_skip(*line, first->len + 1));
	return true;
}

const char *
response_actions_read(struct response_rule *rule, struct span *line, struct span *at)
{
	const char *fault = NULL;
	struct span one;

	while (fault == NULL && cut_actions(line, &one)) {
		fault = read_action(rule, &one, at);
		if (fault == NULL && one.len > 0) {
			*at = one;
			fault = "no part of that action; conditions stand behind the last one";
		}
	}
	return fault != NULL ? fault : read_action(rule, line, at);
}

static bool
before_mail(unsigned stage)
{
	return stage == CLASSIFY_CONNECT || stage == CLASSIFY_GREETING || stage == CLASSIFY_TLS ||
	       stage == CLASSIFY_AUTH;
}

const char *
response_actions_judge(const struct response_rule *rule)
{
	uint16_t digit = rule->match.code < 10 ? rule->match.code : rule->match.code / 100;
	bool early = before_mail(rule->match.stage);

	if (digit != 4 && digit != 5)
		digit = 0;			/* none came, or any */
	if (rule->fate == FATE_HARDENED && rule->next_mx)
		return "next-mx and permanent contradict each other; remove one";
	if (rule->fate == FATE_HARDENED && digit == 5)
		return "permanent is what a 5xx is; remove it";
	if (rule->fate == FATE_SOFTENED && digit == 4)
		return "temporary is what a 4xx is; remove it";
	if (rule->fate != FATE_AS_SAID && early)
		return "what fails before MAIL fails for no message, and is tried again; write "
		       "suspend or slow";
	if (rule->next_mx && early)
		return "before MAIL the next host is tried anyway; remove next-mx";
	if ((rule->suspend == SCOPE_TENANT || rule->suspend == SCOPE_DOMAIN) && early)
		return "before MAIL it is not known whose mail comes; write suspend site or "
		       "suspend source";
	if (rule->suspend == SCOPE_SITE && rule->next_mx)
		return "suspend site and next-mx contradict each other; remove one";
	if (rule->suspend == SCOPE_SITE && rule->slow_ms > 0 && rule->slow_ms <= rule->suspend_ms)
		return "slow is over before the suspension is; give it more time, or remove it";
	return NULL;
}
