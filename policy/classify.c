/* classify: see classify.h; the rules. */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/address.h"
#include "mta/base/arena.h"
#include "mta/base/lines.h"
#include "policy/classify_private.h"
#include "policy/pattern.h"

enum { LINE_MAX_OCTETS = 1000, ANY = UINT16_MAX, CODE_NONE = 1000, RULES_ROOM = 2 * CLASSIFY_RULES_MAX };

struct rule {
	enum reply_class class;
	struct span line;		/* as written, from its first condition on: in the arena */
	size_t number;			/* its line in the file */
	/* ANY, CODE_NONE, a code, or its first digit (4, 5) */
	uint16_t code;
	uint16_t klass, subject, detail;	/* of the status; ANY */
	unsigned stage;			/* CLASSIFY_STAGES: any */
	struct span host;		/* empty: any; ".example.org": all below it */
	struct pattern *pattern;	/* NULL: none */
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
	[CLASS_TRANSIENT_FAILURE] = "transient-failure",
};

static const char *const stages[] = {
	[CLASSIFY_CONNECT] = "connect", [CLASSIFY_GREETING] = "greeting", [CLASSIFY_TLS] = "tls",
	[CLASSIFY_AUTH] = "auth", [CLASSIFY_MAIL] = "mail", [CLASSIFY_RCPT] = "rcpt",
	[CLASSIFY_DATA] = "data",
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

/* Each condition: NULL, or what is wrong with it. */
static const char *
read_code(struct rule *rule, struct span value)
{
	static const char *const wrong = "a code is three digits (550), 4xx, 5xx or none";
	uint64_t n;

	if (rule->code != ANY)
		return "a second code=; write one";
	if (span_eq(value, SPAN("none")))
		rule->code = CODE_NONE;
	else if (value.len == 3 && span_ieq(span_skip(value, 1), SPAN("xx")) && (value.at[0] == '4' || value.at[0] == '5'))
		rule->code = (uint16_t)(value.at[0] - '0');
	else if (value.len == 3 && span_to_u64(value, 599, &n) && n >= 400)
		rule->code = (uint16_t)n;
	else
		return wrong;
	return NULL;
}

static bool
read_number(struct span value, uint16_t *ret)
{
	uint64_t n;

	if (span_eq(value, SPAN("*")))
		return true;
	if (!span_to_u64(value, 999, &n))
		return false;
	*ret = (uint16_t)n;
	return true;
}

static const char *
read_status(struct rule *rule, struct span value)
{
	struct span klass = span_cut(&value, '.'), subject = span_cut(&value, '.');

	if (rule->klass != ANY || rule->subject != ANY || rule->detail != ANY)
		return "a second status=; write one";
	if (!read_number(klass, &rule->klass) || !read_number(subject, &rule->subject) ||
	    !read_number(value, &rule->detail) || (rule->klass != ANY && rule->klass != 4 && rule->klass != 5))
		return "a status is three numbers, of which each may be *: 5.1.1, *.2.2, 4.7.*";
	return NULL;
}

static const char *
read_stage(struct rule *rule, struct span value)
{
	if (rule->stage != CLASSIFY_STAGES)
		return "a second stage=; write one";
	for (rule->stage = 0; rule->stage < CLASSIFY_STAGES; rule->stage++)
		if (span_eq(value, span_str(stages[rule->stage])))
			return NULL;
	return "a stage is connect, greeting, tls, auth, mail, rcpt or data";
}

static const char *
read_host(struct rule *rule, struct span value)
{
	bool below = span_starts(value, SPAN("*."));

	if (rule->host.len > 0)
		return "a second host=; write one";
	if (!domain_valid(below ? span_skip(value, 2) : value, false))
		return "a host is a name (mx.example.org), or *. and a domain (*.example.org)";
	rule->host = below ? span_skip(value, 1) : value;
	return NULL;
}

static const char *
read_condition(struct rule *rule, struct span word)
{
	struct span name = span_cut(&word, '=');

	if (span_eq(name, SPAN("code")))
		return read_code(rule, word);
	if (span_eq(name, SPAN("status")))
		return read_status(rule, word);
	if (span_eq(name, SPAN("stage")))
		return read_stage(rule, word);
	if (span_eq(name, SPAN("host")))
		return read_host(rule, word);
	return "neither code=, status=, stage= or host=, nor a /pattern/ at the end";
}

static const char *
read_pattern(struct rule *rule, struct span text, struct buf *error)
{
	if (text.len < 3 || text.at[text.len - 1] != '/')
		return "a pattern stands between two /, at the end of its line";
	rule->pattern = pattern_new(span_first(span_skip(text, 1), text.len - 2), error);
	if (rule->pattern != NULL)
		return NULL;
	buf_byte(error, '\0');
	return buf_span(error).at;
}

static struct span
next_word(struct span *line)
{
	size_t n = 0;
	struct span word;

	*line = span_trim(*line);
	while (n < line->len && line->at[n] != ' ' && line->at[n] != '\t')
		n++;
	word = span_first(*line, n);
	*line = span_trim(span_skip(*line, n));
	return word;
}

/* What can never be, and what has been said already. */
static const char *
judge(const struct classifier *c, size_t from, const struct rule *rule, struct buf *error)
{
	uint16_t klass = rule->code < 100 ? rule->code : rule->code / 100;

	/* ours, where none came, have a status of either kind */
	if (rule->code != ANY && rule->code != CODE_NONE && rule->klass != ANY && rule->klass != klass)
		return "no reply has such a code and such a status; mend one of them";
	for (size_t i = from; i < c->count; i++)
		if (span_eq(c->rules[i].line, rule->line)) {
			buf_printf(error, "line %zu says this already, with the class %s; remove one%c",
				   c->rules[i].number, names[c->rules[i].class], '\0');
			return buf_span(error).at;
		}
	return NULL;
}

static void
take_line(struct classifier *c, size_t from, struct lines *lines, struct span line)
{
	struct rule rule = { .code = ANY, .klass = ANY, .subject = ANY, .detail = ANY, .stage = CLASSIFY_STAGES };
	struct span word = next_word(&line);
	struct buf error = { 0 };
	const char *fault = NULL;

	if (c->count - from == CLASSIFY_RULES_MAX)
		fault = "more rules than a file may have (500)";
	else if (!reply_class_find(word, &rule.class))
		fault = "no such class; those there are stand in tram.conf(5)";
	else if (line.len == 0)
		fault = "a class for what? write /pattern/, code=, status=, stage= or host= behind it";
	rule.line = arena_copy(&c->arena, line);
	rule.number = lines->number;
	for (line = rule.line; fault == NULL && line.len > 0;) {
		if (line.at[0] == '/') {
			word = line;
			fault = read_pattern(&rule, line, &error);
			break;
		}
		word = next_word(&line);
		fault = read_condition(&rule, word);
	}
	if (fault == NULL)
		fault = judge(c, from, &rule, &error);
	if (fault != NULL) {
		lines_fault(lines, word, fault);
		pattern_free(rule.pattern);
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
		buf_printf(errors, "%.*s: larger than 1 MB, which a list of rules is not\n", SPAN_FMT(name));
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
		pattern_free(c->rules[i].pattern);
	free(c->rules);
	arena_free(&c->arena);
	free(c);
}

/* ---- the class of a reply ----------------------------------------------------------------- */

/* Without codes that begin a line, and blanks and line ends that follow one another made one. */
static struct span
plain_text(const struct classify_reply *reply, char room[PATTERN_TEXT_MAX])
{
	struct span rest = span_first(reply->text, 4 * PATTERN_TEXT_MAX);
	size_t len = 0;

	for (size_t i = 0; i < rest.len && len < PATTERN_TEXT_MAX; i++) {
		char c = (unsigned char)rest.at[i] <= ' ' ? ' ' : rest.at[i];

		if (c != ' ' || (len > 0 && room[len - 1] != ' '))
			room[len++] = c;
	}
	return span_trim(span_of(room, len));
}

static bool
host_fits(struct span host, struct span rule)
{
	if (host.len > 0 && host.at[host.len - 1] == '.')
		host.len--;
	if (rule.at[0] != '.')
		return span_ieq(host, rule);
	return host.len > rule.len && span_ieq(span_skip(host, host.len - rule.len), rule);
}

static bool
conditions_fit(const struct rule *rule, const struct classify_reply *reply)
{
	if (rule->code == CODE_NONE ? reply->code != 0
	    : rule->code < 10	    ? reply->code / 100 != rule->code
				    : rule->code != ANY && reply->code != rule->code)
		return false;
	if ((rule->klass != ANY && reply->status.klass != rule->klass) ||
	    (rule->subject != ANY && reply->status.subject != rule->subject) ||
	    (rule->detail != ANY && reply->status.detail != rule->detail))
		return false;
	if ((rule->subject != ANY || rule->detail != ANY) && reply->status.klass == 0)
		return false;
	if (rule->stage != CLASSIFY_STAGES && reply->stage != rule->stage)
		return false;
	return rule->host.len == 0 || host_fits(reply->host, rule->host);
}

static const struct rule *
find_rule(const struct classifier *c, const struct classify_reply *reply)
{
	struct pattern_work *work = pattern_work_new();
	const struct rule *found = NULL;
	char room[PATTERN_TEXT_MAX];
	struct span text = plain_text(reply, room);
	unsigned trouble = 0;

	for (size_t i = 0; i < c->count && found == NULL && trouble < CLASSIFY_TROUBLE_MAX; i++) {
		const struct rule *rule = &c->rules[i];
		enum pattern_result result = PATTERN_YES;

		if (!conditions_fit(rule, reply))
			continue;
		if (rule->pattern != NULL)
			result = pattern_match(rule->pattern, work, text);
		if (result == PATTERN_YES)
			found = rule;
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
