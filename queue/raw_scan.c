/* raw_scan: see raw_scan.h. */
#include "queue/raw_scan.h"

#include <errno.h>
#include <stdlib.h>

#include "mta/base/id.h"
#include "queue/key.h"
#include "queue/lmdb_page.h"

enum { SNAPSHOTS_MAX = 16, LATE_MS = 3600000 };

enum row_kind { ROW_MESSAGE, ROW_LEFT, ROW_BODY };

/* What may be a row of ours, on a page of whatever age. */
struct row {
	uint64_t id;			/* ROW_BODY: of the body */
	uint32_t n;			/* ROW_BODY: number of the record */
	enum row_kind kind;
	struct span value;
};

/* The tables as of one commit. */
struct snapshot {
	uint64_t message, body, left, sender;	/* roots */
	uint64_t messages;			/* entries */
	struct meta_record state;		/* only if found by content */
};

struct scan {
	struct lmdb_file file;
	struct row *rows;
	size_t count, cap;
	struct snapshot snapshots[SNAPSHOTS_MAX];	/* the newest first */
	size_t snapshot_count;
	int64_t last_commit_ms;		/* of the newest `state` that is anywhere in the file */
	bool stale;			/* there were later commits than that of these snapshots */
	struct queue_salvage_facts facts;
	int (*message)(void *arg, const struct queue_salvaged *salvaged);
	void *arg;
};

/* ---- snapshots ---------------------------------------------------------------------------- */

/* Is this page the root of the tables of a commit? */
static bool
snapshot_read(const struct lmdb_file *file, uint64_t root, struct snapshot *ret)
{
	struct lmdb_table message, body, left, sender, meta;
	struct meta_record state;
	struct lmdb_node node;

	if (!lmdb_table_find(file, root, "message", &message) ||
	    !lmdb_table_find(file, root, "body", &body) ||
	    !lmdb_table_find(file, root, "left", &left) ||
	    !lmdb_table_find(file, root, "sender", &sender) ||
	    !lmdb_table_find(file, root, "meta", &meta))
		return false;
	*ret = (struct snapshot){ message.root, body.root, left.root, sender.root,
				  message.entries, { .last_commit_ms = -1 } };
	if (lmdb_find(file, meta.root, SPAN("state"), &node) == LMDB_FOUND &&
	    node.value.at != NULL && meta_record_decode(node.value, &state) == 0 &&
	    state.messages == message.entries)
		ret->state = state;
	return true;
}

/* By what only grows. */
static int
age_order(const struct snapshot *a, const struct snapshot *b)
{
	const struct meta_record *x = &a->state, *y = &b->state;

	if (x->last_commit_ms != y->last_commit_ms)
		return x->last_commit_ms < y->last_commit_ms ? -1 : 1;
	if (x->last_id != y->last_id)
		return x->last_id < y->last_id ? -1 : 1;
	return (x->next_batch > y->next_batch) - (x->next_batch < y->next_batch);
}

/* Keeps the newest ones, sorted. */
static void
snapshot_add(struct scan *s, const struct snapshot *snapshot)
{
	size_t i = s->snapshot_count;

	while (i > 0 && age_order(&s->snapshots[i - 1], snapshot) < 0)
		i--;
	if (i == SNAPSHOTS_MAX)
		return;
	if (s->snapshot_count < SNAPSHOTS_MAX)
		s->snapshot_count++;
	memmove(&s->snapshots[i + 1], &s->snapshots[i],
		(s->snapshot_count - 1 - i) * sizeof(*snapshot));
	s->snapshots[i] = *snapshot;
}

/*
 * Both meta pages are whole, and the newer leads to its tables: then that is the last commit. With
 * one of them alone it cannot be told which of the two it was. What leads to nowhere is a commit
 * that is lost.
 */
static bool
snapshot_by_metas(struct scan *s, const struct lmdb_meta metas[2])
{
	const struct lmdb_meta *newest = &metas[metas[1].transaction > metas[0].transaction];
	struct snapshot snapshot;

	if (newest->page_size == 0)
		return false;
	s->stale = !snapshot_read(&s->file, newest->main_root, &snapshot);
	if (s->stale || metas[0].page_size == 0 || metas[1].page_size == 0)
		return false;
	s->snapshots[0] = snapshot;
	s->snapshot_count = 1;
	return true;
}

/*
 * Found by content: the newest, and the one before it (a commit that was never finished may have
 * left pages that look newest), with all that say they are as new: an old root may lead to a page
 * that was used again.
 */
