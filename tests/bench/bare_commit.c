/*
 * bare_commit: what the disk and LMDB take for one commit, with no server around them. For each
 * number that comes on standard input it makes so many commits, of one value of OCTETS each, and
 * prints how long each took, in µs.
 *
 *	bare_commit FILE OCTETS
 *
 * Each commit puts a value and deletes the one before, as a relay's does, so that after the first
 * few the file grows no more: what is measured is pages that are written again. The file is opened
 * as the queue's is: fdatasync for the data, and another for the page that makes them count.
 */
#include <lmdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void
check(int rc, const char *what)
{
	if (rc == 0)
		return;
	fprintf(stderr, "%s: %s\n", what, mdb_strerror(rc));
	exit(1);
}

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t
commit_one(MDB_env *env, char *bytes, size_t len)
{
	static uint64_t last;
	uint64_t key = ++last, before = key - 1;
	MDB_val k = { sizeof(key), &key }, v = { len, bytes }, old = { sizeof(before), &before };
	int64_t from = now_us();
	MDB_txn *txn;
	MDB_dbi dbi;

	check(mdb_txn_begin(env, NULL, 0, &txn), "begin");
	check(mdb_dbi_open(txn, NULL, 0, &dbi), "open");
	check(mdb_put(txn, dbi, &k, &v, 0), "put");
	if (before > 0)
		check(mdb_del(txn, dbi, &old, NULL), "delete");
	check(mdb_txn_commit(txn), "commit");
	return now_us() - from;
}

int
main(int argc, char **argv)
{
	size_t len = argc == 3 ? (size_t)strtoull(argv[2], NULL, 10) : 0;
	char *bytes = calloc(1, len + 1), line[64];
	MDB_env *env;

	if (argc != 3 || len == 0) {
		fprintf(stderr, "usage: bare_commit FILE OCTETS\n");
		return 2;
	}
	check(mdb_env_create(&env), "create");
	check(mdb_env_set_mapsize(env, (size_t)1 << 30), "map");
	check(mdb_env_open(env, argv[1], MDB_NOSUBDIR, 0600), argv[1]);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		for (long i = strtol(line, NULL, 10); i > 0; i--)
			printf("%lld%c", (long long)commit_one(env, bytes, len),
			       i == 1 ? '\n' : ' ');
		fflush(stdout);
	}
	mdb_env_close(env);
	free(bytes);
	return 0;
}
