/* test_control: requests ⇄ values, base64, JSON text, archives, and what tramctl prints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mta/base/id.h"
#include "mta/control/protocol.h"
#include "mta/control/text.h"
#include "mta/ctl/archive.h"
#include "mta/ctl/seen.h"
#include "mta/ctl/text.h"

static void
assert_span(struct span got, const char *want)
{
	if (!span_eq(got, span_str(want)))
		fail_msg("got \"%.*s\", want \"%s\"", SPAN_FMT(got), want);
}

/*
 * ---- requests
 * ----------------------------------------------------------------------------------------------------
 */

static struct arena arena;

static struct control_request
parsed(const char *line)
{
	struct control_request r;
	struct control_error error;

	if (!control_request_parse(span_str(line), &arena, &r, &error))
		fail_msg("%s: %.*s", line, SPAN_FMT(error.text));
	return r;
}

static void
refused(const char *line, const char *why)
{
	struct control_request r;
	struct control_error error = { 0 };

	if (control_request_parse(span_str(line), &arena, &r, &error))
		fail_msg("%s was taken", line);
	if (strstr(arena_str(&arena, error.text), why) == NULL)
		fail_msg("%s: %.*s", line, SPAN_FMT(error.text));
	assert_true(error.hint.len > 0);
}

static void
test_selection(void **state)
{
	struct control_request r;

	(void)state;
	r = parsed("{\"command\":\"queue-list\",\"domain\":\"Example.ORG\",\"older_ms\":3600000,"
		   "\"state\":\"held\","
		   "\"limit\":7}");
	assert_int_equal(r.command, CONTROL_QUEUE_LIST);
	assert_span(r.domain, "example.org");
	assert_int_equal(r.older_ms, 3600000);
	assert_int_equal(r.state, CONTROL_HELD);
	assert_int_equal(r.limit, 7);
	assert_true(control_selects(&r));
	r = parsed("{\"command\":\"queue-remove\",\"sender\":\"Jo.Doe@Example.ORG\",\"recipient\":"
		   "\"X@Y\"}");
	assert_span(r.sender, "Jo.Doe@example.org");
	assert_span(r.recipient, "X@y");
	r = parsed("{\"command\":\"queue-hold\",\"all\":true}");
	assert_true(r.all && !control_selects(&r));
	r = parsed("{\"command\":\"explain\",\"ids\":[\"038fwm8s6j000\"]}");
	assert_int_equal(r.id_count, 1);
	r = parsed("{\"command\":\"queue-hold\",\"ids\":[\"038fwm8s6j000\",\"038fwm8s6j001\","
		   "\"038FWM8S6J000\"]}");
	assert_int_equal(r.id_count, 2);
	arena_free(&arena);
}

static void
test_refused(void **state)
{
	(void)state;
	refused("", "not JSON");
	refused("x", "not JSON");
	refused("{\"command\":\"stats\"", "not JSON");
	refused("{\"command\":\"stats\"} {}", "not JSON");
	refused("{\"command\":\"stats\",\"command\":\"stop\"}", "not JSON");
	refused("[]", "not an object");
	refused("{}", "names no command");
	refused("{\"command\":7}", "names no command");
	refused("{\"command\":\"format-disk\"}", "no command \"format-disk\"");
	refused("{\"command\":\"stats\",\"domain\":\"x\"}", "takes no member");
	refused("{\"command\":\"queue-list\",\"domain\":7}", "\"domain\" is not valid");
	refused("{\"command\":\"queue-list\",\"domain\":\"a\\nb\"}", "\"domain\" is not valid");
	refused("{\"command\":\"queue-list\",\"limit\":-1}", "\"limit\" is not valid");
	refused("{\"command\":\"queue-list\",\"limit\":1.5}", "\"limit\" is not valid");
	refused("{\"command\":\"queue-list\",\"state\":\"dead\"}", "\"state\" is not valid");
	refused("{\"command\":\"queue-list\",\"ids\":[]}", "\"ids\" is not valid");
	refused("{\"command\":\"queue-list\",\"ids\":[\"short\"]}", "\"ids\" is not valid");
	refused("{\"command\":\"queue-show\",\"ids\":[\"038fwm8s6j000\",\"038fwm8s6j001\"]}",
		"for one message");
	refused("{\"command\":\"queue-remove\"}", "Nothing was selected");
	refused("{\"command\":\"queue-remove\",\"all\":true,\"domain\":\"x\"}", "contradict");
	refused("{\"command\":\"queue-set\",\"all\":true}", "What is to be set");
	refused("{\"command\":\"queue-set\",\"priority\":1}", "Nothing was selected");
	refused("{\"command\":\"sites-retry\"}", "Which site");
	refused("{\"command\":\"import-recipient\"}", "no address");
	refused("{\"command\":\"import-recipient\",\"address\":\"a@x\",\"attempts\":1001}",
		"\"attempts\" is not valid");
	refused("{\"command\":\"import-recipient\",\"address\":\"a@x\",\"action\":9}",
		"\"action\" is not valid");
	refused("{\"command\":\"import-recipient\",\"address\":\"a@x\",\"priority\":-10}",
		"\"priority\" is not valid");
	refused("{\"command\":\"import-recipient\",\"address\":\"a@x\",\"priority\":\"5\"}",
		"\"priority\" is not valid");
	refused("{\"command\":\"import-attempt\",\"stage\":256}", "\"stage\" is not valid");
	refused("{\"command\":\"import-content\",\"data\":\"****\"}", "\"data\" is not valid");
	refused("{\"a\":[[[[[1]]]]]}", "nested");
	arena_free(&arena);
}

