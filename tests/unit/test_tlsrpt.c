/*
 * tlsrpt: records, counters and their bounds, the stored form, and the report: JSON as RFC 8460
 * §4.4 and Appendix B have it, and the mail around it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <jansson.h>
#include <zlib.h>

#include "mta/base/base64.h"
#include "mta/tlsrpt/tlsrpt_report.h"

static struct arena arena;

static int
teardown(void **state)
{
	(void)state;
	arena_free(&arena);
	return 0;
}

/* ---- the record ---------------------------------------------------------------------------- */

static void
test_record(void **state)
{
	static const struct {
		const char *text, *uris;	/* NULL: none */
	} rows[] = {
		{ "v=TLSRPTv1;rua=mailto:reports@example.com", "m reports@example.com" },
		{ "v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt",
		  "h https://reporting.example.com/v1/tlsrpt" },
		{ "v=TLSRPTv1; rua=mailto:a@b.test , https://c.test/x?y=1;",
		  "m a@b.test h https://c.test/x?y=1" },
		{ "v=TLSRPTv1; rua=MAILTO:a%2Bx@B.test?subject=hi", "m a+x@b.test" },
		{ "v=TLSRPTv1 ; x=y; rua=mailto:a@b.test", "m a@b.test" },
		{ "v=TLSRPTv1; rua=mailto:a@b.test; rua=mailto:c@d.test", "m a@b.test" },
		{ "v=TLSRPTv1; rua=ftp://x.test,mailto:nobody,mailto:a@b.test", "m a@b.test" },
		{ "v=TLSRPTv1; rua=ftp://x.test", NULL },
		{ "v=TLSRPTv1; rua=http://x.test", NULL },
		{ "v=TLSRPTv1; rua=https://", NULL },
		{ "v=TLSRPTv1; rua=https:///x", NULL },
		{ "v=TLSRPTv1; rua=https://x.test/ y", NULL },
		{ "v=TLSRPTv1; rua=mailto:a%0d%0aBcc:x@b.test", NULL },
		{ "v=TLSRPTv1; rua=mailto:a%2@b.test", NULL },
		{ "v=TLSRPTv1; rua=mailto:a%zz@b.test", NULL },
		{ "v=TLSRPTv1; rua=mailto:%", NULL },
		{ "v=TLSRPTv1; rua=mailto:", NULL },
		{ "v=TLSRPTv1; rua=", NULL },
		{ "v=TLSRPTv1;", NULL },
		{ "v=TLSRPTv1", NULL },
		{ "v=TLSRPTv2; rua=mailto:a@b.test", NULL },
		{ "v=TLSRPTv1; rua", NULL },
		{ "v=TLSRPTv1; RUA=mailto:a@b.test", NULL },
		{ "rua=mailto:a@b.test; v=TLSRPTv1", NULL },
		{ "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct tlsrpt_record record;
		struct buf out = { 0 };
		bool fine = tlsrpt_record_parse(span_str(rows[i].text), &arena, &record);

		if (fine != (rows[i].uris != NULL))
			fail_msg("%s", rows[i].text);
		for (size_t k = 0; fine && k < record.count; k++)
			buf_printf(&out, "%s%c %.*s", k > 0 ? " " : "",
				   record.uris[k].https ? 'h' : 'm', SPAN_FMT(record.uris[k].text));
		assert_true(span_eq(buf_span(&out), span_str(fine ? rows[i].uris : "")));
		buf_free(&out);
	}
}

static void
test_record_from_answer(void **state)
{
	struct dns_record records[3] = {
		{ .data = SPAN("\x2bv=TLSRPTv1;rua=mailto:reports@a.example.com") },
		{ .data = SPAN("\5hello") },
		{ .data = SPAN("\x1dv=TLSRPTv1;rua=mailto:b@c.test") },
	};
	struct dns_answer answer = { .outcome = DNS_FOUND, .records = records, .count = 2 };
	struct tlsrpt_record record;

	(void)state;
	assert_true(tlsrpt_record_from_answer(&answer, &arena, &record));
	assert_true(span_eq(record.uris[0].text, SPAN("reports@a.example.com")));
	answer.count = 3;			/* two records: none */
	records[2].data.len = 30;
	assert_false(tlsrpt_record_from_answer(&answer, &arena, &record));
	assert_int_equal(record.count, 0);
	answer.outcome = DNS_TEMPORARY;
	assert_false(tlsrpt_record_from_answer(&answer, &arena, &record));
	assert_string_equal(tlsrpt_record_name(SPAN("example.com"), &arena).at,
			    "_smtp._tls.example.com");
}

static void
test_many_uris(void **state)
{
	struct tlsrpt_record record;
	struct buf text = { 0 };

	(void)state;
	buf_append(&text, SPAN("v=TLSRPTv1; rua=mailto:a@b.test"));
	for (unsigned i = 0; i < 100; i++)
		buf_printf(&text, ",https://%u.test/", i);
	assert_true(tlsrpt_record_parse(buf_span(&text), &arena, &record));
	assert_int_equal(record.count, TLSRPT_URIS_MAX);
	buf_free(&text);
}

/* ---- counters ------------------------------------------------------------------------------ */

static const struct span sts_lines[] = {
	{ "version: STSv1", 14 }, { "mode: testing", 13 },
	{ "mx: *.mail.company-y.example", 28 }, { "max_age: 86400", 14 },
};
static const struct span sts_hosts[] = { { "*.mail.company-y.example", 24 } };

static struct tlsrpt_event
sts_event(enum tlsrpt_result result)
{
	return (struct tlsrpt_event){
		.type = TLSRPT_STS,
		.lines = sts_lines,
		.line_count = 4,
		.hosts = sts_hosts,
		.host_count = 1,
		.result = result,
	};
}

static struct netaddr
address_of(const char *text)
{
	struct netaddr address;

	assert_true(netaddr_parse(span_str(text), 25, &address));
	return address;
}

/* RFC 8460, Appendix B. */
static void
fill_example(struct tlsrpt_day *day)
{
	struct tlsrpt_event event = sts_event(TLSRPT_SUCCESS);

	tlsrpt_day_init(day, SPAN("company-y.example"), tlsrpt_day_of(1459468800000), &arena);
	for (unsigned i = 0; i < 5326; i++)
		tlsrpt_count(day, &event, &arena);
	event = sts_event(TLSRPT_CERTIFICATE_EXPIRED);
	event.sending = address_of("2001:db8:abcd:12::1");
	event.receiving_host = SPAN("mx1.mail.company-y.example");
	for (unsigned i = 0; i < 100; i++)
		tlsrpt_count(day, &event, &arena);
	event = sts_event(TLSRPT_STARTTLS_NOT_SUPPORTED);
	event.sending = address_of("2001:db8:abcd:13::1");
	event.receiving_host = SPAN("mx2.mail.company-y.example");
	event.receiving = address_of("203.0.113.56");
	for (unsigned i = 0; i < 200; i++)
		tlsrpt_count(day, &event, &arena);
	event = sts_event(TLSRPT_VALIDATION_FAILURE);
	event.sending = address_of("198.51.100.62");
	event.receiving = address_of("203.0.113.58");
	event.receiving_host = SPAN("mx-backup.mail.company-y.example");
	event.detail = SPAN("X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED");
	for (unsigned i = 0; i < 3; i++)
		tlsrpt_count(day, &event, &arena);
}

static void
test_counting(void **state)
{
	struct tlsrpt_event plain = { .type = TLSRPT_NO_POLICY }, dane = { .type = TLSRPT_TLSA };
	struct span line = SPAN("3 1 1 abcd");
	struct tlsrpt_day day;

	(void)state;
	fill_example(&day);
	assert_int_equal(day.count, 1);
	assert_int_equal(day.policies[0].successes, 5326);
	assert_int_equal(day.policies[0].failed, 303);
	assert_int_equal(day.policies[0].failure_count, 3);
	tlsrpt_count(&day, &plain, &arena);
	dane.lines = &line;
	dane.line_count = 1;
	tlsrpt_count(&day, &dane, &arena);
	line = SPAN("3 1 1 ffff");			/* another policy */
	tlsrpt_count(&day, &dane, &arena);
	assert_int_equal(day.count, 4);
	line = SPAN("3 1 1 0000");			/* one too many */
	tlsrpt_count(&day, &dane, &arena);
	assert_int_equal(day.count, TLSRPT_POLICIES_MAX);
	assert_int_equal(day.lost, 1);
	line = SPAN("3 1 1 abcd");
	tlsrpt_count(&day, &dane, &arena);
	assert_int_equal(day.policies[2].successes, 2);
	assert_int_equal(day.lost, 1);
}

/* Whatever a host says about itself, the counters stay small and complete. */
static void
test_bounds(void **state)
{
	struct tlsrpt_day day, into;
	struct span lines[3 * TLSRPT_LINES_MAX];
	struct tlsrpt_event event = { .type = TLSRPT_TLSA, .result = TLSRPT_VALIDATION_FAILURE,
				      .lines = lines, .line_count = 3 * TLSRPT_LINES_MAX };
	struct buf out = { 0 };
	uint64_t counted = 0;
	char text[5000];

	(void)state;
	memset(text, 'x', sizeof(text));
	for (size_t i = 0; i < event.line_count; i++)
		lines[i] = span_of(text, sizeof(text));
	tlsrpt_day_init(&day, span_of(text, sizeof(text)), 1, &arena);
	for (unsigned i = 0; i < 1000; i++) {
		struct span helo = arena_printf(&arena, "%u.%.1000s", i, text);

		event.receiving_helo = helo;
		event.detail = event.receiving_host = span_of(text, sizeof(text));
		event.result = i % 2 == 0 ? TLSRPT_VALIDATION_FAILURE : TLSRPT_CERTIFICATE_EXPIRED;
		tlsrpt_count(&day, &event, &arena);
	}
	assert_int_equal(day.count, 1);
	assert_int_equal(day.policies[0].failed, 1000);
	assert_in_range(day.policies[0].failure_count, 40, TLSRPT_FAILURES_MAX + 2);
	for (size_t i = 0; i < day.policies[0].failure_count; i++)
		counted += day.policies[0].failures[i].count;
	assert_int_equal(counted, 1000);
	assert_int_equal(day.policies[0].line_count, TLSRPT_LINES_MAX);
	tlsrpt_day_encode(&day, &out);
	assert_true(buf_len(&out) <= TLSRPT_DAY_OCTETS);
	assert_int_equal(tlsrpt_day_decode(buf_span(&out), &arena, &into), 0);
	assert_int_equal(into.octets, day.octets);
	tlsrpt_day_init(&into, day.domain, 1, &arena);
	for (unsigned i = 0; i < 3; i++)
		tlsrpt_merge(&into, &day, &arena);
	assert_int_equal(into.policies[0].failed, 3000);
	assert_int_equal(into.policies[0].failure_count, day.policies[0].failure_count);
	buf_clear(&out);
	tlsrpt_day_encode(&into, &out);
	assert_true(buf_len(&out) <= TLSRPT_DAY_OCTETS);
	into.policies[0].successes = UINT64_MAX - 1;
	day.policies[0].successes = 5;
	tlsrpt_merge(&into, &day, &arena);
	assert_true(into.policies[0].successes == UINT64_MAX);
	buf_free(&out);
}

static void
test_merge(void **state)
{
	struct tlsrpt_day one, two, plain;
	struct tlsrpt_event event = { .type = TLSRPT_NO_POLICY };

	(void)state;
	fill_example(&one);
	fill_example(&two);
	tlsrpt_day_init(&plain, SPAN("company-y.example"), one.day, &arena);
	tlsrpt_count(&plain, &event, &arena);
	tlsrpt_merge(&one, &two, &arena);
	tlsrpt_merge(&one, &plain, &arena);
	assert_int_equal(one.count, 2);
	assert_int_equal(one.policies[0].successes, 2 * 5326);
	assert_int_equal(one.policies[0].failed, 2 * 303);
	assert_int_equal(one.policies[0].failure_count, 3);
	assert_int_equal(one.policies[0].failures[1].count, 400);
	assert_int_equal(one.policies[1].successes, 1);
}

static void
test_stored(void **state)
{
	struct tlsrpt_day day, back;
	struct buf out = { 0 }, again = { 0 };
	struct span octets;

	(void)state;
	fill_example(&day);
	tlsrpt_day_encode(&day, &out);
	octets = buf_span(&out);
	assert_int_equal(tlsrpt_day_decode(octets, &arena, &back), 0);
	assert_true(span_eq(back.domain, day.domain));
	assert_int_equal(back.day, day.day);
	assert_int_equal(back.policies[0].failed, 303);
	assert_true(span_eq(back.policies[0].failures[2].detail,
			    day.policies[0].failures[2].detail));
	tlsrpt_day_encode(&back, &again);
	assert_true(span_eq(octets, buf_span(&again)));
	tlsrpt_merge(&back, &day, &arena);		/* what was decoded can be added to */
	assert_int_equal(back.policies[0].failures[0].count, 200);
	for (size_t len = 0; len < octets.len; len++)
		assert_int_equal(tlsrpt_day_decode(span_first(octets, len), &arena, &back),
				 -EBADMSG);
	buf_free(&out);
	buf_free(&again);
}

static void
test_posted(void **state)
{
	struct tlsrpt_post post = { .begun_ms = 1, .next_ms = INT64_MAX, .tries = 7,
				    .url = SPAN("https://x.test/"),
				    .report_id = SPAN("06f9v5yh1k000") }, back;
	struct buf out = { 0 }, again = { 0 };

	(void)state;
	fill_example(&post.day);
	tlsrpt_post_encode(&post, &out);
	assert_int_equal(tlsrpt_post_decode(buf_span(&out), &arena, &back), 0);
	assert_true(span_eq(back.url, post.url) && span_eq(back.report_id, post.report_id));
	assert_true(back.begun_ms == 1 && back.next_ms == INT64_MAX && back.tries == 7);
	assert_int_equal(back.day.policies[0].failed, 303);
	tlsrpt_post_encode(&back, &again);
	assert_true(span_eq(buf_span(&out), buf_span(&again)));
	for (size_t len = 0; len < buf_len(&out); len++)
		assert_int_equal(tlsrpt_post_decode(span_first(buf_span(&out), len), &arena, &back),
				 -EBADMSG);
	buf_free(&out);
	buf_free(&again);
}

/* ---- the report ---------------------------------------------------------------------------- */

static struct tlsrpt_facts
facts_of(const struct tlsrpt_day *day)
{
	return (struct tlsrpt_facts){
		.day = day,
		.organization = SPAN("Company-X"),
		.hostname = SPAN("relay.company-x.example"),
		.contact = SPAN("sts-reporting@company-x.example"),
		.report_id = SPAN("06f9v5yh1k000"),
		.now_ms = 1459555200000,
	};
}

static json_t *
load(struct span text)
{
	json_error_t error;
	json_t *json = json_loadb(text.at, text.len, 0, &error);

	if (json == NULL)
		fail_msg("%s", error.text);
	return json;
}

static void
test_json(void **state)
{
	const char *org, *start, *end, *contact, *id, *type, *domain, *line, *host, *result, *ip,
		*mx;
	struct tlsrpt_facts facts;
	struct buf out = { 0 };
	struct tlsrpt_day day;
	json_t *json, *failures;
	int good, bad, count;

	(void)state;
	fill_example(&day);
	facts = facts_of(&day);
	tlsrpt_json(&facts, &out);
	json = load(buf_span(&out));
	assert_int_equal(json_unpack(json, "{s:s s:{s:s s:s} s:s s:s s:[{s:{s:s s:s s:[s] s:[s]}, "
					   "s:{s:i s:i}, s:o}]}",
				     "organization-name", &org, "date-range", "start-datetime",
				     &start, "end-datetime", &end, "contact-info", &contact,
				     "report-id", &id, "policies", "policy", "policy-type", &type,
				     "policy-domain", &domain, "policy-string", &line, "mx-host",
				     &host, "summary", "total-successful-session-count", &good,
				     "total-failure-session-count", &bad, "failure-details",
				     &failures),
			 0);
	assert_string_equal(org, "Company-X");
	assert_string_equal(start, "2016-04-01T00:00:00Z");
	assert_string_equal(end, "2016-04-01T23:59:59Z");
	assert_string_equal(type, "sts");
	assert_string_equal(line, "version: STSv1");
	assert_string_equal(host, "*.mail.company-y.example");
	assert_int_equal(good, 5326);
	assert_int_equal(bad, 303);
	assert_int_equal(json_array_size(failures), 3);
	assert_int_equal(json_unpack(json_array_get(failures, 0), "{s:s s:s s:s s:i !}",
				     "result-type", &result, "sending-mta-ip", &ip,
				     "receiving-mx-hostname", &mx, "failed-session-count", &count),
			 0);
	assert_string_equal(result, "certificate-expired");
	assert_string_equal(ip, "2001:db8:abcd:12::1");
	assert_int_equal(count, 100);
	assert_string_equal(json_string_value(json_object_get(json_array_get(failures, 2),
							      "failure-reason-code")),
			    "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED");
	json_decref(json);
	buf_free(&out);
}

/* A host may call itself what it likes; nothing recorded is a report as well. */
static void
test_json_of_rubbish(void **state)
{
	struct tlsrpt_event event = { .type = TLSRPT_NO_POLICY,
				      .result = TLSRPT_VALIDATION_FAILURE };
	struct tlsrpt_facts facts;
	struct buf out = { 0 };
	struct tlsrpt_day day;
	json_t *json;

	(void)state;
	tlsrpt_day_init(&day, SPAN("a.test"), 0, &arena);
	facts = facts_of(&day);
	facts.organization.len = 0;
	tlsrpt_json(&facts, &out);
	json = load(buf_span(&out));
	assert_string_equal(json_string_value(json_object_get(json, "organization-name")),
			    "relay.company-x.example");
	json_decref(json);
	buf_clear(&out);
	event.receiving_helo = SPAN("\xff\xfe\"\\\x01");
	event.detail = SPAN("t\xc3\xa4gl\xc3");
	tlsrpt_count(&day, &event, &arena);
	tlsrpt_json(&facts, &out);
	json = load(buf_span(&out));
	assert_non_null(strstr((buf_byte(&out, '\0'), buf_span(&out).at), "\"no-policy-found\""));
	json_decref(json);
	buf_free(&out);
}

static struct span
gunzip(struct span octets)
{
	size_t room = 1 << 20;
	char *out = arena_alloc(&arena, room);
	z_stream z = { 0 };

	assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
	z.next_in = (z_const unsigned char *)octets.at;
	z.avail_in = (unsigned)octets.len;
	z.next_out = (unsigned char *)out;
	z.avail_out = (unsigned)room;
	assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
	inflateEnd(&z);
	return span_of(out, z.total_out);
}

static void
expect_lines(struct span text)
{
	while (text.len > 0) {
		struct span line = span_cut(&text, '\n');

		assert_true(line.len > 0 && line.len <= 998 && line.at[line.len - 1] == '\r');
		for (size_t i = 0; i + 1 < line.len; i++)
			assert_true((line.at[i] >= ' ' && line.at[i] <= '~') || line.at[i] == '\t');
	}
}

static void
test_mail(void **state)
{
	static const char *const fields[] = {
		"From: <sts-reporting@company-x.example>\r\n",
		"To: <reports@company-y.example>,\r\n <second@company-y.example>\r\n",
		"Message-ID: <06f9v5yh1k000@relay.company-x.example>\r\n",
		("Subject: Report Domain: company-y.example\r\n Submitter: "
		 "relay.company-x.example\r\n"
		 " Report-ID: <06f9v5yh1k000@relay.company-x.example>\r\n"),
		"TLS-Report-Domain: company-y.example\r\n",
		"TLS-Report-Submitter: relay.company-x.example\r\n",
		"TLS-Required: No\r\n",
		"Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n",
	};
	const struct span to[] = { SPAN("reports@company-y.example"),
				   SPAN("second@company-y.example") };
	struct buf header = { 0 }, body = { 0 }, json = { 0 }, text = { 0 };
	struct tlsrpt_facts facts;
	struct span octets, rest;
	struct tlsrpt_day day;
	const char *at;

	(void)state;
	fill_example(&day);
	facts = facts_of(&day);
	assert_int_equal(tlsrpt_mail(&facts, to, 2, &header, &body), 0);
	expect_lines(buf_span(&header));
	expect_lines(buf_span(&body));
	buf_byte(&header, '\0');
	buf_byte(&body, '\0');
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
		assert_non_null(strstr(buf_span(&header).at, fields[i]));
	at = strstr(buf_span(&body).at, "base64\r\n");
	assert_non_null(at);
	assert_non_null(strstr(at, "\tfilename=\"relay.company-x.example!company-y.example!"
				   "1459468800!1459555199!06f9v5yh1k000.json.gz\"\r\n\r\n"));
	rest = span_str(strstr(at, "\r\n\r\n") + 4);
	while (rest.len > 0 && rest.at[0] != '-')
		buf_append(&text, span_trim(span_first(span_cut(&rest, '\n'), 76)));
	while (buf_len(&text) > 0 && buf_span(&text).at[buf_len(&text) - 1] == '\r')
		text.end--;
	assert_true(base64_decode(buf_span(&text), &arena, &octets));
	tlsrpt_json(&facts, &json);
	assert_true(span_eq(gunzip(octets), buf_span(&json)));
	buf_free(&header);
	buf_free(&body);
	buf_free(&json);
	buf_free(&text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_record, teardown),
		cmocka_unit_test_teardown(test_record_from_answer, teardown),
		cmocka_unit_test_teardown(test_many_uris, teardown),
		cmocka_unit_test_teardown(test_counting, teardown),
		cmocka_unit_test_teardown(test_bounds, teardown),
		cmocka_unit_test_teardown(test_merge, teardown),
		cmocka_unit_test_teardown(test_stored, teardown),
		cmocka_unit_test_teardown(test_posted, teardown),
		cmocka_unit_test_teardown(test_json, teardown),
		cmocka_unit_test_teardown(test_json_of_rubbish, teardown),
		cmocka_unit_test_teardown(test_mail, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
