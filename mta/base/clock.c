/* clock: dates as text. English names whatever the locale (RFC 5322 §3.3). See clock.h. */
#include "mta/base/clock.h"

#include <stdlib.h>
#include <string.h>

#include "mta/base/digits.h"

/* A field of struct tm, in as many digits as the format has room for. */
static unsigned
digits(int n, unsigned below)
{
	return (unsigned)n % below;
}

static time_t
seconds_of(int64_t wall, unsigned *milli)
{
	int64_t rest = wall % 1000, seconds = wall / 1000;

	if (rest < 0) {
		rest += 1000;
		seconds--;
	}
	*milli = (unsigned)rest;
	return (time_t)seconds;
}

/* "16:05:09" */
static char *
put_time(char *at, const struct tm *tm)
{
	at = digits_put(at, digits(tm->tm_hour, 100), 2);
	*at++ = ':';
	at = digits_put(at, digits(tm->tm_min, 100), 2);
	*at++ = ':';
	return digits_put(at, digits(tm->tm_sec, 100), 2);
}

char *
clock_rfc5322(int64_t wall, char out[RFC5322_DATE_MAX])
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	char *at = out;
	struct tm tm;
	unsigned milli, offset;
	time_t when = seconds_of(wall, &milli);

	if (localtime_r(&when, &tm) == NULL) {
		when = 0;
		gmtime_r(&when, &tm);
	}
	offset = digits((int)labs(tm.tm_gmtoff / 60), 1440);
	at = mempcpy(at, days + tm.tm_wday * 3, 3);
	*at++ = ',';
	*at++ = ' ';
	at = digits_put(at, digits(tm.tm_mday, 100), 1);
	*at++ = ' ';
	at = mempcpy(at, months + tm.tm_mon * 3, 3);
	*at++ = ' ';
	at = digits_put(at, digits(tm.tm_year + 1900, 10000), 1);
	*at++ = ' ';
	at = put_time(at, &tm);
	*at++ = ' ';
	*at++ = tm.tm_gmtoff < 0 ? '-' : '+';
	at = digits_put(at, offset / 60, 2);
	at = digits_put(at, offset % 60, 2);
	*at = '\0';
	return out;
}

char *
clock_iso(int64_t wall, char out[ISO_DATE_MAX])
{
	char *at = out;
	struct tm tm;
	unsigned milli;
	time_t when = seconds_of(wall, &milli);

	if (gmtime_r(&when, &tm) == NULL) {
		when = 0;
		gmtime_r(&when, &tm);
	}
	at = digits_put(at, digits(tm.tm_year + 1900, 10000), 4);
	*at++ = '-';
	at = digits_put(at, digits(tm.tm_mon + 1, 100), 2);
	*at++ = '-';
	at = digits_put(at, digits(tm.tm_mday, 100), 2);
	*at++ = 'T';
	at = put_time(at, &tm);
	*at++ = '.';
	at = digits_put(at, milli % 1000, 3);
	*at++ = 'Z';
	*at = '\0';
	return out;
}
