/*
 * fuzz_sts: any octets as a TXT record, as its text, as a policy (which must be the same once
 * written and read again), and as a stored entry, whose checksum is made right first.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "dns/txt.h"
#include "policy/mta_sts.h"
#include "queue/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
try_record(struct span octets, struct arena *arena)
{
	struct dns_record records[2] = { { .data = octets }, { .data = SPAN("\5hello") } };
	struct dns_answer answer = { .outcome = DNS_FOUND, .records = records, .count = 2 };
	struct sts_record record;
	struct buf out = { 0 };
	struct span id, text;

	sts_record_from_answer(&answer, arena, &record);
	assert(record.outcome == STS_RECORD_FOUND || record.outcome == STS_RECORD_NONE);
	assert((record.outcome == STS_RECORD_FOUND) == (record.id.len > 0));
	if (sts_record_parse(octets, &id))
		assert(id.len > 0 && id.len <= STS_ID_MAX);
	if (dns_txt_read(octets, arena, &text)) {
		dns_txt_write(text, &out);
		for (size_t i = 0; i < buf_len(&out); i++)
			assert(buf_span(&out).at[i] >= ' ' && buf_span(&out).at[i] <= '~');
	}
	buf_free(&out);
}

static void
try_policy(struct span text, struct arena *arena)
{
	struct sts_policy policy, again;
	struct buf out = { 0 };
	const char *error = NULL;

	if (!sts_policy_parse(text, arena, &policy, &error)) {
		assert(error != NULL);
		return;
	}
	assert(policy.max_age <= STS_MAX_AGE_MAX && policy.mx_count <= STS_MX_MAX);
	assert(policy.mx_count > 0 || policy.mode == STS_MODE_NONE);
	sts_policy_write(&policy, &out);
	if (buf_len(&out) <= STS_POLICY_MAX) {
		assert(sts_policy_parse(buf_span(&out), arena, &again, &error));
		assert(policy.mode == again.mode && policy.max_age == again.max_age);
		assert(policy.mx_count == again.mx_count);
	}
	for (size_t i = 0; i < policy.mx_count; i++) {
		struct span host = policy.mx[i];

		assert(span_starts(host, SPAN("*.")) || sts_policy_lists(&policy, host));
	}
	(void)sts_policy_lists(&policy, text);
	buf_free(&out);
}

static void
try_entry(struct span octets, struct arena *arena)
{
	const struct sts_record record = { .outcome = STS_RECORD_FOUND, .id = SPAN("1") };
	const int64_t now = 1795000000000;
	struct sts_decision decision;
	struct sts_entry entry, next;
	struct buf out = { 0 };

	if (sts_entry_decode(octets, arena, &entry) < 0)
		return;
	sts_entry_encode(&entry, &out);
	assert(span_eq(octets, buf_span(&out)));
	sts_decide(&entry, &record, now, &decision);
	assert((decision.use == STS_USE_POLICY) == (sts_entry_expires_ms(&entry, now) > now));
	sts_fetch_failed(&entry, SPAN("x"), now, &next);
	sts_decide(&next, &record, now, &decision);
	assert(!decision.fetch);
	buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *octets = malloc(size + 4);
	uint32_t crc = crc32c(0, data, size);
	struct arena arena = { 0 };

	if (size > 0)
		memcpy(octets, data, size);
	for (size_t i = 0; i < 4; i++)
		octets[size + i] = (char)(crc >> (24 - 8 * i) & 255);
	try_record(span_of(data, size), &arena);
	try_policy(span_of(data, size), &arena);
	try_entry(span_of(octets, size), &arena);
	try_entry(span_of(octets, size + 4), &arena);
	arena_free(&arena);
	free(octets);
	return 0;
}
