/*
 * settlement: the outcomes of a job → the queue. Home loop only.
 *
 * An entry stays in flight until its settlement is committed; one that could not be (no disk) is
 * kept here and handed in again, and no delivery begins meanwhile, for its result could not be
 * kept either.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/dispatcher_private.h"
#include "mta/delivery/outcome.h"
#include "mta/reactor/returns.h"
#include "mta/reactor/suppressed.h"

enum { AGAIN_MS = 1000 };

struct settling {			/* in the job's arena */
	struct queue_settle settle;
	struct dispatcher *owner;
	struct job *job;
	struct settle_recipient *recipients;
	struct entry **entries;
	struct ending { const struct job_recipient *recipient; const char *outcome;
	} *endings;
	size_t count, ending_count;
	bool owed, stalled;
	uv_timer_t *again;
};

/* ---- from a fate to what the queue is told ------------------------------------------------ */

static void
attempt_peer(struct attempt *a, const struct job *job, const struct job_recipient *r)
{
	bool before =
		r->settled || (r->moves && r->outcome.reply.text.at == r->before.reply.text.at);

	a->host = before ? r->host : job->host;
	a->address = before ? r->address : job->address;
	a->tls = job->tls;
	if (job->tls.len > 0)
		a->tls_policy = span_str(job->tls_policy);
	a->tls_resumed = job->tls.len > 0 && job->tls_resumed;
	a->source = job->source;
}

static struct attempt *
attempt_of(struct job *job, const struct job_recipient *r)
{
	struct attempt *a = arena_alloc(&job->arena, sizeof(*a));
	struct buf line = { 0 };
	struct reply bare = r->outcome.reply;

	bare.code = 0;
	bare.status = (struct status){ 0 };
	reply_to_line(&bare, &line);
	a->at_ms = wall_ms();
	if (!r->suppressed)
		attempt_peer(a, job, r);
	a->stage = (uint8_t)r->outcome.stage;
	a->code = r->outcome.reply.code;
	a->status = r->outcome.reply.status;
	a->text = arena_copy(&job->arena, span_first(buf_span(&line), 1000));
	buf_free(&line);
	return a;
}

static uint32_t
attempts_so_far(struct dispatcher *d, struct job *job, uint32_t recipient)
{
	struct history_record history = { 0 };

	if (queue_read_history(d->home->port, job->id, recipient, &job->arena, &history) < 0)
		return 0;
	return history.attempt_count;
}

static void
log_final(const struct job *job, const struct job_recipient *r, const char *outcome)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, "final"))
		return;
	log_id(&l, "id", job->id);
	if (r->recipient < job->message.envelope.recipient_count)
		log_span(&l, "to", job->message.envelope.recipients[r->recipient].address);
	log_str(&l, "outcome", outcome);
	log_reply(&l, "reply", &r->outcome.reply);
	if (r->classified)
		log_str(&l, "class", reply_class_name(r->class));
	log_end(&l);
}

/* It is logged once it is on disk: what the log calls final stays so. */
static void
ends(struct settling *g, const struct job_recipient *r, const char *outcome)
{
	g->endings[g->ending_count++] = (struct ending){ r, outcome };
}

void
settlement_returned(void *dispatcher, uint64_t site, enum reply_class class)
{
	struct dispatcher *d = dispatcher;
	struct site *found = window_site(&d->window, site);

	if (found != NULL)
		found->classes[class]++;
}

/* Who sent it, for when it comes back: the message leaves the queue. */
static void
keep_in_mind(struct dispatcher *d, const struct job *job, const struct job_recipient *r)
{
	const struct lane *lane = ((const struct entry *)r->entry)->lane;
	const struct envelope *e = &job->message.envelope;

	if (e->reverse_path.len == 0 ||
	    (job->verp.len == 0 && config_of(d)->bounces.address_count == 0))
		return;
	returns_keep(d->home->returns,
		     &(struct delivered){ job->id, r->recipient, e->reverse_path,
					  e->recipients[r->recipient].address,
					  lane->tenant_name, lane->site->id });
}

