/* test_sendmail: the command line, address lists, and the message that tram-sendmail makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include <cmocka.h>

#include "mta/sendmail/sendmail.h"

static char complaint[256];

/* Stands for the one in main. */
int
sendmail_fail(int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(complaint, sizeof(complaint), format, ap);
	va_end(ap);
	return code;
}

static void
assert_span(struct span got, const char *want)
{
	if (!span_eq(got, span_str(want)))
		fail_msg("got \"%.*s\", want \"%s\"", SPAN_FMT(got), want);
}

/*
 * ---- the command line
 * --------------------------------------------------------------------------------------------
 */

static int
parse(struct sendmail *s, const char *words)
{
	static char text[1024];
	char *argv[64], *rest = text;
	int argc = 0;

	snprintf(text, sizeof(text), "%s", words);
	while (*rest != '\0') {
		argv[argc++] = rest;
		rest += strcspn(rest, " ");
		if (*rest != '\0')
			*rest++ = '\0';
	}
	argv[argc] = NULL;
	return sendmail_parse(argc, argv, s);
}

static void
test_cron(void **state)
{
	struct sendmail s;

	(void)state;
	assert_int_equal(parse(&s, "/usr/sbin/sendmail -FCronDaemon -i -B8BITMIME -oem root"), 0);
	assert_int_equal(s.mode, SENDMAIL_SEND);
	assert_span(s.full_name, "CronDaemon");
	assert_true(s.dots_are_text && s.eightbit && !s.quiet);
	assert_int_equal(s.recipients.count, 1);
	assert_span(s.recipients.list[0], "root");
	arena_free(&s.arena);
}

static void
test_options(void **state)
{
	struct sendmail s;

	(void)state;
	assert_int_equal(parse(&s, "sendmail -tiv -oi -oeq -f <jo@a> -N success,delay -Rhdrs -V "
				   "a+b -F Jo -odb -O x=y"),
			 0);
	assert_true(s.from_header && s.dots_are_text && s.verbose && s.quiet && s.sender_given);
	assert_span(s.sender, "jo@a");
	assert_int_equal(s.notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
	assert_int_equal(s.ret, RET_HDRS);
	assert_span(s.envid, "a+2Bb");
	arena_free(&s.arena);
	assert_int_equal(parse(&s, "sendmail -fjo@a -- -x@y b@c,d@e"), 0);
	assert_int_equal(s.recipients.count, 3);
	assert_span(s.recipients.list[0], "-x@y");
	assert_span(s.recipients.list[2], "d@e");
	arena_free(&s.arena);
	assert_int_equal(parse(&s, "sendmail -f <> a@b"), 0);
	assert_true(s.sender_given && s.sender.len == 0);
	arena_free(&s.arena);
}

static void
test_modes(void **state)
{
	static const struct { const char *words; enum sendmail_mode mode; } cases[] = {
		{ "mailq", SENDMAIL_LIST }, { "/usr/bin/mailq", SENDMAIL_LIST },
		{ "newaliases", SENDMAIL_ALIASES },
		{ "sendmail -bp", SENDMAIL_LIST }, { "sendmail -bi", SENDMAIL_ALIASES },
		{ "sendmail -bs", SENDMAIL_SMTP },
		{ "sendmail -bm x", SENDMAIL_SEND }, { "sendmail -q", SENDMAIL_RUN_QUEUE },
		{ "sendmail -q30m", SENDMAIL_RUN_QUEUE }, { "sendmail --help", SENDMAIL_HELP },
		{ "sendmail --version", SENDMAIL_VERSION },
	};
	struct sendmail s;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse(&s, cases[i].words), 0);
		assert_int_equal(s.mode, cases[i].mode);
		arena_free(&s.arena);
	}
	assert_int_equal(parse(&s, "sendmail -qSa.example"), 0);
	assert_span(s.queue_sender, "a.example");
	arena_free(&s.arena);
}

static void
test_wrong_options(void **state)
{
	static const char *const cases[] = {
		"sendmail -y", "sendmail -f", "sendmail -b", "sendmail -bd", "sendmail -bt",
		"sendmail -N often x",
		"sendmail -N never,delay x", "sendmail -R all x", "sendmail -B binary x",
		"sendmail -f a,b x", "sendmail -qI",
		"sendmail <a", "sendmail -ty",
	};
	struct sendmail s;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (parse(&s, cases[i]) != EX_USAGE)
			fail_msg("%s was taken", cases[i]);
		arena_free(&s.arena);
	}
}

