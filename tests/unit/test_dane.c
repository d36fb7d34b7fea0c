/*
 * dane: every combination of secure, insecure, bogus and alias that RFC 7672 §2 and §3 tell apart,
 * as lines of a zone and the verdict; what is asked for, and what is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "policy/dane.h"

static struct arena arena;
static struct buf asked;		/* "A mx.test, …", in the order of asking */
static struct dane_verdict verdict;
static unsigned rounds;

static int
teardown(void **state)
{
	(void)state;
	arena_free(&arena);
	buf_free(&asked);
	return 0;
}

static const struct {
	const char *name;
	enum dns_type type;
} types[] = { { "A", DNS_A }, { "AAAA", DNS_AAAA }, { "CNAME", DNS_CNAME }, { "TLSA", DNS_TLSA } };

static const char *
type_text(enum dns_type type)
{
	for (size_t i = 0; i < 4; i++)
		if (types[i].type == type)
			return types[i].name;
	return "?";
}

static void
add_record(struct dns_answer *answer, struct span text)
{
	uint64_t n[4] = { 0 };
	char *octets;

	for (size_t i = 0; i < 4 && text.len > 0; i++)
		assert_true(span_to_u64(span_cut(&text, ','), UINT64_MAX, &n[i]));
	octets = arena_alloc(&arena, n[3] + 4);
	for (size_t i = 0; i < 3; i++)
		octets[i] = (char)n[i];
	memset(octets + 3, 'x', n[3]);
	answer->records[answer->count++].data = span_of(octets, n[3] + 3);
}

/* "secure", "insecure": found; "nodata", "nxdomain": denied, securely; "servfail"; ">x": alias. */
static void
parse_answer(struct span words, struct dns_answer *answer)
{
	answer->outcome = DNS_FOUND;
	answer->text = SPAN("found");
	answer->ttl = 300;
	answer->records = arena_alloc(&arena, 16 * sizeof(*answer->records));
	answer->authenticated = true;
	while (words.len > 0) {
		struct span word = span_cut(&words, ' ');

		if (span_eq(word, SPAN("insecure")))
			answer->authenticated = false;
		else if (span_eq(word, SPAN("nodata")))
			answer->outcome = DNS_NODATA;
		else if (span_eq(word, SPAN("nxdomain")))
			answer->outcome = DNS_NXDOMAIN;
		else if (span_eq(word, SPAN("servfail")))
			answer->outcome = DNS_TEMPORARY;
		else if (word.len > 0 && word.at[0] == '>')
			answer->canonical = span_skip(word, 1);
		else if (word.len > 0 && word.at[0] >= '0' && word.at[0] <= '9')
			add_record(answer, word);
		else
			assert_true(span_eq(word, SPAN("secure")));
	}
	if (answer->outcome == DNS_TEMPORARY) {
		answer->authenticated = false;
		answer->text = SPAN("SERVFAIL");
	}
	if (answer->outcome == DNS_FOUND && answer->count == 0)
		answer->count = 1;
}

/* The zone's line for this name and type, else an insecure NXDOMAIN. */
static void
answer_need(const char *zone, const struct facts_need *need, struct facts *facts)
{
	struct dns_answer answer = { .outcome = DNS_NXDOMAIN, .text = SPAN("NXDOMAIN"), .ttl = 60 };
	struct span rest = span_str(zone);

	answer.canonical = need->name;
	while (rest.len > 0) {
		struct span line = span_trim(span_cut(&rest, ';')), name = span_cut(&line, ' ');
		struct span type = span_cut(&line, ' ');

		if (span_eq(name, need->name) && span_eq(type, span_str(type_text(need->type)))) {
			parse_answer(line, &answer);
			break;
		}
	}
	facts_add(facts, need->name, need->type, &answer);
}

