/*
 * tls_policy: the route's wish × what is published × what the sender asked for, as a table; then
 * what a trouble means, passwords, REQUIRETLS, and which demands may share a connection.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "policy/tls_policy.h"

static struct arena arena;
static struct tls_demand demand;

static int
teardown(void **state)
{
	(void)state;
	arena_free(&arena);
	return 0;
}

static struct dns_tlsa record = { TLSA_DANE_EE, TLSA_SPKI, TLSA_SHA256,
				  { "0123456789abcdef0123456789abcdef", 32 } };
static struct span listed[] = { { "*.dom.test", 10 } }, others[] = { { "mx.other.test", 13 } };

static const struct dane_verdict dane_none = { .outcome = DANE_NONE, .reason = { "none", 4 } };
static const struct dane_verdict dane_skip = { .outcome = DANE_SKIP, .reason = { "SERVFAIL", 8 } };
static const struct dane_verdict dane_unusable = { .outcome = DANE_UNUSABLE,
						   .base = { "mx.dom.test", 11 },
						   .reason = { "unusable", 8 } };
static const struct dane_verdict dane_usable = { .outcome = DANE_USABLE,
						 .base = { "real.test", 9 },
						 .records = &record,
						 .count = 1,
						 .names = { { "real.test", 9 }, { "dom.test", 8 } },
						 .name_count = 2,
						 .reason = { "usable", 6 } };
static const struct sts_policy sts_enforce = { STS_MODE_ENFORCE, 1, listed, 1 };
static const struct sts_policy sts_testing = { STS_MODE_TESTING, 1, listed, 1 };
static const struct sts_policy sts_none = { STS_MODE_NONE, 1, listed, 1 };
static const struct sts_policy sts_other = { STS_MODE_ENFORCE, 1, others, 1 };
static const struct sts_policy sts_other_testing = { STS_MODE_TESTING, 1, others, 1 };

#define S TLS_WISH_STRONGEST
#define D TLS_WISH_DANE
#define M TLS_WISH_MTA_STS
enum flags { SENDER_MUST = 1, SENDER_WAIVES = 2, UNVALIDATED = 4, PASSWORD = 8, CONFIGURED = 16,
	     SIGNED = 32 };

struct row {
	enum tls_wish wish;
	const struct dane_verdict *dane;
	const struct sts_policy *sts;
	unsigned flags;
	/* expected */
	enum tls_go go;
	enum tls_use use;
	enum tls_proof proof;
	bool enforce;
	enum tls_source source;
	unsigned status;		/* 5730: 5.7.30; 0: GO */
};

static struct tls_question
question_of(const struct row *row)
{
	bool configured = (row->flags & CONFIGURED) != 0;

	return (struct tls_question){
		.wish = row->wish,
		.host = SPAN("mx.dom.test"),
		.next_hop = configured ? SPAN("") : SPAN("dom.test"),
		.by_configuration = configured,
		.by_dnssec = (row->flags & SIGNED) != 0,
		.credentials = (row->flags & PASSWORD) != 0,
		.requiretls = (row->flags & SENDER_MUST) != 0,
		.tls_required_no = (row->flags & SENDER_WAIVES) != 0,
		.resolver = row->flags & UNVALIDATED ? RESOLVER_FAILS : RESOLVER_VALIDATES,
		.dane = row->dane,
		.sts = row->sts,
	};
}

static void
check(size_t i, const struct row *row)
{
	struct tls_question question = question_of(row);

	tls_policy_decide(&question, &arena, &demand);
	if (demand.go != row->go || demand.use != row->use || demand.proof != row->proof ||
	    demand.enforce != row->enforce || demand.source != row->source)
		fail_msg("row %zu: go %d use %d proof %d enforce %d source %d: %.*s", i, demand.go,
			 demand.use, demand.proof, demand.enforce, demand.source,
			 SPAN_FMT(demand.reason));
	assert_true(demand.reason.len > 0);
	if (row->go == TLS_GO) {
		assert_int_equal(demand.reply.code, 0);
		return;
	}
	assert_int_equal(demand.reply.code / 100, row->status / 1000);
	assert_int_equal(demand.reply.status.klass * 1000u + demand.reply.status.subject * 100u +
				 demand.reply.status.detail,
			 row->status);
	assert_int_equal(row->go == TLS_GO_NEVER, demand.reply.code / 100 == 5);
}

