/*
 * reporter: reports that are owed, expiry, delay warnings. Home loop only.
 *
 * A recipient that failed for good is settled as *report owed*; the report is made when no
 * recipient of that message is in flight, at most a minute later, so that one message and moment
 * makes one report; one transaction queues it and ends those recipients. Expiry and warnings:
 * two cursors walk the messages by age and meet only what is still there. Nothing expires before
 * its site has had time for a probe since the start or a jump of the clock.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/base/log.h"
#include "mta/bounce/bounce.h"
#include "mta/outbound/dispatcher_private.h"

enum {
	SOON_MS = 20, IDLE_MS = 1000, GATHER_MS = 60000, MORE_MS = 100,
	WALK_PAGE = 100, AT_ONCE = 8,
};

struct reporter {
	struct dispatcher *d;
	uv_timer_t timer, walker;
	struct map making;		/* ids whose report is with the queue */
	bool stopping, walking;
	bool more;			/* a walk has found more than it could do at once */
	struct queue_cursor_set cursors;
	uint64_t expiry_id, delay_id;
	struct dispatcher_edit expire;
	struct attempt expired;
	uint64_t *expire_ids;
	uint64_t expire_next;		/* the cursor once the edit is done */
	uint64_t *expire_cursor;	/* … and which one: expiry_id or report_id */
	/* reports of ours may have a shorter life: walked apart, anew after a start */
	uint64_t report_id;
	bool expiring;
};

struct report {				/* one that is being made; lives in its arena */
	struct map_node node;
	struct reporter *r;
	struct arena arena;
	struct queue_report op;
	struct queue_accept accept;
	struct envelope envelope;
	struct recipient to;
	struct lane_name lane;
	struct queue_message message;
	struct bounce_recipient *recipients;
	uint32_t *numbers;
	size_t count;
	bool delay;
	struct buf header, body, content;
};

static void on_owed_timer(uv_timer_t *timer);

/* ---- one report --------------------------------------------------------------------------- */

static void
report_free(struct report *p)
{
	struct arena arena = p->arena;

	buf_free(&p->header);
	buf_free(&p->body);
	buf_free(&p->content);
	arena_free(&arena);
}

static void
log_report(const struct report *p, const char *why)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, p->delay ? "delay-warning" : "report"))
		return;
	log_id(&l, "id", p->message.record.id);
	if (p->op.accept != NULL)
		log_id(&l, "report", p->accept.id);
	log_span(&l, "to", p->message.envelope.reverse_path);
	log_u64(&l, "recipients", p->count);
	if (why != NULL)
		log_str(&l, "not_sent", why);
	log_end(&l);
}

/*
 * What was given up without an answer, for its time was over or an operator returned it, ends
 * here; the end of all else was logged when it was settled.
 */
static void
log_given_up(const struct report *p)
{
	struct log_line l;

	for (size_t i = 0; i < p->count; i++) {
		const struct history_record *h = p->recipients[i].history;
		const struct attempt *last = h->kept > 0 ? &h->attempts[h->kept - 1] : NULL;

		if (last == NULL || last->code != 0 || last->host.len > 0 || last->address.len > 0)
			continue;
		if (!log_begin(&l, LOG_INFO, "final"))
			return;
		log_id(&l, "id", p->message.record.id);
		log_span(&l, "to", p->recipients[i].recipient->address);
		log_str(&l, "outcome", last->status.subject == 4 && last->status.detail == 7
					       ? "expired" : "returned");
		log_span(&l, "reply", last->text);
		log_end(&l);
	}
}

static void
on_reported(struct queue_op *op)
{
	struct report *p = CONTAINER_OF(op, struct report, op.op);
	struct reporter *r = p->r;

	map_remove(&r->making, &p->node);
	r->d->settling--;
	if (op->result == 0) {
		r->d->reports += p->op.accept != NULL;
		if (!p->delay)
			log_given_up(p);
		log_report(p, p->op.accept == NULL ? "nobody to tell, or no route" : NULL);
		reporter_soon(r);
	} else if (!r->stopping) {
		uv_timer_start(&r->timer, on_owed_timer, IDLE_MS, 0);
	}
	report_free(p);
	dispatcher_check_edits(r->d);
	dispatcher_check_stopped(r->d);
}

/*
 * Its header block, or all of it if that is wanted and small enough. False: it cannot be read;
 * the report says less.
 */
static bool
read_content(struct report *p, uint64_t most)
{
	const struct message_record *record = &p->message.record;
	uint64_t at = 0;

	while (at < most) {
		size_t before = buf_len(&p->content);
		int rc = queue_read_content(p->r->d->home->port, record, at, (size_t)(most - at),
					    true, &p->content);

		if (rc < 0 || buf_len(&p->content) == before) {
			buf_clear(&p->content);
			return false;
		}
		at += buf_len(&p->content) - before;
	}
	return true;
}

