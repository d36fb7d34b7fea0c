/*
 * record_codec: how the fields of a record are written and read; for record.c and record_lane.c
 * only.
 *
 * A record is: version, kind (one octet each), fields, CRC-32C. Numbers are big-endian and of
 * fixed width, octet strings carry a length of 32 bits. Encoding goes straight into a buf.
 * Decoding checks the CRC first; then each take_…() either delivers or marks the whole record
 * bad (`bad`, looked at once at the end), so that no length is ever trusted. A later version may
 * only be read by a program that knows it: -EPROTO.
 */
#ifndef TRAM_QUEUE_RECORD_CODEC_H
#define TRAM_QUEUE_RECORD_CODEC_H

#include <assert.h>
#include <errno.h>

#include "queue/record.h"

enum { RECORD_VERSION = 1, RECORD_FRAME = 2 + 4 };	/* version, kind, CRC */
/* 1: attempts without their TLS; 2: without their source, still written where there is none */
enum { HISTORY_VERSION = 3 };
/* 1: without a user, 2: without priority and by-time; both still written where there is none */
enum { MESSAGE_VERSION = 3 };
enum record_kind {
	KIND_MESSAGE = 'M',
	KIND_LANE = 'L',
	KIND_SITE = 'S',
	KIND_HISTORY = 'H',
	KIND_LEFT = 'O',
	KIND_META = 'T',
	KIND_NOTE = 'N'
};

/* What is written; all up to it can be read. */
static inline uint8_t
record_version(enum record_kind kind)
{
	return kind == KIND_HISTORY ? HISTORY_VERSION :
	       kind == KIND_MESSAGE ? MESSAGE_VERSION :
				      RECORD_VERSION;
}

/* ---- encoding ----------------------------------------------------------------------------- */

struct encoder {
	struct buf *out;
	size_t from;			/* where the record starts in out's unread part */
};

static inline void
put_number(struct encoder *e, uint64_t value, size_t octets)
{
	char *at = buf_reserve(e->out, octets);

	for (size_t i = 0; i < octets; i++)
		at[i] = (char)(value >> (8 * (octets - 1 - i)) & 255);
	buf_grew(e->out, octets);
}

static inline void
put_time(struct encoder *e, int64_t ms)
{
	put_number(e, (uint64_t)ms, 8);
}

static inline void
put_span(struct encoder *e, struct span s)
{
	assert(s.len <= UINT32_MAX);
	put_number(e, (uint32_t)s.len, 4);
	buf_append(e->out, s);
}

static inline struct encoder
encode_begin_as(struct buf *out, enum record_kind kind, uint8_t version)
{
	struct encoder e = { out, buf_len(out) };

	put_number(&e, version, 1);
	put_number(&e, (uint8_t)kind, 1);
	return e;
}

static inline struct encoder
encode_begin(struct buf *out, enum record_kind kind)
{
	return encode_begin_as(out, kind, record_version(kind));
}

static inline void
encode_end(struct encoder *e)
{
	struct span record = span_skip(buf_span(e->out), e->from);

	put_number(e, crc32c(0, record.at, record.len), 4);
}

/* ---- decoding ----------------------------------------------------------------------------- */

struct decoder {
	struct span left;
	bool bad;
	uint8_t version;
};

static inline uint64_t
take_number(struct decoder *d, size_t octets)
{
	uint64_t value = 0;

	if (d->left.len < octets) {
		d->bad = true;
		d->left.len = 0;
		return 0;
	}
	for (size_t i = 0; i < octets; i++)
		value = value << 8 | (unsigned char)d->left.at[i];
	d->left = span_skip(d->left, octets);
	return value;
}

static inline uint8_t
take_u8(struct decoder *d)
{
	return (uint8_t)take_number(d, 1);
}

static inline uint16_t
take_u16(struct decoder *d)
{
	return (uint16_t)take_number(d, 2);
}

static inline uint32_t
take_u32(struct decoder *d)
{
	return (uint32_t)take_number(d, 4);
}

static inline uint64_t
take_u64(struct decoder *d)
{
	return take_number(d, 8);
}

static inline int64_t
take_time(struct decoder *d)
{
	return (int64_t)take_number(d, 8);
}

static inline bool
take_bool(struct decoder *d)
{
	uint8_t v = take_u8(d);

	if (v > 1)
		d->bad = true;
	return v == 1;
}

static inline uint8_t
take_enum(struct decoder *d, uint8_t max)
{
	uint8_t v = take_u8(d);

	if (v > max)
		d->bad = true;
	return v <= max ? v : 0;
}

static inline struct span
take_span(struct decoder *d)
{
	size_t len = take_u32(d);
	struct span s = { d->left.at, len };

	if (d->left.len < len) {
		d->bad = true;
		d->left.len = 0;
		return (struct span){ "", 0 };
	}
	d->left = span_skip(d->left, len);
	return s;
}

/* A count of things of at least so many octets each: more than can be there is bad. */
static inline size_t
take_count(struct decoder *d, size_t octets_each)
{
	size_t count = take_u32(d);

	if (count > d->left.len / octets_each) {
		d->bad = true;
		return 0;
	}
	return count;
}

static inline int
decode_begin(struct span octets, enum record_kind kind, struct decoder *d)
{
	const unsigned char *crc;

	if (octets.len < RECORD_FRAME)
		return -EBADMSG;
	crc = (const unsigned char *)octets.at + octets.len - 4;
	if (crc32c(0, octets.at, octets.len - 4) !=
	    ((uint32_t)crc[0] << 24 | (uint32_t)crc[1] << 16 | (uint32_t)crc[2] << 8 |
	     (uint32_t)crc[3]))
		return -EBADMSG;
	if ((unsigned char)octets.at[0] > record_version(kind))
		return -EPROTO;
	if (octets.at[0] == 0 || octets.at[1] != (char)kind)
		return -EBADMSG;
	*d = (struct decoder){ span_of(octets.at + 2, octets.len - RECORD_FRAME), false,
			       (uint8_t)octets.at[0] };
	return 0;
}

static inline int
decode_end(const struct decoder *d)
{
	return d->bad || d->left.len > 0 ? -EBADMSG : 0;
}

#endif
