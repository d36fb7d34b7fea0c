/*
 * tls_reports_send: which days are over, and their reports; see tls_reports.h. Home loop only.
 *
 * A walk goes through all notes, a page at a time, and begins what is due: a few reports at once,
 * then it waits for one to end. A day is due at its end and some time behind it, which is another
 * for each domain and always the same: it needs no note. A walk that an operator asks for takes
 * all that there is, today's too.
 *
 * A report: read the counters → look up who wants it → mail to the queue, and notes for what is
 * to be posted, in one transaction with the end of the counters.
 */
#include <stdlib.h>

#include "dns/facts_fetch.h"
#include "mta/base/address.h"
#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/base/log.h"
#include "mta/assurance/tls_reports_private.h"
#include "mta/tlsrpt/tlsrpt_report.h"

enum {
	PAGE = 50, PAGE_MS = 50,
	RECHECK_MS = 600000,		/* the longest the clock is trusted */
	LATE_MS = 120000,		/* the last flush of a day is over then */
	RETRY_MS = 600000,
};

void
reports_log(enum log_level level, const struct tlsrpt_day *day, struct span to,
	    const char *outcome, struct span why)
{
	uint64_t successes = 0, failures = 0;
	char date[ISO_DATE_MAX];
	struct log_line l;

	if (!log_begin(&l, level, "tls-report"))
		return;
	for (size_t i = 0; i < day->count; i++) {
		successes += day->policies[i].successes;
		failures += day->policies[i].failed;
	}
	clock_iso((int64_t)day->day * DAY_MS, date);
	log_span(&l, "domain", day->domain);
	log_span(&l, "day", span_first(span_str(date), 10));
	log_str(&l, "outcome", outcome);
	if (to.len > 0)
		log_span(&l, "to", to);
	log_u64(&l, "successes", successes);
	log_u64(&l, "failures", failures);
	if (why.len > 0)
		log_span(&l, "reply", why);
	log_end(&l);
}

/* ---- what is being worked on -------------------------------------------------------------- */

static void on_walk(uv_timer_t *timer);

void
work_begin(struct at_work *work, struct tls_reports *r, struct span key,
	   void (*cancel)(struct at_work *work))
{
	*work = (struct at_work){ .r = r, .key = key, .cancel = cancel };
	list_add_last(&r->making, &work->node);
	r->making_count++;
}

void
work_end(struct at_work *work)
{
	struct tls_reports *r = work->r;

	list_remove(&work->node);
	r->making_count--;
	if (r->stopping)
		r->rest(r->arg);
	else if (r->walking)
		uv_timer_start(&r->walk_timer, on_walk, 0, 0);
}

static bool
is_at_work(const struct tls_reports *r, struct span key)
{
	LIST_EACH(struct at_work, work, &r->making, node)
		if (span_eq(work->key, key))
			return true;
	return false;
}

struct removing {			/* in its arena */
	struct at_work work;
	struct arena arena;
	struct queue_note note;
};

static void
on_removed(struct queue_op *op)
{
	struct removing *m = CONTAINER_OF(op, struct removing, note.op);
	struct arena arena = m->arena;

	work_end(&m->work);
	arena_free(&arena);
}

static void
with_the_queue(struct at_work *work)
{
	(void)work;			/* it ends when that is through */
}

void
note_remove(struct tls_reports *r, struct span key)
{
	struct arena arena = { 0 };
	struct removing *m = arena_alloc(&arena, sizeof(*m));

	m->note = (struct queue_note){ .op.done = on_removed,
				       .kind = NOTE_TLS_REPORT,
				       .key = arena_copy(&arena, key),
				       .remove = true };
	m->arena = arena;
	work_begin(&m->work, r, m->note.key, with_the_queue);
	queue_submit_note(r->home->port, &m->note);
}

/* ---- one report --------------------------------------------------------------------------- */

struct making {				/* in its arena */
	struct at_work work;
	struct arena arena;
	struct tlsrpt_day day;
	struct facts facts;
	struct facts_needs needs;
	struct facts_fetch *fetch;
	struct tlsrpt_facts report;
	struct buf header, body;
	struct recipient recipients[TLSRPT_URIS_MAX];
	struct lane_name lanes[TLSRPT_URIS_MAX];
	struct span to[TLSRPT_URIS_MAX];
	size_t to_count;
	struct envelope envelope;
	struct queue_accept accept;
	/* the first: the counters go; the others: what is to be posted */
	struct queue_note notes[1 + TLSRPT_URIS_MAX];
	size_t note_count;
	struct buf values[TLSRPT_URIS_MAX];
	bool with_queue;
};

