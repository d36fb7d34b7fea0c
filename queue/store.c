/*
 * store: the only file that knows <lmdb.h>; see store.h. What it promises: a commit that
 * returned 0 is on disk (no NOSYNC, no WRITEMAP), and a file that cannot be trusted is refused
 * before LMDB maps it.
 */
#include "queue/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "mta/base/arena.h"
#include "queue/place.h"

static const char *const table_names[TABLE_COUNT] = {
	[TABLE_META] = "meta",		 [TABLE_MESSAGE] = "message",
	[TABLE_BODY] = "body",		 [TABLE_DRAFT] = "draft",
	[TABLE_ENTRY] = "entry",	 [TABLE_HISTORY] = "history",
	[TABLE_LEFT] = "left",		 [TABLE_LANE] = "lane",
	[TABLE_LANE_HASH] = "lane_hash", [TABLE_LANE_DOMAIN] = "lane_domain",
	[TABLE_SITE] = "site",		 [TABLE_SITE_KEY] = "site_key",
	[TABLE_ASLEEP] = "asleep",	 [TABLE_WAKE] = "wake",
	[TABLE_SENDER] = "sender",	 [TABLE_TIMER] = "timer",
	[TABLE_TAKEN] = "taken",	 [TABLE_NOTE] = "note",
};

struct store {
	MDB_env *env;
	MDB_dbi tables[TABLE_COUNT];
	bool no_notes;			/* made by a version without this table, and only read */
	int directory;			/* holds the lock */
	uint64_t map_size;
	uint64_t reserve;		/* octets */
	uint64_t allocated;		/* the reserve reaches up to here */
	struct store_disk disk;
};

enum { TOP_UP = 4 << 20 };

/* ---- opening ------------------------------------------------------------------------------ */

static int
error_of(int lmdb)
{
	switch (lmdb) {
	case 0:
		return 0;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
		return -ENOSPC;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_CURSOR_FULL:
	case MDB_PAGE_FULL:
	case MDB_INVALID:
	case MDB_BAD_TXN:
		return -EBADMSG;
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
		return -EPROTO;
	case MDB_READERS_FULL:
		return -EMFILE;
	case MDB_NOTFOUND:
		return -ENOENT;
	default:
		return lmdb > 0 ? -lmdb : -EIO;
	}
}

static int
tables_open(struct store *s, bool only_read)
{
	MDB_txn *txn;
	int r = mdb_txn_begin(s->env, NULL, only_read ? MDB_RDONLY : 0, &txn);

	if (r != 0)
		return error_of(r);
	for (int t = 0; t < TABLE_COUNT; t++) {
		r = mdb_dbi_open(txn, table_names[t], only_read ? 0 : MDB_CREATE, &s->tables[t]);
		if (r == MDB_NOTFOUND && t == TABLE_NOTE) {
			s->no_notes = true;
			r = 0;
		}
		if (r != 0) {
			mdb_txn_abort(txn);
			return error_of(r);
		}
	}
	return error_of(mdb_txn_commit(txn));
}

/* An LMDB file of somebody else must not be written to: it has tables, and none is our `meta`. */
static int
foreign_check(struct store *s)
{
	MDB_stat stat;
	MDB_dbi main_table, meta;
	MDB_txn *txn;
	int r = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);

	if (r == 0)
		r = mdb_dbi_open(txn, NULL, 0, &main_table);
	if (r == 0)
		r = mdb_stat(txn, main_table, &stat);
	if (r == 0 && stat.ms_entries > 0 &&
	    mdb_dbi_open(txn, table_names[TABLE_META], 0, &meta) != 0)
		r = MDB_INCOMPATIBLE;
	mdb_txn_abort(txn);
	return error_of(r);
}

/*
 * A new data file is made under another name and gets its own only when it is on disk: LMDB does
 * not sync its first two pages before the first commit, and a power cut then must not leave a
 * file that is no queue and not nothing.
 */
static int
file_make(int directory, const char *path)
{
	char name[PATH_MAX];
	MDB_env *env = NULL;
	MDB_txn *txn;
	MDB_dbi meta;
	int r;

	if (snprintf(name, sizeof(name), "%s/data.new", path) >= (int)sizeof(name))
		return -ENAMETOOLONG;
	unlinkat(directory, "data.new", 0);
	unlinkat(directory, "data.mdb", 0);	/* it is empty, if there is one */
	r = mdb_env_create(&env);
	if (r == 0)
		r = mdb_env_set_maxdbs(env, 1);
	if (r == 0)
		r = mdb_env_open(env, name, MDB_NOSUBDIR | MDB_NOLOCK, 0600);
	if (r == 0)
		r = mdb_txn_begin(env, NULL, 0, &txn);
	if (r == 0) {
		r = mdb_dbi_open(txn, table_names[TABLE_META], MDB_CREATE, &meta);
		if (r == 0)
			r = mdb_txn_commit(txn);
		else
			mdb_txn_abort(txn);
	}
	mdb_env_close(env);
	if (r == 0 && renameat(directory, "data.new", directory, "data.mdb") < 0)
		r = errno;
	if (r == 0 && fsync(directory) < 0)
		r = errno;
	return error_of(r);
}

