/*
 * smtp/client: what transcripts do not show: waits and their names, what stands in a transaction,
 * wrong moments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mta/smtp/client.h"
#include "mta/smtp/client_commands.h"

static const struct smtp_client_config config = {
	.ehlo_name = { "tram.example.org", 16 }, .pipelining = true, .chunking = true,
	.max_reply = 8192,
	.timeouts = { .banner = 1, .ehlo = 2, .mail = 3, .rcpt = 4, .data = 5, .block = 6, .dot = 7,
		      .quit = 8 },
};

struct fixture {
	struct smtp_client client;
	struct arena arena;
	struct envelope envelope;
	struct recipient recipients[2];
	struct smtp_client_recipient outcomes[2];
	struct smtp_transaction transaction, *done;
};

static void
set_up(struct fixture *f)
{
	*f = (struct fixture){ .recipients = { { .address = SPAN("b@example.net") },
					       { .address = SPAN("c@example.net") } } };
	f->envelope.reverse_path = SPAN("a@example.org");
	f->transaction = (struct smtp_transaction){ .arena = &f->arena, .envelope = &f->envelope,
		.recipients = f->outcomes, .recipient_count = 2, .size = 5 };
	for (size_t i = 0; i < 2; i++)
		f->outcomes[i].recipient = &f->recipients[i];
	smtp_client_init(&f->client, &config);
}

static void
tear_down(struct fixture *f)
{
	smtp_client_free(&f->client);
	smtp_client_free(&f->client);		/* twice does no harm */
	arena_free(&f->arena);
}

/* All of what is said is taken; the last event. */
static enum smtp_client_event
says(struct fixture *f, const char *text)
{
	struct span in = span_str(text);
	struct smtp_transaction *done;
	enum smtp_client_event event;

	do {
		in = span_skip(in, smtp_client_take(&f->client, in, &event, &done));
		if (event == CLIENT_DONE)
			f->done = done;
	} while (in.len > 0);
	return event;
}

static void
assert_waits(struct fixture *f, int64_t ms, const char *name)
{
	assert_int_equal(smtp_client_timeout_ms(&f->client), ms);
	assert_string_equal(smtp_client_waiting_for(&f->client), name);
}

static void
test_waits(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	assert_int_equal(says(&f, ""), CLIENT_WAIT);
	assert_waits(&f, 1, "the greeting");
	assert_int_equal(says(&f, "220 mx.example.net\r\n"), CLIENT_WAIT);
	assert_waits(&f, 2, "the reply to EHLO");
	assert_int_equal(says(&f, "500 what?\r\n"), CLIENT_WAIT);
	assert_waits(&f, 2, "the reply to HELO");
	assert_int_equal(says(&f, "250 x\r\n"), CLIENT_READY);
	assert_waits(&f, -1, "the next message");
	assert_false(smtp_client_can_queue(&f.client));
	smtp_client_send(&f.client, &f.transaction);
	assert_ptr_equal(f.client.current, &f.transaction);
	assert_waits(&f, 3, "the reply to MAIL");
	assert_int_equal(says(&f, "250 x\r\n"), CLIENT_WAIT);
	assert_waits(&f, 4, "the reply to RCPT");
	assert_int_equal(says(&f, "250 x\r\n"), CLIENT_WAIT);
	assert_int_equal(says(&f, "550 x\r\n"), CLIENT_WAIT);
	assert_waits(&f, 5, "the reply to DATA");
	assert_int_equal(says(&f, "354 x\r\n"), CLIENT_BODY);
	assert_waits(&f, 6, "room to send the message");
	smtp_client_body(&f.client, SPAN("one\r\n"));
	assert_int_equal(says(&f, ""), CLIENT_WAIT);
	smtp_client_body_end(&f.client);
	assert_null(f.client.current);
	assert_waits(&f, 7, "the reply to the final dot");
	assert_int_equal(says(&f, "250 x\r\n"), CLIENT_DONE);
	assert_ptr_equal(f.done, &f.transaction);
	assert_int_equal(says(&f, ""), CLIENT_READY);
	assert_int_equal(says(&f, ""), CLIENT_WAIT);
	smtp_client_quit(&f.client);
	assert_waits(&f, 8, "the reply to QUIT");
	assert_int_equal(says(&f, "221 x\r\n"), CLIENT_CLOSED);
	assert_waits(&f, -1, "the end of the connection");
	assert_int_equal(f.client.failure.code, 0);
	assert_int_equal(f.client.failure.text.len, 0);
	assert_int_equal(says(&f, "anything"), CLIENT_CLOSED);
	tear_down(&f);
}

