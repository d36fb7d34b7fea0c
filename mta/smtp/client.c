/*
 * smtp/client: see client.h; client_private.h tells which part is where.
 *
 * A run is a transaction on its way (or the session's own commands). It has two positions: the
 * sender's, which is the next command to go out, and the receiver's, whose reply is next. They
 * are equal when nothing is awaited. Without PIPELINING the sender waits for the receiver; with
 * it, it goes on as far as RFC 2920 allows. Two runs at most: one whose final reply is awaited,
 * and the next, which the sender is at already.
 */
#include "mta/smtp/client.h"

#include <assert.h>
#include <stdlib.h>

#include "mta/smtp/client_commands.h"
#include "mta/smtp/client_private.h"

/* ---- positions ---------------------------------------------------------------------------- */

struct run *
client_streaming_run(struct smtp_client_private *p)
{
	for (size_t i = 0; i < p->run_count; i++)
		if (p->runs[i].streaming && !p->runs[i].finished)
			return &p->runs[i];
	return NULL;
}

struct position
client_position_after(const struct run *run, struct position at)
{
	size_t next = at.state == AT_RCPT ? at.recipient + 1 : 0;

	switch (at.state) {
	case AT_RSET:
		return (struct position){ AT_MAIL, 0 };
	case AT_MAIL:
	case AT_RCPT:
		if (next < run->count)
			return (struct position){ AT_RCPT, next };
		return (struct position){ run->bdat ? AT_BDAT : AT_DATA, 0 };
	case AT_DATA:
		return (struct position){ AT_DOT, 0 };
	default:
		return (struct position){ AT_END, 0 };
	}
}

/* The run whose reply is next, or NULL: nothing is awaited. */
static struct run *
awaited_run(struct smtp_client_private *p)
{
	if (run_awaits(&p->session))
		return &p->session;
	for (size_t i = 0; i < p->run_count; i++)
		if (run_awaits(&p->runs[i]))
			return &p->runs[i];
	return NULL;
}

static bool
may_send(const struct smtp_client_private *p, const struct run *run)
{
	bool answered = run == &p->runs[0] && !run_awaits(run);

	if (run->finished || run->streaming)
		return false;
	switch (run->sender.state) {
	case AT_DOT:			/* sent by the end of the body, or by judge_data */
	case AT_END:
		return false;
	/* its bytes cannot be taken back: only once somebody wants them */
	case AT_BDAT:
		return answered && run->accepted > 0;
	default:
		return p->pipelining || answered;
	}
}

static void
send_what_may_go(struct smtp_client *client)
{
	struct smtp_client_private *p = client->p;

	for (size_t i = 0; i < p->run_count; i++) {
		struct run *run = &p->runs[i];

		while (may_send(p, run)) {
			client_states[run->sender.state].perform(client, run);
			if (!run->streaming)
				run->sender = client_position_after(run, run->sender);
		}
	}
}

/* ---- replies ------------------------------------------------------------------------------ */

/*
 * A reply to nothing. In the middle of a message a server may say why it will not have it and
 * hang up: that is the outcome, for without its end the message cannot have been taken. Anything
 * else cannot be understood.
 */
static void
on_unsolicited(struct smtp_client *client, const struct reply *reply)
{
	struct smtp_client_private *p = client->p;
	struct run *run = client_streaming_run(p);
	enum smtp_stage stage = run		   ? STAGE_BODY
				: p->run_count > 0 ? client_stage_of(&p->runs[0])
						   : STAGE_QUIT;

	if (reply->code == 421) {
		client_fail(client, stage, reply);
		return;
	}
	if (run != NULL && !run->handed_over && reply_class(reply) >= 4)
		client_settle_all(run, client_fate_of(reply), STAGE_BODY, reply);
	client_fail_protocol(client, stage, SPAN("the host spoke before it was asked"), reply);
}

static void
on_reply(struct smtp_client *client, const struct reply *reply)
{
	struct smtp_client_private *p = client->p;
	struct run *run = awaited_run(p);
	enum state state;

	client->replies++;
	if (p->unsolicited || run == NULL) {
		on_unsolicited(client, reply);
		return;
	}
	state = run->receiver.state;
	if (reply->code == 421 && state != AT_QUIT)
		client_fail(client, client_states[state].stage, reply);
	else
		client_states[state].judge(client, run, reply);
	if (p->closed || run->t == NULL)
		return;
	run->receiver = client_position_after(run, run->receiver);
	if (run->pending == 0 && !run_awaits(run))
		client_finish(client, run);
	send_what_may_go(client);
}

