/*
 * pattern: see pattern.h. The only file that knows <pcre2.h>. Without JIT: its code knows no limit
 * of depth, and counts steps less often.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

#include "policy/pattern.h"

#include "mta/base/arena.h"

enum { NEST_MAX = 30, DEPTH_MAX = 250, HEAP_KB = 256, ERROR_ROOM = 200 };

struct pattern {
	pcre2_code *code;
};

struct pattern_work {
	pcre2_match_data *data;
	pcre2_match_context *context;
	uint32_t steps;			/* so far, with all expressions */
};

struct pattern *
pattern_new(struct span text, struct buf *error)
{
	/* octets, whatever they are; and no verb at the start of an expression changes that */
	uint32_t options = PCRE2_CASELESS | PCRE2_NEVER_UTF | PCRE2_NEVER_UCP |
			   PCRE2_NEVER_BACKSLASH_C | PCRE2_DOTALL | PCRE2_AUTO_CALLOUT;
	pcre2_compile_context *context;
	struct pattern *pattern;
	unsigned char words[ERROR_ROOM];
	size_t offset;
	int number;
	pcre2_code *code;

	if (text.len > PATTERN_MAX) {
		buf_printf(error, "longer than %d octets", PATTERN_MAX);
		return NULL;
	}
	context = pcre2_compile_context_create(NULL);
	if (context == NULL)
		abort();
	pcre2_set_parens_nest_limit(context, NEST_MAX);
	code = pcre2_compile((PCRE2_SPTR)text.at, text.len, options, &number, &offset, context);
	pcre2_compile_context_free(context);
	if (code == NULL) {
		if (pcre2_get_error_message(number, words, sizeof(words)) < 0)
			words[0] = '\0';
		buf_printf(error, "%s (at octet %zu)", (const char *)words, offset + 1);
		return NULL;
	}
	pattern = xcalloc(1, sizeof(*pattern));
	pattern->code = code;
	return pattern;
}

void
pattern_free(struct pattern *pattern)
{
	if (pattern == NULL)
		return;
	pcre2_code_free(pattern->code);
	free(pattern);
}

/* At each item of the expression, each time that it is tried. */
static int
on_step(pcre2_callout_block *block, void *arg)
{
	struct pattern_work *work = arg;

	(void)block;
	return ++work->steps > PATTERN_WORK_STEPS ? PCRE2_ERROR_CALLOUT : 0;
}

struct pattern_work *
pattern_work_new(void)
{
	struct pattern_work *work = xcalloc(1, sizeof(*work));

	work->data = pcre2_match_data_create(1, NULL);
	work->context = pcre2_match_context_create(NULL);
	if (work->data == NULL || work->context == NULL)
		abort();
	pcre2_set_match_limit(work->context, PATTERN_STEPS);
	pcre2_set_depth_limit(work->context, DEPTH_MAX);
	pcre2_set_heap_limit(work->context, HEAP_KB);
	pcre2_set_callout(work->context, on_step, work);
	return work;
}

void
pattern_work_free(struct pattern_work *work)
{
	pcre2_match_data_free(work->data);
	pcre2_match_context_free(work->context);
	free(work);
}

enum pattern_result
pattern_match(const struct pattern *pattern, struct pattern_work *work, struct span text)
{
	const char *at = text.len > 0 ? text.at : "";
	size_t len = text.len < PATTERN_TEXT_MAX ? text.len : PATTERN_TEXT_MAX;
	int rc = pcre2_match(pattern->code, (PCRE2_SPTR)at, len, 0, 0, work->data, work->context);

	if (rc >= 0)
		return PATTERN_YES;
	return rc == PCRE2_ERROR_NOMATCH ? PATTERN_NO : PATTERN_TOO_MUCH;
}
