/*
 * world: hosts and domains as the seed makes them, what happens to them, and the scenarios. See
 * sim.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/sim/sim.h"

static void *
shared(size_t count, size_t size)
{
	void *at = mmap(NULL, count * size + 1, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		abort();
	return at;
}

static bool
is_one(uint32_t per_million)
{
	return often(CHANCE_HOSTS, per_million);
}

static void
host_make(struct host *h, bool home)
{
	const struct settings *set = &world->set;

	h->connect_ms = 20 + (int64_t)draw(CHANCE_HOSTS, 200);
	h->service_ms = 50 + (int64_t)draw(CHANCE_HOSTS, 400);
	if (home)
		return;
	if (is_one(set->shaped))
		h->class = CLASS_PACED + (enum class)draw(CHANCE_HOSTS, CLASS_RULED - CLASS_PACED);
	else if (set->rules)
		h->class = is_one(700000) ? CLASS_RULED : CLASS_GROUP;
	else if (set->sources && is_one(400000))
		h->class = CLASS_SOURCES;
	limits_make(h);
	addresses_make(h);
	h->temporary = (uint32_t)draw(CHANCE_HOSTS, 20000);
	h->permanent = (uint32_t)draw(CHANCE_HOSTS, 20000);
	if (is_one(set->slow))
		h->service_ms = 5 * SECOND + (int64_t)draw(CHANCE_HOSTS, 30 * SECOND);
	if (is_one(set->moody)) {
		h->temporary = 300000;
		h->resets = (uint32_t)draw(CHANCE_HOSTS, 100000);
		h->losses = (uint32_t)draw(CHANCE_HOSTS, 20000);
	}
	if (is_one(set->providers)) {
		h->max_connections = 2 + (uint32_t)draw(CHANCE_HOSTS, 10);
		h->per_minute = 5 + (uint32_t)draw(CHANCE_HOSTS, 100);
	}
	if (is_one(set->dead)) {		/* half of them come back one day */
		h->down = DOWN_REFUSES + (enum down)draw(CHANCE_HOSTS, 3);
		h->next_change =
			is_one(500000)
				? world->mono + (int64_t)draw(CHANCE_HOSTS, (uint64_t)set->days_ms)
				: 0;
	} else if (is_one(set->flapping)) {
		h->up_mean = HOUR + (int64_t)draw(CHANCE_HOSTS, DAY);
		h->down_mean = MINUTE + (int64_t)draw(CHANCE_HOSTS, 6 * HOUR);
		if (set->flap_ms > 0) {
			h->up_mean = SECOND + (int64_t)draw(CHANCE_HOSTS, (uint64_t)set->flap_ms);
			h->down_mean = SECOND + (int64_t)draw(CHANCE_HOSTS, (uint64_t)set->flap_ms);
		}
		h->next_change = world->mono + draw_around(CHANCE_HOSTS, h->up_mean);
	}
}

void
world_make(const struct settings *settings)
{
	static const int64_t epoch = INT64_C(1792000000000);

	world = shared(1, sizeof(*world));
	world->set = *settings;
	for (int i = 0; i < CHANCE_STREAMS; i++)
		world->chance[i] = settings->seed * CHANCE_STREAMS + (uint64_t)i;
	world->mono = world->began = HOUR;
	world->wall_ahead = epoch;
	world->hosts = shared(settings->hosts, sizeof(struct host));
	world->domains = shared(settings->domains, sizeof(struct domain));
	world->messages = shared(settings->messages + 1, sizeof(struct message));
	world->rcpts = shared((size_t)settings->messages * RCPTS_MANY + 64, sizeof(struct rcpt));
	world->last_due = shared((size_t)settings->tenants * settings->domains * WISHED_PRIORITIES,
				 sizeof(int64_t));
	world->open = shared((size_t)settings->messages * RCPTS_MANY + 64, sizeof(uint32_t));
	for (uint32_t i = 0; i < settings->hosts; i++)
		host_make(&world->hosts[i], i < settings->tenants);
	for (uint32_t i = 0; i < settings->domains; i++) {
		struct domain *d = &world->domains[i];
		bool home = i < settings->tenants && !settings->shared;

		d->host = home ? i
			       : settings->tenants +
					  (uint32_t)draw(CHANCE_HOSTS,
							 settings->hosts - settings->tenants);
		d->ttl_ms = 30 * SECOND + (int64_t)draw(CHANCE_HOSTS, DAY);
		d->unknown = !home && is_one(settings->unknown);
		if (!home && is_one(settings->silent))
			d->next_change = world->mono + (int64_t)draw(CHANCE_HOSTS, DAY);
	}
	world->traffic_ends = world->began + settings->days_ms;
}

