/*
 * smtp/client_dialogue: the table of states, in the order of a session; perform_x() sends and
 * judge_x() judges the reply. A judge settles fates; the positions are moved by client.c. RFC
 * 5321, 2920, 3030.
 */
#include <inttypes.h>
#include <stddef.h>

#include "mta/smtp/client_commands.h"
#include "mta/smtp/client_private.h"
#include "mta/smtp/data.h"

static void perform_ehlo(struct smtp_client *client, struct run *run);
static void perform_helo(struct smtp_client *client, struct run *run);
static void perform_starttls(struct smtp_client *client, struct run *run);
static void perform_quit(struct smtp_client *client, struct run *run);
static void perform_rset(struct smtp_client *client, struct run *run);
static void perform_mail(struct smtp_client *client, struct run *run);
static void perform_rcpt(struct smtp_client *client, struct run *run);
static void perform_data(struct smtp_client *client, struct run *run);
static void perform_dot(struct smtp_client *client, struct run *run);
static void perform_bdat(struct smtp_client *client, struct run *run);
static void judge_banner(struct smtp_client *client, struct run *run, const struct reply *reply);
static void judge_ehlo(struct smtp_client *client, struct run *run, const struct reply *reply);
static void judge_helo(struct smtp_client *client, struct run *run, const struct reply *reply);
static void judge_starttls(struct smtp_client *client, struct run *run, const struct reply *reply);
static void judge_auth(struct smtp_client *client, struct run *run, const struct reply *reply);
static void judge_quit(struct smtp_client *client, struct run *run, const struct reply *reply);
static void judge_rset(struct smtp_client *client, struct run *run, const struct reply *reply);
static void judge_mail(struct smtp_client *client, struct run *run, const struct reply *reply);
static void judge_rcpt(struct smtp_client *client, struct run *run, const struct reply *reply);
static void judge_data(struct smtp_client *client, struct run *run, const struct reply *reply);
static void judge_message(struct smtp_client *client, struct run *run, const struct reply *reply);

#define TIMEOUT(name) offsetof(struct smtp_client_timeouts, name)

const struct client_state client_states[] = {
	[AT_BANNER] = { "the greeting", STAGE_BANNER, TIMEOUT(banner), NULL, judge_banner },
	[AT_EHLO] = { "the reply to EHLO", STAGE_EHLO, TIMEOUT(ehlo), perform_ehlo, judge_ehlo },
	[AT_HELO] = { "the reply to HELO", STAGE_EHLO, TIMEOUT(ehlo), perform_helo, judge_helo },
	[AT_STARTTLS] = { "the reply to STARTTLS", STAGE_TLS, TIMEOUT(tls), perform_starttls,
			  judge_starttls },
	[AT_TLS] = { "the TLS handshake", STAGE_TLS, TIMEOUT(tls), NULL, NULL },
	[AT_AUTH] = { "the reply to AUTH", STAGE_AUTH, TIMEOUT(auth), NULL, judge_auth },
	[AT_QUIT] = { "the reply to QUIT", STAGE_QUIT, TIMEOUT(quit), perform_quit, judge_quit },
	[AT_RSET] = { "the reply to RSET", STAGE_MAIL, TIMEOUT(mail), perform_rset, judge_rset },
	[AT_MAIL] = { "the reply to MAIL", STAGE_MAIL, TIMEOUT(mail), perform_mail, judge_mail },
	[AT_RCPT] = { "the reply to RCPT", STAGE_RCPT, TIMEOUT(rcpt), perform_rcpt, judge_rcpt },
	[AT_DATA] = { "the reply to DATA", STAGE_DATA, TIMEOUT(data), perform_data, judge_data },
	[AT_DOT] = { "the reply to the final dot", STAGE_DOT, TIMEOUT(dot), perform_dot,
		     judge_message },
	[AT_BDAT] = { "the reply to BDAT", STAGE_DOT, TIMEOUT(dot), perform_bdat, judge_message },
};

/* ---- the session's own commands ----------------------------------------------------------- */

void
client_session_sends(struct smtp_client *client, enum state state)
{
	struct run *session = &client->p->session;

	client_states[state].perform(client, session);
	session->receiver.state = state;
	session->sender.state = AT_END;
}

/* The host does not want us: take leave, without waiting for its answer. */
static void
session_refused(struct smtp_client *client, enum smtp_stage stage, const struct reply *reply)
{
	if (reply_class(reply) < 4) {
		client_fail_protocol(client, stage, SPAN("unexpected reply"), reply);
		return;
	}
	client_fail(client, stage, reply);
	buf_append(&client->out, SPAN("QUIT\r\n"));
}

