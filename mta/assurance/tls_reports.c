/*
 * tls_reports: counting, and writing what was counted; see tls_reports.h. Home loop only.
 *
 * A flush takes all that is in memory and writes it in slices: each note is read, added to, and
 * put back; what is counted meanwhile gathers for the next. Nothing else changes the notes of a
 * day that goes on, and a day that is over is not touched before its last flush has ended.
 */
#include "mta/assurance/tls_reports.h"

#include <stdlib.h>

#include "dns/idna.h"
#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/assurance/policies.h"
#include "mta/assurance/tls_reports_private.h"
#include "policy/tls_event.h"

enum {
	FLUSH_MS = 60000, SLICE = 100,
	MEMORY_MAX = 4 << 20,
	NODE_OCTETS = 1000,		/* what one costs beside its texts, roughly */
};
#define STORED_MAX (UINT64_C(16) << 20)

struct counted {			/* of one domain and day; in its arena */
	struct map_node node;
	struct list order;
	struct tls_reports *r;
	struct arena arena;
	struct tlsrpt_day day;
	struct queue_note note;
	struct buf key, value;
	size_t before;			/* octets of the note that it replaces */
};

bool
tls_reports_wanted(const struct config *config)
{
	return config->tls_reports.contact.len > 0;
}

void
reports_put_day(struct buf *key, char kind, uint32_t day)
{
	buf_byte(key, kind);
	for (int shift = 24; shift >= 0; shift -= 8)
		buf_byte(key, (char)(day >> shift & 255));
}

uint32_t
reports_key_day(struct span key)
{
	uint32_t day = 0;

	for (size_t i = 1; i < KEY_DOMAIN_AT; i++)
		day = day << 8 | (unsigned char)key.at[i];
	return day;
}

/* ---- counting ----------------------------------------------------------------------------- */

static void
counted_free(struct counted *c)
{
	struct arena arena = c->arena;

	buf_free(&c->key);
	buf_free(&c->value);
	arena_free(&arena);
}

static struct counted *
counted_find(struct tls_reports *r, struct span domain, uint32_t day, uint64_t hash)
{
	struct map_node *node = map_find(&r->days, hash);

	for (; node != NULL; node = map_next_same(node)) {
		struct counted *c = CONTAINER_OF(node, struct counted, node);

		if (c->day.day == day && span_eq(c->day.domain, domain))
			return c;
	}
	return NULL;
}

static struct counted *
counted_new(struct tls_reports *r, struct span domain, uint32_t day, uint64_t hash)
{
	struct arena arena = { 0 };
	struct counted *c = arena_alloc(&arena, sizeof(*c));

	c->arena = arena;
	c->r = r;
	tlsrpt_day_init(&c->day, domain, day, &c->arena);
	map_add(&r->days, &c->node, hash);
	list_add_last(&r->order, &c->order);
	r->octets += c->day.octets + NODE_OCTETS;
	return c;
}

static void on_flush_timer(uv_timer_t *timer);

static void
count(struct tls_reports *r, struct span domain, uint32_t day, const struct tlsrpt_event *event)
{
	const uint64_t hash = hash_bytes(domain.at, domain.len, day);
	struct counted *c = counted_find(r, domain, day, hash);
	size_t before;

	if (c == NULL && r->octets > 2 * MEMORY_MAX) {
		r->dropped++;
		return;
	}
	if (c == NULL)
		c = counted_new(r, domain, day, hash);
	before = c->day.octets;
	tlsrpt_count(&c->day, event, &c->arena);
	r->octets += c->day.octets - before;
	if (r->octets > MEMORY_MAX)
		reports_flush(r);
	else if (!r->stopping && !uv_is_active((uv_handle_t *)&r->flush_timer))
		uv_timer_start(&r->flush_timer, on_flush_timer, FLUSH_MS, 0);
}

/* ---- from the other reactors -------------------------------------------------------------- */

struct told {				/* in its arena */
	struct letter letter;
	struct tls_reports *r;
	struct arena arena;
	struct span domain;
	uint32_t day;
	struct tlsrpt_event event;
};

