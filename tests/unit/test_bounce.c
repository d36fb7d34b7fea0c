/* test_bounce: delivery reports, read back by a strict parser. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mta/bounce/bounce.h"
#include "tests/unit/report_parser.h"

#define HEADER                                                                            \
	"Received: from a by b; now\r\nMessage-ID:\r\n <orig.1@example.org>\r\nSubject: " \
	"hello\r\n\r\n"
#define MINUTES 60000LL
#define HOURS (60 * MINUTES)
#define ARRIVAL 1700000000000LL

/* One report with one recipient, to be changed before it is built. */
struct fixture {
	struct attempt attempts[4];
	struct history_record history;
	struct recipient recipient;
	struct bounce_recipient bounce;
	struct queue_message message;
	struct bounce_facts facts;
	struct buf header, body;
	struct parsed_report report;
	uint32_t flags;
};

static void
begin(struct fixture *f)
{
	*f = (struct fixture){ 0 };
	f->attempts[0] = (struct attempt){ .at_ms = ARRIVAL + HOURS, .host = SPAN("mx.example.net"),
					   .address = SPAN("192.0.2.1:25"), .code = 550,
					   .status = { 5, 1, 1 }, .text = SPAN("no such user") };
	f->history = (struct history_record){ .attempts = f->attempts, .kept = 1,
					      .attempt_count = 1 };
	f->recipient.address = SPAN("user@example.net");
	f->bounce = (struct bounce_recipient){ .recipient = &f->recipient, .action = REPORT_FAILED,
					       .history = &f->history };
	f->message.record = (struct message_record){ .id = 77, .arrival_ms = ARRIVAL };
	f->message.envelope.reverse_path = SPAN("sender@example.org");
	f->facts = (struct bounce_facts){ .id = 4711, .now_ms = ARRIVAL + 5 * HOURS,
					  .hostname = SPAN("relay.example.org"),
					  .message = &f->message, .recipients = &f->bounce,
					  .count = 1,
					  .content = SPAN(HEADER "body\r\n"), .full = true };
}

static void
build(struct fixture *f)
{
	f->flags = bounce_build(&f->facts, &f->header, &f->body);
	parse_report(&f->report, buf_span(&f->header), buf_span(&f->body), f->facts.count);
	assert_int_equal(f->report.recipient_count, f->facts.count);
}

static void
end(struct fixture *f)
{
	buf_free(&f->header);
	buf_free(&f->body);
	arena_free(&f->report.arena);
}

static void
expect(const struct fixture *f, const char *name, const char *value)
{
	expect_field(&f->report.recipients[0], name, value);
}

static bool
says(const struct fixture *f, const char *words)
{
	struct span text = f->report.parts[0].content;

	return memmem(text.at, text.len, words, strlen(words)) != NULL;
}

