/*
 * addresses: sources, pools of them, and what is new among them: counted apart from the dispatcher,
 * by what is given to connections of each. No more than the plan's ceiling for the day; a message
 * leaves from the address that its first recipient's hash, or its last try, says, unless that one
 * cannot be used. See sim.h.
 */
#include <stdio.h>

#include "policy/source.h"
#include "tests/sim/sim.h"

enum {
	NEW_FIRST = 1, NEW_LAST = 2,	/* of the sources */
	PLAN_DAYS = 5, PLAN_BEGINS = 1,	/* the day after the run begins */
	PER_MINUTE = 12, PER_HOUR = 150, CONNECTIONS = 3,
	/* seconds that a crash makes forgotten: one, and what a commit takes */
	FORGOTTEN_S = 2,
};

static const char *const names[SOURCES] = { "old", "young", "younger", "other" };
static const uint32_t plan[PLAN_DAYS] = { 12, 24, 48, 96, 200 };
/* of tenants: bits of sources; 0: none */
static const unsigned pools[TENANTS_MAX] = { 7, 7, 6, 9 };

static int64_t
today(void)
{
	return wall() / DAY;
}

static int64_t
plan_start(void)
{
	return (world->began + INT64_C(1792000000000)) / DAY + PLAN_BEGINS;
}

static bool
is_new(size_t source)
{
	return source >= NEW_FIRST && source <= NEW_LAST;
}

/* UINT32_MAX: none. */
static uint32_t
ceiling(size_t source)
{
	int64_t day = today() - plan_start();

	if (!is_new(source) || day >= PLAN_DAYS)
		return UINT32_MAX;
	return day < 0 ? 0 : plan[day];
}

/* Those that the pool of this tenant has: bits; 0: none. */
static unsigned
pool_of(uint32_t tenant)
{
	return world->set.sources ? pools[tenant % TENANTS_MAX] : 0;
}

/* Days since 1970 → "2026-11-21". */
static void
write_day(int64_t days, char text[16])
{
	time_t at = (time_t)(days * (DAY / SECOND));
	struct tm tm;

	gmtime_r(&at, &tm);
	strftime(text, 16, "%Y-%m-%d", &tm);
}

const char *
addresses_config(void)
{
	static char text[2000];
	unsigned heavy = world->reloads % 2 == 0 ? 3 : 1;
	char start[16];

	if (!world->set.sources)
		return "";
	write_day(plan_start(), start);
	snprintf(text, sizeof(text),
		 "source \"old\" { address = \"127.0.0.2\" }\nsource \"other\" { address = "
		 "\"127.0.0.3\" }\n"
		 "source \"young\" { address = \"127.0.0.4\" warmup-start = \"%s\" warmup-plan = "
		 "{%u, %u, %u, %u, %u} }\n"
		 "source \"younger\" { address = \"127.0.0.5\" warmup-start = \"%s\" warmup-plan = "
		 "{%u, %u, %u, %u, %u} }\n"
		 "pool \"mixed\" { sources = {\"old=%u\", \"young=2\", \"younger\"} tenants = "
		 "{\"t0\", \"t1\"} }\n"
		 "pool \"new\" { sources = {\"young\", \"younger=%u\"} tenants = \"t2\" }\n"
		 "pool \"settled\" { sources = {\"old=%u\", \"other\"} tenants = \"t3\" }\n"
		 "shape \"sources\" { site = \"*.sources.example\" per = {\"site\", \"source\"} "
		 "connections = %u "
		 "messages-per-minute = %u messages-per-hour = %u }\n",
		 start, plan[0], plan[1], plan[2], plan[3], plan[4], start, plan[0], plan[1],
		 plan[2], plan[3], plan[4], heavy, heavy, heavy, CONNECTIONS, PER_MINUTE, PER_HOUR);
	return text;
}

static size_t
number_of(struct span name)
{
	for (size_t i = 0; i < SOURCES; i++)
		if (span_eq(name, span_str(names[i])))
			return i;
	fail("%.*s is no source", SPAN_FMT(name));
}

size_t
address_number(const struct delivery *d)
{
	return d->source == NULL ? SOURCES : number_of(d->source->name);
}

void
addresses_make(struct host *h)
{
	for (size_t i = 0; i < SOURCES && h->class == CLASS_SOURCES; i++) {
		gauge_make(&h->source_sent[i][0], PER_MINUTE, MINUTE);
		gauge_make(&h->source_sent[i][1], PER_HOUR, HOUR);
	}
}

/* ---- limits of each source ---------------------------------------------------------------- */

void
addresses_opened(struct host *h, const struct delivery *d)
{
	size_t source = address_number(d);

	if (source < SOURCES && ++h->source_visits[source] > CONNECTIONS &&
	    h->class == CLASS_SOURCES)
		fail("%s: %u connections", names[source], h->source_visits[source]);
}

void
addresses_closed(struct host *h, const struct delivery *d)
{
	size_t source = address_number(d);

	if (source < SOURCES)
		h->source_visits[source]--;
}

/*
 * ---- warm-up: by site, or provider ------------------------------------------------------------
 */

static struct warm_day *
warm_of(struct host *h, size_t source)
{
	struct warm_day *w =
		h->class == CLASS_GROUP ? &world->group_warm[source] : &h->warm[source];

	if (w->day != today())
		*w = (struct warm_day){ .day = today(), .flying = w->flying, .most = w->flying };
	return w;
}

