/*
 * suppress: import of suppressed addresses: a file of one address or domain a line, with its class
 * and reason behind it: ADDRESS [CLASS [REASON]].
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/lines.h"
#include "mta/control/text.h"
#include "mta/ctl/tramctl.h"

enum { IMPORT_LINE_MAX = 1500, IMPORT_MAX = 256 << 20, READ_ROOM = 65536, REASON_MAX = 200 };

static int
read_whole(const char *path, struct buf *content)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
	size_t n;
	bool bad;

	if (f == NULL)
		return tramctl_fail(TRAMCTL_FAILED, "%s: %s", path, strerror(errno));
	while (buf_len(content) <= IMPORT_MAX &&
	       (n = fread(buf_reserve(content, READ_ROOM), 1, READ_ROOM, f)) > 0)
		buf_grew(content, n);
	bad = ferror(f) != 0;
	if (f != stdin)
		fclose(f);
	if (bad || buf_len(content) > IMPORT_MAX)
		return tramctl_fail(TRAMCTL_FAILED, "%s: %s", path,
				    bad ? "it cannot be read" : "it is larger than 256 MB");
	return TRAMCTL_OK;
}

static struct span
word_of(struct span *line)
{
	struct span word = *line;

	for (size_t i = 0; i < line->len; i++)
		if (line->at[i] == ' ' || line->at[i] == '\t' || line->at[i] == ',') {
			word.len = i;
			break;
		}
	*line = span_trim(span_skip(*line, word.len + 1));
	return word;
}

static int
add_line(struct tramctl *t, struct span line, bool more)
{
	struct control_request request = t->request;
	json_t *last = NULL;
	int rc;

	request.command = CONTROL_SUPPRESS_ADD;
	request.address = word_of(&line);
	if (line.len > 0)
		request.class = word_of(&line);
	if (line.len > 0)
		request.reason = span_first(line, REASON_MAX);
	request.more = more;
	rc = tramctl_ask(t, &request, NULL, NULL, &last);
	json_decref(last);
	return rc;
}

/* Each line is asked for once the next is known: the last one waits for all. */
int
tramctl_run_suppress_import(struct tramctl *t)
{
	struct buf content = { 0 }, errors = { 0 };
	struct lines lines = { .name = span_str(t->file), .max_line = IMPORT_LINE_MAX,
			       .errors = &errors };
	struct span line = { 0 }, next = { 0 };
	uint64_t count = 0;
	bool any;
	int rc = read_whole(t->file, &content);

	lines.rest = buf_span(&content);
	any = rc == TRAMCTL_OK && lines_next(&lines, &line);
	while (any && rc == TRAMCTL_OK) {
		size_t number = lines.number;

		any = lines_next(&lines, &next);
		rc = add_line(t, line, any);
		if (rc != TRAMCTL_OK)
			fprintf(stderr, "tramctl: %s:%zu: stopped here\n", t->file, number);
		count += rc == TRAMCTL_OK;
		line = next;
	}
	if (buf_len(&errors) > 0 && rc == TRAMCTL_OK)
		rc = tramctl_fail(TRAMCTL_FAILED, "%.*s", SPAN_FMT(span_trim(buf_span(&errors))));
	if (!t->json)
		printf("%llu added\n", (unsigned long long)count);
	buf_free(&content);
	buf_free(&errors);
	return rc;
}