static void
add_site_text(struct report *p, struct bounce_recipient *b, uint64_t lane_id)
{
	struct lane_record lane;
	struct site_record site;
	struct queue_port *port = p->r->d->home->port;

	for (size_t i = 0; b->history != NULL && i < b->history->kept; i++)
		if (b->history->attempts[i].code != 0 || b->history->attempts[i].host.len > 0 ||
		    b->history->attempts[i].address.len > 0)
			return;			/* it has been tried itself: that is what counts */
	if (queue_read_lane(port, lane_id, &p->arena, &lane) < 0)
		return;
	b->site_text = lane.backoff.text;
	if (lane.site != 0 && queue_read_site(port, lane.site, &p->arena, &site) == 0 &&
	    site.state.last.text.len > 0) {
		b->site_text = site.state.last.text;
		b->site_host = site.state.last.host;
	}
}

static bool
wants_warning(const struct report *p, uint32_t n, const struct history_record *history)
{
	return !(history != NULL && (history->warned || history->state != HISTORY_WAITING)) &&
	       notify_wants(p->message.envelope.recipients[n].notify, NOTIFY_DELAY);
}

/*
 * Which recipients it speaks of: those whose report is owed, or (delay) those that wait and were
 * not warned.
 */
static void
choose_recipients(struct report *p)
{
	size_t total = p->message.envelope.recipient_count;

	p->recipients = arena_alloc(&p->arena, total * sizeof(*p->recipients) + 1);
	p->numbers = arena_alloc(&p->arena, total * sizeof(*p->numbers) + 1);
	for (uint32_t n = 0; n < total; n++) {
		struct history_record *history = arena_alloc(&p->arena, sizeof(*history));
		struct bounce_recipient *b = &p->recipients[p->count];

		if (!p->message.open[n])
			continue;
		if (queue_read_history(p->r->d->home->port, p->message.record.id, n, &p->arena,
				       history) < 0)
			history = NULL;
		if (p->delay ? !wants_warning(p, n, history)
			     : history == NULL || history->state != HISTORY_OWED)
			continue;
		*b = (struct bounce_recipient){ .recipient = &p->message.envelope.recipients[n],
						.history = history,
						.action = history && !p->delay ? history->action
									       : REPORT_NONE };
		add_site_text(p, b, history && history->lane ? history->lane : p->message.lanes[n]);
		p->numbers[p->count++] = n;
	}
}

static bool
build_report(struct report *p)
{
	struct dispatcher *d = p->r->d;
	struct config *config = config_of(d);
	const struct message_record *record = &p->message.record;
	const struct routes *routes = &config->access.routes;
	/* nobody sends it: a route that asks who does is not taken, unless it says "<>" */
	struct route_facts way = { .domain = address_domain_of(p->message.envelope.reverse_path) };
	const struct route *route = route_choose(routes, &way);
	uint64_t size = record->header_size + record->body_size;
	bool private = (record->flags & MESSAGE_REQUIRETLS) != 0;	/* RFC 8689 §5: as RET=HDRS */
	bool full = config->queue.return_full && !private && p->message.envelope.ret != RET_HDRS && !p->delay &&
		    size <= config->queue.bounce_size;
	struct bounce_facts facts;
	uint32_t flags;

	if (p->message.envelope.reverse_path.len == 0 || route == NULL)
		return false;
	full = read_content(p, full ? size : record->header_size) && full;
	facts = (struct bounce_facts){
		.id = queue_next_id(d->home->queue),
		.now_ms = wall_ms(),
		.hostname = config->hostname,
		.message = &p->message,
		.recipients = p->recipients,
		.count = p->count,
		.delay = p->delay,
		.gives_up_ms = record->arrival_ms + config->queue.schedule.lifetime_ms,
		.content = buf_span(&p->content),
		.full = full,
		.content_8bit = (record->flags & MESSAGE_8BIT) != 0,
	};
	flags = bounce_build(&facts, &p->header, &p->body);
	p->to.address = p->message.envelope.reverse_path;
	p->envelope = (struct envelope){ .recipients = &p->to,
					 .recipient_count = 1,
					 .smtputf8 = (flags & MESSAGE_HEADER_UTF8) != 0,
					 .body = (flags & MESSAGE_8BIT) != 0 ? BODY_8BITMIME
									     : BODY_7BIT };
	p->lane = (struct lane_name){ .domain = address_domain_of(p->to.address),
				      .pool = arena_copy(&p->arena, pool_chosen(&config->sources,
						&(struct pool_facts){ .route = route->pool })),
				      .route = route_label(routes, way.domain, route, WISH_NONE,
							   &p->arena),
				      .priority = PRIORITY_REPORT };
	p->accept = (struct queue_accept){
		.id = facts.id,
		.arrival_ms = facts.now_ms,
		.due_ms = facts.now_ms,
		.envelope = &p->envelope,
		.lanes = &p->lane,
		.header = buf_span(&p->header),
		.body = buf_span(&p->body),
		.client = SPAN("report"),
		.flags = MESSAGE_REPORT | flags | (private ? MESSAGE_REQUIRETLS : 0u),
	};
	return true;
}

