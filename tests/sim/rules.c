/*
 * rules: a provider that was made up: it takes so much a minute, in all and from each address, and
 * says so by 421 and 4.7.x; sometimes it has had enough of a tenant, a domain, or us. A file of
 * rules makes measures of that; what they come to is known here apart from the dispatcher, by what
 * was said when: nothing may be sent to who is suspended, nor may who is slowed have more
 * connections than are left, or faster messages. See sim.h.
 */
#include <stdio.h>
#include <stdlib.h>

#include "mta/outbound/shaping/measures_private.h"
#include "policy/site_key.h"
#include "tests/sim/sim.h"

enum {
	SOURCE_MINUTE = 15, HOST_MINUTE = 25, WHIMS = 5000,
	FORGOTTEN_MS = 2 * SECOND,	/* measures lag by a second, and what a commit takes */
};

struct answer {
	const char *actions;		/* of the rule */
	struct reply reply;
	enum response_scope suspends;
	int64_t ms;
	uint32_t slows;
};

static const struct answer answers[] = {
	{ "suspend source for 10m, slow 2 for 10m",
	  REPLY_INIT(421, 4, 7, 0, "too many from your address"), SCOPE_SOURCE, 10 * MINUTE, 2 },
	{ "slow 2 for 10m", REPLY_INIT(450, 4, 7, 1, "slow down"), SCOPE_NONE, 0, 2 },
	{ "suspend site for 20m", REPLY_INIT(451, 4, 7, 50, "not now"), SCOPE_SITE, 20 * MINUTE,
	  0 },
	{ "suspend tenant for 15m", REPLY_INIT(450, 4, 7, 51, "not for these"), SCOPE_TENANT,
	  15 * MINUTE, 0 },
	{ "suspend domain for 15m", REPLY_INIT(450, 4, 7, 52, "not to those"), SCOPE_DOMAIN,
	  15 * MINUTE, 0 },
	{ "temporary, suspend source for 1h", REPLY_INIT(550, 5, 7, 53, "not from there"),
	  SCOPE_SOURCE, HOUR, 0 },
	{ "permanent", REPLY_INIT(450, 4, 7, 54, "never"), SCOPE_NONE, 0, 0 },
	/* to a connection */
	{ "slow 4 for 10m", REPLY_INIT(421, 4, 7, 55, "too busy"), SCOPE_NONE, 0, 4 },
};
enum { ANSWERS = sizeof(answers) / sizeof(answers[0]), OF_SOURCE = 0, OF_ALL = 1, WHIM_FIRST = 2,
       TOO_BUSY = ANSWERS - 1 };

static const int64_t slow_ms = 10 * MINUTE;

/* ---- the other side ----------------------------------------------------------------------- */

bool
rules_hold_for(const struct host *h)
{
	return h->class == CLASS_RULED || h->class == CLASS_GROUP;
}

static void
write_file(const char *path)
{
	FILE *f = fopen(path, "w");

	if (f == NULL)
		fail("%s cannot be written", path);
	for (size_t i = 0; i < ANSWERS; i++)
		for (int group = 0; group < 2; group++)
			fprintf(f, "%s\tcode=%u status=%u.%u.%u %s\n", answers[i].actions,
				answers[i].reply.code, answers[i].reply.status.klass,
				answers[i].reply.status.subject, answers[i].reply.status.detail,
				group ? "provider=group" : "site=*.ruled.example");
	fclose(f);
}

const char *
rules_config(void)
{
	static char text[600];
	char path[400];

	if (!world->set.rules)
		return "";
	snprintf(path, sizeof(path), "%s/response.rules", world->set.path);
	write_file(path);
	snprintf(text, sizeof(text),
		 "response-rules = \"%s\"\nresponse-rules-builtin = no\nprovider \"group\" { mx = "
		 "\"*.group.example\" }\n",
		 path);
	return text;
}

const struct reply *
rules_answer(struct host *h, const struct delivery *d)
{
	size_t source = address_number(d);

	if (!rules_hold_for(h) || world->draining)
		return NULL;
	if (h->minute != world->mono / MINUTE) {
		h->in_minute = 0;
		memset(h->by_source, 0, sizeof(h->by_source));
	}
	h->minute = world->mono / MINUTE;
	if (++h->by_source[source] > SOURCE_MINUTE)
		return &answers[OF_SOURCE].reply;
	if (++h->in_minute > HOST_MINUTE)
		return &answers[OF_ALL].reply;
	if (often(CHANCE_HOSTS, WHIMS * (TOO_BUSY - WHIM_FIRST)))
		return &answers[WHIM_FIRST + draw(CHANCE_HOSTS, TOO_BUSY - WHIM_FIRST)].reply;
	return NULL;
}