/* ---- what happens ------------------------------------------------------------------------- */

static void
host_change(struct host *h)
{
	if (h->down != DOWN_NO) {
		h->down = DOWN_NO;
		h->ok_since = world->mono;
		h->refusals = 0;
		h->next_change = h->up_mean > 0
					 ? world->mono + draw_around(CHANCE_HOSTS, h->up_mean) + 1
					 : 0;
	} else {
		h->down = DOWN_REFUSES + (enum down)draw(CHANCE_HOSTS, 3);
		h->next_change = world->mono + draw_around(CHANCE_HOSTS, h->down_mean) + 1;
	}
}

static void
domain_change(struct domain *d)
{
	d->silent = !d->silent;
	if (!d->silent)
		d->ok_since = world->mono;
	d->next_change = world->mono + draw_around(CHANCE_HOSTS, d->silent ? HOUR : DAY) + 1;
}

int64_t
world_turn(void)
{
	static int64_t next = 0;	/* a cache: any life may begin with a look at all */

	if (next > world->mono)
		return next;
	next = INT64_MAX;
	for (uint32_t i = 0; i < world->set.hosts; i++) {
		struct host *h = &world->hosts[i];

		if (h->next_change != 0 && h->next_change <= world->mono)
			host_change(h);
		if (h->next_change != 0 && h->next_change < next)
			next = h->next_change;
	}
	for (uint32_t i = 0; i < world->set.domains; i++) {
		struct domain *d = &world->domains[i];

		if (d->next_change != 0 && d->next_change <= world->mono)
			domain_change(d);
		if (d->next_change != 0 && d->next_change < next)
			next = d->next_change;
	}
	return next = next > world->mono + MINUTE ? next : world->mono + MINUTE;
}

void
world_heal(void)
{
	world->draining = true;
	for (uint32_t i = 0; i < world->set.hosts; i++) {
		struct host *h = &world->hosts[i];

		if (h->down != DOWN_NO)
			h->ok_since = world->mono;
		h->down = DOWN_NO;
		h->next_change = 0;
		h->temporary = h->resets = h->losses = h->per_minute = 0;
	}
	for (uint32_t i = 0; i < world->set.domains; i++) {
		struct domain *d = &world->domains[i];

		if (d->silent)
			d->ok_since = world->mono;
		d->silent = false;
		d->next_change = 0;
	}
}

/* ---- scenarios ---------------------------------------------------------------------------- */

static void
steady(struct settings *s)
{
	s->unknown = s->silent = 5000;
}

static void
dead(struct settings *s)
{
	steady(s);
	s->dead = 100000;
	s->flapping = 200000;
	s->lifetime_ms = DAY;
}

/* Restarts and deaths in the midst of it. */
static void
lives(struct settings *s)
{
	dead(s);
	s->moody = 50000;
	s->life_mean = 2 * HOUR;
	s->crashes = 500000;
}

/* Little room in memory, few connections. */
static void
tight(struct settings *s)
{
	dead(s);
	s->window_entries = 1000;
	s->window_sites = 30;
	s->deliveries = 6;
	s->per_site = 3;
	s->slow_disk = 2 * SECOND;
	s->slow = 20000;
}

static void
operator(struct settings *s)
{
	dead(s);
	s->moody = 100000;
	s->edit_every = 3 * MINUTE;
	s->reload_every = HOUR;
}

static void
clock_jumps(struct settings *s)
{
	dead(s);
	s->jump_every = 6 * HOUR;
	s->far_jumps = true;
	s->first_try_ms = 2 * MINUTE;		/* a jump is seen within one */
	s->life_mean = 12 * HOUR;
	s->crashes = 500000;
}

static void
providers(struct settings *s)
{
	steady(s);
	s->moody = s->slow = 20000;
	s->providers = 200000;
}

static void
storms(struct settings *s)
{
	providers(s);
	s->storm = s->messages / 2;
	s->first_try_ms = 2 * MINUTE;
}

/* Limits of our own, with mail enough to reach them. */
static void
shapes(struct settings *s)
{
	steady(s);
	s->shaped = 500000;
	s->storm = s->messages / 3;
	s->life_mean = 6 * HOUR;
	s->crashes = 300000;
	s->window_entries = 2000;
}

/* All tenants at once, for one host. */
static void
fair(struct settings *s)
{
	s->fair = true;
	s->storm = s->messages;
	s->window_entries = 2000;
	s->config = "tenant \"t1\" { weight = 3 }\ntenant \"t3\" { weight = 10 }\n";
}

/*
 * One tenant's mail goes to far more sites than there is room for; what others send comes and goes
 * between.
 */
