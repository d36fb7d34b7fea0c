/*
 * delivery: see delivery.h; its life, and what comes back from it. In time order:
 *
 *	delivery_start (here) → next_host [→ on_relay_mx] → on_addresses → next_address →
 *	on_connected (delivery_connect.c) [→ start_tls → on_secured (delivery_tls.c)]
 *	→ on_read → pump: READY → begin_job, BODY → send_body, DONE → job_return, CLOSED
 *	(delivery_dialogue.c) → finish → ended (here)
 *
 * One exit: delivery_finish(). Everything runs on the delivery's reactor, but for the calls of
 * the dispatcher below.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/delivery/delivery_private.h"
#include "mta/delivery/outcome.h"

/* ---- jobs back to the dispatcher ---------------------------------------------------------- */

static void
on_job_home(struct letter *letter)
{
	struct job *job = CONTAINER_OF(letter, struct job, letter);

	job->returned(job);
}

/* No further host has taken what moved: the reply of the one that sent it on counts. */
static void
take_back_moves(struct job *job)
{
	for (size_t i = 0; i < job->count; i++) {
		struct job_recipient *r = &job->recipients[i];

		if (r->moves &&
		    (r->outcome.fate == FATE_PENDING || r->outcome.fate == FATE_NOT_TRIED))
			r->outcome = r->before;
	}
	job->tried = true;
}

void
delivery_job_home(struct delivery *d, struct job *job)
{
	if (job->moved)
		take_back_moves(job);
	if (job->tried) {
		job->failures = d->failures;
		d->failures = NULL;
	}
	job->letter.open = on_job_home;
	post_send(d->reactor->post, d->reactor->home, &job->letter);
}

static const char *
fate_name(enum smtp_fate fate)
{
	static const char *const names[] = { "pending", "delivered", "deferred",
					     "failed",	"again",     "uncertain" };

	return names[fate];
}

static void
log_outcome(const struct job *job, const struct job_recipient *r)
{
	struct log_line l;

	if (!log_begin(&l, r->outcome.fate == FATE_NOT_TRIED ? LOG_DEBUG : LOG_INFO, "delivery"))
		return;
	log_id(&l, "id", job->id);
	log_span(&l, "to", job->message.envelope.recipients[r->recipient].address);
	log_str(&l, "fate", fate_name(r->outcome.fate));
	if (job->verp.len > 0)
		log_span(&l, "verp", job->verp);
	log_span(&l, "host", job->host);
	log_span(&l, "address", job->address);
	if (job->source.len > 0)
		log_span(&l, "source", job->source);
	if (job->tls.len > 0) {
		log_span(&l, "tls", job->tls);
		log_str(&l, "tls_policy", job->tls_policy);
		if (job->tls_resumed)
			log_str(&l, "tls_resumed", "yes");
	}
	log_reply(&l, "reply", &r->outcome.reply);
	if (r->classified)
		log_str(&l, "class", reply_class_name(r->class));
	if (r->rule != NULL)
		log_span(&l, "rule", r->rule->name);
	log_i64(&l, "ms", mono_ms() - job->began_ms);
	log_i64(&l, "age", (wall_ms() - job->message.record.arrival_ms) / 1000);
	log_end(&l);
}

void
delivery_judge(struct delivery *d, struct job *job, struct job_recipient *r,
	       const struct smtp_client_recipient *outcome)
{
	r->outcome = *outcome;
	r->classified = false;
	outcome_classify(d->config, job, r);
	outcome_respond(d->config, d, job, r);
	log_outcome(job, r);
}

void
delivery_job_judged(struct delivery *d, struct job *job)
{
	job->dsn_passed = job->dsn_passed || job->transaction.dsn_passed;
	job->by_passed = job->by_passed || job->transaction.by_passed;
	if (job->asked_ms > 0)
		job->latency_ms += mono_ms() - job->asked_ms;
	else
		job->latency_ms = mono_ms() - job->began_ms;
	d->jobs_done++;
	delivery_job_home(d, job);
}

