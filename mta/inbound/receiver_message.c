/*
 * receiver_message: the message of a session: the questions that MAIL, RCPT, DATA and the final dot
 * ask, its content on the way to the queue, and the one place from which 250 is said to it.
 */
#include "mta/inbound/receiver_private.h"

#include <assert.h>
#include <stdatomic.h>

#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/base/log.h"
#include "mta/inbound/allowance.h"
#include "mta/inbound/bounces.h"
#include "mta/inbound/gate.h"
#include "mta/inbound/login.h"
#include "mta/inbound/pools.h"
#include "mta/inbound/verdict.h"
#include "mta/reactor/suppressed.h"
#include "mta/smtp/received.h"
#include "mta/smtp/submission.h"
#include "policy/site_key.h"

static const struct reply no_memory =
	REPLY_INIT(452, 4, 3, 1, "too much is being received, try again later");
static const struct reply no_disk = REPLY_INIT(452, 4, 3, 1, "the queue is full, try again later");
static const struct reply not_yours =
	REPLY_INIT(553, 5, 7, 1, "you may not send under this address");
static const struct reply no_more_recipients =
	REPLY_INIT(452, 4, 7, 1, "too many recipients for this user, try again later");
static const struct reply sender_good = REPLY_INIT(250, 2, 1, 0, "sender ok");
static const struct reply poisoned =
	REPLY_INIT(421, 4, 3, 0, "the queue has failed, try again later");

void
message_drop(struct session *s)
{
	if (s->draft != NULL)
		draft_abort(s->draft);
	s->draft = NULL;
	bounces_drop_body(s);
	header_scan_free(&s->header);
	s->reactor->memory_used -= s->memory;
	s->memory = 0;
	s->id = 0;
}

/* ---- accept: the message is complete ------------------------------------------------------ */

/* "TLSv1.3 TLS_AES_256_GCM_SHA384" */
static struct span
tls_text(struct session *s)
{
	struct tls_facts facts;

	if (s->stream.tls == NULL)
		return (struct span){ 0 };
	tls_facts(s->stream.tls, &facts);
	return arena_printf(&s->server.arena, "%s %s", facts.version, facts.cipher);
}

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
	if (s->server.tls)
		log_span(&l, "tls", tls_text(s));
	if (buf_len(&s->user) > 0)
		log_span(&l, "user", buf_span(&s->user));
	if (s->lanes[0].tenant.len > 0)
		log_span(&l, "tenant", s->lanes[0].tenant);
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

/*
 * The only place from which 250 is said to a message: its commit has returned (invariant 1). (What
 * comes back and goes to nobody has nothing to commit: see bounces.c.)
 */
static void
on_accepted(struct queue_op *op)
{
	struct session *s = CONTAINER_OF(op, struct session, accept.op);
	struct reply reply = accept_reply(s, op->result);

	s->accepting = false;
	s->waiting = false;
	if (op->result == 0) {
		s->accepted++;
		atomic_fetch_add_explicit(&s->reactor->accepted, 1, memory_order_relaxed);
		accept_log(s);
	} else {
		log_message(LOG_WARNING, "accept-failed", "the queue refused a message: %s",
			    strerror(-op->result));
	}
	message_drop(s);
	session_answered(s, &reply);
}

/* Does its author hand it in, and not a server? */
static bool
is_submission(const struct session *s)
{
	return s->settings == NULL || s->settings->submission;
}

/* How it asks to be carried is known now: its lanes are of their own then. */
static void
heed_wish(struct session *s, struct queue_accept *accept)
{
	enum route_wish wish;

	if (s->server.envelope.requiretls)
		accept->flags |= MESSAGE_REQUIRETLS;
	if (verdict_tls_optional(buf_span(&s->header.text)))
		accept->flags |= MESSAGE_TLS_OPTIONAL;
	wish = message_wish(accept->flags, s->server.envelope.reverse_path);
	for (size_t i = 0; wish != WISH_NONE && i < s->server.envelope.recipient_count; i++)
		s->lanes[i].route = route_label_with(s->lanes[i].route, wish, &s->server.arena);
}

