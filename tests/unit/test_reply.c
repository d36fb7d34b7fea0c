/* test_reply: status codes and replies, hostile texts included. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mta/base/reply.h"

static void
expect_wire(struct reply reply, const char *wire)
{
	struct buf out = { 0 };

	reply_format(&reply, &out);
	buf_byte(&out, '\0');
	assert_string_equal(out.at + out.start, wire);
	buf_free(&out);
}

static void
expect_line(struct reply reply, const char *line)
{
	struct buf out = { 0 };

	reply_to_line(&reply, &out);
	buf_byte(&out, '\0');
	assert_string_equal(out.at + out.start, line);
	buf_free(&out);
}

static void
test_status(void **state)
{
	static const char *const bad[] = {
		"", "5", "5.", "5.1", "5.1.", "3.1.1", "1.0.0", "6.0.0", "5.1.1.1", "5.01.1",
		"5.1.00", "5.1000.1",
		"5.1.1000", "5..1", "5.1.1x", "x.1.1", "5.-1.1", "5 1 1", "55.1.1",
	};
	struct status status = { 0 };
	char text[16];
	size_t len = 99;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(status_parse(span_str(bad[i]), &status, &len));
	assert_int_equal(len, 99);
	assert_int_equal(status.klass, 0);
	assert_true(status_parse(SPAN("5.7.1 no"), &status, &len));
	assert_int_equal(len, 5);
	assert_true(status_parse(SPAN("2.0.0"), &status, &len));
	assert_true(status_parse(SPAN("4.999.120\tx"), &status, &len));
	assert_int_equal(len, 9);
	assert_string_equal(status_format(status, text), "4.999.120");
}

static void
test_wire(void **state)
{
	(void)state;
	expect_wire(REPLY(250, 2, 1, 0, "sender ok"), "250 2.1.0 sender ok\r\n");
	expect_wire(REPLY(250, 0, 0, 0, "a\nb\nc"), "250-a\r\n250-b\r\n250 c\r\n");
	expect_wire(REPLY(550, 5, 7, 1, "a\nb"), "550-5.7.1 a\r\n550 5.7.1 b\r\n");
	expect_wire(REPLY(250, 0, 0, 0, ""), "250 \r\n");
	expect_wire(REPLY(550, 5, 0, 0, "a\rb\tc\001\177\303\251"), "550 5.0.0 a?b\tc????\r\n");
	/* a status that contradicts the code is not sent */
	expect_wire(REPLY(550, 4, 7, 1, "no"), "550 no\r\n");
	expect_wire(REPLY(354, 2, 0, 0, "go"), "354 go\r\n");
}

static void
test_long(void **state)
{
	static const size_t lengths[] = { 499, 500, 501, 1000, 5000 };
	char *text = malloc(5000);

	(void)state;
	for (size_t words = 0; words < 2; words++) {
		for (size_t i = 0; i < 5000; i++)
			text[i] = words && i % 10 == 9 ? ' ' : 'x';
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			struct reply reply = { 550, { 5, 1, 1 }, span_of(text, lengths[i]) };
			struct buf out = { 0 };
			struct span rest;
			size_t lines = 0, letters = 0;

			reply_format(&reply, &out);
			for (rest = buf_span(&out); rest.len > 0; lines++) {
				struct span line = span_cut(&rest, '\n');

				assert_true(line.len + 1 <= 512);
				assert_int_equal(line.at[line.len - 1], '\r');
				assert_int_equal(line.at[3], rest.len > 0 ? '-' : ' ');
				assert_true(span_starts(span_skip(line, 4), SPAN("5.1.1 ")));
				for (size_t k = 0; k < line.len; k++)
					letters += line.at[k] == 'x';
			}
			assert_int_equal(letters, lengths[i] - (words ? lengths[i] / 10 : 0));
			assert_int_equal(lines > 1, lengths[i] > 500);
			buf_free(&out);
		}
	}
	free(text);
}

static void
test_line(void **state)
{
	(void)state;
	expect_line(REPLY(550, 5, 7, 1, "relaying denied\nsecond line"),
		    "550 5.7.1 relaying denied / second line");
	expect_line(REPLY(421, 0, 0, 0, ""), "421");
	expect_line(REPLY(0, 0, 0, 0, "connection lost"), "connection lost");
	expect_line(REPLY(550, 0, 0, 0, "\n\nx\ry"), "550  /  / x?y");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_wire),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
