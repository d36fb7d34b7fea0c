/*
 * server_content: a message's octets, by DATA and by BDAT. What it promises: a message with a bare
 * CR or LF, a NUL or too long a line is never accepted (but for BINARYMIME, and CR and LF where
 * they are normalised), whatever the cut of the input, and each is read to its end before it is
 * refused, so that none of it is taken for a command.
 *
 * Which reason is told if there are several must not hang on the cut: bare newline, size, NUL,
 * line, owner's.
 */
#include "mta/smtp/server_private.h"

#include <assert.h>

enum { SWALLOW_FACTOR = 16, SWALLOW_LEAST = 1 << 20 };

/* A message beyond this is not even read to its end. */
static uint64_t
swallow_limit(const struct smtp_server *server)
{
	uint64_t max = server->config->max_message_size;

	if (max > UINT64_MAX / SWALLOW_FACTOR)
		return UINT64_MAX;
	return max * SWALLOW_FACTOR < SWALLOW_LEAST ? SWALLOW_LEAST : max * SWALLOW_FACTOR;
}

static void
begin_message(struct smtp_server *server)
{
	struct smtp_server_private *p = server->p;
	bool normalise = server->config->normalise_newlines && !server->chunking_used;

	data_decoder_init(&p->decoder, normalise, server->config->max_line);
	p->draft = true;
	p->swallow = p->ended = false;
	p->octets = 0;
	server->content_octets = 0;
}

static void
open_chunk(struct smtp_server *server)
{
	server->state = SERVER_BDAT;
	server->p->ended = server->p->chunk_left == 0;
}

void
server_begin_data(struct smtp_server *server)
{
	begin_message(server);
	if (server->chunking_used) {
		open_chunk(server);
	} else {
		server->state = SERVER_DATA;
		server->p->go_ahead_due = true;
	}
}

/*
 * The chunk announced is swallowed, and then this is said; its message is void. All chunks after it
 * are refused until RSET (RFC 3030 §2), but behind a last one there is nothing left to refuse.
 */
void
server_refuse_chunk(struct smtp_server *server, const struct reply *reply)
{
	struct smtp_server_private *p = server->p;

	if (p->chunk_left > swallow_limit(server) - p->octets) {
		server_end(server, reply);
		return;
	}
	server_drop_draft(server);
	p->refusal = *reply;
	p->refusal.text = arena_copy(&server->arena, reply->text);
	p->chunk_refused = true;
	p->chunk_fails = server->state == SERVER_BDAT_FAILED ||
			 (server->state >= SERVER_MAIL && !p->chunk_last);
	open_chunk(server);
}

void
server_begin_chunk(struct smtp_server *server, const struct smtp_command *command)
{
	struct smtp_server_private *p = server->p;
	uint64_t room = server->config->max_message_size - p->octets;

	p->chunk_left = command->size;
	p->chunk_last = command->last;
	if (command->size > room && !p->swallow) {
		server_refuse_chunk(server, &smtp_texts[TEXT_TOO_LARGE]);
	} else if (server->state == SERVER_BDAT_NEXT) {
		open_chunk(server);
	} else {
		server->chunking_used = true;
		server_ask(server, SMTP_QUESTION_DATA);
	}
}

void
smtp_server_refuse_message(struct smtp_server *server, const struct reply *reply)
{
	struct smtp_server_private *p = server->p;

	if (server->question != SMTP_QUESTION_NONE || p->refusal.code != 0)
		return;
	if (server->state < SERVER_DATA || server->state > SERVER_BDAT_NEXT)
		return;
	p->refusal = *reply;
	p->refusal.text = arena_copy(&server->arena, reply->text);
	p->draft = false;
	p->swallow = true;
}

static uint8_t
faults_of(const struct smtp_server *server)
{
	return server->envelope.body == BODY_BINARYMIME ? 0 : server->p->decoder.faults;
}

