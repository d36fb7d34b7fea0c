/*
 * mta_sts: records and policies as RFC 8461 shows and forbids them, wildcards, and what the cache
 * decides as time passes.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "policy/mta_sts.h"

static struct arena arena;
static const int64_t second = 1000, hour = 3600 * 1000, day = 24 * 3600 * 1000LL;
static const int64_t start = 1795000000000;

static int
teardown(void **state)
{
	(void)state;
	arena_free(&arena);
	return 0;
}

static void
test_record(void **state)
{
	static const struct {
		const char *text, *id;		/* NULL: not one */
	} rows[] = {
		{ "v=STSv1; id=20160831085700Z;", "20160831085700Z" },	/* RFC 8461 §3.1 */
		{ "v=STSv1;id=1", "1" },
		{ "v=STSv1 \t; \tid=1 ; ", "1" },
		{ "v=STSv1; id=1; id=2", "1" },
		{ "v=STSv1; x-y.z_1=a/b:c; id=7", "7" },
		{ "v=STSv1; id=12345678901234567890123456789012",
		  "12345678901234567890123456789012" },
		{ "v=STSv1; id=123456789012345678901234567890123", NULL },
		{ "", NULL },
		{ "v=STSv1", NULL },
		{ "v=STSv1;", NULL },
		{ "v=STSv1; ;id=1", NULL },
		{ "v=STSv1; id=", NULL },
		{ "v=STSv1; id=a-b", NULL },
		{ "v=STSv1; id=1 2", NULL },
		{ "v=STSv1; ID=1", NULL },
		{ "V=STSv1; id=1", NULL },
		{ "v=stsv1; id=1", NULL },
		{ "v=STSv1x; id=1", NULL },
		{ "v=STSv11; id=1", NULL },
		{ " v=STSv1; id=1", NULL },
		{ "id=1; v=STSv1", NULL },
		{ "v=STSv1 id=1", NULL },
		{ "v=STSv1; id=1; =x", NULL },
		{ "v=STSv1; id=1; x", NULL },
		{ "v=STSv1; id=1; x=", NULL },
		{ "v=STSv1; id=1; x=a=b", NULL },
		{ "v=STSv1; id=1; -x=1", NULL },
		{ "v=STSv1; id=1; x=\x01", NULL },
		{ "v=STSv1; id=1; x=\xc3\xa4", NULL },
		{ "v=STSv1; id=1 ", NULL },
		{ "v=STSv1; a23456789012345678901234567890123=1; id=1", NULL },
	};
	struct span id;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		bool fine = sts_record_parse(span_str(rows[i].text), &id);

		if (fine != (rows[i].id != NULL))
			print_error("%s\n", rows[i].text);
		assert_int_equal(fine, rows[i].id != NULL);
		if (fine)
			assert_true(span_eq(id, span_str(rows[i].id)));
	}
}

/* Texts parted by '|', each a TXT record of one string. */
static struct dns_answer
txt_answer(const char *texts)
{
	struct dns_answer answer = { .outcome = DNS_FOUND, .text = SPAN("found") };
	struct span rest = span_str(texts);

	answer.records = arena_alloc(&arena, 16 * sizeof(*answer.records));
	while (rest.len > 0) {
		struct span one = span_cut(&rest, '|');

		answer.records[answer.count++].data =
			arena_printf(&arena, "%c%.*s", (int)one.len, SPAN_FMT(one));
	}
	return answer;
}

static void
test_record_from_answer(void **state)
{
	static const struct {
		const char *texts;
		enum sts_record_outcome outcome;
	} rows[] = {
		{ "v=STSv1; id=1;", STS_RECORD_FOUND },
		{ "v=spf1 -all|v=STSv1; id=1;|hello", STS_RECORD_FOUND },
		{ "v=STSv1; id=1;|v=STSv1; id=2;", STS_RECORD_NONE },
		{ "v=STSv1; id=1;|v=STSv1; nonsense", STS_RECORD_NONE },
		{ "v=STSv2; id=1;|v=STSv1; id=1;", STS_RECORD_FOUND },
		{ "v=STSv1; nonsense", STS_RECORD_NONE },
		{ "hello", STS_RECORD_NONE },
	};
	struct dns_answer answer = { 0 };
	struct sts_record record;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		answer = txt_answer(rows[i].texts);
		sts_record_from_answer(&answer, &arena, &record);
		assert_int_equal(record.outcome, rows[i].outcome);
		assert_true((record.why.len == 0) == (record.outcome == STS_RECORD_FOUND));
	}
	answer.outcome = DNS_NXDOMAIN;
	sts_record_from_answer(&answer, &arena, &record);
	assert_int_equal(record.outcome, STS_RECORD_NONE);
	answer.outcome = DNS_TEMPORARY;
	answer.text = SPAN("SERVFAIL");
	sts_record_from_answer(&answer, &arena, &record);
	assert_int_equal(record.outcome, STS_RECORD_FAILED);
	sts_record_from_answer(NULL, &arena, &record);
	assert_int_equal(record.outcome, STS_RECORD_UNKNOWN);
	/* several strings of one record are one text */
	answer = txt_answer("x");
	answer.records[0].data = SPAN("\11v=STSv1; \5id=42");
	sts_record_from_answer(&answer, &arena, &record);
	assert_true(span_eq(record.id, SPAN("42")));
}

