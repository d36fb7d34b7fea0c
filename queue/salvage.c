/*
 * salvage: reads what is left of a damaged data file, message by message; see queue.h. It writes
 * nothing. By the tables: rows that fail their CRC are passed over; where LMDB itself cannot go
 * on, the walk goes on at a later id, at doubling distances. Page by page: raw_scan.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/place.h"
#include "queue/raw_scan.h"
#include "queue/writer.h"

/* The next id from `from` on that can be reached; false: none. */
static bool
next_message(struct txn *txn, uint64_t from, uint64_t *ret)
{
	for (int k = -1; k < 64; k++) {
		const uint64_t step = k < 0 ? 0 : UINT64_C(1) << k;
		struct key key = key_id(from + step);
		struct cursor c;
		bool found;

		if (from + step < from)
			break;
		txn->error = 0;
		cursor_open(&c, txn, TABLE_MESSAGE, key_span(&key));
		found = cursor_next(&c) && c.key.len == 8;
		if (found)
			*ret = key_get_u64(c.key, 0);
		cursor_close(&c);
		if (found || txn->error == 0)
			return found;
	}
	return false;
}

/* Who is still open may be lost: then all are. */
static int
message_salvage(struct txn *txn, uint64_t id, struct arena *arena, struct queue_message *ret)
{
	struct key key = key_id(id);
	struct span value;
	int r = message_read_row(txn, id, arena, ret);

	txn->error = 0;
	if (r == 0)
		return 0;
	if (!txn_get(txn, TABLE_MESSAGE, key_span(&key), &value))
		return -ENOENT;
	r = message_record_decode(value, arena, &ret->record, &ret->envelope, &ret->lanes);
	if (r < 0)
		return r;
	ret->open = arena_alloc(arena, ret->envelope.recipient_count * sizeof(*ret->open));
	for (size_t i = 0; i < ret->envelope.recipient_count; i++)
		ret->open[i] = true;
	return 0;
}

static int
content_salvage(struct txn *txn, const struct message_record *record, struct buf *out)
{
	const uint64_t size = record->header_size + record->body_size;
	int r = 0;

	while (r == 0 && buf_len(out) < size) {
		r = content_read_row(txn, record, buf_len(out), SIZE_MAX, true, out);
		if (txn->error != 0)
			r = txn->error;
	}
	txn->error = 0;
	return r;
}

struct walk {
	int (*message)(void *arg, const struct queue_salvaged *salvaged);
	void *arg;
	struct queue_salvage_facts *facts;
};

static int
message_hand_out(const struct walk *w, struct txn *txn, uint64_t id, struct arena *arena)
{
	struct queue_salvaged found = { 0 };
	struct buf content = { 0 };
	int r;

	if (message_salvage(txn, id, arena, &found.message) < 0)
		return 0;
	found.lost = content_salvage(txn, &found.message.record, &content) < 0;
	if (!found.lost)
		found.content = buf_span(&content);
	w->facts->messages += !found.lost;
	w->facts->lost += found.lost;
	r = w->message(w->arg, &found);
	buf_free(&content);
	return r;
}

static int
salvage_tables(struct store *store, const struct walk *w)
{
	struct txn txn;
	uint64_t id = 0;
	int r = txn_reader(store, &txn);

	if (r == 0)
		w->facts->expected = txn_count(&txn, TABLE_MESSAGE);
	while (r == 0 && id < UINT64_MAX && next_message(&txn, id, &id)) {
		struct arena arena = { 0 };

		r = message_hand_out(w, &txn, id, &arena);
		arena_free(&arena);
		id++;
	}
	txn_abort(&txn);
	return r;
}

static int
salvage_pages(const char *path, const struct walk *w, char error[QUEUE_ERROR_MAX])
{
	struct stat st = { 0 };
	void *at = NULL;
	char *name;
	int fd = -1, r = asprintf(&name, "%s/data.mdb", path) < 0 ? -ENOMEM : 0;

	if (r == 0) {
		fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0 || fstat(fd, &st) < 0)
			r = -errno;
		else if (st.st_size > 0)
			at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		if (at == MAP_FAILED)				/* NOLINT */
			r = -errno;
		if (r < 0)
			snprintf(error, QUEUE_ERROR_MAX, "%s cannot be read: %s", name,
				 strerror(-r));
		free(name);
	}
	if (r == 0)
		r = raw_scan(span_of(at, (size_t)st.st_size), place_page_size(), w->message,
			     w->arg, w->facts);
	if (at != NULL && at != MAP_FAILED)			/* NOLINT */
		munmap(at, (size_t)st.st_size);
	if (fd >= 0)
		close(fd);
	return r;
}

int
queue_salvage(const char *path, bool raw,
	      int (*message)(void *arg, const struct queue_salvaged *salvaged), void *arg,
	      struct queue_salvage_facts *ret, char error[QUEUE_ERROR_MAX])
{
	const struct store_config config = { .path = path, .salvage = true };
	const struct walk w = { message, arg, ret };
	struct store *store;
	int r = -EBADMSG;

	*ret = (struct queue_salvage_facts){ 0 };
	error[0] = '\0';
	if (!raw)
		r = store_open(&config, &store, error);
	if (!raw && r == 0) {
		r = salvage_tables(store, &w);
		store_close(store);
		return r;
	}
	if (r == -ENOENT || r == -ENOTDIR || r == -EACCES)
		return r;
	return salvage_pages(path, &w, error);
}
