/*
 * life: one life of the process, on the queue that the last one left: started as mta/server.c does
 * it; it ends when all is over, for a restart, or by death: then nothing is closed, and nothing
 * written. See sim.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mta/reactor/suppressed.h"
#include "tests/sim/sim.h"

enum {
	SCAN_MS = 10 * MINUTE,
	STOP_MS = 10 * SECOND,		/* then once more, less patiently */
	QUIET_MS = HOUR, QUIET_TURNS = 4000,	/* of the loop, while there is nothing to do */
};

struct reactor *life_home;
static struct reactor reactor;
static struct post post;
static bool stopped;

static void
on_stopped(void *arg)
{
	(void)arg;
	stopped = true;
}

static void
on_poisoned(void *arg, const char *why)
{
	(void)arg;
	fail("%s", why);
}

static void
start(void)
{
	struct queue_config c = { .path = world->set.path, .readers = 4, .poisoned = on_poisoned };
	char error[QUEUE_ERROR_MAX];
	struct log_config log = { .level = world->set.verbose ? LOG_INFO : LOG_ERROR };
	struct config *config = config_make();
	struct queue *queue;

	log_configure(&log);
	if (world->set.far_jumps && world->life == 1)
		traffic_jump(-6 * HOUR);
	c.map_size = config->queue.map_size;
	c.max_size = config->queue.max_size;
	c.min_free = config->queue.min_free;
	if (queue_open(&c, &queue, error) < 0)
		fail("%s", error);
	if (reactor_init(&reactor, queue, config, &post, 0, 1) < 0)
		fail("no reactor");
	life_home = &reactor;
	machine_start(&reactor);
	hosts_restart();
	limits_restart(world->died);
	rules_restart(world->died);
	addresses_restart(world->died);
	world->died = false;
	if (suppressed_open(&reactor, &reactor.suppressed) < 0)
		fail("no list of suppressed addresses");
	reactor.dispatcher = dispatcher_start(&reactor);
	traffic_start(&reactor);
	world->life_began = world->mono;
	world->life_others = world->begun;
	world->life_ends = INT64_MAX;
	if (world->set.life_mean > 0 && !world->draining)
		world->life_ends = world->mono + draw_around(CHANCE_FATE, world->set.life_mean) + 1;
}

static void
stop(void)
{
	int64_t patience = world->mono + STOP_MS, limit = world->mono + HOUR;

	stopped = false;
	dispatcher_stop(reactor.dispatcher, on_stopped, NULL);
	while (!stopped || !traffic_idle()) {
		machine_step(world->mono + SECOND);
		if (world->mono > limit)
			fail("it does not stop");
		if (world->mono > patience && !stopped) {
			patience = INT64_MAX;
			dispatcher_stop(reactor.dispatcher, on_stopped, NULL);
		}
	}
	dispatcher_close(reactor.dispatcher);
	suppressed_close(reactor.suppressed);
	reactor_close(&reactor);
	while (uv_loop_alive(&reactor.loop))
		machine_step(world->mono + SECOND);
	if (reactor.delivery_count > 0)
		fail("%zu deliveries are left behind", reactor.delivery_count);
	dispatcher_free(reactor.dispatcher);
	suppressed_free(reactor.suppressed);
	reactor_free(&reactor);
	queue_close(reactor.queue);
	config_free(reactor.config);
	machine_free();
}

/* ---- the end of all ----------------------------------------------------------------------- */

static void
on_fault(void *arg, const char *fault)
{
	(void)arg;
	fail("the queue: %s", fault);
}

static void
check_row(uint64_t id)
{
	struct arena arena = { 0 };
	struct site_record site;
	struct queue_asleep lane = { 0 }, first = { 0 };
	int64_t next = INT64_MAX;
	size_t n = 0, tenants = 0;

	if (id == 0)				/* its row stays where it was */
		return;
	if (queue_read_asleep(reactor.port, id, &first, INT64_MAX, &lane, 1, &n, &next, &tenants) ==
		    0 &&
	    n > 0)
		ledger_tell_lane(lane.lane);
	if (queue_read_site(reactor.port, id, &arena, &site) < 0)
		fail("site %llu, which is not there, has a row in wake", (unsigned long long)id);
	fail("site %llu, %.*s, is woken for nothing: %llu lanes, in %lld s, %u failures until %lld "
	     "s",
	     (unsigned long long)id, SPAN_FMT(site.key), (unsigned long long)site.lanes,
	     (long long)(site.wake_ms - wall_ms()) / 1000, site.state.backoff.failures,
	     (long long)(site.state.backoff.next_ms - wall_ms()) / 1000);
}

/* What is empty has no rows, and costs nothing. */
static void
check_empty(void)
{
	struct queue_facts facts;
	struct queue_wake wakes[2], after = { 0 };
	uint64_t turns;
	int64_t until;
	size_t n;

	for (until = world->mono + QUIET_MS; world->mono < until;)
		machine_step(until);
	turns = world->turns;
	for (until = world->mono + QUIET_MS; world->mono < until;)
		machine_step(until);
	if (world->turns - turns > QUIET_TURNS)
		fail("%llu turns of the loop in an hour with nothing to do",
		     (unsigned long long)(world->turns - turns));
	queue_facts(reactor.queue, &facts);
	if (facts.messages > 0)
		fail("%llu messages are left in the queue", (unsigned long long)facts.messages);
	queue_read_wakes(reactor.port, &after, INT64_MAX, wakes, 2, &n);
	for (size_t i = 0; i < n; i++)
		check_row(wakes[i].site);
	if (reactor.dispatcher->window.sites > 1 || reactor.dispatcher->window.lanes.count > 0)
		fail("%zu sites and %zu lanes stay in memory with nothing to do",
		     reactor.dispatcher->window.sites - 1, reactor.dispatcher->window.lanes.count);
	if (queue_check(reactor.queue, on_fault, NULL) < 0)
		fail("the queue is damaged");
}

/* ---- the way through ---------------------------------------------------------------------- */

static void
look_around(void)
{
	watch_step(reactor.dispatcher);
	if (world->mono - world->scanned < SCAN_MS)
		return;
	world->scanned = world->mono;
	watch_deep(reactor.dispatcher);
	ledger_scan();
}

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static bool
all_is_over(void)
{
	return world->draining && world->open_count == 0 && traffic_idle() &&
	       dispatcher_idle(reactor.dispatcher);
}

/* Whatever is going on: for a new life, or struck dead. */
static int
life_ends(void)
{
	if (often(CHANCE_FATE, world->set.crashes)) {
		ledger_died();
		world->died = true;
		_exit(LIFE_DIED);
	}
	stop();
	return LIFE_RESTART;
}

int
life_run(void)
{
	int64_t drained_by = world->traffic_ends + world->set.lifetime_ms + 2 * DAY;

	start();
	while (!all_is_over()) {
		int64_t next = least(world_turn(), world->life_ends);

		if (world->mono >= world->life_ends)
			return life_ends();

		if (!world->draining)
			next = least(next, traffic_turn());
		machine_step(least(next, world->scanned + SCAN_MS));
		look_around();
		if (!world->draining && world->mono >= world->traffic_ends)
			world_heal();
		if (world->draining)
			traffic_release();
		if (world->mono > drained_by)
			fail("%u recipients are still open", world->open_count);
	}
	check_empty();
	stop();
	ledger_end();
	return LIFE_OVER;
}
