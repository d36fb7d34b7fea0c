/*
 * 8-bit → 7-bit: what each part becomes, whatever the cut of the input; depth, delimiters that are
 * none, headers that are odd.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mta/smtp/convert.h"

#define HEAD "From: a@example.org\r\n"
#define MIME "MIME-Version: 1.0\r\n"
#define CTE "Content-Transfer-Encoding: "
#define TYPE "Content-Type: "
#define U "\xc3\xbc"

static struct span
convert_cut(struct span in, size_t first, size_t step, struct buf *out)
{
	struct convert c;

	buf_clear(out);
	convert_init(&c);
	while (in.len > 0) {
		size_t len = first < in.len ? first : in.len;
		/* of its own size, so that a sanitizer sees what is read beyond it */
		char *piece = malloc(len + 1);

		memcpy(piece, in.at, len);
		convert_take(&c, span_of(piece, len), out);
		free(piece);
		in = span_skip(in, len);
		first = step;
	}
	convert_end(&c, out);
	convert_free(&c);
	return buf_span(out);
}

static void
expect_same(struct span in, size_t first, size_t step, struct span want)
{
	struct buf out = { 0 };
	struct span got = convert_cut(in, first, step, &out);

	if (!span_eq(got, want))
		fail_msg("cut %zu, %zu: \"%.*s\" is not \"%.*s\"", first, step, SPAN_FMT(got),
			 SPAN_FMT(want));
	buf_free(&out);
}

static void
expect_span(struct span in, struct span want)
{
	expect_same(in, in.len, in.len, want);
	expect_same(in, 1, 1, want);
	expect_same(in, 7, 7, want);
	for (size_t cut = 1; cut < in.len && in.len < 5000; cut++)
		expect_same(in, cut, in.len, want);
}

static void
expect(const char *in, const char *want)
{
	expect_span(span_str(in), span_str(want));
}

static void
test_one_part(void **state)
{
	(void)state;
	/* no MIME at all */
	expect(HEAD "\r\nGr" U "n\r\n", HEAD CTE "quoted-printable\r\n" MIME TYPE
	       "text/plain; charset=unknown-8bit\r\n\r\nGr=C3=BCn\r\n");
	/* text, declared; the field may be anywhere, and in any case */
	expect(MIME "content-transfer-ENCODING:\r\n 8BIT (really)\r\n" TYPE
		    "text/plain; charset=utf-8\r\n\r\n" U "\r\n",
	       MIME TYPE "text/plain; charset=utf-8\r\n" CTE "quoted-printable\r\n\r\n=C3=BC\r\n");
	/* text, not declared, but the message has octets above 127 somewhere */
	expect(MIME TYPE "text/html\r\n\r\n<b>" U "</b>",
	       MIME TYPE "text/html\r\n" CTE "quoted-printable\r\n\r\n<b>=C3=BC</b>");
	expect(MIME CTE "7bit\r\n\r\n" U, MIME CTE "quoted-printable\r\n" TYPE
	       "text/plain; charset=unknown-8bit\r\n\r\n=C3=BC");
	/* no text */
	expect(MIME TYPE "image/png\r\n" CTE "8bit\r\n\r\n\xff\xfe\r\n",
	       MIME TYPE "image/png\r\n" CTE "base64\r\n\r\n//4NCg==\r\n");
	expect(MIME TYPE "text/plain\r\n" CTE "binary\r\n\r\n\xff",
	       MIME TYPE "text/plain\r\n" CTE "base64\r\n\r\n/w==\r\n");
	/* encoded already */
	expect(MIME TYPE "image/png\r\n" CTE "base64\r\n\r\n//4=\r\n",
	       MIME TYPE "image/png\r\n" CTE "base64\r\n\r\n//4=\r\n");
	expect(MIME CTE "x-strange\r\n\r\n" U, MIME CTE "x-strange\r\n\r\n" U);
	/* hardly a message */
	expect("", CTE "quoted-printable\r\n" MIME TYPE "text/plain; charset=unknown-8bit\r\n");
	expect("Subject: a", "Subject: a\r\n" CTE "quoted-printable\r\n" MIME TYPE
			     "text/plain; charset=unknown-8bit\r\n");
	expect("Subject: a\r\nno field " U "\r\n",
	       "Subject: a\r\n" CTE "quoted-printable\r\n" MIME TYPE
	       "text/plain; charset=unknown-8bit\r\n\r\nno field =C3=BC\r\n");
}