/* True: there was something to report, and it is with the queue. */
static bool
make_report(struct reporter *r, uint64_t id, bool delay)
{
	struct arena arena = { 0 };
	struct report *p = arena_alloc(&arena, sizeof(*p));

	p->arena = arena;
	p->r = r;
	p->delay = delay;
	if (queue_read_message(r->d->home->port, id, &p->arena, &p->message) == 0)
		choose_recipients(p);
	if (p->count == 0 || (delay && p->message.envelope.reverse_path.len == 0)) {
		report_free(p);
		return false;
	}
	p->op = (struct queue_report){ .op.done = on_reported,
				       .id = id,
				       .recipients = p->numbers,
				       .count = p->count,
				       .delay = delay };
	if (build_report(p))
		p->op.accept = &p->accept;
	map_add(&r->making, &p->node, id);
	r->d->settling++;
	queue_submit_report(r->d->home->port, &p->op);
	return true;
}

/* ---- owed --------------------------------------------------------------------------------- */

/* More of the message may fail within the minute: then it goes into the same report. */
static bool
should_gather(struct reporter *r, const struct queue_owed *owed, int64_t now)
{
	struct parcel *parcel = window_parcel(&r->d->window, owed->id);

	if (parcel == NULL)
		return false;
	return parcel->in_flight > 0 || (now - owed->since_ms < GATHER_MS && now >= owed->since_ms);
}

static void
on_owed_timer(uv_timer_t *timer)
{
	struct reporter *r = timer->data;
	struct queue_owed page[WALK_PAGE], after = { 0 };
	int64_t now = wall_ms();
	size_t n = 0;
	bool waiting = false;

	do {
		if (r->stopping)
			return;
		if (queue_read_owed(r->d->home->port, &after, page, WALK_PAGE, &n) < 0) {
			waiting = true;			/* they are owed still */
			break;
		}
		for (size_t i = 0; i < n; i++) {
			after = page[i];
			waiting = true;
			if (r->making.count >= AT_ONCE)
				return;			/* on_reported goes on */
			if (map_find(&r->making, page[i].id) == NULL &&
			    !should_gather(r, &page[i], now))
				make_report(r, page[i].id, false);
		}
	} while (n == WALK_PAGE);
	if (waiting)
		uv_timer_start(timer, on_owed_timer, IDLE_MS, 0);
}

void
reporter_soon(struct reporter *r)
{
	if (!r->stopping &&
	    (!uv_is_active((uv_handle_t *)&r->timer) || uv_timer_get_due_in(&r->timer) > SOON_MS))
		uv_timer_start(&r->timer, on_owed_timer, SOON_MS, 0);
}

/* ---- age ---------------------------------------------------------------------------------- */

static void
on_cursors(struct queue_op *op)
{
	struct reporter *r = CONTAINER_OF(op, struct reporter, cursors.op);

	(void)op;
	r->walking = false;
	r->d->settling--;
	dispatcher_check_stopped(r->d);
}

static void
save_cursors(struct reporter *r)
{
	if (r->walking)
		return;
	r->walking = true;
	r->d->settling++;
	r->cursors = (struct queue_cursor_set){ .op.done = on_cursors, .expiry_id = r->expiry_id,
						.delay_id = r->delay_id };
	queue_submit_cursors(r->d->home->port, &r->cursors);
}

static void
on_expired(struct dispatcher_edit *edit, int result)
{
	struct reporter *r = CONTAINER_OF(edit, struct reporter, expire);

	r->expiring = false;
	if (result == 0) {
		*r->expire_cursor = r->expire_next;
		save_cursors(r);
		if (edit->changed > 0)
			log_message(LOG_INFO, "expired", "%zu recipients were given up",
				    edit->changed);
	}
	reporter_soon(r);
	dispatcher_check_stopped(r->d);
}

/* Leaves only our own reports in the ids. */
static size_t
only_reports(struct reporter *r, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		struct arena arena = { 0 };
		struct queue_message message;

		if (queue_read_message(r->d->home->port, r->expire_ids[i], &arena, &message) == 0 &&
		    (message.record.flags & MESSAGE_REPORT) != 0)
			r->expire_ids[kept++] = r->expire_ids[i];
		arena_free(&arena);
	}
	return kept;
}