static void
making_end(struct making *m)
{
	struct arena arena;

	facts_fetch_cancel(m->fetch);
	work_end(&m->work);
	buf_free(&m->header);
	buf_free(&m->body);
	for (size_t i = 0; i < TLSRPT_URIS_MAX; i++)
		buf_free(&m->values[i]);
	arena = m->arena;
	arena_free(&arena);
}

static void
making_cancel(struct at_work *work)
{
	struct making *m = CONTAINER_OF(work, struct making, work);

	if (!m->with_queue)
		making_end(m);
}

static void
making_later(struct making *m, struct span why)
{
	m->work.r->later++;
	walk_again_by(m->work.r, wall_ms() + RETRY_MS);
	reports_log(LOG_INFO, &m->day, SPAN(""), "later", why);
	making_end(m);
}

static void
making_done(struct making *m, int result)
{
	struct tls_reports *r = m->work.r;
	bool posts = m->note_count > 1;

	if (result < 0) {
		making_later(m, span_str(strerror(-result)));
		return;
	}
	for (size_t i = 0; i < m->to_count; i++)
		reports_log(LOG_INFO, &m->day, m->to[i], "queued", SPAN(""));
	r->sent += m->to_count;
	r->unwanted += m->to_count == 0 && !posts;
	r->posts_new = r->posts_new || posts;
	if (posts)
		walk_again_by(r, 0);
	making_end(m);
}

static void
on_accepted(struct queue_op *op)
{
	making_done(CONTAINER_OF(op, struct making, accept.op), op->result);
}

static void
on_noted(struct queue_op *op)
{
	making_done(CONTAINER_OF(op, struct making, notes[0].op), op->result);
}

/* The report is nobody's: no sender, no way back, TLS or not. */
static void
add_mail(struct making *m, struct span address)
{
	const struct config *config = reports_config(m->work.r);
	const struct routes *routes = &config->access.routes;
	struct route_facts way = { .domain = address_domain_of(address) };
	const struct route *route = route_choose(routes, &way);
	size_t n = m->to_count;

	if (route == NULL) {
		reports_log(LOG_INFO, &m->day, address, "dropped", SPAN("no route leads there"));
		return;
	}
	m->to[n] = m->recipients[n].address = address;
	m->lanes[n] = (struct lane_name){
		.domain = way.domain,
		.pool = arena_copy(&m->arena, pool_chosen(&config->sources, &(struct pool_facts){
							  .route = route->pool,
							  .sender = way.sender })),
		.route = route_label(routes, way.domain, route, WISH_TLS_OPTIONAL, &m->arena),
		.priority = PRIORITY_REPORT,
	};
	m->to_count++;
}

static void
add_post(struct making *m, uint64_t id, struct span url)
{
	struct buf key = { 0 }, *value = &m->values[m->note_count - 1];

	reports_put_day(&key, KEY_POST, m->day.day);
	for (int shift = 56; shift >= 0; shift -= 8)
		buf_byte(&key, (char)(id >> shift & 255));
	buf_byte(&key, (char)m->note_count);
	post_encode(url, m->report.report_id, m->report.now_ms, &m->day, value);
	m->notes[m->note_count++] = (struct queue_note){ .kind = NOTE_TLS_REPORT,
							 .key = arena_copy(&m->arena,
									   buf_span(&key)),
							 .value = buf_span(value) };
	buf_free(&key);
}

/* All of it, or with nobody to tell only the end of the counters, in one transaction. */
static void
hand_over(struct making *m, uint64_t id)
{
	struct queue_port *port = m->work.r->home->port;

	m->with_queue = true;
	if (m->to_count == 0) {
		m->notes[0].op.done = on_noted;
		m->notes[0].more = &m->notes[1];
		m->notes[0].more_count = m->note_count - 1;
		queue_submit_note(port, &m->notes[0]);
		return;
	}
	m->envelope = (struct envelope){ .recipients = m->recipients,
					 .recipient_count = m->to_count,
					 .body = BODY_7BIT };
	m->accept = (struct queue_accept){
		.op.done = on_accepted,
		.id = id,
		.arrival_ms = m->report.now_ms,
		.due_ms = m->report.now_ms,
		.envelope = &m->envelope,
		.lanes = m->lanes,
		.header = buf_span(&m->header),
		.body = buf_span(&m->body),
		.client = SPAN("tls-report"),
		.flags = MESSAGE_REPORT | MESSAGE_TLS_REPORT | MESSAGE_TLS_OPTIONAL,
		.notes = m->notes,
		.note_count = m->note_count,
	};
	queue_submit_accept(port, &m->accept);
}