static void
check_all(const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		check(i, &rows[i]);
}

#define CHECK(rows) check_all(rows, sizeof(rows) / sizeof(*(rows)))
#define PLAIN_OK TLS_GO, TLS_USE_IF_OFFERED, TLS_PROOF_NONE, false
#define BY_TLSA TLS_GO, TLS_USE_ALWAYS, TLS_PROOF_TLSA, true, TLS_SOURCE_DANE, 0
#define BY_STS TLS_GO, TLS_USE_ALWAYS, TLS_PROOF_CA, true, TLS_SOURCE_MTA_STS, 0
#define NO_HOST(source) TLS_GO_NEXT_HOST, 0, 0, false, source, 4705
#define LATER(source) TLS_GO_LATER, 0, 0, false, source, 4705
#define NEVER TLS_GO_NEVER, 0, 0, false, TLS_SOURCE_SENDER, 5730

static void
test_published(void **state)
{
	static const struct row rows[] = {
		{ S, &dane_none, NULL, 0, PLAIN_OK, TLS_SOURCE_DEFAULT, 0 },
		{ S, NULL, NULL, 0, PLAIN_OK, TLS_SOURCE_DEFAULT, 0 },
		{ S, &dane_usable, NULL, 0, BY_TLSA },
		{ S, &dane_usable, &sts_enforce, 0, BY_TLSA },
		{ S, &dane_usable, &sts_other, 0, BY_TLSA },
		{ S, &dane_none, &sts_enforce, 0, BY_STS },
		{ S, &dane_none, &sts_other, 0, NO_HOST(TLS_SOURCE_MTA_STS) },
		{ S, &dane_none, &sts_none, 0, PLAIN_OK, TLS_SOURCE_DEFAULT, 0 },
		{ S, &dane_none, &sts_testing, 0, TLS_GO, TLS_USE_IF_OFFERED, TLS_PROOF_CA, false,
		  TLS_SOURCE_MTA_STS, 0 },
		{ S, &dane_none, &sts_other_testing, 0, PLAIN_OK, TLS_SOURCE_MTA_STS, 0 },
		/* a failed TLSA look-up is not outdone by MTA-STS */
		{ S, &dane_skip, NULL, 0, NO_HOST(TLS_SOURCE_DANE) },
		{ S, &dane_skip, &sts_enforce, 0, NO_HOST(TLS_SOURCE_DANE) },
		/* records that nobody can use: TLS, and what MTA-STS asks for */
		{ S, &dane_unusable, NULL, 0, TLS_GO, TLS_USE_ALWAYS, TLS_PROOF_NONE, false,
		  TLS_SOURCE_DANE, 0 },
		{ S, &dane_unusable, &sts_testing, 0, TLS_GO, TLS_USE_ALWAYS, TLS_PROOF_NONE, false,
		  TLS_SOURCE_DANE, 0 },
		{ S, &dane_unusable, &sts_enforce, 0, BY_STS },
		/* without a validating resolver DANE is not looked at */
		{ S, &dane_usable, NULL, UNVALIDATED, PLAIN_OK, TLS_SOURCE_DEFAULT, 0 },
		{ S, &dane_usable, &sts_enforce, UNVALIDATED, BY_STS },
		{ D, &dane_usable, &sts_enforce, 0, BY_TLSA },
		{ D, &dane_none, &sts_enforce, 0, PLAIN_OK, TLS_SOURCE_DEFAULT, 0 },
		{ D, &dane_skip, NULL, 0, NO_HOST(TLS_SOURCE_DANE) },
		{ D, &dane_usable, NULL, UNVALIDATED, LATER(TLS_SOURCE_ROUTE) },
		{ D, NULL, NULL, UNVALIDATED, LATER(TLS_SOURCE_ROUTE) },
		{ M, &dane_usable, &sts_enforce, 0, BY_STS },
		/* who asks for a policy gets one that is kept, or waits for it */
		{ M, &dane_usable, &sts_testing, 0, BY_STS },
		{ M, &dane_usable, &sts_other_testing, 0, NO_HOST(TLS_SOURCE_MTA_STS) },
		{ M, &dane_usable, &sts_none, 0, LATER(TLS_SOURCE_ROUTE) },
		{ M, &dane_usable, NULL, 0, LATER(TLS_SOURCE_ROUTE) },
		{ M, &dane_skip, &sts_enforce, 0, BY_STS },
		{ M, NULL, &sts_enforce, UNVALIDATED, BY_STS },
	};

	(void)state;
	CHECK(rows);
}

