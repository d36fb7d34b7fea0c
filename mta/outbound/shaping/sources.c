/*
 * sources: from which of our addresses a message goes, and what is known of each: who has no
 * connection of that address now (it is not this machine's), who may send no more today (warm-up).
 * Connections belong to a site and a source; see policy/source.h for the order in which a
 * recipient's sources are asked. Home loop only.
 *
 * What is ours to blame is held against the source alone: neither the site backs off, nor is a
 * message charged; it goes from another source of its pool, or waits (lane_sleep).
 */
#include "mta/outbound/shaping/sources_private.h"

#include <assert.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "policy/site_key.h"

enum { UNFIT_MS = 3600 * 1000 };	/* a site whose hosts it has no address for */

const struct sources *
sources_of(const struct dispatcher *d)
{
	return &config_of(d)->sources;
}

struct source_use *
source_use_of(struct source_book *book, struct span name)
{
	struct source_use *use;

	LIST_EACH(struct source_use, known, &book->uses, node)
		if (span_eq(known->name, name))
			return known;
	use = xcalloc(1, sizeof(*use) + name.len);
	memcpy(use->room, name.at, name.len);
	use->name = span_of(use->room, name.len);
	list_add_last(&book->uses, &use->node);
	return use;
}

static struct source_at *
at_site(struct site *site, struct span name)
{
	LIST_EACH(struct source_at, at, &site->sources, in_site)
		if (span_eq(at->use->name, name))
			return at;
	return NULL;
}

/*
 * Whose mails the plan counts: the provider's, where there is one; else the hosts', whatever their
 * TLS.
 */
static struct span
warmup_site(struct site *site)
{
	struct span provider = shaping_provider(site);

	return provider.len > 0 ? provider : site_key_place(site->key);
}

/* A site that is here for a moment, to be asked about. */
static struct site *
passing_site(struct dispatcher *d, struct span key, struct arena *arena)
{
	struct site *site = arena_alloc(arena, sizeof(*site));

	site->owner = d;
	site->key = key;
	list_init(&site->sources);
	return site;
}

/* ---- who can be used now ------------------------------------------------------------------ */

struct obstacle {			/* none if kind is HOLD_KINDS */
	enum hold_kind kind;
	int64_t since_ms, until_ms;
	uint64_t sent, ceiling;
	struct span text;		/* what is wrong; empty for the warm-up */
};

static int64_t
tomorrow_ms(void)
{
	return (source_today() + 1) * SOURCE_DAY_MS;
}

static bool
has_room(const struct source *source, struct site *site, struct obstacle *ret)
{
	int64_t ceiling = source_ceiling(source, source_today());
	const struct source_day *day;

	if (ceiling == SOURCE_NO_CEILING)
		return true;
	day = source_day_of(site->owner->sources->days, source->name, warmup_site(site), false);
	ret->sent = day != NULL ? day->sent + day->flying : 0;
	ret->ceiling = (uint64_t)ceiling;
	if (ret->sent < ret->ceiling)
		return true;
	ret->kind = HOLD_WARM_UP;
	ret->until_ms = tomorrow_ms();
	return false;
}

/* Of mail that is not there. */
static bool
limits_allow(struct dispatcher *d, const struct shaping_question *about, struct span source,
	     int64_t *until_ms)
{
	struct shaping_question question = *about;
	struct hold_reasons why = { 0 };
	struct arena arena = { 0 };

	question.source = source;
	shaping_tell(d, &question, &arena, &why, NULL, NULL);
	*until_ms = hold_until(&why);
	arena_free(&arena);
	return why.count == 0;
}

/* lane: NULL, of none in memory: limits are not asked then. */
static bool
can_be_used(const struct source *source, struct site *site, struct lane *lane, struct obstacle *ret)
{
	const struct source_use *use = source_use_of(site->owner->sources, source->name);
	const struct source_at *at = at_site(site, source->name);
	int64_t now = wall_ms();

	*ret = (struct obstacle){ .kind = HOLD_KINDS };
	if (use->broken.next_ms > now) {
		ret->kind = HOLD_SOURCE;
		ret->since_ms = use->broken_since_ms;
		ret->until_ms = use->broken.next_ms;
		ret->text = use->broken.text;
		return false;
	}
	ret->until_ms = source_suspended_until(site, source->name);
	if (ret->until_ms > 0) {
		ret->kind = HOLD_SUSPENDED;
		ret->text = SPAN("suspended at this site: tramctl sites measures");
		return false;
	}
	if (at != NULL && at->unfit_until_ms > now) {
		ret->kind = HOLD_SOURCE;
		ret->until_ms = at->unfit_until_ms;
		ret->text = at->unfit;
		return false;
	}
	if (!has_room(source, site, ret))
		return false;
	if (lane == NULL || shaping_source_may(lane, source->name, &ret->until_ms))
		return true;
	ret->kind = HOLD_SHAPE;
	return false;
}