static void
test_too_long(void **state)
{
	struct buf line = { 0 };
	struct control_request r;
	struct control_error error;

	(void)state;
	buf_append(&line, SPAN("{\"command\":\"stats\"}"));
	while (buf_len(&line) < CONTROL_LINE_MAX)
		buf_byte(&line, ' ');
	assert_false(control_request_parse(buf_span(&line), &arena, &r, &error));
	assert_true(control_request_parse(span_first(buf_span(&line), CONTROL_LINE_MAX - 1), &arena,
					  &r, &error));
	buf_free(&line);
	arena_free(&arena);
}

static void
test_round_trip(void **state)
{
	static const char *const lines[] = {
		"{\"command\":\"stats\"}",
		"{\"command\":\"queue-bounce\",\"ids\":[\"038fwm8s6j000\",\"038fwm8s6j001\"],\"state\":\"waiting\"}",
		"{\"command\":\"queue-list\",\"error_text\":\"try "
		"\\\"later\\\"\",\"newer_ms\":5,\"limit\":3}",
		"{\"command\":\"sites-retry\",\"site\":\"mx:a.example,b.example\"}",
		"{\"command\":\"queue-set\",\"domain\":\"x\",\"priority\":-3}",
		"{\"command\":\"drain\",\"off\":true}",
		"{\"command\":\"drain-state\"}",
		"{\"command\":\"import-message\",\"reverse_path\":\"j\u00f6@x\",\"ret\":1,\"body\":2,\"smtputf8\":true}",
		"{\"command\":\"import-message\",\"priority\":-9,\"release_ms\":7,\"by_ms\":8,\"by_mode\":2,"
		"\"by_trace\":true}",
		"{\"command\":\"import-recipient\",\"address\":\"a@x\",\"tenant\":\"shop\",\"pool\":\"news\",\"priority\":0}",
		"{\"command\":\"import-recipient\",\"address\":\"a@x\",\"due_ms\":5,\"state\":\"owed\",\"attempts\":7,"
		"\"action\":1,\"uncertain\":true,\"warned\":true}",
		"{\"command\":\"import-attempt\",\"at_ms\":5,\"host\":\"mx.x\",\"peer\":\"192.0.2.1:25\",\"stage\":3,"
		"\"text\":\"no\",\"status\":\"5.1.1\",\"code\":550}",
		"{\"command\":\"import-content\",\"data\":\"AAEC/w==\"}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct control_request r = parsed(lines[i]);
		struct buf out = { 0 };

		assert_true(control_request_format(&r, &out));
		buf_byte(&out, '\0');
		assert_int_equal(out.at[out.end - 2], '\n');
		out.at[out.end - 2] = '\0';
		/* members may stand in another order: compare what they say */
		r = parsed(out.at);
		buf_free(&out);
		assert_true(control_request_format(&r, &out));
		assert_int_equal(buf_len(&out), strlen(lines[i]) + 1);
		buf_free(&out);
	}
	arena_free(&arena);
}