static void
judge_banner(struct smtp_client *client, struct run *run, const struct reply *reply)
{
	(void)run;
	if (reply_class(reply) != 2) {
		session_refused(client, STAGE_BANNER, reply);
		return;
	}
	client->greeting_name = arena_copy(&client->arena, client_greeting_name(reply->text));
	client_session_sends(client, AT_EHLO);
}

static void
perform_ehlo(struct smtp_client *client, struct run *run)
{
	(void)run;
	buf_printf(&client->out, "EHLO %.*s\r\n", SPAN_FMT(client->config->ehlo_name));
}

/* The host cannot do what it must: said by us, not by it. */
static void
unfit(struct smtp_client *client, enum smtp_stage stage, struct span why)
{
	struct reply reply = { 0, { 4, 7, 4 }, why };

	client_fail(client, stage, &reply);
	buf_append(&client->out, SPAN("QUIT\r\n"));
}

/* EHLO has had its last answer. */
static void
greeted(struct smtp_client *client)
{
	struct run *session = &client->p->session;

	if (!client->want_auth) {
		session->receiver.state = AT_END;
	} else if (client->features.auth.len == 0) {
		unfit(client, STAGE_AUTH, SPAN("the host does not offer AUTH"));
	} else {
		session->receiver.state = AT_AUTH;
		client->auth_reply = (struct reply){ 0 };
		client->p->auth_due = true;
	}
}

static void
judge_auth(struct smtp_client *client, struct run *run, const struct reply *reply)
{
	(void)run;
	client->auth_reply = *reply;
	client->p->auth_due = true;
}

static void
judge_ehlo(struct smtp_client *client, struct run *run, const struct reply *reply)
{
	(void)run;
	if (reply_class(reply) == 5) {
		client_session_sends(client, AT_HELO);
	} else if (reply_class(reply) != 2) {
		session_refused(client, STAGE_EHLO, reply);
	} else {
		client_read_features(reply->text, &client->features);
		client->features.requiretls = client->features.requiretls && client->tls;
		client->features.auth = arena_copy(&client->arena, client->features.auth);
		client->p->pipelining = client->features.pipelining && client->config->pipelining;
		if (client->tls || client->want_tls == CLIENT_TLS_NEVER)
			greeted(client);
		else if (client->features.starttls)
			client_session_sends(client, AT_STARTTLS);
		else if (client->want_tls == CLIENT_TLS_MUST)
			unfit(client, STAGE_TLS, SPAN("the host does not offer STARTTLS"));
		else
			greeted(client);
	}
}

static void
perform_helo(struct smtp_client *client, struct run *run)
{
	(void)run;
	buf_printf(&client->out, "HELO %.*s\r\n", SPAN_FMT(client->config->ehlo_name));
}

static void
judge_helo(struct smtp_client *client, struct run *run, const struct reply *reply)
{
	(void)run;
	if (reply_class(reply) != 2)
		session_refused(client, STAGE_EHLO, reply);
	else if (client->want_tls == CLIENT_TLS_MUST && !client->tls)
		unfit(client, STAGE_TLS, SPAN("the host does not know EHLO, and so no STARTTLS"));
	else
		greeted(client);
}

static void
perform_starttls(struct smtp_client *client, struct run *run)
{
	(void)run;
	buf_append(&client->out, SPAN("STARTTLS\r\n"));
}

/* Refused: no further in plain text in this session either; the owner may begin another one. */
static void
judge_starttls(struct smtp_client *client, struct run *run, const struct reply *reply)
{
	if (reply_class(reply) != 2) {
		session_refused(client, STAGE_TLS, reply);
		return;
	}
	run->receiver.state = AT_TLS;
	client->p->tls_due = true;
}

static void
perform_quit(struct smtp_client *client, struct run *run)
{
	(void)run;
	buf_append(&client->out, SPAN("QUIT\r\n"));
}

static void
judge_quit(struct smtp_client *client, struct run *run, const struct reply *reply)
{
	(void)run;
	(void)reply;
	client->failure_stage = STAGE_QUIT;
	client->p->closed = true;
}

/* ---- a transaction ------------------------------------------------------------------------ */

static void
perform_rset(struct smtp_client *client, struct run *run)
{
	(void)run;
	buf_append(&client->out, SPAN("RSET\r\n"));
}

static void
judge_rset(struct smtp_client *client, struct run *run, const struct reply *reply)
{
	(void)client;
	(void)run;
	(void)reply;			/* if it did not help, MAIL will be told so */
}

