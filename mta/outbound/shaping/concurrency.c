/* concurrency: see concurrency.h. */
#include "mta/outbound/shaping/concurrency.h"

enum { GENTLE = 8, LATE_US = 500000 };

void
concurrency_init(struct concurrency *c, size_t limit)
{
	*c = (struct concurrency){ .limit = limit > 0 ? limit : 1 };
}

/* Good answers that one connection more costs. */
static size_t
price(const struct concurrency *c)
{
	if (c->trouble_at == 0)
		return 1;
	return c->limit + 1 < c->trouble_at ? c->limit : GENTLE * c->limit;
}

static void
measure(struct concurrency *c, int64_t latency_us)
{
	if (c->usual_us == 0) {
		c->usual_us = c->latency_us = latency_us + 1;
		return;
	}
	c->latency_us += (latency_us - c->latency_us) / 8;
	if (c->latency_us < c->usual_us)
		c->usual_us = c->latency_us + 1;
	else
		c->usual_us += (c->latency_us - c->usual_us) / 1024;
}

/* How late its answers are: 0: not, 1: it must not grow, 2: it must shrink. */
static unsigned
lateness(const struct concurrency *c)
{
	if (c->latency_us > 4 * c->usual_us + LATE_US)
		return 2;
	return c->latency_us > 2 * c->usual_us + LATE_US / 2;
}

static void
shrink(struct concurrency *c, size_t by, int64_t now_ms)
{
	c->cohort = c->limit - 1;		/* the others that are on their way */
	c->trouble_at = c->limit;
	c->trouble_ms = now_ms;
	c->good = 0;
	c->limit = c->limit > by ? c->limit - by : 1;
}

void
concurrency_good(struct concurrency *c, size_t most, int64_t latency_ms, int64_t now_ms)
{
	unsigned late;

	if (latency_ms >= 0)
		measure(c, latency_ms * 1000);
	late = lateness(c);
	c->failed = 0;
	if (c->cohort > 0)
		c->cohort--;
	else if (late == 2 && c->limit > 1)
		shrink(c, 1, now_ms);
	if (c->trouble_at > 0 && now_ms - c->trouble_ms > CONCURRENCY_FADE_MS)
		c->trouble_at = 0;
	if (c->limit > most)
		c->limit = most > 0 ? most : 1;
	if (late > 0 || c->limit >= most || ++c->good < price(c))
		return;
	c->good = 0;
	c->limit++;
}

bool
concurrency_trouble(struct concurrency *c, int64_t now_ms)
{
	if (c->cohort > 0) {
		c->cohort--;
		return false;
	}
	c->failed += c->limit == 1;
	shrink(c, c->limit / 4 > 0 ? c->limit / 4 : 1, now_ms);
	return c->failed >= CONCURRENCY_COHORTS;
}

void
concurrency_refused(struct concurrency *c, size_t left, int64_t now_ms)
{
	c->trouble_at = left + 1;
	c->trouble_ms = now_ms;
	c->limit = left > 0 ? left : 1;
	c->good = c->cohort = 0;
}