/*
 * ---- address lists
 * -----------------------------------------------------------------------------------------------
 */

static void
test_lists(void **state)
{
	static const struct { const char *list, *want; } cases[] = {
		{ "jo@a.example", "jo@a.example" },
		{ " jo@a.example , root ", "jo@a.example|root" },
		{ "Jo Doe <jo@a.example>, \"B, C\" <b@c>", "jo@a.example|b@c" },
		{ "jo@a (not, (this), \\) one), x@y", "jo@a|x@y" },
		{ "A group: a@b, C <c@d>;, e@f", "a@b|c@d|e@f" },
		{ "undisclosed-recipients:;", "" },
		{ "<@one,@two:jo@a>", "jo@a" },
		{ "\"john, \\\"doe\"@a.example", "\"john, \\\"doe\"@a.example" },
		{ "jo . doe @ a . example", "jo.doe@a.example" },
		{ "jo@[IPv6:::1], x@y", "jo@[IPv6:::1]|x@y" },
		{ "a@b,\r\n\tc@d", "a@b|c@d" },
		{ "j\xc3\xb6@a.example", "j\xc3\xb6@a.example" },
		{ ",,a@b,,", "a@b" }, { "", "" }, { "<>", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sendmail_addresses got = { 0 };
		struct arena arena = { 0 };
		struct buf text = { 0 };
		struct span bad;

		assert_true(sendmail_addresses_add(&got, span_str(cases[i].list), &arena, &bad));
		for (size_t n = 0; n < got.count; n++) {
			if (n > 0)
				buf_byte(&text, '|');
			buf_append(&text, got.list[n]);
		}
		assert_span(buf_span(&text), cases[i].want);
		buf_free(&text);
		arena_free(&arena);
	}
}

static void
test_bad_lists(void **state)
{
	static const char *const cases[] = { "jo doe", "<jo@a", "jo@a\x01", "<a b@c", "a@b, <c" };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sendmail_addresses got = { 0 };
		struct arena arena = { 0 };
		struct span bad;

		if (sendmail_addresses_add(&got, span_str(cases[i]), &arena, &bad))
			fail_msg("%s was taken", cases[i]);
		arena_free(&arena);
	}
}

/*
 * ---- the message
 * -------------------------------------------------------------------------------------------------
 */

struct made {
	struct sendmail s;
	struct sendmail_message m;
	bool ok;
	char text[4096];
};

/* The input cut into pieces of `piece` octets. */
static void
make(struct made *x, struct span input, size_t piece)
{
	static const struct sendmail_facts facts = {
		.login = { "jo", 2 }, .full_name = { "Jo \"J\" Doe", 10 },
		.hostname = { "tram.test", 9 }, .now_ms = 0, .unique = 1,
	};
	struct span bad;

	x->m.dots_are_text = x->s.dots_are_text;
	for (; input.len > 0; input = span_skip(input, piece))
		sendmail_message_take(&x->m, span_first(input, piece));
	sendmail_message_end(&x->m);
	x->ok = sendmail_message_complete(&x->m, &x->s, &facts, &bad);
	snprintf(x->text, sizeof(x->text), "%.*s%.*s", SPAN_FMT(buf_span(&x->m.header)),
		 SPAN_FMT(x->m.body));
}

static void
unmake(struct made *x)
{
	sendmail_message_free(&x->m);
	arena_free(&x->s.arena);
}

#define HAS "From: x@y\nDate: d\nMessage-ID: <m>\n"
#define HAS_CRLF "From: x@y\r\nDate: d\r\nMessage-ID: <m>\r\n"