static void
test_wishes(void **state)
{
	static const struct row rows[] = {
		{ TLS_WISH_OFF, &dane_usable, &sts_enforce, 0, TLS_GO, TLS_USE_NEVER,
		  TLS_PROOF_NONE, false, TLS_SOURCE_ROUTE, 0 },
		{ TLS_WISH_MAY, &dane_skip, &sts_other, 0, PLAIN_OK, TLS_SOURCE_ROUTE, 0 },
		{ TLS_WISH_REQUIRED, &dane_skip, &sts_enforce, 0, TLS_GO, TLS_USE_ALWAYS,
		  TLS_PROOF_NONE, false, TLS_SOURCE_ROUTE, 0 },
		{ TLS_WISH_VERIFY, &dane_usable, &sts_other, 0, TLS_GO, TLS_USE_ALWAYS,
		  TLS_PROOF_CA, true, TLS_SOURCE_ROUTE, 0 },
	};
	enum tls_wish wish;

	(void)state;
	CHECK(rows);
	for (wish = TLS_WISH_OFF; wish <= TLS_WISH_MTA_STS; wish++) {
		enum tls_wish back;

		assert_true(tls_wish_parse(span_str(tls_wish_text(wish)), &back));
		assert_int_equal(back, wish);
	}
	assert_false(tls_wish_parse(SPAN("strongest"), &wish));
	assert_false(tls_wish_parse(SPAN("May"), &wish));
	assert_false(tls_wish_parse(SPAN(""), &wish));
}

static void
test_requiretls(void **state)
{
	static const struct row rows[] = {
		{ S, &dane_usable, NULL, SENDER_MUST, BY_TLSA },
		{ S, &dane_none, &sts_enforce, SENDER_MUST, BY_STS },
		{ S, &dane_none, &sts_testing, SENDER_MUST, BY_STS },
		{ S, &dane_none, &sts_other_testing, SENDER_MUST, NO_HOST(TLS_SOURCE_MTA_STS) },
		{ S, &dane_none, NULL, SENDER_MUST, NEVER },
		{ S, &dane_none, &sts_none, SENDER_MUST, NEVER },
		{ S, &dane_unusable, NULL, SENDER_MUST, NEVER },
		{ S, &dane_unusable, &sts_enforce, SENDER_MUST, BY_STS },
		{ S, &dane_skip, &sts_enforce, SENDER_MUST, NO_HOST(TLS_SOURCE_DANE) },
		{ S, NULL, NULL, SENDER_MUST | UNVALIDATED, LATER(TLS_SOURCE_SENDER) },
		{ S, NULL, &sts_enforce, SENDER_MUST | UNVALIDATED, BY_STS },
		/* a weaker or another wish of the route does not stand in its way … */
		{ TLS_WISH_MAY, &dane_usable, NULL, SENDER_MUST, BY_TLSA },
		{ TLS_WISH_REQUIRED, &dane_none, &sts_enforce, SENDER_MUST, BY_STS },
		{ TLS_WISH_VERIFY, &dane_none, &sts_enforce, SENDER_MUST, BY_STS },
		{ D, &dane_none, &sts_enforce, SENDER_MUST, BY_STS },
		{ M, &dane_usable, NULL, SENDER_MUST, BY_TLSA },
		/* … nor is it enough, where the host's name came from DNS alone */
		{ TLS_WISH_VERIFY, &dane_none, NULL, SENDER_MUST, NEVER },
		{ TLS_WISH_OFF, &dane_usable, NULL, SENDER_MUST, NEVER },
		{ TLS_WISH_VERIFY, NULL, NULL, SENDER_MUST | CONFIGURED, TLS_GO, TLS_USE_ALWAYS,
		  TLS_PROOF_CA, true, TLS_SOURCE_ROUTE, 0 },
		{ S, &dane_none, NULL, SENDER_MUST | CONFIGURED, TLS_GO, TLS_USE_ALWAYS,
		  TLS_PROOF_CA, true, TLS_SOURCE_ROUTE, 0 },
		{ S, &dane_usable, NULL, SENDER_MUST | CONFIGURED, BY_TLSA },
		/* a signed MX record says who the host is */
		{ S, &dane_none, NULL, SENDER_MUST | SIGNED, TLS_GO, TLS_USE_ALWAYS, TLS_PROOF_CA,
		  true, TLS_SOURCE_ROUTE, 0 },
		{ S, &dane_usable, NULL, SENDER_MUST | SIGNED, BY_TLSA },
		{ S, &dane_skip, NULL, SENDER_MUST | SIGNED, NO_HOST(TLS_SOURCE_DANE) },
		/* REQUIRETLS wins over the header field */
		{ S, &dane_usable, NULL, SENDER_MUST | SENDER_WAIVES, BY_TLSA },
		{ S, &dane_none, NULL, SENDER_MUST | SENDER_WAIVES, NEVER },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		check(i, &rows[i]);
		assert_int_equal(demand.requiretls, demand.go == TLS_GO);
		assert_int_equal(demand.final, demand.go == TLS_GO);
	}
}