static void
make_report(struct making *m, const struct tlsrpt_record *record)
{
	const struct config *config = reports_config(m->work.r);
	const uint64_t id = queue_next_id(m->work.r->home->queue);
	char text[ID_TEXT_LEN + 1];

	m->report = (struct tlsrpt_facts){
		.day = &m->day,
		.organization = config->tls_reports.organization,
		.hostname = config->hostname,
		.contact = config->tls_reports.contact,
		.report_id = arena_copy(&m->arena, span_str(id_format(id, text))),
		.now_ms = wall_ms(),
	};
	m->notes[0] = (struct queue_note){ .kind = NOTE_TLS_REPORT,
					   .key = m->work.key,
					   .remove = true };
	m->note_count = 1;
	for (size_t i = 0; i < record->count; i++) {
		if (record->uris[i].https)
			add_post(m, id, record->uris[i].text);
		else
			add_mail(m, record->uris[i].text);
	}
	if (m->to_count > 0 &&
	    tlsrpt_mail(&m->report, m->to, m->to_count, &m->header, &m->body) < 0)
		making_later(m, SPAN("it could not be compressed"));
	else
		hand_over(m, id);
}

static void
on_facts(void *arg)
{
	struct making *m = arg;
	const struct dns_answer *answer =
		facts_find(&m->facts, m->needs.need[0].name, DNS_TXT);
	struct tlsrpt_record record;

	m->fetch = NULL;
	if (answer == NULL || answer->outcome == DNS_TEMPORARY) {
		making_later(m, answer != NULL ? answer->text : SPAN("no answer"));
		return;
	}
	if (!tlsrpt_record_from_answer(answer, &m->arena, &record)) {
		reports_log(LOG_DEBUG, &m->day, SPAN(""), "unwanted", SPAN(""));
		record.count = 0;
	}
	make_report(m, &record);
}

static void
making_begin(struct tls_reports *r, const struct queue_note_row *row)
{
	struct arena arena = { 0 };
	struct making *m = arena_alloc(&arena, sizeof(*m));

	m->arena = arena;
	if (tlsrpt_day_decode(row->value, &m->arena, &m->day) < 0) {
		arena = m->arena;
		arena_free(&arena);
		note_remove(r, row->key);
		return;
	}
	work_begin(&m->work, r, arena_copy(&m->arena, row->key), making_cancel);
	m->facts.arena = &m->arena;
	if (r->home->resolver == NULL) {
		making_later(m, SPAN("there is no name server"));
		return;
	}
	m->needs.need[0].name = tlsrpt_record_name(m->day.domain, &m->arena);
	m->needs.need[0].type = DNS_TXT;
	m->needs.count = 1;
	m->fetch = facts_fetch(r->home->resolver, &m->facts, &m->needs, on_facts, m);
}

/* ---- the walk ----------------------------------------------------------------------------- */

void
walk_again_by(struct tls_reports *r, int64_t wall)
{
	if (wall < r->next_ms)
		r->next_ms = wall;
}

/* Each domain has its own moment after midnight, the same each day. */
static int64_t
due_of(const struct tls_reports *r, struct span key)
{
	const struct config *config = reports_config(r);
	const uint64_t spread = (uint64_t)config->tls_reports.spread_ms;
	struct span domain = span_skip(key, KEY_DOMAIN_AT);
	uint64_t seed = hash_bytes(config->hostname.at, config->hostname.len, 0);
	uint64_t delay = spread > 0 ? hash_bytes(domain.at, domain.len, seed) % spread : 0;

	return ((int64_t)reports_key_day(key) + 1) * DAY_MS + LATE_MS + (int64_t)delay;
}

static void
see_counters(struct tls_reports *r, const struct queue_note_row *row, int64_t now)
{
	const bool wanted = tls_reports_wanted(reports_config(r));
	const int64_t due = due_of(r, row->key);

	if (now > due + REPORT_GIVE_UP_MS && !(r->forced && wanted))
		note_remove(r, row->key);
	else if (wanted && (r->forced || now >= due))
		making_begin(r, row);
	else
		walk_again_by(r, due > now ? due : now + RECHECK_MS);
}

