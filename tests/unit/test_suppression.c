/* test_suppression: keys, records and the filter of the list of suppressed addresses. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/suppression.h"

static void
test_keys(void **state)
{
	static const struct { const char *text, *key;
	} keys[] = {
		{ "Jo@Example.ORG", "jo@example.org" },	 { "Example.org", "@example.org" },
		{ "@example.org", "@example.org" },	 { "\"a b\"@x.test", "\"a b\"@x.test" },
		{ "a@[192.0.2.1]", "a@[192.0.2.1]" },	 { "[192.0.2.1]", "@[192.0.2.1]" },
		{ "j\xc3\xb6@b\xc3\xbc.test", "j\xc3\xb6@b\xc3\xbc.test" },
		{ "", NULL }, { "@", NULL }, { "a@", NULL }, { "a b@c.test", NULL },
		{ "a@b..c", NULL }, { "<a@b.test>", NULL }, { "a@b.test c", NULL },
	};
	struct arena arena = { 0 };
	struct span key;
	char room[600];

	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		assert_int_equal(suppression_key(span_str(keys[i].text), &arena, &key),
				 keys[i].key != NULL);
		if (keys[i].key != NULL)
			assert_true(span_eq(key, span_str(keys[i].key)));
	}
	memset(room, 'a', sizeof(room));
	assert_false(suppression_key(span_of(room, sizeof(room)), &arena, &key));
	arena_free(&arena);
}

static void
test_records(void **state)
{
	const struct suppression in = { CLASS_QUOTA_ISSUES, 1700000000000, 0,
					SPAN("552 5.2.2 full") };
	struct suppression out;
	struct arena arena = { 0 };
	struct buf octets = { 0 };

	(void)state;
	suppression_encode(&in, &octets);
	assert_int_equal(suppression_decode(buf_span(&octets), &arena, &out), 0);
	assert_int_equal(out.class, in.class);
	assert_true(out.since_ms == in.since_ms && out.until_ms == 0 &&
		    span_eq(out.reason, in.reason));
	for (size_t i = 0; i < buf_len(&octets); i++) {
		assert_int_equal(suppression_decode(span_first(buf_span(&octets), i), &arena, &out),
				 -EBADMSG);
		octets.at[i] ^= 1;
		assert_true(suppression_decode(buf_span(&octets), &arena, &out) < 0);
		octets.at[i] ^= 1;
	}
	buf_free(&octets);
	arena_free(&arena);
}

static void
test_filter(void **state)
{
	struct suppression_filter *f = suppression_filter_new(7);
	size_t vain = 0;

	(void)state;
	assert_false(suppression_filter_may_hold(f, SPAN("a@b.test")));
	for (unsigned i = 0; i < 300000; i++)
		suppression_filter_add(f, span_of(&i, sizeof(i)));
	for (unsigned i = 0; i < 300000; i++)
		assert_true(suppression_filter_may_hold(f, span_of(&i, sizeof(i))));
	for (unsigned i = 300000; i < 600000; i++)
		vain += suppression_filter_may_hold(f, span_of(&i, sizeof(i)));
	assert_true(vain < 300000 / 500);
	suppression_filter_free(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_filter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
