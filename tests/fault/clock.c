/*
 * clock: goes in front of libc (LD_PRELOAD) and shifts what tramd's clocks show, the wall's and the
 * monotonic one alike, by the nanoseconds that stand in the file TRAM_CLOCK (8 octets, this
 * machine's order), which test_life.py writes: a step holds for all threads from one instruction
 * on. Waits go on by the true clock: one that began before a step ends as it would have without it.
 *
 * libfaketime is not enough here: it reads its file again for each question, in each thread for
 * itself, so that one thread takes a deadline that another made for a quarter of an hour ahead.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SECOND = 1000000000 };

static const volatile int64_t *ahead;

__attribute__((constructor)) static void
open_file(void)
{
	const char *path = getenv("TRAM_CLOCK");
	int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *at = fd >= 0 ? mmap(NULL, sizeof(*ahead), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (at == MAP_FAILED)
		abort();
	close(fd);
	ahead = at;
}

static struct timespec
shifted(const struct timespec *t, int64_t ns)
{
	int64_t sum = t->tv_nsec + ns % SECOND, second = t->tv_sec + ns / SECOND;

	if (sum < 0 || sum >= SECOND) {
		second += sum < 0 ? -1 : 1;
		sum += sum < 0 ? SECOND : -SECOND;
	}
	return (struct timespec){ .tv_sec = second, .tv_nsec = sum };
}

int
clock_gettime(clockid_t which, struct timespec *t)
{
	long r = syscall(SYS_clock_gettime, which, t);
	int is_time = which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE ||
		      which == CLOCK_MONOTONIC || which == CLOCK_MONOTONIC_COARSE ||
		      which == CLOCK_MONOTONIC_RAW || which == CLOCK_BOOTTIME;

	if (r == 0 && is_time && ahead != NULL)
		*t = shifted(t, *ahead);
	return (int)r;
}

time_t
time(time_t *out)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (out != NULL)
		*out = t.tv_sec;
	return t.tv_sec;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec t;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	*tv = (struct timeval){ .tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000 };
	return 0;
}

/* All of tramd's conditions with a deadline go by CLOCK_MONOTONIC. */
int
pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
		       const struct timespec *restrict until)
{
	struct timespec real = shifted(until, -*ahead);

	if (real.tv_sec < 0)
		return ETIMEDOUT;
	return pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &real);
}
