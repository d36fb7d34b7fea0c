/*
 * policies: see policies.h.
 *
 *	policies_ask → settle → (ask_record → on_record →) (fetch → on_fetched →) settle → done
 *
 * One look-up and one fetch per domain at a time: whoever asks meanwhile waits for those. Memory
 * holds a bounded number of domains, and what is stored is bounded as well; a domain that nobody
 * has asked about for longest makes room.
 */
#include "mta/assurance/policies.h"

#include <errno.h>
#include <stdlib.h>

#include "dns/idna.h"
#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/base/map.h"
#include "mta/https/https.h"

enum {
	/* a TXT answer counts so long */
	RECORD_MIN_MS = 60 * 1000, RECORD_MAX_MS = 60 * 60 * 1000,
	USED_MS = 24 * 60 * 60 * 1000,		/* how exactly it is kept when a policy was used */
	STORED_MAX = 4096,			/* octets of an entry in the queue */
	MEMORY_MAX = 64 << 20,			/* octets of all in memory */
	SWEEP_FIRST_MS = 10 * 1000, SWEEP_MS = 60 * 60 * 1000, SWEEP_MORE_MS = 1000,
	SWEEP_PAGE = 50, SWEEP_AT_ONCE = HTTPS_AT_ONCE / 4,	/* mail that waits has the rest */
};

struct policies {
	struct reactor *home;
	struct map known;			/* by the domain's hash */
	struct list by_age;			/* not asked about for longest first */
	size_t octets, stored;
	uv_timer_t timer;
	struct buf swept;			/* the sweep goes on behind this key */
	size_t swept_count;
	size_t refreshing;			/* domains, for the sweep */
	void (*changed)(void *arg, struct span domain);
	void *changed_arg;
};

struct known {					/* one domain */
	struct map_node node;
	struct list age;
	struct policies *owner;
	struct span domain;			/* A-labels; in: */
	struct arena arena;
	struct sts_entry entry;			/* its spans are in: */
	struct arena entry_arena;
	bool has_entry, stored;
	bool busy;				/* it is being told of */
	bool refreshing;			/* the sweep has begun what is under way */
	struct sts_record record;		/* in: */
	struct arena record_arena;
	int64_t record_until_ms;		/* monotonic */
	struct dns_query *query;
	struct https_call *call;
	bool troubled;
	enum tlsrpt_result trouble;
	struct list waits;
};

static void settle(struct known *k);

/* ---- the store ---------------------------------------------------------------------------- */

struct note_put {
	struct queue_note note;
	struct arena arena;
};

static void
on_put(struct queue_op *op)
{
	struct note_put *put = CONTAINER_OF(op, struct note_put, note.op);

	if (op->result < 0)
		log_message(LOG_WARNING, "sts-store",
			    "the MTA-STS policy of %.*s is kept in memory only: %s",
			    SPAN_FMT(put->note.key), strerror(-op->result));
	arena_free(&put->arena);
	free(put);
}

/* value: empty to remove it */
static void
put_note(struct policies *p, struct span domain, struct span value)
{
	struct note_put *put = xcalloc(1, sizeof(*put));

	put->note.op.done = on_put;
	put->note.kind = NOTE_STS_POLICY;
	put->note.key = arena_copy(&put->arena, domain);
	put->note.value = arena_copy(&put->arena, value);
	put->note.remove = value.len == 0;
	queue_submit_note(p->home->port, &put->note);
}

static size_t
most_policies(const struct policies *p)
{
	return p->home->config->limits.sts_policies;
}

/* What was learned is worth keeping only if there is a policy. */
static void
store(struct known *k, struct span octets)
{
	struct policies *p = k->owner;
	bool fits = k->entry.has_policy && octets.len <= STORED_MAX &&
		    (k->stored || p->stored < most_policies(p));

	if (fits)
		put_note(p, k->domain, octets);
	else if (k->stored)
		put_note(p, k->domain, SPAN(""));
	p->stored += fits && !k->stored;
	p->stored -= !fits && k->stored && p->stored > 0;
	k->stored = fits;
}

/* ---- domains in memory -------------------------------------------------------------------- */

static size_t
octets_of(const struct known *k)
{
	return sizeof(*k) + k->arena.total + k->entry_arena.total + k->record_arena.total;
}

static void
drop(struct known *k)
{
	struct policies *p = k->owner;

	p->octets -= octets_of(k);
	dns_cancel(k->query);
	https_cancel(k->call);
	list_remove(&k->age);
	map_remove(&p->known, &k->node);
	arena_free(&k->entry_arena);
	arena_free(&k->record_arena);
	arena_free(&k->arena);
	free(k);
}

