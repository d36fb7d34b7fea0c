/* traffic: see traffic.h. */
#include "mta/outbound/explain/traffic.h"

static void
flow_turn(struct flow *f, int64_t window_ms, int64_t now_ms)
{
	int64_t passed = (now_ms - f->began_ms) / window_ms;

	if (passed > 0)
		*f = (struct flow){ .began_ms = f->began_ms + passed * window_ms,
				    .before = passed == 1 ? f->now : 0 };
}

static uint64_t
flow_read(struct flow f, int64_t window_ms, int64_t now_ms)
{
	int64_t left;

	flow_turn(&f, window_ms, now_ms);
	left = window_ms - (now_ms - f.began_ms);
	return f.now + (uint64_t)f.before * (uint64_t)(left < window_ms ? left : window_ms) /
			       (uint64_t)window_ms;
}

void
traffic_note(struct traffic *t, enum traffic_end end, int64_t now_ms)
{
	t->count[end]++;
	if (end != TRAFFIC_DELIVERED)
		return;
	flow_turn(&t->recent, TRAFFIC_SHORT_MS, now_ms);
	flow_turn(&t->minute, TRAFFIC_LONG_MS, now_ms);
	t->recent.now++;
	t->minute.now++;
}

uint64_t
traffic_recent(const struct traffic *t, int64_t now_ms)
{
	return flow_read(t->recent, TRAFFIC_SHORT_MS, now_ms);
}

uint64_t
traffic_minute(const struct traffic *t, int64_t now_ms)
{
	return flow_read(t->minute, TRAFFIC_LONG_MS, now_ms);
}
