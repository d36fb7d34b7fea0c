/*
 * limits: what the shapes of the configuration allow, counted apart from how the dispatcher counts:
 * by the times of the last messages (or connections) of each host, provider, tenant. More than that
 * is told by fail(). See sim.h.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "tests/sim/sim.h"

enum {
	PACED_MINUTE = 30, PACED_OPENED = 10, PACED_CONNECTIONS = 2,
	HOURLY = 20, DAILY = 60,
	BIG_SECOND = 2, BIG_MINUTE = 60, BIG_HOUR = 1500, BIG_CONNECTIONS = 7,
	TENANT_MINUTE = 10,
	FORGOTTEN_MS = 5 * SECOND,	/* a crash forgets what was counted last */
};

const char *const class_names[CLASSES] = { "plain", "paced", "hourly", "daily", "big", "tenants",
					   "ruled", "group", "sources" };

void
gauge_make(struct gauge *g, uint32_t most, int64_t span_ms)
{
	size_t size = most * sizeof(*g->times);

	*g = (struct gauge){ .most = most, .span_ms = span_ms };
	g->times = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (g->times == MAP_FAILED)
		fail("no memory");
}

void
gauge_add(struct gauge *g, const char *what)
{
	if (g->most == 0)
		return;
	if (g->times[g->at] != 0 && world->mono - g->times[g->at] < g->span_ms)
		fail("%s: more than %u in %lld s", what, g->most, (long long)(g->span_ms / 1000));
	g->times[g->at] = world->mono;
	g->at = (g->at + 1) % g->most;
}

/* The newest of them that is not younger than `at` was none. */
void
gauge_take(struct gauge *g)
{
	if (g->most == 0)
		return;
	g->at = (g->at + g->most - 1) % g->most;
	g->times[g->at] = 0;
}

static void
gauge_forget(struct gauge *g, int64_t since)
{
	for (uint32_t i = 0; i < g->most; i++)
		if (g->times[i] >= since)
			g->times[i] = 0;
}

/* Seconds and minutes are forgotten by any restart, by a crash what was not written yet as well. */
void
gauge_restart(struct gauge *g, bool died)
{
	gauge_forget(g, g->span_ms <= MINUTE ? 0
			: died		     ? world->mono - FORGOTTEN_MS
					     : world->mono + 1);
}

void
limits_make(struct host *h)
{
	if (h->class == CLASS_PACED) {
		gauge_make(&h->sent, PACED_MINUTE, MINUTE);
		gauge_make(&h->opened, PACED_OPENED, MINUTE);
		h->most_connections = PACED_CONNECTIONS;
	} else if (h->class == CLASS_HOURLY) {
		gauge_make(&h->sent, HOURLY, HOUR);
	} else if (h->class == CLASS_DAILY) {
		gauge_make(&h->sent, DAILY, DAY);
	} else if (h->class == CLASS_BIG && world->big[0].most == 0) {
		gauge_make(&world->big[0], BIG_SECOND, SECOND);
		gauge_make(&world->big[1], BIG_MINUTE, MINUTE);
		gauge_make(&world->big[2], BIG_HOUR, HOUR);
	} else if (h->class == CLASS_TENANTS) {
		for (size_t i = 0; i < TENANTS_MAX; i++)
			gauge_make(&h->by_tenant[i], TENANT_MINUTE, MINUTE);
	}
}

const char *
limits_config(void)
{
	static char text[1024];

	snprintf(text, sizeof(text),
		 "provider \"big\" { mx = \"*.big.example\" }\n"
		 "shape \"big\" { site = \"big\" connections = %u messages-per-second = %u "
		 "messages-per-minute = %u "
		 "messages-per-hour = %u }\n"
		 "shape \"paced\" { site = \"*.paced.example\" connections = %u "
		 "connections-per-minute = %u "
		 "messages-per-minute = %u }\n"
		 "shape \"hourly\" { site = \"*.hourly.example\" messages-per-hour = %u }\n"
		 "shape \"daily\" { site = \"*.daily.example\" messages-per-day = %u }\n"
		 "shape \"tenants\" { site = \"*.tenants.example\" per = {\"site\", \"tenant\"} "
		 "messages-per-minute = %u }\n",
		 BIG_CONNECTIONS, BIG_SECOND, BIG_MINUTE, BIG_HOUR, PACED_CONNECTIONS, PACED_OPENED,
		 PACED_MINUTE, HOURLY, DAILY, TENANT_MINUTE);
	return text;
}

