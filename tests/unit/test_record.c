/*
 * record: what is encoded is decoded; what is cut, changed or newer is refused; names and checksums
 * are what they are.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/key.h"

static void
checksums_are_castagnoli(void **state)
{
	unsigned char octets[7000];

	(void)state;
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c_portable(0, "123456789", 9), 0xe3069283);
	for (size_t i = 0; i < sizeof(octets); i++)
		octets[i] = (unsigned char)(i * 31 + i / 251);
	for (size_t len = 0; len < sizeof(octets); len += len < 300 ? 1 : 61) {
		assert_int_equal(crc32c(0, octets, len), crc32c_portable(0, octets, len));
		assert_int_equal(crc32c(0, octets, sizeof(octets)),
				 crc32c(crc32c(0, octets, len), octets + len,
					sizeof(octets) - len));
	}
}

static void
message_make(struct message_record *r, struct envelope *e, uint64_t *lanes,
	     struct recipient *recipients, uint32_t *crcs)
{
	recipients[0] = (struct recipient){ SPAN("a@b.example"), SPAN("rfc822;a@b"), NOTIFY_NEVER };
	recipients[1] = (struct recipient){ SPAN("\"x\n\0y\"@c"), SPAN(""), 0 };
	lanes[0] = 7;
	lanes[1] = UINT64_MAX;
	crcs[0] = 1;
	crcs[1] = 2;
	crcs[2] = 3;
	*r = (struct message_record){ .id = 12345678901234, .body = 5, .arrival_ms = -1,
				      .due_ms = 99, .flags = 6,
				      .header_size = 100, .body_size = QUEUE_CHUNK + 1,
				      .client = SPAN("client=x"), .crcs = crcs, .crc_count = 3 };
	*e = (struct envelope){ .reverse_path = SPAN("s@t"), .envid = SPAN("e1"), .ret = RET_HDRS,
				.body = BODY_8BITMIME, .smtputf8 = true, .recipients = recipients,
				.recipient_count = 2 };
}

static void
a_message_comes_back(void **state)
{
	struct message_record r, got;
	struct recipient recipients[2];
	struct envelope e, got_e;
	uint64_t lanes[2], *got_lanes;
	uint32_t crcs[3], count;
	struct arena arena = { 0 };
	struct buf out = { 0 };
	struct span path;

	(void)state;
	message_make(&r, &e, lanes, recipients, crcs);
	message_record_encode(&r, &e, lanes, &out);
	assert_int_equal(message_record_decode(buf_span(&out), &arena, &got, &got_e, &got_lanes),
			 0);
	assert_int_equal(got.id, r.id);
	assert_int_equal(got.arrival_ms, -1);
	assert_int_equal(got.due_ms, 99);
	assert_int_equal(got.crcs[2], 3);
	assert_true(span_eq(got.client, r.client));
	assert_true(span_eq(got_e.envid, e.envid));
	assert_true(got_e.smtputf8);
	assert_int_equal(got_e.ret, RET_HDRS);
	assert_true(span_eq(got_e.recipients[1].address, recipients[1].address));
	assert_true(span_eq(got_e.recipients[0].orcpt, recipients[0].orcpt));
	assert_int_equal(got_e.recipients[0].notify, NOTIFY_NEVER);
	assert_int_equal(got_lanes[1], UINT64_MAX);
	assert_int_equal(message_record_peek(buf_span(&out), &got, &path, &count), 0);
	assert_int_equal(count, 2);
	assert_true(span_eq(path, SPAN("s@t")));
	assert_int_equal(got.body_size, r.body_size);
	buf_free(&out);
	arena_free(&arena);
}

/* Without a user it is what it always was; with one it says so, and older programs refuse it. */
static void
a_user_comes_back(void **state)
{
	struct message_record r, got;
	struct recipient recipients[2];
	struct envelope e, got_e;
	uint64_t lanes[2], *got_lanes;
	uint32_t crcs[3];
	struct arena arena = { 0 };
	struct buf out = { 0 };

	(void)state;
	message_make(&r, &e, lanes, recipients, crcs);
	message_record_encode(&r, &e, lanes, &out);
	assert_int_equal(out.at[0], 1);
	assert_int_equal(message_record_decode(buf_span(&out), &arena, &got, &got_e, &got_lanes),
			 0);
	assert_int_equal(got.user.len, 0);
	buf_clear(&out);
	r.user = SPAN("anna@src.example");
	message_record_encode(&r, &e, lanes, &out);
	assert_int_equal(out.at[0], 2);
	assert_int_equal(message_record_decode(buf_span(&out), &arena, &got, &got_e, &got_lanes),
			 0);
	assert_true(span_eq(got.user, r.user));
	assert_int_equal(got.crcs[2], 3);
	buf_free(&out);
	arena_free(&arena);
}