/*
 * Where it went on to a host that sends no reports itself; or (RFC 2852) that knows of no time, or
 * was to be traced.
 */
static bool
relayed_is_told(const struct job *job, uint8_t notify)
{
	const struct envelope *e = &job->message.envelope;

	if (e->by_mode != BY_NONE && (notify & NOTIFY_NEVER) == 0 &&
	    (!job->by_passed || e->by_trace))
		return true;
	return !job->dsn_passed && notify_wants(notify, NOTIFY_SUCCESS);
}

static void
settle_delivered(struct dispatcher *d, struct settling *g, const struct job_recipient *r,
		 struct settle_recipient *s)
{
	struct job *job = g->job;
	const struct recipient *to = &job->message.envelope.recipients[r->recipient];
	bool null_sender = job->message.envelope.reverse_path.len == 0;

	d->delivered++;
	s->kind = SETTLE_DELIVERED;
	keep_in_mind(d, job, r);
	ends(g, r, "delivered");
	if (null_sender || !relayed_is_told(job, to->notify))
		return;
	s->kind = SETTLE_OWED;
	s->action = REPORT_RELAYED;
	s->attempt = attempt_of(job, r);
}

/* Its class says that it will not be better next time. */
static void
suppress(struct dispatcher *d, const struct job *job, const struct job_recipient *r)
{
	int64_t ms = config_of(d)->suppress_ms[r->class], now = wall_ms();
	struct span address = job->message.envelope.recipients[r->recipient].address;
	struct suppression entry = { r->class, now, now + ms, { 0 } };
	struct buf line = { 0 };
	struct log_line l;

	if (!r->classified || r->suppressed || ms == 0)
		return;
	reply_to_line(&r->outcome.reply, &line);
	entry.reason = buf_span(&line);
	suppressed_add(d->home->suppressed, address, &entry);
	buf_free(&line);
	if (!log_begin(&l, LOG_INFO, "suppressed"))
		return;
	log_id(&l, "id", job->id);
	log_span(&l, "to", address);
	log_str(&l, "class", reply_class_name(r->class));
	log_i64(&l, "for", ms / 1000);
	log_end(&l);
}

static void
settle_permanent(struct dispatcher *d, struct settling *g, const struct job_recipient *r,
		 struct settle_recipient *s)
{
	struct job *job = g->job;
	const struct recipient *to = &job->message.envelope.recipients[r->recipient];

	d->failed++;
	suppress(d, job, r);
	s->kind = SETTLE_OWED;
	s->action = REPORT_FAILED;
	if (job->message.envelope.reverse_path.len == 0) {
		s->kind = SETTLE_ENDED;		/* invariant 5: nobody to tell */
		ends(g, r, "failed-no-report");
	} else if (!notify_wants(to->notify, NOTIFY_FAILURE)) {
		s->kind = SETTLE_ENDED;
		ends(g, r, "failed-unwanted-report");
	} else {
		s->attempt = attempt_of(job, r);
		ends(g, r, "failed");
	}
}

static void
settle_temporary(struct dispatcher *d, struct job *job, const struct job_recipient *r,
		 struct settle_recipient *s)
{
	uint32_t attempts = attempts_so_far(d, job, r->recipient) + 1;

	d->deferred++;
	s->kind = SETTLE_RETRY;
	s->attempt = attempt_of(job, r);
	s->uncertain = r->outcome.fate == FATE_UNCERTAIN;
	d->uncertain += s->uncertain;
	s->due_ms = schedule_retry(&config_of(d)->queue.schedule, attempts, wall_ms(), chance());
}

static enum traffic_end
end_of(const struct job_recipient *r)
{
	return r->outcome.fate == FATE_DELIVERED ? TRAFFIC_DELIVERED :
	       r->outcome.fate == FATE_PERMANENT ? TRAFFIC_FAILED :
						   TRAFFIC_DEFERRED;
}