/* Nothing more can be understood, or will come. */
static void
session_lost(struct smtp_client *client, const struct reply *reply)
{
	struct smtp_client_private *p = client->p;
	struct run *run = awaited_run(p);

	if (run == NULL)
		run = client_streaming_run(p);
	if (run == &p->session && run->receiver.state == AT_QUIT)
		client_states[AT_QUIT].judge(client, run, reply);	/* all was said */
	else
		client_fail(client, run ? client_stage_of(run) : STAGE_QUIT, reply);
}

static size_t
take_reply(struct smtp_client *client, struct span in)
{
	struct smtp_client_private *p = client->p;
	struct reply reply;
	size_t taken;

	if (reply_parser_empty(&p->parser))
		p->unsolicited = awaited_run(p) == NULL;
	switch (reply_parser_take(&p->parser, in, &taken, &reply)) {
	case REPLY_MORE:
		break;
	case REPLY_BAD:
		session_lost(client, &reply);
		taken = in.len;
		break;
	case REPLY_DONE:
		on_reply(client, &reply);
		break;
	}
	return taken;
}

/* The first that has ended, taken off the list; NULL: none has. */
static struct smtp_transaction *
take_finished(struct smtp_client *client)
{
	struct smtp_client_private *p = client->p;

	for (size_t i = 0; i < p->run_count; i++) {
		struct smtp_transaction *t = p->runs[i].t;

		if (!p->runs[i].finished)
			continue;
		if (i == 0)
			p->runs[0] = p->runs[1];
		p->run_count--;
		if (client->current == t)
			client->current = NULL;
		return t;
	}
	return NULL;
}

static bool
is_idle(const struct smtp_client_private *p)
{
	return !p->closed && p->run_count == 0 && p->session.receiver.state == AT_END;
}

/* As many transactions as the host wants to have in one session. */
static bool
had_enough(const struct smtp_client *client)
{
	return client->features.limit_mail > 0 &&
	       client->transactions >= client->features.limit_mail;
}

static enum smtp_client_event
what_now(struct smtp_client *client)
{
	struct smtp_client_private *p = client->p;
	struct run *run = client_streaming_run(p);

	if (run != NULL && !run->body_told) {
		run->body_told = true;
		return CLIENT_BODY;
	}
	if (p->tls_due) {
		p->tls_due = false;
		return CLIENT_START_TLS;
	}
	if (p->auth_due) {
		p->auth_due = false;
		return CLIENT_AUTH;
	}
	if (is_idle(p) && (p->quitting || had_enough(client))) {
		client_session_sends(client, AT_QUIT);
		return CLIENT_WAIT;
	}
	if (is_idle(p) && !p->ready_told) {
		p->ready_told = true;
		return CLIENT_READY;
	}
	return CLIENT_WAIT;
}

size_t
smtp_client_take(struct smtp_client *client, struct span in, enum smtp_client_event *event,
		 struct smtp_transaction **done)
{
	size_t taken = 0;

	for (;;) {
		*done = take_finished(client);
		if (*done != NULL) {
			*event = CLIENT_DONE;
			return taken;
		}
		if (client->p->closed) {
			*event = CLIENT_CLOSED;
			return in.len;
		}
		/* what came behind the 220 was not said by whom the handshake will show */
		if (client->p->tls_due)
			taken = in.len;
		if (taken == in.len || client->p->auth_due)
			break;
		/* before anything is begun: what is left may be a reply that nobody asked for */
		taken += take_reply(client, span_skip(in, taken));
	}
	*event = what_now(client);
	return taken;
}

/* ---- called from outside ------------------------------------------------------------------ */

void
smtp_client_init(struct smtp_client *client, const struct smtp_client_config *config)
{
	*client = (struct smtp_client){ .config = config, .p = xcalloc(1, sizeof(*client->p)) };
	reply_parser_init(&client->p->parser, config->max_reply);
	client->p->session.receiver.state = AT_BANNER;
	client->p->session.sender.state = AT_END;
}

void
smtp_client_free(struct smtp_client *client)
{
	if (client->p != NULL) {
		reply_parser_free(&client->p->parser);
		client_drop_converter(client);
	}
	free(client->p);
	arena_free(&client->arena);
	buf_free(&client->out);
	*client = (struct smtp_client){ 0 };
}

void
smtp_client_tls_done(struct smtp_client *client)
{
	assert(client->p->session.receiver.state == AT_TLS ||
	       client->p->session.receiver.state == AT_BANNER);
	client->tls = true;
	client->features = (struct smtp_features){ 0 };
	if (client->p->session.receiver.state == AT_TLS)
		client_session_sends(client, AT_EHLO);
}

void
smtp_client_auth_line(struct smtp_client *client, struct span line)
{
	assert(client->p->session.receiver.state == AT_AUTH);
	buf_append(&client->out, line);
}

void
smtp_client_auth_done(struct smtp_client *client)
{
	assert(client->p->session.receiver.state == AT_AUTH);
	client->p->session.receiver.state = AT_END;
}