/* Every cut, and every octet changed, is found. */
static void
damage_is_found(void **state)
{
	struct message_record r, got;
	struct recipient recipients[2];
	struct envelope e;
	uint64_t lanes[2], *got_lanes;
	uint32_t crcs[3];
	struct arena arena = { 0 };
	struct buf out = { 0 };

	(void)state;
	message_make(&r, &e, lanes, recipients, crcs);
	message_record_encode(&r, &e, lanes, &out);
	for (size_t len = 0; len < buf_len(&out); len++)
		assert_int_equal(message_record_decode(span_first(buf_span(&out), len), &arena,
						       &got, &e, &got_lanes),
				 -EBADMSG);
	for (size_t i = 0; i < buf_len(&out); i++) {
		out.at[i] = (char)(out.at[i] ^ 0x40);
		assert_int_equal(message_record_decode(buf_span(&out), &arena, &got, &e,
						       &got_lanes), -EBADMSG);
		out.at[i] = (char)(out.at[i] ^ 0x40);
	}
	buf_free(&out);
	arena_free(&arena);
}

static void
seal(struct buf *out)
{
	const size_t len = buf_len(out) - 4;
	const uint32_t crc = crc32c(0, out->at, len);

	for (size_t i = 0; i < 4; i++)
		out->at[len + i] = (char)(crc >> (24 - 8 * i) & 255);
}

static void
newer_and_foreign_are_refused(void **state)
{
	struct lane_record lane = { .name.domain = SPAN("x"), .asleep_ms = INT64_MAX }, got;
	struct site_record site;
	struct buf out = { 0 };

	(void)state;
	lane_record_encode(&lane, &out);
	assert_int_equal(lane_record_decode(buf_span(&out), NULL, &got), 0);
	assert_int_equal(site_record_decode(buf_span(&out), NULL, &site), -EBADMSG);
	out.at[0] = 2;
	seal(&out);
	assert_int_equal(lane_record_decode(buf_span(&out), NULL, &got), -EPROTO);
	out.at[0] = 0;
	seal(&out);
	assert_int_equal(lane_record_decode(buf_span(&out), NULL, &got), -EBADMSG);
	buf_free(&out);
}

/* Lengths and counts that lie, under a good checksum. */
static void
lengths_are_not_trusted(void **state)
{
	struct message_record r, got;
	struct recipient recipients[2];
	struct envelope e;
	uint64_t lanes[2], *got_lanes;
	uint32_t crcs[3];
	struct arena arena = { 0 };
	struct buf out = { 0 };

	(void)state;
	message_make(&r, &e, lanes, recipients, crcs);
	message_record_encode(&r, &e, lanes, &out);
	for (size_t i = 2; i + 4 < buf_len(&out); i++) {
		const char was = out.at[i];

		out.at[i] = (char)0xff;
		seal(&out);
		(void)message_record_decode(buf_span(&out), &arena, &got, &e, &got_lanes);
		out.at[i] = was;
	}
	assert_true(arena.total < 1 << 20);
	buf_free(&out);
	arena_free(&arena);
}

