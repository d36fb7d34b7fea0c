/*
 * delivery: see delivery.h. In time order:
 *
 *	delivery_start → next_host → on_addresses → next_address → on_connected → on_read → pump
 *	(READY → begin_job, BODY → send_body, DONE → job_return, CLOSED → finish) → on_stream_closed → ended
 *
 * One exit: finish(). Everything here runs on the delivery's reactor, but for the calls of the dispatcher below.
 */
#include "mta/delivery.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/base/log.h"
#include "mta/base/map.h"

enum { BODY_PIECE = 65520, OUT_HIGH = 262144 };

static void next_host(struct delivery *d);
static void next_address(struct delivery *d);
static void pump(struct delivery *d, struct span *in);
static void finish(struct delivery *d);

/* ---- jobs back to the dispatcher ------------------------------------------------------------------------------ */

static void
on_job_home(struct letter *letter)
{
	struct job *job = CONTAINER_OF(letter, struct job, letter);

	job->returned(job);
}

static void
job_home(struct delivery *d, struct job *job)
{
	job->letter.open = on_job_home;
	post_send(d->reactor->post, d->reactor->home, &job->letter);
}

static const char *
fate_name(enum smtp_fate fate)
{
	static const char *const names[] = { "pending", "delivered", "deferred", "failed", "again", "uncertain" };

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
	log_span(&l, "host", job->host);
	log_span(&l, "address", job->address);
	log_reply(&l, "reply", &r->outcome.reply);
	log_i64(&l, "ms", mono_ms() - job->began_ms);
	log_i64(&l, "age", (wall_ms() - job->message.record.arrival_ms) / 1000);
	log_end(&l);
}

static void
job_return(struct delivery *d, struct job *job)
{
	size_t n = 0;

	job->tried = job->transaction.started;
	job->dsn_passed = job->transaction.dsn_passed;
	for (size_t i = 0; i < job->count; i++) {
		if (job->recipients[i].skipped)
			continue;
		job->recipients[i].outcome = job->transaction.recipients[n++];
		if (job->tried)
			log_outcome(job, &job->recipients[i]);
	}
	d->jobs_done++;
	job_home(d, job);
}

/* Given but not begun: back as it came. */
static void
jobs_untried(struct delivery *d)
{
	while (d->todo.first != NULL) {
		struct job *job = CONTAINER_OF(d->todo.first, struct job, letter);

		d->todo.first = job->letter.next;
		job_home(d, job);
	}
	d->todo.last = &d->todo.first;
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

static void
on_ended_home(struct letter *letter)
{
	struct delivery *d = CONTAINER_OF(letter, struct delivery, letter);

	d->ended(d);
}

static void
finish(struct delivery *d)
{
	if (d->finished)
		return;
	lookup_cancel(d->lookup);
	d->lookup = NULL;
	if (d->stream_open) {
		stream_close(&d->stream, false);	/* on_stream_closed comes back here */
		return;
	}
	if (d->reading_cold)
		return;					/* so does on_cold_read */
	d->finished = true;
	assert(d->current == NULL && d->waiting == NULL);
	jobs_untried(d);
	if (d->client_open)
		smtp_client_free(&d->client);
	d->client_open = false;
	buf_free(&d->body);
	d->letter.open = on_ended_home;
	post_send(d->reactor->post, d->reactor->home, &d->letter);
}

static void
note_failure(struct delivery *d, enum smtp_stage stage, struct reply reply)
{
	d->failure_stage = stage;
	d->failure = reply;
	d->failure.text = arena_copy(&d->arena, span_first(reply.text, 500));
	d->failure_host = d->host_name;
}

static void
log_trouble(struct delivery *d, const char *event)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, event))
		return;
	log_span(&l, "site", d->site_key);
	log_span(&l, "host", d->host_name);
	if (d->address > 0)
		log_addr(&l, "address", &d->addresses[d->address - 1]);
	log_reply(&l, "reply", &d->failure);
	log_end(&l);
}

/* ---- jobs and bodies ----------------------------------------------------------------------------------------------- */

