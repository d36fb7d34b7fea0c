/*
 * test_data: the dot codec against a slow reference that sees one octet at a time, over all short
 * strings of the octets that matter, whole and cut at every place.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mta/smtp/data.h"

struct result {
	struct buf content;
	uint8_t faults;
	bool end, saw_8bit;
	size_t taken;
};

static void
result_free(struct result *r)
{
	buf_free(&r->content);
}

/* Decodes pieces cut at the two places. */
static struct result
decode(struct span in, size_t cut1, size_t cut2, bool normalise, size_t max_line)
{
	struct data_decoder d;
	struct result r = { 0 };
	size_t stops[3] = { cut1, cut2, in.len };

	data_decoder_init(&d, normalise, max_line);
	for (size_t i = 0; i < 3 && !r.end; i++) {
		for (;;) {
			struct span content, rest = span_of(in.at + r.taken, stops[i] - r.taken);
			size_t taken = data_decode(&d, rest, &content, &r.end);

			assert_true(taken <= rest.len);
			buf_append(&r.content, content);
			r.taken += taken;
			if (r.end)
				break;
			if (taken == 0 && content.len == 0) {
				assert_int_equal(rest.len, 0);
				break;
			}
		}
	}
	r.faults = d.faults;
	r.saw_8bit = d.saw_8bit;
	return r;
}

/*
 * The rules, said slowly: find CRLF.CRLF (the CRLF before the first octet is the one of DATA), then
 * un-stuff.
 */
static struct result
reference(struct span in, bool normalise)
{
	struct result r = { 0 };
	size_t i = 0;
	bool line_start = true;

	while (i < in.len) {
		struct span rest = span_skip(in, i);

		if (line_start && span_starts(rest, SPAN(".\r\n"))) {
			r.end = true;
			r.taken = i + 3;
			return r;
		}
		if (line_start && rest.at[0] == '.') {
			line_start = false;
			i++;
			continue;
		}
		if (span_starts(rest, SPAN("\r\n"))) {
			buf_append(&r.content, SPAN("\r\n"));
			line_start = true;
			i += 2;
			continue;
		}
		line_start = false;
		if (rest.at[0] == '\r' || rest.at[0] == '\n') {
			if (rest.at[0] == '\n' || rest.len > 1)
				r.faults = normalise ? 0 : DATA_BARE_NEWLINE;
			buf_append(&r.content, normalise ? SPAN("\r\n") : span_first(rest, 1));
		} else {
			buf_append(&r.content, span_first(rest, 1));
		}
		i++;
	}
	r.taken = i;
	return r;
}

static void
compare(struct span in, bool normalise)
{
	struct result want = reference(in, normalise);

	for (size_t cut1 = 0; cut1 <= in.len; cut1++) {
		for (size_t cut2 = cut1; cut2 <= in.len; cut2++) {
			struct result got = decode(in, cut1, cut2, normalise, 0);

			assert_int_equal(got.end, want.end);
			assert_int_equal(got.taken, want.taken);
			assert_int_equal(got.faults, want.faults);
			/* what the end of the input leaves open is not content yet */
			if (want.end)
				assert_true(span_eq(buf_span(&got.content),
						    buf_span(&want.content)));
			result_free(&got);
		}
	}
	result_free(&want);
}

static void
test_all_short_strings(void **state)
{
	static const char letters[] = "\r\n.x";
	char text[16];

	(void)state;
	for (size_t len = 0; len <= 6; len++) {
		for (unsigned n = 0; n < 1U << (2 * len); n++) {
			for (size_t i = 0; i < len; i++)
				text[i] = letters[n >> (2 * i) & 3];
			compare(span_of(text, len), false);
			compare(span_of(text, len), true);
			/* and as the end of a message */
			memcpy(text + len, "\r\n.\r\n", 5);
			compare(span_of(text, len + 5), false);
			compare(span_of(text, len + 5), true);
		}
	}
}

static void
test_faults(void **state)
{
	struct result r;

	(void)state;
	r = decode(span_of("a\0b\r\n.\r\n", 8), 0, 2, false, 0);
	assert_int_equal(r.faults, DATA_NUL);
	assert_true(r.end);
	result_free(&r);
	r = decode(SPAN("caf\303\251\r\n.\r\n"), 4, 4, false, 0);
	assert_int_equal(r.faults, 0);
	assert_true(r.saw_8bit);
	result_free(&r);
	r = decode(SPAN("12345678\r\n.\r\n"), 3, 9, false, 10);
	assert_int_equal(r.faults, 0);
	assert_false(r.saw_8bit);
	result_free(&r);
	r = decode(SPAN("..345678\r\n123456789\r\n.\r\n"), 13, 14, false, 10);
	assert_int_equal(r.faults, DATA_LONG_LINE);
	result_free(&r);
	r = decode(SPAN("..23456789\r\n.\r\n"), 1, 2, false, 10);
	assert_int_equal(r.faults, DATA_LONG_LINE);
	result_free(&r);
	r = decode(SPAN("..2345678\r\n.\r\n"), 1, 2, false, 9);
	assert_int_equal(r.faults, DATA_LONG_LINE);
	result_free(&r);
	r = decode(SPAN("..2345678\r\n.\r\n"), 1, 2, false, 10);
	assert_int_equal(r.faults, 0);
	result_free(&r);
}