#define POLICY "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\n" \
	"mx: backupmx.example.com\r\nmax_age: 604800\r\n"

static struct sts_policy
policy_of(const char *text)
{
	struct sts_policy policy;
	const char *error = "";

	if (!sts_policy_parse(span_str(text), &arena, &policy, &error))
		fail_msg("%s: %s", text, error);
	return policy;
}

static void
test_policy(void **state)
{
	struct sts_policy policy = policy_of(POLICY);
	struct span lines[8];
	struct buf out = { 0 };

	(void)state;
	assert_int_equal(policy.mode, STS_MODE_ENFORCE);
	assert_int_equal(policy.max_age, 604800);
	assert_int_equal(policy.mx_count, 3);
	assert_true(span_eq(policy.mx[1], SPAN("*.example.net")));
	sts_policy_write(&policy, &out);
	assert_true(span_eq(buf_span(&out), SPAN(POLICY)));
	buf_free(&out);
	assert_int_equal(sts_policy_lines(&policy, &arena, lines, 8), 6);
	assert_string_equal(lines[1].at, "mode: enforce");
	assert_string_equal(lines[5].at, "max_age: 604800");
	assert_int_equal(sts_policy_lines(&policy, &arena, lines, 4), 4);
	assert_string_equal(lines[3].at, "max_age: 604800");
	assert_int_equal(sts_policy_lines(&policy, &arena, lines, 0), 0);
}

static void
test_policy_forms(void **state)
{
	static const char *const good[] = {
		/* LF, no last end */
		"version: STSv1\nmode: testing\nmx: a.test\nmax_age: 0",
		"max_age:1\nmx:A.Test\nmode:enforce\nversion:STSv1\n",		/* any order */
		/* none needs no mx */
		"version: STSv1 \t\r\nmode:   none\r\nmax_age: 86400\r\n",
		/* the first counts */
		("version: STSv1\nmode: enforce\nmode: none\nmx: a.test\nmax_age: 1\nmax_age: x\n"
		 "version: STSv2\n"),
		"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 1\nx-y: \xc3\xa4 b\n",
		"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 1\n\n\r\n",
		"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 9999999999\n",
	};
	static const char *const bad[] = {
		"", "\n", "x",
		"mode: enforce\nmx: a.test\nmax_age: 1\n",
		"version: STSv1\nmx: a.test\nmax_age: 1\n",
		"version: STSv1\nmode: enforce\nmx: a.test\n",
		"version: STSv1\nmode: enforce\nmax_age: 1\n",
		"version: STSv2\nmode: enforce\nmx: a.test\nmax_age: 1\n",
		"version: STSv1\nmode: Enforce\nmx: a.test\nmax_age: 1\n",
		"Version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 1\n",
		"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: -1\n",
		"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 1d\n",
		"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 10000000000\n",
		"version: STSv1\nmode: enforce\nmx: *\nmax_age: 1\n",
		"version: STSv1\nmode: enforce\nmx: a.*.test\nmax_age: 1\n",
		"version: STSv1\nmode: enforce\nmx: *.*.test\nmax_age: 1\n",
		"version: STSv1\nmode: enforce\nmx: .test\nmax_age: 1\n",
		"version: STSv1\nmode: enforce\nmx: a.test b.test\nmax_age: 1\n",
		"version: STSv1\nmode: enforce\nmx: [192.0.2.1]\nmax_age: 1\n",
		"version: STSv1\nmode: enforce\nmx:\nmax_age: 1\n",
		"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 1\nnonsense\n",
		"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 1\nx: \x01\n",
		"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 1\nx y: 1\n",
		"version : STSv1\nmode: enforce\nmx: a.test\nmax_age: 1\n",
		"<html>\n<body>\n",
	};
	struct sts_policy policy = { .max_age = 77 };
	const char *error;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		policy_of(good[i]);
	assert_int_equal(policy_of(good[3]).mode, STS_MODE_ENFORCE);
	assert_int_equal(policy_of(good[6]).max_age, STS_MAX_AGE_MAX);
	assert_true(span_eq(policy_of(good[1]).mx[0], SPAN("a.test")));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		error = NULL;
		if (sts_policy_parse(span_str(bad[i]), &arena, &policy, &error))
			fail_msg("%s", bad[i]);
		assert_non_null(error);
	}
	assert_int_equal(policy.max_age, 77);
}

