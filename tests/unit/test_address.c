/* test_address: paths good and bad, literals, UTF-8, xtext. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mta/base/address.h"

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define D60 "dddddddddd.dddddddddd.dddddddddd.dddddddddd.dddddddddd.ddddd"

struct sample {
	const char *text;
	unsigned flags;
	enum address_error error;
	const char *address, *rest;
};

static const struct sample paths[] = {
	{ "<a@b>", 0, ADDRESS_OK, "a@b", "" },
	{ "<a@b>", ADDRESS_STRICT, ADDRESS_OK, "a@b", "" },
	{ "<Some.One@Example.ORG> SIZE=3", 0, ADDRESS_OK, "Some.One@example.org", " SIZE=3" },
	{ "a@B.c SIZE=3", 0, ADDRESS_OK, "a@b.c", " SIZE=3" },
	{ "a@b", ADDRESS_STRICT, ADDRESS_SYNTAX, NULL, NULL },
	{ "<>", ADDRESS_NULL_OK, ADDRESS_OK, "", "" },
	{ "<> BODY=7BIT", ADDRESS_NULL_OK | ADDRESS_STRICT, ADDRESS_OK, "", " BODY=7BIT" },
	{ "<>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "", ADDRESS_NULL_OK, ADDRESS_SYNTAX, NULL, NULL },
	{ " ", ADDRESS_NULL_OK, ADDRESS_SYNTAX, NULL, NULL },
	{ "<", ADDRESS_NULL_OK, ADDRESS_SYNTAX, NULL, NULL },
	{ ">", ADDRESS_NULL_OK, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@b", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@b>>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@b>SIZE=3", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<<a@b>>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "< a@b>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@b >", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a b@c>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@b@c>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<@b>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a>", 0, ADDRESS_NO_DOMAIN, NULL, NULL },
	{ "<a>", ADDRESS_BARE_LOCAL_OK, ADDRESS_OK, "a", "" },
	{ "<postmaster>", 0, ADDRESS_NO_DOMAIN, NULL, NULL },
	{ "<PostMaster>", ADDRESS_POSTMASTER_OK, ADDRESS_OK, "PostMaster", "" },
	{ "<a>", ADDRESS_POSTMASTER_OK, ADDRESS_NO_DOMAIN, NULL, NULL },
	/* dots and hyphens */
	{ "<.a@b>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a.@b>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a..b@c>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@b..c>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@b.>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@.b>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@-b>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@b->", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@b_c.d>", 0, ADDRESS_OK, "a@b_c.d", "" },
	{ "<a@b/c>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<!#$%&'*+-/=?^_`{|}~@b>", 0, ADDRESS_OK, "!#$%&'*+-/=?^_`{|}~@b", "" },
	{ "<a@192.0.2.1>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@1.example>", 0, ADDRESS_OK, "a@1.example", "" },
	/* quoted local parts */
	{ "<\"a b\"@c>", 0, ADDRESS_OK, "\"a b\"@c", "" },
	{ "<\"ab\"@c>", 0, ADDRESS_OK, "ab@c", "" },
	{ "<\"a\\b\"@c>", 0, ADDRESS_OK, "ab@c", "" },
	{ "<\"a..b\"@c>", 0, ADDRESS_OK, "\"a..b\"@c", "" },
	{ "<\"a>b\"@c> X", 0, ADDRESS_OK, "\"a>b\"@c", " X" },
	{ "<\"a@b\"@c>", 0, ADDRESS_OK, "\"a@b\"@c", "" },
	{ "<\"\\\"\"@c>", 0, ADDRESS_OK, "\"\\\"\"@c", "" },
	{ "<\"\"@c>", 0, ADDRESS_OK, "\"\"@c", "" },
	{ "\"a b\"@c X", 0, ADDRESS_OK, "\"a b\"@c", " X" },
	{ "<\"a@c>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a\"@c>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<\"a\"b@c>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<\"a\\\"@c>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<\"a\001\"@c>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<\"a\\\r\"@c>", 0, ADDRESS_SYNTAX, NULL, NULL },
	/* source routes */
	{ "<@a,@b.c:d@e>", 0, ADDRESS_OK, "d@e", "" },
	{ "<@a:d@e>", 0, ADDRESS_OK, "d@e", "" },
	{ "<@[IPv6:::1]:d@e>", 0, ADDRESS_OK, "d@e", "" },
	{ "<@a:>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<@:d@e>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<@a,d@e>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<@a,b:d@e>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<@a..b:d@e>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<@a;rm -rf:d@e>", 0, ADDRESS_SYNTAX, NULL, NULL },
	/* literals */
	{ "<a@[192.0.2.1]>", 0, ADDRESS_OK, "a@[192.0.2.1]", "" },
	{ "<a@[IPv6:2001:DB8::1]>", 0, ADDRESS_OK, "a@[ipv6:2001:db8::1]", "" },
	{ "<a@[IPv6:::ffff:1.2.3.4]>", 0, ADDRESS_OK, "a@[ipv6:::ffff:1.2.3.4]", "" },
	{ "<a@[192.0.2]>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@[192.0.2.256]>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@[2001:db8::1]>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@[]>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@[x]>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@[1.2.3.4>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@[1.2.3.4]x>", 0, ADDRESS_SYNTAX, NULL, NULL },
	/* UTF-8 */
	{ "<\303\251@b>", 0, ADDRESS_NEEDS_UTF8, NULL, NULL },
	{ "<\303\251@b>", ADDRESS_UTF8, ADDRESS_OK, "\303\251@b", "" },
	{ "<a@b\303\251.c>", 0, ADDRESS_NEEDS_UTF8, NULL, NULL },
	{ "<a@b\303\251.c>", ADDRESS_UTF8, ADDRESS_OK, "a@b\303\251.c", "" },
	{ "<\303@b>", ADDRESS_UTF8, ADDRESS_BAD_UTF8, NULL, NULL },
	{ "<\300\200@b>", ADDRESS_UTF8, ADDRESS_BAD_UTF8, NULL, NULL },
	{ "<\355\240\200@b>", ADDRESS_UTF8, ADDRESS_BAD_UTF8, NULL, NULL },
	{ "<@\303\251:a@b>", 0, ADDRESS_NEEDS_UTF8, NULL, NULL },
	/* lengths */
	{ "<" A64 "@b>", 0, ADDRESS_OK, A64 "@b", "" },
	{ "<a" A64 A64 A64 A64 "@b>", 0, ADDRESS_TOO_LONG, NULL, NULL },
	{ "<a@" A64 ".b>", 0, ADDRESS_SYNTAX, NULL, NULL },
	{ "<a@" D60 "." D60 "." D60 "." D60 ".ddddddd>", 0, ADDRESS_OK,
	  "a@" D60 "." D60 "." D60 "." D60 ".ddddddd",
	  "" },
	{ "<a@" D60 "." D60 "." D60 "." D60 ".ddddddddd>", 0, ADDRESS_TOO_LONG, NULL, NULL },
};