/* ---- who it shall be ---------------------------------------------------------------------- */

static uint64_t
name_key(struct span name)
{
	return hash_bytes(name.at, name.len, 1);
}

/*
 * By the message's first recipient, for all of them; and who has tried it before goes on with it,
 * even if there is room again for another: greylisting knows the address.
 */
static void
entry_key(struct dispatcher *d, struct entry *entry)
{
	struct queue_message message;
	struct history_record history;
	struct arena arena = { 0 };
	uint64_t id = entry->parcel->node.key;

	entry->keyed = true;
	entry->pool_key = hash_bytes(&id, sizeof(id), 0);
	if (queue_read_message(d->home->port, id, &arena, &message) == 0 &&
	    message.envelope.recipient_count > 0) {
		entry->pool_key = pool_key(message.envelope.recipients[0].address);
		if (entry->due_ms != message.record.due_ms &&
		    queue_read_history(d->home->port, id, entry->recipient, &arena, &history) ==
			    0 &&
		    history.kept > 0 && history.attempts[history.kept - 1].source.len > 0)
			entry->last_source = name_key(history.attempts[history.kept - 1].source);
	}
	arena_free(&arena);
}

static void
order_for(struct dispatcher *d, struct entry *entry, const struct pool *pool,
	  size_t order[POOL_SOURCES_MAX])
{
	const struct sources *all = sources_of(d);

	order[0] = 0;
	if (pool->member_count == 1)
		return;
	if (!entry->keyed)
		entry_key(d, entry);
	pool_order(all, pool, entry->pool_key, order);
	for (size_t i = 1; i < pool->member_count && entry->last_source != 0; i++) {
		size_t it = order[i];

		if (name_key(all->sources[pool->members[it].source].name) != entry->last_source)
			continue;
		memmove(&order[1], &order[0], i * sizeof(order[0]));
		order[0] = it;
		return;
	}
}

/*
 * The first in order. If that one cannot be used, the next that is not warming up: what is too much
 * for a new one is not to be the next new one's. Those come last. Where limits hold all of them,
 * the one that may go first is told: the message waits for that (shaping_may_send). A wait that is
 * long is asked about again meanwhile, for the configuration may change, or the clock.
 */
static bool
pick_among(struct site *site, struct lane *lane, const struct shaping_question *about,
	   const struct pool *pool, const size_t *order, const struct source **ret,
	   int64_t *until_ms)
{
	const struct sources *all = sources_of(site->owner);
	const struct source *warming = NULL, *shaped = NULL;
	struct obstacle obstacle;

	assert(all->sources != NULL || pool->member_count == 0);
	for (size_t i = 0; i < pool->member_count; i++) {
		const struct source *source = &all->sources[pool->members[order[i]].source];
		bool old = !source_is_warming(source, source_today());
		bool usable = can_be_used(source, site, lane, &obstacle);

		if (usable && about != NULL &&
		    !limits_allow(site->owner, about, source->name, &obstacle.until_ms)) {
			obstacle.kind = HOLD_SHAPE;
			usable = false;
		}
		if (!usable) {
			if (obstacle.kind == HOLD_SHAPE &&
			    (shaped == NULL || obstacle.until_ms < *until_ms))
				shaped = source;
			*until_ms = obstacle.until_ms < *until_ms ? obstacle.until_ms : *until_ms;
		} else if (old || i == 0) {
			*ret = source;
			return true;
		} else if (warming == NULL) {
			warming = source;
		}
	}
	*ret = warming != NULL ? warming : shaped;
	*until_ms = *until_ms < wall_ms() + PARK_MS ? *until_ms : wall_ms() + PARK_MS;
	return *ret != NULL;
}

bool
source_pick(struct entry *entry, const struct source **ret, int64_t *until_ms)
{
	struct lane *lane = entry->lane;
	struct dispatcher *d = lane->owner;
	const struct pool *pool = lane->pool.len > 0 ? pool_find(sources_of(d), lane->pool) : NULL;
	size_t order[POOL_SOURCES_MAX];

	*ret = NULL;
	*until_ms = INT64_MAX;
	if (pool == NULL)
		return true;
	order_for(d, entry, pool, order);
	return pick_among(lane->site, lane, NULL, pool, order, ret, until_ms);
}

const struct source *
source_expected(struct dispatcher *d, const struct shaping_question *about, struct span pool_name,
		struct span recipient, struct arena *arena)
{
	struct span site_key = about->key;
	const struct pool *pool = pool_name.len > 0 ? pool_find(sources_of(d), pool_name) : NULL;
	struct site *known = window_site_by_key(&d->window, site_key), *site = known;
	const struct source *found = NULL;
	size_t order[POOL_SOURCES_MAX];
	int64_t until_ms = INT64_MAX;