static bool
non_ascii(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.at[i] > 127)
			return true;
	return false;
}

static void
build_transaction(struct job *job)
{
	struct smtp_transaction *t = &job->transaction;
	const struct envelope *e = &job->message.envelope;
	bool utf8 = (job->message.record.flags & MESSAGE_HEADER_UTF8) != 0 || non_ascii(e->reverse_path);

	*t = (struct smtp_transaction){ .arena = &job->arena, .envelope = e };
	t->recipients = arena_alloc(&job->arena, job->count * sizeof(*t->recipients));
	for (size_t i = 0; i < job->count; i++) {
		struct job_recipient *r = &job->recipients[i];

		r->skipped = r->recipient >= e->recipient_count || !job->message.open[r->recipient];
		if (r->skipped)
			continue;
		t->recipients[t->recipient_count++].recipient = &e->recipients[r->recipient];
		utf8 = utf8 || non_ascii(e->recipients[r->recipient].address);
	}
	t->size = job->message.record.header_size + job->message.record.body_size;
	t->needs_8bit = (job->message.record.flags & MESSAGE_8BIT) != 0;
	t->needs_smtputf8 = e->smtputf8 && utf8;
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
			build_transaction(job);
			job->began_ms = mono_ms();
			job->host = arena_copy(&job->arena, d->host_name);
			job->address = arena_copy(&job->arena,
				span_str(netaddr_format_port(&d->addresses[d->address - 1], text)));
			if (job->transaction.recipient_count > 0)
				return job;
			job->missing = true;
		}
		job_home(d, job);
	}
	return NULL;
}

/* As many transactions as the host wants in one session (RFC 9422): the machine takes its leave by itself. */
static bool
had_enough(const struct delivery *d)
{
	return d->client.features.limit_mail > 0 && d->client.transactions >= d->client.features.limit_mail;
}

static void
begin_job(struct delivery *d)
{
	struct job *job = had_enough(d) ? NULL : take_job(d);

	if (job == NULL)
		return;
	assert(d->current == NULL);
	d->current = job;
	d->body_at = 0;
	smtp_client_send(&d->client, &job->transaction);
}

struct cold_read {
	uv_work_t work;
	struct delivery *delivery;
	struct queue *queue;
	struct message_record record;
	uint64_t at;
	struct buf bytes;
	int result;
};

static void
do_cold_read(uv_work_t *work)
{
	struct cold_read *cold = CONTAINER_OF(work, struct cold_read, work);

	cold->result = queue_read_content_cold(cold->queue, &cold->record, cold->at, BODY_PIECE, &cold->bytes);
}

static void send_body(struct delivery *d);

static void
on_cold_read(uv_work_t *work, int status)
{
	struct cold_read *cold = CONTAINER_OF(work, struct cold_read, work);
	struct delivery *d = cold->delivery;
	struct span none = { 0 };
	int result = status < 0 ? -EIO : cold->result;

	d->reading_cold = false;
	if (!d->stream_open) {
		finish(d);
	} else if (d->streaming && d->current != NULL) {
		if (result == 0 && buf_len(&cold->bytes) > 0) {
			d->body_at += buf_len(&cold->bytes);
			smtp_client_body(&d->client, buf_span(&cold->bytes));
			send_body(d);
		} else {
			d->current->damaged = true;
			smtp_client_body_failed(&d->client);
		}
		pump(d, &none);
	}
	buf_free(&cold->bytes);
	free(cold);
}

static void
start_cold_read(struct delivery *d)
{
	struct cold_read *cold = xcalloc(1, sizeof(*cold));

	cold->delivery = d;
	cold->queue = d->reactor->queue;
	cold->record = d->current->message.record;
	cold->at = d->body_at;
	d->reading_cold = true;
	uv_queue_work(&d->reactor->loop, &cold->work, do_cold_read, on_cold_read);
}

