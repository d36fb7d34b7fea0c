/*
 * delivery_dialogue: jobs, bodies and the SMTP dialogue of a delivery; delivery.c has the
 * overview. Its reactor only.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/delivery/delivery_private.h"
#include "mta/reactor/returns.h"
#include "mta/reactor/suppressed.h"

enum { BODY_PIECE = 65520, OUT_HIGH = 262144 };

/* ---- jobs and bodies ---------------------------------------------------------------------- */

/* It may have come to the list since its message was accepted. */
static bool
suppress(struct delivery *d, struct job *job, struct job_recipient *r)
{
	struct span address = job->message.envelope.recipients[r->recipient].address;
	struct suppression found;

	if (!suppressed_find(d->reactor->suppressed, d->reactor->port, address, &job->arena,
			     &found))
		return false;
	r->outcome = (struct smtp_client_recipient){ .fate = FATE_PERMANENT, .stage = STAGE_CONNECT,
						     .reply = suppressed_reply(&found,
									       &job->arena) };
	r->class = found.class;
	r->classified = true;
	return true;
}

/*
 * A sender of its own, that tells which delivery it was. Whoever puts jobs together knows that it
 * must go alone; but a reload may come between the two.
 */
static const struct envelope *
write_sender(struct delivery *d, struct job *job)
{
	const struct envelope *e = &job->message.envelope;
	const struct job_recipient *r = &job->recipients[0];
	struct lane_record lane = { 0 };
	const struct verp_rule *rule;
	struct envelope *own;
	struct verp_keys keys;

	if (d->config->verp.count == 0 || e->reverse_path.len == 0 || job->count != 1 ||
	    r->recipient >= e->recipient_count ||
	    queue_read_lane(d->reactor->port, r->lane, &job->arena, &lane) < 0)
		return e;
	rule = verp_choose(&d->config->verp,
			   &(struct verp_facts){ e->reverse_path, lane.name.route, lane.name.tenant,
								     lane.name.pool });
	if (rule == NULL)
		return e;
	own = arena_alloc(&job->arena, sizeof(*own));
	*own = *e;
	keys = returns_keys(d->reactor->returns, d->config);
	own->reverse_path = job->verp =
		verp_write(rule, &keys, job->id, r->recipient, e->recipients[r->recipient].address,
			   &job->arena);
	return own;
}

static void
build_transaction(struct delivery *d, struct job *job)
{
	struct smtp_transaction *t = &job->transaction;
	const struct envelope *e = write_sender(d, job);
	bool utf8 = (job->message.record.flags & MESSAGE_HEADER_UTF8) != 0 ||
		    !span_is_ascii(e->reverse_path);

	*t = (struct smtp_transaction){ .arena = &job->arena, .envelope = e };
	t->recipients = arena_alloc(&job->arena, job->count * sizeof(*t->recipients));
	for (size_t i = 0; i < job->count; i++) {
		struct job_recipient *r = &job->recipients[i];

		r->skipped = r->recipient >= e->recipient_count || !job->message.open[r->recipient];
		r->suppressed = !r->skipped && !r->settled && suppress(d, job, r);
		if (r->skipped || r->suppressed || r->settled)
			continue;
		t->recipients[t->recipient_count++].recipient = &e->recipients[r->recipient];
		utf8 = utf8 || !span_is_ascii(e->recipients[r->recipient].address);
	}
	t->size = job->message.record.header_size + job->message.record.body_size;
	t->needs_8bit = (job->message.record.flags & MESSAGE_8BIT) != 0;
	t->needs_smtputf8 = e->smtputf8 && utf8;
	t->by_left_s = (e->by_ms - wall_ms()) / 1000;
	t->requiretls = (job->message.record.flags & MESSAGE_REQUIRETLS) != 0;
}

static bool
any_suppressed(const struct job *job)
{
	for (size_t i = 0; i < job->count; i++)
		if (job->recipients[i].suppressed)
			return true;
	return false;
}