void
delivery_job_return(struct delivery *d, struct job *job)
{
	size_t n = 0;

	job->tried = job->transaction.started;
	for (size_t i = 0; i < job->count; i++) {
		struct job_recipient *r = &job->recipients[i];

		if (r->skipped || r->suppressed || r->settled)
			continue;
		if (job->tried)
			delivery_judge(d, job, r, &job->transaction.recipients[n++]);
		else
			r->outcome = job->transaction.recipients[n++];
	}
	delivery_job_judged(d, job);
}

/*
 * The hosts that could be reached cannot take it, and others could not be reached: it waits, and
 * the site is not to blame.
 */
static void
put_misfit_off(struct delivery *d)
{
	struct job *job = d->misfit;
	static const struct reply later = REPLY_INIT(
		451, 4, 6, 3, "a host cannot take this message, and no other could be reached");

	for (size_t i = 0; i < job->count; i++)
		job->recipients[i].outcome = (struct smtp_client_recipient){
			.fate = FATE_TEMPORARY, .stage = STAGE_EHLO, .reply = later
		};
	d->was_ready = true;
}

/* Given but not begun: back as it came. */
static void
jobs_untried(struct delivery *d)
{
	if (d->misfit != NULL && !d->misfit->moved && !d->quitting)
		put_misfit_off(d);
	while (d->todo.first != NULL) {
		struct job *job = CONTAINER_OF(d->todo.first, struct job, letter);

		d->was_ready = d->was_ready || job->moved;	/* by a host of the site */
		d->todo.first = job->letter.next;
		delivery_job_home(d, job);
	}
	d->todo.last = &d->todo.first;
}

/* ---- the end ------------------------------------------------------------------------------ */

static void
on_ended_home(struct letter *letter)
{
	struct delivery *d = CONTAINER_OF(letter, struct delivery, letter);

	d->ended(d);
}

void
delivery_finish(struct delivery *d)
{
	if (d->finished)
		return;
	lookup_cancel(d->lookup);
	d->lookup = NULL;
	facts_fetch_cancel(d->fetch);
	d->fetch = NULL;
	if (d->stream_open) {
		stream_close(&d->stream, false);	/* on_stream_closed comes back here */
		return;
	}
	if (d->cold_reads > 0)
		return;					/* so does on_cold_read */
	d->finished = true;
	assert(d->current == NULL && d->waiting == NULL);
	jobs_untried(d);
	if (d->client_open)
		smtp_client_free(&d->client);
	d->client_open = false;
	d->letter.open = on_ended_home;
	post_send(d->reactor->post, d->reactor->home, &d->letter);
}

void
delivery_note_failure(struct delivery *d, enum smtp_stage stage, struct reply reply)
{
	d->failure_stage = stage;
	d->failure = reply;
	d->failure.text = arena_copy(&d->arena, span_first(reply.text, 500));
	d->failure_host = d->host_name;
}

/* As it was told: what the failure of the delivery as a whole becomes is another matter. */
void
delivery_host_failed(struct delivery *d, enum smtp_stage stage, struct reply reply)
{
	struct host_failure *f = arena_alloc(&d->arena, sizeof(*f));

	delivery_note_failure(d, stage, reply);
	*f = (struct host_failure){ .next = d->failures, .stage = stage, .reply = d->failure,
				    .host = arena_copy(&d->arena, d->host_name) };
	d->failures = f;
}

void
delivery_tell(struct delivery *d, enum delivery_event event)
{
	if (d->watch != NULL)
		d->watch->saw(d->watch, d, event);
}

int64_t
delivery_wait_ms(const struct delivery *d, int64_t ms)
{
	return d->watch != NULL && ms > DELIVERY_WATCH_MS ? DELIVERY_WATCH_MS : ms;
}