static void
test_transaction_facts(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	says(&f, "220 mx.example.net ESMTP\r\n");
	assert_true(span_eq(f.client.greeting_name, SPAN("mx.example.net")));
	assert_int_equal(says(&f, "250-x\r\n250-DSN\r\n250 CHUNKING\r\n"), CLIENT_READY);
	smtp_client_send(&f.client, &f.transaction);
	assert_true(f.transaction.started);
	assert_true(f.transaction.dsn_passed);
	assert_true(span_eq(f.transaction.final_reply_host, SPAN("mx.example.net")));
	assert_int_equal(f.client.transactions, 1);
	says(&f, "250 x\r\n");
	says(&f, "250 x\r\n");
	assert_int_equal(says(&f, "250 x\r\n"), CLIENT_BODY);
	assert_waits(&f, 6, "room to send the message");
	smtp_client_body(&f.client, SPAN("one"));
	smtp_client_lost(&f.client, SPAN("gone"));
	assert_int_equal(says(&f, ""), CLIENT_DONE);
	assert_true(f.transaction.lost);
	assert_int_equal(f.outcomes[1].fate, FATE_TEMPORARY);
	assert_int_equal(f.outcomes[1].stage, STAGE_BODY);
	assert_int_equal(says(&f, ""), CLIENT_CLOSED);
	/* what comes too late does no harm */
	smtp_client_body(&f.client, SPAN("more"));
	smtp_client_body_end(&f.client);
	smtp_client_body_failed(&f.client);
	smtp_client_lost(&f.client, SPAN("again"));
	smtp_client_quit(&f.client);
	assert_int_equal(buf_len(&f.client.out), 0);
	assert_true(span_eq(f.client.failure.text, SPAN("gone")));
	assert_int_equal(f.client.failure_stage, STAGE_BODY);
	tear_down(&f);
}

/* The owner may give a message while we take leave because the host wants no more. */
static void
test_given_too_late(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	says(&f, "220 x\r\n");
	assert_int_equal(says(&f, "250-x\r\n250 LIMITS MAILMAX=1\r\n"), CLIENT_READY);
	smtp_client_send(&f.client, &f.transaction);
	assert_int_equal(says(&f, "550 no\r\n"), CLIENT_DONE);
	buf_clear(&f.client.out);
	assert_int_equal(says(&f, ""), CLIENT_WAIT);
	assert_true(span_eq(buf_span(&f.client.out), SPAN("QUIT\r\n")));
	f.done = NULL;
	smtp_client_send(&f.client, &f.transaction);
	assert_int_equal(says(&f, ""), CLIENT_DONE);
	assert_ptr_equal(f.done, &f.transaction);
	assert_int_equal(f.outcomes[0].fate, FATE_NOT_TRIED);
	assert_false(f.transaction.started);
	assert_int_equal(says(&f, "221 bye\r\n"), CLIENT_CLOSED);
	assert_true(span_eq(buf_span(&f.client.out), SPAN("QUIT\r\n")));
	tear_down(&f);
}

static void
test_quit_before_greeting(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	smtp_client_quit(&f.client);
	says(&f, "220 x\r\n");
	buf_clear(&f.client.out);
	assert_int_equal(says(&f, "250 x\r\n"), CLIENT_WAIT);
	assert_true(span_eq(buf_span(&f.client.out), SPAN("QUIT\r\n")));
	assert_int_equal(says(&f, "221 x\r\n"), CLIENT_CLOSED);
	tear_down(&f);
}

/* A reply that began before MAIL was sent is not the one to MAIL, though it ends behind it. */
static void
test_reply_begun_too_early(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	says(&f, "220 x\r\n");
	assert_int_equal(says(&f, "250 x\r\n25"), CLIENT_READY);
	smtp_client_send(&f.client, &f.transaction);
	assert_int_equal(says(&f, "0 hm\r\n"), CLIENT_DONE);
	assert_int_equal(says(&f, ""), CLIENT_CLOSED);
	assert_int_equal(f.outcomes[0].fate, FATE_TEMPORARY);
	assert_int_equal(f.outcomes[0].reply.code, 0);
	tear_down(&f);
}

/* The same in the middle of a message, whose end goes out meanwhile: nobody knows. */
static void
test_reply_across_the_end(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	says(&f, "220 x\r\n");
	says(&f, "250 x\r\n");
	smtp_client_send(&f.client, &f.transaction);
	says(&f, "250 x\r\n");
	says(&f, "250 x\r\n");
	says(&f, "250 x\r\n");
	assert_int_equal(says(&f, "354 x\r\n"), CLIENT_BODY);
	assert_int_equal(says(&f, "55"), CLIENT_WAIT);
	smtp_client_body(&f.client, SPAN("one\r\n"));
	smtp_client_body_end(&f.client);
	assert_int_equal(says(&f, "0 no\r\n"), CLIENT_DONE);
	assert_int_equal(says(&f, ""), CLIENT_CLOSED);
	assert_ptr_equal(f.done, &f.transaction);
	assert_int_equal(f.outcomes[0].fate, FATE_UNCERTAIN);
	assert_int_equal(buf_len(&f.client.out), 0);
	tear_down(&f);
}