static void
make_room(struct policies *p, const struct known *keep)
{
	LIST_EACH(struct known, k, &p->by_age, age) {
		if (p->known.count <= most_policies(p) && p->octets <= MEMORY_MAX)
			return;
		if (k != keep && !k->busy && list_empty(&k->waits) && k->query == NULL &&
		    k->call == NULL)
			drop(k);
	}
}

/* The entry as it is from now on, a copy of its own; the octets it is stored as. */
static void
take_entry(struct known *k, struct span octets)
{
	struct arena fresh = { 0 };
	struct sts_entry entry;

	if (sts_entry_decode(octets, &fresh, &entry) < 0) {
		arena_free(&fresh);
		return;
	}
	k->owner->octets -= octets_of(k);
	arena_free(&k->entry_arena);
	k->entry_arena = fresh;
	k->entry = entry;
	k->has_entry = true;
	k->owner->octets += octets_of(k);
}

static void
set_entry(struct known *k, const struct sts_entry *entry)
{
	struct buf octets = { 0 };

	sts_entry_encode(entry, &octets);
	take_entry(k, buf_span(&octets));
	store(k, buf_span(&octets));
	buf_free(&octets);
}

static void
load(struct known *k)
{
	struct buf octets = { 0 };

	k->stored = queue_read_note(k->owner->home->port, NOTE_STS_POLICY, k->domain, &octets) == 0;
	if (k->stored)
		take_entry(k, buf_span(&octets));
	buf_free(&octets);
}

static struct known *
find(struct policies *p, struct span domain)
{
	uint64_t hash = hash_bytes(domain.at, domain.len, 0);

	for (struct map_node *n = map_find(&p->known, hash); n != NULL; n = map_next_same(n)) {
		struct known *k = CONTAINER_OF(n, struct known, node);

		if (!span_eq(k->domain, domain))
			continue;
		list_remove(&k->age);
		list_add_last(&p->by_age, &k->age);
		return k;
	}
	return NULL;
}

/* NULL: not a domain that could have a policy. */
static struct known *
get(struct policies *p, struct span domain)
{
	struct arena arena = { 0 };
	struct known *k;
	struct span ascii;

	if (domain.len == 0 || domain.at[0] == '[' || !domain_to_ascii(domain, &arena, &ascii) ||
	    sts_record_name(ascii, &arena).len == 0) {
		arena_free(&arena);
		return NULL;
	}
	k = find(p, ascii);
	if (k == NULL) {
		k = xcalloc(1, sizeof(*k));
		k->owner = p;
		k->domain = arena_copy(&k->arena, ascii);
		list_init(&k->waits);
		list_add_last(&p->by_age, &k->age);
		map_add(&p->known, &k->node, hash_bytes(ascii.at, ascii.len, 0));
		p->octets += octets_of(k);
		load(k);
		make_room(p, k);
	}
	arena_free(&arena);
	return k;
}

/* ---- the log ------------------------------------------------------------------------------ */

static void
log_fetched(const struct known *k)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, "sts-policy"))
		return;
	log_span(&l, "domain", k->domain);
	log_str(&l, "mode", sts_mode_text(k->entry.policy.mode));
	log_span(&l, "id", k->entry.id);
	log_u64(&l, "max_age", k->entry.policy.max_age);
	log_u64(&l, "hosts", k->entry.policy.mx_count);
	log_end(&l);
}

static void
log_failed(const struct known *k, struct span why)
{
	int64_t now = wall_ms(), until = sts_entry_expires_ms(&k->entry, now);
	struct log_line l;

	if (!log_begin(&l, LOG_WARNING, "sts-failed"))
		return;
	log_span(&l, "domain", k->domain);
	log_span(&l, "why", why);
	log_str(&l, "policy", until > now ? "the one known before holds" : "none");
	log_i64(&l, "again", (k->entry.retry_ms - now) / 1000);
	log_end(&l);
}

/* ---- the record and the policy host ------------------------------------------------------- */

static int64_t
bounded_ttl(const struct dns_answer *answer)
{
	int64_t ttl_ms = (int64_t)answer->ttl * 1000;

	if (answer->outcome == DNS_TEMPORARY || ttl_ms < RECORD_MIN_MS)
		return RECORD_MIN_MS;
	return ttl_ms < RECORD_MAX_MS ? ttl_ms : RECORD_MAX_MS;
}

static void
on_record(void *arg, const struct dns_answer *answer)
{
	struct known *k = arg;

	k->query = NULL;
	k->owner->octets -= octets_of(k);
	arena_free(&k->record_arena);
	sts_record_from_answer(answer, &k->record_arena, &k->record);
	k->record.why = arena_copy(&k->record_arena, k->record.why);
	k->owner->octets += octets_of(k);
	k->record_until_ms = mono_ms() + bounded_ttl(answer);
	settle(k);
}