static void
run(const struct dane_question *question, const char *zone)
{
	struct facts facts = { .arena = &arena };

	buf_clear(&asked);
	for (rounds = 0; rounds < 10; rounds++) {
		dane_judge(question, &facts, &verdict);
		if (verdict.outcome != DANE_NEEDS)
			break;
		assert_true(verdict.needs.count > 0);
		for (size_t i = 0; i < verdict.needs.count; i++) {
			struct facts_need *need = &verdict.needs.need[i];

			buf_printf(&asked, "%s%s %.*s", buf_len(&asked) > 0 ? ", " : "",
				   type_text(need->type), SPAN_FMT(need->name));
			assert_null(facts_find(&facts, need->name, need->type));
			answer_need(zone, need, &facts);
		}
	}
	assert_int_not_equal(verdict.outcome, DANE_NEEDS);
	assert_int_equal(verdict.needs.count, 0);
	assert_true(verdict.reason.len > 0);
	assert_true((verdict.outcome == DANE_USABLE) == (verdict.count > 0));
}

struct row {
	const char *zone;
	enum dane_outcome outcome;
	const char *base;		/* NULL: none */
	const char *names;		/* "a, b" */
	const char *asked;
};

#define ADDRESSES "AAAA mx.test, A mx.test"
#define FOUR "_25._tcp.mx.test"

static void
check_rows(const struct dane_question *question, const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct buf names = { 0 };

		run(question, rows[i].zone);
		for (size_t k = 0; k < verdict.name_count; k++)
			buf_printf(&names, "%s%.*s", k > 0 ? ", " : "", SPAN_FMT(verdict.names[k]));
		if (verdict.outcome != rows[i].outcome)
			print_error("%s: %.*s\n", rows[i].zone, SPAN_FMT(verdict.reason));
		assert_int_equal(verdict.outcome, rows[i].outcome);
		assert_true(span_eq(verdict.base, span_str(rows[i].base)));
		assert_true(span_eq(buf_span(&names),
				    span_str(rows[i].names ? rows[i].names : "")));
		if (rows[i].asked != NULL) {
			buf_byte(&asked, '\0');
			assert_string_equal(buf_span(&asked).at, rows[i].asked);
		}
		buf_free(&names);
	}
}

/* An MX host without aliases. */
static void
test_plain(void **state)
{
	static const struct row rows[] = {
		/* insecure addresses: TLSA is not even asked for */
		{ "mx.test A insecure; " FOUR " TLSA secure 3,1,1,32", DANE_NONE, NULL, NULL,
		  ADDRESSES },
		{ "mx.test A insecure; " FOUR " TLSA servfail", DANE_NONE, NULL, NULL, ADDRESSES },
		{ "mx.test A secure; mx.test AAAA insecure; " FOUR " TLSA secure 3,1,1,32",
		  DANE_NONE, NULL, NULL, ADDRESSES },
		{ "mx.test A secure; mx.test AAAA nodata; " FOUR " TLSA secure 3,1,1,32",
		  DANE_USABLE,
		  "mx.test", "mx.test, dom.test", ADDRESSES ", TLSA " FOUR },
		{ "mx.test AAAA secure; mx.test A nodata; " FOUR " TLSA secure 2,0,1,32",
		  DANE_USABLE,
		  "mx.test", "mx.test, dom.test", NULL },
		/* one of two address look-ups failed: the other is enough */
		{ "mx.test A secure; mx.test AAAA servfail; " FOUR " TLSA secure 3,1,2,64",
		  DANE_USABLE, "mx.test", "mx.test, dom.test", NULL },
		/* denied, securely or not: none */
		{ "mx.test A secure; " FOUR " TLSA nodata", DANE_NONE, NULL, NULL, NULL },
		{ "mx.test A secure; " FOUR " TLSA nxdomain", DANE_NONE, NULL, NULL, NULL },
		{ "mx.test A secure; " FOUR " TLSA insecure nodata", DANE_NONE, NULL, NULL, NULL },
		{ "mx.test A secure; " FOUR " TLSA insecure 3,1,1,32", DANE_NONE, NULL, NULL,
		  NULL },
		/* bogus: skip */
		{ "mx.test A secure; " FOUR " TLSA servfail", DANE_SKIP, NULL, NULL, NULL },
		{ "mx.test A servfail; mx.test AAAA nodata", DANE_SKIP, NULL, NULL, ADDRESSES },
		{ "mx.test A servfail; mx.test AAAA servfail", DANE_SKIP, NULL, NULL, NULL },
		{ "mx.test A nodata; mx.test AAAA nodata", DANE_NONE, NULL, NULL, ADDRESSES },
		/* TLSA records may be behind an alias of their own */
		{ "mx.test A secure; " FOUR " TLSA secure >tlsa.other.test 3,1,1,32", DANE_USABLE,
		  "mx.test", "mx.test, dom.test", NULL },
	};
	struct dane_question question = { DANE_BY_MX, SPAN("mx.test"), 25, SPAN("dom.test"),
					  SPAN("dom.test") };

	(void)state;
	check_rows(&question, rows, sizeof(rows) / sizeof(*rows));
	assert_int_equal(verdict.ttl, 60);		/* of the negative answer for AAAA */
}

