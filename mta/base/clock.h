/*
 * clock: wall time for what is stored, monotonic time for what is waited for, so that a jump of
 * either is survived. Milliseconds in int64_t everywhere.
 */
#ifndef TRAM_BASE_CLOCK_H
#define TRAM_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t
clock_ms(clockid_t which)
{
	struct timespec ts;

	clock_gettime(which, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static inline int64_t
wall_ms(void)
{
	return clock_ms(CLOCK_REALTIME);
}

static inline int64_t
mono_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}

enum { RFC5322_DATE_MAX = 40, ISO_DATE_MAX = 32 };

/* "Sat, 21 Nov 2026 03:47:35 +0000" in the local zone; returns out. */
char *clock_rfc5322(int64_t wall, char out[RFC5322_DATE_MAX]);
/* "2026-11-21T03:47:35.123Z"; returns out. */
char *clock_iso(int64_t wall, char out[ISO_DATE_MAX]);

#endif