static void
test_tls_required_no(void **state)
{
	static const struct row rows[] = {
		{ S, &dane_usable, &sts_enforce, SENDER_WAIVES, PLAIN_OK, TLS_SOURCE_SENDER, 0 },
		{ S, &dane_skip, &sts_other, SENDER_WAIVES, PLAIN_OK, TLS_SOURCE_SENDER, 0 },
		{ TLS_WISH_MAY, &dane_usable, NULL, SENDER_WAIVES, PLAIN_OK, TLS_SOURCE_ROUTE, 0 },
		/* what the operator wants is not the sender's to waive */
		{ D, NULL, NULL, SENDER_WAIVES | UNVALIDATED, LATER(TLS_SOURCE_ROUTE) },
		{ D, &dane_usable, NULL, SENDER_WAIVES, BY_TLSA },
		{ M, NULL, &sts_enforce, SENDER_WAIVES, BY_STS },
		{ TLS_WISH_REQUIRED, NULL, NULL, SENDER_WAIVES, TLS_GO, TLS_USE_ALWAYS,
		  TLS_PROOF_NONE, false, TLS_SOURCE_ROUTE, 0 },
		{ TLS_WISH_VERIFY, NULL, NULL, SENDER_WAIVES, TLS_GO, TLS_USE_ALWAYS, TLS_PROOF_CA,
		  true, TLS_SOURCE_ROUTE, 0 },
		{ S, &dane_none, NULL, SENDER_WAIVES | PASSWORD | CONFIGURED, TLS_GO,
		  TLS_USE_ALWAYS, TLS_PROOF_CA, true, TLS_SOURCE_ROUTE, 0 },
	};

	(void)state;
	CHECK(rows);
}

