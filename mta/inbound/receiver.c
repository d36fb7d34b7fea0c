/*
 * receiver: see receiver.h. In the order of a session: start → on_read (steps of the machine) →
 * questions → accept → reply → end. One exit: session_end().
 */
#include "mta/inbound/receiver.h"

#include <assert.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/base/log.h"
#include "mta/inbound/gate.h"
#include "mta/smtp/received.h"

enum { LINGER_MS = 2000, ERROR_DELAY_MAX_MS = 5000, OUT_HIGH = 65536, RATE_AFTER_MS = 60000 };

static void session_steps(struct session *s, struct span *in);
static void session_go_on(struct session *s);
static void append_held(struct session *s);

static const struct reply no_memory =
	REPLY_INIT(452, 4, 3, 1, "too much is being received, try again later");
static const struct reply no_disk = REPLY_INIT(452, 4, 3, 1, "the queue is full, try again later");
static const struct reply stopping =
	REPLY_INIT(421, 4, 3, 2, "the server is stopping, try again later");
static const struct reply poisoned =
	REPLY_INIT(421, 4, 3, 0, "the queue has failed, try again later");

/* ---- the end ------------------------------------------------------------------------------ */

static void
message_drop(struct session *s)
{
	if (s->draft != NULL)
		draft_abort(s->draft);
	s->draft = NULL;
	header_scan_free(&s->header);
	s->reactor->memory_used -= s->memory;
	s->memory = 0;
	s->id = 0;
}

static void
session_log(struct session *s)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, "session"))
		return;
	log_u64(&l, "session", s->number);
	log_span(&l, "listener", s->listener);
	log_addr(&l, "client", &s->client.peer);
	if (s->client.local)
		log_u64(&l, "uid", s->uid);
	log_span(&l, "helo", s->server.helo_name);
	log_u64(&l, "commands", s->server.commands);
	log_u64(&l, "errors", s->server.errors);
	log_u64(&l, "refused", s->server.recipients_refused);
	log_u64(&l, "messages", s->accepted);
	log_u64(&l, "in", s->stream.octets_in);
	log_u64(&l, "out", s->stream.octets_out);
	log_i64(&l, "ms", mono_ms() - s->began_ms);
	log_str(&l, "end", s->why);
	log_end(&l);
}

static void
session_gone(struct session *s)
{
	if (!s->closed || s->accepting)
		return;
	list_remove(&s->node);
	s->reactor->session_count--;
	reactor_config_release(s->reactor, s->config);
	gate_session_ended(s);
}

static void
on_closed(struct stream *stream)
{
	struct session *s = CONTAINER_OF(stream, struct session, stream);

	s->closed = true;
	session_gone(s);
}

static void
on_delay_closed(uv_handle_t *handle)
{
	free(handle);
}

static void
session_end(struct session *s, const char *why)
{
	if (s->stream.closing)
		return;
	if (s->why == NULL)
		s->why = why;
	if (s->delay != NULL)
		uv_close((uv_handle_t *)s->delay, on_delay_closed);
	s->delay = NULL;
	if (!s->accepting)
		message_drop(s);
	session_log(s);
	stream_close(&s->stream, false);
}

void
session_free(struct session *s)
{
	assert(!s->accepting && s->draft == NULL);
	smtp_server_free(&s->server);
	buf_free(&s->stored_header);
	free(s->lanes);
	free(s);
}

/* ---- replies ------------------------------------------------------------------------------ */

static bool
session_flush(struct session *s)
{
	if (stream_send(&s->stream, &s->server.out) < 0) {
		session_end(s, "write failed");
		return false;
	}
	return true;
}

/*
 * Our last words are out: wait a little for the peer to read them, for a close with unread input
 * would reset.
 */
static void
session_linger(struct session *s)
{
	uv_os_fd_t fd;

	if (!session_flush(s))
		return;
	if (s->server.state == SERVER_CLOSING && s->server.errors == 0 && !s->hurried &&
	    s->stream.queued == 0) {
		session_end(s, "quit");
		return;
	}
	if (s->why == NULL)
		s->why = "closed by us";
	s->lingering = true;
	message_drop(s);
	if (s->stream.queued == 0 && uv_fileno(&s->stream.h.handle, &fd) == 0)
		shutdown(fd, SHUT_WR);
	stream_deadline(&s->stream, LINGER_MS);
}