void
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
		.tls = s->server.tls,
		.auth = s->client.authenticated,
		.tls_text = tls_text(s),
		.hidden = s->settings != NULL && s->settings->hide_client,
		.local = s->client.local,
		.uid = s->uid,
	};

	struct submission_facts completing = { facts.hostname, facts.id, facts.now_ms };
	bool has_priority = message_heed_wishes(s);

	facts.priority = s->server.envelope.priority;
	if (s->server.envelope.recipient_count == 1)
		facts.recipient = s->server.envelope.recipients[0].address;
	pools_choose(s);
	pools_strip(s);
	buf_clear(&s->stored_header);
	received_line(&facts, &s->stored_header);
	if (has_priority)
		buf_printf(&s->stored_header, "MT-Priority: %d\r\n", facts.priority);
	if (is_submission(s))
		submission_complete(buf_span(&s->header.text), &completing, &s->stored_header);
	else
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
		.user = buf_span(&s->user),
		.draft = s->draft,
		.flags = (s->server.saw_8bit ? MESSAGE_8BIT : 0u) |
			 (s->header.saw_8bit ? MESSAGE_HEADER_UTF8 : 0u),
	};
	heed_wish(s, accept);
	message_heed_times(s, accept);
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
		     (s->draft ? draft_memory(s->draft) : 0) + bounces_memory(s);

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