void
delivery_log_trouble(struct delivery *d, const char *event)
{
	struct log_line l;

	if (d->watch != NULL) {
		delivery_tell(d, WATCH_FAILED);
		return;
	}
	if (!log_begin(&l, LOG_INFO, event))
		return;
	log_span(&l, "site", d->site_key);
	log_span(&l, "host", d->host_name);
	if (d->address > 0)
		log_addr(&l, "address", &d->addresses[d->address - 1]);
	if (d->source != NULL)
		log_span(&l, "source", d->source->name);
	log_reply(&l, "reply", &d->failure);
	log_str(&l, "class",
		reply_class_name(outcome_class(d->config, d->failure_stage, &d->failure,
					       d->host_name)));
	log_end(&l);
}

/* ---- what the dispatcher calls ------------------------------------------------------------ */

static bool
is_listed(const struct site_tls *tls, struct span host)
{
	for (size_t i = 0; i < tls->unlisted_count; i++)
		if (span_eq(tls->unlisted[i], host))
			return false;
	return true;
}

/* The part of the policy that matters here: its mode, and those of the hosts that it lists. */
static const struct sts_policy *
sts_of_site(struct delivery *d)
{
	struct sts_policy *policy = arena_alloc(&d->arena, sizeof(*policy));

	if (d->to.tls.sts == STS_MODE_NONE)
		return NULL;
	policy->mode = d->to.tls.sts;
	policy->mx = arena_alloc(&d->arena, (d->to.host_count + 1) * sizeof(*policy->mx));
	for (size_t i = 0; i < d->to.host_count; i++)
		if (is_listed(&d->to.tls, d->to.hosts[i].name))
			policy->mx[policy->mx_count++] = d->to.hosts[i].name;
	return policy;
}

struct delivery *
delivery_new(struct reactor *reactor, struct config *config, const struct route *route,
	     const struct destination *to,
	     struct span site_key, void (*ended)(struct delivery *delivery), void *owner)
{
	struct delivery *d = xcalloc(1, sizeof(*d));

	d->reactor = reactor;
	d->config = config;
	d->route = route != NULL && site_key_fits(site_key, route) ? route : NULL;
	d->ended = ended;
	d->owner = owner;
	d->site_key = arena_copy(&d->arena, site_key);
	d->to = *to;
	d->to.hosts = arena_alloc(&d->arena, to->host_count * sizeof(*to->hosts) + 1);
	for (size_t i = 0; i < to->host_count; i++) {
		d->to.hosts[i] = to->hosts[i];
		d->to.hosts[i].name = arena_copy(&d->arena, to->hosts[i].name);
	}
	d->to.relays = arena_alloc(&d->arena, to->relay_count * sizeof(*to->relays) + 1);
	for (size_t i = 0; i < to->relay_count; i++) {
		d->to.relays[i] = to->relays[i];
		d->to.relays[i].name = arena_copy(&d->arena, to->relays[i].name);
		d->to.relays[i].text = arena_copy(&d->arena, to->relays[i].text);
	}
	if (to->relay_count > 0) {			/* next_relay() begins with the first */
		d->to.host_count = 0;
		d->to.next_hop = SPAN("");
	}
	d->to.tls.names = arena_alloc(&d->arena, to->tls.name_count * sizeof(*to->tls.names) + 1);
	for (size_t i = 0; i < to->tls.name_count; i++)
		d->to.tls.names[i] = arena_copy(&d->arena, to->tls.names[i]);
	d->sts = sts_of_site(d);
	d->to.tls.unlisted_count = 0;			/* not copied */
	d->todo.last = &d->todo.first;
	return d;
}

static void
on_start(struct letter *letter)
{
	struct delivery *d = CONTAINER_OF(letter, struct delivery, letter);

	list_add_last(&d->reactor->deliveries, &d->node);
	d->reactor->delivery_count++;
	reactor_config_use(d->reactor, d->config);
	delivery_shuffle(d);
	delivery_next_host(d);
}

void
delivery_start(struct delivery *d, struct post *home)
{
	d->letter.open = on_start;
	post_send(home, d->reactor->post, &d->letter);
}