static void
lanes_and_sites_come_back(void **state)
{
	struct lane_record lane = { .name = { SPAN("t"), SPAN("d.example"), SPAN("*"), SPAN("p"),
					      PRIORITY_REPORT },
				    .count = 3, .site = 9, .site_until_ms = 8, .asleep_ms = 7,
				    .backoff = { 6, 5, SPAN("why") }, .hold = true };
	struct site_record site = { .key = SPAN("mx:a"), .lanes = 2, .wake_ms = INT64_MAX,
				    .state = { { 1, 2, SPAN("b") }, { 3, SPAN("h"), SPAN("t") },
					       true, 17 } };
	struct lane_record got;
	struct site_record got_site;
	struct arena arena = { 0 };
	struct buf out = { 0 };

	(void)state;
	lane_record_encode(&lane, &out);
	assert_int_equal(lane_record_decode(buf_span(&out), &arena, &got), 0);
	assert_true(lane_name_eq(&got.name, &lane.name));
	assert_int_equal(got.site, 9);
	assert_int_equal(got.asleep_ms, 7);
	assert_true(got.hold);
	assert_true(span_eq(got.backoff.text, SPAN("why")));
	buf_clear(&out);
	site_record_encode(&site, &out);
	assert_int_equal(site_record_decode(buf_span(&out), &arena, &got_site), 0);
	assert_true(got_site.state.suspended);
	assert_int_equal(got_site.wake_ms, INT64_MAX);
	assert_true(span_eq(got_site.state.last.host, SPAN("h")));
	buf_free(&out);
	arena_free(&arena);
}

static void
history_keeps_first_and_last(void **state)
{
	struct history_record h = { .state = HISTORY_OWED, .owed_since_ms = 4,
				    .action = REPORT_FAILED }, got;
	struct arena arena = { 0 };
	struct buf out = { 0 };

	(void)state;
	for (int i = 0; i < 100; i++)
		history_add_attempt(&h,
				    &(struct attempt){ .at_ms = i, .code = 450, .text = SPAN("x") },
				    &arena);
	history_record_encode(&h, &out);
	assert_int_equal(history_record_decode(buf_span(&out), &arena, &got), 0);
	assert_int_equal(got.attempt_count, 100);
	assert_int_equal(got.kept, 13);
	assert_int_equal(got.attempts[2].at_ms, 2);
	assert_int_equal(got.attempts[3].at_ms, 90);
	assert_int_equal(got.attempts[12].at_ms, 99);
	assert_int_equal(got.action, REPORT_FAILED);
	buf_free(&out);
	arena_free(&arena);
}

/* Its TLS comes back; a record of before there was such a thing is read, too. */
static void
attempts_have_their_tls(void **state)
{
	static const char before[] =
		"\1H\0\0\0\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0\11\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\1"
		"\0\0\0\0\0\0\0\11\0\0\0\2mx\0\0\0\0\3\1\303\4\0\3\0\2\0\0\0\5later\0\0\0\0";
	struct history_record h = { 0 }, got;
	struct arena arena = { 0 };
	struct buf out = { 0 };

	(void)state;
	history_add_attempt(&h,
			    &(struct attempt){ .code = 450, .tls = SPAN("TLSv1.3 x y dane"),
					       .tls_policy = SPAN("dane"),
					       .tls_resumed = true }, &arena);
	history_record_encode(&h, &out);
	assert_int_equal(history_record_decode(buf_span(&out), &arena, &got), 0);
	assert_true(span_eq(got.attempts[0].tls, SPAN("TLSv1.3 x y dane")));
	assert_true(span_eq(got.attempts[0].tls_policy, SPAN("dane")));
	assert_true(got.attempts[0].tls_resumed);
	assert_int_equal(out.at[0], 2);		/* what an older one can read, it shall */
	h.attempts[0].source = SPAN("a");
	buf_clear(&out);
	history_record_encode(&h, &out);
	assert_int_equal(history_record_decode(buf_span(&out), &arena, &got), 0);
	assert_true(span_eq(got.attempts[0].source, SPAN("a")));
	assert_true(got.attempts[0].tls_resumed);
	out.at[0] = 4;
	seal(&out);
	assert_int_equal(history_record_decode(buf_span(&out), &arena, &got), -EPROTO);
	buf_clear(&out);
	buf_append(&out, span_of(before, sizeof(before) - 1));
	seal(&out);
	assert_int_equal(history_record_decode(buf_span(&out), &arena, &got), 0);
	assert_int_equal(got.attempts[0].code, 451);
	assert_true(span_eq(got.attempts[0].text, SPAN("later")));
	assert_int_equal(got.attempts[0].tls.len, 0);
	buf_clear(&out);
	history_record_encode(&got, &out);
	assert_int_equal(out.at[out.start], 2);
	buf_free(&out);
	arena_free(&arena);
}