/* The delivery knows what the policy asks for, not its text: that is the domain's own. */
static void
quote_policy(struct told *t)
{
	const struct sts_policy *policy = policies_known(t->r->policies, t->domain);
	struct span *lines;

	if (t->event.type != TLSRPT_STS || policy == NULL)
		return;
	lines = arena_alloc(&t->arena, TLSRPT_LINES_MAX * sizeof(*lines));
	t->event.line_count = sts_policy_lines(policy, &t->arena, lines, TLSRPT_LINES_MAX);
	t->event.lines = lines;
	t->event.hosts = policy->mx;
	t->event.host_count = policy->mx_count;
}

/*
 * A session without a policy, where there should be one that could not be had, is counted for that
 * as well.
 */
static void
on_told(struct letter *letter)
{
	struct told *t = CONTAINER_OF(letter, struct told, letter);
	enum tlsrpt_result trouble;
	struct arena arena;

	quote_policy(t);
	count(t->r, t->domain, t->day, &t->event);
	if (t->event.type == TLSRPT_NO_POLICY &&
	    policies_trouble(t->r->policies, t->domain, &trouble)) {
		tls_event_no_policy(trouble, &t->event);
		count(t->r, t->domain, t->day, &t->event);
	}
	arena = t->arena;
	arena_free(&arena);
}

static const struct span *
copy_texts(const struct span *texts, size_t n, struct arena *arena)
{
	struct span *copy = arena_alloc(arena, (n + 1) * sizeof(*copy));

	for (size_t i = 0; i < n; i++)
		copy[i] = arena_copy(arena, span_first(texts[i], TLSRPT_TEXT_MAX));
	return copy;
}

void
tls_reports_tell(struct tls_reports *r, struct post *from, struct post *home, struct span domain,
		 const struct tlsrpt_event *event)
{
	struct arena arena = { 0 };
	struct told *t = arena_alloc(&arena, sizeof(*t));

	t->arena = arena;
	t->r = r;
	if (domain.len == 0 || domain.at[0] == '[' ||
	    !domain_to_ascii(domain, &t->arena, &t->domain)) {
		arena = t->arena;
		arena_free(&arena);
		return;
	}
	t->day = tlsrpt_day_of(wall_ms());
	t->event = *event;
	t->event.lines = copy_texts(event->lines, event->line_count, &t->arena);
	t->event.hosts = copy_texts(event->hosts, event->host_count, &t->arena);
	t->event.receiving_host = arena_copy(&t->arena, event->receiving_host);
	t->event.receiving_helo = arena_copy(&t->arena, event->receiving_helo);
	t->event.detail = arena_copy(&t->arena, event->detail);
	t->letter.open = on_told;
	post_send(from, home, &t->letter);
}

/* ---- writing ------------------------------------------------------------------------------ */

static void flush_step(struct tls_reports *r);

static void
on_written(struct queue_op *op)
{
	struct counted *c = CONTAINER_OF(op, struct counted, note.op);
	struct tls_reports *r = c->r;

	if (op->result == 0)
		r->stored += buf_len(&c->value) - c->before;
	else
		r->dropped++;
	counted_free(c);
	if (--r->writing == 0)
		flush_step(r);
}

/* Adds what is stored already; what is damaged is replaced. */
static void
add_stored(struct counted *c)
{
	struct queue_port *port = c->r->home->port;
	struct tlsrpt_day stored;

	if (queue_read_note(port, NOTE_TLS_REPORT, buf_span(&c->key), &c->value) == 0) {
		c->before = buf_len(&c->value);
		if (tlsrpt_day_decode(buf_span(&c->value), &c->arena, &stored) == 0) {
			tlsrpt_merge(&stored, &c->day, &c->arena);
			c->day = stored;
		}
	}
	buf_clear(&c->value);
}

static void
counted_write(struct tls_reports *r, struct counted *c)
{
	reports_put_day(&c->key, KEY_COUNTERS, c->day.day);
	buf_append(&c->key, c->day.domain);
	add_stored(c);
	if (c->before == 0 && r->stored + c->day.octets > STORED_MAX) {
		r->dropped++;
		counted_free(c);
		return;
	}
	tlsrpt_day_encode(&c->day, &c->value);
	c->note = (struct queue_note){ .op.done = on_written,
				       .kind = NOTE_TLS_REPORT,
				       .key = buf_span(&c->key),
				       .value = buf_span(&c->value) };
	r->writing++;
	queue_submit_note(r->home->port, &c->note);
}