static void
judge_run(struct smtp_server *server, struct span content, struct smtp_server_step *step)
{
	struct smtp_server_private *p = server->p;

	p->octets += content.len;
	if (p->octets > server->config->max_message_size || faults_of(server) != 0) {
		/* it will be refused at its end: the draft need not wait for that */
		p->swallow = true;
		server_drop_draft(server);
	}
	if (!p->swallow && content.len > 0) {
		server->content_octets += content.len;
		*step = (struct smtp_server_step){ .action = SMTP_APPEND, .bytes = content };
	}
}

size_t
server_take_content(struct smtp_server *server, struct span in, struct smtp_server_step *step)
{
	struct smtp_server_private *p = server->p;
	struct span content;
	size_t taken;

	if (server->state == SERVER_DATA) {
		taken = data_decode(&p->decoder, in, &content, &p->ended);
	} else {
		content = span_first(in, p->chunk_left < in.len ? (size_t)p->chunk_left : in.len);
		taken = content.len;
		p->chunk_left -= taken;
		p->ended = p->chunk_left == 0;
		if (!p->chunk_refused)
			data_check(&p->decoder, content, false);
	}
	if (p->chunk_refused)
		p->octets += content.len;
	else
		judge_run(server, content, step);
	if (p->octets > swallow_limit(server))
		server_end_text(server, TEXT_ENDLESS_MESSAGE);
	return taken;
}

/* Why the message cannot be accepted; NULL if it can. */
static const struct reply *
find_refusal(const struct smtp_server *server)
{
	uint8_t faults = faults_of(server);

	if ((faults & DATA_BARE_NEWLINE) != 0)
		return &smtp_texts[TEXT_BARE_NEWLINE];
	if (server->p->octets > server->config->max_message_size)
		return &smtp_texts[TEXT_TOO_LARGE];
	if ((faults & DATA_NUL) != 0)
		return &smtp_texts[TEXT_NUL];
	if ((faults & DATA_LONG_LINE) != 0)
		return &smtp_texts[TEXT_LONG_LINE];
	return server->p->refusal.code != 0 ? &server->p->refusal : NULL;
}

/* A bare newline may be an attempt to smuggle a second message, so nothing behind it is read. */
static void
finish_refused(struct smtp_server *server, const struct reply *reply)
{
	server_drop_draft(server);
	if (reply == &smtp_texts[TEXT_BARE_NEWLINE]) {
		server_end(server, reply);
		return;
	}
	server_say(server, reply);
	if (server->state == SERVER_BDAT && !server->p->chunk_last)
		server->state = SERVER_BDAT_FAILED;
	else if (server->state != SERVER_CLOSING)
		server_reset(server);
}

static void
finish_refused_chunk(struct smtp_server *server)
{
	struct smtp_server_private *p = server->p;

	server_say(server, &p->refusal);
	p->refusal = (struct reply){ 0 };
	p->chunk_refused = false;
	if (server->state == SERVER_CLOSING)
		return;
	if (p->chunk_fails)
		server->state = SERVER_BDAT_FAILED;
	else
		server_reset(server);
}

void
server_finish_content(struct smtp_server *server)
{
	struct smtp_server_private *p = server->p;
	bool chunk = server->state == SERVER_BDAT;
	const struct reply *refusal;

	assert(p->ended);
	p->ended = false;
	if (p->chunk_refused) {
		finish_refused_chunk(server);
		return;
	}
	if (chunk && p->chunk_last)
		data_check(&p->decoder, SPAN(""), true);
	refusal = find_refusal(server);
	if (refusal != NULL) {
		finish_refused(server, refusal);
	} else if (chunk && !p->chunk_last) {
		server_say_text(server, TEXT_CHUNK_OK);
		server->state = SERVER_BDAT_NEXT;
	} else {
		/*
		 * all of it is the owner's now: the answer decides, and there is no draft to drop
		 */
		p->draft = false;
		server->saw_8bit = p->decoder.saw_8bit;
		server_ask(server, SMTP_QUESTION_MESSAGE);
	}
}