static void
on_job(struct letter *letter)
{
	struct job *job = CONTAINER_OF(letter, struct job, letter);
	struct delivery *d = job->delivery;
	struct span none = { 0 };

	delivery_report_arrived(d, job);
	if (d->finished) {
		delivery_job_home(d, job);
		return;
	}
	letter->next = NULL;
	*d->todo.last = letter;
	d->todo.last = &letter->next;
	if (d->client_open && d->was_ready && !d->stream.closing && d->current == NULL &&
	    !d->quitting) {
		if (d->waiting == NULL || smtp_client_can_queue(&d->client)) {
			delivery_begin_job(d);
			delivery_pump(d, &none);
		}
	}
}

void
delivery_give(struct delivery *d, struct post *home, struct job *job)
{
	job->delivery = d;
	job->letter.open = on_job;
	post_send(home, d->reactor->post, &job->letter);
}

static void
on_quit(struct letter *letter)
{
	struct delivery *d = CONTAINER_OF(letter, struct delivery, quit_order);
	struct span none = { 0 };

	d->quitting = true;
	if (d->finished || (d->stream_open && d->stream.closing))
		return;
	if (!d->was_ready) {
		delivery_finish(d);		/* nothing has been said yet: no leave to take */
	} else if (d->current == NULL && d->waiting == NULL && d->todo.first == NULL) {
		smtp_client_quit(&d->client);
		delivery_pump(d, &none);
	}
}

void
delivery_quit(struct delivery *d, struct post *home)
{
	d->quit_order.open = on_quit;
	post_send(home, d->reactor->post, &d->quit_order);
}

static void
on_abort(struct letter *letter)
{
	struct delivery *d = CONTAINER_OF(letter, struct delivery, abort_order);

	d->quitting = true;			/* if it is between two hosts it goes no further */
	if (d->finished || (d->stream_open && d->stream.closing))
		return;
	if (d->client_open && d->stream_open)
		delivery_lose(d, SPAN("the server is stopping"));
	else
		delivery_finish(d);
}

void
delivery_abort(struct delivery *d, struct post *home)
{
	d->abort_order.open = on_abort;
	post_send(home, d->reactor->post, &d->abort_order);
}

static void
on_release(struct letter *letter)
{
	struct delivery *d = CONTAINER_OF(letter, struct delivery, letter);

	list_remove(&d->node);
	d->reactor->delivery_count--;
	reactor_config_release(d->reactor, d->config);
	arena_free(&d->arena);
	free(d);
}

void
delivery_release(struct delivery *d, struct post *home)
{
	d->letter.open = on_release;
	post_send(home, d->reactor->post, &d->letter);
}

const char *
delivery_waiting_for(const struct delivery *d)
{
	if (d->lookup != NULL)
		return "address lookup";
	if (d->fetch != NULL)
		return "TLSA lookup";
	if (d->client_open)
		return smtp_client_waiting_for(&d->client);
	return d->stream_open ? "connect" : "start";
}

static void
find_among(const struct delivery *d, const struct job *job, struct delivery_flight *ret)
{
	ret->before = d->waiting != NULL ? 1 : 0;
	ret->before += d->current != NULL ? 1 : 0;
	for (struct letter *l = d->todo.first; l != NULL && !ret->there; l = l->next) {
		ret->there = CONTAINER_OF(l, struct job, letter) == job;
		ret->before += ret->there ? 0 : 1;
	}
}

void
delivery_find_flight(const struct delivery *d, const struct job *job, struct delivery_flight *ret)
{
	*ret = (struct delivery_flight){ .waits_for = delivery_waiting_for(d) };
	if (d->finished)
		return;
	ret->there = job == d->waiting || job == d->current;
	if (ret->there) {
		ret->before = job == d->current && d->waiting != NULL ? 1 : 0;
		ret->began_ms = job->began_ms;
	} else {
		find_among(d, job, ret);
	}
	snprintf(ret->host, sizeof(ret->host), "%.*s", SPAN_FMT(d->host_name));
	if (d->address > 0 && d->address <= d->address_count)
		netaddr_format_port(&d->addresses[d->address - 1], ret->address);
}
