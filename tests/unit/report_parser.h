/*
 * report_parser: reads a delivery report back, strictly: anything that RFC 5322, 2046, 6522 or 3464
 * does not allow is a failed test. Knows nothing of how reports are made. For tests only.
 */
#ifndef TRAM_TESTS_REPORT_PARSER_H
#define TRAM_TESTS_REPORT_PARSER_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/span.h"

enum { PARTS_MAX = 3, FIELDS_MAX = 40 };

struct parsed_field {
	struct span name, value;	/* the value unfolded, in the arena */
};

struct parsed_block {
	struct parsed_field fields[FIELDS_MAX];
	size_t count;
};

struct parsed_part {
	struct parsed_block header;
	struct span content;
};

struct parsed_report {
	struct arena arena;
	struct parsed_block header;
	struct parsed_part parts[PARTS_MAX];
	size_t part_count;
	struct parsed_block message;		/* of the status part */
	struct parsed_block *recipients;
	size_t recipient_count;
};

/*
 * Every line ends in CRLF and holds no other CR, LF or control octet but tabs, and at most 998
 * octets.
 */
static inline void
check_lines(struct span text, bool eight_bit)
{
	while (text.len > 0) {
		struct span line;

		assert_non_null(span_find(text, '\n'));
		line = span_cut(&text, '\n');
		assert_true(line.len > 0 && line.at[line.len - 1] == '\r');
		line.len--;
		assert_in_range(line.len, 0, 998);
		for (size_t i = 0; i < line.len; i++) {
			unsigned char c = (unsigned char)line.at[i];

			assert_true(c >= ' ' || c == '\t');
			assert_true(c < 127 || (c > 127 && eight_bit));
		}
	}
}

static inline const struct parsed_field *
find_field(const struct parsed_block *block, const char *name)
{
	const struct parsed_field *found = NULL;

	for (size_t i = 0; i < block->count; i++) {
		if (!span_ieq(block->fields[i].name, span_str(name)))
			continue;
		assert_null(found);		/* no field comes twice */
		found = &block->fields[i];
	}
	return found;
}

static inline void
expect_field(const struct parsed_block *block, const char *name, const char *value)
{
	const struct parsed_field *field = find_field(block, name);

	if (value == NULL) {
		assert_null(field);
		return;
	}
	assert_non_null(field);
	assert_string_equal(field->value.at, value);
}

/* Fields up to a blank line (which is taken) or the end. */
static inline void
parse_block(struct span *text, struct arena *arena, struct parsed_block *ret)
{
	ret->count = 0;
	while (text->len > 0) {
		struct span line = span_cut(text, '\n');
		struct parsed_field *field;
		struct span name;

		line.len--;
		if (line.len == 0)
			return;
		assert_true(span_trim(line).len > 0);
		if (line.at[0] == ' ' || line.at[0] == '\t') {
			assert_true(ret->count > 0);
			field = &ret->fields[ret->count - 1];
			field->value = arena_printf(arena, "%.*s%.*s", SPAN_FMT(field->value),
						    SPAN_FMT(line));
			continue;
		}
		assert_non_null(span_find(line, ':'));
		name = span_cut(&line, ':');
		assert_true(name.len > 0);
		for (size_t i = 0; i < name.len; i++)
			assert_true(name.at[i] > ' ' && name.at[i] < 127);
		assert_true(line.len > 1 && line.at[0] == ' ');
		assert_true(ret->count < FIELDS_MAX);
		field = &ret->fields[ret->count++];
		field->name = name;
		field->value = arena_copy(arena, span_skip(line, 1));
	}
}

static inline void
parse_part(struct parsed_report *p, struct span text)
{
	struct parsed_part *part = &p->parts[p->part_count++];
	bool eight_bit;

	parse_block(&text, &p->arena, &part->header);
	part->content = text;
	eight_bit = find_field(&part->header, "Content-Transfer-Encoding") != NULL;
	if (eight_bit) {
		expect_field(&part->header, "Content-Transfer-Encoding", "8bit");
		expect_field(&p->header, "Content-Transfer-Encoding", "8bit");
	}
	for (size_t i = 0; i < text.len; i++)
		assert_true(eight_bit || (unsigned char)text.at[i] < 128);
}

static inline void
parse_parts(struct parsed_report *p, struct span body)
{
	const struct parsed_field *type = find_field(&p->header, "Content-Type");
	struct span rest, delimiter, marked;
	const char *quote, *at;

	assert_non_null(type);
	assert_true(span_starts(type->value,
				SPAN("multipart/report; report-type=delivery-status;")));
	quote = strstr(type->value.at, "boundary=\"");
	assert_non_null(quote);
	rest = span_str(quote + 10);
	delimiter = span_cut(&rest, '"');
	assert_in_range(delimiter.len, 1, 70);
	assert_int_equal(rest.len, 0);
	marked = arena_printf(&p->arena, "\r\n--%.*s", SPAN_FMT(delimiter));
	rest = body;
	at = memmem(rest.at, rest.len, marked.at, marked.len);
	assert_non_null(at);
	rest = span_skip(rest, (size_t)(at - rest.at) + marked.len);
	while (!span_starts(rest, SPAN("--"))) {
		assert_true(span_starts(rest, SPAN("\r\n")));
		rest = span_skip(rest, 2);
		at = memmem(rest.at, rest.len, marked.at, marked.len);
		assert_non_null(at);
		assert_in_range(p->part_count, 0, PARTS_MAX - 1);
		parse_part(p, span_first(rest, (size_t)(at - rest.at)));
		rest = span_skip(rest, (size_t)(at - rest.at) + marked.len);
	}
	assert_true(span_eq(rest, SPAN("--\r\n")));
}

static inline void
parse_status(struct parsed_report *p, size_t max_recipients)
{
	struct span text = p->parts[1].content;

	check_lines(text, true);
	parse_block(&text, &p->arena, &p->message);
	p->recipients = arena_alloc(&p->arena, max_recipients * sizeof(*p->recipients));
	while (text.len > 0) {
		assert_in_range(p->recipient_count, 0, max_recipients - 1);
		parse_block(&text, &p->arena, &p->recipients[p->recipient_count]);
		assert_true(p->recipients[p->recipient_count++].count > 0);
	}
}

static inline struct span
type_of(const struct parsed_part *part)
{
	const struct parsed_field *field = find_field(&part->header, "Content-Type");

	assert_non_null(field);
	return field->value;
}

static inline void
parse_report(struct parsed_report *p, struct span header, struct span body, size_t max_recipients)
{
	*p = (struct parsed_report){ 0 };
	check_lines(header, true);
	parse_block(&header, &p->arena, &p->header);
	assert_int_equal(header.len, 0);
	check_lines(body, find_field(&p->header, "Content-Transfer-Encoding") != NULL);
	parse_parts(p, body);
	assert_in_range(p->part_count, 2, 3);
	parse_status(p, max_recipients);
}

#endif