/* Gives up what arrived before `before`, a page at a time, behind the cursor. */
static void
expire_before(struct reporter *r, int64_t now, int64_t before, uint64_t *cursor, bool reports)
{
	size_t n = 0;

	if (r->expiring ||
	    queue_walk_messages(r->d->home->port, *cursor, id_at(before), r->expire_ids, WALK_PAGE,
				&n) < 0 ||
	    n == 0)
		return;
	r->more = r->more || n == WALK_PAGE;
	r->expire_next = r->expire_ids[n - 1];
	if (reports)
		n = only_reports(r, n);
	if (n == 0) {
		*cursor = r->expire_next;
		return;
	}
	r->expiring = true;
	r->expire_cursor = cursor;
	r->expired = (struct attempt){ .at_ms = now, .status = { 4, 4, 7 },
				       .text = SPAN("the message could not be delivered in time") };
	r->expire = (struct dispatcher_edit){ .done = on_expired };
	r->expire.edit = (struct queue_edit){ .kind = EDIT_FAIL,
					      .ids = r->expire_ids,
					      .count = n,
					      .only_recipient = UINT32_MAX,
					      .attempt = &r->expired };
	dispatcher_submit_edit(r->d, &r->expire);
}

static void
expire_some(struct reporter *r, int64_t now)
{
	const struct schedule_config *schedule = &config_of(r->d)->queue.schedule;
	int64_t grace = schedule->probe_max_ms;

	if (grace > schedule->lifetime_ms / 4)
		grace = schedule->lifetime_ms / 4;
	if (mono_ms() - r->d->calm_since_ms < grace)
		return;
	expire_before(r, now, now - schedule->lifetime_ms, &r->expiry_id, false);
	if (schedule->report_lifetime_ms < schedule->lifetime_ms)
		expire_before(r, now, now - schedule->report_lifetime_ms, &r->report_id, true);
}

static void
warn_some(struct reporter *r, int64_t now)
{
	int64_t delay = config_of(r->d)->queue.schedule.delay_warning_ms;
	uint64_t ids[WALK_PAGE], before = r->delay_id;
	size_t n = 0;

	if (delay == 0 || queue_walk_messages(r->d->home->port, r->delay_id, id_at(now - delay),
					      ids, WALK_PAGE, &n) < 0)
		return;
	r->more = r->more || n == WALK_PAGE;
	for (size_t i = 0; i < n; i++) {
		struct parcel *parcel = window_parcel(&r->d->window, ids[i]);

		r->more = r->more || r->making.count >= AT_ONCE;
		if (r->making.count >= AT_ONCE || (parcel != NULL && parcel->in_flight > 0))
			break;				/* from here the next time */
		if (map_find(&r->making, ids[i]) == NULL)
			make_report(r, ids[i], true);
		r->delay_id = ids[i];
	}
	if (r->delay_id != before)
		save_cursors(r);
}

static int64_t
walk_every(const struct reporter *r)
{
	int64_t every = config_of(r->d)->queue.schedule.lifetime_ms / 50;

	return every < 200 ? 200 : every > 30000 ? 30000 : every;
}

static void
on_walk(uv_timer_t *timer)
{
	struct reporter *r = timer->data;
	int64_t now = wall_ms();

	r->more = false;
	if (!r->stopping && r->d->stalled == 0) {
		expire_some(r, now);
		warn_some(r, now);
	}
	uv_timer_start(timer, on_walk, r->more || r->expiring ? MORE_MS : (uint64_t)walk_every(r),
		       0);
}

/* ---- life --------------------------------------------------------------------------------- */

struct reporter *
reporter_start(struct dispatcher *d)
{
	struct reporter *r = xcalloc(1, sizeof(*r));

	r->d = d;
	r->expire_ids = xcalloc(WALK_PAGE, sizeof(*r->expire_ids));
	uv_timer_init(&d->home->loop, &r->timer);
	uv_timer_init(&d->home->loop, &r->walker);
	r->timer.data = r->walker.data = r;
	if (queue_read_cursors(d->home->port, &r->expiry_id, &r->delay_id) < 0)
		r->expiry_id = r->delay_id = 0;
	uv_timer_start(&r->timer, on_owed_timer, SOON_MS, 0);
	uv_timer_start(&r->walker, on_walk, (uint64_t)walk_every(r), 0);
	return r;
}

bool
reporter_busy(const struct reporter *r)
{
	return r->making.count > 0 || r->expiring;
}

void
reporter_stop(struct reporter *r)
{
	r->stopping = true;
	uv_timer_stop(&r->timer);
	uv_timer_stop(&r->walker);
}

void
reporter_close(struct reporter *r)
{
	uv_close((uv_handle_t *)&r->timer, NULL);
	uv_close((uv_handle_t *)&r->walker, NULL);
}

void
reporter_free(struct reporter *r)
{
	map_free(&r->making);
	free(r->expire_ids);
	free(r);
}