static void
test_lines(void **state)
{
	static const struct { struct span in; const char *out; bool dots_are_text; } cases[] = {
		{ SPAN(HAS "\nhi\n"), HAS_CRLF "\r\nhi\r\n", false },
		{ SPAN(HAS_CRLF "\r\nhi\r\n"), HAS_CRLF "\r\nhi\r\n", false },
		{ SPAN(HAS "\nno end"), HAS_CRLF "\r\nno end\r\n", false },
		{ SPAN(HAS "\na\n.\nb\n"), HAS_CRLF "\r\na\r\n", false },
		{ SPAN(HAS "\na\n.\nb\n"), HAS_CRLF "\r\na\r\n.\r\nb\r\n", true },
		{ SPAN(HAS "\n..a\n.b\n"), HAS_CRLF "\r\n..a\r\n.b\r\n", false },
		{ SPAN(HAS "\na\rb\n"), HAS_CRLF "\r\na\r\nb\r\n", false },
		{ SPAN("From jo Sat Nov 21\n" HAS "\nhi\n"), HAS_CRLF "\r\nhi\r\n", false },
		{ SPAN(HAS), HAS_CRLF "\r\n", false },
		{ SPAN(HAS "no field\n"), HAS_CRLF "\r\nno field\r\n", false },
		{ SPAN(HAS "\n\n\nhi\n"), HAS_CRLF "\r\n\r\n\r\nhi\r\n", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t piece = 1; piece <= cases[i].in.len; piece++) {
			struct made x = { .s.dots_are_text = cases[i].dots_are_text };

			make(&x, cases[i].in, piece);
			assert_true(x.ok);
			assert_string_equal(x.text, cases[i].out);
			unmake(&x);
		}
}

static void
test_missing_fields(void **state)
{
	struct made x = { 0 };

	(void)state;
	make(&x, SPAN("Subject: s\n\nhi\n"), 100);
	assert_non_null(strstr(x.text, "Subject: s\r\nMessage-ID: <"));
	assert_non_null(strstr(x.text, ".0000000000000001@tram.test>\r\nDate: "));
	assert_non_null(strstr(x.text,
			       "\r\nFrom: \"Jo \\\"J\\\" Doe\" <jo@tram.test>\r\n\r\nhi\r\n"));
	assert_false(x.m.eightbit);
	unmake(&x);
	x = (struct made){ .s = { .sender = SPAN("a@b"), .full_name = SPAN("J\xc3\xb6") } };
	make(&x, SPAN("\nh\xc3\xb6\n"), 100);
	assert_non_null(strstr(x.text, "From: =?utf-8?B?SsO2?= <a@b>\r\n\r\nh\xc3\xb6\r\n"));
	assert_true(x.m.eightbit);
	unmake(&x);
	x = (struct made){ 0 };
	make(&x, SPAN(""), 1);
	assert_true(x.ok);
	assert_int_equal(x.m.body.len, 0);
	unmake(&x);
}

static void
test_recipients_from_header(void **state)
{
	struct made x = { .s.from_header = true };

	(void)state;
	make(&x,
	     SPAN("To: a@b,\n c@d\nBCC: secret@e,\n more@e\ncc: (no) F <f@g>\n" HAS
		  "\nTo: not@this\n"),
	     100);
	assert_true(x.ok);
	assert_int_equal(x.s.recipients.count, 5);
	assert_span(x.s.recipients.list[1], "c@d");
	assert_span(x.s.recipients.list[3], "more@e");
	assert_null(strstr(x.text, "secret"));
	assert_null(strstr(x.text, "more@e"));
	assert_non_null(strstr(x.text, "To: a@b,\r\n c@d\r\ncc: (no)"));
	unmake(&x);
	x = (struct made){ .s.from_header = true };
	make(&x, SPAN("To: a@b\nResent-To: c@d\nResent-Bcc: e@f\n" HAS "\n\n"), 100);
	assert_int_equal(x.s.recipients.count, 2);
	assert_span(x.s.recipients.list[0], "c@d");
	assert_null(strstr(x.text, "e@f"));
	unmake(&x);
	x = (struct made){ 0 };
	make(&x, SPAN("Bcc: kept@e\n" HAS "\n"), 100);
	assert_int_equal(x.s.recipients.count, 0);
	assert_non_null(strstr(x.text, "Bcc: kept@e"));
	unmake(&x);
	x = (struct made){ .s.from_header = true };
	make(&x, SPAN("To: <a@b\n" HAS "\n"), 100);
	assert_false(x.ok);
	unmake(&x);
}

static void
test_too_large(void **state)
{
	struct sendmail_message m = { .max_size = 100 };

	(void)state;
	for (int i = 0; i < 300; i++)		/* one endless line is no way round it */
		sendmail_message_take(&m, SPAN("x"));
	assert_true(m.too_large);
	assert_true(buf_len(&m.line) <= 101);
	sendmail_message_free(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cron), cmocka_unit_test(test_options),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_wrong_options), cmocka_unit_test(test_lists),
		cmocka_unit_test(test_bad_lists),
		cmocka_unit_test(test_lines), cmocka_unit_test(test_missing_fields),
		cmocka_unit_test(test_recipients_from_header), cmocka_unit_test(test_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
