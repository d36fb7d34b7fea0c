/*
 * reporter: reports that are owed, expiry, delay warnings. Home loop only.
 *
 * A recipient that failed for good is settled as *report owed*; the report is made when no
 * recipient of that message is in flight, at most a minute later, so that one message and moment
 * makes one report; one transaction queues it and ends those recipients. Expiry and warnings are in
 * reporter_age.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/base/log.h"
#include "mta/bounce/bounce.h"
#include "mta/outbound/reporter_private.h"

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

/*
 * Who keeps it on hold knows that it waits; but who has asked to be told by a time (RFC 2852) does
 * not.
 */
static bool
may_be_warned_of(const struct message_record *m, const struct history_record *history)
{
	bool late = m->by_mode == BY_NOTIFY && m->by_ms <= wall_ms();

	return !history->warned &&
	       (history->state == HISTORY_WAITING || (late && history->state == HISTORY_HELD));
}

static bool
wants_warning(const struct report *p, uint32_t n, const struct history_record *history)
{
	return (history == NULL || may_be_warned_of(&p->message.record, history)) &&
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
	/* RFC 8689 §5: as RET=HDRS */
	bool private = (record->flags & MESSAGE_REQUIRETLS) != 0;
	bool full = config->queue.return_full && !private && p->message.envelope.ret != RET_HDRS &&
		    !p->delay && size <= config->queue.bounce_size;
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
		.gives_up_ms = ((record->flags & MESSAGE_RELEASED) != 0 ? record->due_ms
									: record->arrival_ms) +
			       config->queue.schedule.lifetime_ms,
		.content = buf_span(&p->content),
		.full = full,
		.content_8bit = (record->flags & MESSAGE_8BIT) != 0,
	};
	flags = bounce_build(&facts, &p->header, &p->body);
	p->to.address = p->message.envelope.reverse_path;
	p->envelope = (struct envelope){ .recipients = &p->to,
					 .recipient_count = 1,
					 /* RFC 6710 §4.6 */
					 .priority = p->message.envelope.priority,
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

bool
reporter_make(struct reporter *r, uint64_t id, bool delay)
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
				reporter_make(r, page[i].id, false);
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
	reporter_begin_walk(r);
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
