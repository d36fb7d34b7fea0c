/* classify: see classify.h; the rules. */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/arena.h"
#include "mta/base/lines.h"
#include "policy/classify_private.h"
#include "policy/reply_match.h"

enum { LINE_MAX_OCTETS = 1000, RULES_ROOM = 2 * CLASSIFY_RULES_MAX };

struct rule {
	enum reply_class class;
	struct span line;		/* as written, from its first condition on: in the arena */
	size_t number;			/* its line in the file */
	struct reply_match match;
};

struct classifier {
	struct arena arena;
	struct rule *rules;
	size_t count;
};

static const char *const names[] = {
	[CLASS_OTHER] = "other", [CLASS_BAD_MAILBOX] = "bad-mailbox",
	[CLASS_BAD_DOMAIN] = "bad-domain", [CLASS_INACTIVE_MAILBOX] = "inactive-mailbox",
	[CLASS_QUOTA_ISSUES] = "quota-issues", [CLASS_POLICY_RELATED] = "policy-related",
	[CLASS_SPAM_BLOCK] = "spam-block", [CLASS_SPAM_CONTENT] = "spam-content",
	[CLASS_CONTENT_RELATED] = "content-related", [CLASS_VIRUS_RELATED] = "virus-related",
	[CLASS_TOO_BIG] = "too-big", [CLASS_AUTHENTICATION_FAILED] = "authentication-failed",
	[CLASS_RELAYING_ISSUES] = "relaying-issues", [CLASS_INVALID_SENDER] = "invalid-sender",
	[CLASS_BAD_CONFIGURATION] = "bad-configuration", [CLASS_GREYLISTED] = "greylisted",
	[CLASS_RATE_LIMITED] = "rate-limited", [CLASS_TLS_FAILURE] = "tls-failure",
	[CLASS_ROUTING_ERRORS] = "routing-errors", [CLASS_DNS_FAILURE] = "dns-failure",
	[CLASS_NO_ANSWER] = "no-answer-from-host", [CLASS_BAD_CONNECTION] = "bad-connection",
	[CLASS_PROTOCOL_ERRORS] = "protocol-errors", [CLASS_MESSAGE_EXPIRED] = "message-expired",
	[CLASS_TRANSIENT_FAILURE] = "transient-failure", [CLASS_COMPLAINT] = "complaint",
};

const char *
reply_class_name(enum reply_class class)
{
	return names[class];
}

bool
reply_class_find(struct span name, enum reply_class *ret)
{
	for (enum reply_class class = 0; class < REPLY_CLASSES; class++)
		if (span_eq(name, span_str(names[class]))) {
			*ret = class;
			return true;
		}
	return false;
}

/* ---- reading rules ------------------------------------------------------------------------ */

/* What can never be, and what has been said already. */
static const char *
judge(const struct classifier *c, size_t from, const struct rule *rule, struct buf *error)
{
	const char *fault = reply_match_judge(&rule->match);

	if (fault != NULL)
		return fault;
	for (size_t i = from; i < c->count; i++)
		if (span_eq(c->rules[i].line, rule->line)) {
			buf_printf(error,
				   "line %zu says this already, with the class %s; remove one%c",
				   c->rules[i].number, names[c->rules[i].class], '\0');
			return buf_span(error).at;
		}
	return NULL;
}

static void
take_line(struct classifier *c, size_t from, struct lines *lines, struct span line)
{
	struct span word = rule_word(&line);
	struct buf error = { 0 };
	const char *fault = NULL;
	struct rule rule = { 0 };

	reply_match_init(&rule.match);
	if (c->count - from == CLASSIFY_RULES_MAX)
		fault = "more rules than a file may have (500)";
	else if (!reply_class_find(word, &rule.class))
		fault = "no such class; those there are stand in tram.conf(5)";
	else if (line.len == 0)
		fault = "a class for what? write /pattern/, code=, status=, stage= or host= behind "
			"it";
	rule.line = arena_copy(&c->arena, line);
	rule.number = lines->number;
	for (line = rule.line; fault == NULL && line.len > 0;) {
		if (line.at[0] == '/') {
			word = line;
			fault = reply_match_pattern(&rule.match, line, &error);
			break;
		}
		word = rule_word(&line);
		fault = reply_match_word(&rule.match, word);
		if (fault != NULL && fault[0] == '\0')
			fault = "neither code=, status=, stage= or host=, nor a /pattern/ at the "
				"end";
	}
	if (fault == NULL)
		fault = judge(c, from, &rule, &error);
	if (fault != NULL) {
		lines_fault(lines, word, fault);
		reply_match_free(&rule.match);
	} else {
		c->rules[c->count++] = rule;
	}
	buf_free(&error);
}

static int
parse(struct classifier *c, struct span name, struct span content, struct buf *errors)
{
	struct lines lines = {
		.name = name, .rest = content, .max_line = LINE_MAX_OCTETS, .errors = errors
	};
	size_t from = c->count;
	struct span line;

	while (lines.faults == 0 || c->count - from < CLASSIFY_RULES_MAX) {
		if (!lines_next(&lines, &line))
			break;
		take_line(c, from, &lines, line);
	}
	return lines.faults > 0 ? -EINVAL : 0;
}

int
classifier_parse(struct span name, struct span content, struct buf *errors, struct classifier **ret)
{
	struct classifier *c;

	if (content.len > CLASSIFY_FILE_MAX) {
		buf_printf(errors, "%.*s: larger than 1 MB, which a list of rules is not\n",
			   SPAN_FMT(name));
		return -EINVAL;
	}
	c = xcalloc(1, sizeof(*c));
	c->rules = xcalloc(RULES_ROOM, sizeof(*c->rules));
	if (parse(c, name, content, errors) < 0 ||
	    parse(c, SPAN("built-in rules"), span_str(classify_builtin), errors) < 0) {
		classifier_free(c);
		return -EINVAL;
	}
	*ret = c;
	return 0;
}

void
classifier_free(struct classifier *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->count; i++)
		reply_match_free(&c->rules[i].match);
	free(c->rules);
	arena_free(&c->arena);
	free(c);
}

/* ---- the class of a reply ----------------------------------------------------------------- */

static const struct rule *
find_rule(const struct classifier *c, const struct classify_reply *reply)
{
	struct pattern_work *work = pattern_work_new();
	const struct rule *found = NULL;
	char room[PATTERN_TEXT_MAX];
	struct span text = reply_plain_text(reply, room);
	unsigned trouble = 0;

	for (size_t i = 0; i < c->count && found == NULL && trouble < CLASSIFY_TROUBLE_MAX; i++) {
		enum pattern_result result =
			reply_match_fits(&c->rules[i].match, reply, work, text);

		if (result == PATTERN_YES)
			found = &c->rules[i];
		trouble += result == PATTERN_TOO_MUCH;
	}
	pattern_work_free(work);
	return found;
}

enum reply_class
classify(const struct classifier *classifier, const struct classify_reply *reply)
{
	const struct rule *rule = classifier == NULL ? NULL : find_rule(classifier, reply);

	return rule != NULL ? rule->class : classify_codes(reply);
}
