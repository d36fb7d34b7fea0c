/* response_rules: see response_rules.h; the reading of actions stands in response_actions.c. */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/arena.h"
#include "mta/base/lines.h"
#include "policy/response_private.h"

enum { LINE_MAX_OCTETS = 1000, RULES_ROOM = 2 * RESPONSE_RULES_MAX };

struct response_rules {
	struct arena arena;
	struct response_rule *rules;
	size_t count;
	bool moves;			/* one has next-mx */
};

/* ---- reading rules ------------------------------------------------------------------------ */

static const char *
read_class(struct response_rule *rule, struct span value)
{
	if (rule->class != REPLY_CLASSES)
		return "a second class=; write one";
	if (!reply_class_find(value, &rule->class))
		return "no such class; those there are stand in tram.conf(5)";
	return NULL;
}

static const char *
read_site(struct response_rule *rule, struct span value)
{
	if (rule->site.len > 0)
		return "a second site=; write one, with commas";
	if (!host_list_valid(value))
		return "a site is told by one of its hosts (mx.example.org, *.example.org)";
	rule->site = value;
	return NULL;
}

static const char *
read_provider(struct response_rule *rule, struct span value)
{
	if (rule->provider.len > 0)
		return "a second provider=; write one";
	if (value.len == 0)
		return "which provider? write the name of a provider block behind provider=";
	rule->provider = value;
	return NULL;
}

static const char *
read_condition(struct response_rule *rule, struct span word)
{
	struct span rest = word, name = span_cut(&rest, '=');
	const char *fault;

	if (span_eq(name, SPAN("class")))
		return read_class(rule, rest);
	if (span_eq(name, SPAN("site")))
		return read_site(rule, rest);
	if (span_eq(name, SPAN("provider")))
		return read_provider(rule, rest);
	fault = reply_match_word(&rule->match, word);
	if (fault != NULL && fault[0] == '\0')
		return "neither code=, status=, stage=, host=, site=, provider= or class=, nor a "
		       "/pattern/ at the end";
	return fault;
}

static bool
covers_text(struct span first, struct span then)
{
	return first.len == 0 || span_eq(first, then);
}

/* Does whatever fits the second fit the first? Then the second never has its turn. */
static bool
covers(const struct response_rule *first, const struct response_rule *then)
{
	return reply_match_covers(&first->match, &then->match) &&
	       covers_text(first->site, then->site) &&
	       covers_text(first->provider, then->provider) &&
	       (first->class == REPLY_CLASSES || first->class == then->class);
}

static const char *
judge(const struct response_rules *rules, size_t from, const struct response_rule *rule,
      struct buf *error)
{
	const char *fault = reply_match_judge(&rule->match);

	if (fault == NULL)
		fault = response_actions_judge(rule);
	for (size_t i = from; fault == NULL && i < rules->count; i++) {
		const struct response_rule *before = &rules->rules[i];
		bool same = span_eq(before->line, rule->line);

		if (!same && !covers(before, rule))
			continue;
		buf_printf(error,
			   same ? "line %zu is for the same replies; remove one%c"
				: "line %zu fits all of these replies, and counts; put this before "
				  "it%c",
			   before->number, '\0');
		fault = buf_span(error).at;
	}
	return fault;
}

static const char *
read_rule(struct response_rules *rules, struct response_rule *rule, struct span line,
	  struct span *at, struct buf *error)
{
	const char *fault = response_actions_read(rule, &line, at);

	if (fault == NULL && line.len == 0)
		fault = "for which replies? write /pattern/, code=, status=, stage=, host=, site= "
			"or class= behind it";
	rule->line = arena_copy(&rules->arena, line);
	for (line = rule->line; fault == NULL && line.len > 0;) {
		if (line.at[0] == '/') {
			*at = line;
			return reply_match_pattern(&rule->match, line, error);
		}
		*at = rule_word(&line);
		fault = read_condition(rule, *at);
	}
	return fault;
}