static void
perform_mail(struct smtp_client *client, struct run *run)
{
	bool binary = run->bdat && run->t->envelope->body == BODY_BINARYMIME;

	client_write_mail(run->t, &client->features, binary, run->convert, &client->out);
	run->t->started = true;
	run->t->dsn_passed = client->features.dsn;
	run->t->by_passed = client->features.deliverby;
}

static void
judge_mail(struct smtp_client *client, struct run *run, const struct reply *reply)
{
	if (reply_class(reply) == 2)
		run->mail_ok = true;
	else if (reply_class(reply) == 3)
		client_fail_protocol(client, STAGE_MAIL, SPAN("unexpected reply to MAIL"), reply);
	else
		client_settle_all(run, client_fate_of(reply), STAGE_MAIL, reply);
}

static void
perform_rcpt(struct smtp_client *client, struct run *run)
{
	client_write_rcpt(run->t, run->t->recipients[run->sender.recipient].recipient,
			  &client->features, &client->out);
}

/*
 * RFC 5321 §4.5.3.1.10. Both codes also say "mailbox full", which is the recipient's own matter:
 * where there is a status, it tells which is meant.
 */
static bool
too_many_recipients(const struct reply *reply)
{
	return (reply->code == 452 || reply->code == 552) &&
	       (reply->status.klass == 0 || reply->status.subject == 3 ||
		reply->status.subject == 5);
}

static void
refuse_for_number(struct smtp_client *client, struct run *run, const struct reply *reply)
{
	enum smtp_fate fate = run->accepted > 0 ? FATE_NOT_TRIED : FATE_TEMPORARY;
	struct reply kept = client_keep_reply(run->t->arena, reply);
	size_t i = run->receiver.recipient;

	kept.code = 452;
	if (kept.status.klass != 0)
		kept.status.klass = 4;
	client_settle(run, i, fate, STAGE_RCPT, kept);
	if (fate == FATE_NOT_TRIED && !client->p->pipelining) {
		/* nor need the others be asked; pipelined ones are, and each has its own reply */
		while (++i < run->count)
			client_settle(run, i, fate, STAGE_RCPT, kept);
		run->count = run->receiver.recipient + 1;
		run->sender = client_position_after(run, run->receiver);
	}
}

static void
judge_rcpt(struct smtp_client *client, struct run *run, const struct reply *reply)
{
	size_t i = run->receiver.recipient;

	if (reply_class(reply) == 3) {
		client_fail_protocol(client, STAGE_RCPT, SPAN("unexpected reply to RCPT"), reply);
	} else if (!run->mail_ok) {
		return;				/* the reply to MAIL was the outcome */
	} else if (reply_class(reply) == 2) {
		run->t->recipients[i].stage = STAGE_DATA;
		run->accepted++;
	} else if (too_many_recipients(reply)) {
		refuse_for_number(client, run, reply);
	} else {
		client_settle(run, i, client_fate_of(reply), STAGE_RCPT,
			      client_keep_reply(run->t->arena, reply));
	}
}

static void
start_body(struct smtp_client *client, struct run *run)
{
	client->current = run->t;
	client_begin_body(client, run);
	run->streaming = true;
}

static void
perform_data(struct smtp_client *client, struct run *run)
{
	(void)run;
	buf_append(&client->out, SPAN("DATA\r\n"));
}

static void
judge_data(struct smtp_client *client, struct run *run, const struct reply *reply)
{
	if (reply_class(reply) == 2) {
		client_fail_protocol(client, STAGE_DATA, SPAN("unexpected reply to DATA"), reply);
	} else if (reply_class(reply) != 3) {
		client_settle_all(run, client_fate_of(reply), STAGE_DATA, reply);
	} else if (run->accepted > 0) {
		start_body(client, run);
	/* the server is willing though nobody is left: RFC 2920 §3.1 */
	} else {
		perform_dot(client, run);
		run->sender.state = AT_END;
	}
}

static void
perform_dot(struct smtp_client *client, struct run *run)
{
	(void)run;
	data_encode_end(true, &client->out);
}

static void
perform_bdat(struct smtp_client *client, struct run *run)
{
	buf_printf(&client->out, "BDAT %" PRIu64 " LAST\r\n", run->t->size);
	start_body(client, run);
}

static void
judge_message(struct smtp_client *client, struct run *run, const struct reply *reply)
{
	if (reply_class(reply) == 3 && run->accepted > 0) {
		client_fail_protocol(client, STAGE_DOT, SPAN("unexpected reply to the message"),
				     reply);
		return;
	}
	run->over = !run->bdat || reply_class(reply) == 2;
	client_settle_all(run, client_fate_of(reply), STAGE_DOT, reply);
}
