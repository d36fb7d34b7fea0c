/*
 * test_server: what transcripts cannot show: the values handed to the owner, facts, counters,
 * bounds, closing.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mta/smtp/server.h"

static const struct smtp_server_config config = {
	.hostname = SPAN("mx"), .banner = SPAN("ESMTP"), .max_message_size = 1000,
	.max_recipients = 3,
	.max_line = 1000, .max_command = 1000, .max_messages = 10, .max_errors = 5, .max_junk = 5,
};

static const struct reply yes = { .code = 250 }, go = { .code = 354 };

static void
begin(struct smtp_server *server)
{
	smtp_server_init(server, &config);
	smtp_server_greet(server, NULL);
}

/* Gives all of in, until an action that is not WAIT, or until WAIT. */
static struct smtp_server_step
take(struct smtp_server *server, struct span *in)
{
	struct smtp_server_step step;

	*in = span_skip(*in, smtp_server_take(server, *in, &step));
	return step;
}

static void
expect_out(struct smtp_server *server, const char *text)
{
	buf_byte(&server->out, '\0');
	assert_string_equal(server->out.at + server->out.start, text);
	buf_clear(&server->out);
}

/*
 * Gives the lines, says yes to every question, and throws the replies away; ends with the last
 * step.
 */
static struct smtp_server_step
converse(struct smtp_server *server, const char *lines)
{
	struct span in = span_str(lines);
	struct smtp_server_step step;

	for (;;) {
		step = take(server, &in);
		if (step.action == SMTP_ASK)
			smtp_server_answer(server,
					   step.question == SMTP_QUESTION_DATA ? &go : &yes);
		else if (step.action == SMTP_WAIT || step.action == SMTP_CLOSE)
			break;
	}
	buf_clear(&server->out);
	return step;
}

static void
test_envelope(void **state)
{
	struct span in =
		SPAN("EHLO Client.Example\r\nMAIL FROM:<Some.One@EXAMPLE.org> SIZE=77 "
		     "BODY=8BITMIME SMTPUTF8 "
		     "RET=HDRS ENVID=id+2B1\r\nRCPT TO:<B@Example.COM> NOTIFY=SUCCESS,DELAY "
		     "ORCPT=rfc822;b+2Bc@d\r\nRCPT TO:<postmaster>\r\nDATA\r\n");
	struct smtp_server server;
	struct smtp_server_step step;

	(void)state;
	begin(&server);
	expect_out(&server, "220 mx ESMTP\r\n");
	step = take(&server, &in);
	assert_int_equal(step.action, SMTP_ASK);
	assert_int_equal(step.question, SMTP_QUESTION_MAIL);
	assert_string_equal(smtp_server_waiting_for(&server), "answer: sender");
	assert_false(smtp_server_idle(&server));
	assert_true(span_eq(server.helo_name, SPAN("Client.Example")));
	assert_int_equal(server.helo, HELO_EHLO);
	assert_true(span_eq(server.envelope.reverse_path, SPAN("Some.One@example.org")));
	assert_true(span_eq(server.envelope.envid, SPAN("id+2B1")));
	assert_int_equal(server.envelope.ret, RET_HDRS);
	assert_int_equal(server.envelope.body, BODY_8BITMIME);
	assert_true(server.envelope.smtputf8);
	assert_int_equal(server.declared_size, 77);
	/* nothing is taken while the question is open */
	step = take(&server, &in);
	assert_int_equal(step.action, SMTP_WAIT);
	smtp_server_answer(&server, &yes);
	step = take(&server, &in);
	assert_int_equal(step.question, SMTP_QUESTION_RCPT);
	assert_true(span_eq(server.asked.address, SPAN("B@example.com")));
	assert_true(span_eq(server.asked.orcpt, SPAN("rfc822;b+2Bc@d")));
	assert_int_equal(server.asked.notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
	smtp_server_answer(&server, &yes);
	step = take(&server, &in);
	assert_int_equal(server.asked.notify, 0);
	smtp_server_answer(&server, &yes);
	step = take(&server, &in);
	assert_int_equal(step.question, SMTP_QUESTION_DATA);
	assert_int_equal(server.envelope.recipient_count, 2);
	assert_true(span_eq(server.envelope.recipients[0].orcpt, SPAN("rfc822;b+2Bc@d")));
	assert_true(span_eq(server.envelope.recipients[1].address, SPAN("postmaster")));
	assert_int_equal(server.envelope.recipients[1].orcpt.len, 0);
	smtp_server_answer(&server, &go);
	take(&server, &in);
	in = SPAN("caf\303\251\r\n.\r\n");
	step = take(&server, &in);
	assert_int_equal(step.action, SMTP_APPEND);
	assert_true(span_eq(step.bytes, SPAN("caf\303\251\r\n")));
	assert_string_equal(smtp_server_waiting_for(&server), "data");
	step = take(&server, &in);
	assert_int_equal(step.question, SMTP_QUESTION_MESSAGE);
	assert_true(server.saw_8bit && !server.chunking_used);
	assert_int_equal(server.content_octets, 7);
	smtp_server_answer(&server, &REPLY(250, 2, 0, 0, "queued as 1"));
	assert_int_equal(server.envelope.recipient_count, 0);
	assert_true(smtp_server_idle(&server));
	assert_int_equal(server.messages, 1);
	smtp_server_free(&server);
}

static void
test_greeting(void **state)
{
	struct smtp_server server;
	struct span in = SPAN("EHLO a\r\n");

	(void)state;
	smtp_server_init(&server, &config);
	assert_string_equal(smtp_server_waiting_for(&server), "greeting");
	smtp_server_greet(&server, &REPLY(421, 4, 7, 0, "too many connections"));
	assert_int_equal(take(&server, &in).action, SMTP_CLOSE);
	assert_int_equal(in.len, 0);
	expect_out(&server, "421 4.7.0 too many connections\r\n");
	smtp_server_free(&server);

	in = SPAN("E");
	smtp_server_init(&server, &config);
	assert_int_equal(take(&server, &in).action, SMTP_CLOSE);
	smtp_server_greet(&server, NULL);
	expect_out(&server, "554 5.5.1 the client must wait for the greeting\r\n");
	smtp_server_free(&server);
	smtp_server_free(&server);
}

/* Abort is said once, before anything else, and only if a message had begun. */
static void
test_abort(void **state)
{
	static const char bdat[] = "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@c>\r\nBDAT 1\r\nx";
	static const char *const ends[] = { "RSET\r\n", "HELO a\r\n", "QUIT\r\n",
					    "BDAT 2000 LAST\r\n", "GET /\r\n" };
	struct smtp_server server;
	struct span in;

	(void)state;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		begin(&server);
		converse(&server, bdat);
		assert_int_equal(server.state, SERVER_BDAT_NEXT);
		in = span_str(ends[i]);
		assert_int_equal(take(&server, &in).action, SMTP_ABORT);
		assert_int_equal(take(&server, &in).action,
				 i == 2 || i == 4 ? SMTP_CLOSE : SMTP_WAIT);
		smtp_server_free(&server);
	}
	begin(&server);
	converse(&server, bdat);
	smtp_server_close(&server, &REPLY(421, 4, 3, 2, "stop"));
	in = SPAN("");
	assert_int_equal(take(&server, &in).action, SMTP_ABORT);
	assert_int_equal(take(&server, &in).action, SMTP_CLOSE);
	expect_out(&server, "421 4.3.2 stop\r\n");
	smtp_server_free(&server);

	begin(&server);
	converse(&server, "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@c>\r\n");
	in = SPAN("RSET\r\n");
	assert_int_equal(take(&server, &in).action, SMTP_WAIT);
	smtp_server_free(&server);
}

