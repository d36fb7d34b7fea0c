/*
 * server: the frame of the machine: cuts the input into lines and content, keeps the order of
 * replies, questions and actions. Commands are in server_verbs.c, content in server_content.c. See
 * server.h. One thread at a time.
 *
 * The one loop is in smtp_server_take(): what is owed comes first, then what is open, then the
 * input; so nothing of the input is looked at before all that came before it has been answered.
 */
#include "mta/smtp/server_private.h"

#include <assert.h>
#include <stdlib.h>

enum {
	SWALLOWED_LINE_MAX = 65536,	/* of a line beyond max_command, before the session ends */
	TLS_HANDSHAKE = 0x16,		/* the first octet of a TLS record with a ClientHello */
};

void
smtp_server_init(struct smtp_server *server, const struct smtp_server_config *config)
{
	*server = (struct smtp_server){ .config = config, .max_priority = (int)config->max_priority,
					.p = xcalloc(1, sizeof(*server->p)) };
}

/* Passwords do not stay in memory longer than they are needed. */
static void
wipe(struct buf *secret)
{
	if (secret->at != NULL)
		explicit_bzero(secret->at, secret->cap);
	buf_free(secret);
}

void
smtp_server_free(struct smtp_server *server)
{
	if (server->p == NULL)
		return;
	buf_free(&server->out);
	arena_free(&server->arena);
	wipe(&server->p->line);
	wipe(&server->p->auth);
	buf_free(&server->p->helo);
	arena_free(&server->p->scratch);
	free(server->p);
	*server = (struct smtp_server){ 0 };
}

void
server_say(struct smtp_server *server, const struct reply *reply)
{
	reply_format(reply, &server->out);
	if (reply_class(reply) == 5)
		server->errors++;
	if (reply->code == 421) {
		server_drop_draft(server);
		server->state = SERVER_CLOSING;
	}
}

void
server_say_text(struct smtp_server *server, enum smtp_text text)
{
	server_say(server, &smtp_texts[text]);
}

void
server_end(struct smtp_server *server, const struct reply *reply)
{
	server_say(server, reply);
	server_drop_draft(server);
	server->question = SMTP_QUESTION_NONE;
	server->p->ask_due = server->p->tls_due = server->p->go_ahead_due = false;
	server->state = SERVER_CLOSING;
}

void
server_end_text(struct smtp_server *server, enum smtp_text text)
{
	server_end(server, &smtp_texts[text]);
}

void
server_ask(struct smtp_server *server, enum smtp_question question)
{
	assert(server->question == SMTP_QUESTION_NONE);
	server->question = question;
	server->p->ask_due = true;
}

void
server_drop_draft(struct smtp_server *server)
{
	if (server->p->draft)
		server->p->abort_due = true;
	server->p->draft = false;
}

void
server_reset(struct smtp_server *server)
{
	struct smtp_server_private *p = server->p;

	server_drop_draft(server);
	arena_free(&server->arena);
	server->envelope = (struct envelope){ 0 };
	server->asked = (struct recipient){ 0 };
	server->declared_size = server->content_octets = 0;
	server->wishes = (struct mail_wishes){ 0 };
	server->chunking_used = server->saw_8bit = false;
	p->refusal = (struct reply){ 0 };
	p->swallow = p->ended = p->chunk_refused = false;
	p->octets = p->chunk_left = 0;
	p->refused = 0;
	if (server->state != SERVER_CLOSING)
		server->state = server->helo == HELO_NONE ? SERVER_FRESH : SERVER_IDLE;
}

void
smtp_server_greet(struct smtp_server *server, const struct reply *instead)
{
	const struct smtp_server_config *config = server->config;

	if (server->state == SERVER_CLOSING)
		return;			/* the client spoke first */
	assert(server->state == SERVER_GREETING);
	if (instead != NULL && reply_class(instead) != 2) {
		server_end(server, instead);
		return;
	}
	buf_printf(&server->out, "220 %.*s %.*s\r\n", SPAN_FMT(config->hostname),
		   SPAN_FMT(config->banner));
	server->state = SERVER_FRESH;
}

void
smtp_server_close(struct smtp_server *server, const struct reply *reply)
{
	if (server->state != SERVER_CLOSING)
		server_end(server, reply);
}

void
smtp_server_tls_done(struct smtp_server *server)
{
	assert(server->p->tls_due || server->state == SERVER_GREETING);
	server->tls = true;
	if (server->state == SERVER_GREETING)
		return;
	server->p->tls_due = false;
	server->helo = HELO_NONE;
	server->helo_name = SPAN("");
	buf_free(&server->p->helo);
	buf_free(&server->p->line);
	server->p->line_octets = 0;
	server_reset(server);
}

/* Tokens are longer than any command (RFC 4954 §4.2): where one may come there is room for it. */
static size_t
line_limit(const struct smtp_server *server)
{
	const struct smtp_server_config *config = server->config;

	if (server->auth_offer.len > 0 && !server->authenticated &&
	    config->max_auth_line > config->max_command)
		return config->max_auth_line;
	return config->max_command;
}