static void
see_row(struct tls_reports *r, const struct queue_note_row *row, int64_t now)
{
	r->walked += row->value.len;
	if (is_at_work(r, row->key))
		return;
	if (row->damaged || row->key.len <= KEY_DOMAIN_AT)
		note_remove(r, row->key);
	else if (row->key.at[0] == KEY_POST)
		post_begin(r, row->key, row->value, now);
	else
		see_counters(r, row, now);
}

static void
on_flushed(struct tls_reports_wait *wait)
{
	struct tls_reports *r = CONTAINER_OF(wait, struct tls_reports, flushed);

	r->flushing_first = false;
	if (!r->stopping)
		uv_timer_start(&r->walk_timer, on_walk, 0, 0);
}

static void
serve(struct tls_reports_wait *wait, const struct tls_reports *r)
{
	while (wait != NULL) {
		struct tls_reports_wait *next = wait->next;

		wait->sent = r->sent;
		wait->unwanted = r->unwanted;
		wait->later = r->later;
		wait->done(wait);
		wait = next;
	}
}

static void
walk_begin(struct tls_reports *r)
{
	r->walking = true;
	r->second = false;
	r->next_ms = INT64_MAX;
	r->walked = 0;
	buf_clear(&r->cursor);
	r->forced = r->forcing != NULL;
	r->sending = r->forcing;
	r->forcing = NULL;
	r->sent = r->unwanted = r->later = 0;
}

/* No more rows; what was begun has ended. */
static void
walk_end(struct tls_reports *r)
{
	struct tls_reports_wait *served = r->sending;
	int64_t wait = r->next_ms == INT64_MAX ? RECHECK_MS : r->next_ms - wall_ms();

	r->stored = r->walked;
	r->walking = r->forced = false;
	r->sending = NULL;
	wait = wait < PAGE_MS ? PAGE_MS : wait > RECHECK_MS ? RECHECK_MS : wait;
	uv_timer_start(&r->walk_timer, on_walk, (uint64_t)wait, 0);
	serve(served, r);
	if (r->forcing != NULL)
		walk_soon(r);
}

static bool
see_page(struct tls_reports *r, bool *ret_more)
{
	struct queue_note_row rows[PAGE];
	struct arena arena = { 0 };
	int64_t now = wall_ms();
	size_t count = 0, i = 0;

	*ret_more = queue_read_notes(r->home->port, NOTE_TLS_REPORT, SPAN(""),
				     buf_span(&r->cursor), &arena, rows, PAGE, &count) == 0 &&
		    count > 0;
	for (; i < count && r->making_count < REPORTS_AT_ONCE; i++) {
		see_row(r, &rows[i], now);
		buf_clear(&r->cursor);
		buf_append(&r->cursor, rows[i].key);
	}
	arena_free(&arena);
	return i == count;
}

static void
on_walk(uv_timer_t *timer)
{
	struct tls_reports *r = timer->data;
	bool more;

	if (r->stopping)
		return;
	if (!r->walking)
		walk_begin(r);
	if (!see_page(r, &more))
		return;					/* work_end() goes on */
	if (more) {
		uv_timer_start(timer, on_walk, r->forced ? 0 : PAGE_MS, 0);
	} else if (r->making_count == 0 && r->posts_new) {
		r->posts_new = false;
		r->second = true;
		buf_clear(&r->cursor);
		buf_byte(&r->cursor, KEY_POST);
		uv_timer_start(timer, on_walk, 0, 0);
	} else if (r->making_count == 0) {
		walk_end(r);
	}
}

void
walk_start(struct tls_reports *r)
{
	uv_timer_start(&r->walk_timer, on_walk, 0, 0);
}

void
walk_stop(struct tls_reports *r)
{
	struct tls_reports_wait *forcing = r->forcing, *sending = r->sending;

	uv_timer_stop(&r->walk_timer);
	r->forcing = r->sending = NULL;
	serve(sending, r);
	serve(forcing, r);
}

/* What is in memory is written first. */
void
walk_soon(struct tls_reports *r)
{
	if (r->stopping) {
		walk_stop(r);
	} else if (!r->walking && !r->flushing_first) {
		r->flushing_first = true;
		uv_timer_stop(&r->walk_timer);
		r->flushed.done = on_flushed;
		tls_reports_ask(r, TLS_REPORTS_FLUSH, &r->flushed);
	}
}