static void
snapshots_cut(struct scan *s)
{
	size_t i = 0, times = 0;

	for (; i < s->snapshot_count; i++) {
		times += i == 0 || age_order(&s->snapshots[i], &s->snapshots[i - 1]) != 0;
		if (times > 2)
			break;
	}
	s->snapshot_count = i;
	s->facts.guessed = true;
	if (i > 0 && s->last_commit_ms > s->snapshots[0].state.last_commit_ms)
		s->stale = true;
}

/* ---- rows --------------------------------------------------------------------------------- */

static void
row_add(struct scan *s, const struct row *row)
{
	if (s->count == s->cap) {
		s->cap = s->cap > 0 ? s->cap * 2 : 1024;
		s->rows = xrealloc(s->rows, s->cap * sizeof(*s->rows));
	}
	s->rows[s->count++] = *row;
}

/* A record of a body has no form of its own: its message knows its checksum. */
static bool
row_of(const struct lmdb_node *node, struct row *ret)
{
	struct message_record record;
	struct span reverse_path;
	uint32_t recipients;

	if (node->table || node->value.at == NULL)
		return false;
	*ret = (struct row){ .value = node->value };
	if (node->key.len == 12 && node->value.len <= QUEUE_CHUNK) {
		ret->kind = ROW_BODY;
		ret->id = key_get_u64(node->key, 0);
		ret->n = (uint32_t)key_number(node->key, 8, 4);
		return true;
	}
	if (node->key.len != 8)
		return false;
	ret->id = key_get_u64(node->key, 0);
	if (message_record_peek(node->value, &record, &reverse_path, &recipients) == 0 &&
	    record.id == ret->id) {
		ret->kind = ROW_MESSAGE;
		return true;
	}
	ret->kind = ROW_LEFT;
	return left_valid(node->value);
}

/* Rows that lie over each other are not LMDB's: no more than fit, so that memory is bounded. */
static void
scan_page(struct scan *s, uint64_t number, bool snapshots)
{
	size_t octets = 0;
	struct lmdb_page page;
	struct lmdb_node node;
	struct meta_record state;
	struct snapshot snapshot;
	struct row row;

	if (!lmdb_page_read(&s->file, number, &page) || !page.leaf)
		return;
	for (size_t i = 0; i < page.count && octets < page.octets.len; i++) {
		if (!lmdb_node_read(&page, i, &node))
			continue;
		octets += node.key.len + 8;
		if (row_of(&node, &row))
			row_add(s, &row);
		else if (span_eq(node.key, SPAN("state")) && node.value.at != NULL &&
			 meta_record_decode(node.value, &state) == 0 &&
			 state.last_commit_ms > s->last_commit_ms)
			s->last_commit_ms = state.last_commit_ms;
	}
	if (snapshots && snapshot_read(&s->file, number, &snapshot) &&
	    snapshot.state.last_commit_ms >= 0)
		snapshot_add(s, &snapshot);
}

static int
row_order(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return (x->n > y->n) - (x->n < y->n);
}

/* The rows of this name: *ret_count of them, perhaps none. */
static const struct row *
rows_find(const struct scan *s, enum row_kind kind, uint64_t id, uint32_t n, size_t *ret_count)
{
	const struct row wanted = { .kind = kind, .id = id, .n = n };
	size_t from = 0, until = s->count, end;

	while (from < until) {
		size_t middle = from + (until - from) / 2;

		if (row_order(&s->rows[middle], &wanted) < 0)
			from = middle + 1;
		else
			until = middle;
	}
	for (end = from; end < s->count && row_order(&s->rows[end], &wanted) == 0; end++)
		;
	*ret_count = end - from;
	return s->rows + from;
}

/* ---- what became of a message ------------------------------------------------------------- */

enum fate { FATE_GONE, FATE_DOUBTFUL, FATE_THERE };

/* A path that was damaged is made up for by the other table; if they disagree, nobody knows. */
static enum fate
fate_in(const struct lmdb_file *file, const struct snapshot *at, uint64_t id,
	struct span reverse_path)
{
	struct key key = key_id(id);
	struct lmdb_node node;
	enum lmdb_found found = lmdb_find(file, at->message, key_span(&key), &node), sender;