const struct reply *
rules_busy(void)
{
	return &answers[TOO_BUSY].reply;
}

/* ---- what should come of it --------------------------------------------------------------- */

static struct bans *
bans_of(struct host *h)
{
	return h->class == CLASS_GROUP ? &world->group : &h->bans;
}

static const struct answer *
answer_of(const struct reply *reply)
{
	for (size_t i = 0; i < ANSWERS; i++)
		if (answers[i].reply.status.detail == reply->status.detail &&
		    reply->status.subject == 7 && answers[i].reply.code == reply->code)
			return &answers[i];
	return NULL;
}

static void
ban(struct ban *b, int64_t ms)
{
	int64_t until = wall() + ms;

	if (b->until >= until)
		return;
	world->suspended += b->until < wall();
	if (world->mono - b->changed >= FORGOTTEN_MS)
		b->before = b->until;		/* that is stored by now */
	b->until = b->longest = until;
	b->changed = world->mono;
}

static bool
holds(const struct ban *b)
{
	return b->until > wall();
}

static void
slow(struct bans *b, uint32_t factor, uint32_t visits)
{
	struct measure *m = &b->slow;

	b->slow_changed = world->mono;
	if (m->factor > 0 && measure_over_ms(m) > wall()) {
		measure_again(m, factor, slow_ms, wall());
		return;
	}
	world->slowed++;
	/*
	 * it may be that the one before has not been cleared away yet, and what it divides is kept
	 */
	if (m->factor > 0 && measure_over_ms(m) + FORGOTTEN_MS > wall() && m->connections > visits)
		visits = (uint32_t)m->connections;
	*m = (struct measure){ .kind = MEASURE_SLOW, .scope = SCOPE_SITE, .since_ms = wall(),
			       .until_ms = wall() + slow_ms,
			       .factor = factor, .for_ms = slow_ms, .step_ms = wall(),
			       .connections = visits };
}

static void
comes_of(struct host *h, const struct answer *a, size_t source, const struct rcpt *r)
{
	struct bans *b = bans_of(h);

	if (a->suspends == SCOPE_SITE || (a->suspends == SCOPE_SOURCE && source == SOURCES))
		ban(&b->all, a->ms);
	else if (a->suspends == SCOPE_SOURCE)
		ban(&b->source[source], a->ms);
	else if (a->suspends == SCOPE_TENANT && r != NULL)
		ban(&b->tenant[world->messages[r->message].tenant], a->ms);
	else if (a->suspends == SCOPE_DOMAIN && r != NULL)
		ban(&world->domains[r->domain].ban, a->ms);
	if (a->slows > 0)
		slow(b, a->slows, h->visits);
}

void
rules_back(struct host *h, const struct job *job)
{
	const struct answer *last = NULL;

	for (size_t i = 0; i < job->count && job->tried && rules_hold_for(h); i++) {
		const struct job_recipient *j = &job->recipients[i];
		const struct answer *a = j->skipped ? NULL : answer_of(&j->outcome.reply);
		const struct rcpt *r =
			ledger_rcpt(job->message.envelope.recipients[j->recipient].address);

		if (a != NULL && j->rule == NULL)
			fail("no rule fits %s", answers[a - answers].actions);
		if (a != NULL && (a != last || a->suspends == SCOPE_DOMAIN))
			comes_of(h, a, address_number(job->delivery), r);
		last = a;
	}
}

void
rules_refused(struct host *h, const struct delivery *d)
{
	const struct answer *a = answer_of(&d->failure);

	if (rules_hold_for(h) && a != NULL && !life_home->dispatcher->stopping)
		comes_of(h, a, address_number(d), NULL);
}

/* ---- what is done ------------------------------------------------------------------------- */

static uint64_t
left_of(const struct measure *m, uint64_t number)
{
	return m->factor > 0 && measure_factor(m, wall()) > MEASURE_UNIT
		       ? measure_divided(m, number, wall())
		       : UINT64_MAX;
}