/* Streams pieces until the peer is slower than we, or all is said; behind the last one the next job may follow. */
static void
send_body(struct delivery *d)
{
	const struct message_record *record = &d->current->message.record;
	uint64_t size = record->header_size + record->body_size;

	while (d->body_at < size) {
		int rc;

		if (d->stream.queued + buf_len(&d->client.out) >= OUT_HIGH)
			return;				/* on_written goes on */
		buf_clear(&d->body);
		rc = queue_read_content(d->reactor->port, record, d->body_at, BODY_PIECE, false, &d->body);
		if (rc == -EAGAIN) {
			start_cold_read(d);
			return;
		}
		if (rc < 0 || buf_len(&d->body) == 0) {
			d->current->damaged = true;
			smtp_client_body_failed(&d->client);
			return;
		}
		d->body_at += buf_len(&d->body);
		smtp_client_body(&d->client, buf_span(&d->body));
	}
	d->streaming = false;
	smtp_client_body_end(&d->client);
	d->waiting = d->current;
	d->current = NULL;
	if (!d->quitting && smtp_client_can_queue(&d->client))
		begin_job(d);
}

/* ---- the dialogue ----------------------------------------------------------------------------------------------------- */

static void
on_done(struct delivery *d, struct smtp_transaction *t)
{
	struct job *job = CONTAINER_OF(t, struct job, transaction);

	if (job == d->waiting)
		d->waiting = NULL;
	else if (job == d->current)
		d->current = NULL;
	d->streaming = d->streaming && d->current != NULL;
	job_return(d, job);
}

static void
on_ready(struct delivery *d)
{
	d->was_ready = true;
	if (d->current == NULL && d->waiting == NULL)
		begin_job(d);
	if (d->current == NULL && d->waiting == NULL && d->quitting)
		smtp_client_quit(&d->client);
}

/* The session is over. A host that never greeted us is not the end: there may be another. */
static void
on_client_closed(struct delivery *d)
{
	if (d->client.failure_stage <= STAGE_TLS && !d->was_ready) {
		note_failure(d, d->client.failure_stage, d->client.failure);
		log_trouble(d, "host-failed");
	} else if (d->failure.code == 0 && d->failure.text.len == 0) {
		note_failure(d, d->client.failure_stage, d->client.failure);
	}
	stream_close(&d->stream, false);
}

/* Feeds the machine and does what it says. Returns the event at which it rests: WAIT, READY without work, CLOSED. */
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
			send_body(d);
			break;
		case CLIENT_DONE:
			on_done(d, done);
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
		wait = d->streaming ? d->config->limits.block_timeout_ms : d->config->limits.idle_connection_ms;
	stream_deadline(&d->stream, wait);
}

/* A turn of the dialogue: steps, then all there is to say in one write, as long as the kernel takes it. */
static void
pump(struct delivery *d, struct span *in)
{
	enum smtp_client_event event = steps(d, in);

	while (event != CLIENT_CLOSED) {
		if (stream_send(&d->stream, &d->client.out) < 0)
			smtp_client_lost(&d->client, SPAN("the connection was lost"));
		else if (d->streaming && d->current != NULL && !d->reading_cold && d->stream.queued == 0)
			send_body(d);
		else
			break;
		event = steps(d, in);
	}
	if (event == CLIENT_CLOSED) {
		stream_send(&d->stream, &d->client.out);
		on_client_closed(d);
	} else {
		set_deadline(d);
	}
}

static size_t
on_read(struct stream *stream, struct span bytes)
{
	struct delivery *d = CONTAINER_OF(stream, struct delivery, stream);
	struct span in = bytes;

	while (in.len > 0 && !d->stream.closing)
		pump(d, &in);
	return bytes.len;
}

static void
on_written(struct stream *stream)
{
	struct delivery *d = CONTAINER_OF(stream, struct delivery, stream);
	struct span none = { 0 };

	if (d->streaming && d->current != NULL && !d->reading_cold) {
		send_body(d);
		pump(d, &none);
	}
}

static void
lose(struct delivery *d, struct span text)
{
	struct span none = { 0 };

	smtp_client_lost(&d->client, text);
	while (!d->stream.closing)
		pump(d, &none);
}

