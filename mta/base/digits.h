/*
 * digits: numbers as text, where printf would cost more than all else that is done to a message's
 * reply or log line. Any thread.
 */
#ifndef TRAM_BASE_DIGITS_H
#define TRAM_BASE_DIGITS_H

#include <stdint.h>

enum { DIGITS_MAX = 20 };		/* of a uint64_t */

/*
 * Writes value, with zeros in front if it has fewer digits than least. Returns what is behind it.
 */
static inline char *
digits_put(char *at, uint64_t value, int least)
{
	char backwards[DIGITS_MAX];
	int n = 0;

	do {
		backwards[n++] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	for (int zeros = least - n; zeros > 0; zeros--)
		*at++ = '0';
	while (n > 0)
		*at++ = backwards[--n];
	return at;
}

#endif