static void
test_paths(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		const struct sample *s = &paths[i];
		struct address address = { 0 };
		struct span rest = { 0 };
		struct arena arena = { 0 };
		enum address_error error;

		error = address_parse_path(span_str(s->text), s->flags, &arena, &address, &rest);
		if (error != s->error)
			fail_msg("%s: error %d instead of %d", s->text, error, s->error);
		if (error == ADDRESS_OK) {
			struct span text = address_text(&address, &arena);

			if (!span_eq(text, span_str(s->address)) ||
			    !span_eq(rest, span_str(s->rest)))
				fail_msg("%s: read as %.*s, rest %.*s", s->text, SPAN_FMT(text),
					 SPAN_FMT(rest));
			assert_true(span_eq(address_local_of(text), address.local));
			assert_true(span_eq(address_domain_of(text), address.domain));
		}
		arena_free(&arena);
	}
}

static void
test_every_octet(void **state)
{
	struct arena arena = { 0 };

	(void)state;
	for (int c = 0; c < 256; c++) {
		char text[] = "<a?b@c?d>";
		struct address address;
		struct span rest;
		bool control = c < 33 || c == 127;

		text[2] = (char)c;
		text[6] = 'x';
		if (address_parse_path(span_of(text, 9), 0, &arena, &address, &rest) == ADDRESS_OK)
			assert_false(control || c > 127);
		text[2] = 'x';
		text[6] = (char)c;
		if (address_parse_path(span_of(text, 9), 0, &arena, &address, &rest) == ADDRESS_OK)
			assert_true(c == '.' || c == '-' || c == '_' || (c >= '0' && c <= '9') ||
				    ((c | 32) >= 'a' && (c | 32) <= 'z'));
	}
	arena_free(&arena);
}