static bool
in_content(const struct session *s)
{
	return s->server.state == SERVER_DATA || s->server.state == SERVER_BDAT;
}

static void
set_deadline(struct session *s)
{
	const struct limits *limits = &s->config->limits;

	if (s->lingering)
		return;
	if (s->accepting)
		stream_deadline(&s->stream, -1);
	else if (in_content(s))
		stream_deadline(&s->stream, limits->data_timeout_ms);
	else
		stream_deadline(&s->stream, limits->command_timeout_ms);
}

static void
on_delay(uv_timer_t *timer)
{
	struct session *s = timer->data;

	uv_close((uv_handle_t *)timer, on_delay_closed);
	s->delay = NULL;
	if (session_flush(s))
		session_go_on(s);
}

/* Failed commands cost time, more with each: what is said waits, and what comes is not read. */
static bool
session_delayed(struct session *s)
{
	int64_t ms = s->config->limits.error_delay_ms * (int64_t)s->server.errors;

	if (s->delay != NULL)
		return true;
	if (s->server.errors == s->errors_seen || ms <= 0 || s->client.trusted)
		return false;
	s->errors_seen = s->server.errors;
	s->delay = xcalloc(1, sizeof(*s->delay));
	s->delay->data = s;
	uv_timer_init(&s->reactor->loop, s->delay);
	uv_timer_start(s->delay, on_delay,
		       (uint64_t)(ms < ERROR_DELAY_MAX_MS ? ms : ERROR_DELAY_MAX_MS), 0);
	stream_pause(&s->stream);
	return true;
}

static void
answer(struct session *s, const struct reply *reply)
{
	smtp_server_answer(&s->server, reply);
}

/* ---- accept: the message is complete ------------------------------------------------------ */

static void
accept_log(struct session *s)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, "accept"))
		return;
	log_id(&l, "id", s->id);
	log_u64(&l, "session", s->number);
	log_addr(&l, "client", &s->client.peer);
	log_span(&l, "from", s->server.envelope.reverse_path);
	log_u64(&l, "recipients", s->server.envelope.recipient_count);
	if (s->server.envelope.recipient_count == 1)
		log_span(&l, "to", s->server.envelope.recipients[0].address);
	log_u64(&l, "size", s->message_octets);
	log_end(&l);
}

static struct reply
accept_reply(struct session *s, int result)
{
	char id[ID_TEXT_LEN + 1];

	if (result == -ESHUTDOWN)
		return poisoned;
	if (result < 0)
		return no_disk;
	return (struct reply){ 250,
			       { 2, 0, 0 },
			       arena_printf(&s->server.arena, "queued as %s",
					    id_format(s->id, id)) };
}

/* The only place from which 250 is said to a message: its commit has returned (invariant 1). */
static void
on_accepted(struct queue_op *op)
{
	struct session *s = CONTAINER_OF(op, struct session, accept.op);
	struct reply reply = accept_reply(s, op->result);

	s->accepting = false;
	s->waiting = false;
	if (op->result == 0) {
		s->accepted++;
		accept_log(s);
	} else {
		log_message(LOG_WARNING, "accept-failed", "the queue refused a message: %s",
			    strerror(-op->result));
	}
	message_drop(s);
	if (s->closed || s->stream.closing) {
		session_gone(s);
		return;
	}
	answer(s, &reply);
	if (s->hurried)
		smtp_server_close(&s->server, &stopping);
	set_deadline(s);
	session_go_on(s);
}

