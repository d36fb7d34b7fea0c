/*
 * receiver: see receiver.h. In the order of a session: start → on_read (steps of the machine) →
 * questions → accept (receiver_message.c) → reply → end. One exit: session_end().
 */
#include "mta/inbound/receiver_private.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/inbound/bounces.h"
#include "mta/inbound/gate.h"
#include "mta/inbound/login.h"

enum { LINGER_MS = 2000, ERROR_DELAY_MAX_MS = 5000, OUT_HIGH = 65536, RATE_AFTER_MS = 60000 };

static void session_steps(struct session *s, struct span *in);

static const struct reply stopping =
	REPLY_INIT(421, 4, 3, 2, "the server is stopping, try again later");

/* ---- the end ------------------------------------------------------------------------------ */

static void
log_tls(const struct session *s, struct log_line *l)
{
	struct tls_facts facts;

	if (s->stream.tls == NULL)
		return;
	if (s->server.tls) {
		tls_facts(s->stream.tls, &facts);
		log_str(l, "tls", facts.version);
		log_str(l, "cipher", facts.cipher);
	} else {
		log_str(l, "tls", "none");
	}
	if (tls_error(s->stream.tls) != NULL)
		log_str(l, "tls-error", tls_error(s->stream.tls));
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
	log_tls(s, &l);
	if (buf_len(&s->user) > 0)
		log_span(&l, "user", buf_span(&s->user));
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

bool
session_gone(struct session *s)
{
	if (!s->closed || s->accepting || s->outcomes > 0)
		return false;
	list_remove(&s->node);
	s->reactor->session_count--;
	reactor_config_release(s->reactor, s->config);
	gate_session_ended(s);
	return true;
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
	lookup_cancel(s->lookup);
	s->lookup = NULL;
	if (!s->accepting)
		message_drop(s);
	login_drop(s);
	session_log(s);
	stream_close(&s->stream, false);
}

void
session_free(struct session *s)
{
	assert(!s->accepting && s->draft == NULL);
	smtp_server_free(&s->server);
	buf_free(&s->stored_header);
	buf_free(&s->user);
	bounces_free(s);
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
	stream_shut(&s->stream);
	stream_deadline(&s->stream, LINGER_MS);
}

static bool
in_content(const struct session *s)
{
	return s->server.state == SERVER_DATA || s->server.state == SERVER_BDAT;
}

/* How long the client may be silent now: less when most connections are taken. */
static int64_t
patience(const struct session *s)
{
	const struct limits *limits = &s->config->limits;
	int64_t ms = in_content(s) ? limits->data_timeout_ms : limits->command_timeout_ms;

	if (s->client.trusted || s->reactor->session_count < s->crowd)
		return ms;
	return ms < limits->stress_timeout_ms ? ms : limits->stress_timeout_ms;
}

static void
set_deadline(struct session *s)
{
	if (!s->lingering)
		stream_deadline(&s->stream, s->accepting ? -1 : patience(s));
}

/* Those that are here already must be quick from now on, too. */
static void
hurry_strangers(struct reactor *r)
{
	LIST_EACH(struct session, s, &r->sessions, node) {
		int64_t left = s->stream.deadline_ms - (int64_t)uv_now(&r->loop);

		if (!s->stream.closing && !s->lingering && !s->accepting && left > patience(s) &&
		    s->server.state != SERVER_GREETING)
			set_deadline(s);
	}
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

/* ---- the loop of steps -------------------------------------------------------------------- */

/*
 * What is swallowed counts too: a peer may be slow for a minute (or for as long as it may be
 * silent), not for hours.
 */
static void
rate_check(struct session *s)
{
	const struct limits *limits = &s->config->limits;
	int64_t ms = (int64_t)uv_now(&s->reactor->loop) - s->data_began_ms;
	struct reply slow = REPLY(421, 4, 4, 2, "too slow, try again later");

	if (!in_content(s) || (ms < RATE_AFTER_MS && ms < limits->data_timeout_ms))
		return;
	if (s->stream.octets_in - s->data_began_octets >= limits->data_rate * (uint64_t)ms / 1000)
		return;
	message_drop(s);
	smtp_server_close(&s->server, &slow);
}

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

/* What was read behind STARTTLS is gone: nothing said in plain counts after it. */
static void
session_start_tls(struct session *s)
{
	struct tls *tls = tls_server_new(s->settings->tls_context, s->reactor->index);

	stream_deadline(&s->stream, s->config->limits.tls_timeout_ms);
	stream_start_tls(&s->stream, tls);
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
			message_append(s, step.bytes);
			break;
		case SMTP_ASK:
			message_ask(s, step.question);
			break;
		case SMTP_ABORT:
			message_drop(s);
			break;
		case SMTP_CLOSE:
			session_linger(s);
			return;
		case SMTP_START_TLS:
			if (session_flush(s))
				session_start_tls(s);
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
void
session_go_on(struct session *s)
{
	struct span none = { 0 };

	if (s->stream.closing || !session_ready(s))
		return;
	session_steps(s, &none);
	if (!s->stream.closing && session_ready(s))
		stream_resume(&s->stream);
}

/* The queue has answered; the peer may have left meanwhile. */
void
session_answered(struct session *s, const struct reply *reply)
{
	if (s->closed || s->stream.closing) {
		session_gone(s);
		return;
	}
	smtp_server_answer(&s->server, reply);
	if (s->hurried)
		smtp_server_close(&s->server, &stopping);
	set_deadline(s);
	session_go_on(s);
}

static size_t
on_read(struct stream *stream, struct span bytes)
{
	struct session *s = CONTAINER_OF(stream, struct session, stream);
	struct span in = bytes;

	if (s->lingering)
		return bytes.len;
	rate_check(s);
	s->server.now_ms = wall_ms();
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

/* To those who have waited for it. */
static void
session_greet(struct session *s)
{
	struct span none = { 0 };

	smtp_server_greet(&s->server, s->reactor->stopping ? &stopping : NULL);
	session_steps(s, &none);
	if (!s->stream.closing)
		set_deadline(s);
	if (s->reactor->session_count == s->crowd)
		hurry_strangers(s->reactor);
}

static void
on_secured(struct stream *stream)
{
	struct session *s = CONTAINER_OF(stream, struct session, stream);

	smtp_server_tls_done(&s->server);
	login_offer(s);
	if (s->server.state == SERVER_GREETING)
		session_greet(s);
	else
		stream_deadline(stream, s->config->limits.command_timeout_ms);
}

static bool
is_shaking(const struct session *s)
{
	return s->stream.tls != NULL && tls_state(s->stream.tls) == TLS_SHAKING;
}

static void
on_ended(struct stream *stream, enum stream_end end, int error)
{
	struct session *s = CONTAINER_OF(stream, struct session, stream);
	static const struct reply idle =
		REPLY_INIT(421, 4, 4, 2, "nothing heard for too long, closing");

	if (s->lingering) {
		session_end(s, "closed by us");
	} else if (end == STREAM_TLS_FAILED) {
		session_end(s, "tls failed");
	} else if (is_shaking(s)) {
		session_end(s, end == STREAM_TIMEOUT ? "timeout of the tls handshake" :
						       "closed by client in the tls handshake");
	} else if (end == STREAM_TIMEOUT && s->server.state == SERVER_GREETING) {
		stream->told = false;
		session_greet(s);
		stream_resume(stream);
	} else if (end == STREAM_TIMEOUT) {
		message_drop(s);
		smtp_server_close(&s->server, &idle);
		stream->told = false;		/* a last word, then the same timer once more */
		s->hurried = true;
		s->why = "timeout";
		session_linger(s);
		stream_resume(stream);		/* to see that the peer has read it and left */
	} else {
		session_end(s, end == STREAM_EOF ? "closed by client" : uv_strerror(error));
	}
}

static const struct stream_events session_events = {
	.read = on_read, .secured = on_secured, .written = on_written, .ended = on_ended,
	.closed = on_closed,
};

/* ---- start and stop ----------------------------------------------------------------------- */

/*
 * Many programs that send spam do not wait for the greeting: where strangers are kept waiting for
 * it, what they say meanwhile gives them away. Mail servers wait for 5 minutes. Without a delay
 * only what is here already does. -1: greet now.
 */
static int64_t
greet_delay(const struct session *s)
{
	uv_os_fd_t fd;
	char octet;

	if (s->settings == NULL || s->settings->tls_on_connect || s->client.trusted ||
	    s->reactor->stopping)
		return -1;
	if (s->settings->greet_delay_ms > 0)
		return s->settings->greet_delay_ms;
	if (uv_fileno(&s->stream.h.handle, &fd) == 0 &&
	    recv(fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
		return s->config->limits.command_timeout_ms;
	return -1;
}

void
session_start(struct session *s)
{
	int64_t delay;

	s->began_ms = mono_ms();
	list_add_last(&s->reactor->sessions, &s->node);
	s->reactor->session_count++;
	reactor_config_use(s->reactor, s->config);
	access_greet(&s->config->access, &s->client);
	smtp_server_init(&s->server, s->smtp);
	s->server.privileged = s->client.trusted;
	if (stream_accept(&s->stream, &s->reactor->loop, s->fd, s->client.local,
			  &s->reactor->scratch, &session_events) < 0) {
		session_end(s, "no descriptor");
		return;
	}
	login_offer(s);
	delay = greet_delay(s);
	if (s->settings != NULL && s->settings->tls_on_connect)
		session_start_tls(s);
	else if (delay >= 0)
		stream_deadline(&s->stream, delay);
	else
		session_greet(s);
	if (!s->stream.closing)
		stream_resume(&s->stream);
}

void
session_hurry(struct session *s, bool now)
{
	struct span none = { 0 };

	if (s->lingering || s->stream.closing)
		return;
	s->hurried = true;
	if (now || is_shaking(s)) {
		session_end(s, "stopped");
	} else if (smtp_server_idle(&s->server) && !s->accepting) {
		smtp_server_close(&s->server, &stopping);
		session_steps(s, &none);
	}
}
