/*
 * raw_scan: the messages of a data file, read page by page, without trust in its roots: what
 * `tramctl queue salvage` does. (LMDB itself ends by SIGSEGV or SIGABRT on many a damaged page.)
 * Pure over the octets of the file; any thread. The octets are hostile: see lmdb_page.h.
 *
 * Every leaf page is looked at, and each row that is a record of ours by its key, version and
 * checksum is taken; a message's rows are joined by its id and the checksums that it keeps of its
 * body. Most pages are old versions, though, full of messages that were delivered long ago. So
 * each id is then looked up in the tables as of the last commit (found by the meta pages, or by
 * its content if these are damaged): in `message`, and if pages on the way there are damaged, in
 * the index of senders, which has a row for each message. What is in neither is gone. Where it
 * cannot be told, the message is handed out, `doubtful`: it may have been delivered already.
 */
#ifndef TRAM_QUEUE_RAW_SCAN_H
#define TRAM_QUEUE_RAW_SCAN_H

#include "queue/queue.h"

/*
 * Ascending by id; what points to octets is good until the callback returns. page_size: what to
 * take if no meta page says it. 0, or what message() returned first if that was negative.
 */
int raw_scan(struct span file, uint32_t page_size,
	     int (*message)(void *arg, const struct queue_salvaged *salvaged), void *arg,
	     struct queue_salvage_facts *ret);

#endif
