/*
 * backoff: what the answers and failures of a site come to: how many connections it gets
 * (concurrency.h), and when it is left alone. Home loop only.
 *
 * When the last connection fails, or what it answers is trouble and nothing else, the site as a
 * whole backs off: its entries leave memory, and one probe at a time is made, whatever waits behind
 * it. No message is charged for that.
 */
#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/dispatcher_private.h"

enum { PAUSE_MS = 1000, SAVE_MS = 1000 };

static void
log_site(const struct site *site, const char *event)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, event))
		return;
	log_span(&l, "site", site->key);
	log_u64(&l, "failures", site->state.backoff.failures);
	if (site->state.backoff.failures > 0) {
		log_span(&l, "host", site->state.last.host);
		log_span(&l, "reply", site->state.last.text);
		log_i64(&l, "again", (site->state.backoff.next_ms - wall_ms()) / 1000);
	}
	log_end(&l);
}

/* So that its steps can be followed. */
static void
log_concurrency(const struct site *site, size_t before, const struct reply *why)
{
	struct log_line l;

	if (site->limit == before ||
	    !log_begin(&l, site->limit < before ? LOG_INFO : LOG_DEBUG, "concurrency"))
		return;
	log_span(&l, "site", site->key);
	log_u64(&l, "connections", site->limit);
	log_u64(&l, "before", before);
	if (why != NULL)
		log_reply(&l, "reply", why);
	log_end(&l);
}

/* ---- how many connections ----------------------------------------------------------------- */

void
site_begins(struct site *site, size_t limit)
{
	concurrency_init(&site->pace, limit);
	site->limit = site->pace.limit;
}

/* The new limit counts; if it is less it is kept, about once a second at most. */
static void
take_limit(struct site *site, const struct reply *why)
{
	size_t before = site->limit;
	int64_t now = wall_ms();

	site->limit = site->pace.limit;
	log_concurrency(site, before, why);
	if (site->limit >= before || now - site->saved_ms < SAVE_MS)
		return;
	site->saved_ms = now;
	site_save(site, now);
}

/* ---- alone for a while -------------------------------------------------------------------- */

/* What is ready goes back to the queue, and the site after it. */
static void
site_rests(struct site *site)
{
	struct dispatcher *d = site->owner;

	site->mode = SITE_BACKOFF;
	heap_set(&d->window.site_timers, &site->timer, site->state.backoff.next_ms);
	shaping_wait_end(&site->wait);
	shaping_wait_end(&site->connect_wait);
	LIST_EACH(struct lane, lane, &site->lanes, in_site)
		window_drop_ready(&d->window, lane);
	site_save(site, site->state.backoff.next_ms);
	dispatcher_wake_at(d, site->state.backoff.next_ms);
}

void
site_sleep(struct site *site, int64_t until_ms, struct span text)
{
	struct backoff *backoff = &site->state.backoff;

	backoff->next_ms = until_ms;
	if (backoff->failures == 0)
		backoff->text = arena_copy(&site->arena, text);
	site_rests(site);
}

static void
site_backoff(struct site *site, const struct reply *reply, struct span host)
{
	struct dispatcher *d = site->owner;
	struct site_state *state = &site->state;
	struct buf line = { 0 };

	state->backoff.failures++;
	state->backoff.next_ms = schedule_probe(&config_of(d)->queue.schedule,
						state->backoff.failures, wall_ms(), chance());
	reply_to_line(reply, &line);
	state->last.at_ms = wall_ms();
	state->last.host = arena_copy(&site->arena, host);
	state->last.text = arena_copy(&site->arena, span_first(buf_span(&line), 500));
	state->backoff.text = state->last.text;
	buf_free(&line);
	log_site(site, "site-backoff");
	site_rests(site);
}

/*
 * Probe now: the operator says so, or its time has come while something of it was still in
 * memory.
 */
void
site_probe_now(struct site *site)
{
	int64_t now = wall_ms();

	if (site->mode != SITE_BACKOFF || site_sleeps(site))
		return;
	site->mode = site->state.backoff.failures > 0 ? SITE_PROBING : SITE_OPEN;
	if (site->mode == SITE_PROBING)
		site_begins(site, 1);
	site->leaving = false;
	/* or it would be asleep again after a restart */
	if (site->state.backoff.next_ms > now) {
		site->state.backoff.next_ms = now;
		site_save(site, now);
	}
	site_wake_lanes(site);
	site_load_lanes(site);
	site_touch(site);
}

/* ---- what it says ------------------------------------------------------------------------- */

/* A connection has failed before any mail; so many of the site's still work. */
void
site_failed(struct site *site, const struct reply *reply, struct span host, size_t left)
{
	if (left == 0) {
		site_backoff(site, reply, host);
		return;
	}
	concurrency_refused(&site->pace, left, mono_ms());
	site->pause_until_ms = wall_ms() + PAUSE_MS;
	take_limit(site, reply);
}

/* Too much, or nothing: not what becomes of one message. */
static bool
is_trouble(const struct job_recipient *r)
{
	uint16_t code = r->outcome.reply.code;

	if (r->skipped || r->suppressed || r->outcome.fate == FATE_DELIVERED ||
	    r->outcome.fate == FATE_NOT_TRIED || r->outcome.fate == FATE_PENDING)
		return false;
	if (code == 0 || code == 421)
		return true;
	return code / 100 == 4 && r->classified &&
	       (r->class == CLASS_RATE_LIMITED || r->class == CLASS_SPAM_BLOCK);
}

/*
 * A host has answered as it should: whatever was held against the site is forgotten, and all that
 * waits may go.
 */
static void
site_success(struct site *site, int64_t latency_ms)
{
	bool sleeps = site->mode == SITE_BACKOFF && site->state.backoff.failures == 0;

	if (site->state.backoff.failures > 0) {
		site->state.backoff = (struct backoff){ 0 };
		log_site(site, "site-up");
		site_save(site, wall_ms());
	}
	if (site->mode == SITE_PROBING || (site->mode == SITE_BACKOFF && !sleeps)) {
		site->mode = SITE_OPEN;
		site_wake_lanes(site);
		site_load_lanes(site);
	}
	concurrency_good(&site->pace, site_max_connections(site), latency_ms, mono_ms());
	take_limit(site, NULL);
}

/* While it backs off already, what is still on its way says nothing new. */
static void
site_trouble(struct site *site, const struct reply *reply, struct span host)
{
	bool dead;

	if (site->mode == SITE_BACKOFF)
		return;
	dead = concurrency_trouble(&site->pace, mono_ms());
	if (dead || site->mode == SITE_PROBING)
		site_backoff(site, reply, host);
	else
		take_limit(site, reply);
}

/* MAIL was sent, and this is what came of it. */
void
site_answered(struct site *site, const struct job *job)
{
	const struct job_recipient *trouble = NULL;

	for (size_t i = 0; i < job->count && trouble == NULL; i++)
		if (is_trouble(&job->recipients[i]))
			trouble = &job->recipients[i];
	for (size_t i = 0; i < job->count; i++)
		if (job->recipients[i].outcome.fate == FATE_DELIVERED) {
			site_message_taken(site, wall_ms());
			break;
		}
	if (trouble != NULL)
		site_trouble(site, &trouble->outcome.reply, job->host);
	else
		site_success(site, job->latency_ms);
}
