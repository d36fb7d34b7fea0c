/*
 * schedule: doubling times with a bound and some chance, so that what failed together does not
 * return together.
 */
#include "queue/schedule.h"

/* first, doubled with each further one, at most max. */
static int64_t
doubled(int64_t first_ms, int64_t max_ms, uint32_t count)
{
	int64_t delay = first_ms;

	for (uint32_t i = 1; i < count && delay < max_ms; i++)
		delay = delay > max_ms / 2 ? max_ms : delay * 2;
	return delay < max_ms ? delay : max_ms;
}

/* Between 90 and 110 % of the delay. */
static int64_t
jittered(int64_t delay_ms, uint32_t chance)
{
	int64_t spread = delay_ms / 5;

	return delay_ms - spread / 2 + ((spread * (int64_t)(chance >> 16)) >> 16);
}

int64_t
schedule_retry(const struct schedule_config *c, uint32_t attempts, int64_t now_ms, uint32_t chance)
{
	int64_t delay = doubled(c->retry_first_ms, c->retry_max_ms, attempts);
	/* greylists count the minutes of the first wait: never less than asked for */
	int64_t more = attempts <= 1 ? delay / 10 : 0;

	return now_ms + more + jittered(delay, chance);
}

int64_t
schedule_probe(const struct schedule_config *c, uint32_t failures, int64_t now_ms, uint32_t chance)
{
	return now_ms + jittered(doubled(c->probe_first_ms, c->probe_max_ms, failures), chance);
}