static void
message_submit(struct session *s)
{
	struct queue_accept *accept = &s->accept;
	struct received_facts facts = {
		.client = &s->client.peer,
		.helo = s->server.helo_name,
		.hostname = s->config->hostname,
		.id = s->id,
		.now_ms = wall_ms(),
		.esmtp = s->server.helo == HELO_EHLO,
		.utf8 = s->server.envelope.smtputf8,
		.local = s->client.local,
		.uid = s->uid,
	};

	if (s->server.envelope.recipient_count == 1)
		facts.recipient = s->server.envelope.recipients[0].address;
	buf_clear(&s->stored_header);
	received_line(&facts, &s->stored_header);
	buf_append(&s->stored_header, buf_span(&s->header.text));
	if (buf_len(&s->header.text) == 0)
		buf_append(&s->stored_header,
			   SPAN("\r\n")); /* no header: the body must not join our line */
	*accept = (struct queue_accept){
		.op = { .done = on_accepted, .urgent = true },
		.id = s->id,
		.arrival_ms = facts.now_ms,
		.due_ms = facts.now_ms,
		.envelope = &s->server.envelope,
		.lanes = s->lanes,
		.header = buf_span(&s->stored_header),
		.client = received_client(&facts, &s->server.arena),
		.draft = s->draft,
		.flags = (s->server.saw_8bit ? MESSAGE_8BIT : 0u) |
			 (s->header.saw_8bit ? MESSAGE_HEADER_UTF8 : 0u),
	};
	s->draft = NULL;		/* the queue's now */
	s->accepting = s->waiting = true;
	/* it is ours to answer now, however long the disk takes */
	stream_deadline(&s->stream, -1);
	queue_submit_accept(s->reactor->port, accept);
}

static bool
message_refuse(struct session *s, struct reply reply)
{
	smtp_server_refuse_message(&s->server, &reply);
	message_drop(s);
	return false;
}

/* ---- the questions ------------------------------------------------------------------------ */

/* A local program may name its user alone: who that is, is known here. */
static void
qualify_sender(struct session *s)
{
	struct span *path = &s->server.envelope.reverse_path;

	if (s->client.local && path->len > 0 && address_domain_of(*path).len == 0)
		*path = arena_printf(&s->server.arena, "%.*s@%.*s", SPAN_FMT(*path),
				     SPAN_FMT(s->config->hostname));
}

static void
ask_mail(struct session *s)
{
	struct reply verdict;

	qualify_sender(s);
	verdict = access_mail(&s->config->access, &s->client, s->server.envelope.reverse_path);
	if (verdict.code == 250 && s->client.local &&
	    !gate_local_user_may_send(s->reactor->gate, s->uid, s->config->limits.local_rate))
		verdict = REPLY(451, 4, 7, 0,
				"too many messages from this user, try again in a minute");
	if (verdict.code == 250 && !queue_has_room(s->reactor->queue, s->server.declared_size))
		verdict = no_disk;
	answer(s, &verdict);
}

static void
ask_rcpt(struct session *s)
{
	const struct route *route = NULL;
	struct reply verdict;
	size_t n = s->server.envelope.recipient_count;

	verdict = access_rcpt(&s->config->access, &s->client, &s->server.arena,
			      &s->server.asked.address, &route);
	answer(s, &verdict);
	if (s->server.envelope.recipient_count == n)
		return;
	if (n == s->lane_cap) {
		s->lane_cap = n ? n * 2 : 4;
		s->lanes = xrealloc(s->lanes, s->lane_cap * sizeof(*s->lanes));
	}
	s->lanes[n] = (struct lane_name){ .domain = address_domain_of(
						  s->server.envelope.recipients[n].address),
					  .route = route->name };
}

static void
ask_data(struct session *s)
{
	const struct limits *limits = &s->config->limits;
	struct reply begin = REPLY(354, 0, 0, 0, "end with <CRLF>.<CRLF>");

	if (s->reactor->memory_used >= s->reactor->memory_max)
		begin = no_memory;
	else if (!queue_has_room(s->reactor->queue, s->server.declared_size))
		begin = no_disk;
	if (begin.code == 354) {
		s->id = queue_next_id(s->reactor->queue);
		s->message_octets = 0;
		s->data_began_ms = (int64_t)uv_now(&s->reactor->loop);
		s->data_began_octets = s->stream.octets_in;
		header_scan_init(&s->header, limits->header_size, limits->header_lines);
	}
	answer(s, &begin);
}