static void
expect_body(const char *body, const char *want)
{
	static const char head[] = MIME TYPE "text/plain\r\n" CTE;
	char in[4000], out[4000];

	snprintf(in, sizeof(in), "%s8bit\r\n\r\n%s", head, body);
	snprintf(out, sizeof(out), "%squoted-printable\r\n\r\n%s", head, want);
	expect(in, out);
}

#define TEN "0123456789"
#define SEVENTY TEN TEN TEN TEN TEN TEN TEN

static void
test_quoted(void **state)
{
	struct buf want = { 0 };
	char body[600] = { 0 };

	(void)state;
	expect_body("a=b\r\n\r\n.\r\n", "a=3Db\r\n\r\n.\r\n");
	expect_body("blank \r\ntab\t\r\na b\r\n \r\nend ",
		    "blank=20\r\ntab=09\r\na b\r\n=20\r\nend=20");
	expect_body("\x01\x7f", "=01=7F");
	expect_body(SEVENTY "12345\r\n", SEVENTY "12345\r\n");
	expect_body(SEVENTY "123456\r\n", SEVENTY "12345=\r\n6\r\n");
	expect_body(SEVENTY "123" U "\r\n", SEVENTY "123=\r\n=C3=BC\r\n");
	expect_body(SEVENTY "1234 \r\n", SEVENTY "1234=\r\n=20\r\n");
	expect_body(SEVENTY "1234 6\r\n", SEVENTY "1234 =\r\n6\r\n");
	/* 560 octets in one line: 75 and a soft line end, seven times */
	memset(body, 'a', 560);
	for (size_t i = 0; i < 560; i++) {
		if (i > 0 && i % 75 == 0)
			buf_append(&want, SPAN("=\r\n"));
		buf_byte(&want, 'a');
	}
	buf_byte(&want, '\0');
	expect_body(body, want.at);
	buf_free(&want);
}

static void
test_base64(void **state)
{
	static const char head[] = TYPE "x/y\r\n" MIME CTE;
	char body[200] = { 0 }, in[400], out[400];

	(void)state;
	memset(body, 'a', 58);
	snprintf(in, sizeof(in), "%s8bit\r\n\r\n%s", head, body);
	snprintf(out, sizeof(out), "%sbase64\r\n\r\n%s\r\nYQ==\r\n", head,
		 "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh");
	expect(in, out);
	body[57] = '\0';
	snprintf(in, sizeof(in), "%s8bit\r\n\r\n%s", head, body);
	snprintf(out, sizeof(out), "%sbase64\r\n\r\n%s\r\n", head,
		 "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh");
	expect(in, out);
	expect(TYPE "x/y\r\n" MIME CTE "8bit\r\n\r\n\r\n\r\na\r\n",
	       TYPE "x/y\r\n" MIME CTE "base64\r\n\r\nDQoNCmENCg==\r\n");
	expect(TYPE "x/y\r\n" MIME CTE "8bit\r\n\r\n", TYPE "x/y\r\n" MIME CTE "base64\r\n\r\n");
}