static void
append_body(struct session *s, struct span bytes)
{
	struct draft_config config = {
		.port = s->reactor->port, .id = s->id, .room = on_room, .arg = s
	};

	if (bytes.len == 0)
		return;
	bounces_append(s, bytes);
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

void
message_append(struct session *s, struct span bytes)
{
	size_t n = s->header.complete ? 0 : header_scan_take(&s->header, bytes);

	s->message_octets += bytes.len;
	append_held(s);
	append_body(s, span_skip(bytes, n));
	count_memory(s);
	content_check(s);
}

/* ---- the questions ------------------------------------------------------------------------ */

static void
on_sender_mx(void *arg, const struct mx_set *set)
{
	struct session *s = arg;
	struct reply verdict = verdict_sender(set);

	s->lookup = NULL;
	s->waiting = false;
	smtp_server_answer(&s->server, &verdict);
	session_go_on(s);
}

static bool
sender_is_looked_up(struct session *s)
{
	struct span path = s->server.envelope.reverse_path;

	if (!verdict_asks_sender(s->config, &s->client, path))
		return false;
	s->waiting = true;
	s->lookup = lookup_mx(s->reactor->resolver, address_domain_of(path), NULL, 0, true,
			      on_sender_mx, s);
	return true;
}

/* What readers see counts as much as the envelope: each From: and Resent-From:. */
static bool
header_is_theirs(const struct session *s)
{
	struct span rest = buf_span(&s->header.text), name, value;
	struct buf culprit = { 0 };
	struct log_line l;
	bool good = true;

	if (s->config->senders == NULL || buf_len(&s->user) == 0)
		return true;
	while (good && header_next(&rest, &name, &value))
		if (span_ieq(name, SPAN("From")) || span_ieq(name, SPAN("Resent-From")))
			good = senders_allow_field(s->config->senders, buf_span(&s->user), value,
						   &culprit);
	if (!good && log_begin(&l, LOG_WARNING, "sender-refused")) {
		log_u64(&l, "session", s->number);
		log_span(&l, "user", buf_span(&s->user));
		log_span(&l, "from", buf_span(&culprit));
		log_end(&l);
	}
	buf_free(&culprit);
	return good;
}

void
message_go_on_mail(struct session *s)
{
	if (!sender_is_looked_up(s))
		session_answered(s, &sender_good);
}

static void
ask_mail(struct session *s)
{
	struct reply verdict;

	s->recipients_left = UINT64_MAX;
	s->recipients_refused = false;
	bounces_drop(s);
	s->client.user = buf_span(&s->user);
	s->server.envelope.reverse_path = verdict_qualified(
		s->config, &s->client, s->server.envelope.reverse_path, &s->server.arena);
	verdict = verdict_mail(s->config, &s->client, s->server.envelope.reverse_path);
	if (verdict.code == 250 && s->client.local &&
	    !gate_local_user_may_send(s->reactor->gate, s->uid, s->config->limits.local_rate))
		verdict = REPLY(451, 4, 7, 0,
				"too many messages from this user, try again in a minute");
	if (verdict.code == 250 && !queue_has_room(s->reactor->queue, s->server.declared_size))
		verdict = no_disk;
	if (verdict.code == 250 && (allowance_ask_mail(s) || sender_is_looked_up(s)))
		return;
	smtp_server_answer(&s->server, &verdict);
}

static void
ask_rcpt(struct session *s)
{
	const struct route *route = NULL;
	struct suppression suppression;
	struct reply verdict;
	size_t n = s->server.envelope.recipient_count;

	s->client.user = buf_span(&s->user);
	if (!bounces_ask_rcpt(s, &verdict))
		verdict = verdict_rcpt(s->config, &s->client, s->server.envelope.reverse_path,
				       s->server.envelope.requiretls, &s->server.arena,
				       &s->server.asked.address, &route);
	if (verdict.code == 250 && n >= s->recipients_left) {
		verdict = no_more_recipients;
		s->recipients_refused = true;
	}
	if (verdict.code == 250 && !bounces_is(s) &&
	    suppressed_find(s->reactor->suppressed, s->reactor->port, s->server.asked.address,
			    &s->server.arena, &suppression))
		verdict = suppressed_reply(&suppression, &s->server.arena);
	smtp_server_answer(&s->server, &verdict);
	if (s->server.envelope.recipient_count == n)
		return;
	if (n == s->lane_cap) {
		s->lane_cap = n ? n * 2 : 4;
		s->lanes = xrealloc(s->lanes, s->lane_cap * sizeof(*s->lanes));
	}
	s->lanes[n].domain = address_domain_of(s->server.envelope.recipients[n].address);
	s->lanes[n] = (struct lane_name){
		.domain = s->lanes[n].domain,
		/* where it goes on to is known at the dot */
		.route = bounces_is(s) ? SPAN("") :
					 route_label(&s->config->access.routes, s->lanes[n].domain,
						     route, WISH_NONE, &s->server.arena),
	};
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
	smtp_server_answer(&s->server, &begin);
}

static void
ask_message(struct session *s)
{
	struct reply refusal;

	header_scan_end(&s->header);
	append_held(s);
	if (s->header.received > s->config->limits.hops) {
		struct reply loop = REPLY(554, 5, 4, 6,
					  "too many hops: this message is going round in circles");

		message_drop(s);
		smtp_server_answer(&s->server, &loop);
	} else if (!header_is_theirs(s)) {
		message_drop(s);
		smtp_server_answer(&s->server, &not_yours);
	} else if (s->draft != NULL && draft_error(s->draft) != 0) {
		struct reply failed = accept_reply(s, draft_error(s->draft));

		message_drop(s);
		smtp_server_answer(&s->server, &failed);
	} else if (!message_heed_tenant(s, &refusal)) {
		message_drop(s);
		smtp_server_answer(&s->server, &refusal);
	} else if (bounces_is(s)) {
		bounces_take(s);
	} else if (!allowance_ask_message(s)) {
		message_submit(s);
	}
}

void
message_ask(struct session *s, enum smtp_question question)
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
	case SMTP_QUESTION_AUTH:
	case SMTP_QUESTION_AUTH_LINE:
		login_ask(s, question);
		break;
	case SMTP_QUESTION_NONE:
		assert(false);
	}
}