	if (found == LMDB_FOUND)
		return FATE_THERE;
	key = key_sender(reverse_path, id);
	sender = lmdb_find(file, at->sender, key_span(&key), &node);
	if (sender == LMDB_FOUND)
		return found == LMDB_BROKEN ? FATE_THERE : FATE_DOUBTFUL;
	return found == LMDB_BROKEN && sender == LMDB_BROKEN ? FATE_DOUBTFUL : FATE_GONE;
}

/*
 * There in the newest snapshot (in each, if several pass for it): there. Only in an older one:
 * doubtful. If commits after the newest are lost, they may have ended what is there, and brought
 * what arrived of late.
 */
static enum fate
fate_of(const struct scan *s, uint64_t id, struct span reverse_path)
{
	const struct snapshot *newest = &s->snapshots[0];
	enum fate best = FATE_GONE, worst = s->stale ? FATE_DOUBTFUL : FATE_THERE;

	if (s->snapshot_count == 0)
		return FATE_DOUBTFUL;
	for (size_t i = 0; i < s->snapshot_count; i++) {
		enum fate fate = fate_in(&s->file, &s->snapshots[i], id, reverse_path);

		best = fate > best ? fate : best;
		if (age_order(&s->snapshots[i], newest) == 0 && fate < worst)
			worst = fate;
	}
	if (best == FATE_GONE && s->stale &&
	    id_time_ms(id) > newest->state.last_commit_ms - LATE_MS)
		return FATE_DOUBTFUL;
	return best == FATE_GONE || worst == FATE_THERE ? best : FATE_DOUBTFUL;
}

/* What both have in common; false: this is no such record. */
static bool
open_and(struct span value, size_t count, bool *open)
{
	bool *other = xcalloc(count, sizeof(*other));
	bool good = value.at != NULL && left_decode(value, count, other) == 0;

	for (size_t i = 0; i < count && good; i++)
		open[i] = open[i] && other[i];
	free(other);
	return good;
}

/*
 * Who is open. The set only ever shrinks, so what its versions have in common is the newest of
 * them: of those in the snapshots that pass for the newest; else of all that there are, and then
 * the last one may be missing. If nobody is open, or there is no word of it, all are.
 */
static void
open_of(const struct scan *s, uint64_t id, size_t count, bool *open, bool *doubtful)
{
	const struct key key = key_id(id);
	const struct row *rows;
	size_t versions = 0;
	bool any = count == 1;

	memset(open, true, count * sizeof(*open));
	for (size_t i = 0; i < s->snapshot_count && !any; i++) {
		struct lmdb_node node;

		if (age_order(&s->snapshots[i], &s->snapshots[0]) == 0 &&
		    lmdb_find(&s->file, s->snapshots[i].left, key_span(&key), &node) == LMDB_FOUND)
			versions += open_and(node.value, count, open);
	}
	if (versions == 0 && count > 1) {
		*doubtful = true;
		rows = rows_find(s, ROW_LEFT, id, 0, &versions);
		for (size_t i = 0; i < versions; i++)
			open_and(rows[i].value, count, open);
	}
	for (size_t i = 0; i < count; i++)
		any = any || open[i];
	if (!any) {
		*doubtful = true;
		memset(open, true, count * sizeof(*open));
	}
}

/* ---- joining ------------------------------------------------------------------------------ */

/* The value of a key in the newest snapshot, if the way there is whole; else no octets. */
static struct span
value_now(const struct scan *s, uint64_t root, const struct key *key)
{
	struct lmdb_node node;

	if (s->snapshot_count == 0 ||
	    lmdb_find(&s->file, root, key_span(key), &node) != LMDB_FOUND || node.value.at == NULL)
		return SPAN("");
	return node.value;
}

static bool
is_body(struct span value, uint64_t len, uint32_t crc)
{
	return value.len == len && crc32c(0, value.at, len) == crc;
}

/* What the tables lead to, or a version of it. */
static bool
body_append(const struct scan *s, const struct message_record *r, uint32_t n, uint64_t len,
	    struct buf *out)
{
	const struct key key = key_body(r->body, n);
	struct span value = value_now(s, s->snapshots[0].body, &key);
	const struct row *rows;
	size_t count;

	if (!is_body(value, len, r->crcs[n])) {
		rows = rows_find(s, ROW_BODY, r->body, n, &count);
		while (count > 0 && !is_body(rows->value, len, r->crcs[n])) {
			rows++;
			count--;
		}
		if (count == 0)
			return false;
		value = rows->value;
	}
	buf_append(out, value);
	return true;
}

