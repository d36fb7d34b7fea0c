/*
 * text: aligned columns, times, sizes and foreign text, for people at a terminal.
 */
#ifndef TRAM_TRAMCTL_TEXT_H
#define TRAM_TRAMCTL_TEXT_H

#include <jansson.h>
#include <stdio.h>

#include "mta/base/buf.h"

/* Text from anywhere, made harmless for a terminal: control characters, C1 ones too, become '?'. */
void text_safe(struct span text, struct buf *out);
/* "2 h ago (2026-11-21 03:47:35)", "in 5 min (…)"; "-" for 0. Local time. */
void text_time(int64_t wall_ms, int64_t now_ms, struct buf *out);
/* What holds mail: "; since 5 s ago (…); ends in 3 min (…)", as far as that is known. */
void text_span_of_time(const json_t *hold, struct buf *out);
void text_age(int64_t ms, struct buf *out);		/* "45 s", "3 min", "2 h", "5 d" */
void text_size(uint64_t octets, struct buf *out);	/* "812", "4.1 KB", "25 MB" */
/* "90s", "30m", "1h", "5d", "2w": milliseconds. False if it is none of these. */
bool text_parse_age(struct span text, uint64_t *ret_ms);

/* COLUMN_DUE: a time; what is past is "due 5 s ago". */
enum column_kind { COLUMN_TEXT, COLUMN_NUMBER, COLUMN_TIME, COLUMN_DUE, COLUMN_AGE, COLUMN_SIZE };

struct column {
	const char *title;
	const char *key;		/* of the object; an array of texts is joined */
	enum column_kind kind;
	const char *empty;		/* what stands for nothing; NULL: "-" */
};

/* Rows are kept until there are enough to know how wide columns are, then go straight out. */
struct table {
	FILE *out;
	const struct column *columns;
	size_t column_count;
	size_t widths[16];
	struct buf cells;		/* each: 4 octets of length, then its text */
	size_t rows;			/* kept */
	bool begun;
	int64_t now_ms;
};

void table_init(struct table *table, FILE *out, const struct column *columns, size_t count);
void table_row(struct table *table, const json_t *object);
void table_end(struct table *table);

#endif