static void
ask_message(struct session *s)
{
	header_scan_end(&s->header);
	append_held(s);
	if (s->header.received > s->config->limits.hops) {
		struct reply loop = REPLY(554, 5, 4, 6,
					  "too many hops: this message is going round in circles");

		message_drop(s);
		answer(s, &loop);
	} else if (s->draft != NULL && draft_error(s->draft) != 0) {
		struct reply failed = accept_reply(s, draft_error(s->draft));

		message_drop(s);
		answer(s, &failed);
	} else {
		message_submit(s);
	}
}

static void
ask(struct session *s, enum smtp_question question)
{
	switch (question) {
	case SMTP_QUESTION_MAIL:
		ask_mail(s);
		break;
	case SMTP_QUESTION_RCPT:
		ask_rcpt(s);
		break;
	case SMTP_QUESTION_DATA:
		ask_data(s);
		break;
	case SMTP_QUESTION_MESSAGE:
		ask_message(s);
		break;
	case SMTP_QUESTION_NONE:
		assert(false);
	}
}

/* ---- content ------------------------------------------------------------------------------ */

static void
on_room(void *arg)
{
	session_go_on(arg);
}

static void
count_memory(struct session *s)
{
	size_t now = buf_len(&s->header.text) + buf_len(&s->header.held) +
		     (s->draft ? draft_memory(s->draft) : 0);

	s->reactor->memory_used += now - s->memory;
	s->memory = now;
}

/* False: the message has been refused. */
static bool
content_check(struct session *s)
{
	if (s->header.too_large)
		return message_refuse(s, REPLY(552, 5, 3, 4, "the header is too large"));
	if (s->draft != NULL && draft_error(s->draft) != 0)
		return message_refuse(s, accept_reply(s, draft_error(s->draft)));
	if (!queue_has_room(s->reactor->queue, s->message_octets))
		return message_refuse(s, no_disk);
	if (s->reactor->memory_used > s->reactor->memory_max)
		return message_refuse(s, no_memory);
	return true;
}

/* What is swallowed counts too: a peer may be slow for a minute, not for hours. */
static void
rate_check(struct session *s)
{
	int64_t ms = (int64_t)uv_now(&s->reactor->loop) - s->data_began_ms;
	struct reply slow = REPLY(421, 4, 4, 2, "too slow, try again later");

	if (!in_content(s) || ms < RATE_AFTER_MS)
		return;
	if (s->stream.octets_in - s->data_began_octets >=
	    s->config->limits.data_rate * (uint64_t)ms / 1000)
		return;
	message_drop(s);
	smtp_server_close(&s->server, &slow);
}

static void
append_body(struct session *s, struct span bytes)
{
	struct draft_config config = {
		.port = s->reactor->port, .id = s->id, .room = on_room, .arg = s
	};

	if (bytes.len == 0)
		return;
	if (s->draft == NULL)
		s->draft = draft_begin(&config);
	draft_append(s->draft, bytes);
}

/* The line that was taken while it might still have become a header field. */
static void
append_held(struct session *s)
{
	if (!s->header.complete)
		return;
	append_body(s, buf_span(&s->header.held));
	buf_clear(&s->header.held);
}

static void
append(struct session *s, struct span bytes)
{
	size_t n = s->header.complete ? 0 : header_scan_take(&s->header, bytes);

	s->message_octets += bytes.len;
	append_held(s);
	append_body(s, span_skip(bytes, n));
	count_memory(s);
	content_check(s);
}

/* ---- the loop of steps -------------------------------------------------------------------- */

/*
 * May more octets be fed to the machine? If not, the stream is paused; whoever ends the wait
 * resumes it.
 */
static bool
session_ready(struct session *s)
{
	bool ready = !s->waiting && s->delay == NULL && s->stream.queued < OUT_HIGH &&
		     !(s->draft != NULL && draft_full(s->draft));

	if (!ready)
		stream_pause(&s->stream);
	return ready;
}