static void
settle_recipient(struct dispatcher *d, struct settling *g, struct job_recipient *r)
{
	struct settle_recipient *s = &g->recipients[g->count];
	struct entry *entry = r->entry;

	*s = (struct settle_recipient){ .recipient = r->recipient,
					.lane = r->lane,
					.old_due_ms = r->due_ms };
	g->entries[g->count++] = entry;
	outcome_classify(config_of(d), g->job, r);
	if (r->classified && !r->suppressed) {
		d->classes[r->class]++;
		entry->lane->site->classes[r->class]++;
	}
	top_count(entry->lane, end_of(r));
	if (r->outcome.fate == FATE_DELIVERED)
		settle_delivered(d, g, r, s);
	else if (r->outcome.fate == FATE_PERMANENT)
		settle_permanent(d, g, r, s);
	else
		settle_temporary(d, g->job, r, s);
	g->owed = g->owed || s->kind == SETTLE_OWED;
}

/* ---- committed ---------------------------------------------------------------------------- */

static void
on_again_closed(uv_handle_t *handle)
{
	free(handle);
}

static void
on_again(uv_timer_t *timer)
{
	struct settling *g = timer->data;

	uv_close((uv_handle_t *)timer, on_again_closed);
	queue_submit_settle(g->owner->home->port, &g->settle);
}

static void
settle_again(struct settling *g)
{
	uv_timer_t *timer = xcalloc(1, sizeof(*timer));

	if (!g->stalled) {
		g->stalled = true;
		if (g->owner->stalled++ == 0)
			log_message(LOG_ERROR, "stalled",
				    "the queue's disk is full: deliveries wait until results can "
				    "be kept");
	}
	timer->data = g;
	uv_timer_init(&g->owner->home->loop, timer);
	uv_timer_start(timer, on_again, AGAIN_MS, 0);
}

static void
entry_settled(struct dispatcher *d, struct entry *entry, const struct settle_recipient *s)
{
	if (s->kind == SETTLE_RETRY || s->kind == SETTLE_AGAIN)
		lane_missed(entry->lane, entry->parcel->node.key, entry->recipient, s->due_ms);
	window_drop_entry(&d->window, entry);
}

/* By id: a lane that settles down may take others of its site out of memory with it. */
static void
lanes_settle_down(struct settling *g)
{
	for (size_t i = 0; i < g->count; i++) {
		struct lane *lane = window_lane(&g->owner->window, g->recipients[i].lane);

		if (lane != NULL && (i == 0 || g->recipients[i - 1].lane != g->recipients[i].lane))
			lane_settle_down(lane);
	}
}

static void
on_settled(struct queue_op *op)
{
	struct settling *g = CONTAINER_OF(op, struct settling, settle.op);
	struct dispatcher *d = g->owner;

	if (op->result == -ENOSPC && !d->giving_up) {
		settle_again(g);
		return;
	}
	for (size_t i = 0; i < g->ending_count && op->result == 0; i++)
		log_final(g->job, g->endings[i].recipient, g->endings[i].outcome);
	if (op->result < 0)
		log_message(LOG_ERROR, "settle",
			    "a result could not be kept (%s): the message will be sent again",
			    strerror(-op->result));
	if (g->stalled && --d->stalled == 0) {
		log_message(LOG_WARNING, "stalled", "results are kept again: deliveries go on");
		dispatcher_touch_all(d);
	}
	for (size_t i = 0; i < g->count; i++)
		entry_settled(d, g->entries[i], &g->recipients[i]);
	lanes_settle_down(g);
	if (g->owed)
		reporter_soon(d->reporter);
	d->flying--;
	job_free(g->job);
	dispatcher_check_edits(d);
	dispatcher_touch(d);
	dispatcher_check_stopped(d);
}

static struct settling *
settling_new(struct dispatcher *d, struct job *job)
{
	struct settling *g = arena_alloc(&job->arena, sizeof(*g));

	g->owner = d;
	g->job = job;
	g->recipients = arena_alloc(&job->arena, job->count * sizeof(*g->recipients) + 1);
	g->entries = arena_alloc(&job->arena, job->count * sizeof(*g->entries) + 1);
	g->endings = arena_alloc(&job->arena, job->count * sizeof(*g->endings) + 1);
	return g;
}