/* Takes the next job that can be sent at all; NULL: there is none. */
static struct job *
take_job(struct delivery *d)
{
	char text[NETADDR_TEXT_MAX];

	while (d->todo.first != NULL) {
		struct job *job = CONTAINER_OF(d->todo.first, struct job, letter);
		int rc;

		d->todo.first = job->letter.next;
		if (d->todo.first == NULL)
			d->todo.last = &d->todo.first;
		rc = queue_read_message(d->reactor->port, job->id, &job->arena, &job->message);
		job->missing = rc == -ENOENT;
		job->damaged = rc < 0 && !job->missing;
		if (rc == 0) {
			build_transaction(d, job);
			/* its lane is of a site of its own */
			assert(d->demand.requiretls ||
			       message_wish(job->message.record.flags,
					    job->message.envelope.reverse_path) != WISH_REQUIRETLS);
			job->began_ms = mono_ms();
			job->host = arena_copy(&job->arena, d->host_name);
			job->tls = arena_copy(&job->arena, d->tls_text);
			job->tls_policy = tls_source_text(d->demand.source);
			job->tls_resumed = d->tls_resumed;
			if (d->source != NULL)
				job->source = arena_copy(&job->arena, d->source->name);
			job->address = arena_copy(&job->arena,
				span_str(netaddr_format_port(&d->addresses[d->address - 1], text)));
			if (job->transaction.recipient_count > 0) {
				delivery_report_taken(d, job);
				return job;
			}
			job->missing = !any_suppressed(job);
		}
		delivery_job_home(d, job);
	}
	return NULL;
}

/*
 * As many transactions as the host wants in one session (RFC 9422): the machine takes its leave
 * by itself.
 */
static bool
had_enough(const struct delivery *d)
{
	return d->client.features.limit_mail > 0 &&
	       d->client.transactions >= d->client.features.limit_mail;
}

/*
 * What one host does not offer another may (RFC 6531, RFC 1870): only the last one's word
 * is final.
 */
static bool
wants_another_host(const struct delivery *d, const struct job *job)
{
	return delivery_has_another(d) &&
	       smtp_client_refusal(&d->client, &job->transaction).code != 0;
}

static void
first_of_todo(struct delivery *d, struct job *job)
{
	job->letter.next = d->todo.first;
	if (d->todo.first == NULL)
		d->todo.last = &job->letter.next;
	d->todo.first = &job->letter;
}

/*
 * If nothing has been sent here the delivery goes on to the next host, with this job first; else
 * the job goes home, to be the first of another connection.
 */
static void
leave_host(struct delivery *d, struct job *job)
{
	if (d->jobs_done > 0 || d->waiting != NULL) {
		job->elsewhere = true;
		delivery_job_home(d, job);
		return;
	}
	delivery_note_failure(d, STAGE_EHLO, smtp_client_refusal(&d->client, &job->transaction));
	delivery_log_trouble(d, "host-unfit");
	first_of_todo(d, job);
	d->misfit = job;
	d->moving = true;
	smtp_client_quit(&d->client);
}

void
delivery_begin_job(struct delivery *d)
{
	struct job *job = had_enough(d) || d->moving ? NULL : take_job(d);

	if (job == NULL)
		return;
	if (job == d->misfit)
		d->misfit = NULL;
	if (wants_another_host(d, job)) {
		leave_host(d, job);
		return;
	}
	assert(d->current == NULL);
	d->current = job;
	d->body_at = 0;
	smtp_client_send(&d->client, &job->transaction);
}

struct cold_read {
	uv_work_t work;
	struct delivery *delivery;
	struct queue *queue;
	struct message_record record;	/* a copy: the job may be gone before the thread is done */
	struct arena arena;
	uint64_t at;
	struct buf bytes;
	int result;
};

static void
do_cold_read(uv_work_t *work)
{
	struct cold_read *cold = CONTAINER_OF(work, struct cold_read, work);

	cold->result = queue_read_content_cold(cold->queue, &cold->record, cold->at, BODY_PIECE,
					       &cold->bytes);
}

