/* test_header: where headers end, whole and cut at every place; limits; reading fields. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mta/smtp/header.h"

struct sample {
	const char *message;
	size_t header;			/* octets of the header block */
	size_t received, lines;
	bool saw_8bit;
};

static const struct sample samples[] = {
	{ "", 0, 0, 0, false },
	{ "\r\n", 2, 0, 0, false },
	{ "\r\nbody", 2, 0, 0, false },
	{ "A: b\r\n\r\nbody\r\n", 8, 0, 1, false },
	{ "A: b\r\n c\r\n\td\r\n\r\nbody\r\n", 16, 0, 3, false },
	{ "A: b\r\n", 6, 0, 1, false },
	{ "A: b", 4, 0, 1, false },
	{ "A", 0, 0, 0, false },
	{ "A\r\n", 0, 0, 0, false },
	{ "no header at all\r\nA: b\r\n\r\n", 0, 0, 0, false },
	{ " folded first\r\nA: b\r\n\r\n", 0, 0, 0, false },
	{ "A: b\r\nno field\r\n\r\nbody", 6, 0, 1, false },
	{ "A: b\r\nno field", 6, 0, 1, false },
	{ ": b\r\n\r\n", 0, 0, 0, false },
	{ "A : b\r\nB:\r\n\r\n", 13, 0, 2, false },
	{ "Received: x\r\n\ty\r\nRECEIVED: z\r\nX-Received: q\r\nreceived :\r\n\r\nReceived: "
	  "no\r\n",
	  59, 3, 5, false },
	{ "Subject: caf\303\251\r\n\r\n", 18, 0, 1, true },
	{ "Subject: x\r\n\r\ncaf\303\251\r\n", 14, 0, 1, false },
	{ "\303\251: x\r\n\r\n", 0, 0, 0, false },
	{ "A: b\r\n \r\n\r\nbody", 11, 0, 2, false },
	{ "A: b\n\nbody", 6, 0, 1, false },
};

static void
scan(const struct sample *s, size_t cut1, size_t cut2)
{
	struct span in = span_str(s->message);
	size_t stops[3] = { cut1, cut2, in.len }, at = 0;
	struct buf body = { 0 };
	struct header_scan h;

	header_scan_init(&h, 1000, 100);
	for (size_t i = 0; i < 3; i++) {
		struct span piece = span_of(in.at + at, stops[i] - at);
		bool before = h.complete;
		size_t taken = header_scan_take(&h, piece);

		at = stops[i];
		if (!h.complete)
			assert_int_equal(taken, piece.len);
		if (h.complete && !before)
			buf_append(&body, buf_span(&h.held));
		if (h.complete)
			buf_append(&body, span_skip(piece, taken));
	}
	if (!h.complete) {
		header_scan_end(&h);
		buf_append(&body, buf_span(&h.held));
	}
	assert_true(h.complete);
	assert_false(h.too_large);
	assert_true(span_eq(buf_span(&h.text), span_first(in, s->header)));
	assert_true(span_eq(buf_span(&body), span_skip(in, s->header)));
	assert_int_equal(h.received, s->received);
	assert_int_equal(h.lines, s->lines);
	assert_int_equal(h.saw_8bit, s->saw_8bit);
	header_scan_free(&h);
	buf_free(&body);
}

static void
test_every_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		size_t len = strlen(samples[i].message);

		for (size_t cut1 = 0; cut1 <= len; cut1++)
			for (size_t cut2 = cut1; cut2 <= len; cut2++)
				scan(&samples[i], cut1, cut2);
	}
}

static bool
too_large(struct span in, size_t piece, size_t max_size, size_t max_lines)
{
	struct header_scan h;
	bool ret;

	header_scan_init(&h, max_size, max_lines);
	while (in.len > 0 && !h.complete) {
		header_scan_take(&h, span_first(in, piece));
		assert_true(buf_len(&h.held) + buf_len(&h.text) <= max_size + piece);
		in = span_skip(in, piece);
	}
	if (!h.complete)
		header_scan_end(&h);
	ret = h.too_large;
	header_scan_free(&h);
	return ret;
}

static void
test_limits(void **state)
{
	static const struct span block = SPAN("A: b\r\nC: d\r\n e\r\n\r\n");

	(void)state;
	for (size_t piece = 1; piece <= block.len; piece++) {
		assert_false(too_large(block, piece, 18, 3));
		assert_true(too_large(block, piece, 17, 3));
		assert_true(too_large(block, piece, 18, 2));
	}
	assert_true(too_large(SPAN("A: bbbbbbbbbbbbbbbbbbbbbbbbbb"), 3, 10, 3));
	assert_true(too_large(SPAN("A: bbbbbbbbbbbbbbbbbbbbbbbbbb"), 40, 10, 3));
}

static void
test_fields(void **state)
{
	struct span at = SPAN("From:a\r\nTO \t: \tb\r\n\tc \r\nnonsense\r\nX: \r\n\r\n"),
		    block = at, name, value;
	struct buf rest = { 0 };

	(void)state;
	assert_true(header_next(&at, &name, &value));
	assert_true(span_eq(name, SPAN("From")) && span_eq(value, SPAN("a")));
	assert_true(header_next(&at, &name, &value));
	assert_true(span_eq(name, SPAN("TO")) && span_eq(value, SPAN("b\r\n\tc ")));
	assert_true(header_next(&at, &name, &value));
	assert_true(span_eq(name, SPAN("X")) && value.len == 0);
	assert_false(header_next(&at, &name, &value));
	assert_true(header_find(block, SPAN("to"), &value));
	assert_true(span_eq(value, SPAN("b\r\n\tc ")));
	assert_false(header_find(block, SPAN("t"), &value));
	assert_false(header_find(block, SPAN("nonsense"), &value));
	at = SPAN("X-Tenant: a\r\nX: 0\r\nx : 1\r\n2\r\nX\r\nx:\r\n 3\r\n\r\n");
	assert_true(header_next_named(&at, SPAN("X"), &value) && span_eq(value, SPAN("0")));
	assert_true(header_next_named(&at, SPAN("X"), &value) && span_eq(value, SPAN("1")));
	assert_true(header_next_named(&at, SPAN("X"), &value) && span_eq(value, SPAN("\r\n 3")));
	assert_false(header_next_named(&at, SPAN("X"), &value));
	header_copy_without(SPAN("A: 1\r\nx-tenant: n\r\n folded\r\nB: 2\r\nX-Tenant : "
				 "m\r\nX-Tenants: k\r\n\r\n"),
			    SPAN("X-Tenant"), &rest);
	assert_true(span_eq(buf_span(&rest), SPAN("A: 1\r\nB: 2\r\nX-Tenants: k\r\n\r\n")));
	buf_free(&rest);
	assert_false(header_find(SPAN(""), SPAN("to"), &value));
	assert_true(header_find(SPAN("Last: one"), SPAN("last"), &value));
	assert_true(span_eq(value, SPAN("one")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