static void
wide(struct settings *s)
{
	s->spread = true;
	s->days_ms = 10 * MINUTE;
	s->window_sites = 40;
	s->window_entries = 400;
	s->deliveries = 20;
	s->storm = s->messages * 3 / 4;
	s->life_mean = 2 * MINUTE;
	s->crashes = 500000;
	s->dead = 50000;
	s->first_try_others = 2 * s->window_sites;
	s->first_try_ms = MINUTE;
}

/*
 * Few lanes, which are never empty for long: what is put off must be met again beside what is new.
 */
static void
busy(struct settings *s)
{
	s->hosts = 8;
	s->domains = 10;
	s->tenants = 2;
	s->days_ms = 4 * HOUR;
	s->flapping = 300000;
	s->moody = 1000000;
	s->window_entries = 500;
	s->slow_disk = 2 * SECOND;
	s->per_site = 1;
	s->slow = 700000;
	s->storm = s->messages / 2;
	s->lifetime_ms = DAY;
}

/* So little mail that nobody else's wake-up helps. */
static void
lone(struct settings *s)
{
	s->hosts = 4;
	s->domains = 6;
	s->tenants = 1;
	s->flapping = 1000000;
	s->flap_ms = 40 * MINUTE;
	s->silent = 300000;
	s->slow_disk = 2 * SECOND;
	s->life_mean = 12 * HOUR;
	s->crashes = 500000;
}

/* All of it. */
static void
chaos(struct settings *s)
{
	tight(s);
	s->window_sites = 100;
	s->deliveries = 20;
	s->moody = 50000;
	s->providers = 50000;
	s->edit_every = 10 * MINUTE;
	s->reload_every = 3 * HOUR;
	s->jump_every = DAY;
	s->life_mean = 4 * HOUR;
	s->crashes = 500000;
	s->storm = s->messages / 4;
}

/* A provider that has too much of us, by source and by site, and rules that make measures of it. */
static void
rules(struct settings *s)
{
	s->hosts = s->tenants + 8;
	s->domains = s->tenants + 16;
	s->rules = s->sources = true;
	s->storm = s->messages / 2;
	s->life_mean = 3 * HOUR;
	s->crashes = 500000;
	s->several = 3;
	s->reload_every = 8 * HOUR;
}

/* New sources: a ceiling for each day, and older ones for what is more. */
static void
warm(struct settings *s)
{
	s->hosts = s->tenants + 6;
	s->domains = s->tenants + 8;
	s->days_ms = 7 * (int64_t)DAY;
	s->sources = true;
	s->storm = s->messages / 4;
	s->life_mean = 8 * HOUR;
	s->crashes = 500000;
	s->reload_every = 20 * HOUR;
}

/* Priorities, times before and by which, for hosts that are slow, and some that are down. */
static void
wishes(struct settings *s)
{
	s->hosts = s->tenants + 8;
	s->domains = s->tenants + 12;
	s->shared = true;
	s->urgent = 600000;
	s->later = s->by = 200000;
	s->slow = 700000;
	s->per_site = 2;
	s->flapping = 300000;
	s->storm = s->messages / 3;
	s->life_mean = 12 * HOUR;
	s->crashes = 500000;
	s->reload_every = 10 * HOUR;
}

/* All of these, with little room and an operator. */
static void
market(struct settings *s)
{
	wishes(s);
	s->hosts = s->tenants + 30;
	s->domains = s->tenants + 40;
	s->days_ms = 4 * (int64_t)DAY;
	s->rules = s->sources = true;
	s->slow = 100000;
	s->urgent = 0;
	s->per_site = 5;
	s->silent = 50000;
	s->window_entries = 1000;
	s->window_sites = 20;
	s->deliveries = 20;
	s->edit_every = 20 * MINUTE;
}

static const struct scenario {
	const char *name;
	void (*apply)(struct settings *settings);
} scenarios[] = {
	{ "steady", steady },	    { "dead", dead },	{ "lives", lives },	    { "tight",
										      tight },
	{ "operator", operator },   { "clock", clock_jumps }, { "providers", providers },
	{ "storms", storms },
	{ "lone", lone }, { "busy", busy }, { "shapes", shapes }, { "fair", fair },
	{ "wide", wide },
	{ "rules", rules }, { "warm", warm }, { "wishes", wishes }, { "market", market },
	{ "chaos", chaos },
};

bool
scenario_apply(struct settings *settings)
{
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
		if (strcmp(settings->scenario, scenarios[i].name) == 0) {
			scenarios[i].apply(settings);
			return true;
		}
	return false;
}

const char *
scenario_names(void)
{
	static char names[256];

	names[0] = '\0';
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
			 i > 0 ? ", " : "", scenarios[i].name);
	return names;
}