static void send_body(struct delivery *d);

static void
on_cold_piece(struct delivery *d, struct span bytes, int result)
{
	struct span none = { 0 };

	if (!d->stream_open || d->stream.closing)
		return;
	if (result == 0 && bytes.len > 0) {
		d->body_at += bytes.len;
		smtp_client_body(&d->client, bytes);
		send_body(d);
	} else {
		d->current->damaged = true;
		smtp_client_body_failed(&d->client);
	}
	delivery_pump(d, &none);
}

static void
on_cold_read(uv_work_t *work, int status)
{
	struct cold_read *cold = CONTAINER_OF(work, struct cold_read, work);
	struct delivery *d = cold->delivery;
	int result = status < 0 ? -EIO : cold->result;

	d->cold_reads--;
	if (d->cold == cold) {
		d->cold = NULL;
		on_cold_piece(d, buf_span(&cold->bytes), result);
	}
	if (!d->stream_open)
		delivery_finish(d);
	buf_free(&cold->bytes);
	arena_free(&cold->arena);
	free(cold);
}

static void
start_cold_read(struct delivery *d)
{
	struct cold_read *cold = xcalloc(1, sizeof(*cold));
	size_t records = d->current->message.record.crc_count;

	cold->delivery = d;
	cold->queue = d->reactor->queue;
	cold->record = d->current->message.record;
	cold->record.crcs = arena_alloc(&cold->arena, records * sizeof(*cold->record.crcs));
	memcpy(cold->record.crcs, d->current->message.record.crcs,
	       records * sizeof(*cold->record.crcs));
	cold->record.client = cold->record.user = (struct span){ 0 };
	cold->at = d->body_at;
	d->cold = cold;
	d->cold_reads++;
	uv_queue_work(&d->reactor->loop, &cold->work, do_cold_read, on_cold_read);
}

static void
on_piece(void *arg, struct span bytes)
{
	struct delivery *d = arg;

	d->body_at += bytes.len;
	smtp_client_body(&d->client, bytes);
}

/*
 * Streams pieces until the peer is slower than we, or all is said; behind the last one the next
 * job may follow.
 */
static void
send_body(struct delivery *d)
{
	const struct message_record *record = &d->current->message.record;
	uint64_t size = record->header_size + record->body_size;

	while (d->body_at < size) {
		const uint64_t before = d->body_at;
		int rc;

		if (d->stream.queued + buf_len(&d->client.out) >= OUT_HIGH)
			return;				/* on_written goes on */
		rc = queue_visit_content(d->reactor->port, record, d->body_at, BODY_PIECE, on_piece,
					 d);
		if (rc == -EAGAIN) {
			start_cold_read(d);
			return;
		}
		if (rc < 0 || d->body_at == before) {
			d->current->damaged = true;
			smtp_client_body_failed(&d->client);
			return;
		}
	}
	d->streaming = false;
	smtp_client_body_end(&d->client);
	d->waiting = d->current;
	d->waiting->asked_ms = mono_ms();
	d->current = NULL;
	if (!d->quitting && smtp_client_can_queue(&d->client))
		delivery_begin_job(d);
}

/* ---- the dialogue ------------------------------------------------------------------------- */

static bool
sends_on(const struct job_recipient *r)
{
	return r->rule != NULL && r->rule->next_mx && r->outcome.reply.code != 0 &&
	       (r->outcome.fate == FATE_TEMPORARY || r->outcome.fate == FATE_PERMANENT);
}