static void
test_failed(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f);
	f.message.envelope.envid = SPAN("QQ+2B314");
	f.recipient.orcpt = SPAN("rfc822;User+2Bx@Example.NET");
	build(&f);
	expect_field(&f.report.header, "From",
		     "Mail Delivery System <MAILER-DAEMON@relay.example.org>");
	expect_field(&f.report.header, "To", "<sender@example.org>");
	expect_field(&f.report.header, "Subject", "Your message could not be delivered");
	expect_field(&f.report.header, "Auto-Submitted", "auto-replied");
	expect_field(&f.report.header, "MIME-Version", "1.0");
	expect_field(&f.report.header, "In-Reply-To", "<orig.1@example.org>");
	expect_field(&f.report.header, "References", "<orig.1@example.org>");
	expect_field(&f.report.header, "Content-Transfer-Encoding", NULL);
	assert_non_null(find_field(&f.report.header, "Date"));
	assert_non_null(find_field(&f.report.header, "Message-ID"));
	expect_field(&f.report.message, "Reporting-MTA", "dns; relay.example.org");
	expect_field(&f.report.message, "Original-Envelope-Id", "QQ+314");
	assert_non_null(find_field(&f.report.message, "Arrival-Date"));
	expect(&f, "Original-Recipient", "rfc822; User+x@Example.NET");
	expect(&f, "Final-Recipient", "rfc822; user@example.net");
	expect(&f, "Action", "failed");
	expect(&f, "Status", "5.1.1");
	expect(&f, "Remote-MTA", "dns; mx.example.net");
	expect(&f, "Diagnostic-Code", "smtp; 550 5.1.1 no such user");
	assert_non_null(find_field(&f.report.recipients[0], "Last-Attempt-Date"));
	expect(&f, "Will-Retry-Until", NULL);
	expect_field(&f.report.message, "Deliver-By-Date", NULL);
	expect_field(&f.report.message, "Future-Release-Request", NULL);
	assert_true(says(&f, "<user@example.net>"));
	assert_true(says(
		&f, "The server mx.example.net refused it:\r\n        550 5.1.1 no such user\r\n"));
	assert_true(says(&f, "typing mistakes"));
	assert_true(span_eq(type_of(&f.report.parts[0]), SPAN("text/plain; charset=us-ascii")));
	assert_true(span_eq(type_of(&f.report.parts[1]), SPAN("message/delivery-status")));
	assert_true(span_eq(type_of(&f.report.parts[2]), SPAN("message/rfc822")));
	assert_true(span_eq(f.report.parts[2].content, SPAN(HEADER "body\r\n")));
	assert_int_equal(f.flags, MESSAGE_REPORT);
	end(&f);
}

/* RFC 2852 §5, 4865 §5.1.2: what its sender had asked for. */
static void
test_times_asked_for(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f);
	f.message.envelope.by_mode = BY_RETURN;
	f.message.envelope.by_ms = ARRIVAL + HOURS;
	f.message.record.flags = MESSAGE_RELEASED;
	f.message.record.due_ms = ARRIVAL + 60000;
	build(&f);
	expect_field(&f.report.message, "Deliver-By-Date", "Tue, 14 Nov 2023 23:13:20 +0000");
	expect_field(&f.report.message, "Future-Release-Request", "until;2023-11-14T22:14:20Z");
	end(&f);
	begin(&f);
	f.message.record.flags = MESSAGE_RELEASED;
	f.message.record.arrival_ms = ARRIVAL + 123;
	f.message.record.due_ms = ARRIVAL + 123 + 60000;
	build(&f);
	expect_field(&f.report.message, "Future-Release-Request", "for;60");
	end(&f);
}

static void
expect_status(uint8_t action, bool delay, uint16_t code, struct status status, const char *want)
{
	struct fixture f;

	begin(&f);
	f.facts.delay = delay;
	f.bounce.action = action;
	f.attempts[0].code = code;
	f.attempts[0].status = status;
	build(&f);
	expect(&f, "Status", want);
	end(&f);
}

static void
test_status(void **state)
{
	static const struct status none = { 0, 0, 0 };

	(void)state;
	expect_status(REPORT_FAILED, false, 550, none, "5.0.0");
	expect_status(REPORT_FAILED, false, 550, (struct status){ 4, 7, 1 }, "5.7.1");
	expect_status(REPORT_FAILED, false, 550, (struct status){ 2, 1, 5 }, "5.0.0");
	expect_status(REPORT_FAILED, false, 0, (struct status){ 5, 1, 10 }, "5.1.10");
	expect_status(REPORT_FAILED, false, 450, (struct status){ 4, 2, 2 }, "4.4.7");
	expect_status(REPORT_FAILED, false, 450, (struct status){ 5, 2, 2 }, "4.4.7");
	expect_status(REPORT_FAILED, false, 0, none, "4.4.7");
	expect_status(REPORT_NONE, true, 450, (struct status){ 4, 2, 2 }, "4.2.2");
	expect_status(REPORT_NONE, true, 450, none, "4.0.0");
	expect_status(REPORT_NONE, true, 451, (struct status){ 5, 7, 1 }, "4.7.1");
	expect_status(REPORT_NONE, true, 0, none, "4.4.2");
	expect_status(REPORT_RELAYED, false, 250, (struct status){ 2, 6, 0 }, "2.6.0");
	expect_status(REPORT_RELAYED, false, 250, none, "2.0.0");
	expect_status(REPORT_DELIVERED, false, 250, (struct status){ 5, 6, 0 }, "2.0.0");
	expect_status(REPORT_EXPANDED, false, 0, none, "2.0.0");
}

