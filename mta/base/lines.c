/* lines: see lines.h. */
#include "mta/base/lines.h"

enum { FAULTS_MAX = 20, SHOWN_MAX = 60 };

void
lines_fault(struct lines *lines, struct span subject, const char *fault)
{
	if (++lines->faults > FAULTS_MAX)
		return;
	if (lines->faults == FAULTS_MAX)
		fault = "and more; mend these first";
	buf_printf(lines->errors, "%.*s:%zu: ", SPAN_FMT(lines->name), lines->number);
	if (subject.len > 0 && lines->faults < FAULTS_MAX) {
		buf_byte(lines->errors, '"');
		for (size_t i = 0; i < subject.len && i < SHOWN_MAX; i++)
			buf_byte(lines->errors,
				 (unsigned char)subject.at[i] < ' ' ? '?' : subject.at[i]);
		buf_append(lines->errors, SPAN("\": "));
	}
	buf_printf(lines->errors, "%s\n", fault);
}

static bool
has_control(struct span line)
{
	for (size_t i = 0; i < line.len; i++)
		if (((unsigned char)line.at[i] < ' ' && line.at[i] != '\t') || line.at[i] == 127)
			return true;
	return false;
}

bool
lines_next(struct lines *lines, struct span *line)
{
	while (lines->rest.len > 0) {
		*line = span_cut(&lines->rest, '\n');
		lines->number++;
		if (line->len > 0 && line->at[line->len - 1] == '\r')
			line->len--;
		*line = span_trim(*line);
		if (line->len == 0 || line->at[0] == '#')
			continue;
		if (line->len > lines->max_line)
			lines_fault(lines, span_first(*line, 20), "the line is too long");
		else if (has_control(*line))
			lines_fault(lines, SPAN(""),
				    "a control character; this is a file of text lines");
		else
			return true;
	}
	return false;
}