	if (pool == NULL)
		return NULL;
	if (site == NULL)
		site = passing_site(d, site_key, arena);
	pool_order(sources_of(d), pool, pool_key(recipient), order);
	pick_among(site, NULL, about, pool, order, &found, &until_ms);
	if (known == NULL)
		arena_free(&site->arena);
	return found;
}

/* ---- connections and jobs ----------------------------------------------------------------- */

struct source_at *
source_opened(struct site *site, const struct source *source)
{
	struct source_at *at;

	if (source == NULL)
		return NULL;
	at = at_site(site, source->name);
	if (at == NULL) {
		at = arena_alloc(&site->arena, sizeof(*at));
		at->use = source_use_of(site->owner->sources, source->name);
		at->site = site;
		list_add_last(&site->sources, &at->in_site);
	}
	at->connections++;
	at->use->connections++;
	return at;
}

void
source_closed(struct source_at *at)
{
	if (at == NULL)
		return;
	at->connections--;
	at->use->connections--;
}

static struct source_day *
day_of(struct source_at *at, bool make)
{
	return source_day_of(at->site->owner->sources->days, at->use->name, warmup_site(at->site),
			     make);
}

static const struct source *
warming_now(const struct source_at *at)
{
	const struct source *source = source_find(sources_of(at->site->owner), at->use->name);

	return source != NULL && source_is_warming(source, source_today()) ? source : NULL;
}

struct span
source_at_name(const struct source_at *at)
{
	return at != NULL ? at->use->name : SPAN("");
}

size_t
source_room(struct source_at *at, size_t most)
{
	const struct source *source = at != NULL ? warming_now(at) : NULL;
	const struct source_day *day = source != NULL ? day_of(at, false) : NULL;
	uint64_t used = day != NULL ? day->sent + day->flying : 0, ceiling;

	if (source == NULL)
		return most;
	ceiling = (uint64_t)source_ceiling(source, source_today());
	return ceiling <= used ? 1 : ceiling - used < most ? (size_t)(ceiling - used) : most;
}

void
source_gave(struct source_at *at, size_t recipients)
{
	struct source_day *day;

	if (at == NULL || warming_now(at) == NULL || (day = day_of(at, true)) == NULL)
		return;
	day->flying += recipients;
	source_day_changed(day);
}

static size_t
count_tried(const struct job *job)
{
	size_t n = 0;

	for (size_t i = 0; i < job->count; i++) {
		const struct job_recipient *r = &job->recipients[i];

		n += job->tried && !r->skipped && !r->suppressed &&
		     r->outcome.fate != FATE_PENDING && r->outcome.fate != FATE_NOT_TRIED;
	}
	return n;
}

static void
count_fates(struct source_at *at, const struct job *job)
{
	for (size_t i = 0; i < job->count && job->tried; i++) {
		enum smtp_fate fate = job->recipients[i].outcome.fate;

		if (job->recipients[i].skipped || job->recipients[i].suppressed)
			continue;
		at->delivered += fate == FATE_DELIVERED;
		at->use->delivered += fate == FATE_DELIVERED;
		at->failed += fate == FATE_PERMANENT;
		at->use->failed += fate == FATE_PERMANENT;
		at->deferred += fate == FATE_TEMPORARY || fate == FATE_UNCERTAIN;
		at->use->deferred += fate == FATE_TEMPORARY || fate == FATE_UNCERTAIN;
	}
}

void
source_returned(struct source_at *at, const struct job *job)
{
	size_t tried = count_tried(job);
	struct source_day *day;

	if (at == NULL)
		return;
	if (at->use->day != source_today())
		at->use->today = 0;
	at->use->day = source_today();
	at->use->today += tried;
	count_fates(at, job);
	if (job->tried && at->use->broken.failures > 0) {
		log_message(LOG_INFO, "source-up", "source %.*s sends again",
			    SPAN_FMT(at->use->name));
		at->use->broken = (struct backoff){ 0 };
	}
	day = day_of(at, false);
	if (day == NULL)
		return;
	day->flying -= day->flying < job->count ? day->flying : job->count;
	day->sent += tried;
	source_day_changed(day);
}

static void
log_broken(const struct source_use *use, const struct delivery *delivery)
{
	struct log_line l;

	if (!log_begin(&l, LOG_ERROR, "source-broken"))
		return;
	log_span(&l, "source", use->name);
	log_reply(&l, "reply", &delivery->failure);
	log_i64(&l, "again", (use->broken.next_ms - wall_ms()) / 1000);
	log_end(&l);
}