static void
test_expired(void **state)
{
	static const struct attempt expiry = { .at_ms = ARRIVAL + 5 * HOURS, .status = { 4, 4, 7 },
					       .text = { "not in time", 11 } };
	struct fixture f;

	(void)state;
	/* tried itself: the words are those of the last real attempt */
	begin(&f);
	f.attempts[0].code = 451;
	f.attempts[0].status = (struct status){ 4, 3, 2 };
	f.attempts[0].text = SPAN("busy");
	f.attempts[1] = expiry;
	f.history.kept = 2;
	f.history.uncertain = true;
	build(&f);
	expect(&f, "Action", "failed");
	expect(&f, "Status", "4.4.7");
	expect(&f, "Remote-MTA", "dns; mx.example.net");
	expect(&f, "Diagnostic-Code", "smtp; 451 4.3.2 busy");
	assert_true(says(&f, "It was tried for 5 hours, but was never accepted."));
	assert_true(says(&f, "mx.example.net: 451 4.3.2 busy"));
	assert_true(says(&f, "may have got the message all the same"));
	assert_true(says(&f, "Send the message again later"));
	end(&f);

	/* never tried itself, with and without a note of its expiry */
	for (int i = 0; i < 2; i++) {
		begin(&f);
		f.attempts[0] = expiry;
		f.bounce.history = i ? &f.history : NULL;
		f.bounce.site_text = SPAN("connection refused");
		f.bounce.site_host = SPAN("mx2.example.net");
		build(&f);
		expect(&f, "Status", "5.4.7");
		expect(&f, "Remote-MTA", "dns; mx2.example.net");
		expect(&f, "Diagnostic-Code", "x-tram; connection refused");
		expect(&f, "Last-Attempt-Date", NULL);
		assert_true(says(&f, "no server that takes mail for this"));
		end(&f);
	}
	begin(&f);			/* and nothing known of the site at all */
	f.bounce.history = NULL;
	build(&f);
	expect(&f, "Status", "5.4.7");
	expect(&f, "Diagnostic-Code", NULL);
	expect(&f, "Remote-MTA", NULL);
	end(&f);
}

static void
test_delay(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f);
	f.facts.delay = true;
	f.facts.gives_up_ms = ARRIVAL + 120 * HOURS;
	f.bounce.action = REPORT_NONE;
	f.bounce.history = NULL;
	f.bounce.site_text = SPAN("421 4.3.2 too busy");
	build(&f);
	expect_field(&f.report.header, "Subject", "Your message is delayed");
	expect(&f, "Action", "delayed");
	expect(&f, "Status", "4.4.7");
	expect(&f, "Diagnostic-Code", "smtp; 421 4.3.2 too busy");
	assert_non_null(find_field(&f.report.recipients[0], "Will-Retry-Until"));
	assert_true(says(&f, "has not yet been delivered to this recipient"));
	assert_true(says(&f, "need not do anything"));
	assert_true(says(&f, find_field(&f.report.recipients[0], "Will-Retry-Until")->value.at));
	/* nothing has failed: only the header goes back */
	assert_true(span_eq(type_of(&f.report.parts[2]), SPAN("text/rfc822-headers")));
	assert_true(span_ends(f.report.parts[2].content, SPAN("Subject: hello\r\n")));
	end(&f);
}