static void
flush_begin(struct tls_reports *r)
{
	struct map_node *node;

	while ((node = map_any(&r->days)) != NULL)
		map_remove(&r->days, node);
	while (!list_empty(&r->order)) {
		struct list *first = r->order.next;

		list_remove(first);
		list_add_last(&r->flushing, first);
	}
	r->octets = 0;
	r->served = r->waiting;
	r->waiting = NULL;
	uv_timer_stop(&r->flush_timer);
}

static void
flush_end(struct tls_reports *r)
{
	struct tls_reports_wait *served = r->served;

	if (r->dropped > 0)
		log_message(LOG_WARNING, "tls-report",
			    "there was no room to keep what %llu times was counted",
			    (unsigned long long)r->dropped);
	r->dropped = 0;
	r->served = NULL;
	while (served != NULL) {
		struct tls_reports_wait *next = served->next;

		served->done(served);
		served = next;
	}
}

/* The next slice, or the end; then, if somebody waits for it, the next flush. */
static void
flush_step(struct tls_reports *r)
{
	for (int i = 0; i < SLICE && !list_empty(&r->flushing); i++) {
		struct counted *c = CONTAINER_OF(r->flushing.next, struct counted, order);

		list_remove(&c->order);
		counted_write(r, c);
	}
	if (r->writing > 0)
		return;
	if (!list_empty(&r->flushing)) {
		flush_step(r);
		return;
	}
	flush_end(r);
	if (r->waiting != NULL || (r->stopping && !list_empty(&r->order))) {
		flush_begin(r);
		flush_step(r);
	} else {
		r->rest(r->arg);
	}
}

static bool
is_flushing(const struct tls_reports *r)
{
	return r->writing > 0 || !list_empty(&r->flushing);
}

void
reports_flush(struct tls_reports *r)
{
	if (is_flushing(r))
		return;
	flush_begin(r);
	flush_step(r);
}

static void
on_flush_timer(uv_timer_t *timer)
{
	reports_flush(timer->data);
}

/* ---- life --------------------------------------------------------------------------------- */

struct tls_reports *
tls_reports_start(struct reactor *home, struct policies *policies, void (*rest)(void *arg),
		  void *arg)
{
	struct tls_reports *r = xcalloc(1, sizeof(*r));

	r->home = home;
	r->policies = policies;
	r->rest = rest;
	r->arg = arg;
	list_init(&r->order);
	list_init(&r->flushing);
	list_init(&r->making);
	uv_timer_init(&home->loop, &r->flush_timer);
	uv_timer_init(&home->loop, &r->walk_timer);
	r->flush_timer.data = r->walk_timer.data = r;
	walk_start(r);
	return r;
}

void
tls_reports_stop(struct tls_reports *r)
{
	bool again = r->stopping;

	r->stopping = true;
	/* the end of each comes back here by rest(), and must not end the next one of this loop */
	if (!again)
		LIST_EACH(struct at_work, work, &r->making, node)
			work->cancel(work);
	walk_stop(r);
	if (!list_empty(&r->order))
		reports_flush(r);
}

bool
tls_reports_busy(const struct tls_reports *r)
{
	return is_flushing(r) || !list_empty(&r->order) || r->making_count > 0;
}

void
tls_reports_close(struct tls_reports *r)
{
	LIST_EACH(struct at_work, work, &r->making, node)
		work->cancel(work);
	uv_close((uv_handle_t *)&r->flush_timer, NULL);
	uv_close((uv_handle_t *)&r->walk_timer, NULL);
}

void
tls_reports_free(struct tls_reports *r)
{
	while (!list_empty(&r->order)) {		/* it could not be written */
		struct counted *c = CONTAINER_OF(r->order.next, struct counted, order);

		list_remove(&c->order);
		map_remove(&r->days, &c->node);
		counted_free(c);
	}
	map_free(&r->days);
	buf_free(&r->cursor);
	free(r);
}

void
tls_reports_ask(struct tls_reports *r, enum tls_reports_wish wish, struct tls_reports_wait *wait)
{
	if (wish == TLS_REPORTS_SEND) {
		wait->next = r->forcing;
		r->forcing = wait;
		walk_soon(r);
		return;
	}
	wait->next = r->waiting;
	r->waiting = wait;
	reports_flush(r);
}