static void
source_breaks(struct source_use *use, struct dispatcher *d, const struct delivery *delivery)
{
	int64_t now = wall_ms();

	if (use->broken.next_ms > now)
		return;				/* others of its connections said so */
	if (use->broken.failures++ == 0)
		use->broken_since_ms = now;
	use->broken.next_ms =
		schedule_probe(&config_of(d)->queue.schedule, use->broken.failures, now, chance());
	use->broken.text = SPAN("its address is not one of this machine, or no port of it is free");
	log_broken(use, delivery);
}

bool
source_failed(struct source_at *at, const struct delivery *delivery)
{
	struct dispatcher *d;

	if (at == NULL || (!delivery->source_broken && !delivery->source_unfit))
		return false;
	d = at->site->owner;
	if (delivery->source_broken) {
		source_breaks(at->use, d, delivery);
	} else {
		at->unfit_until_ms = wall_ms() + UNFIT_MS;
		at->unfit = SPAN("it has no address of the family that the hosts have");
		log_message(LOG_WARNING, "source-unfit",
			    "source %.*s cannot be used for %.*s: %.*s", SPAN_FMT(at->use->name),
			    SPAN_FMT(at->site->key), SPAN_FMT(delivery->failure.text));
	}
	return true;
}

/* ---- why none can ------------------------------------------------------------------------- */

static void
hold_of(const struct source *source, struct span pool, const struct obstacle *o, struct span site,
	struct arena *arena, struct hold_reasons *why)
{
	struct hold_reason *r = hold_add(why, o->kind);
	const int64_t day = source_today() - source->start_day + 1;

	r->what = source->name;
	r->since_ms = o->since_ms;
	r->until_ms = o->until_ms;
	r->either = true;
	if (o->kind != HOLD_WARM_UP) {
		r->text = arena_printf(arena, "pool %.*s: source %.*s: %.*s", SPAN_FMT(pool),
				       SPAN_FMT(source->name), SPAN_FMT(o->text));
		return;
	}
	r->text = arena_printf(arena,
			       "pool %.*s: source %.*s is warming up: on day %lld of its plan %llu "
			       "a day to %.*s, and %llu "
			       "are sent",
			       SPAN_FMT(pool), SPAN_FMT(source->name), (long long)day,
			       (unsigned long long)o->ceiling, SPAN_FMT(site),
			       (unsigned long long)o->sent);
	hold_number(r, "day", day);
	hold_number(r, "sent", (int64_t)o->sent);
	hold_number(r, "most", (int64_t)o->ceiling);
}

bool
sources_held_by(struct dispatcher *d, struct span site_key, struct span pool_name,
		struct arena *arena, struct hold_reasons *why)
{
	const struct sources *all = sources_of(d);
	const struct pool *pool = pool_name.len > 0 ? pool_find(all, pool_name) : NULL;
	struct site *known = window_site_by_key(&d->window, site_key), *site = known;
	struct obstacle obstacle;
	bool held = pool != NULL;

	if (site == NULL)
		site = passing_site(d, site_key, arena);
	for (size_t i = 0; held && i < pool->member_count; i++)
		held = !can_be_used(&all->sources[pool->members[i].source], site, NULL, &obstacle);
	for (size_t i = 0; held && i < pool->member_count; i++) {
		const struct source *source = &all->sources[pool->members[i].source];

		if (!can_be_used(source, site, NULL, &obstacle))
			hold_of(source, pool->name, &obstacle, warmup_site(site), arena, why);
	}
	if (known == NULL)
		arena_free(&site->arena);
	return held;
}

/* ---- life --------------------------------------------------------------------------------- */

static void
on_rest(void *arg)
{
	dispatcher_check_stopped(arg);
}

struct source_book *
sources_start(struct dispatcher *d)
{
	struct source_book *book = xcalloc(1, sizeof(*book));

	book->owner = d;
	list_init(&book->uses);
	book->days = source_days_start(d->home, on_rest, d);
	return book;
}

/* What was wrong may be right now: each is tried again. */
void
sources_reconfigure(struct dispatcher *d)
{
	LIST_EACH(struct source_use, use, &d->sources->uses, node)
		use->broken.next_ms = 0;
	for (size_t i = 0; i < d->window.sites_by_key.size; i++)
		for (struct map_node *n = d->window.sites_by_key.buckets[i]; n != NULL;
		     n = n->next) {
			struct site *site = CONTAINER_OF(n, struct site, by_key);

			LIST_EACH(struct source_at, at, &site->sources, in_site)
				at->unfit_until_ms = 0;
		}
}

void
sources_stop(struct source_book *book)
{
	if (!book->stopped)			/* once: the disk may be full */
		source_days_store(book->days);
	book->stopped = true;
}

bool
sources_busy(const struct source_book *book)
{
	return source_days_busy(book->days);
}

void
sources_close(struct source_book *book)
{
	source_days_close(book->days);
}

void
sources_free(struct source_book *book)
{
	LIST_EACH(struct source_use, use, &book->uses, node)
		free(use);
	source_days_free(book->days);
	free(book);
}