static void
test_success(void **state)
{
	struct fixture f;
	struct bounce_recipient three[3];

	(void)state;
	begin(&f);
	f.attempts[0].code = 250;
	f.attempts[0].status = (struct status){ 2, 0, 0 };
	f.attempts[0].text = SPAN("queued as 123");
	f.attempts[0].host = SPAN("");
	f.attempts[0].address = SPAN("[2001:db8::1]:25");
	f.bounce.action = REPORT_RELAYED;
	build(&f);
	expect_field(&f.report.header, "Subject", "Your message was handed on");
	expect(&f, "Action", "relayed");
	expect(&f, "Remote-MTA", "dns; [IPv6:2001:db8::1]");
	assert_true(says(&f, "does not confirm deliveries"));
	assert_true(span_eq(type_of(&f.report.parts[2]), SPAN("text/rfc822-headers")));
	end(&f);

	/* of several the worst gives the subject, and comes first */
	begin(&f);
	three[0] = three[1] = three[2] = f.bounce;
	three[0].action = REPORT_DELIVERED;
	three[1].action = REPORT_EXPANDED;
	f.facts.recipients = three;
	f.facts.count = 3;
	build(&f);
	expect_field(&f.report.header, "Subject", "Your message could not be delivered");
	expect(&f, "Action", "delivered");
	expect_field(&f.report.recipients[2], "Action", "failed");
	assert_true(says(&f, "It is about the message that you sent on"));
	assert_true(says(&f, "could not be delivered to this recipient"));
	assert_true(says(&f, "was delivered to this recipient"));
	assert_true(says(&f, "all members of this list"));
	assert_true(span_eq(type_of(&f.report.parts[2]), SPAN("message/rfc822")));
	end(&f);
}