static void
test_more_than_promised(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	says(&f, "220 x\r\n");
	says(&f, "250-x\r\n250 CHUNKING\r\n");
	smtp_client_send(&f.client, &f.transaction);
	says(&f, "250 x\r\n");
	says(&f, "250 x\r\n");
	assert_int_equal(says(&f, "250 x\r\n"), CLIENT_BODY);
	smtp_client_body(&f.client, SPAN("one\r\ntwo\r\n"));
	smtp_client_body_end(&f.client);
	assert_int_equal(buf_len(&f.client.out), 0);
	assert_int_equal(says(&f, ""), CLIENT_DONE);
	assert_int_equal(f.outcomes[0].fate, FATE_TEMPORARY);
	assert_int_equal(says(&f, ""), CLIENT_CLOSED);
	tear_down(&f);
}

static void
test_features(void **state)
{
	struct smtp_features features;

	(void)state;
	client_read_features(SPAN("PIPELINING SIZE 5\nsize 1000 "
				  "\nPiPelining\n8BITMIME\nBINARYMIME\nCHUNKING\nDSN\n"
				  "SMTPUTF8\nENHANCEDSTATUSCODES\nSTARTTLS\nLIMITS rcptmax=5 "
				  "MAILMAX=x RCPTDOMAINMAX=2 =7 RCPTMAX="),
			     &features);
	assert_true(features.esmtp && features.pipelining && features.size &&
		    features.eightbitmime && features.binarymime && features.chunking &&
		    features.dsn && features.smtputf8 && features.enhanced && features.starttls);
	assert_int_equal(features.size_limit, 1000);
	assert_int_equal(features.limit_rcpt, 5);
	assert_int_equal(features.limit_mail, 0);
	assert_int_equal(features.limit_rcpt_domains, 2);
	client_read_features(SPAN("PIPELINING\nSIZE\nSIZE "
				  "99999999999999999999\nXPIPELINING\nDSNX\n\n"), &features);
	assert_true(features.size && !features.pipelining && !features.dsn);
	assert_int_equal(features.size_limit, 0);
}

static void
test_greeting_name(void **state)
{
	(void)state;
	assert_true(span_eq(client_greeting_name(SPAN("mx-1.Example.net ESMTP")),
			    SPAN("mx-1.Example.net")));
	assert_true(span_eq(client_greeting_name(SPAN("[192.0.2.1]\nx")), SPAN("[192.0.2.1]")));
	assert_int_equal(client_greeting_name(SPAN("mx<script> x")).len, 0);
	assert_int_equal(client_greeting_name(SPAN("")).len, 0);
	assert_int_equal(client_greeting_name(SPAN(" x")).len, 0);
}

/* No octet of an address can end the command, whatever went wrong before. */
static void
test_commands_stay_one_line(void **state)
{
	struct recipient recipient = { .address = SPAN("b\r\nDATA\r\n@x"),
				       .orcpt = SPAN("rfc822;\r\n") };
	struct envelope envelope = { .reverse_path = SPAN("a\n@x\0"), .envid = SPAN("\r"),
				     .ret = RET_FULL };
	struct smtp_features features = { .dsn = true };
	struct smtp_transaction t = { .envelope = &envelope };
	struct buf out = { 0 };

	(void)state;
	client_write_mail(&t, &features, false, false, &out);
	client_write_rcpt(&t, &recipient, &features, &out);
	assert_true(span_eq(buf_span(&out), SPAN("MAIL FROM:<a?@x?> RET=FULL ENVID=?\r\n"
						 "RCPT TO:<b??DATA??@x> ORCPT=rfc822;??\r\n")));
	buf_free(&out);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waits), cmocka_unit_test(test_transaction_facts),
		cmocka_unit_test(test_given_too_late), cmocka_unit_test(test_quit_before_greeting),
		cmocka_unit_test(test_reply_begun_too_early),
		cmocka_unit_test(test_reply_across_the_end),
		cmocka_unit_test(test_more_than_promised), cmocka_unit_test(test_features),
		cmocka_unit_test(test_greeting_name), cmocka_unit_test(test_commands_stay_one_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