static bool
content_append(const struct scan *s, const struct message_record *r, struct buf *out)
{
	uint64_t left = r->body_size;

	if (r->header_size > s->file.size || r->body_size > s->file.size - r->header_size)
		return false;
	if (r->crc_count == 1)
		return body_append(s, r, 0, r->header_size + r->body_size, out);
	if (!body_append(s, r, 0, r->header_size, out))
		return false;
	for (size_t n = 1; n < r->crc_count; n++) {
		const uint64_t len = left < QUEUE_CHUNK ? left : QUEUE_CHUNK;

		if (!body_append(s, r, (uint32_t)n, len, out))
			return false;
		left -= len;
	}
	return true;
}

/*
 * The record that the tables lead to, or the version given. A body may have octets that look like
 * a page with records: so a version only counts where the tables do not know better.
 */
static bool
message_of(const struct scan *s, const struct row *version, struct arena *arena,
	   struct queue_message *ret)
{
	const struct key key = key_id(version->id);
	struct span now = value_now(s, s->snapshots[0].message, &key);

	if (message_record_decode(now, arena, &ret->record, &ret->envelope, &ret->lanes) == 0 &&
	    ret->record.id == version->id)
		return true;
	return message_record_decode(version->value, arena, &ret->record, &ret->envelope,
				     &ret->lanes) == 0;
}

static int
hand_out(struct scan *s, const struct row *version, struct arena *arena)
{
	struct queue_salvaged found = { 0 };
	struct queue_message *m = &found.message;
	struct buf content = { 0 };
	enum fate fate;
	int r;

	if (!message_of(s, version, arena, m))
		return 0;
	fate = fate_of(s, version->id, m->envelope.reverse_path);
	if (fate == FATE_GONE)
		return 0;
	found.doubtful = fate == FATE_DOUBTFUL;
	m->open = arena_alloc(arena, m->envelope.recipient_count * sizeof(*m->open));
	open_of(s, version->id, m->envelope.recipient_count, m->open, &found.doubtful);
	found.lost = !content_append(s, &m->record, &content);
	if (!found.lost)
		found.content = buf_span(&content);
	s->facts.messages += !found.lost;
	s->facts.doubtful += found.doubtful && !found.lost;
	s->facts.lost += found.lost;
	r = s->message(s->arg, &found);
	buf_free(&content);
	return r;
}

static int
hand_out_all(struct scan *s)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < s->count && s->rows[i].kind == ROW_MESSAGE; i++) {
		struct arena arena = { 0 };

		/* all versions are the same */
		if (i == 0 || s->rows[i].id != s->rows[i - 1].id)
			r = hand_out(s, &s->rows[i], &arena);
		arena_free(&arena);
	}
	return r < 0 ? r : 0;
}

/* One that is damaged is all zero. The first says where the second is. */
static void
metas_read(struct scan *s, struct lmdb_meta metas[2])
{
	const struct lmdb_meta none = { 0 };
	struct lmdb_file *file = &s->file;

	if (file->size < LMDB_META_LEN || lmdb_meta_read(file->at, &metas[0]) != LMDB_READABLE)
		metas[0] = none;
	else
		file->page_size = metas[0].page_size;
	if (file->size < file->page_size + LMDB_META_LEN ||
	    lmdb_meta_read(file->at + file->page_size, &metas[1]) != LMDB_READABLE ||
	    metas[1].page_size != file->page_size)
		metas[1] = none;
}

int
raw_scan(struct span file, uint32_t page_size,
	 int (*message)(void *arg, const struct queue_salvaged *salvaged), void *arg,
	 struct queue_salvage_facts *ret)
{
	struct scan s = { .file = { file.at, file.len, page_size }, .message = message,
			  .arg = arg, .last_commit_ms = -1 };
	struct lmdb_meta metas[2];
	bool exact;
	int r;

	metas_read(&s, metas);
	exact = snapshot_by_metas(&s, metas);
	for (uint64_t number = 0; number < s.file.size / s.file.page_size; number++)
		scan_page(&s, number, !exact);
	if (!exact)
		snapshots_cut(&s);
	if (s.snapshot_count > 0)
		s.facts.expected = s.snapshots[0].messages;
	if (s.count > 0)
		qsort(s.rows, s.count, sizeof(*s.rows), row_order);
	r = hand_out_all(&s);
	free(s.rows);
	*ret = s.facts;
	return r;
}
