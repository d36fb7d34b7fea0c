/* test_command: command lines good and bad, and the table of texts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mta/smtp/command.h"
#include "mta/smtp/texts.h"

static const struct smtp_command_limits plain = { .extended = true, .offer_binarymime = true };

static struct smtp_command
parse(struct span line, const struct smtp_command_limits *limits, struct arena *arena,
      struct reply *error)
{
	struct smtp_command command;

	*error = (struct reply){ 0 };
	if (!smtp_command_parse(line, limits, arena, &command, error))
		assert_true(reply_class(error) == 5 && error->status.klass == 5);
	return command;
}

static void
test_texts(void **state)
{
	(void)state;
	for (size_t i = 0; i < TEXT_COUNT; i++) {
		const struct reply *reply = &smtp_texts[i];

		assert_true(reply->code >= 200 && reply->text.len > 0 && reply->text.len < 480);
		if (reply->code == 354)
			assert_int_equal(reply->status.klass, 0);
		else
			assert_int_equal(reply->status.klass, reply_class(reply));
		for (size_t k = 0; k < reply->text.len; k++)
			assert_true(reply->text.at[k] == '\n' ||
				    (reply->text.at[k] >= ' ' && reply->text.at[k] < 127));
	}
}

static void
test_good(void **state)
{
	struct arena arena = { 0 };
	struct smtp_command c;
	struct reply error;

	(void)state;
	c = parse(SPAN("mail from:<A@B> size=10 body=8bitmime smtputf8 ret=hdrs envid=a+2Bb"),
		  &plain, &arena, &error);
	assert_int_equal(error.code, 0);
	assert_int_equal(c.verb, VERB_MAIL);
	assert_true(span_eq(address_text(&c.path, &arena), SPAN("A@b")));
	assert_int_equal(c.size, 10);
	assert_int_equal(c.body, BODY_8BITMIME);
	assert_int_equal(c.ret, RET_HDRS);
	assert_true(c.smtputf8 && span_eq(c.envid, SPAN("a+2Bb")));
	c = parse(SPAN("MAIL FROM:<>  SIZE=99999999999999999999  BODY=BINARYMIME "), &plain, &arena,
		  &error);
	assert_int_equal(error.code, 0);
	assert_int_equal(c.size, UINT64_MAX);
	assert_int_equal(c.body, BODY_BINARYMIME);
	c = parse(SPAN("RCPT To:<x@y> NOTIFY=success,FAILURE,delay ORCPT=rfc822;x+2B@y"), &plain,
		  &arena, &error);
	assert_int_equal(error.code, 0);
	assert_int_equal(c.notify, NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY);
	assert_true(span_eq(c.orcpt, SPAN("rfc822;x+2B@y")));
	c = parse(SPAN("RCPT TO: x@y NOTIFY=NEVER"), &plain, &arena, &error);
	assert_int_equal(error.code, 0);
	assert_int_equal(c.notify, NOTIFY_NEVER);
	c = parse(SPAN("BDAT 100 last"), &plain, &arena, &error);
	assert_true(c.verb == VERB_BDAT && c.size == 100 && c.last && error.code == 0);
	c = parse(SPAN("BDAT 0"), &plain, &arena, &error);
	assert_true(c.verb == VERB_BDAT && c.size == 0 && !c.last && error.code == 0);
	c = parse(SPAN("EHLO [IPv6:2001:db8::1]"), &plain, &arena, &error);
	assert_true(c.verb == VERB_EHLO && span_eq(c.argument, SPAN("[IPv6:2001:db8::1]")));
	c = parse(SPAN("helo my_pc.local "), &plain, &arena, &error);
	assert_true(c.verb == VERB_HELO && span_eq(c.argument, SPAN("my_pc.local")));
	c = parse(SPAN("NOOP anything at all"), &plain, &arena, &error);
	assert_true(c.verb == VERB_NOOP && error.code == 0);
	c = parse(SPAN("DATA  "), &plain, &arena, &error);
	assert_true(c.verb == VERB_DATA && error.code == 0);
	arena_free(&arena);
}

static void
expect_error(const char *line, const struct smtp_command_limits *limits, unsigned code,
	     const char *status)
{
	struct arena arena = { 0 };
	struct reply error;
	char text[16];

	parse(span_str(line), limits, &arena, &error);
	if (error.code != code || strcmp(status_format(error.status, text), status) != 0)
		fail_msg("%s: %u %s instead of %u %s", line, error.code, text, code, status);
	arena_free(&arena);
}

static void
test_bad(void **state)
{
	static const struct {
		const char *line;
		unsigned code;
		const char *status;
	} samples[] = {
		{ "", 500, "5.5.1" }, { " ", 500, "5.5.1" }, { "XYZZY", 500, "5.5.1" },
		{ " MAIL FROM:<a@b>", 500, "5.5.1" },
		{ "MAI", 500, "5.5.1" }, { "MAILFROM:<a@b>", 500, "5.5.1" },
		{ "DATA\t", 500, "5.5.2" },
		{ "\001", 500, "5.5.2" }, { "NOOP \033[2J", 500, "5.5.2" },
		{ "MAIL FROM:<a\177@b>", 500, "5.5.2" }, { "\303\251", 500, "5.5.1" },
		{ "MAIL", 501, "5.5.2" }, { "MAIL FROM", 501, "5.5.2" },
		{ "MAIL <a@b>", 501, "5.5.2" },
		{ "MAIL TO:<a@b>", 501, "5.5.2" }, { "MAIL FROM:", 501, "5.1.7" },
		{ "MAIL FROM:<", 501, "5.1.7" },
		{ "MAIL FROM:<a>", 501, "5.1.7" }, { "MAIL FROM:<a@b", 501, "5.1.7" },
		{ "MAIL FROM:<a@b>SIZE=1", 501, "5.1.7" },
		{ "MAIL FROM:<postmaster>", 501, "5.1.7" },
		{ "MAIL FROM:<\303\251@b>", 553, "5.6.7" }, { "MAIL FROM:<\351@b>", 553, "5.6.7" },
		{ "MAIL FROM:<\351@b> SMTPUTF8", 501, "5.1.7" },
		{ "MAIL FROM:<\"\303\251 SMTPUTF8 \"@b>", 553, "5.6.7" },
		{ "MAIL FROM:<a@b> SIZE", 501, "5.5.4" }, { "MAIL FROM:<a@b> SIZE=", 501, "5.5.4" },
		{ "MAIL FROM:<a@b> SIZE=-1", 501, "5.5.4" },
		{ "MAIL FROM:<a@b> SIZE=1x", 501, "5.5.4" },
		{ "MAIL FROM:<a@b> SIZE=123456789012345678901", 501, "5.5.4" },
		{ "MAIL FROM:<a@b> SIZE=1 SIZE=1", 501, "5.5.4" },
		{ "MAIL FROM:<a@b> BODY=9BIT", 501, "5.5.4" },
		{ "MAIL FROM:<a@b> RET=SOME", 501, "5.5.4" },
		{ "MAIL FROM:<a@b> ENVID=", 501, "5.5.4" },
		{ "MAIL FROM:<a@b> ENVID=a+0D", 501, "5.5.4" },
		{ "MAIL FROM:<a@b> SMTPUTF8=YES", 501, "5.5.4" },
		{ "MAIL FROM:<a@b> FOO=BAR", 555, "5.5.4" }, { "MAIL FROM:<a@b> =", 555, "5.5.4" },
		{ "MAIL FROM:<a@b> AUTH=<>", 555, "5.5.4" },
		{ "MAIL FROM:<a@b> NOTIFY=NEVER", 555, "5.5.4" },
		{ "RCPT TO:<>", 501, "5.1.3" }, { "RCPT TO:<a>", 501, "5.1.3" },
		{ "RCPT FROM:<a@b>", 501, "5.5.2" },
		{ "RCPT TO:<\303\251@b>", 553, "5.6.7" }, { "RCPT TO:<a@b> SIZE=3", 555, "5.5.4" },
		{ "RCPT TO:<a@b> NOTIFY=", 501, "5.5.4" },
		{ "RCPT TO:<a@b> NOTIFY=NEVER,DELAY", 501, "5.5.4" },
		{ "RCPT TO:<a@b> NOTIFY=DELAY,", 501, "5.5.4" },
		{ "RCPT TO:<a@b> NOTIFY=,DELAY", 501, "5.5.4" },
		{ "RCPT TO:<a@b> NOTIFY=OFTEN", 501, "5.5.4" },
		{ "RCPT TO:<a@b> ORCPT=a@b", 501, "5.5.4" },
		{ "RCPT TO:<a@b> ORCPT=;a@b", 501, "5.5.4" },
		{ "RCPT TO:<a@b> ORCPT=rfc822;", 501, "5.5.4" },
		{ "RCPT TO:<a@b> ORCPT=rfc822;a+0A", 501, "5.5.4" },
		{ "RCPT TO:<a@b> ORCPT=utf-8;\303\251@b", 501, "5.5.4" },
		{ "EHLO", 501, "5.5.4" }, { "EHLO a b", 501, "5.5.4" },
		{ "EHLO \303\251", 501, "5.5.4" },
		{ "EHLO a(b)", 501, "5.5.4" }, { "HELO ", 501, "5.5.4" },
		{ "DATA now", 501, "5.5.4" },
		{ "RSET all", 501, "5.5.4" }, { "QUIT now", 501, "5.5.4" },
		{ "VRFY", 501, "5.5.4" },
		{ "STARTTLS now", 501, "5.5.4" }, { "EXPN list", 502, "5.5.1" },
		{ "AUTH", 501, "5.5.4" },
		{ "TURN", 502, "5.5.1" }, { "BDAT", 501, "5.5.4" }, { "BDAT x", 501, "5.5.4" },
		{ "BDAT -1", 501, "5.5.4" }, { "BDAT 1 FIRST", 501, "5.5.4" },
		{ "BDAT 1 LAST LAST", 501, "5.5.4" },
		{ "BDAT 123456789012345678901", 501, "5.5.4" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
		expect_error(samples[i].line, &plain, samples[i].code, samples[i].status);
}

static void
test_limits(void **state)
{
	struct smtp_command_limits strict = plain, helo = plain, local = plain, utf8 = plain,
				   binary = plain;
	struct arena arena = { 0 };
	struct reply error;
	char name[300];

	(void)state;
	strict.strict_addresses = true;
	expect_error("MAIL FROM: <a@b>", &strict, 501, "5.1.7");
	expect_error("MAIL FROM:a@b", &strict, 501, "5.1.7");
	helo.extended = false;
	expect_error("MAIL FROM:<a@b> SIZE=1", &helo, 555, "5.5.4");
	expect_error("MAIL FROM:<\303\251@b> SMTPUTF8", &helo, 553, "5.6.7");
	binary.offer_binarymime = false;
	expect_error("MAIL FROM:<a@b> BODY=BINARYMIME", &binary, 555, "5.5.4");
	local.local_submission = true;
	parse(SPAN("MAIL FROM:<root>"), &local, &arena, &error);
	assert_int_equal(error.code, 0);
	utf8.smtputf8 = true;
	parse(SPAN("RCPT TO:<\303\251@b\303\251.c> ORCPT=utf-8;\303\251@b"), &utf8, &arena, &error);
	assert_int_equal(error.code, 0);
	memset(name, 'a', sizeof(name));
	memcpy(name, "EHLO ", 5);
	parse(span_of(name, 5 + 255), &plain, &arena, &error);
	assert_int_equal(error.code, 0);
	parse(span_of(name, 5 + 256), &plain, &arena, &error);
	assert_int_equal(error.code, 501);
	parse(span_of("NOOP\0", 5), &plain, &arena, &error);
	assert_int_equal(error.code, 500);
	parse(span_of("NOOP a\0b", 8), &plain, &arena, &error);
	assert_int_equal(error.status.detail, 2);
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
