/*
 * fuzz_record: any octets as any record. The checksum is made right first, or no input would pass
 * it; then whatever decodes must encode to the same octets.
 */
#include <assert.h>
#include <stdlib.h>

#include "queue/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
same(struct span a, struct buf *out)
{
	assert(span_eq(a, buf_span(out)));
	buf_clear(out);
}

static void
try_all(struct span s, struct arena *arena, struct buf *out)
{
	struct message_record message;
	struct envelope envelope;
	struct history_record history;
	struct lane_record lane;
	struct site_record site;
	struct meta_record meta;
	struct span path;
	uint64_t *lanes;
	uint32_t count;
	bool open[512];
	int peek = message_record_peek(s, &message, &path, &count);

	if (message_record_decode(s, arena, &message, &envelope, &lanes) == 0) {
		assert(peek == 0 && count == envelope.recipient_count);
		message_record_encode(&message, &envelope, lanes, out);
		same(s, out);
	}
	if (lane_record_decode(s, arena, &lane) == 0) {
		lane_record_encode(&lane, out);
		same(s, out);
	}
	if (site_record_decode(s, NULL, &site) == 0) {
		site_record_encode(&site, out);
		same(s, out);
	}
	if (meta_record_decode(s, &meta) == 0) {
		meta_record_encode(&meta, out);
		same(s, out);
	}
	/* long texts are cut: no comparison */
	if (history_record_decode(s, arena, &history) == 0)
		history_record_encode(&history, out);
	if (note_record_decode(s, &path) == 0) {
		note_record_encode(path, out);
		same(s, out);
	}
	(void)left_decode(s, s.len < 6 ? 0 : (s.len - 6) * 8 < 512 ? (s.len - 6) * 8 : 512, open);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *octets = malloc(size + 4);
	struct arena arena = { 0 };
	struct buf out = { 0 };
	uint32_t crc = crc32c(0, data, size);

	if (size > 0)
		memcpy(octets, data, size);
	for (size_t i = 0; i < 4; i++)
		octets[size + i] = (char)(crc >> (24 - 8 * i) & 255);
	try_all(span_of(octets, size), &arena, &out);
	try_all(span_of(octets, size + 4), &arena, &out);
	buf_free(&out);
	arena_free(&arena);
	free(octets);
	return 0;
}
