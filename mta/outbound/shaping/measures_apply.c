/*
 * measures_apply: what rules make of replies, and what sites, sources and lanes ask; see
 * measures.h.
 */
#include "mta/outbound/shaping/measures.h"

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/delivery/outcome.h"
#include "mta/outbound/shaping/measures_private.h"
#include "policy/site_key.h"

enum { RATE_MS = 10000, MINUTE_MS = 60000 };

void
measure_log(const struct measure *m, struct log_line *l)
{
	if (m->kind == MEASURE_SUSPEND)
		log_str(l, "scope", response_scope_name(m->scope));
	if (m->place.len > 0)
		log_span(l, "site", m->place);
	if (m->name.len > 0)
		log_span(l, "name", m->name);
	log_span(l, "rule", m->rule.len > 0 ? m->rule : SPAN("by hand"));
	log_u64(l, "count", m->count);
}

static void
log_measure(const struct measure *m, int64_t now)
{
	struct log_line l;

	if (!log_begin(&l, LOG_WARNING, m->kind == MEASURE_SLOW ? "slowed" : "suspended"))
		return;
	measure_log(m, &l);
	if (m->kind == MEASURE_SLOW) {
		log_u64(&l, "factor", m->factor);
		log_u64(&l, "connections", measure_divided(m, m->connections, now));
		if (m->per_minute > 0)
			log_u64(&l, "per_minute", measure_divided(m, m->per_minute, now));
	}
	if (m->until_ms < MEASURE_FOR_GOOD_MS)
		log_i64(&l, "for", (m->until_ms - now + 999) / 1000);
	log_span(&l, "reason", m->reason);
	log_end(&l);
}

/* ---- how fast a site goes ----------------------------------------------------------------- */

void
site_message_taken(struct site *site, int64_t now)
{
	struct site_rate *r = &site->rate;

	if (r->at_ms == 0 || now < r->at_ms || now - r->at_ms >= 2 * RATE_MS)
		*r = (struct site_rate){ .at_ms = now };
	else if (now - r->at_ms >= RATE_MS)
		*r = (struct site_rate){ .at_ms = r->at_ms + RATE_MS, .before = r->now };
	r->now++;
}

/* Messages that it took in the last 10 to 20 seconds, by the minute; 0: too few to say. */
static uint64_t
per_minute(const struct site *site, int64_t now)
{
	const struct site_rate *r = &site->rate;
	int64_t ms = now - r->at_ms + (r->before > 0 ? RATE_MS : 0);
	uint64_t n = (uint64_t)r->now + r->before;

	if (n < 2 || now < r->at_ms || now - r->at_ms >= 2 * RATE_MS)
		return 0;
	return n * MINUTE_MS / (uint64_t)(ms > 1000 ? ms : 1000);
}

/* ---- what holds --------------------------------------------------------------------------- */

static struct measures *
measures_of(const struct site *site)
{
	return site->owner->measures;
}

struct span
provider_place(struct span provider, struct buf *room)
{
	buf_clear(room);
	if (provider.len > 0)
		buf_printf(room, "provider:%.*s", SPAN_FMT(provider));
	return buf_span(room);
}

/* Of the site and of its provider the one that says more. */
static struct kept_measure *
find_for(struct measures *ms, enum measure_kind kind, enum response_scope scope,
	 struct span site_key, struct span name, struct span provider)
{
	struct kept_measure *own = measures_find(ms, kind, scope, site_key_place(site_key), name),
			    *all = NULL;
	struct buf room = { 0 };

	if (provider.len > 0)
		all = measures_find(ms, kind, scope, provider_place(provider, &room), name);
	buf_free(&room);
	if (own == NULL || all == NULL)
		return own != NULL ? own : all;
	if (kind == MEASURE_SLOW)
		return all->m.factor > own->m.factor ? all : own;
	return all->m.until_ms > own->m.until_ms ? all : own;
}

static void
resolve(struct site *site)
{
	struct measures *ms = measures_of(site);

	if (site->measures_seen == ms->generation)
		return;
	site->measures_seen = ms->generation;
	site->slowed =
		find_for(ms, MEASURE_SLOW, SCOPE_SITE, site->key, SPAN(""), shaping_provider(site));
	site->suspended = find_for(ms, MEASURE_SUSPEND, SCOPE_SITE, site->key, SPAN(""),
				   shaping_provider(site));
}

static int64_t
until_of(const struct kept_measure *k)
{
	return k != NULL && k->m.until_ms > wall_ms() ? k->m.until_ms : 0;
}

int64_t
site_suspended_until(struct site *site)
{
	if (measures_of(site)->by_place.count == 0)
		return 0;
	resolve(site);
	return until_of(site->suspended);
}

int64_t
source_suspended_until(struct site *site, struct span source)
{
	if (measures_of(site)->by_place.count == 0)
		return 0;
	return until_of(find_for(measures_of(site), MEASURE_SUSPEND, SCOPE_SOURCE, site->key,
				 source, shaping_provider(site)));
}