static uint8_t
check(struct span in, size_t cut)
{
	struct data_decoder d;

	data_decoder_init(&d, false, 20);
	data_check(&d, span_first(in, cut), false);
	data_check(&d, span_skip(in, cut), false);
	data_check(&d, SPAN(""), true);
	return d.faults;
}

static void
test_chunks(void **state)
{
	static const struct {
		const char *text;
		uint8_t faults;
	} samples[] = {
		{ "", 0 }, { "a", 0 }, { "a\r\nb", 0 }, { ".\r\n.\r\n", 0 }, { "\r\n", 0 },
		{ "a\nb", DATA_BARE_NEWLINE }, { "a\rb", DATA_BARE_NEWLINE },
		{ "a\r\n\r", DATA_BARE_NEWLINE },
		{ "\n", DATA_BARE_NEWLINE }, { "\r", DATA_BARE_NEWLINE },
		{ "\r\r\n", DATA_BARE_NEWLINE },
		{ "\r\n\n", DATA_BARE_NEWLINE }, { "123456789012345678\r\n", 0 },
		{ "1234567890123456789\r\n", DATA_LONG_LINE },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
		for (size_t cut = 0; cut <= strlen(samples[i].text); cut++)
			assert_int_equal(check(span_str(samples[i].text), cut), samples[i].faults);
	assert_int_equal(check(span_of("a\0\r\n", 4), 1), DATA_NUL);
}

static void
test_encode(void **state)
{
	static const char letters[] = "\n.x";
	char text[10];

	(void)state;
	/* what is stuffed, cut anywhere, is decoded to the same */
	for (size_t len = 0; len <= 6; len++) {
		for (unsigned n = 0; n < 1U << (2 * len); n++) {
			struct buf content = { 0 };

			for (size_t i = 0; i < len; i++) {
				text[i] = letters[(n >> (2 * i) & 3) % 3];
				if (text[i] == '\n')
					buf_byte(&content, '\r');
				buf_byte(&content, text[i]);
			}
			for (size_t cut = 0; cut <= buf_len(&content); cut++) {
				struct buf out = { 0 };
				bool start = true;
				struct result r;

				data_encode(span_first(buf_span(&content), cut), &start, &out);
				data_encode(span_skip(buf_span(&content), cut), &start, &out);
				data_encode_end(start, &out);
				r = decode(buf_span(&out), 0, 0, false, 0);
				assert_true(r.end);
				assert_int_equal(r.taken, buf_len(&out));
				assert_int_equal(r.faults, 0);
				assert_true(span_starts(buf_span(&r.content), buf_span(&content)));
				assert_true(buf_len(&r.content) - buf_len(&content) ==
					    (start ? 0 : 2));
				result_free(&r);
				buf_free(&out);
			}
			buf_free(&content);
		}
	}
}

/* A text of lines with something odd here and there, long enough for whole blocks at once. */
static struct buf
odd_text(unsigned seed)
{
	static const char *const odd[] = { "\r", "\n", "\r\n.", "\r\n..x", ".", "\r\n\r\n",
					   "\r\r\n", "\n.\r\n", "\r\n.\r" };
	const unsigned rare = 1 + seed % 40;
	uint64_t chance = seed + 1;
	struct buf text = { 0 };

	while (buf_len(&text) < 600) {
		chance = chance * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		for (int i = (int)(chance >> 40 & 0xff) % 90; i > 0; i--)
			buf_byte(&text, (char)('a' + i % 26));
		buf_append(&text, (chance >> 50) % rare == 0 ? span_str(odd[(chance >> 33) % 9])
							     : SPAN("\r\n"));
	}
	return text;
}

/* What is said of it does not hang on whether it is seen a block or an octet at a time. */
static void
test_long_texts(void **state)
{
	(void)state;
	for (unsigned seed = 0; seed < 4000; seed++) {
		struct buf text = odd_text(seed), out = { 0 }, slow = { 0 }, octets = { 0 };
		const struct span in = buf_span(&text);
		const bool normalise = seed % 2 == 0;
		const size_t max_line = seed % 3 == 0 ? 0 : 40 + seed % 120;
		struct data_decoder d, checked;
		struct result whole = decode(in, in.len, in.len, normalise, max_line);
		bool start = true, slow_start = true, end = false;

		data_decoder_init(&d, normalise, max_line);
		data_decoder_init(&checked, false, max_line);
		for (size_t i = 0; i < in.len; i++) {
			struct span content = SPAN(""), rest = span_of(in.at + i, 1);

			data_check(&checked, rest, i + 1 == in.len);
			data_encode(rest, &slow_start, &slow);
			for (size_t taken = 1; !end && (taken > 0 || content.len > 0);
			     rest = span_skip(rest, taken)) {
				taken = data_decode(&d, rest, &content, &end);
				buf_append(&octets, content);
			}
		}
		assert_int_equal(d.faults, whole.faults);
		assert_true(end == whole.end &&
			    span_eq(buf_span(&octets), buf_span(&whole.content)));
		data_encode(in, &start, &out);
		assert_true(span_eq(buf_span(&out), buf_span(&slow)) && start == slow_start);
		buf_clear(&out);
		data_decoder_init(&d, false, max_line);
		data_check(&d, in, true);
		assert_int_equal(d.faults, checked.faults);
		result_free(&whole);
		buf_free(&text);
		buf_free(&out);
		buf_free(&slow);
		buf_free(&octets);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_short_strings),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_encode),
		cmocka_unit_test(test_long_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