static void
test_which_records_count(void **state)
{
	static const struct {
		const char *records;
		enum dane_outcome outcome;
		size_t usable, published;
	} rows[] = {
		{ "3,1,1,32", DANE_USABLE, 1, 1 },
		{ "3,1,2,64", DANE_USABLE, 1, 1 },
		{ "3,0,0,500", DANE_USABLE, 1, 1 },
		{ "2,0,1,32 2,1,2,64", DANE_USABLE, 2, 2 },
		{ "0,0,1,32", DANE_UNUSABLE, 0, 1 },		/* PKIX-TA */
		{ "1,1,1,32", DANE_UNUSABLE, 0, 1 },		/* PKIX-EE */
		{ "0,0,1,32 1,1,1,32 3,1,1,32", DANE_USABLE, 1, 3 },
		{ "3,1,1,31", DANE_UNUSABLE, 0, 1 },		/* a digest cut short */
		{ "3,1,1,64", DANE_UNUSABLE, 0, 1 },
		{ "3,1,2,32", DANE_UNUSABLE, 0, 1 },
		{ "3,2,1,32", DANE_UNUSABLE, 0, 1 },		/* unknown selector */
		{ "3,1,3,32", DANE_UNUSABLE, 0, 1 },		/* unknown matching */
		{ "4,1,1,32", DANE_UNUSABLE, 0, 1 },		/* unknown usage */
		{ "255,255,255,32", DANE_UNUSABLE, 0, 1 },
		{ "3,1,1,0", DANE_UNUSABLE, 0, 1 },		/* no data at all */
		{ "3,1,1,32 3,1,1,32", DANE_USABLE, 1, 2 },	/* the same twice */
	};
	struct dane_question question = { DANE_BY_MX, SPAN("mx.test"), 25, SPAN("dom.test"),
					  SPAN("") };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct span zone = arena_printf(&arena, "mx.test A secure; " FOUR " TLSA secure %s",
						rows[i].records);

		run(&question, zone.at);
		assert_int_equal(verdict.outcome, rows[i].outcome);
		assert_int_equal(verdict.count, rows[i].usable);
		assert_int_equal(verdict.published, rows[i].published);
		assert_true(span_eq(verdict.base, SPAN("mx.test")));
	}
}