static void
test_original_recipient(void **state)
{
	static const struct { const char *orcpt, *plain, *utf8; } cases[] = {
		{ "rfc822;a+20b@c", "rfc822; a b@c", "rfc822; a b@c" },
		{ "x400;+2FG=x", "x400; /G=x", "x400; /G=x" },
		{ "rfc822;a+0D+0AX:1", "rfc822; a+0D+0AX:1", "rfc822; a+0D+0AX:1" },
		{ "rfc822;a+C3+BC", "rfc822; a+C3+BC", "rfc822; a+C3+BC" },
		{ "utf-8;j\\x{FC}@\\x{65E5}", "utf-8; j\\x{FC}@\\x{65E5}", "utf-8; jü@日" },
		{ "utf-8;jü@日\\x{1F600}", "utf-8; j\\x{FC}@\\x{65E5}\\x{1F600}", "utf-8; jü@日😀" },
		{ "utf-8;a\\x{0D}\\x{0A}b", "utf-8; a\\x{0D}\\x{0A}b", "utf-8; a\\x{0D}\\x{0A}b" },
		{ "utf-8;a\\x{D800}b", "utf-8; a\\x{D800}b", "utf-8; a\\x{D800}b" },
		{ "utf-8;a\\x{110000}", "utf-8; a\\x{110000}", "utf-8; a\\x{110000}" },
		{ "utf-8;a\\x{}", "utf-8; a\\x{}", "utf-8; a\\x{}" },
		{ "utf-8;a\\x{5C}\\x{2B}", "utf-8; a\\x{5C}\\x{2B}", "utf-8; a\\+" },
		{ "utf-8;a\\x{85}b", "utf-8; a\\x{85}b", "utf-8; a?b" },
		{ ";a", NULL, NULL },
		{ "rfc822;", NULL, NULL },
		{ "rfc822", NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture f;

		for (int utf8 = 0; utf8 < 2; utf8++) {
			begin(&f);
			f.recipient.orcpt = span_str(cases[i].orcpt);
			f.message.envelope.smtputf8 = utf8;
			build(&f);
			expect(&f, "Original-Recipient", utf8 ? cases[i].utf8 : cases[i].plain);
			end(&f);
		}
	}
}

static void
test_international(void **state)
{
	static const char content[] = "Subject: grüße\r\nMessage-ID: <ü@x>\r\n\r\nbody ü\r\n";
	struct fixture f;

	(void)state;
	begin(&f);
	f.message.envelope.smtputf8 = true;
	f.message.envelope.reverse_path = SPAN("jürgen@example.org");
	f.recipient.address = SPAN("用户@例子.example");
	f.attempts[0].text = SPAN("kein Empfänger");
	f.facts.content = span_str(content);
	f.facts.content_8bit = true;
	build(&f);
	expect_field(&f.report.header, "To", "<jürgen@example.org>");
	expect_field(&f.report.header, "In-Reply-To", NULL);
	expect(&f, "Final-Recipient", "utf-8; 用户@例子.example");
	expect(&f, "Diagnostic-Code", "smtp; 550 5.1.1 kein Empfänger");
	assert_true(span_eq(type_of(&f.report.parts[0]), SPAN("text/plain; charset=utf-8")));
	assert_true(span_eq(type_of(&f.report.parts[1]), SPAN("message/global-delivery-status")));
	assert_true(span_eq(type_of(&f.report.parts[2]), SPAN("message/global")));
	assert_true(says(&f, "用户@例子.example"));
	assert_int_equal(f.flags, MESSAGE_REPORT | MESSAGE_8BIT | MESSAGE_HEADER_UTF8);
	end(&f);

	begin(&f);			/* only its header */
	f.facts.content = span_str(content);
	f.facts.full = false;
	build(&f);
	assert_true(span_eq(type_of(&f.report.parts[2]), SPAN("message/global-headers")));
	assert_int_equal(f.flags, MESSAGE_REPORT | MESSAGE_8BIT);
	end(&f);

	/* a sender who does not speak it, octets that are no UTF-8 */
	begin(&f);
	f.recipient.address = SPAN("用@example.net");
	f.attempts[0].text = SPAN("f\374r");
	f.facts.content = SPAN("Subject: f\374r\r\n\r\nx\r\n");
	build(&f);
	expect(&f, "Final-Recipient", "utf-8; \\x{7528}@example.net");
	expect(&f, "Diagnostic-Code", "smtp; 550 5.1.1 f?r");
	assert_true(span_eq(type_of(&f.report.parts[1]), SPAN("message/delivery-status")));
	assert_true(span_eq(type_of(&f.report.parts[2]), SPAN("message/rfc822")));
	expect_field(&f.report.parts[2].header, "Content-Transfer-Encoding", "8bit");
	assert_true(span_eq(f.report.parts[2].content, f.facts.content));
	end(&f);
}

/* Everything that others may have a hand in, at its worst. */
static void
test_injection(void **state)
{
	static const char evil[] = "a\r\nBcc: x@y\r\n\r\n--=_\t\001\177\302\205\nX: 1 \xff";
	struct fixture f;

	(void)state;
	for (int utf8 = 0; utf8 < 2; utf8++) {
		begin(&f);
		f.message.envelope.smtputf8 = utf8;
		/* the last octet is no UTF-8 */
		f.attempts[0].text = span_of(evil, sizeof(evil) - 1 - (size_t)utf8);
		f.attempts[0].host = f.attempts[0].address = f.attempts[0].text;
		f.bounce.site_host = f.bounce.site_text = f.attempts[0].text;
		f.recipient.orcpt = f.recipient.address = f.attempts[0].text;
		f.message.envelope.envid = f.message.envelope.reverse_path = f.attempts[0].text;
		f.facts.content = SPAN("Message-ID: <a\r\n b@c>\r\n\r\n");
		build(&f);
		expect_field(&f.report.header, "Bcc", NULL);
		expect_field(&f.report.header, "X", NULL);
		expect_field(&f.report.header, "In-Reply-To", NULL);
		/*
		 * From, To, Subject, Date, Message-ID, Auto-Submitted, MIME-Version and two of
		 * Content-
		 */
		assert_int_equal(f.report.header.count,
				 8u +
				 (find_field(&f.report.header,
					     "Content-Transfer-Encoding") != NULL));
		assert_int_equal(f.report.part_count, 3);
		expect_field(&f.report.message, "X", NULL);
		expect(&f, "Bcc", NULL);
		end(&f);
	}
	begin(&f);			/* a type that is more than one */
	f.recipient.orcpt = SPAN("rf\r\nX: y;a");
	build(&f);
	expect(&f, "Original-Recipient", "rf??X: y; a");
	end(&f);
}

static void
test_long_texts(void **state)
{
	static char words[5000], solid[5000];
	struct fixture f;

	(void)state;
	memset(solid, 'x', sizeof(solid));
	for (size_t i = 0; i < sizeof(words); i++)
		words[i] = i % 7 == 6 ? ' ' : 'w';
	begin(&f);
	f.attempts[0].text = span_of(words, 1000);
	build(&f);
	assert_int_equal(find_field(&f.report.recipients[0], "Diagnostic-Code")->value.len,
			 strlen("smtp; 550 5.1.1 ") + 1000);
	assert_true(span_ends(find_field(&f.report.recipients[0], "Diagnostic-Code")->value,
			      span_of(words, 1000)));
	end(&f);
	for (size_t len = 890; len < 5000; len += len < 1010 ? 1 : 500) {
		begin(&f);
		f.attempts[0].text = f.attempts[0].host = f.recipient.orcpt =
			f.message.envelope.envid = span_of(solid, len);
		f.facts.full = false;
		f.facts.content = span_of(solid, len);
		build(&f);
		end(&f);
	}
}

/* Content that must not be sent as it is comes back as its header; long header lines are folded. */
static void
test_unfit_content(void **state)
{
	static const char *const bad[] = { "a\nb\r\n", "a\rb\r\n", "a\r\r\n" };
	struct buf text = { 0 };
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		buf_clear(&text);
		buf_append(&text, SPAN(HEADER));
		if (i < 3)
			buf_append(&text, span_str(bad[i]));
		else if (i == 3)
			buf_append(&text, SPAN("a\0b\r\n"));
		else
			for (size_t k = 0; k < 999; k++)
				buf_byte(&text, 'x');
		begin(&f);
		f.facts.content = buf_span(&text);
		build(&f);
		assert_true(span_eq(type_of(&f.report.parts[2]), SPAN("text/rfc822-headers")));
		assert_true(says(&f, "The header of your message is attached"));
		end(&f);
	}
	for (int blanks = 0; blanks < 3; blanks++) {
		for (size_t len = 980; len < 4000; len += len < 1010 ? 1 : 997) {
			buf_clear(&text);
			buf_append(&text, SPAN("Subject: a\0b\rc"));
			for (size_t k = 0; k < len; k++)
				buf_append(&text, blanks == 2		  ? SPAN("ü")
						  : blanks && k % 50 == 0 ? SPAN(" ")
									  : SPAN("s"));
			buf_append(&text, SPAN("\r\nTo: x\r\n\r\nbody\r\n"));
			begin(&f);
			f.facts.content = buf_span(&text);
			build(&f);
			assert_true(span_starts(f.report.parts[2].content, SPAN("Subject: a?b?c")));
			assert_true(span_ends(f.report.parts[2].content, SPAN("\r\nTo: x\r\n")));
			end(&f);
		}
	}
	buf_free(&text);
	begin(&f);			/* 998 is not too long; no CRLF at the end */
	for (size_t k = 0; k < 998; k++)
		buf_byte(&text, 'x');
	f.facts.content = buf_span(&text);
	build(&f);
	assert_true(span_eq(f.report.parts[2].content, buf_span(&text)));
	end(&f);
	buf_free(&text);
	begin(&f);			/* it cannot be read: the report says less */
	f.facts.content = SPAN("");
	build(&f);
	assert_int_equal(f.report.part_count, 2);
	assert_false(says(&f, "attached"));
	end(&f);
}

