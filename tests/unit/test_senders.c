/* test_senders: who may send as whom; and the addresses of From: fields. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mta/auth/senders.h"

static const char file[] =
	"# users\n"
	"anna@example.org: Anna.Bell@Example.org, info+*@example.org,\t@lists.example.org\n"
	"printer: printer@example.org ,, \"two words\"@example.org\r\n"
	"news:@example.com\n"
	"news: @.example.com, x@[192.0.2.1]\n"
	"boss: *\n"
	"*: everybody@example.org\n";

static struct senders *
parse(const char *text)
{
	struct senders *s = NULL;
	struct buf errors = { 0 };

	if (senders_parse(SPAN("senders"), span_str(text), &errors, &s) != 0)
		fail_msg("%.*s", SPAN_FMT(buf_span(&errors)));
	return s;
}

static void
test_allow(void **state)
{
	static const struct { const char *user, *address; bool allowed; } rows[] = {
		{ "anna@example.org", "", true }, { "anna@example.org", "anna@example.org", true },
		{ "anna@example.org", "ANNA@example.org", true },
		{ "anna@example.org", "anna+x@example.org", true },
		{ "Anna@Example.ORG", "anna.bell@example.org", true },
		{ "anna@example.org", "anna.bell+x@example.org", false },
		{ "anna@example.org", "info+sales@example.org", true },
		{ "anna@example.org", "info@example.org", false },
		{ "anna@example.org", "info+a+b@example.org", true },
		{ "anna@example.org", "info+@example.org", true },
		{ "anna@example.org", "anything@lists.example.org", true },
		{ "anna@example.org", "a@b.lists.example.org", false },
		{ "anna@example.org", "bert@example.org", false },
		{ "anna@example.org", "annax@example.org", false },
		{ "anna@example.org", "anna@example.org.evil.net", false },
		{ "anna@example.org", "anna", false },
		{ "anna@example.org", "everybody@example.org", true },
		{ "printer", "printer@example.org", true },
		{ "printer", "\"two words\"@example.org", true },
		{ "printer", "printer+x@example.org", false },
		{ "printer", "anna@example.org", false }, { "news", "a@example.com", true },
		{ "news", "a@b.example.com", true }, { "news", "a@c.b.example.com", true },
		{ "news", "a@bexample.com", false }, { "news", "a@com", false },
		{ "news", "x@[192.0.2.1]", true },
		{ "news", "example.com", false }, { "boss", "who@ever.net", true },
		{ "nobody", "who@ever.net", false },
		{ "nobody", "everybody@example.org", true }, { "", "everybody@example.org", false },
		{ "", "", true }, { "*", "who@ever.net", false },
	};
	struct senders *s = parse(file);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (senders_allow(s, span_str(rows[i].user), span_str(rows[i].address)) !=
		    rows[i].allowed)
			fail_msg("%s as %s", rows[i].user, rows[i].address);
	assert_true(senders_allow(NULL, SPAN("a@b.net"), SPAN("A+x@b.net")));
	assert_false(senders_allow(NULL, SPAN("a@b.net"), SPAN("b@b.net")));
	assert_false(senders_allow(NULL, SPAN("a"), SPAN("a@b.net")));
	senders_free(s);
}

static void
test_faults(void **state)
{
	static const struct { const char *text, *error; } faults[] = {
		{ "anna\n", "senders:1: \"anna\": no addresses; " },
		{ "\nanna: ,\n", "senders:2: \"anna\": no addresses" },
		{ "anna: bert\n", "senders:1: \"bert\": neither an address" },
		{ "anna: *@example.org\n", "senders:1: \"*@example.org\": neither" },
		{ "anna: +*@example.org\n", "senders:1: \"+*@example.org\": neither" },
		{ "anna: @\n", "senders:1: \"@\": neither" },
		{ "anna: @.\n", "senders:1: \"@.\": neither" },
		{ "anna: a b@example.org\n", "senders:1: \"a b@example.org\": neither" },
		{ ": a@example.org\n", "senders:1: \"a@example.org\": no user's name" },
		{ "anna: a@example.org\x01\n", "senders:1: a control character" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct senders *s = NULL;
		struct buf errors = { 0 };

		assert_int_equal(senders_parse(SPAN("senders"), span_str(faults[i].text), &errors,
					       &s), -EINVAL);
		assert_null(s);
		if (!span_starts(buf_span(&errors), span_str(faults[i].error)))
			fail_msg("%.*s", SPAN_FMT(buf_span(&errors)));
		buf_free(&errors);
	}
}

static bool
gather(void *arg, struct span address)
{
	buf_append(arg, address);
	buf_byte(arg, ' ');
	return true;
}

static void
test_header_addresses(void **state)
{
	static const struct { const char *value, *addresses; } rows[] = {
		{ "anna@example.org", "anna@example.org " },
		{ " <anna@Example.ORG> ", "anna@example.org " },
		{ "Anna Bell <anna@example.org>", "anna@example.org " },
		{ "\"Bell, Anna\" <anna@example.org>", "anna@example.org " },
		{ "\"a@b.net\" <anna@example.org>", "anna@example.org " },
		{ "\"\\\"<x@y.net>\" <anna@example.org>", "anna@example.org " },
		{ "=?utf-8?q?Anna_B=2E?= <anna@example.org>", "anna@example.org " },
		{ "J\xc3\xb6rg <j\xc3\xb6rg@example.org>", "j\xc3\xb6rg@example.org " },
		{ "anna@example.org (Anna (Bell) \\) <x@y.net>)", "anna@example.org " },
		{ "(x@y.net)anna(c)@(d)example.org(e)", "anna@example.org " },
		{ "Anna\r\n <anna@example.org>", "anna@example.org " },
		{ "Dr. Anna B. <anna@example.org>", "anna@example.org " },
		{ "Anna [work] <anna@example.org>", "anna@example.org " },
		{ "a@b.net, Bert <c@d.net>,e@f.net", "a@b.net c@d.net e@f.net " },
		{ "a@b.net,", "a@b.net " },
		{ "a@b.net <c@d.net>", "a@b.net c@d.net " },		/* either may be shown */
		{ "Team: a@b.net, Bert <c@d.net>; , e@f.net", "a@b.net c@d.net e@f.net " },
		{ "Undisclosed: ;", "" }, { "", "" }, { " ", "" },
		{ "\"a b\"@c.net", "\"a b\"@c.net " }, { "\"ab\"@c.net", "ab@c.net " },
		{ "x@[192.0.2.1]", "x@[192.0.2.1] " },
		{ "<x@[IPv6:2001:db8::1]>", "x@[ipv6:2001:db8::1] " },
		{ "Anna", NULL }, { "Anna <>", NULL }, { "<@a.net:b@c.net>", NULL },
		{ "<a@b.net", NULL },
		{ "a@b.net>", NULL }, { "a b@c.net", NULL }, { "a@b.net c@d.net", NULL },
		{ "a@b.net;", NULL },
		{ "\"Anna <anna@example.org>", NULL }, { "(Anna anna@example.org", NULL },
		{ "<a@b.net> x", NULL },
		{ "a@b.net\nX: y", NULL }, { "a@b.net\r\nX: y", NULL }, { "a\x01@b.net", NULL },
		{ "A: B: a@b.net;;", NULL },
		{ "A: a@b.net", NULL }, { ": a@b.net;", NULL }, { "a@b@c.net", NULL },
		{ "a@", NULL }, { "@b.net", NULL },
		{ "a@b .net", NULL }, { "<a@b.net> <c@d.net>", NULL },
		{ "a@b.net <c@d.net> <e@f.net>", NULL },
		{ "\xff <a@b.net>", NULL }, { "a\\b <a@b.net>", NULL }, { "a@[1 2]", NULL },
		{ "<<a@b.net>>", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf out = { 0 };
		int n = senders_header_addresses(span_str(rows[i].value), gather, &out);

		buf_byte(&out, '\0');
		if ((rows[i].addresses == NULL) != (n < 0) ||
		    (n >= 0 && strcmp(out.at, rows[i].addresses) != 0))
			fail_msg("%s → %d %s", rows[i].value, n, out.at);
		buf_free(&out);
	}
	assert_int_equal(senders_header_addresses(SPAN("a\0@b.net"), gather, &(struct buf){ 0 }),
			 -EINVAL);
}