static void
take_line(struct response_rules *rules, size_t from, struct lines *lines, struct span line)
{
	struct response_rule rule = { .number = lines->number, .class = REPLY_CLASSES,
				      .becomes = REPLY_CLASSES };
	struct span at = SPAN("");
	struct buf error = { 0 };
	const char *fault = "more rules than a file may have (500)";

	reply_match_init(&rule.match);
	if (rules->count - from < RESPONSE_RULES_MAX)
		fault = read_rule(rules, &rule, line, &at, &error);
	if (fault == NULL)
		fault = judge(rules, from, &rule, &error);
	if (fault != NULL) {
		lines_fault(lines, at, fault);
		reply_match_free(&rule.match);
	} else {
		rule.name = arena_printf(&rules->arena, "%.*s:%zu", SPAN_FMT(lines->name),
					 lines->number);
		rules->rules[rules->count++] = rule;
		rules->moves = rules->moves || rule.next_mx;
	}
	buf_free(&error);
}

static int
parse(struct response_rules *rules, struct span name, struct span content, struct buf *errors)
{
	struct lines lines = {
		.name = name, .rest = content, .max_line = LINE_MAX_OCTETS, .errors = errors
	};
	size_t from = rules->count;
	struct span line;

	while ((lines.faults == 0 || rules->count - from < RESPONSE_RULES_MAX) &&
	       lines_next(&lines, &line))
		take_line(rules, from, &lines, line);
	return lines.faults > 0 ? -EINVAL : 0;
}

int
response_rules_parse(struct span name, struct span content, bool builtin, struct buf *errors,
		     struct response_rules **ret)
{
	struct response_rules *rules;

	if (content.len > RESPONSE_FILE_MAX) {
		buf_printf(errors, "%.*s: larger than 1 MB, which a list of rules is not\n",
			   SPAN_FMT(name));
		return -EINVAL;
	}
	rules = xcalloc(1, sizeof(*rules));
	rules->rules = xcalloc(RULES_ROOM, sizeof(*rules->rules));
	if (parse(rules, name, content, errors) < 0 ||
	    (builtin && parse(rules, SPAN("built-in"), span_str(response_builtin), errors) < 0)) {
		response_rules_free(rules);
		return -EINVAL;
	}
	*ret = rules;
	return 0;
}

void
response_rules_free(struct response_rules *rules)
{
	if (rules == NULL)
		return;
	for (size_t i = 0; i < rules->count; i++)
		reply_match_free(&rules->rules[i].match);
	free(rules->rules);
	arena_free(&rules->arena);
	free(rules);
}

bool
response_rules_move(const struct response_rules *rules)
{
	return rules != NULL && rules->moves;
}

bool
response_rules_provider(const struct response_rules *rules, size_t *i,
			const struct response_rule **ret)
{
	while (*i < rules->count) {
		*ret = &rules->rules[(*i)++];
		if ((*ret)->provider.len > 0)
			return true;
	}
	return false;
}

/* ---- the rule for a reply ----------------------------------------------------------------- */

/* Of "mx:a.example,b.example>c.example:25" and "static:smtp:[127.0.0.1]:25" each name. */
static bool
place_has(struct span place, struct span hosts)
{
	static const char ends[] = ",>:[]";

	while (place.len > 0) {
		size_t n = 0;

		while (n < place.len && span_find(span_str(ends), place.at[n]) == NULL)
			n++;
		if (n > 0 && host_list_has(hosts, span_first(place, n)))
			return true;
		place = span_skip(place, n + 1);
	}
	return false;
}

static enum pattern_result
fits(const struct response_rule *rule, const struct response_reply *r, struct pattern_work *work,
     struct span text)
{
	if (rule->class != REPLY_CLASSES && rule->class != r->class)
		return PATTERN_NO;
	if (rule->provider.len > 0 && !span_eq(rule->provider, r->provider))
		return PATTERN_NO;
	if (rule->site.len > 0 && !place_has(r->place, rule->site))
		return PATTERN_NO;
	return reply_match_fits(&rule->match, &r->reply, work, text);
}

const struct response_rule *
response_rules_find(const struct response_rules *rules, const struct response_reply *reply)
{
	struct pattern_work *work;
	const struct response_rule *found = NULL;
	char room[PATTERN_TEXT_MAX];
	struct span text;
	unsigned trouble = 0;

	if (rules == NULL || rules->count == 0)
		return NULL;
	work = pattern_work_new();
	text = reply_plain_text(&reply->reply, room);
	for (size_t i = 0; i < rules->count && found == NULL && trouble < CLASSIFY_TROUBLE_MAX;
	     i++) {
		enum pattern_result result = fits(&rules->rules[i], reply, work, text);

		if (result == PATTERN_YES)
			found = &rules->rules[i];
		trouble += result == PATTERN_TOO_MUCH;
	}
	pattern_work_free(work);
	return found;
}
