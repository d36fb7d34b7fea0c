/* mail_wishes: see mail_wishes.h. Any thread. */
#include "mta/smtp/mail_wishes.h"

#include <stdio.h>
#include <time.h>

enum { DIGITS_MAX = 9 };

static bool
read_digits(struct span *s, size_t least, size_t most, int64_t *ret)
{
	size_t n = 0;
	int64_t value = 0;

	while (n < s->len && n < most && s->at[n] >= '0' && s->at[n] <= '9')
		value = value * 10 + (s->at[n++] - '0');
	*s = span_skip(*s, n);
	*ret = value;
	return n >= least;
}

static bool
is_of(char c, const char *these)
{
	return c != '\0' && strchr(these, c) != NULL;
}

static bool
read_octet(struct span *s, const char *one_of)
{
	bool found = s->len > 0 && is_of(s->at[0], one_of);

	if (found)
		*s = span_skip(*s, 1);
	return found;
}

bool
wish_read_priority(struct span text, int8_t *ret)
{
	bool minus = read_octet(&text, "-");
	int64_t value;

	if (!read_digits(&text, 1, 1, &value) || text.len > 0 || (minus && value == 0))
		return false;
	*ret = (int8_t)(minus ? -value : value);
	return true;
}

/* CFWS of RFC 5322; false: a comment has no end. */
static bool
skip_comments(struct span *s)
{
	size_t depth = 0, i = 0;

	for (; i < s->len; i++) {
		char c = s->at[i];

		if (c == '(')
			depth++;
		else if (depth > 0 && c == ')')
			depth--;
		else if (depth > 0 && c == '\\')
			i++;
		else if (depth == 0 && !is_of(c, " \t\r\n"))
			break;
	}
	*s = span_skip(*s, i > s->len ? s->len : i);
	return depth == 0;
}

bool
wish_read_priority_field(struct span text, int8_t *ret)
{
	struct span rest;
	size_t len = 0;

	if (!skip_comments(&text))
		return false;
	while (len < text.len && !is_of(text.at[len], "( \t\r\n"))
		len++;
	rest = span_skip(text, len);
	return skip_comments(&rest) && rest.len == 0 &&
	       wish_read_priority(span_first(text, len), ret);
}

bool
wish_read_hold_for(struct span text, uint64_t *ret_s)
{
	int64_t value;

	if (!read_digits(&text, 1, DIGITS_MAX, &value) || text.len > 0 || value == 0)
		return false;
	*ret_s = (uint64_t)value;
	return true;
}

/* "Z", "+01:00": how far the clock that was written is ahead, in minutes. */
static bool
read_zone(struct span *s, int64_t *ret)
{
	bool west = s->len > 0 && s->at[0] == '-';
	int64_t hours, minutes;

	*ret = 0;
	if (read_octet(s, "Zz"))
		return true;
	if (!read_octet(s, "+-") || !read_digits(s, 2, 2, &hours) || !read_octet(s, ":") ||
	    !read_digits(s, 2, 2, &minutes) || hours > 23 || minutes > 59)
		return false;
	*ret = (hours * 60 + minutes) * (west ? -1 : 1);
	return true;
}

bool
wish_read_hold_until(struct span text, int64_t *ret_ms)
{
	int64_t year, month, day, hour, minute, second, zone, fraction;
	struct tm tm = { 0 }, back;
	time_t at;

	if (!read_digits(&text, 4, 4, &year) || !read_octet(&text, "-") ||
	    !read_digits(&text, 2, 2, &month) || !read_octet(&text, "-") ||
	    !read_digits(&text, 2, 2, &day) || !read_octet(&text, "Tt") ||
	    !read_digits(&text, 2, 2, &hour) || !read_octet(&text, ":") ||
	    !read_digits(&text, 2, 2, &minute) || !read_octet(&text, ":") ||
	    !read_digits(&text, 2, 2, &second))
		return false;
	if (read_octet(&text, ".") && !read_digits(&text, 1, DIGITS_MAX, &fraction))
		return false;
	if (!read_zone(&text, &zone) || text.len > 0 || year < 1970 || month < 1 || month > 12 ||
	    hour > 23 || minute > 59 || second > 60)
		return false;
	tm = (struct tm){ .tm_year = (int)year - 1900, .tm_mon = (int)month - 1,
			  .tm_mday = (int)day, .tm_hour = (int)hour, .tm_min = (int)minute };
	at = timegm(&tm);
	if (gmtime_r(&at, &back) == NULL || back.tm_mday != (int)day)
		return false;				/* the 31st of a month of 30 */
	*ret_ms = ((int64_t)at + second - zone * 60) * 1000;
	return *ret_ms > 0;
}

bool
wish_read_by(struct span text, struct mail_wishes *ret)
{
	bool minus = read_octet(&text, "-");
	int64_t value;

	if (!minus)
		read_octet(&text, "+");
	if (!read_digits(&text, 1, DIGITS_MAX, &value) || !read_octet(&text, ";"))
		return false;
	if (read_octet(&text, "Rr"))
		ret->by_mode = BY_RETURN;
	else if (read_octet(&text, "Nn"))
		ret->by_mode = BY_NOTIFY;
	else
		return false;
	ret->by_trace = read_octet(&text, "Tt");
	ret->by_s = minus ? -value : value;
	/* what is late already cannot be returned for being late */
	return text.len == 0 && (ret->by_mode == BY_NOTIFY || ret->by_s > 0);
}

char *
wish_time_text(int64_t ms, char out[WISH_TIME_MAX])
{
	time_t at = (time_t)(ms / 1000);
	struct tm tm;

	if (gmtime_r(&at, &tm) == NULL ||
	    strftime(out, WISH_TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, WISH_TIME_MAX, "9999-12-31T23:59:59Z");
	return out;
}