/*
 * Even with nothing to settle the queue is told that the message is not with a delivery any
 * more.
 */
static void
settling_submit(struct settling *g)
{
	struct dispatcher *d = g->owner;

	if (g->count == 0 && g->job->delivery == NULL) {
		d->flying--;
		job_free(g->job);
		dispatcher_check_edits(d);
		dispatcher_touch(d);
		dispatcher_check_stopped(d);
		return;
	}
	g->settle.op.done = on_settled;
	g->settle.id = g->job->id;
	g->settle.recipients = g->recipients;
	g->settle.count = g->count;
	queue_submit_settle(d->home->port, &g->settle);
}

/*
 * Not charged: ready again, in front; or, if its site backs off now, out of memory (the queue
 * has it).
 */
static void
land(struct dispatcher *d, struct entry *entry)
{
	struct lane *lane = entry->lane;

	entry_land(entry, true);
	if (lane->site->mode != SITE_BACKOFF && !entry->parcel->locked && !lane->stale)
		return;
	lane->passed_over = lane->passed_over || entry->parcel->locked;
	lane_missed(lane, entry->parcel->node.key, entry->recipient, entry->due_ms);
	window_drop_entry(&d->window, entry);
	lane_settle_down(lane);
}

static void
drop_missing(struct dispatcher *d, struct entry *entry)
{
	struct lane *lane = entry->lane;

	window_drop_entry(&d->window, entry);
	lane_settle_down(lane);
}

void
settle_job(struct dispatcher *d, struct job *job)
{
	struct settling *g = settling_new(d, job);
	struct reply damaged = REPLY(451, 4, 3, 0, "the message cannot be read from the queue");

	if (job->damaged)
		log_message(LOG_ERROR, "damaged",
			    "a message cannot be read from the queue: run tramctl queue check");
	for (size_t i = 0; i < job->count; i++) {
		struct job_recipient *r = &job->recipients[i];

		if (job->damaged && r->outcome.fate == FATE_PENDING)
			r->outcome = (struct smtp_client_recipient){ .fate = FATE_TEMPORARY,
								     .reply = damaged };
		if (job->missing || r->skipped)
			drop_missing(d, r->entry);
		else if (r->outcome.fate == FATE_PENDING || r->outcome.fate == FATE_NOT_TRIED ||
			 (!job->tried && r->outcome.reply.code == 0))
			land(d, r->entry);
		else
			settle_recipient(d, g, r);
	}
	settling_submit(g);
}

void
settle_without_delivery(struct dispatcher *d, struct job *job, const struct reply *reply,
			bool discard)
{
	struct settling *g = settling_new(d, job);

	if (queue_read_message(d->home->port, job->id, &job->arena, &job->message) < 0)
		job->missing = true;
	for (size_t i = 0; i < job->count; i++) {
		struct job_recipient *r = &job->recipients[i];

		if (job->missing || r->recipient >= job->message.envelope.recipient_count) {
			drop_missing(d, r->entry);
			continue;
		}
		r->outcome.reply = *reply;
		r->outcome.reply.text = arena_copy(&job->arena, reply->text);
		r->outcome.fate = FATE_PERMANENT;
		if (!discard) {
			settle_recipient(d, g, r);
			continue;
		}
		ends(g, r, "discarded");
		d->discarded++;
		g->entries[g->count] = r->entry;
		g->recipients[g->count++] = (struct settle_recipient){ .recipient = r->recipient,
								       .kind = SETTLE_ENDED,
								       .lane = r->lane,
								       .old_due_ms = r->due_ms };
	}
	/*
	 * as if it had been with one: the settle takes it back, and not what another job has taken
	 */
	if (g->count > 0)
		queue_taken(d->home->port, &job->id, 1);
	settling_submit(g);
}