/* RFC 7672 §2.2.2: an MX host (or a domain) that is an alias. */
static void
test_aliases(void **state)
{
#define EXPANDED "_25._tcp.real.test"
	static const struct row rows[] = {
		/* secure all the way: the name at the end first, then the host's own */
		{ "mx.test A secure >real.test; " EXPANDED " TLSA secure 3,1,1,32; " FOUR
		  " TLSA secure 3,1,1,32",
		  DANE_USABLE, "real.test", "real.test, dom.test, www.dom.test",
		  ADDRESSES ", TLSA " EXPANDED ", TLSA " FOUR },
		{ "mx.test A secure >real.test; " EXPANDED " TLSA nodata; " FOUR
		  " TLSA secure 3,1,1,32",
		  DANE_USABLE, "mx.test", "mx.test, dom.test, www.dom.test", NULL },
		{ "mx.test A secure >real.test; " EXPANDED " TLSA servfail; " FOUR
		  " TLSA secure 3,1,1,32",
		  DANE_SKIP, NULL, NULL, NULL },
		{ "mx.test A secure >real.test; " EXPANDED " TLSA secure 3,1,1,32; " FOUR
		  " TLSA servfail",
		  DANE_USABLE, "real.test", "real.test, dom.test, www.dom.test", NULL },
		{ "mx.test A secure >real.test; " EXPANDED " TLSA secure 1,1,1,32; " FOUR
		  " TLSA secure 3,1,1,32",
		  DANE_UNUSABLE, "real.test", NULL, NULL },
		{ "mx.test A secure >real.test; " EXPANDED " TLSA nodata; " FOUR " TLSA nodata",
		  DANE_NONE, NULL, NULL, NULL },
		/* it leads out of signed zones: only its own name, if the alias itself is signed */
		{ "mx.test A insecure >real.test; mx.test CNAME secure; " FOUR
		  " TLSA secure 3,1,1,32",
		  DANE_USABLE, "mx.test", "mx.test, dom.test, www.dom.test",
		  ADDRESSES ", CNAME mx.test, TLSA " FOUR },
		{ "mx.test A insecure >real.test; mx.test CNAME insecure; " FOUR
		  " TLSA secure 3,1,1,32",
		  DANE_NONE, NULL, NULL, ADDRESSES ", CNAME mx.test" },
		{ "mx.test A insecure >real.test; mx.test CNAME servfail", DANE_SKIP, NULL, NULL,
		  NULL },
		{ "mx.test A insecure >real.test; mx.test CNAME secure; " FOUR " TLSA servfail",
		  DANE_SKIP, NULL, NULL, NULL },
	};
	struct dane_question question = { DANE_BY_MX, SPAN("mx.test"), 25, SPAN("dom.test"),
					  SPAN("www.dom.test") };

	(void)state;
	check_rows(&question, rows, sizeof(rows) / sizeof(*rows));
}

/* No MX, or a host from the configuration: RFC 7672 §3.2.2's last case. */
static void
test_direct(void **state)
{
	static const struct row rows[] = {
		{ "mx.test A secure; _2525._tcp.mx.test TLSA secure 2,0,1,32", DANE_USABLE,
		  "mx.test", "mx.test", NULL },
		{ "mx.test A secure >real.test; _2525._tcp.real.test TLSA secure 2,0,1,32",
		  DANE_USABLE, "real.test", "real.test, mx.test", NULL },
	};
	struct dane_question question = { .path = DANE_DIRECT, .host = SPAN("mx.test"),
					  .port = 2525, .next_hop = SPAN("dom.test") };

	(void)state;
	check_rows(&question, rows, sizeof(rows) / sizeof(*rows));
}

static void
test_nothing_to_ask(void **state)
{
	struct dane_question question = { .path = DANE_BY_INSECURE_MX, .host = SPAN("mx.test"),
					  .port = 25 };

	(void)state;
	run(&question, "mx.test A secure; " FOUR " TLSA secure 3,1,1,32");
	assert_int_equal(verdict.outcome, DANE_NONE);
	assert_int_equal(rounds, 0);
	question.path = DANE_DIRECT;
	question.host = SPAN("[192.0.2.1]");
	run(&question, "");
	assert_int_equal(verdict.outcome, DANE_NONE);
	question.host = SPAN("192.0.2.1");
	run(&question, "");
	assert_int_equal(verdict.outcome, DANE_NONE);
	assert_int_equal(rounds, 0);
}