/* Where the queue knows the end of the header, a body without a blank line before it stays out. */
static void
test_header_size(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f);
	f.facts.content = SPAN("Received: x\r\nno field\r\n");
	f.message.record.header_size = 13;
	f.bounce.action = REPORT_RELAYED;
	build(&f);
	assert_true(span_eq(f.report.parts[2].content, SPAN("Received: x\r\n")));
	end(&f);
}

static void
test_boundary(void **state)
{
	struct buf content = { 0 };
	struct fixture f;
	const char *at;

	(void)state;
	begin(&f);
	build(&f);
	at = strstr(find_field(&f.report.header, "Content-Type")->value.at, "boundary=\"") + 10;
	buf_append(&content, SPAN(HEADER));
	for (int n = 0; n < 20; n++)
		buf_printf(&content, "--%.*s%d--\r\n", (int)strcspn(at, "\"") - 1, at, n);
	end(&f);
	begin(&f);
	f.facts.content = buf_span(&content);
	build(&f);
	assert_true(span_eq(f.report.parts[2].content, f.facts.content));
	end(&f);
	buf_free(&content);
}

static void
test_many(void **state)
{
	enum { MANY = 1000 };
	struct bounce_recipient *bounces = calloc(MANY, sizeof(*bounces));
	struct recipient *recipients = calloc(MANY, sizeof(*recipients));
	struct arena arena = { 0 };
	struct fixture f;

	(void)state;
	begin(&f);
	for (size_t i = 0; i < MANY; i++) {
		recipients[i].address = arena_printf(&arena, "user%zu@example.net", i);
		bounces[i] = f.bounce;
		bounces[i].recipient = &recipients[i];
	}
	f.facts.recipients = bounces;
	f.facts.count = MANY;
	build(&f);
	assert_true(says(&f, "could not be delivered to these 1000 recipients:"));
	assert_true(says(&f, "<user999@example.net>"));
	expect_field(&f.report.recipients[999], "Final-Recipient", "rfc822; user999@example.net");
	end(&f);
	arena_free(&arena);
	free(recipients);
	free(bounces);
}

