/*
 * fuzz_tlsrpt: any octets as a TLSRPT record, and as stored counters, whose checksum is made right
 * first: what decodes encodes to the same, can be merged with itself, and makes a report that is
 * JSON.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include <jansson.h>

#include "mta/tlsrpt/tlsrpt_report.h"
#include "queue/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
try_record(struct span text, struct arena *arena)
{
	struct tlsrpt_record record;

	if (!tlsrpt_record_parse(text, arena, &record))
		return;
	assert(record.count > 0 && record.count <= TLSRPT_URIS_MAX);
	for (size_t i = 0; i < record.count; i++)
		for (size_t k = 0; k < record.uris[i].text.len; k++)
			assert((unsigned char)record.uris[i].text.at[k] >= ' ' &&
			       record.uris[i].text.at[k] != 127);
}

static void
try_report(const struct tlsrpt_day *day)
{
	struct tlsrpt_facts facts = { .day = day, .hostname = SPAN("relay.test"),
				      .contact = SPAN("tls@relay.test"), .report_id = SPAN("1") };
	struct buf out = { 0 };
	json_error_t error;
	json_t *json;

	tlsrpt_json(&facts, &out);
	json = json_loadb(buf_span(&out).at, buf_len(&out), JSON_ALLOW_NUL, &error);
	assert(json != NULL);
	assert(json_array_size(json_object_get(json, "policies")) == day->count);
	json_decref(json);
	buf_free(&out);
}

static void
try_day(struct span octets, struct arena *arena)
{
	struct tlsrpt_day day, again;
	struct buf out = { 0 };

	if (tlsrpt_day_decode(octets, arena, &day) < 0)
		return;
	tlsrpt_day_encode(&day, &out);
	assert(span_eq(octets, buf_span(&out)));
	try_report(&day);
	assert(tlsrpt_day_decode(octets, arena, &again) == 0);
	tlsrpt_merge(&day, &again, arena);
	buf_clear(&out);
	tlsrpt_day_encode(&day, &out);
	assert(tlsrpt_day_decode(buf_span(&out), arena, &again) == 0);
	buf_free(&out);
}

static void
try_post(struct span octets, struct arena *arena)
{
	struct tlsrpt_post post;
	struct buf out = { 0 };

	if (tlsrpt_post_decode(octets, arena, &post) < 0)
		return;
	tlsrpt_post_encode(&post, &out);
	assert(span_eq(octets, buf_span(&out)));
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
	try_day(span_of(octets, size), &arena);
	try_day(span_of(octets, size + 4), &arena);
	try_post(span_of(octets, size + 4), &arena);
	arena_free(&arena);
	free(octets);
	return 0;
}