static void
test_whole(void **state)
{
	struct arena arena = { 0 };
	struct address address;

	(void)state;
	assert_int_equal(address_parse(SPAN("a@b"), 0, &arena, &address), ADDRESS_OK);
	assert_int_equal(address_parse(SPAN(""), 0, &arena, &address), ADDRESS_SYNTAX);
	assert_int_equal(address_parse(SPAN(""), ADDRESS_NULL_OK, &arena, &address), ADDRESS_OK);
	assert_int_equal(address_text(&address, &arena).len, 0);
	assert_int_equal(address_parse(SPAN("a@b x"), 0, &arena, &address), ADDRESS_SYNTAX);
	assert_int_equal(address_parse(SPAN("<a@b>"), 0, &arena, &address), ADDRESS_SYNTAX);
	assert_int_equal(address_domain_of(SPAN("\"a@b\"")).len, 0);
	assert_int_equal(address_domain_of(SPAN("a")).len, 0);
	assert_int_equal(address_domain_of(SPAN("")).len, 0);
	assert_true(domain_valid(SPAN("[127.0.0.1]"), false));
	assert_true(domain_valid(SPAN("localhost"), false));
	assert_false(domain_valid(SPAN("a b"), false));
	assert_false(domain_valid(SPAN("\303\251"), false));
	assert_false(domain_valid(SPAN("127.0.0.1"), false));
	assert_false(domain_literal_valid(span_of("[127.0.0.1\0]", 12)));
	arena_free(&arena);
}

static void
test_utf8(void **state)
{
	static const char *const bad[] = {
		"\200", "\277", "\301\201", "\340\237\277", "\355\277\277", "\360\217\277\277",
		"\364\220\200\200",
		"\365\200\200\200", "\377", "\303", "\342\202", "\360\237\230", "a\303b",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(utf8_valid(span_str(bad[i])));
	assert_true(utf8_valid(
		SPAN("a\303\251\342\202\254\360\237\230\200\355\237\277\364\217\277\277")));
	assert_true(utf8_valid(SPAN("")));
}

static void
test_xtext(void **state)
{
	static const char *const bad[] = { "+", "+4", "a+4", "+4G", "+G4", "a b", "a\tb", "a\001",
					   "\303\251", "+0D+0A",
					   "+00", "+7F", "a\177" };
	struct arena arena = { 0 };
	struct span text;
	struct buf out = { 0 };
	char all[256];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(xtext_decode(span_str(bad[i]), &arena, &text));
	assert_true(xtext_decode(SPAN("a+2Bb+3Dc+20d+3d=x"), &arena, &text));
	assert_true(span_eq(text, SPAN("a+b=c d==x")));
	assert_true(xtext_decode(SPAN(""), &arena, &text));
	assert_int_equal(text.len, 0);
	for (int c = 0; c < 256; c++)
		all[c] = (char)c;
	xtext_encode(span_of(all + 32, 95), &out);
	assert_true(xtext_decode(buf_span(&out), &arena, &text));
	assert_true(span_eq(text, span_of(all + 32, 95)));
	buf_clear(&out);
	xtext_encode(span_of(all, 256), &out);
	for (size_t i = 0; i < buf_len(&out); i++)
		assert_true(buf_span(&out).at[i] > 32 && buf_span(&out).at[i] < 127);
	buf_free(&out);
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_every_octet),
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_xtext),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