static void
test_passwords(void **state)
{
	static const struct row rows[] = {
		{ S, &dane_usable, NULL, PASSWORD | CONFIGURED, BY_TLSA },
		{ S, &dane_none, NULL, PASSWORD | CONFIGURED, TLS_GO, TLS_USE_ALWAYS, TLS_PROOF_CA,
		  true, TLS_SOURCE_ROUTE, 0 },
		{ S, &dane_unusable, NULL, PASSWORD | CONFIGURED, TLS_GO, TLS_USE_ALWAYS,
		  TLS_PROOF_CA, true, TLS_SOURCE_ROUTE, 0 },
		{ S, &dane_none, &sts_testing, PASSWORD, TLS_GO, TLS_USE_ALWAYS, TLS_PROOF_CA, true,
		  TLS_SOURCE_ROUTE, 0 },
		{ S, &dane_none, &sts_enforce, PASSWORD, BY_STS },
		{ TLS_WISH_MAY, NULL, NULL, PASSWORD | CONFIGURED, TLS_GO, TLS_USE_ALWAYS,
		  TLS_PROOF_CA, true, TLS_SOURCE_ROUTE, 0 },
		{ TLS_WISH_OFF, NULL, NULL, PASSWORD | CONFIGURED, LATER(TLS_SOURCE_ROUTE) },
		{ S, &dane_skip, NULL, PASSWORD | CONFIGURED, NO_HOST(TLS_SOURCE_DANE) },
	};
	struct row row = { TLS_WISH_OFF, NULL, NULL, PASSWORD | CONFIGURED, 0, 0, 0, 0, 0, 0 };
	struct tls_question question = question_of(&row);

	(void)state;
	CHECK(rows);
	question.credentials_unverified_ok = true;
	tls_policy_decide(&question, &arena, &demand);
	assert_int_equal(demand.go, TLS_GO);
	assert_int_equal(demand.use, TLS_USE_NEVER);
}

static void
expect_names(const char *names)
{
	struct buf out = { 0 };

	for (size_t i = 0; i < demand.name_count; i++)
		buf_printf(&out, "%s%.*s", i > 0 ? "," : "", SPAN_FMT(demand.names[i]));
	for (size_t i = 0; i < demand.more_count; i++)
		buf_printf(&out, "+%.*s", SPAN_FMT(demand.more_names[i]));
	buf_byte(&out, '\0');
	assert_string_equal(buf_span(&out).at, names);
	buf_free(&out);
}

static void
decide(struct tls_question question)
{
	tls_policy_decide(&question, &arena, &demand);
}

/* Which names a certificate must have, and the SNI. */
static void
test_names(void **state)
{
	struct row row = { S, &dane_usable, NULL, 0, 0, 0, 0, 0, 0, 0 };
	struct span own[] = { SPAN("relay.test"), SPAN("smtp.relay.test") };
	struct tls_question q;

	(void)state;
	decide(question_of(&row));
	expect_names("real.test,dom.test");
	assert_true(span_eq(demand.sni, SPAN("real.test")));
	assert_int_equal(demand.tlsa_count, 1);
	row = (struct row){ .wish = S, .dane = &dane_none, .sts = &sts_enforce };
	decide(question_of(&row));
	expect_names("mx.dom.test");
	assert_true(span_eq(demand.sni, SPAN("mx.dom.test")));
	row = (struct row){ .wish = TLS_WISH_VERIFY };
	decide(question_of(&row));
	expect_names("mx.dom.test,dom.test");
	row.flags = PASSWORD;			/* an MX answer may lie */
	decide(question_of(&row));
	expect_names("dom.test");
	row.flags = PASSWORD | CONFIGURED;
	decide(question_of(&row));
	expect_names("mx.dom.test");
	q = question_of(&row);
	q.verify_names = own;
	q.verify_name_count = 2;
	decide(q);
	expect_names("+relay.test+smtp.relay.test");
	row = (struct row){ .wish = TLS_WISH_MAY };
	q = question_of(&row);
	q.host = SPAN("192.0.2.1");
	decide(q);
	assert_int_equal(demand.sni.len, 0);
	q.host = SPAN("[IPv6:2001:db8::1]");
	decide(q);
	assert_int_equal(demand.sni.len, 0);
	row.wish = TLS_WISH_OFF;
	decide(question_of(&row));
	assert_int_equal(demand.sni.len, 0);
}

