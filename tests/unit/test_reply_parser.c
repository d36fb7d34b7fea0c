/* smtp/reply_parser: good, odd and hostile replies, whole and cut at every octet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mta/smtp/reply_parser.h"

enum { MAX_OCTETS = 600 };

static const struct {
	struct span in;
	const char *line;		/* as reply_to_line gives it; NULL: bad */
	const char *error;
} rows[] = {
	{ SPAN("250 ok\r\n"), "250 ok", NULL },
	{ SPAN("250\r\n"), "250", NULL },
	{ SPAN("250 \r\n"), "250", NULL },
	{ SPAN("250 ok\n"), "250 ok", NULL },
	{ SPAN("250-a\r\n250-b\r\n250 c\r\n"), "250 a / b / c", NULL },
	{ SPAN("250-a\r\n250\r\n"), "250 a", NULL },
	{ SPAN("550 5.7.1 relaying denied\r\n"), "550 5.7.1 relaying denied", NULL },
	{ SPAN("550-5.7.1 a\r\n550 5.7.1 b\r\n"), "550 5.7.1 a / b", NULL },
	{ SPAN("550-5.7.1 a\r\n550 5.1.1 b\r\n"), "550 5.7.1 a / 5.1.1 b", NULL },
	{ SPAN("550-first\r\n550 5.1.1 b\r\n"), "550 5.1.1 first / b", NULL },
	{ SPAN("550 4.7.1 class\r\n"), "550 4.7.1 class", NULL },
	{ SPAN("550 5.7.1\r\n"), "550 5.7.1", NULL },
	{ SPAN("550 5.7.1234 x\r\n"), "550 5.7.1234 x", NULL },
	{ SPAN("450-4.1.1 a\r\n550 b\r\n"), "550 a / b", NULL },	/* the last code counts */
	{ SPAN("250 a\rb\0c\x7f" "d\te\r\n"), "250 a?b?c?d e", NULL },
	{ SPAN("250 gr\xc3\xbc\xff\r\n"), "250 gr\xc3\xbc\xff", NULL },
	{ SPAN("200 a\r\n"), "200 a", NULL },
	{ SPAN("599 a\r\n"), "599 a", NULL },
	{ SPAN("199 a\r\n"), NULL, "not a reply of SMTP: 199 a" },
	{ SPAN("600 a\r\n"), NULL, "not a reply of SMTP: 600 a" },
	{ SPAN("\r\n"), NULL, "not a reply of SMTP: " },
	{ SPAN("25\r\n"), NULL, "not a reply of SMTP: 25" },
	{ SPAN("250ok\r\n"), NULL, "not a reply of SMTP: 250ok" },
	{ SPAN("+50 ok\r\n"), NULL, "not a reply of SMTP: +50 ok" },
	{ SPAN(" 250 ok\r\n"), NULL, "not a reply of SMTP:  250 ok" },
	{ SPAN("2500 ok\r\n"), NULL, "not a reply of SMTP: 2500 ok" },
	{ SPAN("250-a\r\nHTTP\x1b/1.0\r\n"), NULL, "not a reply of SMTP: HTTP?/1.0" },
};

static enum reply_parse
parse(struct reply_parser *p, struct span in, size_t piece, size_t *ret_taken, struct reply *ret)
{
	enum reply_parse result = REPLY_MORE;

	*ret_taken = 0;
	while (*ret_taken < in.len && result == REPLY_MORE) {
		size_t taken;

		result = reply_parser_take(p, span_first(span_skip(in, *ret_taken), piece), &taken,
					   ret);
		*ret_taken += taken;
	}
	return result;
}

static void
check_row(size_t row, size_t piece)
{
	struct reply_parser p;
	struct buf text = { 0 };
	struct reply reply;
	size_t taken;

	reply_parser_init(&p, MAX_OCTETS);
	assert_true(reply_parser_empty(&p));
	if (rows[row].line != NULL) {
		/* twice, so that nothing of the first is left in the second */
		for (int i = 0; i < 2; i++) {
			assert_int_equal(parse(&p, rows[row].in, piece, &taken, &reply),
					 REPLY_DONE);
			assert_int_equal(taken, rows[row].in.len);
			assert_true(reply_parser_empty(&p));
			buf_clear(&text);
			reply_to_line(&reply, &text);
			buf_byte(&text, '\0');
			assert_string_equal(buf_span(&text).at, rows[row].line);
		}
	} else {
		assert_int_equal(parse(&p, rows[row].in, piece, &taken, &reply), REPLY_BAD);
		assert_int_equal(reply.code, 0);
		assert_true(span_eq(reply.text, span_str(rows[row].error)));
		assert_int_equal(parse(&p, SPAN("250 ok\r\n"), piece, &taken, &reply), REPLY_BAD);
	}
	buf_free(&text);
	reply_parser_free(&p);
}

static void
test_rows(void **state)
{
	(void)state;
	for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++)
		for (size_t piece = 1; piece <= rows[row].in.len; piece++)
			check_row(row, piece);
}

static void
test_status(void **state)
{
	struct reply_parser p;
	struct reply reply;
	size_t taken;

	(void)state;
	reply_parser_init(&p, MAX_OCTETS);
	assert_int_equal(reply_parser_take(&p, SPAN("452 4.5.3 many\r\n250 x"), &taken, &reply),
			 REPLY_DONE);
	assert_int_equal(taken, 16);
	assert_int_equal(reply.code, 452);
	assert_int_equal(reply.status.klass * 10000 + reply.status.subject * 100 +
				 reply.status.detail,
			 40503);
	assert_true(span_eq(reply.text, SPAN("many")));
	reply_parser_free(&p);
}

static void
test_endless(void **state)
{
	static char filler[2 * MAX_OCTETS];
	struct reply_parser p;
	struct reply reply;
	size_t taken;

	(void)state;
	memset(filler, '2', sizeof(filler));
	for (size_t piece = 1; piece < 700; piece += 233) {
		reply_parser_init(&p, MAX_OCTETS);
		assert_int_equal(parse(&p, span_of(filler, sizeof(filler)), piece, &taken, &reply),
				 REPLY_BAD);
		assert_true(span_eq(reply.text, SPAN("a reply without end")));
		assert_true(p.line.cap <= 2 * MAX_OCTETS);
		reply_parser_free(&p);
	}
	reply_parser_init(&p, 1 << 20);
	for (unsigned i = 1; i < REPLY_LINES_MAX; i++)
		assert_int_equal(reply_parser_take(&p, SPAN("250-\r\n"), &taken, &reply),
				 REPLY_MORE);
	assert_int_equal(reply_parser_take(&p, SPAN("250-\r\n"), &taken, &reply), REPLY_BAD);
	assert_true(span_eq(reply.text, SPAN("a reply of too many lines")));
	reply_parser_free(&p);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows), cmocka_unit_test(test_status),
		cmocka_unit_test(test_endless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
