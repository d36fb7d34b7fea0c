/* Headers of mail that is handed in: what is added, what is taken out, and that all else stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "mta/base/id.h"
#include "mta/smtp/submission.h"

#define DATE "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
#define OWN_DATE "date : Mon, 1 Jan 2024 00:00:00 +0000\r\n"
#define OWN_ID "MESSAGE-ID:\r\n <own@example.org>\r\n"

static void
expect(const char *header, const char *kept, bool date, bool id)
{
	struct submission_facts facts = { SPAN("mx.example.net"), 1ULL << 48, 1700000000000 };
	struct buf out = { 0 };
	char text[ID_TEXT_LEN + 1], want[1000];
	size_t len = strlen(kept);
	bool blank = len >= 2 && strcmp(kept + len - 2, "\r\n") == 0 &&
		     (len == 2 || strcmp(kept + len - 4, "\r\n\r\n") == 0);

	snprintf(want, sizeof(want), "%.*s%s%s%s%s%s", (int)(len - (blank ? 2 : 0)), kept,
		 date ? DATE : "", id ? "Message-ID: <" : "", id ? id_format(facts.id, text) : "",
		 id ? "@mx.example.net>\r\n" : "", blank ? "\r\n" : "");
	submission_complete(span_str(header), &facts, &out);
	buf_byte(&out, '\0');
	assert_string_equal(out.at, want);
	buf_free(&out);
}

static void
test_added(void **state)
{
	(void)state;
	expect("Subject: a\r\n\r\n", "Subject: a\r\n\r\n", true, true);
	expect(OWN_DATE "Subject: a\r\n\r\n", OWN_DATE "Subject: a\r\n\r\n", false, true);
	expect(OWN_ID OWN_DATE "\r\n", OWN_ID OWN_DATE "\r\n", false, false);
	expect("Resent-Date: x\r\nX-Message-ID: y\r\n", "Resent-Date: x\r\nX-Message-ID: y\r\n",
	       true, true);
	expect("\r\n", "\r\n", true, true);
	expect("", "", true, true);
	expect(OWN_ID OWN_DATE, OWN_ID OWN_DATE, false, false);
}

static void
test_taken_out(void **state)
{
	(void)state;
	expect("To: a\r\nBcc: b,\r\n\tc\r\n d\r\nCc: e\r\n" OWN_ID OWN_DATE "\r\n",
	       "To: a\r\nCc: e\r\n" OWN_ID OWN_DATE "\r\n", false, false);
	expect("bcc : b\r\nBCC:\r\nResent-Bcc: c\r\n" OWN_ID OWN_DATE "\r\n",
	       OWN_ID OWN_DATE "\r\n", false, false);
	expect("Subject: x\r\n Bcc: no field\r\nX-Bcc: y\r\n" OWN_ID OWN_DATE "Bcc: z\r\n",
	       "Subject: x\r\n Bcc: no field\r\nX-Bcc: y\r\n" OWN_ID OWN_DATE, false, false);
	expect("Bcc: b\r\n\r\n", "\r\n", true, true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_added),
		cmocka_unit_test(test_taken_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
