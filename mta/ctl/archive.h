/*
 * archive: messages of a queue in one file: what export and salvage write and import reads. Pure
 * codec.
 *
 * The file: ARCHIVE_MAGIC, then records. A record: type (1 octet), length (4, big-endian),
 * payload, CRC-32C of all of these (4). No octet of a message is ever a delimiter. In order: one
 * ABOUT, then for each message one MESSAGE, its RECIPIENTs, its CONTENT pieces (header block
 * first), one MESSAGE_END; then one END, so that a file cut short is known for one. Payloads are
 * JSON objects (as the control socket gives them) but for CONTENT, which is the octets. A member
 * that is not known is passed over; what cannot be passed over gets a new magic.
 */
#ifndef TRAM_TRAMCTL_ARCHIVE_H
#define TRAM_TRAMCTL_ARCHIVE_H

#include "mta/base/buf.h"

#define ARCHIVE_MAGIC "tramarc1"

enum {
	ARCHIVE_MAGIC_LEN = sizeof(ARCHIVE_MAGIC) - 1,
	ARCHIVE_HEAD = 5, ARCHIVE_TAIL = 4,
	ARCHIVE_PAYLOAD_MAX = 1 << 20,
};

enum archive_type {
	ARCHIVE_ABOUT = 'A', ARCHIVE_MESSAGE = 'M', ARCHIVE_RECIPIENT = 'R', ARCHIVE_CONTENT = 'C',
	ARCHIVE_MESSAGE_END = 'E', ARCHIVE_END = 'Z',
};

enum archive_state { ARCHIVE_OK, ARCHIVE_MORE, ARCHIVE_DAMAGED };

void archive_record_encode(enum archive_type type, struct span payload, struct buf *out);
/* One record at the start of in: *used octets. ARCHIVE_MORE: in ends too early. */
enum archive_state archive_record_decode(struct span in, enum archive_type *type,
					 struct span *payload, size_t *used);

/*
 * Which type may follow which? Start with ARCHIVE_END as the one before: only ABOUT begins a
 * file.
 */
bool archive_may_follow(enum archive_type before, enum archive_type type);

#endif