static int
env_open(struct store *s, const struct store_config *c)
{
	int r = mdb_env_create(&s->env);

	if (r == 0)
		r = mdb_env_set_maxdbs(s->env, TABLE_COUNT);
	if (r == 0)
		r = mdb_env_set_maxreaders(s->env, c->readers + 8);
	if (r == 0)
		r = mdb_env_set_mapsize(s->env, s->map_size);
	if (r == 0)
		r = mdb_env_open(s->env, c->path,
				 MDB_NOTLS | (c->only_read ? MDB_RDONLY | MDB_NOLOCK : 0), 0600);
	if (r != 0)
		return r > 0 ? -r : error_of(r);
	r = foreign_check(s);
	return r < 0 ? r : tables_open(s, c->only_read);
}

int
store_open(const struct store_config *config, struct store **ret, char error[STORE_ERROR_MAX])
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct store *s = xcalloc(1, sizeof(*s));
	int r;

	s->directory = -1;
	s->map_size = (config->map_size > 0 ? config->map_size : UINT64_C(1) << 40) & ~(page - 1);
	if (config->only_read)
		s->map_size = page;		/* LMDB maps what the file has, and no more */
	s->reserve = s->map_size / 8 < STORE_RESERVE ? s->map_size / 8 : STORE_RESERVE;
	r = place_open(config->path, config->only_read, &s->directory, error);
	if (r == 0)
		r = place_check_file(s->directory, config->path, config->only_read, error);
	if (r < 0) {
		store_close(s);
		return r;
	}
	if (r == 0)
		r = file_make(s->directory, config->path);
	if (r >= 0)
		r = env_open(s, config);
	if (r < 0) {
		snprintf(error, STORE_ERROR_MAX,
			 r == -EPROTO ? "%s/data.mdb is not a queue of tram (%s); give another path"
				      : "the queue in %s cannot be opened: %s",
			 config->path, strerror(-r));
		store_close(s);
		return r;
	}
	if (!config->only_read) {
		/* the names of new files: LMDB syncs only what is in them */
		fsync(s->directory);
		store_disk(s, true, &s->disk);
	}
	*ret = s;
	return 0;
}

void
store_close(struct store *s)
{
	if (s == NULL)
		return;
	if (s->env != NULL)
		mdb_env_close(s->env);
	if (s->directory >= 0)
		close(s->directory);		/* and with it the lock */
	free(s);
}

/* ---- room --------------------------------------------------------------------------------- */

/*
 * The file always ends behind its last page, if need be in a hole: that costs nothing, and lets
 * the next start tell a file that was cut short from one whose last pages were never written.
 */
static void
reserve_top_up(struct store *s, int fd)
{
	uint64_t end = s->disk.used + s->reserve + TOP_UP;
	struct stat st;

	if (fallocate(fd, 0, (off_t)s->disk.used, (off_t)(end - s->disk.used)) == 0) {
		s->disk.reserve = true;
	} else {
		s->disk.reserve = errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL;
		if (fstat(fd, &st) == 0 && (uint64_t)st.st_size < end &&
		    ftruncate(fd, (off_t)end) < 0)
			s->disk.reserve = false;
	}
	s->allocated = end;
}

void
store_disk(struct store *s, bool always, struct store_disk *ret)
{
	MDB_envinfo info;
	struct statvfs fs;
	int fd;

	mdb_env_info(s->env, &info);
	mdb_env_get_fd(s->env, &fd);
	s->disk.used = ((uint64_t)info.me_last_pgno + 1) * place_page_size();
	if (s->disk.used + s->reserve > s->allocated || (always && !s->disk.reserve))
		reserve_top_up(s, fd);
	if (always && fstatvfs(fd, &fs) == 0)
		s->disk.free = (uint64_t)fs.f_bavail * fs.f_frsize;
	*ret = s->disk;
}

uint64_t
store_map_size(const struct store *s)
{
	return s->map_size;
}

bool
store_resident(const void *at, size_t len)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t from = (uintptr_t)at & ~(page - 1);
	size_t span = (uintptr_t)at + len - from;
	unsigned char pages[64];

	for (size_t done = 0; done < span; done += sizeof(pages) * page) {
		size_t part =
			span - done < sizeof(pages) * page ? span - done : sizeof(pages) * page;

		if (mincore((void *)(from + done), part, pages) < 0)		/* NOLINT */
			return false;
		for (size_t i = 0; i < (part + page - 1) / page; i++)
			if (!(pages[i] & 1))
				return false;
	}
	return true;
}

/* ---- transactions ------------------------------------------------------------------------- */

static MDB_val
val_of(struct span s)
{
	return (MDB_val){ s.len, (void *)(uintptr_t)s.at };
}

void
txn_fail(struct txn *txn, int error)
{
	if (txn->error == 0)
		txn->error = error;
}

int
txn_write(struct store *store, struct txn *txn)
{
	*txn = (struct txn){ .store = store };
	txn->error = error_of(mdb_txn_begin(store->env, NULL, 0, &txn->at));
	return txn->error;
}

