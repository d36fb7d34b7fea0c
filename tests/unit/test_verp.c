/*
 * test_verp: addresses of deliveries, written, read, forged; whose senders are written anew;
 * records.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mta/base/address.h"
#include "mta/base/id.h"
#include "policy/delivered.h"
#include "policy/verp.h"

static const uint8_t key[VERP_KEY] = "0123456789abcdef0123456789abcde",
		     other_key[VERP_KEY] = "another";
static const struct verp_keys keys = { .own = key }, other_keys = { .own = other_key };
static struct span shop[] = { { "shop.example", 12 }, { "ann@example.org", 15 } };
static struct span bulk[] = { { "*.bulk.example", 14 } };
static struct span tenants[] = { { "gold", 4 } };
static struct verp_rule rule_list[] = {
	{ .domain = { "b.shop.example", 14 }, .prefix = { "b", 1 }, .senders = shop,
	  .sender_count = 2 },
	{ .domain = { "r.example.org", 13 }, .prefix = { "Ret9", 4 }, .routes = bulk,
	  .route_count = 1, .tenants = tenants, .tenant_count = 1 },
};
static const struct verp_rules rules = { rule_list, 2 };

static const char *
choice(const char *sender, const char *route, const char *tenant)
{
	struct verp_facts facts = { span_str(sender), span_str(route), span_str(tenant), SPAN("") };
	const struct verp_rule *rule = verp_choose(&rules, &facts);

	return rule == NULL ? "none" : rule->domain.at;
}

static void
test_round_trip(void **state)
{
	struct arena arena = { 0 };
	struct verp_address read;
	uint64_t id;

	(void)state;
	assert_true(id_parse(SPAN("0dn4q7k2c0001"), &id));
	for (uint32_t n = 0; n <= VERP_RECIPIENT_MAX; n = n * 7 + 1)
		for (size_t i = 0; i < rules.count; i++) {
			struct span a = verp_write(&rule_list[i], &keys, id, n, SPAN("Jo@dst.test"),
						   &arena);
			char upper[200];

			assert_true(address_local_of(a).len <= 64 && a.len < sizeof(upper));
			assert_null(strstr(arena_str(&arena, a), "dst"));
			assert_int_equal(verp_read(&rules, &keys, a, &read), VERP_GOOD);
			assert_true(read.id == id && read.recipient == n);
			assert_true(verp_is_for(&keys, &read, SPAN("jo@DST.test")));
			assert_false(verp_is_for(&keys, &read, SPAN("joe@dst.test")));
			for (size_t j = 0; j < a.len; j++)
				upper[j] = a.at[j] >= 'a' && a.at[j] <= 'z' ? (char)(a.at[j] - 32)
									    : a.at[j];
			assert_int_equal(verp_read(&rules, &keys, span_of(upper, a.len), &read),
					 VERP_GOOD);
			assert_int_equal(verp_read(&rules, &other_keys, a, &read), VERP_UNKNOWN);
		}
	arena_free(&arena);
}

/* Each letter of it counts, and its length. */
static void
test_forged(void **state)
{
	struct arena arena = { 0 };
	struct span a = verp_write(&rule_list[0], &keys, 77, 3, SPAN("jo@dst.test"), &arena);
	char *text = arena_str(&arena, a);
	struct verp_address read;

	(void)state;
	for (size_t i = 0; i < address_local_of(a).len; i++) {
		char was = text[i];

		text[i] = was == 'z' ? 'y' : (char)(was + 1);
		assert_int_equal(verp_read(&rules, &keys, span_of(text, a.len), &read),
				 VERP_UNKNOWN);
		text[i] = was;
		assert_int_equal(verp_read(&rules, &keys, span_skip(a, i + 1), &read),
				 VERP_UNKNOWN);
	}
	assert_int_equal(verp_read(&rules, &keys, SPAN("@b.shop.example"), &read), VERP_UNKNOWN);
	assert_int_equal(verp_read(&rules, &keys, SPAN("b-@b.shop.example"), &read), VERP_UNKNOWN);
	assert_int_equal(verp_read(&rules, &keys, SPAN("b@b.shop.example"), &read), VERP_UNKNOWN);
	assert_int_equal(verp_read(&rules, &keys, SPAN("b-0dn4q7k2c0001-0-b.shop.example"), &read),
			 VERP_FOREIGN);
	assert_int_equal(verp_read(&rules, &keys, SPAN(""), &read), VERP_FOREIGN);
	/* made for one domain it is none of another, whatever its prefix */
	rule_list[1].prefix = SPAN("b");
	a = arena_printf(&arena, "%.*s@r.example.org", SPAN_FMT(address_local_of(a)));
	assert_int_equal(verp_read(&rules, &keys, a, &read), VERP_UNKNOWN);
	rule_list[1].prefix = SPAN("Ret9");
	arena_free(&arena);
}