static void
test_what_is_asked(void **state)
{
	static const struct {
		enum tls_wish wish;
		unsigned flags;
		bool dane, sts;
	} rows[] = {
		{ S, 0, true, true },
		{ S, UNVALIDATED, false, true },
		{ S, SENDER_WAIVES, false, false },
		{ S, SENDER_WAIVES | SENDER_MUST, true, true },
		{ S, CONFIGURED, true, false },
		{ D, 0, true, false },
		{ M, 0, false, true },
		{ TLS_WISH_OFF, SENDER_MUST, false, false },
		{ TLS_WISH_MAY, 0, false, false },
		{ TLS_WISH_MAY, SENDER_MUST, true, true },
		{ TLS_WISH_REQUIRED, 0, false, false },
		{ TLS_WISH_VERIFY, 0, false, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct row row = { .wish = rows[i].wish, .flags = rows[i].flags };
		struct tls_question question = question_of(&row);

		assert_int_equal(tls_policy_asks_dane(&question), rows[i].dane);
		assert_int_equal(tls_policy_asks_sts(&question), rows[i].sts);
	}
}

/* "": go on; else the status. */
static void
expect_trouble(enum tls_trouble trouble, const char *status)
{
	struct reply reply = { 0 };
	char text[16] = "";
	bool on = tls_policy_trouble(&demand, trouble, SPAN("mx.dom.test"), SPAN("said so"), &arena,
				     &reply);

	assert_int_equal(on, status[0] == '\0');
	if (on)
		return;
	assert_string_equal(status_format(reply.status, text), status);
	assert_int_equal(reply.code / 100, reply.status.klass);
	assert_true(span_starts(reply.text, SPAN("mx.dom.test: ")));
	assert_true(span_ends(reply.text, SPAN(": said so")));
}

static void
test_trouble(void **state)
{
	static const struct {
		struct row row;
		const char *status[5];
	} rows[] = {
		{ { .wish = TLS_WISH_MAY }, { "", "", "", "", "" } },
		{ { .wish = S, .sts = &sts_testing }, { "", "", "", "", "" } },
		{ { .wish = TLS_WISH_REQUIRED }, { "4.7.4", "4.7.4", "4.7.4", "", "" } },
		{ { .wish = S, .dane = &dane_unusable }, { "4.7.4", "4.7.4", "4.7.4", "", "" } },
		{ { .wish = TLS_WISH_VERIFY }, { "4.7.4", "4.7.4", "4.7.4", "4.7.5", "" } },
		{ { .wish = S, .dane = &dane_usable }, { "4.7.4", "4.7.4", "4.7.4", "4.7.5", "" } },
		{ { .wish = S, .sts = &sts_enforce }, { "4.7.4", "4.7.4", "4.7.4", "4.7.5", "" } },
		{ { .wish = S, .dane = &dane_usable, .flags = SENDER_MUST },
		  { "5.7.10", "4.7.4", "4.7.4", "4.7.5", "5.7.30" } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		decide(question_of(&rows[i].row));
		assert_int_equal(demand.go, TLS_GO);
		for (enum tls_trouble t = 0; t <= TLS_TROUBLE_NO_REQUIRETLS; t++)
			expect_trouble(t, rows[i].status[t]);
	}
}

/* Each of these differs from all others. */
static void
test_keys(void **state)
{
	static const struct row rows[] = {
		{ .wish = TLS_WISH_OFF },
		{ .wish = TLS_WISH_MAY },
		{ .wish = TLS_WISH_REQUIRED },
		{ .wish = TLS_WISH_VERIFY },
		{ .wish = S, .dane = &dane_usable },
		{ .wish = S, .dane = &dane_usable, .flags = SENDER_MUST },
		{ .wish = S, .sts = &sts_enforce },
		{ .wish = S, .sts = &sts_testing },
	};
	struct span keys[8];

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		decide(question_of(&rows[i]));
		keys[i] = tls_policy_key(&demand, &arena);
		assert_true(span_eq(keys[i], tls_policy_key(&demand, &arena)));
		for (size_t k = 0; k < i; k++)
			assert_false(span_eq(keys[i], keys[k]));
	}
	decide(question_of(&(struct row){ .wish = S, .dane = &dane_none }));
	assert_true(span_eq(keys[1], tls_policy_key(&demand, &arena)));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_published, teardown),
		cmocka_unit_test_teardown(test_wishes, teardown),
		cmocka_unit_test_teardown(test_requiretls, teardown),
		cmocka_unit_test_teardown(test_tls_required_no, teardown),
		cmocka_unit_test_teardown(test_passwords, teardown),
		cmocka_unit_test_teardown(test_names, teardown),
		cmocka_unit_test_teardown(test_what_is_asked, teardown),
		cmocka_unit_test_teardown(test_trouble, teardown),
		cmocka_unit_test_teardown(test_keys, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