/* It has its outcome here; who is sent on by a rule is tried once more, at the next host. */
static bool
moves_on(struct delivery *d, struct job *job)
{
	size_t n = 0, moving = 0;

	for (size_t i = 0; i < job->count; i++) {
		struct job_recipient *r = &job->recipients[i];

		if (r->skipped || r->suppressed || r->settled)
			continue;
		delivery_judge(d, job, r, &job->transaction.recipients[n++]);
		r->moves = sends_on(r);
		r->settled = !r->moves;
		r->before = r->outcome;
		r->host = job->host;
		r->address = job->address;
		moving += r->moves;
	}
	if (moving == 0)
		return false;
	for (size_t i = 0; i < job->count; i++)
		if (job->recipients[i].moves)
			job->recipients[i].outcome.fate = FATE_PENDING;
	job->dsn_passed = job->dsn_passed || job->transaction.dsn_passed;
	job->by_passed = job->by_passed || job->transaction.by_passed;
	job->moved = true;
	job->asked_ms = 0;
	first_of_todo(d, job);
	d->moving = d->leaving = true;
	return true;
}

/* Is there a rule that could send it on, and somewhere to go? */
static bool
may_move_on(const struct delivery *d, const struct job *job)
{
	return job->transaction.started && !d->quitting && d->watch == NULL &&
	       response_rules_move(d->config->responses) && delivery_has_another(d);
}

static void
on_done(struct delivery *d, struct smtp_transaction *t)
{
	struct job *job = CONTAINER_OF(t, struct job, transaction);

	if (job == d->waiting)
		d->waiting = NULL;
	else if (job == d->current)
		d->current = NULL;
	if (d->current == NULL)
		d->cold = NULL;			/* what is read for it is wanted no more */
	d->streaming = d->streaming && d->current != NULL;
	if (!may_move_on(d, job))
		delivery_job_return(d, job);
	else if (!moves_on(d, job)) {
		job->tried = true;
		delivery_job_judged(d, job);
	}
}

static void
on_ready(struct delivery *d)
{
	if (!d->was_ready && d->stream.tls == NULL)
		delivery_is_plain(d);
	d->was_ready = true;
	delivery_report_ready(d);
	if (d->watch != NULL) {			/* seen; on to the next host */
		delivery_tell(d, WATCH_READY);
		d->moving = true;
		smtp_client_quit(&d->client);
		return;
	}
	if (d->current == NULL && d->waiting == NULL)
		delivery_begin_job(d);
	if (d->current == NULL && d->waiting == NULL && (d->quitting || d->leaving))
		smtp_client_quit(&d->client);
	d->leaving = d->leaving && (d->current != NULL || d->waiting != NULL);
}

/* The session is over. A host that never greeted us is not the end: there may be another. */
static void
on_client_closed(struct delivery *d)
{
	bool of_host =
		d->client.failure_stage <= STAGE_TLS || d->client.failure_stage == STAGE_AUTH;

	if (!d->was_ready)
		delivery_report_closed(d);
	if (of_host && !d->was_ready) {
		struct reply why = delivery_tls_failure(d);

		d->hopeless += delivery_refuses_host(d, &why);
		delivery_host_failed(d, d->client.failure_stage, why);
		delivery_log_trouble(d, "host-failed");
	} else if (d->failure.code == 0 && d->failure.text.len == 0) {
		delivery_note_failure(d, d->client.failure_stage, delivery_tls_failure(d));
	}
	stream_close(&d->stream, false);
}

/*
 * Feeds the machine and does what it says. Returns the event at which it rests: WAIT, READY
 * without work, CLOSED.
 */
static enum smtp_client_event
steps(struct delivery *d, struct span *in)
{
	enum smtp_client_event event;
	struct smtp_transaction *done;

	for (;;) {
		*in = span_skip(*in, smtp_client_take(&d->client, *in, &event, &done));
		switch (event) {
		case CLIENT_READY:
			on_ready(d);
			if (d->current == NULL && !d->quitting)
				return event;
			break;
		case CLIENT_BODY:
			d->streaming = true;
			d->current->latency_ms = mono_ms() - d->current->began_ms;
			send_body(d);
			break;
		case CLIENT_DONE:
			on_done(d, done);
			break;
		case CLIENT_AUTH:
			delivery_auth(d);
			break;
		case CLIENT_START_TLS:
		case CLIENT_WAIT:
		case CLIENT_CLOSED:
			return event;
		}
	}
}