void
rules_opened(struct host *h)
{
	const struct bans *b = bans_of(h);
	uint64_t most = left_of(&b->slow, b->slow.connections);

	if (rules_hold_for(h) && h->visits >= most)
		fail("host %u is slowed by %u, to %llu connections, and gets one to %u",
		     (unsigned)(h - world->hosts), b->slow.factor, (unsigned long long)most,
		     h->visits);
	h->visits++;
}

/*
 * How fast it took mail when it was slowed down is what the dispatcher has measured; it is to keep
 * to it, but for one message when the site has come back to memory.
 */
static void
check_pace(struct host *h, const struct delivery *d)
{
	struct measures *ms = life_home->dispatcher->measures;
	struct span place =
		h->class == CLASS_GROUP ? SPAN("provider:group") : site_key_place(d->site_key);
	const struct kept_measure *k = measures_find(ms, MEASURE_SLOW, SCOPE_SITE, place, SPAN(""));
	uint64_t most = k != NULL ? left_of(&k->m, k->m.per_minute) : UINT64_MAX;

	if (k == NULL || k->m.per_minute == 0 || most == UINT64_MAX) {
		h->next_slowed = 0;
		return;
	}
	if (wall() < h->next_slowed && wall() - h->early < MINUTE)
		fail("host %u is slowed to %llu messages a minute, and gets one %lld ms too early",
		     (unsigned)(h - world->hosts), (unsigned long long)most,
		     (long long)(h->next_slowed - wall()));
	if (wall() < h->next_slowed)
		h->early = wall();
	h->next_slowed = wall() + MINUTE / (int64_t)most;
}

static void
check_ban(const struct host *h, const struct ban *b, const char *what)
{
	if (holds(b))
		fail("host %u is sent mail, though its %s is suspended for %lld s",
		     (unsigned)(h - world->hosts), what, (long long)(b->until - wall()) / 1000);
}

int64_t
rules_source_free_at(struct host *h, size_t source)
{
	return rules_hold_for(h) ? bans_of(h)->source[source].longest : 0;
}

void
rules_given(struct host *h, const struct delivery *d, const struct job *job)
{
	const struct bans *b = bans_of(h);

	if (rules_hold_for(h)) {
		check_ban(h, &b->all, "site");
		check_ban(h, &b->source[address_number(d)], "source");
		check_pace(h, d);
	}
	for (size_t i = 0; i < job->count && world->set.rules; i++) {
		const struct rcpt *r = ledger_find(job->id, job->recipients[i].recipient);

		if (r == NULL)
			continue;
		if (rules_hold_for(h))
			check_ban(h, &b->tenant[world->messages[r->message].tenant], "tenant");
		check_ban(h, &world->domains[r->domain].ban, "domain");
	}
}

/* ---- when it is over ---------------------------------------------------------------------- */

static int64_t
later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

int64_t
rules_free_at(const struct rcpt *r, struct host *h)
{
	const struct bans *b = bans_of(h);
	int64_t at = world->domains[r->domain].ban.longest;

	if (!rules_hold_for(h))
		return at;
	return later(later(at, b->all.longest),
		     b->tenant[world->messages[r->message].tenant].longest);
}

static void
ban_restart(struct ban *b)
{
	if (world->mono - b->changed < FORGOTTEN_MS)
		b->until = b->before;		/* the rest may be forgotten */
}

static void
bans_restart(struct bans *b, bool died)
{
	if (!died)
		return;
	ban_restart(&b->all);
	for (size_t i = 0; i < SOURCES; i++)
		ban_restart(&b->source[i]);
	for (size_t i = 0; i < TENANTS_MAX; i++)
		ban_restart(&b->tenant[i]);
	if (world->mono - b->slow_changed < FORGOTTEN_MS)
		b->slow.factor = 0;
}

void
rules_restart(bool died)
{
	for (uint32_t i = 0; i < world->set.hosts; i++) {
		world->hosts[i].visits = 0;
		world->hosts[i].next_slowed = 0;
		bans_restart(&world->hosts[i].bans, died);
	}
	for (uint32_t i = 0; i < world->set.domains && died; i++)
		ban_restart(&world->domains[i].ban);
	bans_restart(&world->group, died);
}