int
txn_commit(struct txn *txn)
{
	int r = txn->error;

	if (txn->at != NULL && r == 0)
		r = error_of(mdb_txn_commit(txn->at));
	else if (txn->at != NULL)
		mdb_txn_abort(txn->at);
	txn->at = NULL;
	return r;
}

void
txn_abort(struct txn *txn)
{
	if (txn->at != NULL)
		mdb_txn_abort(txn->at);
	txn->at = NULL;
}

int
txn_reader(struct store *store, struct txn *txn)
{
	*txn = (struct txn){ .store = store };
	txn->error = error_of(mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn->at));
	return txn->error;
}

int
txn_renew(struct txn *txn)
{
	txn->error = error_of(mdb_txn_renew(txn->at));
	return txn->error;
}

void
txn_reset(struct txn *txn)
{
	mdb_txn_reset(txn->at);
}

static bool
is_missing(const struct txn *txn, enum table table)
{
	return table == TABLE_NOTE && txn->store->no_notes;
}

bool
txn_get(struct txn *txn, enum table table, struct span key, struct span *ret)
{
	MDB_val k = val_of(key), v;
	int r;

	if (txn->error != 0 || is_missing(txn, table))
		return false;
	r = mdb_get(txn->at, txn->store->tables[table], &k, &v);
	if (r == MDB_NOTFOUND)
		return false;
	if (r != 0) {
		txn_fail(txn, error_of(r));
		return false;
	}
	*ret = span_of(v.mv_data, v.mv_size);
	return true;
}

void
txn_put(struct txn *txn, enum table table, struct span key, struct span value)
{
	MDB_val k = val_of(key), v = val_of(value);

	if (txn->error == 0)
		txn_fail(txn, error_of(mdb_put(txn->at, txn->store->tables[table], &k, &v, 0)));
}

bool
txn_put_new(struct txn *txn, enum table table, struct span key, struct span value)
{
	MDB_val k = val_of(key), v = val_of(value);
	int r;

	if (txn->error != 0)
		return true;
	r = mdb_put(txn->at, txn->store->tables[table], &k, &v, MDB_NOOVERWRITE);
	if (r == MDB_KEYEXIST)
		return false;
	txn_fail(txn, error_of(r));
	return true;
}

char *
txn_reserve(struct txn *txn, enum table table, struct span key, size_t len)
{
	MDB_val k = val_of(key), v = { len, NULL };

	if (txn->error == 0)
		txn_fail(txn, error_of(mdb_put(txn->at, txn->store->tables[table], &k, &v,
					       MDB_RESERVE)));
	return txn->error == 0 ? v.mv_data : NULL;
}

bool
txn_del(struct txn *txn, enum table table, struct span key)
{
	MDB_val k = val_of(key);
	int r;

	if (txn->error != 0)
		return false;
	r = mdb_del(txn->at, txn->store->tables[table], &k, NULL);
	if (r != 0 && r != MDB_NOTFOUND)
		txn_fail(txn, error_of(r));
	return r == 0;
}

static MDB_stat
table_stat(struct txn *txn, enum table table)
{
	MDB_stat stat = { 0 };

	if (txn->error == 0 && !is_missing(txn, table))
		txn_fail(txn, error_of(mdb_stat(txn->at, txn->store->tables[table], &stat)));
	return stat;
}

uint64_t
txn_count(struct txn *txn, enum table table)
{
	return table_stat(txn, table).ms_entries;
}

uint64_t
txn_octets(struct txn *txn, enum table table)
{
	const MDB_stat stat = table_stat(txn, table);

	return (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages) *
	       (uint64_t)stat.ms_psize;
}

/* ---- cursors ------------------------------------------------------------------------------ */

void
cursor_open(struct cursor *c, struct txn *txn, enum table table, struct span from)
{
	*c = (struct cursor){ .txn = txn, .key = from };
	if (txn->error == 0 && !is_missing(txn, table))
		txn_fail(txn,
			 error_of(mdb_cursor_open(txn->at, txn->store->tables[table], &c->at)));
}

bool
cursor_next(struct cursor *c)
{
	MDB_val k = val_of(c->key), v;
	int r;

	if (c->txn->error != 0 || c->at == NULL)
		return false;
	r = mdb_cursor_get(c->at, &k, &v,
			   c->started	    ? MDB_NEXT
			   : k.mv_size == 0 ? MDB_FIRST
					    : MDB_SET_RANGE);
	c->started = true;
	if (r != 0) {
		if (r != MDB_NOTFOUND)
			txn_fail(c->txn, error_of(r));
		return false;
	}
	c->key = span_of(k.mv_data, k.mv_size);
	c->value = span_of(v.mv_data, v.mv_size);
	return true;
}

void
cursor_del(struct cursor *c)
{
	if (c->txn->error == 0)
		txn_fail(c->txn, error_of(mdb_cursor_del(c->at, 0)));
}

void
cursor_close(struct cursor *c)
{
	if (c->at != NULL)
		mdb_cursor_close(c->at);
	c->at = NULL;
}