static void
left_is_a_set(void **state)
{
	bool open[1000], got[1000];
	struct buf out = { 0 };

	(void)state;
	for (size_t i = 0; i < 1000; i++)
		open[i] = i % 3 == 0;
	for (size_t count = 0; count <= 1000; count += 37) {
		buf_clear(&out);
		left_encode(open, count, &out);
		assert_int_equal(left_decode(buf_span(&out), count, got), 0);
		assert_memory_equal(open, got, count * sizeof(bool));
		assert_int_equal(left_decode(buf_span(&out), count + 8, got), -EBADMSG);
	}
	buf_free(&out);
}

static void
meta_comes_back(void **state)
{
	const struct meta_record m = { 1, 2, 3, 4, 5, 6, 7, 8, 9, true };
	struct meta_record got;
	struct buf out = { 0 };

	(void)state;
	meta_record_encode(&m, &out);
	assert_int_equal(meta_record_decode(buf_span(&out), &got), 0);
	assert_int_equal(got.delay_id, 8);
	assert_true(got.clean);
	buf_free(&out);
}

static void
reversed(const char *domain, const char *want)
{
	struct buf out = { 0 };

	domain_reversed(span_str(domain), &out);
	assert_true(span_eq(buf_span(&out), span_str(want)));
	buf_free(&out);
}

static void
domains_are_reversed(void **state)
{
	(void)state;
	reversed("example.org", "org.example.");
	reversed("Mail.Example.ORG", "org.example.mail.");
	reversed("org", "org.");
	reversed("", "");
	reversed("a..b.", "b.a.");
	reversed("[192.0.2.1]", "[192.0.2.1].");
}

static void
names_hash_by_their_parts(void **state)
{
	const struct lane_name a = { .tenant = SPAN("ab"),
				     .domain = SPAN("c") }, b = { .tenant = SPAN("a"),
								  .domain = SPAN("bc") };
	uint8_t x[16], y[16];

	(void)state;
	lane_name_hash(&a, x);
	lane_name_hash(&b, y);
	assert_memory_not_equal(x, y, 16);
	lane_name_hash(&a, y);
	assert_memory_equal(x, y, 16);
	assert_false(lane_name_eq(&a, &b));
}

static void
long_names_fit_a_key(void **state)
{
	char domain[600], path[900];
	struct key a, b;

	(void)state;
	memset(domain, 'd', sizeof(domain));
	memset(path, 'l', sizeof(path));
	path[500] = '@';
	a = key_domain(span_of(domain, 600), false);
	b = key_domain(span_of(domain, 599), false);
	assert_true(a.len <= KEY_NAME_MAX + 1);
	assert_false(span_eq(key_span(&a), key_span(&b)));
	a = key_sender(span_of(path, sizeof(path)), 1);
	assert_true(a.len <= KEY_MAX);
}