static void
ask_record(struct known *k)
{
	struct reactor *home = k->owner->home;
	struct arena arena = { 0 };

	if (k->query == NULL)
		k->query = dns_ask(home->resolver, sts_record_name(k->domain, &arena), DNS_TXT,
				   on_record, k);
	arena_free(&arena);
}

static enum tlsrpt_result
trouble_of(const struct https_answer *answer)
{
	if (answer->failure == HTTPS_NOT_TRUSTED)
		return TLSRPT_STS_WEBPKI_INVALID;
	return answer->failure == HTTPS_ANSWERED && answer->status == 200 ?
		       TLSRPT_STS_POLICY_INVALID :
		       TLSRPT_STS_POLICY_FETCH_ERROR;
}

static bool
read_answer(const struct https_answer *answer, struct arena *arena, struct sts_policy *ret,
	    struct span *why)
{
	const char *error = "";

	*why = answer->why;
	if (answer->failure != HTTPS_ANSWERED)
		return false;
	if (sts_policy_from_response(answer->status, answer->content_type, answer->body, arena, ret,
				     &error))
		return true;
	*why = answer->status != 200 ? arena_printf(arena, "%s: status %u", error, answer->status) :
				       span_str(error);
	return false;
}

/* What holds, as text: to see whether it has become another. */
static void
write_holding(const struct known *k, struct buf *out)
{
	int64_t now = wall_ms();

	if (k->has_entry && sts_entry_expires_ms(&k->entry, now) > now)
		sts_policy_write(&k->entry.policy, out);
}

static void
on_fetched(void *arg, const struct https_answer *answer)
{
	struct known *k = arg;
	struct policies *p = k->owner;
	const struct sts_entry *old = k->has_entry ? &k->entry : NULL;
	struct buf before = { 0 }, after = { 0 };
	struct arena arena = { 0 };
	struct sts_policy policy;
	struct sts_entry entry;
	struct span why;

	k->call = NULL;
	write_holding(k, &before);
	k->troubled = !read_answer(answer, &arena, &policy, &why);
	if (k->troubled) {
		k->trouble = trouble_of(answer);
		sts_fetch_failed(old, why, wall_ms(), &entry);
	} else {
		sts_fetched(old, &policy, k->record.id, wall_ms(), &entry);
	}
	set_entry(k, &entry);
	if (k->troubled)
		log_failed(k, why);
	else
		log_fetched(k);
	write_holding(k, &after);
	arena_free(&arena);
	if (!span_eq(buf_span(&before), buf_span(&after)))
		p->changed(p->changed_arg, k->domain);
	settle(k);
	buf_free(&before);
	buf_free(&after);
}

static void
fetch(struct known *k)
{
	struct reactor *home = k->owner->home;
	struct arena arena = { 0 };
	struct https_request request = {
		.method = HTTPS_GET,
		.url = arena_printf(&arena, "https://%.*s" STS_POLICY_PATH,
				    SPAN_FMT(sts_policy_host(k->domain, &arena))),
		.timeout_ms = home->config->limits.sts_timeout_ms,
		.done = on_fetched,
		.arg = k,
	};

	if (k->call == NULL)
		k->call = https_request(home->https, &request);
	arena_free(&arena);
}

/* ---- asking ------------------------------------------------------------------------------- */

/* True: it can be said now what holds. What is still to be asked for is asked. */
static bool
decide(struct known *k, struct sts_decision *ret)
{
	if (k->query == NULL && k->call == NULL && k->record_until_ms <= mono_ms())
		k->record = (struct sts_record){ .outcome = STS_RECORD_UNKNOWN };
	sts_decide(k->has_entry ? &k->entry : NULL, &k->record, wall_ms(), ret);
	if (ret->ask_record)
		ask_record(k);
	if (ret->fetch)
		fetch(k);
	return ret->use == STS_USE_POLICY || ret->use == STS_USE_NOTHING;
}

static void
refresh_ended(struct known *k)
{
	if (!k->refreshing || k->query != NULL || k->call != NULL)
		return;
	k->refreshing = false;
	k->owner->refreshing--;
}

/* Something has become known: those who wait are told, if it was what they wait for. */
static void
settle(struct known *k)
{
	struct sts_decision decision;

	k->busy = true;
	while (decide(k, &decision) && !list_empty(&k->waits)) {
		struct policy_wait *wait = CONTAINER_OF(k->waits.next, struct policy_wait, node);

		list_remove(&wait->node);
		wait->done(wait, decision.policy, decision.reason);
	}
	k->busy = false;
	refresh_ended(k);
}

/* Only what is in use is refreshed ahead of time: the day is kept, not the moment. */
static void
note_use(struct known *k)
{
	int64_t now = wall_ms();
	struct sts_entry entry = k->entry;

	if (!entry.has_policy || (now - entry.used_ms < USED_MS && entry.used_ms <= now))
		return;
	entry.used_ms = now;
	set_entry(k, &entry);
}