int64_t
lane_suspended_until(struct lane *lane)
{
	struct measures *ms = measures_of(lane->site);
	int64_t tenant, domain;

	if (ms->by_place.count == 0)
		return 0;
	tenant = until_of(find_for(ms, MEASURE_SUSPEND, SCOPE_TENANT, lane->site->key,
				   lane->tenant_name, shaping_provider(lane->site)));
	domain = until_of(measures_find(ms, MEASURE_SUSPEND, SCOPE_DOMAIN, SPAN(""), lane->domain));
	return tenant > domain ? tenant : domain;
}

static const struct measure *
slow_of(struct site *site)
{
	if (measures_of(site)->by_place.count == 0)
		return NULL;
	resolve(site);
	return site->slowed != NULL ? &site->slowed->m : NULL;
}

struct slowdown
measures_slowdown(struct measures *ms, bool provider, struct span place)
{
	const struct kept_measure *k = NULL;
	struct buf room = { 0 };

	if (ms->by_place.count == 0)
		return (struct slowdown){ 0 };
	k = measures_find(ms, MEASURE_SLOW, SCOPE_SITE,
			  provider ? provider_place(place, &room) : place, SPAN(""));
	buf_free(&room);
	if (k == NULL)
		return (struct slowdown){ 0 };
	return (struct slowdown){ k->m.factor, k->m.until_ms, k->m.for_ms };
}

size_t
site_slowed(struct site *site, size_t connections)
{
	const struct measure *m = slow_of(site);
	int64_t now = wall_ms();
	uint64_t left;

	if (m == NULL || measure_factor(m, now) <= MEASURE_UNIT)
		return connections;
	left = measure_divided(m, m->connections, now);
	return left < connections ? left : connections;
}

bool
site_paces(struct site *site, int64_t now)
{
	const struct measure *m = slow_of(site);

	if (m == NULL || m->per_minute == 0 || site->next_message_ms <= now ||
	    measure_factor(m, now) <= MEASURE_UNIT)
		return false;
	site_timer_by(site, site->next_message_ms);
	return true;
}

void
site_message_goes(struct site *site, int64_t now)
{
	const struct measure *m = slow_of(site);

	if (m == NULL || m->per_minute == 0)
		return;
	if (site->next_message_ms < now)
		site->next_message_ms = now;
	site->next_message_ms += MINUTE_MS / (int64_t)measure_divided(m, m->per_minute, now);
}

bool
site_sleeps(struct site *site)
{
	int64_t until = site_suspended_until(site);
	struct arena arena = { 0 };

	if (until == 0 || site->mode == SITE_LOOKUP)
		return false;
	if (site->mode != SITE_BACKOFF || site->state.backoff.next_ms < until) {
		site_sleep(site, until, measure_text(&site->suspended->m, wall_ms(), &arena));
		arena_free(&arena);
		site_quit(site, false);
		site_begins(site, 1);			/* afterwards */
	}
	return true;
}

/* For a minute at most: then it is asked again, for it may have been ended by hand. */
bool
lane_sleeps(struct lane *lane)
{
	int64_t until = lane_suspended_until(lane), most = wall_ms() + MINUTE_MS;

	if (until == 0)
		return false;
	lane_sleep(lane, until < most ? until : most, SPAN("its tenant or domain is suspended"));
	return true;
}

/* Everything of the place that is in memory goes to sleep; the rest does when it is read. */
static void
sites_sleep(struct dispatcher *d)
{
	for (size_t i = 0; i < d->window.sites_by_key.size; i++)
		for (struct map_node *n = d->window.sites_by_key.buckets[i]; n != NULL; n = n->next)
			site_sleeps(CONTAINER_OF(n, struct site, by_key));
}

/* ---- from rules --------------------------------------------------------------------------- */

struct applying {
	struct site *site;
	const struct response_rule *rule;
	struct span source, tenant, domain;	/* of the reply's message; empty: not known */
	struct span place;			/* what the rule speaks of */
	struct span reason;
	int64_t now;
};

static void
slow(struct measures *ms, const struct applying *a)
{
	struct kept_measure *k = measures_find(ms, MEASURE_SLOW, SCOPE_SITE, a->place, SPAN(""));
	const struct measure m = {
		.kind = MEASURE_SLOW, .scope = SCOPE_SITE, .place = a->place, .rule = a->rule->name,
		.reason = a->reason,
		.since_ms = a->now, .until_ms = a->now + a->rule->slow_ms, .count = 1,
		.factor = a->rule->slow, .for_ms = a->rule->slow_ms, .step_ms = a->now,
		.connections = a->site->connection_count > 0 ? a->site->connection_count : 1,
		.per_minute = per_minute(a->site, a->now),
	};
	uint32_t before = k != NULL ? k->m.factor : 0;

	if (k != NULL) {
		measure_again(&k->m, a->rule->slow, a->rule->slow_ms, a->now);
		measure_set_texts(k, a->rule->name, a->reason);
		if (k->m.per_minute == 0)
			k->m.per_minute = m.per_minute;
		k->dirty = true;			/* with others, within a second */
	} else {
		k = measures_add(ms, &m);
		if (k != NULL)
			measure_save(k);
	}
	if (k != NULL && k->m.factor != before)
		log_measure(&k->m, a->now);
}

