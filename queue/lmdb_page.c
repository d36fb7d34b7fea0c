/* lmdb_page: see lmdb_page.h. */
#include "queue/lmdb_page.h"

#include <string.h>

enum {
	PAGE_HEAD = 16, NODE_HEAD = 8, TABLE_LEN = 48,
	PAGE_BRANCH = 1, PAGE_LEAF = 2,
	NODE_OVERFLOW = 1, NODE_TABLE = 2,
	DEPTH_MAX = 32,
};

/* The file has this machine's byte order. */
static uint16_t
get_u16(const char *at)
{
	uint16_t v;

	memcpy(&v, at, sizeof(v));
	return v;
}

static uint32_t
get_u32(const char *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof(v));
	return v;
}

static uint64_t
get_u64(const char *at)
{
	uint64_t v;

	memcpy(&v, at, sizeof(v));
	return v;
}

/* ---- meta pages --------------------------------------------------------------------------- */

/*
 * Head of 16; magic, version (4 each); address, size of the map (8 each); the records of two
 * trees (48 each: the free pages, whose first field is the page size, and the tables); last page,
 * transaction (8 each).
 */
enum lmdb_kind
lmdb_meta_read(const void *octets, struct lmdb_meta *ret)
{
	const uint32_t magic = 0xbeefc0de;
	const char *at = octets;

	*ret = (struct lmdb_meta){ .version = get_u32(at + 20), .page_size = get_u32(at + 40),
				   .main_root = get_u64(at + 128), .last_page = get_u64(at + 136),
				   .transaction = get_u64(at + 144) };
	if (get_u32(at + 16) == __builtin_bswap32(magic))
		return LMDB_OTHER_ORDER;
	if (get_u32(at + 16) != magic)
		return LMDB_FOREIGN;
	if (ret->version != LMDB_VERSION)
		return LMDB_OTHER_VERSION;
	if (ret->page_size < LMDB_PAGE_MIN || ret->page_size > LMDB_PAGE_MAX ||
	    (ret->page_size & (ret->page_size - 1)) != 0)
		return LMDB_FOREIGN;
	return LMDB_READABLE;
}

/* ---- pages and nodes ---------------------------------------------------------------------- */

/* Head: number (8), unused (2), kind (2), where the free room begins and ends (2 each). */
bool
lmdb_page_read(const struct lmdb_file *file, uint64_t number, struct lmdb_page *ret)
{
	const char *at;
	uint16_t kind;
	size_t lower, upper;

	if (number >= file->size / file->page_size)
		return false;
	at = file->at + number * file->page_size;
	kind = get_u16(at + 10);
	lower = get_u16(at + 12);
	upper = get_u16(at + 14);
	if (get_u64(at) != number || (kind != PAGE_BRANCH && kind != PAGE_LEAF) ||
	    lower < PAGE_HEAD || lower % 2 != 0 || lower > upper || upper > file->page_size)
		return false;
	*ret = (struct lmdb_page){ file, span_of(at, file->page_size), kind == PAGE_LEAF,
				   (lower - PAGE_HEAD) / 2 };
	return true;
}

/* A large value: behind the head of its first page, through as many as it needs. */
static struct span
overflow_read(const struct lmdb_file *file, uint64_t number, size_t len)
{
	uint64_t from;

	if (number >= file->size / file->page_size)
		return (struct span){ NULL, 0 };
	from = number * file->page_size + PAGE_HEAD;
	if (len > file->size - from)
		return (struct span){ NULL, 0 };
	return span_of(file->at + from, len);
}