/* Whose message is it? Of several lanes in one job the first counts. NULL: a report's, or gone. */
static struct gauge *
tenant_gauge(struct host *h, const struct job *job)
{
	struct arena arena = { 0 };
	struct lane_record lane;
	struct gauge *found = NULL;
	unsigned n;
	char name[32];

	if (queue_read_lane(life_home->port, job->recipients[0].lane, &arena, &lane) == 0) {
		snprintf(name, sizeof(name), "%.*s", SPAN_FMT(lane.name.tenant));
		if (sscanf(name, "t%u", &n) == 1)
			found = &h->by_tenant[n % TENANTS_MAX];
	}
	arena_free(&arena);
	return found;
}

void
limits_sent(struct host *h, const struct job *job)
{
	gauge_add(&h->sent, class_names[h->class]);
	for (size_t i = 0; i < 3 && h->class == CLASS_BIG; i++)
		gauge_add(&world->big[i], "big");
	if (h->class == CLASS_TENANTS) {
		struct gauge *g = tenant_gauge(h, job);

		if (g != NULL)
			gauge_add(g, "a tenant");
	}
}

void
limits_unsent(struct host *h, const struct job *job)
{
	gauge_take(&h->sent);
	for (size_t i = 0; i < 3 && h->class == CLASS_BIG; i++)
		gauge_take(&world->big[i]);
	if (h->class == CLASS_TENANTS) {
		struct gauge *g = tenant_gauge(h, job);

		if (g != NULL)
			gauge_take(g);
	}
}

void
limits_opened(struct host *h)
{
	gauge_add(&h->opened, "new connections");
	h->connections++;
	if (h->most_connections > 0 && h->connections > h->most_connections)
		fail("%s: %u connections", class_names[h->class], h->connections);
	if (h->class == CLASS_BIG && ++world->big_connections > BIG_CONNECTIONS)
		fail("big: %u connections", world->big_connections);
}

void
limits_closed(struct host *h)
{
	h->connections--;
	if (h->class == CLASS_BIG)
		world->big_connections--;
}

void
limits_restart(bool died)
{
	for (uint32_t i = 0; i < world->set.hosts; i++) {
		struct host *h = &world->hosts[i];

		h->connections = 0;
		gauge_restart(&h->sent, died);
		gauge_restart(&h->opened, died);
		for (size_t t = 0; t < TENANTS_MAX; t++)
			gauge_restart(&h->by_tenant[t], died);
	}
	for (size_t i = 0; i < 3; i++)
		gauge_restart(&world->big[i], died);
	world->big_connections = 0;
}

int64_t
limits_patience(const struct host *h, int64_t plain)
{
	static const int64_t more[CLASSES] = {
		[CLASS_HOURLY] = HOUR + 10 * MINUTE, [CLASS_DAILY] = DAY + HOUR,
		[CLASS_BIG] = 2 * HOUR,
		[CLASS_RULED] = 20 * MINUTE, [CLASS_GROUP] = 20 * MINUTE, [CLASS_SOURCES] = HOUR +
		10 * MINUTE,
	};

	return plain + more[h->class];
}

int64_t
limits_pace(const struct host *h)
{
	static const int64_t each[CLASSES] = {
		[CLASS_PACED] = MINUTE / PACED_MINUTE, [CLASS_HOURLY] = HOUR / HOURLY,
		[CLASS_DAILY] = DAY / DAILY,
		[CLASS_BIG] = MINUTE / BIG_MINUTE, [CLASS_TENANTS] = MINUTE / TENANT_MINUTE,
	};

	return each[h->class];
}
