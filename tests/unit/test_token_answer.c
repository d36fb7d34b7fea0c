/*
 * What a token command prints: lines, JSON, and what is neither.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mta/delivery/token_answer.h"

static const struct {
	const char *printed;
	const char *token;		/* NULL: none */
	int64_t lifetime_ms;
} answers[] = {
	{ "ya29.a0Af-_~+/=\n", "ya29.a0Af-_~+/=", -1 },
	{ "token", "token", -1 },
	{ "token\r\nand more\n", "token", -1 },
	{ "{\"access_token\":\"t\",\"expires_in\":3600}", "t", 3600000 },
	{ "\n {\n\"access_token\": \"t\",\n\"expires_in\": \"3599\"}\n", "t", 3599000 },
	{ "{\"access_token\":\"t\",\"expires_in\":1.5}", "t", 1000 },
	{ "{\"access_token\":\"t\",\"expires_in\":0}", "t", 0 },
	{ "{\"access_token\":\"t\",\"expires_in\":-5}", "t", -1 },
	{ "{\"access_token\":\"t\",\"expires_in\":1e300}", "t", -1 },
	{ "{\"access_token\":\"t\",\"expires_in\":\"soon\"}", "t", -1 },
	{ "{\"access_token\":\"t\",\"expires_in\":null}", "t", -1 },
	{ "", NULL, -1 },
	{ "\ntoken\n", NULL, -1 },
	{ " token\n", NULL, -1 },
	{ "a token\n", NULL, -1 },
	{ "tok\1en\n", NULL, -1 },
	{ "t\xc3\xb6ken\n", NULL, -1 },
	{ "{}", NULL, -1 },
	{ "{\"access_token\":\"\"}", NULL, -1 },
	{ "{\"access_token\":\"a b\"}", NULL, -1 },
	{ "{\"access_token\":\"a\\u0001b\"}", NULL, -1 },
	{ "{\"access_token\":5}", NULL, -1 },
	{ "{\"access_token\":\"t\"", NULL, -1 },
	{ "{\"access_token\":\"t\"} trailing", NULL, -1 },
};

static void
test_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		struct token_answer answer;
		const char *wrong = token_answer_read(span_str(answers[i].printed), &answer);

		if (answers[i].token == NULL) {
			assert_non_null(wrong);
			assert_int_equal(buf_len(&answer.token), 0);
		} else {
			assert_null(wrong);
			assert_true(span_eq(buf_span(&answer.token), span_str(answers[i].token)));
		}
		assert_int_equal(answer.lifetime_ms, answers[i].lifetime_ms);
		buf_free(&answer.token);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_answers) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