/* Head: size of the value (4) or number of the child (6 octets), flags (2), length of the key. */
bool
lmdb_node_read(const struct lmdb_page *page, size_t i, struct lmdb_node *ret)
{
	const size_t from = get_u16(page->octets.at + PAGE_HEAD + 2 * i);
	const struct span node = span_skip(page->octets, from);
	struct span rest;
	uint16_t flags;
	size_t key, len;

	if (from < PAGE_HEAD + 2 * page->count || node.len < NODE_HEAD)
		return false;
	flags = get_u16(node.at + 4);
	key = get_u16(node.at + 6);
	len = get_u32(node.at);
	if (node.len < NODE_HEAD + key)
		return false;
	*ret = (struct lmdb_node){ .key = span_of(node.at + NODE_HEAD, key) };
	if (!page->leaf) {
		ret->child = len | (uint64_t)flags << 32;
		return true;
	}
	rest = span_skip(node, NODE_HEAD + key);
	ret->table = (flags & NODE_TABLE) != 0;
	if ((flags & NODE_OVERFLOW) == 0) {
		ret->value = span_of(rest.at, len);
		return len <= rest.len;
	}
	if (rest.len < 8)
		return false;
	ret->value = overflow_read(page->file, get_u64(rest.at), len);
	return true;
}

/* ---- trees -------------------------------------------------------------------------------- */

/* As LMDB sorts: octet by octet; what ends first is less. */
static int
key_order(struct span a, struct span b)
{
	int order = memcmp(a.at, b.at, a.len < b.len ? a.len : b.len);

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Between these two keys (from, and below until) all of a page must lie. Unbounded: no octets. */
struct range {
	struct span from, until;
};

/*
 * The last node that is not behind the key; *any: there is one. False: the page is not in order.
 * All of it is looked at, for only then it is believed. The first key of a branch is not: it
 * stands for the least of all.
 */
static bool
page_search(const struct lmdb_page *page, struct span key, const struct range *range,
	    struct lmdb_node *ret, struct range *ret_range, bool *any)
{
	struct span before = range->from;
	struct lmdb_node node;
	bool passed = false;

	*any = false;
	*ret_range = *range;
	for (size_t i = 0; i < page->count; i++) {
		const bool least = i == 0 && !page->leaf;

		if (!lmdb_node_read(page, i, &node))
			return false;
		if (!least && (key_order(node.key, before) < (i > 0 ? 1 : 0) ||
			       (range->until.len > 0 && key_order(node.key, range->until) >= 0)))
			return false;
		if (least || key_order(node.key, key) <= 0) {
			*ret = node;
			*any = true;
			ret_range->from = least ? range->from : node.key;
		} else if (!passed) {
			ret_range->until = node.key;
			passed = true;
		}
		before = least ? before : node.key;
	}
	return true;
}

enum lmdb_found
lmdb_find(const struct lmdb_file *file, uint64_t root, struct span key, struct lmdb_node *ret)
{
	struct range range = { SPAN(""), SPAN("") };
	uint64_t number = root;

	if (root == LMDB_NO_PAGE)
		return LMDB_ABSENT;
	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		struct lmdb_page page;
		struct range below;
		bool any;

		if (!lmdb_page_read(file, number, &page) || page.count == 0 ||
		    !page_search(&page, key, &range, ret, &below, &any))
			return LMDB_BROKEN;
		if (page.leaf)
			return any && span_eq(ret->key, key) ? LMDB_FOUND : LMDB_ABSENT;
		number = ret->child;
		range = below;
	}
	return LMDB_BROKEN;
}

/*
 * The record of a table: unused (4), flags, depth (2 each), pages of three kinds (8 each),
 * entries, root.
 */
bool
lmdb_table_find(const struct lmdb_file *file, uint64_t main_root, const char *name,
		struct lmdb_table *ret)
{
	struct lmdb_node node;

	if (lmdb_find(file, main_root, span_str(name), &node) != LMDB_FOUND || !node.table ||
	    node.value.at == NULL || node.value.len != TABLE_LEN)
		return false;
	*ret = (struct lmdb_table){ .entries = get_u64(node.value.at + 32),
				    .root = get_u64(node.value.at + 40) };
	return true;
}
