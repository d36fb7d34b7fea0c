/*
 * codec: the stored form of what policies remember: version, kind (one octet each), fields
 * (big-endian numbers, length-prefixed octets), CRC-32C. As queue/record's, for records that know
 * nothing of the queue. Pure.
 *
 * Decoding checks the CRC first; then each take either delivers or marks the record bad, which
 * codec_end() tells once for all: no length is ever trusted.
 */
#ifndef TRAM_POLICY_CODEC_H
#define TRAM_POLICY_CODEC_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"

struct encoder {
	struct buf *out;
	size_t from;			/* where the record starts in out's unread part */
};

void encoder_begin(struct encoder *e, uint8_t version, char kind, struct buf *out);
void encoder_number(struct encoder *e, uint64_t value, size_t octets);
void encoder_span(struct encoder *e, struct span s);
void encoder_end(struct encoder *e);

struct decoder {
	struct span left;
	struct arena *arena;		/* spans are copied there */
	bool bad;
};

/* 0, -EPROTO: a later version, -EBADMSG: damaged, or of another kind. */
int decoder_begin(struct decoder *d, struct span octets, uint8_t version, char kind,
		  struct arena *arena);
uint64_t decoder_number(struct decoder *d, size_t octets);
/* 0 … most; beyond: bad. */
uint64_t decoder_upto(struct decoder *d, size_t octets, uint64_t most);
struct span decoder_span(struct decoder *d, size_t most);
/* 0, or -EBADMSG: something was bad, or is left over. */
int decoder_end(const struct decoder *d);

#endif