static void
set_deadline(struct delivery *d)
{
	int64_t wait = smtp_client_timeout_ms(&d->client);

	if (wait < 0)
		wait = d->streaming ? d->client_config.timeouts.block
				    : delivery_time_ms(d->times.idle_ms,
						       d->config->limits.idle_connection_ms);
	wait = delivery_wait_ms(d, wait);
	if (d->deadline_set && d->replies_seen == d->client.replies &&
	    d->stream.octets_out == d->sent_seen && wait == d->wait_seen)
		return;				/* octets that make no reply buy no time */
	d->deadline_set = true;
	d->wait_seen = wait;
	d->replies_seen = d->client.replies;
	d->sent_seen = d->stream.octets_out;
	stream_deadline(&d->stream, wait);
}

/*
 * A turn of the dialogue: steps, then all there is to say in one write, as long as the kernel
 * takes it.
 */
void
delivery_pump(struct delivery *d, struct span *in)
{
	enum smtp_client_event event = steps(d, in);

	while (event != CLIENT_CLOSED && event != CLIENT_START_TLS) {
		if (stream_send(&d->stream, &d->client.out) < 0)
			smtp_client_lost(&d->client, SPAN("the connection was lost"));
		else if (d->streaming && d->current != NULL && d->cold == NULL &&
			 d->stream.queued == 0)
			send_body(d);
		else
			break;
		event = steps(d, in);
	}
	if (event == CLIENT_START_TLS) {
		delivery_start_tls(d);
		*in = span_skip(*in, in->len);
	} else if (event == CLIENT_CLOSED) {
		stream_send(&d->stream, &d->client.out);
		on_client_closed(d);
	} else {
		set_deadline(d);
	}
}

size_t
delivery_on_read(struct stream *stream, struct span bytes)
{
	struct delivery *d = CONTAINER_OF(stream, struct delivery, stream);
	struct span in = bytes;

	while (in.len > 0 && !d->stream.closing)
		delivery_pump(d, &in);
	return bytes.len;
}

void
delivery_on_written(struct stream *stream)
{
	struct delivery *d = CONTAINER_OF(stream, struct delivery, stream);
	struct span none = { 0 };

	if (d->streaming && d->current != NULL && d->cold == NULL) {
		send_body(d);
		delivery_pump(d, &none);
	}
}

void
delivery_lose(struct delivery *d, struct span text)
{
	struct span none = { 0 };

	smtp_client_lost(&d->client, text);
	while (!d->stream.closing)
		delivery_pump(d, &none);
}

void
delivery_on_stream_ended(struct stream *stream, enum stream_end end, int error)
{
	struct delivery *d = CONTAINER_OF(stream, struct delivery, stream);
	struct span none = { 0 };

	if (!d->client_open) {			/* it was still connecting */
		delivery_host_failed(d, STAGE_CONNECT, REPLY(0, 4, 4, 1, "connection timed out"));
		delivery_log_trouble(d, "host-failed");
		stream_close(stream, false);
	} else if (end == STREAM_TIMEOUT && d->current == NULL && d->waiting == NULL &&
		   d->was_ready && !d->quitting && d->watch == NULL) {
		stream->told = false;		/* idle for long enough: take leave */
		d->quitting = true;
		stream_resume(stream);
		smtp_client_quit(&d->client);
		delivery_pump(d, &none);
	} else if (end == STREAM_TLS_FAILED) {
		delivery_lose(d, arena_printf(&d->arena, "TLS failed: %s", tls_error(stream->tls)));
	} else if (end == STREAM_TIMEOUT) {
		delivery_lose(d, arena_printf(&d->arena, "timed out waiting for %s",
					      smtp_client_waiting_for(&d->client)));
	} else if (end == STREAM_EOF) {
		delivery_lose(
			d, arena_printf(&d->arena,
					"connection closed by the other side while waiting for %s",
					smtp_client_waiting_for(&d->client)));
	} else {
		delivery_lose(d,
			      arena_printf(&d->arena, "%s while waiting for %s", uv_strerror(error),
					   smtp_client_waiting_for(&d->client)));
	}
}