static void
test_parts(void **state)
{
	(void)state;
	expect(MIME TYPE "multipart/mixed;\r\n\tboundary=\"b b\"\r\n" CTE "8bit\r\n\r\npreamble\r\n"
	       "--b b\r\n" CTE "8bit\r\n\r\n" U "\r\n--b\r\n--b bb\r\n -- b b\r\n"
	       "--b b \t\r\n" TYPE "image/png\r\n" CTE "binary\r\n\r\n\xff\r\n\r\n"
	       "--b b\r\n" TYPE "text/plain\r\n\r\nplain, not declared: " U "\r\n"
	       "--b b\r\n\r\nno header\r\n"
	       "--b b\r\n--b b--\r\nepilogue\r\n--b b\r\n",
	       MIME TYPE "multipart/mixed;\r\n\tboundary=\"b b\"\r\n" CTE "7bit\r\n\r\npreamble\r\n"
	       "--b b\r\n" CTE "quoted-printable\r\n\r\n=C3=BC\r\n--b\r\n--b bb\r\n -- b b\r\n"
	       "--b b \t\r\n" TYPE "image/png\r\n" CTE "base64\r\n\r\n/w0K\r\n"
	       "--b b\r\n" TYPE "text/plain\r\n\r\nplain, not declared: " U "\r\n"
	       "--b b\r\n\r\nno header\r\n"
	       "--b b\r\n--b b--\r\nepilogue\r\n--b b\r\n");
	/* one in another, whose boundary begins alike; the inner one is ended by the outer one */
	expect(TYPE "multipart/mixed; boundary=x\r\n" MIME "\r\n--x\r\n" TYPE
		    "multipart/alternative; boundary=xy\r\n\r\n"
		    "--xy\r\n" CTE "8bit\r\n\r\n" U "\r\n--x\r\n" CTE "8bit\r\n\r\n" U
		    "\r\n--xy\r\n" U "\r\n--x--",
	       TYPE "multipart/mixed; boundary=x\r\n" MIME "\r\n--x\r\n" TYPE
		    "multipart/alternative; boundary=xy\r\n\r\n"
		    "--xy\r\n" CTE "quoted-printable\r\n\r\n=C3=BC\r\n--x\r\n" CTE
		    "quoted-printable\r\n\r\n=C3=BC\r\n--xy\r\n=C3=BC\r\n--x--");
	/* a header that a delimiter ends, without a blank line */
	expect(TYPE "multipart/mixed; boundary=x\r\n\r\n--x\r\n" CTE "8bit\r\n--x--\r\n", TYPE
	       "multipart/mixed; boundary=x\r\n\r\n--x\r\n" CTE "quoted-printable\r\n--x--\r\n");
}

static void
test_messages(void **state)
{
	(void)state;
	expect(MIME TYPE "multipart/digest; boundary=d\r\n" CTE "8bit\r\n\r\n--d\r\n\r\nSubject: "
			 "in a digest\r\n" CTE "8bit\r\n\r\n" U "\r\n--d\r\n" TYPE
			 "message/rfc822\r\n" CTE "8bit\r\n\r\n" TYPE
			 "multipart/mixed; boundary=\"e\\\"\"\r\n\r\n--e\"\r\n" CTE "8bit\r\n\r\n" U
			 "\r\n--e\"--\r\n--d--\r\n",
	       MIME TYPE "multipart/digest; boundary=d\r\n" CTE "7bit\r\n\r\n--d\r\n\r\nSubject: "
			 "in a digest\r\n" CTE "quoted-printable\r\n\r\n=C3=BC\r\n--d\r\n" TYPE
			 "message/rfc822\r\n" CTE "7bit\r\n\r\n" TYPE
			 "multipart/mixed; boundary=\"e\\\"\"\r\n\r\n--e\"\r\n" CTE
			 "quoted-printable\r\n\r\n=C3=BC\r\n--e\"--\r\n--d--\r\n");
	/* a message in a message that begins without a header */
	expect(TYPE "message/rfc822\r\n" MIME "\r\n" U "\r\n",
	       TYPE "message/rfc822\r\n" MIME "\r\n" U "\r\n");
}

