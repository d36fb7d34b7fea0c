/*
 * store: LMDB behind spans; for the files of this folder only. The glossary of the tables stands
 * in README.md, their keys in key.h.
 *
 * A transaction has a sticky error: after a failure gets find nothing, puts do nothing, and
 * txn_commit() returns it. So whoever writes looks at the error once, at the end. Errors:
 * -ENOSPC for all that may be better later (disk, quota of the file system, map or transaction
 * full, memory); -EBADMSG for a damaged file; others as they came. What a get returns is good
 * until the next put of a write transaction, or the end of a read transaction.
 */
#ifndef TRAM_QUEUE_STORE_H
#define TRAM_QUEUE_STORE_H

#include "mta/base/span.h"

enum table {
	TABLE_META,
	TABLE_MESSAGE,
	TABLE_BODY,
	TABLE_DRAFT,
	TABLE_ENTRY,
	TABLE_HISTORY,
	TABLE_LEFT,
	TABLE_LANE,
	TABLE_LANE_HASH,
	TABLE_LANE_DOMAIN,
	TABLE_SITE,
	TABLE_SITE_KEY,
	TABLE_ASLEEP,
	TABLE_WAKE,
	TABLE_SENDER,
	TABLE_TIMER,
	TABLE_TAKEN,
	TABLE_NOTE,			/* since a later version: may be missing where only read */
	TABLE_COUNT
};

enum { STORE_ERROR_MAX = 512 };
/* octets kept allocated behind the last page: deletes need pages too */
enum { STORE_RESERVE = 64 << 20 };

struct store_config {
	const char *path;
	uint64_t map_size;
	unsigned readers;
	/* without locks, a file that nobody else has open; map_size does not count */
	bool only_read;
};

struct store;
int store_open(const struct store_config *config, struct store **ret, char error[STORE_ERROR_MAX]);
void store_close(struct store *store);		/* NULL is fine */

struct store_disk {
	uint64_t used;			/* octets of the file up to the last page in use */
	uint64_t free;			/* of the file system, for us */
	/* the reserve stands, or this file system cannot make one */
	bool reserve;
};
/*
 * Writer only: tops up the reserve where it is due, or always; asks the file system how much is
 * free.
 */
void store_disk(struct store *store, bool always, struct store_disk *ret);
uint64_t store_map_size(const struct store *store);

struct txn {
	struct store *store;
	struct MDB_txn *at;
	int error;
};

int txn_write(struct store *store, struct txn *txn);
/* the sticky error, or the commit's; nothing was written then */
int txn_commit(struct txn *txn);
void txn_abort(struct txn *txn);

/* A reader's slot is kept between txn_reset() and txn_renew(). */
int txn_reader(struct store *store, struct txn *txn);
int txn_renew(struct txn *txn);
void txn_reset(struct txn *txn);

bool txn_get(struct txn *txn, enum table table, struct span key, struct span *ret);
void txn_put(struct txn *txn, enum table table, struct span key, struct span value);
/* False, and nothing is done, if the key is there. */
bool txn_put_new(struct txn *txn, enum table table, struct span key, struct span value);
/* Room for a value, to be filled at once; NULL after an error. */
char *txn_reserve(struct txn *txn, enum table table, struct span key, size_t len);
/* false: it was not there */
bool txn_del(struct txn *txn, enum table table, struct span key);
void txn_fail(struct txn *txn, int error);
uint64_t txn_count(struct txn *txn, enum table table);
uint64_t txn_octets(struct txn *txn, enum table table);		/* of its pages */

/* for (cursor_open(&c, txn, t, from); cursor_next(&c);) use c.key, c.value; cursor_close(&c); */
struct cursor {
	struct txn *txn;
	struct MDB_cursor *at;
	struct span key, value;
	bool started;
};
/* from is copied by the first next */
void cursor_open(struct cursor *c, struct txn *txn, enum table table, struct span from);
/* the first one at or behind `from`, then those that follow */
bool cursor_next(struct cursor *c);
/* the row it stands on; cursor_next() goes on with the one behind */
void cursor_del(struct cursor *c);
void cursor_close(struct cursor *c);

/* Is the memory of this part of a value in core? One system call. */
bool store_resident(const void *at, size_t len);

#endif