/* A reply's text may bear its code and status already: they are not said twice. */
static void
test_said_once(void **state)
{
	static const char *const texts[] = { "no such user", "5.1.1 no such user",
					     "550 5.1.1 no such user" };
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		begin(&f);
		f.attempts[0].text = span_str(texts[i]);
		build(&f);
		expect(&f, "Diagnostic-Code", "smtp; 550 5.1.1 no such user");
		end(&f);
	}
	begin(&f);			/* ours: no code, no host */
	f.attempts[0] = (struct attempt){ .status = { 5, 4, 6 }, .text = SPAN("mail would loop") };
	build(&f);
	expect(&f, "Status", "5.4.6");
	expect(&f, "Remote-MTA", NULL);
	expect(&f, "Diagnostic-Code", "x-tram; mail would loop");
	assert_true(says(&f, "It cannot be sent there:\r\n        mail would loop"));
	end(&f);
}

static void
test_quoted_address(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f);
	f.recipient.address = SPAN("\"a  b\"@example.net");
	f.message.envelope.reverse_path = SPAN("\"x  <y>\"@example.org");
	build(&f);
	expect(&f, "Final-Recipient", "rfc822; \"a  b\"@example.net");
	expect_field(&f.report.header, "To", "<\"x  <y>\"@example.org>");
	end(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failed),
		cmocka_unit_test(test_times_asked_for),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_expired),
		cmocka_unit_test(test_delay),
		cmocka_unit_test(test_success),
		cmocka_unit_test(test_original_recipient),
		cmocka_unit_test(test_international),
		cmocka_unit_test(test_injection),
		cmocka_unit_test(test_long_texts),
		cmocka_unit_test(test_unfit_content),
		cmocka_unit_test(test_header_size),
		cmocka_unit_test(test_boundary),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_said_once),
		cmocka_unit_test(test_quoted_address),
	};

	setenv("TZ", "UTC", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