static void
warm_given(struct host *h, size_t source, uint32_t n)
{
	struct warm_day *w = warm_of(h, source);
	int64_t second = world->mono / SECOND;

	for (; w->second < second && second - w->second <= FORGOTTEN_S + 1; w->second++)
		w->recent[(w->second + 1) % RECENT_S] = 0;
	if (w->second < second)
		memset(w->recent, 0, sizeof(w->recent));
	w->second = second;
	w->recent[second % RECENT_S] += n;
	w->given += n;
	w->most += n;
	w->flying += n;
	if (w->given > ceiling(source) && w->given - w->forgotten > ceiling(source))
		fail("host %u gets %u from %s today, %u is the ceiling (%u forgotten)",
		     (unsigned)(h - world->hosts), w->given, names[source], ceiling(source),
		     w->forgotten);
}

static uint32_t
less(uint32_t from, uint32_t n)
{
	return from > n ? from - n : 0;
}

static void
warm_back(struct host *h, size_t source, const struct job *job)
{
	struct warm_day *w = warm_of(h, source);
	uint32_t untried = 0;

	for (size_t i = 0; i < job->count; i++)
		untried += !job->tried || job->recipients[i].skipped;
	w->flying = less(w->flying, (uint32_t)job->count);
	w->given = less(w->given, untried);
	w->most = less(w->most, untried);
}

/* ---- which one ---------------------------------------------------------------------------- */

/* May it have been passed over? */
static bool
is_excused(struct host *h, size_t source)
{
	return h->class == CLASS_SOURCES || rules_source_free_at(h, source) > wall() ||
	       warm_of(h, source)->most >= ceiling(source);
}

/* The one that it should leave from; SOURCES: the system chooses. */
static size_t
first_choice(const struct rcpt *r)
{
	const struct message *m = &world->messages[r->message];
	const struct sources *all = &life_home->config->sources;
	char address[64], tenant[16];
	const struct pool *pool;
	size_t order[POOL_SOURCES_MAX];

	snprintf(address, sizeof(address), "r%u@d%u.example", m->first,
		 world->rcpts[m->first].domain);
	snprintf(tenant, sizeof(tenant), "t%u", m->tenant);
	pool = pool_choose(all, &(struct pool_facts){ .tenant = span_str(tenant) });
	if (pool == NULL)
		return SOURCES;
	pool_order(all, pool, pool_key(span_str(address)), order);
	for (size_t i = 0; i < pool->member_count && r->last_source > 0; i++)
		if (number_of(all->sources[pool->members[i].source].name) == r->last_source - 1u)
			return r->last_source - 1u;
	return number_of(all->sources[pool->members[order[0]].source].name);
}

static void
check_choice(struct host *h, size_t source, const struct rcpt *r)
{
	unsigned pool = pool_of(world->messages[r->message].tenant);
	size_t first = first_choice(r);

	if (source == SOURCES ? pool != 0 : (pool >> source & 1) == 0)
		fail("r%u of t%u leaves from %s, which is not of its pool",
		     (unsigned)(r - world->rcpts), world->messages[r->message].tenant,
		     source < SOURCES ? names[source] : "anywhere");
	if (source == first || r->doubt)
		return;
	if (!is_excused(h, first))
		fail("r%u leaves from %s, not from %s, which could be used",
		     (unsigned)(r - world->rcpts), names[source], names[first]);
	world->overflowed++;
}

/* Of its pool the first that may be used. */
int64_t
addresses_free_at(const struct rcpt *r, struct host *h)
{
	unsigned pool = pool_of(world->messages[r->message].tenant);
	int64_t first = pool != 0 ? INT64_MAX : 0;

	for (size_t i = 0; i < SOURCES; i++) {
		bool full = (pool >> i & 1) == 0 || warm_of(h, i)->most >= ceiling(i);
		int64_t at = rules_source_free_at(h, i);

		if (ceiling(i) != UINT32_MAX && at < today() * DAY)
			at = today() * DAY;	/* yesterday there may have been no room */
		if (!full && at < first)
			first = at;
	}
	return first;
}

void
addresses_given(struct host *h, const struct delivery *d, const struct job *job)
{
	const struct rcpt *r = ledger_find(job->id, job->recipients[0].recipient);
	size_t source = address_number(d);

	if (!world->set.sources)
		return;
	if (r != NULL)
		check_choice(h, source, r);
	if (source == SOURCES)
		return;
	gauge_add(&h->source_sent[source][0], names[source]);
	gauge_add(&h->source_sent[source][1], names[source]);
	if (is_new(source))
		warm_given(h, source, (uint32_t)job->count);
}

void
addresses_back(struct host *h, const struct delivery *d, const struct job *job)
{
	size_t source = address_number(d);

	if (source == SOURCES)
		return;
	for (int i = 0; i < 2 && !job->tried; i++)
		gauge_take(&h->source_sent[source][i]);
	for (size_t i = 0; i < job->count && job->tried; i++) {
		struct rcpt *r = ledger_find(job->id, job->recipients[i].recipient);

		if (r != NULL && !job->recipients[i].skipped)
			r->last_source = (uint8_t)(source + 1);
	}
	if (is_new(source))
		warm_back(h, source, job);
}

static void
warm_restart(struct warm_day *w, bool died)
{
	for (size_t i = 0; i < RECENT_S && died && world->mono / SECOND - w->second < RECENT_S; i++)
		w->forgotten += w->recent[i];
	memset(w->recent, 0, sizeof(w->recent));
	w->flying = 0;
}

void
addresses_restart(bool died)
{
	for (uint32_t i = 0; i < world->set.hosts && world->set.sources; i++)
		for (size_t s = 0; s < SOURCES; s++) {
			struct host *h = &world->hosts[i];

			h->source_visits[s] = 0;
			gauge_restart(&h->source_sent[s][0], died);
			gauge_restart(&h->source_sent[s][1], died);
			warm_restart(&h->warm[s], died);
		}
	for (size_t s = 0; s < SOURCES; s++)
		warm_restart(&world->group_warm[s], died);
}