static void
test_choice(void **state)
{
	(void)state;
	assert_string_equal(choice("news@shop.example", "*", ""), "b.shop.example");
	assert_string_equal(choice("Ann@example.org", "*", ""), "b.shop.example");
	assert_string_equal(choice("bob@example.org", "*", ""), "none");
	assert_string_equal(choice("bob@example.org", "*.bulk.example requiretls", "gold"),
			    "r.example.org");
	assert_string_equal(choice("bob@example.org", "*.bulk.example", "iron"), "none");
	assert_string_equal(choice("bob@example.org", "*", "gold"), "none");
	assert_string_equal(choice("", "*.bulk.example", "gold"), "none");
	/* others' marks, and ours */
	assert_string_equal(choice("SRS0=HHH=TT=a.test=b@shop.example", "*", ""), "none");
	assert_string_equal(choice("srs1+x=y@shop.example", "*", ""), "none");
	assert_string_equal(choice("prvs=0123=news@shop.example", "*", ""), "none");
	assert_string_equal(choice("b-0-0@R.example.org", "*.bulk.example", "gold"), "none");
}

static void
test_records(void **state)
{
	struct delivered d = { 0x1234567890abcdef, 258, SPAN("a@b"), SPAN("c@d"), SPAN("t"),
			       9 }, back;
	struct arena arena = { 0 };
	struct buf out = { 0 };
	char row[DELIVERED_KEY], later[DELIVERED_KEY];

	(void)state;
	delivered_key(d.id, d.recipient, row);
	delivered_encode(&d, &out);
	assert_int_equal(delivered_decode(span_of(row, sizeof(row)), buf_span(&out), &arena, &back),
			 0);
	assert_true(back.id == d.id && back.recipient == 258 && back.site == 9 &&
		    span_eq(back.sender, d.sender) && span_eq(back.address, d.address) &&
		    span_eq(back.tenant, d.tenant));
	assert_int_not_equal(delivered_decode(SPAN("short"), buf_span(&out), &arena, &back), 0);
	for (size_t len = 0; len < buf_len(&out); len++)
		assert_int_not_equal(delivered_decode(span_of(row, sizeof(row)),
						      span_first(buf_span(&out), len), &arena,
						      &back),
				     0);
	delivered_key(d.id + 1, 0, later);
	assert_true(memcmp(row, later, sizeof(row)) < 0);
	buf_free(&out);
	arena_free(&arena);
}

/* The first makes them; what an older one, or the queue's own, has made is good. */
static void
test_shared_keys(void **state)
{
	struct arena arena = { 0 };
	struct buf file = { 0 }, faults = { 0 };
	uint8_t parsed[VERP_KEYS_MAX][VERP_KEY];
	struct verp_address read;
	struct verp_keys both = { .own = key };
	struct span old, made;

	(void)state;
	buf_append(&file, SPAN("# of all our servers\n\n"));
	for (uint8_t i = 1; i <= 2; i++) {
		uint8_t one[VERP_KEY] = { i, 0xf0 };

		verp_key_text(one, &file);
		buf_append(&file, SPAN("\r\n"));
	}
	assert_int_equal(verp_keys_parse(SPAN("keys"), buf_span(&file), &faults, parsed,
					 &both.shared_count), 0);
	assert_int_equal(both.shared_count, 2);
	assert_true(parsed[0][0] == 1 && parsed[1][0] == 2 && parsed[1][1] == 0xf0 &&
		    parsed[1][31] == 0);
	both.shared = (const uint8_t (*)[VERP_KEY])parsed;
	old = verp_write(&rule_list[0], &keys, 5, 1, SPAN("jo@dst.test"), &arena);
	made = verp_write(&rule_list[0], &both, 5, 1, SPAN("jo@dst.test"), &arena);
	assert_int_equal(verp_read(&rules, &both, old, &read), VERP_GOOD);
	assert_true(read.key == 2 && verp_is_for(&both, &read, SPAN("jo@dst.test")));
	assert_int_equal(verp_read(&rules, &both, made, &read), VERP_GOOD);
	assert_true(read.key == 0 && verp_is_for(&both, &read, SPAN("jo@dst.test")));
	assert_int_equal(verp_read(&rules, &keys, made, &read), VERP_UNKNOWN);
	both.shared = (const uint8_t (*)[VERP_KEY])(parsed + 1);
	both.shared_count = 1;
	assert_int_equal(verp_read(&rules, &both, made, &read), VERP_UNKNOWN);
	buf_append(&file, SPAN("0102\n"));
	assert_int_equal(verp_keys_parse(SPAN("keys"), buf_span(&file), &faults, parsed,
					 &both.shared_count), -EINVAL);
	assert_true(span_starts(buf_span(&faults), SPAN("keys:5: that is no key; make one")));
	buf_clear(&faults);
	assert_int_equal(verp_keys_parse(SPAN("keys"), SPAN("# none\n"), &faults, parsed,
					 &both.shared_count),
			 -EINVAL);
	buf_free(&faults);
	buf_free(&file);
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_shared_keys),
		cmocka_unit_test(test_forged),
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
