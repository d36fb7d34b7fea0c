/*
 * fuzz_notes: any octets as what is kept beside the mail: counts, measures, days of sources,
 * delivered recipients. The first octet says which. The checksum is made right first, or no input
 * would pass it; what is taken is within its bounds, can be asked what it is asked for, and is
 * written again as it was.
 */
#include <assert.h>
#include <stdlib.h>

#include "mta/base/crc32c.h"
#include "policy/delivered.h"
#include "policy/measure.h"
#include "policy/shape.h"
#include "policy/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HOUR_MS = 3600000 };

static const int64_t moments[] = { INT64_C(86400000), INT64_C(1763000000000),
				   INT64_C(4102444800000) };

static void
counts(struct span in)
{
	const struct shape shape = { .limits = { [SHAPE_MESSAGES_HOUR] = 5,
						 [SHAPE_MESSAGES_DAY] = 9,
						 [SHAPE_RECIPIENTS_HOUR] = 7,
						 [SHAPE_RECIPIENTS_DAY] = 8 } };

	for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
		struct shape_counts c = { 0 };
		struct shape_hold hold;
		struct buf out = { 0 };
		int64_t now = moments[i], until;

		if (shape_counts_decode(in, &c)) {
			shape_counts_encode(&c, now, &out);
			assert(shape_record_until(in) >= 0);
			if (!shape_may_send(&shape, &c, now, &hold))
				assert(hold.until_ms > now && hold.until_ms <= now + 26 * HOUR_MS);
			shape_recipients(&shape, &c, now);
			shape_send(&shape, &c, now, 3);
			shape_unsend(&shape, &c, now, now + HOUR_MS, 3);
			shape_counts_kept(&c, now, &until);
		}
		shape_counts_free(&c);
		buf_free(&out);
	}
}

static void
measure(struct span in)
{
	struct arena arena = { 0 };
	struct buf out = { 0 };
	struct measure m;

	if (measure_decode(in, &arena, &m) == 0) {
		measure_encode(&m, &out);
		assert(span_eq(buf_span(&out), in));
		for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
			assert(measure_factor(&m, moments[i]) >= MEASURE_UNIT);
			assert(measure_divided(&m, 100, moments[i]) >= 1);
			measure_text(&m, moments[i], &arena);
		}
		assert(measure_over_ms(&m) >= m.until_ms);
		if (m.kind == MEASURE_SLOW)
			measure_again(&m, 2, HOUR_MS, moments[1]);
	}
	buf_free(&out);
	arena_free(&arena);
}

static void
delivered(struct span in)
{
	struct span key = span_first(span_skip(in, 2), DELIVERED_KEY);
	struct arena arena = { 0 };
	struct delivered d;

	if (delivered_decode(key, in, &arena, &d) == 0)
		assert(d.sender.len <= DELIVERED_TEXT_MAX && d.address.len <= DELIVERED_TEXT_MAX &&
		       d.tenant.len <= DELIVERED_TEXT_MAX);
	arena_free(&arena);
}

static void
source_day(struct span in)
{
	struct buf out = { 0 };
	uint64_t sent;
	int64_t day;

	if (source_day_decode(in, &day, &sent) == 0) {
		assert(day >= 0 && day <= INT64_MAX / SOURCE_DAY_MS);
		source_day_encode(day, sent, &out);
	}
	buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const kinds[])(struct span in) = { counts, measure, delivered, source_day };
	struct buf record = { 0 };
	uint32_t crc;

	if (size < 3)
		return 0;
	buf_append(&record, span_of(data + 1, size - 1));
	crc = crc32c(0, data + 1, size - 1);
	for (int i = 3; i >= 0; i--)
		buf_byte(&record, (char)(crc >> (8 * i) & 255));
	kinds[data[0] % 4](buf_span(&record));
	buf_free(&record);
	return 0;
}