static void
test_close_while_asked(void **state)
{
	struct smtp_server server;
	struct span in = SPAN("MAIL FROM:<>\r\nNOOP\r\n");

	(void)state;
	begin(&server);
	converse(&server, "EHLO a\r\n");
	assert_int_equal(take(&server, &in).action, SMTP_ASK);
	smtp_server_close(&server, &REPLY(421, 4, 4, 2, "timeout"));
	smtp_server_close(&server, &REPLY(421, 4, 4, 2, "again"));
	smtp_server_answer(&server, &yes);		/* too late, and no harm */
	assert_int_equal(take(&server, &in).action, SMTP_CLOSE);
	expect_out(&server, "421 4.4.2 timeout\r\n");
	assert_string_equal(smtp_server_waiting_for(&server), "close");
	smtp_server_free(&server);
}

static void
test_refuse_message(void **state)
{
	struct smtp_server server;
	struct span in = SPAN("a\r\n"), more = SPAN("b\r\n.\r\nNOOP\r\n");
	char text[] = "too many hops";

	(void)state;
	begin(&server);
	smtp_server_refuse_message(&server, &REPLY(554, 5, 4, 6, "no message"));
	converse(&server, "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@c>\r\nDATA\r\n");
	assert_int_equal(take(&server, &in).action, SMTP_APPEND);
	smtp_server_refuse_message(&server, &(struct reply){ 554, { 5, 4, 6 }, span_str(text) });
	memset(text, 'x', sizeof(text));		/* the text has been copied */
	smtp_server_refuse_message(&server, &REPLY(554, 5, 4, 6, "a second reason"));
	/* no abort: the draft is the owner's */
	assert_int_equal(take(&server, &more).action, SMTP_WAIT);
	expect_out(&server, "554 5.4.6 too many hops\r\n250 2.0.0 ok\r\n");
	assert_int_equal(server.state, SERVER_IDLE);
	smtp_server_free(&server);
}

