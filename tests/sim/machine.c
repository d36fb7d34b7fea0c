/*
 * machine: time, chance, the order of events, and the queue's writer, which is a thread elsewhere
 * and here a coroutine that runs when an event says so: after a while, so that operations are on
 * their way for some time, and what they did is on disk before we are told. See sim.h.
 *
 * The linker leads the calls here (--wrap); clock_gettime is libuv's too.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/sim/sim.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

enum { STACK = 1 << 20, TURNS_MAX = 20000, KEY_SHIFT = 20 };

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg);
int __wrap_pthread_join(pthread_t thread, void **ret);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
				  const struct timespec *at);
int __wrap_pthread_cond_signal(pthread_cond_t *cond);
int __wrap_uv_async_send(uv_async_t *async);
int __real_uv_async_send(uv_async_t *async);
ssize_t __wrap_getrandom(void *to, size_t len, unsigned flags);

struct world *world;

static struct heap events;
static uint64_t event_number;
static struct reactor *home;
static unsigned turns_now;		/* of the loop without time going by */

static struct {
	ucontext_t own, back;
	void *stack;
	void *(*run)(void *arg);
	void *arg;
	bool running, over;
	int64_t at;			/* monotonic: it runs then; INT64_MAX: when it is called */
	struct event wake;		/* what it has done is told */
	void *fake, *back_fake;
	const void *back_bottom;
	size_t back_size;
} writer;

/* ---- chance ------------------------------------------------------------------------------- */

static uint64_t
next_number(uint64_t *state)		/* splitmix64 */
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t
draw(enum dice stream, uint64_t below)
{
	return below == 0 ? 0 : next_number(&world->chance[stream]) % below;
}

bool
often(enum dice stream, uint32_t per_million)
{
	return per_million > 0 && draw(stream, 1000000) < per_million;
}

/* -ln(u), to some digits, without libm: the same on every machine. */
static int64_t
minus_log_milli(uint64_t u)		/* u: 1 … 2^32 */
{
	int64_t sum = 0;

	while (u < (UINT64_C(1) << 31)) {
		u <<= 1;
		sum += 693;
	}
	return sum + (int64_t)((((UINT64_C(1) << 32) - u) * 693) >> 31);
}

int64_t
draw_around(enum dice stream, int64_t mean)
{
	int64_t milli = minus_log_milli(draw(stream, UINT64_C(1) << 32) + 1);

	return mean * (milli < 8000 ? milli : 8000) / 1000;
}

ssize_t
__wrap_getrandom(void *to, size_t len, unsigned flags)
{
	(void)flags;
	for (size_t i = 0; i < len; i++)
		((uint8_t *)to)[i] = (uint8_t)draw(CHANCE_PRODUCT, 256);
	return (ssize_t)len;
}

/* ---- time --------------------------------------------------------------------------------- */

int
clock_gettime(clockid_t which, struct timespec *ts)
{
	int64_t ms;

	if (world == NULL)
		return (int)syscall(SYS_clock_gettime, which, ts);
	ms = world->mono +
	     (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE ? world->wall_ahead : 0);
	*ts = (struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
	return 0;
}

void
fail(const char *format, ...)
{
	char why[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	snprintf(world->failure, sizeof(world->failure), "after %lld.%03d s (life %u): %s",
		 (long long)((world->mono - world->began) / 1000), (int)(world->mono % 1000),
		 world->life, why);
	fprintf(stderr, "sim: %s\n", world->failure);
	if (getenv("SIM_ABORT") != NULL)
		abort();
	_exit(LIFE_FAILED);
}

/* ---- events ------------------------------------------------------------------------------- */

void
event_in(struct event *event, int64_t ms)
{
	int64_t at = world->mono + (ms > 0 ? ms : 0);

	heap_set(&events, &event->node,
		 at << KEY_SHIFT | (int64_t)(event_number++ & ((1u << KEY_SHIFT) - 1)));
}

void
event_cancel(struct event *event)
{
	heap_remove(&events, &event->node);
}

/* ---- the writer --------------------------------------------------------------------------- */

/* How long until it gets to run, or what it did is told: mostly at once. */
static int64_t
delay(void)
{
	uint64_t kind = draw(CHANCE_DELAYS, 100);

	if (world->set.slow_disk > 0 && kind < 20)
		return (int64_t)draw(CHANCE_DELAYS, (uint64_t)world->set.slow_disk);
	if (kind < 70)
		return 0;
	return (int64_t)draw(CHANCE_DELAYS, kind < 95 ? 5 : 60);
}

static void
switch_to_main(bool last)
{
#ifdef WITH_ASAN
	__sanitizer_start_switch_fiber(last ? NULL : &writer.fake, writer.back_bottom,
				       writer.back_size);
#endif
	(void)last;
	writer.running = false;
	swapcontext(&writer.own, &writer.back);
#ifdef WITH_ASAN
	__sanitizer_finish_switch_fiber(writer.fake, &writer.back_bottom, &writer.back_size);
#endif
}

static void
writer_body(void)
{
#ifdef WITH_ASAN
	__sanitizer_finish_switch_fiber(NULL, &writer.back_bottom, &writer.back_size);
#endif
	writer.run(writer.arg);
	writer.over = true;
	switch_to_main(true);
}

static void
writer_resume(void)
{
	writer.at = INT64_MAX;
	writer.running = true;
#ifdef WITH_ASAN
	__sanitizer_start_switch_fiber(&writer.back_fake, writer.stack, STACK);
#endif
	swapcontext(&writer.back, &writer.own);
#ifdef WITH_ASAN
	__sanitizer_finish_switch_fiber(writer.back_fake, NULL, NULL);
#endif
}

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
		      void *arg)
{
	(void)attr;
	*thread = pthread_self();
	if (writer.stack == NULL)
		writer.stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (writer.stack == MAP_FAILED)
		return EAGAIN;
	writer.run = run;
	writer.arg = arg;
	writer.over = false;
	writer.at = world->mono;
	getcontext(&writer.own);
	writer.own.uc_stack.ss_sp = writer.stack;
	writer.own.uc_stack.ss_size = STACK;
	makecontext(&writer.own, writer_body, 0);
	return 0;
}

int
__wrap_pthread_join(pthread_t thread, void **ret)
{
	(void)thread;
	(void)ret;
	while (!writer.over)
		writer_resume();
	return 0;
}

int
__wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
	(void)cond;
	if (!writer.running)
		fail("somebody else than the writer waits for a condition");
	pthread_mutex_unlock(mutex);
	switch_to_main(false);
	pthread_mutex_lock(mutex);
	return 0;
}