static void
test_policy_sizes(void **state)
{
	struct buf text = { 0 };
	struct sts_policy policy;
	const char *error;

	(void)state;
	buf_append(&text, SPAN(POLICY));
	while (buf_len(&text) < STS_POLICY_MAX - 9)
		buf_append(&text, SPAN("x: 34567\n"));
	while (buf_len(&text) < STS_POLICY_MAX)
		buf_byte(&text, '\n');
	assert_true(sts_policy_parse(buf_span(&text), &arena, &policy, &error));
	buf_byte(&text, '\n');
	assert_false(sts_policy_parse(buf_span(&text), &arena, &policy, &error));
	buf_clear(&text);
	buf_append(&text, SPAN("version: STSv1\nmode: enforce\nmax_age: 1\n"));
	for (unsigned i = 0; i < STS_MX_MAX; i++)
		buf_printf(&text, "mx: %u.test\n", i);
	assert_true(sts_policy_parse(buf_span(&text), &arena, &policy, &error));
	assert_true(sts_policy_lists(&policy, SPAN("255.test")));
	buf_append(&text, SPAN("mx: more.test\n"));
	assert_false(sts_policy_parse(buf_span(&text), &arena, &policy, &error));
	buf_free(&text);
}

static void
test_response(void **state)
{
	static const struct {
		unsigned status;
		const char *type;
		bool fine;
	} rows[] = {
		{ 200, "text/plain", true },
		{ 200, "Text/Plain; charset=utf-8", true },
		{ 200, " text/plain ;x", true },
		{ 200, "text/html", false },
		{ 200, "text/plainer", false },
		{ 200, "", false },
		{ 201, "text/plain", false },
		{ 301, "text/plain", false },
		{ 404, "text/plain", false },
		{ 500, "text/plain", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct sts_policy policy = { 0 };
		const char *error = NULL;

		assert_int_equal(sts_policy_from_response(rows[i].status, span_str(rows[i].type),
							  SPAN(POLICY), &arena, &policy, &error),
				 rows[i].fine);
		assert_true(rows[i].fine || error != NULL);
	}
}

static void
test_wildcards(void **state)
{
	static const struct {
		const char *host;
		bool listed;
	} rows[] = {
		{ "mail.example.com", true },	   { "MAIL.Example.COM", true },
		{ "example.com", false },	   { "x.mail.example.com", false },
		{ "a.example.net", true },	   { "A.EXAMPLE.NET", true },
		{ "example.net", false },	   { "a.b.example.net", false },
		{ ".example.net", false },	   { "aexample.net", false },
		{ "a.example.net.evil.test", false }, { "", false },
		{ "*.example.net", true },	   { "backupmx.example.com", true },
	};
	struct sts_policy policy = policy_of(POLICY);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_int_equal(sts_policy_lists(&policy, span_str(rows[i].host)), rows[i].listed);
}

static const struct sts_record unknown = { .outcome = STS_RECORD_UNKNOWN };
static const struct sts_record none = { STS_RECORD_NONE, { "", 0 }, { "no record", 9 } };
static const struct sts_record failed = { STS_RECORD_FAILED, { "", 0 }, { "SERVFAIL", 8 } };
static const struct sts_record id1 = { STS_RECORD_FOUND, { "1", 1 }, { "", 0 } };
static const struct sts_record id2 = { STS_RECORD_FOUND, { "2", 1 }, { "", 0 } };

static void
expect(const struct sts_entry *entry, const struct sts_record *record, int64_t now,
       enum sts_use use, bool ask, bool fetch)
{
	struct sts_decision decision;

	sts_decide(entry, record, now, &decision);
	assert_int_equal(decision.use, use);
	assert_int_equal(decision.ask_record, ask);
	assert_int_equal(decision.fetch, fetch);
	assert_true((decision.policy != NULL) == (use == STS_USE_POLICY));
	assert_true(decision.reason.len > 0);
}

/* A policy of a week, fetched at `start` for id 1. */
static struct sts_entry
entry_of(const char *text)
{
	struct sts_policy policy = policy_of(text);
	struct sts_entry entry;

	sts_fetched(NULL, &policy, SPAN("1"), start, &entry);
	return entry;
}

static void
test_nothing_cached(void **state)
{
	struct sts_entry empty = { 0 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		const struct sts_entry *entry = i == 0 ? NULL : &empty;

		expect(entry, &unknown, start, STS_USE_AFTER_RECORD, true, false);
		expect(entry, &none, start, STS_USE_NOTHING, false, false);
		expect(entry, &failed, start, STS_USE_NOTHING, false, false);
		expect(entry, &id1, start, STS_USE_AFTER_FETCH, false, true);
	}
}

/* Record and host may go: what is cached and has not expired holds. */
static void
test_cached_holds(void **state)
{
	struct sts_entry entry = entry_of(POLICY), later;
	int64_t end = start + 604800 * second;

	(void)state;
	assert_int_equal(sts_entry_expires_ms(&entry, start), end);
	for (int64_t now = start; now < end; now += day / 2) {
		expect(&entry, &none, now, STS_USE_POLICY, false, false);
		expect(&entry, &failed, now, STS_USE_POLICY, false, false);
		expect(&entry, &unknown, now, STS_USE_POLICY, true, false);
	}
	expect(&entry, &none, end - 1, STS_USE_POLICY, false, false);
	/* expired: as if there were none */
	expect(&entry, &none, end, STS_USE_NOTHING, false, false);
	expect(&entry, &failed, end, STS_USE_NOTHING, false, false);
	expect(&entry, &unknown, end, STS_USE_AFTER_RECORD, true, false);
	expect(&entry, &id1, end, STS_USE_AFTER_FETCH, false, true);
	/* a failed fetch takes nothing away */
	sts_fetch_failed(&entry, SPAN("no certificate"), end - 10, &later);
	expect(&later, &id2, end - 5, STS_USE_POLICY, false, false);
	expect(&later, &id2, end, STS_USE_NOTHING, false, false);
}

static void
test_refresh(void **state)
{
	struct sts_entry entry = entry_of(POLICY);
	struct sts_entry brief = entry_of("version: STSv1\nmode: enforce\nmx: a.test\n"
					  "max_age: 7200\n");

	(void)state;
	expect(&entry, &id1, start + hour, STS_USE_POLICY, false, false);
	expect(&entry, &id1, start + day - 1, STS_USE_POLICY, false, false);
	expect(&entry, &id1, start + day, STS_USE_POLICY, false, true);
	expect(&entry, &id2, start + hour, STS_USE_POLICY, false, true);
	expect(&brief, &id1, start + hour - 1, STS_USE_POLICY, false, false);
	expect(&brief, &id1, start + hour, STS_USE_POLICY, false, true);
	assert_false(sts_entry_refresh_due(&entry, start + day - 1));
	assert_true(sts_entry_refresh_due(&entry, start + day));
	assert_false(sts_entry_refresh_due(&entry, start + 7 * day));	/* expired */
	entry.used_ms = start - 30 * day;
	assert_false(sts_entry_refresh_due(&entry, start + day));	/* not in use */
	assert_false(sts_entry_useless(&entry, start + day));
	assert_true(sts_entry_useless(&entry, start + 7 * day));
	/* before a bounce: is there a newer one? */
	assert_false(sts_must_check_again(&entry, &id1, start + hour));
	assert_true(sts_must_check_again(&entry, &id2, start + hour));
	assert_true(sts_must_check_again(&entry, &id1, start + 7 * day));
	assert_false(sts_must_check_again(&entry, &none, start + hour));
	assert_true(sts_must_check_again(NULL, &id1, start));
}

static void
test_back_off(void **state)
{
	struct sts_entry entry = { 0 };
	int64_t now = start, wait = STS_RETRY_FIRST_MS;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		struct sts_entry next;

		expect(&entry, &id1, now, STS_USE_AFTER_FETCH, false, true);
		assert_true(sts_must_check_again(&entry, &id1, now));
		sts_fetch_failed(i == 0 ? NULL : &entry, SPAN("no route to host"), now, &next);
		assert_int_equal(next.retry_ms - now, wait);
		assert_int_equal(next.failures, i + 1);
		expect(&next, &id1, now, STS_USE_NOTHING, false, false);
		expect(&next, &id2, next.retry_ms - 1, STS_USE_NOTHING, false, false);
		assert_false(sts_must_check_again(&next, &id1, next.retry_ms - 1));
		assert_false(sts_entry_useless(&next, next.retry_ms - 1));
		assert_true(sts_entry_useless(&next, next.retry_ms));
		now = next.retry_ms;
		wait = wait * 2 < STS_RETRY_MOST_MS ? wait * 2 : STS_RETRY_MOST_MS;
		entry = next;
	}
}