static void
test_types(void **state)
{
	static const struct { const char *value; bool multipart; } cases[] = {
		{ "multipart/mixed; boundary=b", true },
		{ "Multipart / Mixed (a \\) ; b) ; x=\"y; boundary=no\" ; BOUNDARY = (c) b", true },
		{ "multipart/mixed; boundary=\"b\"", true },
		{ "multipart/mixed; junk; =; ; boundary=b; boundary=c", true },
		{ "multipart/mixed;\r\n\tboundary=\r\n b", true },
		{ "multipart/mixed; boundary", false },
		{ "multipart/mixed; boundary=\"\"", false },
		{ "multipart/mixed; boundary=\"b", true },
		{ "multipart; boundary=b", false },
		{ "multipart/mixed", false },
		{ "text/plain; boundary=b", false },
		{ "(multipart/mixed; boundary=b", false },
		{ "\\", false },
		{ "", false },
	};
	char in[500], out[500];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(in, sizeof(in),
			 "Content-Type: %s\r\n" CTE "base64\r\n\r\n--b\r\n" CTE "8bit\r\n\r\n" U
			 "\r\n",
			 cases[i].value);
		expect(in, in);
		snprintf(in, sizeof(in),
			 TYPE "multipart/x; boundary=a\r\n\r\n--a\r\n" TYPE "%s\r\n\r\n--b\r\n" CTE
			      "8bit\r\n\r\n" U "\r\n",
			 cases[i].value);
		snprintf(out, sizeof(out),
			 TYPE "multipart/x; boundary=a\r\n\r\n--a\r\n" TYPE "%s\r\n\r\n--b\r\n" CTE
			      "%s\r\n\r\n%s\r\n",
			 cases[i].value, cases[i].multipart ? "quoted-printable" : "8bit",
			 cases[i].multipart ? "=C3=BC" : U);
		expect(in, out);
	}
}

static void
test_limits(void **state)
{
	struct buf in = { 0 }, want = { 0 }, huge = { 0 };

	(void)state;
	/* the deepest is not understood, and stays */
	for (int i = 0; i < CONVERT_DEPTH_MAX + 3; i++) {
		buf_printf(&in, TYPE "multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i);
		buf_printf(&want, TYPE "multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i);
	}
	buf_append(&in, SPAN(CTE "8bit\r\n\r\n" U "\r\n--b0\r\n" CTE "8bit\r\n\r\n" U));
	buf_append(&want,
		   SPAN(CTE "8bit\r\n\r\n" U "\r\n--b0\r\n" CTE "quoted-printable\r\n\r\n=C3=BC"));
	expect_span(buf_span(&in), buf_span(&want));
	/* a boundary of 70 is the longest */
	expect(TYPE "multipart/mixed; boundary=" SEVENTY "\r\n\r\n--" SEVENTY "\r\n" CTE
		    "8bit\r\n\r\n" U,
	       TYPE "multipart/mixed; boundary=" SEVENTY "\r\n\r\n--" SEVENTY "\r\n" CTE
		    "quoted-printable\r\n\r\n=C3=BC");
	expect(TYPE "multipart/mixed; boundary=1" SEVENTY "\r\n\r\n--1" SEVENTY "\r\n" CTE
		    "8bit\r\n\r\n" U,
	       TYPE "multipart/mixed; boundary=1" SEVENTY "\r\n\r\n--1" SEVENTY "\r\n" CTE
		    "8bit\r\n\r\n" U);
	/*
	 * one line of a header, and one of a body, without end; a delimiter with very many blanks
	 */
	for (int field = 0; field < 2; field++) {
		buf_clear(&huge);
		buf_printf(&huge, TYPE "multipart/mixed; boundary=b\r\n\r\n--b\r\n%s",
			   field ? "X: " : "");
		for (int i = 0; i < 30000; i++)
			buf_append(&huge, SPAN(TEN));
		buf_append(&huge, SPAN("\r\n" CTE "8bit\r\n\r\n" U "\r\n"));
		expect_span(buf_span(&huge), buf_span(&huge));
	}
	buf_clear(&huge);
	buf_append(&huge, SPAN(TYPE "multipart/mixed; boundary=b\r\n\r\n--b"));
	for (int i = 0; i < 60; i++)
		buf_append(&huge, SPAN("          "));
	buf_append(&huge, SPAN("\r\n" CTE "8bit\r\n\r\n" U "\r\n"));
	expect_span(buf_span(&huge), buf_span(&huge));
	buf_free(&in);
	buf_free(&want);
	buf_free(&huge);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_part), cmocka_unit_test(test_quoted),
		cmocka_unit_test(test_base64),	 cmocka_unit_test(test_parts),
		cmocka_unit_test(test_messages), cmocka_unit_test(test_types),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