int
__wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
			      const struct timespec *at)
{
	int64_t ms = (int64_t)at->tv_sec * 1000 + (at->tv_nsec + 999999) / 1000000;

	writer.at = ms > world->mono ? ms : world->mono;
	__wrap_pthread_cond_wait(cond, mutex);
	return world->mono >= ms ? ETIMEDOUT : 0;
}

int
__wrap_pthread_cond_signal(pthread_cond_t *cond)
{
	int64_t at = world->mono + delay();

	(void)cond;
	if (!writer.running && at < writer.at)
		writer.at = at;
	return 0;
}

static void
on_wake(struct event *event)
{
	(void)event;
	__real_uv_async_send(&home->queue_wake);
}

int
__wrap_uv_async_send(uv_async_t *async)
{
	if (home == NULL || async != &home->queue_wake)
		return __real_uv_async_send(async);
	writer.wake.happens = on_wake;
	if (!heap_holds(&writer.wake.node))
		event_in(&writer.wake, delay());
	return 0;
}

/* ---- turns -------------------------------------------------------------------------------- */

void
machine_start(struct reactor *reactor)
{
	home = reactor;
}

void
machine_free(void)
{
	home = NULL;
	heap_free(&events);
	events = (struct heap){ 0 };
}

static bool
has_gathered(const struct queue_port *port)
{
	for (int i = 0; i < CLASS_COUNT; i++)
		if (port->gathered[i].first != NULL)
			return true;
	return false;
}

bool
machine_quiet(void)
{
	return !queue_port_busy(home->port) && !heap_holds(&writer.wake.node);
}

static int64_t
next_time(int64_t until)
{
	struct heap_node *first = heap_first(&events);
	int wait = uv_backend_timeout(&home->loop);

	if (wait >= 0 && world->mono + wait < until)
		until = world->mono + wait;
	if (writer.at < until)
		until = writer.at;
	if (first != NULL && first->at_ms >> KEY_SHIFT < until)
		until = first->at_ms >> KEY_SHIFT;
	return until > world->mono ? until : world->mono;
}

static void
turn(void)
{
	do {
		uv_run(&home->loop, UV_RUN_NOWAIT);
		world->turns++;
		if (++turns_now > TURNS_MAX)
			fail("it spins: %u turns of the loop in one moment", turns_now);
	} while (home->post->own.first != NULL || has_gathered(home->port));
}

void
machine_step(int64_t until)
{
	struct heap_node *first;
	int64_t at = next_time(until);

	if (at > world->mono)
		turns_now = 0;
	world->mono = at;
	uv_update_time(&home->loop);
	while ((first = heap_first(&events)) != NULL && first->at_ms >> KEY_SHIFT <= world->mono) {
		struct event *event = CONTAINER_OF(first, struct event, node);

		heap_remove(&events, first);
		world->events++;
		event->happens(event);
	}
	if (writer.at <= world->mono && !writer.over)
		writer_resume();
	turn();
}