static void
test_what_cannot_be_said(void **state)
{
	struct control_request r = { .command = CONTROL_QUEUE_LIST, .error = SPAN("\xff") };
	static char long_text[CONTROL_TEXT_MAX + 1];
	struct buf out = { 0 };

	(void)state;
	assert_false(control_request_format(&r, &out));
	r.error = SPAN("a\r\nb");
	assert_false(control_request_format(&r, &out));
	for (size_t i = 0; i < sizeof(long_text); i++)
		long_text[i] = 'x';
	r.error = span_of(long_text, sizeof(long_text));
	assert_false(control_request_format(&r, &out));
	buf_free(&out);
}

/*
 * ---- text
 * --------------------------------------------------------------------------------------------------------
 */

static void
test_base64(void **state)
{
	static const char *const pairs[][2] = {
		{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" },
	};
	static const char *const bad[] = { "Z", "Zg=", "Zg", "Z===", "====", "Zm 9", "Zh==", "Zm9=",
					   "Zg==Zg==", "\xff\xff\xff\xff" };
	struct span got;

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct buf out = { 0 };

		base64_encode(span_str(pairs[i][0]), &out);
		assert_span(buf_span(&out), pairs[i][1]);
		assert_true(base64_decode(buf_span(&out), &arena, &got));
		assert_span(got, pairs[i][0]);
		buf_free(&out);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (base64_decode(span_str(bad[i]), &arena, &got))
			fail_msg("%s was taken", bad[i]);
	arena_free(&arena);
}

static void
test_json_text(void **state)
{
	static const struct { struct span from; const char *to; } cases[] = {
		{ { "plain", 5 }, "plain" }, { { "a\0b\nc", 5 }, "a?b?c" },
		{ { "j\xc3\xb6", 3 }, "j\xc3\xb6" },
		{ { "\xff\xfe", 2 }, "??" }, { { "\xc3", 1 }, "?" }, { { "\xc0\x80", 2 }, "??" },
		{ { "\xed\xa0\x80", 3 }, "???" }, { { "\xf0\x9f\x98\x80", 4 }, "\xf0\x9f\x98\x80" },
		{ { NULL, 0 }, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *text = json_text(cases[i].from);

		assert_string_equal(json_string_value(text), cases[i].to);
		json_decref(text);
	}
}

static void
test_for_people(void **state)
{
	struct buf out = { 0 };
	uint64_t ms;

	(void)state;
	text_safe(SPAN("a\033[2Jb\xc2\x9b" "c\x7f"), &out);
	assert_span(buf_span(&out), "a?[2Jb?c?");
	buf_clear(&out);
	text_size(812, &out);
	buf_byte(&out, ' ');
	text_size(4200, &out);
	buf_byte(&out, ' ');
	text_size(25 << 20, &out);
	assert_span(buf_span(&out), "812 4.1 KB 25 MB");
	buf_clear(&out);
	text_time(0, 5, &out);
	assert_span(buf_span(&out), "-");
	buf_clear(&out);
	text_time(1000000000000, 1000000000000 + 7200 * 1000, &out);
	assert_true(span_starts(buf_span(&out), SPAN("2 h ago (2001-09-")));
	buf_clear(&out);
	text_time(1000000000000 + 300 * 1000, 1000000000000, &out);
	assert_true(span_starts(buf_span(&out), SPAN("in 5 min (2001-09-")));
	buf_free(&out);
	assert_true(text_parse_age(SPAN("90s"), &ms) && ms == 90000);
	assert_true(text_parse_age(SPAN("2w"), &ms) && ms == 1209600000);
	assert_false(text_parse_age(SPAN("5"), &ms) || text_parse_age(SPAN("0d"), &ms) ||
		     text_parse_age(SPAN("d"), &ms));
	assert_false(text_parse_age(SPAN("5x"), &ms) || text_parse_age(SPAN("-5d"), &ms) ||
		     text_parse_age(SPAN(""), &ms));
}

static void
test_table(void **state)
{
	static const struct column columns[] = {
		{ "NAME", "name", COLUMN_TEXT, NULL }, { "SIZE", "size", COLUMN_SIZE, NULL },
		{ "ERROR", "error", COLUMN_TEXT, NULL },
	};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	struct table table;
	json_t *one = json_pack("{s:s,s:i}", "name", "jörg", "size", 5);
	json_t *two = json_pack("{s:s,s:i,s:s}", "name", "a", "size", 2048, "error", "no\nway");

	(void)state;
	table_init(&table, out, columns, 3);
	table_row(&table, one);
	table_row(&table, two);
	table_end(&table);
	fclose(out);
	assert_string_equal(text, "NAME    SIZE  ERROR\n"
				  "jörg       5  -\n"
				  "a     2.0 KB  no?way\n");
	free(text);
	json_decref(one);
	json_decref(two);
}

static void
test_seen(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	for (uint64_t id = 1; id <= 5000; id++)
		for (uint32_t n = 0; n < 3; n++)
			assert_true(seen_add(&seen, id << 16, n));
	for (uint64_t id = 1; id <= 5000; id++)
		for (uint32_t n = 0; n < 3; n++)
			assert_false(seen_add(&seen, id << 16, n));
	assert_int_equal(seen.count, 15000);
	assert_true(seen_add(&seen, 1 << 16, 3));
	seen_free(&seen);
}

/*
 * ---- archives
 * ----------------------------------------------------------------------------------------------------
 */

static void
test_archive(void **state)
{
	struct buf file = { 0 };
	enum archive_type type;
	struct span payload;
	size_t used;

	(void)state;
	archive_record_encode(ARCHIVE_MESSAGE, SPAN("{\"a\":1}"), &file);
	archive_record_encode(ARCHIVE_CONTENT, SPAN("x\0y\r\n"), &file);
	for (size_t cut = 0; cut < 7 + ARCHIVE_HEAD + ARCHIVE_TAIL; cut++)
		assert_int_equal(archive_record_decode(span_first(buf_span(&file), cut), &type,
						       &payload, &used),
				 ARCHIVE_MORE);
	assert_int_equal(archive_record_decode(buf_span(&file), &type, &payload, &used),
			 ARCHIVE_OK);
	assert_int_equal(type, ARCHIVE_MESSAGE);
	assert_span(payload, "{\"a\":1}");
	buf_consume(&file, used);
	assert_int_equal(archive_record_decode(buf_span(&file), &type, &payload, &used),
			 ARCHIVE_OK);
	assert_int_equal(type, ARCHIVE_CONTENT);
	assert_true(span_eq(payload, SPAN("x\0y\r\n")));
	for (size_t i = 0; i < buf_len(&file); i++) {		/* any octet changed is seen */
		file.at[file.start + i] ^= 1;
		assert_int_not_equal(archive_record_decode(buf_span(&file), &type, &payload, &used),
				     ARCHIVE_OK);
		file.at[file.start + i] ^= 1;
	}
	buf_free(&file);
}

static void
test_archive_order(void **state)
{
	(void)state;
	assert_true(archive_may_follow(ARCHIVE_END, ARCHIVE_ABOUT));
	assert_true(archive_may_follow(ARCHIVE_ABOUT, ARCHIVE_END));
	assert_true(archive_may_follow(ARCHIVE_RECIPIENT, ARCHIVE_MESSAGE_END));
	assert_true(archive_may_follow(ARCHIVE_MESSAGE_END, ARCHIVE_MESSAGE));
	assert_false(archive_may_follow(ARCHIVE_MESSAGE, ARCHIVE_CONTENT));
	assert_false(archive_may_follow(ARCHIVE_CONTENT, ARCHIVE_END));
	assert_false(archive_may_follow(ARCHIVE_CONTENT, ARCHIVE_RECIPIENT));
	assert_false(archive_may_follow(ARCHIVE_END, ARCHIVE_MESSAGE));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_selection), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_what_cannot_be_said),
		cmocka_unit_test(test_base64), cmocka_unit_test(test_json_text),
		cmocka_unit_test(test_for_people),
		cmocka_unit_test(test_table), cmocka_unit_test(test_seen),
		cmocka_unit_test(test_archive), cmocka_unit_test(test_archive_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
