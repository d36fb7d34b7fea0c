/*
 * units: times, sizes and numbers as people write them, and how far two words are apart.
 * Pure.
 *
 * A unit is required (but for 0): a bare "timeout = 30" is read as seconds by some and
 * milliseconds by others.
 */
#include "mta/config/private.h"

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit times[] = {
	{ "w", INT64_C(7) * 24 * 3600 * 1000 },
	{ "d", INT64_C(24) * 3600 * 1000 },
	{ "h", 3600 * 1000 },
	{ "m", 60 * 1000 },
	{ "s", 1000 },
	{ "ms", 1 },
};

static const struct unit sizes[] = {
	{ "TB", INT64_C(1) << 40 }, { "GB", 1 << 30 }, { "MB", 1 << 20 },
	{ "KB", 1 << 10 },	    { "B", 1 },
};

static bool
parse(struct span text, const struct unit *units, size_t count, int64_t *ret)
{
	struct span digits = text;
	uint64_t n;

	digits.len = 0;
	while (digits.len < text.len && text.at[digits.len] >= '0' && text.at[digits.len] <= '9')
		digits.len++;
	if (!span_to_u64(digits, INT64_MAX, &n))
		return false;
	text = span_skip(text, digits.len);
	if (text.len == 0 && n == 0) {
		*ret = 0;
		return true;
	}
	for (size_t i = 0; i < count; i++) {
		if (!span_eq(text, span_str(units[i].name)))
			continue;
		if (n > (uint64_t)(INT64_MAX / units[i].factor))
			return false;
		*ret = (int64_t)n * units[i].factor;
		return true;
	}
	return false;
}

bool
units_time(struct span text, int64_t *ret, const char **error)
{
	*error = "a time is a whole number and its unit: 500ms, 30s, 5m, 4h, 5d or 1w";
	return parse(text, times, sizeof(times) / sizeof(times[0]), ret);
}

bool
units_size(struct span text, int64_t *ret, const char **error)
{
	*error = "a size is a whole number and its unit: 500B, 64KB, 25MB, 20GB or 1TB";
	return parse(text, sizes, sizeof(sizes) / sizeof(sizes[0]), ret);
}

bool
units_number(struct span text, int64_t *ret, const char **error)
{
	uint64_t n;

	*error = "a whole number without a unit is needed, e.g. 100";
	if (!span_to_u64(text, INT64_MAX, &n))
		return false;
	*ret = (int64_t)n;
	return true;
}

static struct span
text_of(int64_t n, const struct unit *units, size_t count, struct arena *arena)
{
	for (size_t i = 0; n != 0 && i < count; i++)
		if (n % units[i].factor == 0)
			return arena_printf(arena, "%lld%s", (long long)(n / units[i].factor),
					    units[i].name);
	return arena_printf(arena, "%lld", (long long)n);
}

struct span
units_time_text(int64_t ms, struct arena *arena)
{
	return text_of(ms, times, sizeof(times) / sizeof(times[0]), arena);
}

struct span
units_size_text(int64_t octets, struct arena *arena)
{
	return text_of(octets, sizes, sizeof(sizes) / sizeof(sizes[0]), arena);
}

/* Optimal string alignment (Damerau-Levenshtein without overlaps), three rows at a time. */
size_t
edit_distance(struct span a, struct span b)
{
	enum { LONGEST = 48 };
	size_t rows[3][LONGEST + 1], *before = rows[0], *last = rows[1], *row = rows[2];

	if (a.len > LONGEST || b.len > LONGEST)
		return LONGEST;
	for (size_t j = 0; j <= b.len; j++)
		before[j] = last[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t *swap = before;

		row[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			size_t best = last[j - 1] + (a.at[i - 1] != b.at[j - 1]);

			if (last[j] + 1 < best)
				best = last[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && a.at[i - 1] == b.at[j - 2] &&
			    a.at[i - 2] == b.at[j - 1] && before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			row[j] = best;
		}
		before = last;
		last = row;
		row = swap;
	}
	return last[b.len];
}