void
smtp_client_auth_failed(struct smtp_client *client, const struct reply *reply)
{
	client_fail(client, STAGE_AUTH, reply);
	buf_append(&client->out, SPAN("QUIT\r\n"));
}

bool
smtp_client_can_queue(const struct smtp_client *client)
{
	const struct smtp_client_private *p = client->p;

	return p->pipelining && !p->closed && !p->quitting && p->run_count == 1 &&
	       !had_enough(client) && !p->runs[0].finished && p->runs[0].handed_over &&
	       p->runs[0].sender.state == AT_END;
}

struct reply
smtp_client_refusal(const struct smtp_client *client, const struct smtp_transaction *t)
{
	return client_refusal(t, &client->features,
			      client->features.chunking && client->config->chunking);
}

static void
set_up_recipients(struct smtp_client *client, struct run *run)
{
	struct smtp_transaction *t = run->t;

	run->count = client_recipients_allowed(t, &client->features);
	run->pending = run->count;
	for (size_t i = 0; i < t->recipient_count; i++) {
		t->recipients[i].fate = i < run->count ? FATE_PENDING : FATE_NOT_TRIED;
		t->recipients[i].stage = i < run->count ? STAGE_MAIL : STAGE_RCPT;
		t->recipients[i].reply = (struct reply){ 0 };
	}
}

/* It ends before it began, by client_settle_all() or with its recipients not tried. */
static bool
ends_at_once(struct smtp_client *client, struct run *run, bool allowed, bool chunking)
{
	struct reply refusal = client_refusal(run->t, &client->features, chunking);
	struct reply leaving = { .text = SPAN("the session was about to end") };

	if (!allowed)
		client_settle_all(run, FATE_NOT_TRIED, STAGE_QUIT, &leaving);
	else if (refusal.code != 0)
		client_settle_all(run, FATE_PERMANENT, STAGE_MAIL, &refusal);
	if (run->pending == 0)
		client_finish(client, run);
	return run->finished;
}

/* BINARYMIME has lines that are none, so it is not converted but refused (RFC 3030 §3). */
static bool
must_convert(const struct smtp_client *client, const struct smtp_transaction *t)
{
	return client->config->convert_8bit && t->needs_8bit && !client->features.eightbitmime &&
	       t->envelope->body != BODY_BINARYMIME;
}

void
smtp_client_send(struct smtp_client *client, struct smtp_transaction *t)
{
	struct smtp_client_private *p = client->p;
	bool allowed = is_idle(p) || smtp_client_can_queue(client);
	bool behind_bdat = p->run_count == 1 && p->runs[0].bdat;
	bool chunking = client->features.chunking && client->config->chunking;
	struct run *run = &p->runs[p->run_count];

	/* we may be taking leave, and the owner not know it yet */
	assert(allowed || p->run_count == 0);
	assert(t->recipient_count > 0);
	t->started = t->lost = t->dsn_passed = t->by_passed = false;
	t->final_reply_host = arena_copy(t->arena, client->greeting_name);
	*run = (struct run){ .t = t, .convert = must_convert(client, t) };
	run->bdat = chunking && !run->convert;	/* a chunk's size must be known */
	set_up_recipients(client, run);
	p->run_count++;
	p->ready_told = false;
	if (ends_at_once(client, run, allowed, chunking))
		return;
	/* A failed BDAT leaves its transaction open, and its reply is not here yet: RFC 3030 §2. */
	run->sender.state = run->receiver.state = p->needs_rset || behind_bdat ? AT_RSET : AT_MAIL;
	p->needs_rset = false;
	client->current = t;
	client->transactions++;
	send_what_may_go(client);
}

void
smtp_client_quit(struct smtp_client *client)
{
	client->p->quitting = true;
	if (is_idle(client->p))
		client_session_sends(client, AT_QUIT);
}

void
smtp_client_lost(struct smtp_client *client, struct span text)
{
	struct reply reply = { .text = text };

	session_lost(client, &reply);
}

int64_t
smtp_client_timeout_ms(const struct smtp_client *client)
{
	const struct smtp_client_timeouts *timeouts = &client->config->timeouts;
	struct run *run = awaited_run(client->p);
	int64_t ms;

	if (client->p->closed || (run == NULL && client_streaming_run(client->p) == NULL))
		return -1;
	if (run == NULL)
		return timeouts->block;
	memcpy(&ms, (const char *)timeouts + client_states[run->receiver.state].timeout,
	       sizeof(ms));
	return ms;
}

const char *
smtp_client_waiting_for(const struct smtp_client *client)
{
	struct run *run = awaited_run(client->p);

	if (client->p->closed)
		return "the end of the connection";
	if (run != NULL)
		return client_states[run->receiver.state].name;
	return client_streaming_run(client->p) ? "room to send the message" : "the next message";
}