static void
body_records_are_counted(void **state)
{
	(void)state;
	assert_int_equal(body_record_count(0, 0), 1);
	assert_int_equal(body_record_count(100, QUEUE_CHUNK - 100), 1);
	assert_int_equal(body_record_count(100, QUEUE_CHUNK - 99), 2);
	assert_int_equal(body_record_count(100, QUEUE_CHUNK), 2);
	assert_int_equal(body_record_count(100, QUEUE_CHUNK + 1), 3);
	assert_int_equal(body_record_count(QUEUE_CHUNK + 1, 0), 1);
	assert_int_equal(body_record_count(QUEUE_CHUNK + 1, 1), 2);
}

/* In a version of its own; by-time and mode stand where those who settle look. */
static void
wishes_come_back(void **state)
{
	struct recipient to = { .address = SPAN("b@dst.example") };
	struct envelope e = { .reverse_path = SPAN("a@src.example"), .recipients = &to,
			      .recipient_count = 1,
			      .priority = -4, .by_mode = BY_NOTIFY, .by_trace = true,
			      .by_ms = 1795219200000 }, got_e;
	uint32_t crc = 7, count;
	struct message_record r = { .id = 1, .body = 1, .crcs = &crc, .crc_count = 1 }, got;
	uint64_t lane = 5, *lanes;
	struct arena arena = { 0 };
	struct buf out = { 0 };
	struct span path;

	(void)state;
	message_record_encode(&r, &e, &lane, &out);
	assert_int_equal(buf_span(&out).at[0], 3);
	assert_int_equal(message_record_decode(buf_span(&out), &arena, &got, &got_e, &lanes), 0);
	assert_int_equal(got_e.priority, -4);
	assert_int_equal(got_e.by_mode, BY_NOTIFY);
	assert_true(got_e.by_trace);
	assert_int_equal(got_e.by_ms, e.by_ms);
	assert_int_equal(got.user.len, 0);
	assert_int_equal(message_record_peek(buf_span(&out), &got, &path, &count), 0);
	assert_int_equal(got.by_ms, e.by_ms);
	assert_int_equal(got.by_mode, BY_NOTIFY);
	assert_true(span_eq(path, e.reverse_path));
	arena_free(&arena);
	buf_free(&out);
}

/* What is stored since before there were priorities keeps its meaning. */
static void
priorities_have_ranks(void **state)
{
	(void)state;
	assert_int_equal(priority_of_mt(0), PRIORITY_NORMAL);
	for (int mt = -9; mt <= 9; mt++) {
		assert_int_equal(priority_mt(priority_of_mt(mt)), mt);
		assert_int_equal(priority_rank(priority_of_mt(mt)), 9 - mt);
		assert_int_not_equal(priority_of_mt(mt), PRIORITY_REPORT);
	}
	assert_int_equal(priority_mt(PRIORITY_REPORT), 0);
	assert_int_equal(priority_rank(PRIORITY_REPORT), 19);
	assert_int_equal(priority_rank(255), 9);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksums_are_castagnoli), cmocka_unit_test(a_message_comes_back),
		cmocka_unit_test(a_user_comes_back),
		cmocka_unit_test(damage_is_found), cmocka_unit_test(newer_and_foreign_are_refused),
		cmocka_unit_test(lengths_are_not_trusted),
		cmocka_unit_test(lanes_and_sites_come_back),
		cmocka_unit_test(history_keeps_first_and_last),
		cmocka_unit_test(attempts_have_their_tls), cmocka_unit_test(left_is_a_set),
		cmocka_unit_test(meta_comes_back), cmocka_unit_test(domains_are_reversed),
		cmocka_unit_test(names_hash_by_their_parts), cmocka_unit_test(long_names_fit_a_key),
		cmocka_unit_test(body_records_are_counted),
		cmocka_unit_test(wishes_come_back), cmocka_unit_test(priorities_have_ranks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