/* max_age 0 is a policy that holds for no delivery; it is not fetched for each of them. */
static void
test_max_age_zero(void **state)
{
	struct sts_entry entry =
		entry_of("version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 0\n");

	(void)state;
	expect(&entry, &id1, start, STS_USE_NOTHING, false, false);
	expect(&entry, &id1, start + STS_RETRY_FIRST_MS, STS_USE_AFTER_FETCH, false, true);
}

static void
test_clock_steps_back(void **state)
{
	struct sts_entry entry = entry_of(POLICY), blocked;

	(void)state;
	assert_int_equal(sts_entry_expires_ms(&entry, start - 30 * day), start - 23 * day);
	expect(&entry, &id1, start - 30 * day, STS_USE_POLICY, false, true);
	sts_fetch_failed(NULL, SPAN("x"), start, &blocked);
	expect(&blocked, &id1, start - 30 * day, STS_USE_AFTER_FETCH, false, true);
}

static void
test_names(void **state)
{
	char domain[250];

	(void)state;
	assert_true(span_eq(sts_record_name(SPAN("example.com"), &arena),
			    SPAN("_mta-sts.example.com")));
	assert_true(span_eq(sts_policy_host(SPAN("example.com"), &arena),
			    SPAN("mta-sts.example.com")));
	memset(domain, 'a', sizeof(domain));
	for (size_t i = 49; i < sizeof(domain) - 1; i += 50)
		domain[i] = '.';
	assert_int_equal(sts_record_name(span_of(domain, sizeof(domain)), &arena).len, 0);
	assert_int_equal(sts_policy_host(SPAN(""), &arena).len, 0);
}

