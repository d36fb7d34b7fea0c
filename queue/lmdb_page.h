/*
 * lmdb_page: LMDB's file, read as octets: format 1 of a 64-bit machine of this byte order, as
 * LMDB 0.9 writes it. Pure; any thread. For those who must look before LMDB does, or after it
 * gave up: every number in the file is taken for hostile, nothing outside of it is ever read, and
 * a page that does not look like one is damaged.
 *
 * The file is pages of one size. The first two are meta pages, written in turn: each names the
 * root of the tree of tables as of one commit. A tree's branch and leaf pages hold nodes (key,
 * and a child page or a value) in the order of their keys; a value that is too large for that
 * stands on overflow pages of its own. A page that was freed stays as it was until it is used
 * again: most of a file is versions of old.
 */
#ifndef TRAM_QUEUE_LMDB_PAGE_H
#define TRAM_QUEUE_LMDB_PAGE_H

#include "mta/base/span.h"

enum { LMDB_META_LEN = 152, LMDB_VERSION = 1, LMDB_PAGE_MIN = 512, LMDB_PAGE_MAX = 32768 };
#define LMDB_NO_PAGE UINT64_MAX		/* the root of an empty tree */

enum lmdb_kind {
	LMDB_FOREIGN,			/* no meta page, or a damaged one */
	LMDB_READABLE,
	LMDB_OTHER_ORDER,		/* of octets */
	LMDB_OTHER_VERSION,		/* ret->version is set */
};

struct lmdb_meta {
	uint32_t version, page_size;
	uint64_t last_page, transaction;
	uint64_t main_root;		/* of the tree of tables */
};
enum lmdb_kind lmdb_meta_read(const void *at, struct lmdb_meta *ret);	/* LMDB_META_LEN octets */

struct lmdb_file {
	const char *at;
	uint64_t size;
	uint32_t page_size;
};

struct lmdb_page {
	const struct lmdb_file *file;
	struct span octets;
	bool leaf;			/* else a branch */
	size_t count;			/* nodes */
};
/* False: there is no such page, or it is neither branch nor leaf, or damaged. */
bool lmdb_page_read(const struct lmdb_file *file, uint64_t number, struct lmdb_page *ret);

struct lmdb_node {
	struct span key;
	uint64_t child;			/* of a branch */
	struct span value;		/* of a leaf; at is NULL if it lies outside of the file */
	bool table;			/* the value says where another tree is */
};
/* False: it does not lie within its page. */
bool lmdb_node_read(const struct lmdb_page *page, size_t i, struct lmdb_node *ret);

enum lmdb_found { LMDB_FOUND, LMDB_ABSENT, LMDB_BROKEN };
/*
 * Goes down a tree. LMDB_BROKEN: a page on the way is damaged or out of its place, so it cannot be
 * told. LMDB_FOUND: the key is there; its value may lie outside of the file all the same.
 */
enum lmdb_found lmdb_find(const struct lmdb_file *file, uint64_t root, struct span key,
			  struct lmdb_node *ret);

struct lmdb_table {
	uint64_t root, entries;
};
/* A table by its name, in the tree of tables. False: none, or damaged. */
bool lmdb_table_find(const struct lmdb_file *file, uint64_t main_root, const char *name,
		     struct lmdb_table *ret);

#endif
