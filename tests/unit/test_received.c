/* test_received: the trace field: one line, whatever a client calls itself. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mta/base/id.h"
#include "mta/smtp/received.h"

static struct netaddr client4, client6;

static struct received_facts
facts_of(const char *helo)
{
	return (struct received_facts){ .client = &client4, .helo = span_str(helo),
					.hostname = SPAN("relay.example.org"),
					.id = 1ULL << 48, .now_ms = 1700000000000, .esmtp = true };
}

static void
expect(struct received_facts facts, const char *line)
{
	struct buf out = { 0 };

	received_line(&facts, &out);
	buf_byte(&out, '\0');
	assert_string_equal(out.at, line);
	buf_free(&out);
}

static void
test_lines(void **state)
{
	char id[ID_TEXT_LEN + 1], want[512];
	static const struct { bool esmtp, utf8, v6, local; const char *helo, *to, *from, *tail; } cases[] = {
		{ true, false, false, false, "mail.example.net", "",
		  "from mail.example.net ([192.0.2.1])", "ESMTP" },
		{ false, false, false, false, "x", "", "from x ([192.0.2.1])", "SMTP" },
		{ true, true, true, false, "[IPv6:2001:db8::1]", "",
		  "from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])",
		  "UTF8SMTP" },
		{ true, false, false, false, "", "", "from unknown ([192.0.2.1])", "ESMTP" },
		{ true, false, false, true, "ignored", "", "from localhost (uid 1000)", "ESMTP" },
		{ true, false, false, false, "x", "a@example.net", "from x ([192.0.2.1])",
		  "ESMTP" },
		{ true, true, false, false, "x", "ü@example.net", "from x ([192.0.2.1])",
		  "UTF8SMTP" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct received_facts facts = facts_of(cases[i].helo);
		bool to = cases[i].to[0] != '\0';

		facts.esmtp = cases[i].esmtp;
		facts.utf8 = cases[i].utf8;
		facts.local = cases[i].local;
		facts.uid = 1000;
		facts.recipient = span_str(cases[i].to);
		if (cases[i].v6)
			facts.client = &client6;
		snprintf(want, sizeof(want),
			 "Received: %s\r\n\tby relay.example.org (tram) with %s id %s%s%s%s;\r\n"
			 "\tTue, 14 Nov 2023 22:13:20 +0000\r\n",
			 cases[i].from, cases[i].tail, id_format(facts.id, id),
			 to ? "\r\n\tfor <" : "", cases[i].to, to ? ">" : "");
		expect(facts, want);
	}
	struct received_facts hidden = facts_of("secret.example.net");

	hidden.hidden = true;
	snprintf(want, sizeof(want),
		 "Received: from hidden.invalid\r\n\tby relay.example.org (tram) with ESMTP id "
		 "%s;\r\n"
		 "\tTue, 14 Nov 2023 22:13:20 +0000\r\n",
		 id_format(hidden.id, id));
	expect(hidden, want);
}

/* One field: every line but the first is a continuation, none is blank or too long. */
static size_t
check_field(const struct buf *out)
{
	struct span rest = buf_span(out);
	size_t lines = 0;

	while (rest.len > 0) {
		struct span line;

		assert_non_null(span_find(rest, '\n'));
		line = span_cut(&rest, '\n');
		assert_true(line.len > 2 && line.at[line.len - 1] == '\r');
		line.len--;
		assert_in_range(line.len, 3, 998);
		if (lines++ == 0)
			assert_true(span_starts(line, SPAN("Received: from ")));
		else
			assert_true(line.at[0] == '\t' && line.at[1] != ' ');
		for (size_t i = lines > 1; i < line.len; i++)
			assert_true((unsigned char)line.at[i] >= ' ' && line.at[i] != 127);
	}
	return lines;
}

static void
test_injection(void **state)
{
	struct buf out = { 0 };
	struct arena arena = { 0 };

	(void)state;
	for (int c = 0; c < 256; c++) {
		char helo[8] = { 'a', (char)c, 'b', '\r', '\n', (char)c, 'X', ':' };
		struct received_facts facts = facts_of("");
		struct span text;

		for (int utf8 = 0; utf8 < 2; utf8++) {
			buf_clear(&out);
			facts.utf8 = utf8;
			facts.helo = span_of(helo, sizeof(helo));
			facts.recipient = span_of(helo, 3);
			received_line(&facts, &out);
			assert_int_equal(check_field(&out), c < ' ' || c >= 127 ? 3 : 4);
			for (size_t i = 0; i < buf_len(&out); i++)
				assert_true((unsigned char)out.at[out.start + i] < 128);
		}
		text = received_client(&facts, &arena);
		assert_true(span_starts(text, SPAN("client=192.0.2.1:4711 helo=a")));
		assert_true(span_ends(text, SPAN("X: with=UTF8SMTP")));
		for (size_t i = 0, blanks = 0; i < text.len; i++) {
			blanks += text.at[i] == ' ';
			assert_true(text.at[i] >= ' ' && text.at[i] <= '~' && blanks <= 2);
		}
	}
	arena_free(&arena);
	buf_free(&out);
}

static void
test_long(void **state)
{
	static char name[2000];
	struct buf out = { 0 };

	(void)state;
	memset(name, 'a', sizeof(name));
	for (size_t len = 0; len < sizeof(name); len += len < 260 ? 1 : 97) {
		struct received_facts facts = facts_of("");

		buf_clear(&out);
		facts.helo = facts.recipient = span_of(name, len);
		facts.hostname = span_of(name, 255);
		received_line(&facts, &out);
		assert_int_equal(check_field(&out), len == 0 || len > 900 ? 3 : 4);
	}
	buf_free(&out);
}

static void
test_client(void **state)
{
	struct received_facts facts = facts_of("mail with=local");
	struct arena arena = { 0 };

	(void)state;
	assert_string_equal(received_client(&facts, &arena).at,
			    "client=192.0.2.1:4711 helo=mail?with=local with=ESMTP");
	facts.local = true;
	facts.uid = 1000;
	assert_string_equal(received_client(&facts, &arena).at, "uid=1000 with=local");
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_injection),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_client),
	};

	setenv("TZ", "UTC", 1);
	netaddr_parse(SPAN("192.0.2.1"), 4711, &client4);
	netaddr_parse(SPAN("2001:db8::1"), 4711, &client6);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