/* A name that leaves no room for "_25._tcp." has no records. */
static void
test_long_name(void **state)
{
	char host[252];
	struct dane_question question = { .path = DANE_DIRECT, .host = { host, 250 }, .port = 25 };
	struct span zone;

	(void)state;
	for (size_t i = 0; i < 250; i++)
		host[i] = i % 50 == 49 ? '.' : 'a';
	host[249] = 'a';
	zone = arena_printf(&arena, "%.250s A secure", host);
	run(&question, zone.at);
	assert_int_equal(verdict.outcome, DANE_NONE);
	assert_int_equal(rounds, 1);
}

static void
test_paths(void **state)
{
	(void)state;
	assert_int_equal(dane_path_of(false, false), DANE_BY_INSECURE_MX);
	assert_int_equal(dane_path_of(false, true), DANE_BY_MX);
	assert_int_equal(dane_path_of(true, false), DANE_DIRECT);
	assert_int_equal(dane_path_of(true, true), DANE_DIRECT);
}

static void
test_lines_and_none_fit(void **state)
{
	struct dane_question question = { DANE_BY_MX, SPAN("mx.test"), 25, SPAN("dom.test"),
					  SPAN("") };
	struct span lines[2];

	(void)state;
	run(&question, "mx.test A secure; " FOUR " TLSA secure 3,0,0,2 2,1,0,3 3,1,0,1");
	assert_int_equal(verdict.count, 3);
	assert_int_equal(dane_policy_lines(&verdict, &arena, lines, 2), 2);
	assert_string_equal(lines[0].at, "3 0 0 7878");
	assert_string_equal(lines[1].at, "2 1 0 787878");
	dane_none_fit(&verdict);
	assert_int_equal(verdict.outcome, DANE_UNUSABLE);
	assert_int_equal(dane_policy_lines(&verdict, &arena, lines, 2), 0);
}

static void
test_facts(void **state)
{
	struct facts facts = { .arena = &arena };
	struct facts_needs needs = { 0 };
	struct dns_answer answer = { .outcome = DNS_FOUND, .ttl = 7 }, again = { .ttl = 8 };

	(void)state;
	assert_null(facts_want(&facts, SPAN("A.Test"), DNS_A, &needs));
	assert_null(facts_want(&facts, SPAN("a.test"), DNS_A, &needs));
	assert_null(facts_want(&facts, SPAN("a.test"), DNS_TXT, &needs));
	assert_int_equal(needs.count, 2);
	assert_true(span_eq(needs.need[0].name, SPAN("a.test")));
	facts_add(&facts, SPAN("a.TEST"), DNS_A, &answer);
	facts_add(&facts, SPAN("a.test"), DNS_A, &again);
	assert_int_equal(facts_find(&facts, SPAN("A.test"), DNS_A)->ttl, 7);
	assert_null(facts_find(&facts, SPAN("a.test"), DNS_TXT));
	facts_add_failure(&facts, SPAN("a.test"), DNS_TXT, SPAN("too late"));
	assert_int_equal(facts_find(&facts, SPAN("a.test"), DNS_TXT)->outcome, DNS_TEMPORARY);
	for (unsigned i = 0; i < 2 * FACTS_MAX; i++)
		facts_add(&facts, arena_printf(&arena, "%u.test", i), DNS_A, &answer);
	assert_int_equal(facts.count, FACTS_MAX);
	needs.count = 0;
	for (unsigned i = 0; i < 2 * FACTS_NEEDS_MAX; i++)
		facts_want(&facts, arena_printf(&arena, "%u.other", i), DNS_A, &needs);
	assert_int_equal(needs.count, FACTS_NEEDS_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_plain, teardown),
		cmocka_unit_test_teardown(test_which_records_count, teardown),
		cmocka_unit_test_teardown(test_aliases, teardown),
		cmocka_unit_test_teardown(test_direct, teardown),
		cmocka_unit_test_teardown(test_nothing_to_ask, teardown),
		cmocka_unit_test_teardown(test_long_name, teardown),
		cmocka_unit_test_teardown(test_paths, teardown),
		cmocka_unit_test_teardown(test_lines_and_none_fit, teardown),
		cmocka_unit_test_teardown(test_facts, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