static void
session_steps(struct session *s, struct span *in)
{
	struct smtp_server_step step;

	while (!s->stream.closing && !s->lingering) {
		size_t taken = smtp_server_take(&s->server, *in, &step);

		*in = span_skip(*in, taken);
		switch (step.action) {
		case SMTP_APPEND:
			append(s, step.bytes);
			break;
		case SMTP_ASK:
			ask(s, step.question);
			break;
		case SMTP_ABORT:
			message_drop(s);
			break;
		case SMTP_CLOSE:
			session_linger(s);
			return;
		case SMTP_START_TLS:		/* never offered: no listener has it */
			assert(false);
			return;
		case SMTP_WAIT:
			if (in->len > 0 && taken > 0 && !s->waiting)
				break;
			if (!session_delayed(s) && !session_flush(s))
				return;
			if (s->commands_seen != s->server.commands || in_content(s))
				set_deadline(s);
			s->commands_seen = s->server.commands;
			session_ready(s);
			return;
		}
		if (!session_ready(s))
			break;
	}
	if (!s->stream.closing && !s->lingering && s->delay == NULL)
		session_flush(s);
}

/*
 * A wait has ended (answer, room, delay): first what the machine still holds, then what is
 * unread.
 */
static void
session_go_on(struct session *s)
{
	struct span none = { 0 };

	if (s->stream.closing || !session_ready(s))
		return;
	session_steps(s, &none);
	if (!s->stream.closing && session_ready(s))
		stream_resume(&s->stream);
}

static size_t
on_read(struct stream *stream, struct span bytes)
{
	struct session *s = CONTAINER_OF(stream, struct session, stream);
	struct span in = bytes;

	if (s->lingering)
		return bytes.len;
	rate_check(s);
	session_steps(s, &in);
	return bytes.len - in.len;
}

static void
on_written(struct stream *stream)
{
	struct session *s = CONTAINER_OF(stream, struct session, stream);

	if (s->lingering)
		session_linger(s);
	else if (s->stream.paused)
		session_go_on(s);
}

static void
on_ended(struct stream *stream, enum stream_end end, int error)
{
	struct session *s = CONTAINER_OF(stream, struct session, stream);
	static const struct reply idle =
		REPLY_INIT(421, 4, 4, 2, "nothing heard for too long, closing");

	if (s->lingering) {
		session_end(s, "closed by us");
	} else if (end == STREAM_TIMEOUT) {
		message_drop(s);
		smtp_server_close(&s->server, &idle);
		stream->told = false;		/* a last word, then the same timer once more */
		s->hurried = true;
		s->why = "timeout";
		session_linger(s);
	} else {
		session_end(s, end == STREAM_EOF ? "closed by client" : uv_strerror(error));
	}
}

static const struct stream_events session_events = {
	.read = on_read, .written = on_written, .ended = on_ended, .closed = on_closed,
};

/* ---- start and stop ----------------------------------------------------------------------- */

void
session_start(struct session *s)
{
	struct span none = { 0 };

	s->began_ms = mono_ms();
	list_add_last(&s->reactor->sessions, &s->node);
	s->reactor->session_count++;
	reactor_config_use(s->reactor, s->config);
	access_greet(&s->config->access, &s->client);
	smtp_server_init(&s->server, s->smtp);
	if (stream_accept(&s->stream, &s->reactor->loop, s->fd, s->client.local,
			  &s->reactor->read_buffer, &session_events) < 0) {
		session_end(s, "no descriptor");
		return;
	}
	smtp_server_greet(&s->server, s->reactor->stopping ? &stopping : NULL);
	session_steps(s, &none);
	if (!s->stream.closing) {
		stream_deadline(&s->stream, s->config->limits.command_timeout_ms);
		stream_resume(&s->stream);
	}
}

void
session_hurry(struct session *s, bool now)
{
	struct span none = { 0 };

	if (s->lingering || s->stream.closing)
		return;
	s->hurried = true;
	if (now) {
		session_end(s, "stopped");
	} else if (smtp_server_idle(&s->server) && !s->accepting) {
		smtp_server_close(&s->server, &stopping);
		session_steps(s, &none);
	}
}
