/*
 * fuzz_server: the same octets, cut differently, must give the same replies and the same messages;
 * and what is accepted must keep the rules on newlines and NUL. The first octet sets the
 * configuration, the second the cuts.
 *
 * Two things do hang on the cut and are kept out: data that comes before 354 (the owner stands by
 * as if it had sent it at once), and STARTTLS, which drops what was read with it.
 */
#include <assert.h>
#include <stdlib.h>

#include "mta/smtp/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct session {
	struct smtp_server server;
	struct buf log;			/* replies and messages, in order */
	struct buf draft;
	bool draft_open, refused, closed;
	uint8_t flags;
};

static void
check_message(const struct session *s)
{
	struct span in = buf_span(&s->draft);

	assert(in.len <= s->server.config->max_message_size);
	if (s->server.envelope.body == BODY_BINARYMIME)
		return;
	for (size_t i = 0; i < in.len; i++) {
		assert(in.at[i] != '\0');
		assert(in.at[i] != '\n' || (i > 0 && in.at[i - 1] == '\r'));
		assert(in.at[i] != '\r' || (i + 1 < in.len && in.at[i + 1] == '\n'));
	}
}

static struct reply
answer_path(struct span path)
{
	switch (path.len > 0 ? path.at[0] : 'a') {
	case 'r':
		return REPLY(550, 5, 7, 1, "refused");
	case 't':
		return REPLY(450, 4, 7, 1, "later");
	case 'q':
		return REPLY(421, 4, 3, 2, "closing");
	default:
		return (struct reply){ .code = 250 };
	}
}

static void
answer(struct session *s, enum smtp_question question)
{
	struct reply reply = { .code = 250 };

	switch (question) {
	case SMTP_QUESTION_MAIL:
		reply = answer_path(s->server.envelope.reverse_path);
		break;
	case SMTP_QUESTION_RCPT:
		reply = answer_path(s->server.asked.address);
		break;
	case SMTP_QUESTION_DATA:
		assert(!s->draft_open && s->server.envelope.recipient_count > 0);
		reply.code = 354;
		if (span_starts(s->server.envelope.reverse_path, SPAN("d")))
			reply = REPLY(452, 4, 3, 1, "no room");
		else
			s->draft_open = true;
		s->refused = false;
		buf_clear(&s->draft);
		break;
	default:
		assert(s->draft_open && !s->refused);
		check_message(s);
		s->draft_open = false;
		if (span_find(buf_span(&s->draft), 'Z') != NULL)
			reply = REPLY(550, 5, 7, 1, "a message\nwith Z");
		buf_append(&s->log, buf_span(&s->draft));
	}
	smtp_server_answer(&s->server, &reply);
}

static void
append(struct session *s, struct span bytes)
{
	assert(s->draft_open && !s->refused && bytes.len > 0);
	buf_append(&s->draft, bytes);
	if ((s->flags & 16) != 0 && buf_len(&s->draft) > 30) {
		s->refused = true;
		s->draft_open = false;
		smtp_server_refuse_message(&s->server, &REPLY(554, 5, 4, 6, "in the middle"));
	}
}

static void
feed(struct session *s, struct span in)
{
	struct smtp_server_step step;

	for (;;) {
		size_t taken = smtp_server_take(&s->server, in, &step);

		assert(taken <= in.len);
		in = span_skip(in, taken);
		buf_append(&s->log, buf_span(&s->server.out));
		buf_clear(&s->server.out);
		if (step.action == SMTP_WAIT) {
			assert(in.len == 0);
			return;
		} else if (step.action == SMTP_APPEND) {
			append(s, step.bytes);
		} else if (step.action == SMTP_ASK) {
			answer(s, step.question);
			if (step.question == SMTP_QUESTION_DATA)
				feed(s, SPAN(""));
		} else if (step.action == SMTP_ABORT) {
			assert(s->draft_open);
			s->draft_open = false;
		} else {
			assert(step.action == SMTP_CLOSE && !s->draft_open);
			s->closed = true;
			return;
		}
		if (s->closed)
			return;
	}
}

static struct buf
run(const struct smtp_server_config *config, struct span in, uint8_t flags, unsigned seed)
{
	struct session s = { .flags = flags };

	smtp_server_init(&s.server, config);
	smtp_server_greet(&s.server, NULL);
	while (in.len > 0 && !s.closed) {
		size_t len = in.len;
		char *exact;

		if (seed > 1) {
			seed = (seed * 1103515245 + 12345) | 2;
			len = (seed >> 16) % 40 + 1;
		} else if (seed == 1) {
			len = 1;
		}
		len = len < in.len ? len : in.len;
		exact = malloc(len);
		assert(exact != NULL);
		memcpy(exact, in.at, len);
		feed(&s, span_of(exact, len));
		free(exact);
		in = span_skip(in, len);
	}
	(void)smtp_server_waiting_for(&s.server);
	(void)smtp_server_idle(&s.server);
	smtp_server_free(&s.server);
	buf_free(&s.draft);
	return s.log;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smtp_server_config config = {
		.hostname = SPAN("mx.example.net"), .banner = SPAN("ESMTP"),
		.max_message_size = 200,
		.max_recipients = 3, .max_line = 100, .max_command = 200, .max_messages = 5,
		.max_errors = 8, .max_junk = 6,
	};
	struct buf whole, cut;

	if (size < 2)
		return 0;
	config.strict_addresses = (data[0] & 1) != 0;
	config.normalise_newlines = (data[0] & 2) != 0;
	config.offer_binarymime = (data[0] & 4) != 0;
	config.local_submission = (data[0] & 8) != 0;
	whole = run(&config, span_of(data + 2, size - 2), data[0], 0);
	for (unsigned i = 0; i < 3; i++) {
		cut = run(&config, span_of(data + 2, size - 2), data[0],
			  i == 0 ? 1 : i * 256 + data[1]);
		assert(span_eq(buf_span(&whole), buf_span(&cut)));
		buf_free(&cut);
	}
	buf_free(&whole);
	return 0;
}
