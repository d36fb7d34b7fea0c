/* archive: see archive.h. */
#include "mta/ctl/archive.h"

#include <assert.h>

#include "queue/record.h"

static void
put_u32(uint32_t n, struct buf *out)
{
	for (int shift = 24; shift >= 0; shift -= 8)
		buf_byte(out, (char)(n >> shift & 0xff));
}

static uint32_t
get_u32(const char *at)
{
	uint32_t n = 0;

	for (int i = 0; i < 4; i++)
		n = n << 8 | (unsigned char)at[i];
	return n;
}

void
archive_record_encode(enum archive_type type, struct span payload, struct buf *out)
{
	size_t start = buf_len(out);
	struct span record;

	assert(payload.len <= ARCHIVE_PAYLOAD_MAX);
	buf_byte(out, (char)type);
	put_u32((uint32_t)payload.len, out);
	buf_append(out, payload);
	record = span_skip(buf_span(out), start);
	put_u32(crc32c(0, record.at, record.len), out);
}

enum archive_state
archive_record_decode(struct span in, enum archive_type *type, struct span *payload, size_t *used)
{
	size_t len;

	if (in.len < ARCHIVE_HEAD)
		return ARCHIVE_MORE;
	len = get_u32(in.at + 1);
	if (strchr("AMRCEZ", in.at[0]) == NULL || in.at[0] == '\0' || len > ARCHIVE_PAYLOAD_MAX)
		return ARCHIVE_DAMAGED;
	if (in.len < ARCHIVE_HEAD + len + ARCHIVE_TAIL)
		return ARCHIVE_MORE;
	if (get_u32(in.at + ARCHIVE_HEAD + len) != crc32c(0, in.at, ARCHIVE_HEAD + len))
		return ARCHIVE_DAMAGED;
	*type = (enum archive_type)in.at[0];
	*payload = span_of(in.at + ARCHIVE_HEAD, len);
	*used = ARCHIVE_HEAD + len + ARCHIVE_TAIL;
	return ARCHIVE_OK;
}

bool
archive_may_follow(enum archive_type before, enum archive_type type)
{
	switch (before) {
	case ARCHIVE_END:
		return type == ARCHIVE_ABOUT;
	case ARCHIVE_ABOUT:
	case ARCHIVE_MESSAGE_END:
		return type == ARCHIVE_MESSAGE || type == ARCHIVE_END;
	case ARCHIVE_MESSAGE:
		return type == ARCHIVE_RECIPIENT;
	case ARCHIVE_RECIPIENT:
		return type == ARCHIVE_RECIPIENT || type == ARCHIVE_CONTENT ||
		       type == ARCHIVE_MESSAGE_END;
	case ARCHIVE_CONTENT:
		return type == ARCHIVE_CONTENT || type == ARCHIVE_MESSAGE_END;
	}
	return false;
}