/* A message that goes on and on is read to its end only so far. */
static void
test_endless_message(void **state)
{
	static char run[10000];
	struct smtp_server server;
	size_t total = 0;
	bool closed = false;

	(void)state;
	memset(run, 'x', sizeof(run));
	for (size_t i = 98; i < sizeof(run); i += 100) {
		run[i] = '\r';
		run[i + 1] = '\n';
	}
	begin(&server);
	converse(&server, "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@c>\r\nDATA\r\n");
	while (!closed) {
		struct span in = span_of(run, sizeof(run));

		for (;;) {
			struct smtp_server_step step = take(&server, &in);

			assert_true(step.action != SMTP_APPEND || server.content_octets <= 1000);
			closed = step.action == SMTP_CLOSE;
			if (closed || step.action == SMTP_WAIT)
				break;
		}
		total += sizeof(run);
		assert_true(total < 2000000);
	}
	assert_true(total > 1 << 20);
	expect_out(&server, "552 5.3.4 the message is far too large\r\n");
	smtp_server_free(&server);
}

/* Refused recipients leave nothing behind. */
/* A group of commands is answered in one flush: the owner sends when the machine waits. */
static void
test_one_flush(void **state)
{
	static const char group[] =
		"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@c>\r\nRCPT TO:<>\r\nNOOP\r\nRSET\r\n"
		"MAIL FROM:<a@b>\r\nRCPT TO:<b@c>\r\nBDAT 3\r\nabcBDAT 3 LAST\r\ndef"
		"MAIL FROM:<a@b>\r\nRCPT TO:<b@c>\r\nDATA\r\n";
	struct span in = span_str(group);
	struct smtp_server server;
	size_t lines = 0, waits = 0;

	(void)state;
	begin(&server);
	buf_clear(&server.out);
	while (waits == 0 || in.len > 0) {
		struct smtp_server_step step = take(&server, &in);

		if (step.action == SMTP_ASK)
			smtp_server_answer(&server,
					   step.question == SMTP_QUESTION_DATA ? &go : &yes);
		waits += step.action == SMTP_WAIT;
		assert_int_not_equal(step.action, SMTP_CLOSE);
	}
	assert_int_equal(waits, 1);
	for (struct span out = buf_span(&server.out); out.len > 0; lines++)
		span_cut(&out, '\n');
	assert_int_equal(lines, 9 + 13);		/* EHLO's, and those of the others */
	smtp_server_free(&server);
}

static void
test_memory(void **state)
{
	struct smtp_server server;
	struct span in;
	size_t before;

	(void)state;
	begin(&server);
	converse(&server, "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@c>\r\n");
	before = server.arena.total;
	for (int i = 0; i < 250; i++) {
		in = SPAN("RCPT TO:<some.body.else@example.com> "
			  "ORCPT=rfc822;some.body.else@example.com\r\n");
		assert_int_equal(take(&server, &in).action, SMTP_ASK);
		smtp_server_answer(&server, &REPLY(550, 5, 1, 1, "no"));
		buf_clear(&server.out);
	}
	assert_int_equal(server.arena.total, before);
	assert_int_equal(server.errors, 0);
	assert_int_equal(server.recipients_refused, 250);
	/* yet there is an end to it */
	for (int i = 0; i < 1000; i++) {
		in = SPAN("RCPT TO:<x@example.com>\r\n");
		if (take(&server, &in).action == SMTP_CLOSE)
			break;
		smtp_server_answer(&server, &REPLY(450, 4, 1, 1, "later"));
		buf_clear(&server.out);
	}
	expect_out(&server, "421 4.7.0 too many errors\r\n");
	smtp_server_free(&server);
}

static void
test_idle(void **state)
{
	struct smtp_server server;
	struct span in = SPAN("MAIL FR");

	(void)state;
	begin(&server);
	assert_true(smtp_server_idle(&server));
	converse(&server, "EHLO a\r\n");
	assert_true(smtp_server_idle(&server));
	take(&server, &in);
	assert_false(smtp_server_idle(&server));
	converse(&server, "OM:<>\r\n");
	assert_false(smtp_server_idle(&server));
	converse(&server, "RSET\r\n");
	assert_true(smtp_server_idle(&server));
	assert_string_equal(smtp_server_waiting_for(&server), "command");
	smtp_server_free(&server);
}

/* Replies of the owner's cannot break the order of lines, and our words stand in for silence. */
static void
test_answers(void **state)
{
	struct smtp_server server;
	struct span in = SPAN("MAIL FROM:<>\r\nRCPT TO:<a@b>\r\n");

	(void)state;
	begin(&server);
	converse(&server, "HELO a\r\n");
	take(&server, &in);
	smtp_server_answer(&server, &REPLY(250, 2, 1, 0, "one\r\n550 two"));
	take(&server, &in);
	smtp_server_answer(&server, &yes);
	take(&server, &in);
	expect_out(&server, "250-2.1.0 one?\r\n250 2.1.0 550 two\r\n250 2.1.5 recipient ok\r\n");
	smtp_server_free(&server);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_envelope),
		cmocka_unit_test(test_greeting),
		cmocka_unit_test(test_abort),
		cmocka_unit_test(test_close_while_asked),
		cmocka_unit_test(test_refuse_message),
		cmocka_unit_test(test_endless_message),
		cmocka_unit_test(test_one_flush),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