static void
check_field(const struct senders *s, const char *value, bool allowed, const char *expected)
{
	struct buf culprit = { 0 };

	assert_int_equal(senders_allow_field(s, SPAN("printer"), span_str(value), &culprit),
			 allowed);
	buf_byte(&culprit, '\0');
	assert_string_equal(culprit.at, expected);
	buf_free(&culprit);
}

static void
test_field(void **state)
{
	struct senders *s = parse(file);

	(void)state;
	check_field(s, "Printer <printer@example.org>, everybody@example.org", true, "");
	check_field(s, "printer@example.org, Boss <boss@example.org>, x@y.net", false,
		    "boss@example.org");
	check_field(s, "boss@example.org <printer@example.org>", false, "boss@example.org");
	check_field(s, " printer", false, "printer");
	senders_free(s);
}

/* Comments and lists as deep and as long as a peer likes. */
static void
test_hostile(void **state)
{
	struct buf value = { 0 }, out = { 0 };

	(void)state;
	for (int i = 0; i < 100000; i++)
		buf_byte(&value, '(');
	for (int i = 0; i < 100000; i++)
		buf_byte(&value, ')');
	buf_append(&value, SPAN("a@b.net"));
	assert_int_equal(senders_header_addresses(buf_span(&value), gather, &out), 1);
	buf_clear(&value);
	for (int i = 0; i <= SENDERS_HEADER_ADDRESSES; i++)
		buf_append(&value, SPAN("a@b.net,"));
	assert_int_equal(senders_header_addresses(buf_span(&value), gather, &out), -EINVAL);
	buf_free(&value);
	buf_free(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allow), cmocka_unit_test(test_faults),
		cmocka_unit_test(test_header_addresses),
		cmocka_unit_test(test_field), cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