static void
test_stored(void **state)
{
	struct sts_entry entry = entry_of(POLICY), back;
	struct buf out = { 0 }, again = { 0 };
	struct span octets;

	(void)state;
	sts_fetch_failed(&entry, SPAN("timed out"), start + day, &entry);
	sts_entry_encode(&entry, &out);
	octets = buf_span(&out);
	assert_int_equal(sts_entry_decode(octets, &arena, &back), 0);
	assert_true(back.has_policy);
	assert_int_equal(back.policy.mx_count, 3);
	assert_true(span_eq(back.policy.mx[2], SPAN("backupmx.example.com")));
	assert_int_equal(back.fetched_ms, start);
	assert_int_equal(back.failures, 1);
	assert_true(span_eq(back.error, SPAN("timed out")));
	sts_entry_encode(&back, &again);
	assert_true(span_eq(octets, buf_span(&again)));
	for (size_t len = 0; len < octets.len; len++)
		assert_int_equal(sts_entry_decode(span_first(octets, len), &arena, &back),
				 -EBADMSG);
	for (size_t i = 0; i < octets.len; i++) {
		out.at[i] ^= 0x10;
		assert_int_equal(sts_entry_decode(octets, &arena, &back), -EBADMSG);
		out.at[i] ^= 0x10;
	}
	buf_free(&out);
	buf_free(&again);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_record, teardown),
		cmocka_unit_test_teardown(test_record_from_answer, teardown),
		cmocka_unit_test_teardown(test_policy, teardown),
		cmocka_unit_test_teardown(test_policy_forms, teardown),
		cmocka_unit_test_teardown(test_policy_sizes, teardown),
		cmocka_unit_test_teardown(test_response, teardown),
		cmocka_unit_test_teardown(test_wildcards, teardown),
		cmocka_unit_test_teardown(test_nothing_cached, teardown),
		cmocka_unit_test_teardown(test_cached_holds, teardown),
		cmocka_unit_test_teardown(test_refresh, teardown),
		cmocka_unit_test_teardown(test_back_off, teardown),
		cmocka_unit_test_teardown(test_max_age_zero, teardown),
		cmocka_unit_test_teardown(test_clock_steps_back, teardown),
		cmocka_unit_test_teardown(test_names, teardown),
		cmocka_unit_test_teardown(test_stored, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