bool
policies_ask(struct policies *p, struct span domain, struct policy_wait *wait,
	     const struct sts_policy **ret, struct span *why)
{
	struct known *k = p->home->config->mta_sts ? get(p, domain) : NULL;
	struct sts_decision decision = { .reason = SPAN("MTA-STS is not asked for") };

	if (k != NULL)
		note_use(k);
	if (k == NULL || decide(k, &decision)) {
		*ret = decision.policy;
		*why = decision.reason;
		return true;
	}
	list_add_last(&k->waits, &wait->node);
	return false;
}

void
policies_cancel(struct policy_wait *wait)
{
	if (list_linked(&wait->node))
		list_remove(&wait->node);
}

const struct sts_policy *
policies_known(struct policies *p, struct span domain)
{
	struct known *k = p->home->config->mta_sts ? get(p, domain) : NULL;
	int64_t now = wall_ms();
	bool holds = k != NULL && k->has_entry && sts_entry_expires_ms(&k->entry, now) > now;

	return holds ? &k->entry.policy : NULL;
}

int64_t
policies_until(struct policies *p, struct span domain, int64_t until_ms)
{
	struct known *k = get(p, domain);
	int64_t now = wall_ms();
	int64_t expires = k != NULL && k->has_entry ? sts_entry_expires_ms(&k->entry, now) : 0;

	return expires > now && expires < until_ms ? expires : until_ms;
}

bool
policies_trouble(struct policies *p, struct span domain, enum tlsrpt_result *ret)
{
	struct known *k = get(p, domain);

	if (k == NULL || !k->troubled)
		return false;
	*ret = k->trouble;
	return true;
}

/* ---- refreshing --------------------------------------------------------------------------- */

static void
refresh(struct known *k)
{
	struct sts_decision decision;

	if (k->query != NULL || k->call != NULL)
		return;
	k->refreshing = true;
	k->owner->refreshing++;
	decide(k, &decision);
	refresh_ended(k);
}

static void
sweep_row(struct policies *p, const struct queue_note_row *row)
{
	struct arena arena = { 0 };
	struct sts_entry entry;
	int64_t now = wall_ms();
	int rc = row->damaged ? -EBADMSG : sts_entry_decode(row->value, &arena, &entry);
	struct known *k;

	if (rc == -EBADMSG || (rc == 0 && sts_entry_useless(&entry, now))) {
		put_note(p, row->key, SPAN(""));
		k = find(p, row->key);
		if (k != NULL)
			k->stored = false;
	} else {
		p->swept_count++;
		k = rc == 0 && sts_entry_refresh_due(&entry, now) ? get(p, row->key) : NULL;
		if (k != NULL)
			refresh(k);
	}
	arena_free(&arena);
}

/* A page of what is stored: what is old is asked for again, what is over is removed. */
static void
on_sweep(uv_timer_t *timer)
{
	struct policies *p = timer->data;
	struct queue_note_row rows[SWEEP_PAGE];
	struct arena arena = { 0 };
	size_t count = 0, i = 0;

	if (p->home->config->mta_sts && p->refreshing < SWEEP_AT_ONCE)
		queue_read_notes(p->home->port, NOTE_STS_POLICY, SPAN(""), buf_span(&p->swept),
				 &arena, rows, SWEEP_PAGE, &count);
	while (i < count && p->refreshing < SWEEP_AT_ONCE)
		sweep_row(p, &rows[i++]);
	if (i > 0) {
		buf_clear(&p->swept);
		buf_append(&p->swept, rows[i - 1].key);
	}
	if (count > 0 || p->refreshing >= SWEEP_AT_ONCE) {
		uv_timer_start(&p->timer, on_sweep, SWEEP_MORE_MS, 0);
	} else {
		p->stored = p->swept_count;
		p->swept_count = 0;
		buf_clear(&p->swept);
		uv_timer_start(&p->timer, on_sweep, SWEEP_MS, 0);
	}
	arena_free(&arena);
}

/* ---- life --------------------------------------------------------------------------------- */

struct policies *
policies_start(struct reactor *home, void (*changed)(void *arg, struct span domain), void *arg)
{
	struct policies *p = xcalloc(1, sizeof(*p));

	p->home = home;
	p->changed = changed;
	p->changed_arg = arg;
	list_init(&p->by_age);
	uv_timer_init(&home->loop, &p->timer);
	p->timer.data = p;
	uv_timer_start(&p->timer, on_sweep, SWEEP_FIRST_MS, 0);
	return p;
}

void
policies_close(struct policies *p)
{
	LIST_EACH(struct known, k, &p->by_age, age)
		drop(k);
	uv_close((uv_handle_t *)&p->timer, NULL);
}

void
policies_free(struct policies *p)
{
	map_free(&p->known);
	buf_free(&p->swept);
	free(p);
}
