/* text: see text.h. One thread. */
#include "mta/ctl/text.h"

#include <assert.h>
#include <time.h>

#include "mta/base/clock.h"
#include "mta/control/text.h"

enum { KEEP_ROWS = 500 };

void
text_safe(struct span text, struct buf *out)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.at[i];
		unsigned char next = i + 1 < text.len ? (unsigned char)text.at[i + 1] : 0;

		if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
			buf_byte(out, '?');
			i++;
		} else {
			buf_byte(out, c < 0x20 || c == 0x7f ? '?' : (char)c);
		}
	}
}

void
text_age(int64_t ms, struct buf *out)
{
	int64_t s = ms < 0 ? 0 : ms / 1000;

	if (s < 120)
		buf_printf(out, "%lld s", (long long)s);
	else if (s < 120 * 60)
		buf_printf(out, "%lld min", (long long)(s / 60));
	else if (s < 48 * 3600)
		buf_printf(out, "%lld h", (long long)(s / 3600));
	else
		buf_printf(out, "%lld d", (long long)(s / 86400));
}

void
text_time(int64_t wall, int64_t now, struct buf *out)
{
	time_t seconds = (time_t)(wall / 1000);
	char absolute[32];
	struct tm tm;

	if (wall == 0) {
		buf_byte(out, '-');
		return;
	}
	if (wall > now)
		buf_append(out, SPAN("in "));
	text_age(wall > now ? wall - now : now - wall, out);
	if (wall <= now)
		buf_append(out, SPAN(" ago"));
	if (localtime_r(&seconds, &tm) != NULL &&
	    strftime(absolute, sizeof(absolute), "%Y-%m-%d %H:%M:%S", &tm) > 0)
		buf_printf(out, " (%s)", absolute);
}

void
text_span_of_time(const json_t *hold, struct buf *out)
{
	int64_t since = json_i64(hold, "since_ms"), until = json_i64(hold, "until_ms");

	if (since != 0) {
		buf_append(out, SPAN("; since "));
		text_time(since, wall_ms(), out);
	}
	if (until != 0) {
		buf_append(out, SPAN("; ends "));
		text_time(until, wall_ms(), out);
	}
}

void
text_size(uint64_t octets, struct buf *out)
{
	static const char *const units[] = { "", " KB", " MB", " GB", " TB" };
	double n = (double)octets;
	size_t unit = 0;

	while (n >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		n /= 1024;
		unit++;
	}
	buf_printf(out, unit > 0 && n < 10 ? "%.1f%s" : "%.0f%s", n, units[unit]);
}

bool
text_parse_age(struct span text, uint64_t *ret_ms)
{
	static const struct { char unit; uint64_t ms;
	} units[] = {
		{ 's', 1000 },	   { 'm', 60000 },     { 'h', 3600000 },
		{ 'd', 86400000 }, { 'w', 604800000 },
	};
	uint64_t n;

	if (text.len < 2 || !span_to_u64(span_first(text, text.len - 1), 1000000, &n) || n == 0)
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (text.at[text.len - 1] == units[i].unit) {
			*ret_ms = n * units[i].ms;
			return true;
		}
	return false;
}

/* ---- tables ------------------------------------------------------------------------------- */

void
table_init(struct table *t, FILE *out, const struct column *columns, size_t count)
{
	*t = (struct table){
		.out = out, .columns = columns, .column_count = count, .now_ms = wall_ms()
	};
	assert(count <= sizeof(t->widths) / sizeof(t->widths[0]));
	for (size_t i = 0; i < count; i++)
		t->widths[i] = strlen(columns[i].title);
}

/* Characters, not octets: a continuation octet of UTF-8 takes no room. */
static size_t
width_of(struct span text)
{
	size_t n = 0;

	for (size_t i = 0; i < text.len; i++)
		n += ((unsigned char)text.at[i] & 0xc0) != 0x80;
	return n;
}

/* A text, or several of them. */
static void
cell_words(const json_t *value, struct buf *out)
{
	const json_t *word;
	size_t i;

	if (json_is_string(value))
		text_safe(span_str(json_string_value(value)), out);
	json_array_foreach((json_t *)(uintptr_t)value, i, word) {
		if (i > 0)
			buf_append(out, SPAN(", "));
		text_safe(span_str(json_string_value(word)), out);
	}
}

static void
cell_text(const struct table *t, const struct column *c, const json_t *object, struct buf *out)
{
	int64_t n = json_i64(object, c->key);

	switch (c->kind) {
	case COLUMN_TEXT:
		cell_words(json_object_get(object, c->key), out);
		break;
	case COLUMN_NUMBER:
		if (json_object_get(object, c->key) != NULL)
			buf_printf(out, "%lld", (long long)n);
		break;
	case COLUMN_DUE:
		if (n != 0 && n <= t->now_ms)
			buf_append(out, SPAN("due "));
		text_time(n, t->now_ms, out);
		break;
	case COLUMN_TIME:
		text_time(n, t->now_ms, out);
		break;
	case COLUMN_AGE:
		text_age(n, out);
		break;
	case COLUMN_SIZE:
		text_size((uint64_t)n, out);
		break;
	}
	if (buf_len(out) == 0)
		buf_append(out, span_str(c->empty == NULL ? "-" : c->empty));
}

static void
print_cell(const struct table *t, size_t column, struct span text)
{
	size_t width = width_of(text),
	       pad = t->widths[column] > width ? t->widths[column] - width : 0;
	bool right =
		t->columns[column].kind == COLUMN_NUMBER || t->columns[column].kind == COLUMN_SIZE;
	bool last = column + 1 == t->column_count;

	if (right)
		fprintf(t->out, "%*s", (int)pad, "");
	fwrite(text.at, 1, text.len, t->out);
	if (last)
		fputc('\n', t->out);
	else
		fprintf(t->out, "%*s", (int)(right ? 2 : pad + 2), "");
}

static void
print_kept(struct table *t)
{
	if (!t->begun && t->rows > 0)
		for (size_t i = 0; i < t->column_count; i++)
			print_cell(t, i, span_str(t->columns[i].title));
	t->begun = t->begun || t->rows > 0;
	for (size_t n = 0; n < t->rows * t->column_count; n++) {
		uint32_t len;

		memcpy(&len, t->cells.at + t->cells.start, sizeof(len));
		buf_consume(&t->cells, sizeof(len));
		print_cell(t, n % t->column_count, span_first(buf_span(&t->cells), len));
		buf_consume(&t->cells, len);
	}
	t->rows = 0;
}

void
table_row(struct table *t, const json_t *object)
{
	struct buf cell = { 0 };

	for (size_t i = 0; i < t->column_count; i++) {
		uint32_t len;

		buf_clear(&cell);
		cell_text(t, &t->columns[i], object, &cell);
		len = (uint32_t)buf_len(&cell);
		if (!t->begun && width_of(buf_span(&cell)) > t->widths[i])
			t->widths[i] = width_of(buf_span(&cell));
		buf_append(&t->cells, span_of(&len, sizeof(len)));
		buf_append(&t->cells, buf_span(&cell));
	}
	buf_free(&cell);
	t->rows++;
	if (t->begun || t->rows == KEEP_ROWS)
		print_kept(t);
}

void
table_end(struct table *t)
{
	print_kept(t);
	buf_free(&t->cells);
}