void
server_ask_auth(struct smtp_server *server, enum smtp_question question, struct span text)
{
	buf_append(&server->p->auth, text);
	server->auth_text = buf_span(&server->p->auth);
	server_ask(server, question);
}

/* A line is whole: what is it? line has its LF, and is cut at the limit; octets are all of it. */
static void
judge_line(struct smtp_server *server, struct span line, size_t octets, char before_lf)
{
	const struct smtp_server_config *config = server->config;
	bool auth = server->state == SERVER_AUTH ||
		    (span_istarts(line, SPAN("AUTH ")) && line_limit(server) > config->max_command);

	if (before_lf != '\r' && !config->normalise_newlines) {
		server_end_text(server, TEXT_BARE_NEWLINE_COMMAND);
		return;
	}
	if (auth && octets > line_limit(server)) {
		server->commands++;
		server->state = server->helo == HELO_NONE ? SERVER_FRESH : SERVER_IDLE;
		server_say_text(server, TEXT_AUTH_TOO_LONG);
		return;
	}
	if (octets > config->max_command && !auth) {
		server->commands++;
		if (server_is_http(line))
			server_end_text(server, TEXT_NOT_SMTP);
		else
			server_say_text(server, TEXT_LINE_TOO_LONG);
		return;
	}
	line.len -= before_lf == '\r' ? 2 : 1;
	if (span_find(line, '\r') != NULL && !config->normalise_newlines)
		server_end_text(server, TEXT_BARE_NEWLINE_COMMAND);
	else if (server->state == SERVER_AUTH)
		server_ask_auth(server, SMTP_QUESTION_AUTH_LINE, line);
	else
		server_command(server, line);
}

/* A line that lies whole in the input is judged where it lies; one that was cut is gathered. */
static size_t
take_line(struct smtp_server *server, struct span in)
{
	struct smtp_server_private *p = server->p;
	size_t most = line_limit(server), limit = most + SWALLOWED_LINE_MAX;
	const char *lf;
	struct span line;
	size_t octets, len;
	char before_lf;

	in = span_first(in, limit - p->line_octets);
	if (p->line_octets == 0 && in.at[0] == TLS_HANDSHAKE) {
		server_end_text(server, TEXT_NOT_SMTP);
		return in.len;
	}
	lf = span_find(in, '\n');
	len = lf ? (size_t)(lf - in.at) + 1 : in.len;
	line = span_first(in, len);
	octets = p->line_octets + len;
	before_lf = len > 1 ? in.at[len - 2] : p->line_last;
	if (lf == NULL || p->line_octets > 0) {
		buf_append(&p->line,
			   span_first(line,
				      most > buf_len(&p->line) ? most - buf_len(&p->line) : 0));
		line = buf_span(&p->line);
	}
	p->line_octets = lf ? 0 : octets;
	p->line_last = lf ? '\0' : in.at[len - 1];
	if (lf != NULL)
		judge_line(server, line, octets, before_lf);
	else if (octets == limit)
		server_end_text(server, TEXT_ENDLESS_LINE);
	if (lf != NULL)
		wipe(&p->line);		/* an idle session holds none */
	return len;
}

/* What must be done before more input is looked at. */
static bool
pay_what_is_due(struct smtp_server *server, bool more_input, struct smtp_server_step *step)
{
	struct smtp_server_private *p = server->p;

	if (p->go_ahead_due && more_input)
		server_end_text(server, TEXT_EARLY_DATA);
	if (p->go_ahead_due) {
		p->go_ahead_due = false;
		server_say_text(server, TEXT_GO_AHEAD);
	}
	if (p->abort_due) {
		p->abort_due = false;
		step->action = SMTP_ABORT;
		return true;
	}
	if (server->question != SMTP_QUESTION_NONE) {
		step->action = p->ask_due ? SMTP_ASK : SMTP_WAIT;
		step->question = server->question;
		p->ask_due = false;
		return true;
	}
	if (server->state == SERVER_CLOSING || p->tls_due) {
		step->action = p->tls_due ? SMTP_START_TLS : SMTP_CLOSE;
		return true;
	}
	return false;
}

size_t
smtp_server_take(struct smtp_server *server, struct span in, struct smtp_server_step *step)
{
	struct smtp_server_private *p = server->p;
	size_t at = 0;

	*step = (struct smtp_server_step){ .action = SMTP_WAIT };
	while (!pay_what_is_due(server, at < in.len, step)) {
		bool content = server->state == SERVER_DATA || server->state == SERVER_BDAT;
		struct span rest = span_skip(in, at);

		if (content && p->ended) {
			server_finish_content(server);
			continue;
		}
		if (rest.len == 0)
			return at;
		if (server->state == SERVER_GREETING)
			server_end_text(server, TEXT_EARLY_TALK);
		else if (content)
			at += server_take_content(server, rest, step);
		else
			at += take_line(server, rest);
		if (step->action == SMTP_APPEND)
			return at;
	}
	/* behind the end of the session, or STARTTLS, nothing is read any more */
	return step->action == SMTP_CLOSE || step->action == SMTP_START_TLS ? in.len : at;
}