static void
on_stream_ended(struct stream *stream, enum stream_end end, int error)
{
	struct delivery *d = CONTAINER_OF(stream, struct delivery, stream);
	struct span none = { 0 };

	if (!d->client_open) {			/* it was still connecting */
		note_failure(d, STAGE_CONNECT, REPLY(0, 4, 4, 1, "connection timed out"));
		log_trouble(d, "host-failed");
		stream_close(stream, false);
	} else if (end == STREAM_TIMEOUT && d->current == NULL && d->waiting == NULL && d->was_ready &&
		   !d->quitting) {
		stream->told = false;		/* idle for long enough: take leave */
		d->quitting = true;
		stream_resume(stream);
		smtp_client_quit(&d->client);
		pump(d, &none);
	} else if (end == STREAM_TIMEOUT) {
		lose(d, arena_printf(&d->arena, "timed out waiting for %s", smtp_client_waiting_for(&d->client)));
	} else if (end == STREAM_EOF) {
		lose(d, arena_printf(&d->arena, "connection closed by the other side while waiting for %s",
				     smtp_client_waiting_for(&d->client)));
	} else {
		lose(d, arena_printf(&d->arena, "%s while waiting for %s", uv_strerror(error),
				     smtp_client_waiting_for(&d->client)));
	}
}

/* ---- getting there ------------------------------------------------------------------------------------------------------- */

static void
on_connected(struct stream *stream, int error)
{
	struct delivery *d = CONTAINER_OF(stream, struct delivery, stream);
	struct span none = { 0 };

	if (error < 0) {
		note_failure(d, STAGE_CONNECT,
			     (struct reply){ 0, { 4, 4, 1 }, arena_printf(&d->arena, "%s", uv_strerror(error)) });
		log_trouble(d, "host-failed");
		stream_close(stream, false);
		return;
	}
	smtp_client_init(&d->client, &d->config->client);
	d->client_open = true;
	pump(d, &none);
	if (!stream->closing)
		stream_resume(stream);
}

static void
on_stream_closed(struct stream *stream)
{
	struct delivery *d = CONTAINER_OF(stream, struct delivery, stream);

	d->stream_open = false;
	if (d->was_ready || d->quitting) {
		finish(d);
		return;
	}
	if (d->client_open)
		smtp_client_free(&d->client);
	d->client_open = false;
	next_address(d);
}

static const struct stream_events delivery_events = {
	.connected = on_connected, .read = on_read, .written = on_written, .ended = on_stream_ended,
	.closed = on_stream_closed,
};

/* One of our own listeners: connecting would bring the message back to us. */
static bool
is_ours(const struct config *config, const struct netaddr *address)
{
	for (size_t i = 0; i < config->listener_count; i++)
		for (size_t j = 0; j < config->listeners[i].address_count; j++)
			if (config->listeners[i].addresses[j].port == address->port &&
			    netaddr_same_ip(&config->listeners[i].addresses[j], address))
				return true;
	return false;
}

static void
next_address(struct delivery *d)
{
	while (d->address < d->address_count && d->tries < d->config->limits.addresses_per_attempt) {
		const struct netaddr *address = &d->addresses[d->address++];

		if (is_ours(d->config, address)) {
			note_failure(d, STAGE_CONNECT, REPLY(554, 5, 4, 6, "the address is our own: mail would loop"));
			continue;
		}
		d->tries++;
		d->stream_open = true;
		if (stream_connect(&d->stream, &d->reactor->loop, address, NULL, &d->reactor->read_buffer,
				   &delivery_events) < 0) {
			note_failure(d, STAGE_CONNECT, REPLY(0, 4, 4, 1, "cannot open a connection"));
			stream_close(&d->stream, false);
			return;
		}
		stream_deadline(&d->stream, d->config->limits.connect_timeout_ms);
		return;
	}
	next_host(d);
}