static bool
suspend_value(struct measures *ms, const struct measure *m)
{
	struct kept_measure *k = measures_find(ms, MEASURE_SUSPEND, m->scope, m->place, m->name);
	bool longer = k == NULL || m->until_ms > k->m.until_ms + 1000;

	if (k == NULL) {
		k = measures_add(ms, m);
		if (k == NULL)
			return false;
		measure_save(k);
	} else {
		k->m.count += m->count;
		k->m.until_ms = m->until_ms > k->m.until_ms ? m->until_ms : k->m.until_ms;
		measure_set_texts(k, m->rule, m->reason);
		k->dirty = true;
	}
	if (longer)
		log_measure(&k->m, wall_ms());
	if (m->scope == SCOPE_SITE)
		sites_sleep(ms->dispatcher);
	return true;
}

static void
suspend(struct measures *ms, const struct applying *a)
{
	struct measure m = { .kind = MEASURE_SUSPEND, .scope = a->rule->suspend, .place = a->place,
			     .rule = a->rule->name,
			     .reason = a->reason, .since_ms = a->now, .until_ms = a->now +
			     a->rule->suspend_ms, .count = 1 };

	if (m.scope == SCOPE_SOURCE)
		m.name = a->source;
	else if (m.scope == SCOPE_TENANT)
		m.name = a->tenant;
	else if (m.scope == SCOPE_DOMAIN)
		m.name = a->domain;
	if (m.scope == SCOPE_DOMAIN)
		m.place = SPAN("");
	if (m.scope == SCOPE_DOMAIN && m.name.len == 0)
		return;					/* no message: it is of no domain */
	if (m.scope == SCOPE_SOURCE && m.name.len == 0)
		m.scope = SCOPE_SITE;			/* there is but one way to send */
	suspend_value(ms, &m);
}

bool
measures_suspend(struct measures *ms, const struct measure *by_hand)
{
	return suspend_value(ms, by_hand);
}

static void
apply(struct applying *a, const struct reply *reply)
{
	struct measures *ms = measures_of(a->site);
	struct buf line = { 0 }, room = { 0 };

	if (a->rule->slow == 0 && a->rule->suspend == SCOPE_NONE)
		return;
	reply_to_line(reply, &line);
	a->reason = buf_span(&line);
	a->place = a->rule->provider.len > 0 ? provider_place(a->rule->provider, &room)
					     : site_key_place(a->site->key);
	a->now = wall_ms();
	if (a->rule->slow > 0)
		slow(ms, a);
	if (a->rule->suspend != SCOPE_NONE)
		suspend(ms, a);
	buf_free(&line);
	buf_free(&room);
}

/* Several recipients that are told the same count once. */
void
measures_by_answers(struct site *site, struct span source, const struct job *job)
{
	const struct response_rule *last = NULL;

	for (size_t i = 0; i < job->count; i++) {
		const struct job_recipient *r = &job->recipients[i];
		const struct lane *lane = ((const struct entry *)r->entry)->lane;
		struct applying a = { .site = site, .rule = r->rule, .source = source,
				      .tenant = lane->tenant_name, .domain = lane->domain };

		if (r->rule != NULL && (r->rule != last || r->rule->suspend == SCOPE_DOMAIN))
			apply(&a, &r->outcome.reply);
		last = r->rule;
	}
}

static void
by_failure(struct applying *a, const struct delivery *delivery, const struct host_failure *f)
{
	enum reply_class class = outcome_class(delivery->config, f->stage, &f->reply, f->host);

	a->rule = outcome_rule(delivery->config, f->stage, &f->reply, f->host, a->site->key,
			       delivery->provider, &class);
	if (a->rule != NULL)
		apply(a, &f->reply);
}

void
measures_by_failure(struct site *site, struct span source, const struct delivery *delivery)
{
	struct applying a = { .site = site, .source = source };
	const struct host_failure whole = { .stage = delivery->failure_stage,
					    .reply = delivery->failure,
					    .host = delivery->failure_host };

	if (delivery->failures == NULL)			/* no host was met */
		by_failure(&a, delivery, &whole);
	for (const struct host_failure *f = delivery->failures; f != NULL; f = f->next)
		by_failure(&a, delivery, f);
}

void
measures_on_the_way(struct site *site, struct span source, const struct job *job)
{
	struct applying a = { .site = site, .source = source };

	for (const struct host_failure *f = job->failures; f != NULL; f = f->next)
		if (f->reply.code > 0)
			by_failure(&a, job->delivery, f);
}