/* "250" alone stands for our own words. */
static struct reply
or_default(const struct reply *reply, enum smtp_text text)
{
	if (reply->text.len == 0 && reply_class(reply) == 2)
		return smtp_texts[text];
	return *reply;
}

static void
answer_mail(struct smtp_server *server, const struct reply *reply)
{
	struct reply said = or_default(reply, TEXT_MAIL_OK);

	if (reply_class(reply) == 2 && server->p->lowered) {	/* RFC 6710 §4 */
		said.status = (struct status){ 2, 3, 6 };
		said.text = arena_printf(&server->arena,
					 "%d is the new priority assigned to the message",
					 server->wishes.priority);
	}
	server_say(server, &said);
	if (reply_class(reply) != 2) {
		server_reset(server);
		return;
	}
	server->state = SERVER_MAIL;
	server->messages++;
}

static void
join_envelope(struct smtp_server *server)
{
	struct envelope *envelope = &server->envelope;
	size_t n = envelope->recipient_count;

	/* room for a power of two */
	if ((n & (n - 1)) == 0) {
		struct recipient *more =
			arena_alloc(&server->arena, (n ? 2 * n : 1) * sizeof(*more));

		for (size_t i = 0; i < n; i++)
			more[i] = envelope->recipients[i];
		envelope->recipients = more;
	}
	envelope->recipients[n] = (struct recipient){
		.address = arena_copy(&server->arena, server->asked.address),
		.orcpt = arena_copy(&server->arena, server->asked.orcpt),
		.notify = server->asked.notify,
	};
	envelope->recipient_count++;
}

static void
answer_rcpt(struct smtp_server *server, const struct reply *reply)
{
	struct reply said = or_default(reply, TEXT_RCPT_OK);

	if (reply_class(reply) == 2) {
		join_envelope(server);
		server->state = SERVER_RCPT;
		server_say(server, &said);
	} else {
		server_refuse_recipient(server, reply);
	}
	server->asked = (struct recipient){ 0 };
}

static void
answer_data(struct smtp_server *server, const struct reply *reply)
{
	bool begun = reply_class(reply) == 2 || reply_class(reply) == 3;

	if (begun)
		server_begin_data(server);
	else if (server->chunking_used && reply->code != 421)
		server_refuse_chunk(server, reply);
	else
		server_say(server, reply);
}

static void
answer_auth(struct smtp_server *server, const struct reply *reply)
{
	wipe(&server->p->auth);
	server->auth_text = SPAN("");
	if (reply->code == 334) {
		buf_printf(&server->out, "334 %.*s\r\n", SPAN_FMT(reply->text));
		server->state = SERVER_AUTH;
		return;
	}
	if (server->state == SERVER_AUTH)
		server->state = SERVER_IDLE;
	server->authenticated = reply->code == 235;
	server_say(server, reply);
}

void
smtp_server_answer(struct smtp_server *server, const struct reply *reply)
{
	enum smtp_question question = server->question;
	struct reply said;

	if (question == SMTP_QUESTION_NONE && server->state == SERVER_CLOSING)
		return; /* the session was closed while the owner thought about it */
	assert(question != SMTP_QUESTION_NONE && reply->code != 0);
	server->question = SMTP_QUESTION_NONE;
	switch (question) {
	case SMTP_QUESTION_MAIL:
		answer_mail(server, reply);
		break;
	case SMTP_QUESTION_RCPT:
		answer_rcpt(server, reply);
		break;
	case SMTP_QUESTION_DATA:
		answer_data(server, reply);
		break;
	case SMTP_QUESTION_AUTH:
	case SMTP_QUESTION_AUTH_LINE:
		answer_auth(server, reply);
		break;
	default:
		said = or_default(reply, TEXT_MESSAGE_OK);
		if (reply_class(reply) == 2)
			server->junk = 0;
		server_say(server, &said);
		server_reset(server);
	}
}

bool
smtp_server_idle(const struct smtp_server *server)
{
	return server->state <= SERVER_IDLE && server->question == SMTP_QUESTION_NONE &&
	       server->p->line_octets == 0;
}

const char *
smtp_server_waiting_for(const struct smtp_server *server)
{
	static const char *const questions[] = {
		[SMTP_QUESTION_MAIL] = "answer: sender",
		[SMTP_QUESTION_RCPT] = "answer: recipient",
		[SMTP_QUESTION_DATA] = "answer: start of message",
		[SMTP_QUESTION_MESSAGE] = "answer: message",
		[SMTP_QUESTION_AUTH] = "answer: login",
		[SMTP_QUESTION_AUTH_LINE] = "answer: login",
	};

	if (server->question != SMTP_QUESTION_NONE)
		return questions[server->question];
	if (server->p->tls_due)
		return "tls handshake";
	switch (server->state) {
	case SERVER_GREETING:
		return "greeting";
	case SERVER_DATA:
		return "data";
	case SERVER_BDAT:
	case SERVER_BDAT_NEXT:
		return "chunk";
	case SERVER_CLOSING:
		return "close";
	default:
		return "command";
	}
}