static void
on_addresses(void *arg, const struct host_addresses *found)
{
	struct delivery *d = arg;

	d->lookup = NULL;
	if (found->count == 0) {
		if (found->failure.status.subject == 4 && found->failure.status.detail == 6)
			d->host = d->to.host_count;	/* it is us: worse hosts would only send it back */
		if (found->failure.code < 500)
			d->failed_lookup = true;
		if (d->failure.code == 0 && d->failure.text.len == 0)
			note_failure(d, STAGE_CONNECT, found->failure);
		else if (found->failure.code < 500)
			note_failure(d, STAGE_CONNECT, found->failure);
	}
	d->address = 0;
	d->address_count = found->count;
	d->addresses = arena_alloc(&d->arena, found->count * sizeof(*found->addresses) + 1);
	if (found->count > 0)
		memcpy(d->addresses, found->addresses, found->count * sizeof(*found->addresses));
	next_address(d);
}

static void
drop_own_addresses(struct delivery *d)
{
	const struct config *config = d->config;
	struct netaddr *own;
	size_t total = 0, n = 0;

	for (size_t i = 0; i < config->listener_count; i++)
		total += config->listeners[i].address_count;
	own = arena_alloc(&d->arena, total * sizeof(*own) + 1);
	for (size_t i = 0; i < config->listener_count; i++)
		for (size_t j = 0; j < config->listeners[i].address_count; j++)
			own[n++] = config->listeners[i].addresses[j];
	lookup_drop_own(d->lookup, own, n);
}

/* The next host by preference. None left: the failure of the last one, permanent only if nothing could be tried. */
static void
next_host(struct delivery *d)
{
	const struct limits *limits = &d->config->limits;

	if (d->to.address.family != 0 && d->host == 0) {
		d->host = 1;
		d->addresses = &d->to.address;
		d->address_count = 1;
		next_address(d);
		return;
	}
	if (d->to.address.family == 0 && d->host < d->to.host_count && d->tries < limits->addresses_per_attempt) {
		d->host_name = d->to.hosts[d->host++].name;
		d->lookup = lookup_addresses(d->reactor->resolver, d->host_name, d->to.port, d->config->allow_private,
					     limits->addresses_per_attempt, on_addresses, d);
		drop_own_addresses(d);
		return;
	}
	if (d->failure.code >= 500 && (d->tries > 0 || d->failed_lookup))
		d->failure.code = 0;		/* a greeting of 5xx, or a look-up that failed: temporary */
	finish(d);
}

/* ---- what the dispatcher calls ---------------------------------------------------------------------------------------------- */

struct delivery *
delivery_new(struct reactor *reactor, struct config *config, const struct destination *to, struct span site_key,
	     void (*ended)(struct delivery *delivery), void *owner)
{
	struct delivery *d = xcalloc(1, sizeof(*d));

	d->reactor = reactor;
	d->config = config;
	d->ended = ended;
	d->owner = owner;
	d->site_key = arena_copy(&d->arena, site_key);
	d->to = *to;
	d->to.hosts = arena_alloc(&d->arena, to->host_count * sizeof(*to->hosts) + 1);
	for (size_t i = 0; i < to->host_count; i++) {
		d->to.hosts[i] = to->hosts[i];
		d->to.hosts[i].name = arena_copy(&d->arena, to->hosts[i].name);
	}
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
	mx_shuffle(d->to.hosts, d->to.host_count, hash_bytes(&d, sizeof(d), uv_hrtime()));
	next_host(d);
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

	if (d->finished) {
		job_home(d, job);
		return;
	}
	letter->next = NULL;
	*d->todo.last = letter;
	d->todo.last = &letter->next;
	if (d->client_open && d->was_ready && !d->stream.closing && d->current == NULL && !d->quitting) {
		if (d->waiting == NULL || smtp_client_can_queue(&d->client)) {
			begin_job(d);
			pump(d, &none);
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
	if (!d->client_open || d->stream.closing || !d->was_ready)
		return;
	if (d->current == NULL && d->waiting == NULL) {
		smtp_client_quit(&d->client);
		pump(d, &none);
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

	if (d->finished || (d->stream_open && d->stream.closing))
		return;
	d->quitting = true;
	if (d->client_open && d->stream_open)
		lose(d, SPAN("the server is stopping"));
	else
		finish(d);
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
	if (d->client_open)
		return smtp_client_waiting_for(&d->client);
	return d->stream_open ? "connect" : "start";
}
