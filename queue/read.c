/*
 * read: what is in the queue, read in short transactions: each call renews its port's reader,
 * copies what it was asked for, and lets the snapshot go, for a long one would pin pages and
 * grow the file. Any thread, on its port.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/address.h"
#include "queue/writer.h"

enum { SCAN_MAX = 10000 };		/* rows looked at in one transaction */

static struct txn *
read_begin(struct queue_port *port)
{
	txn_renew(&port->reader);
	return &port->reader;
}

static int
read_end(struct txn *txn, int result)
{
	int r = txn->error != 0 ? txn->error : result;

	txn_reset(txn);
	return r;
}

/* ---- single rows -------------------------------------------------------------------------- */

int
message_read_row(struct txn *txn, uint64_t id, struct arena *arena, struct queue_message *ret)
{
	struct key key = key_id(id);
	struct span value;
	size_t count;
	int r;

	if (!txn_get(txn, TABLE_MESSAGE, key_span(&key), &value))
		return -ENOENT;
	r = message_record_decode(value, arena, &ret->record, &ret->envelope, &ret->lanes);
	if (r < 0)
		return r;
	count = ret->envelope.recipient_count;
	ret->open = arena_alloc(arena, count * sizeof(*ret->open));
	if (count == 1) {
		ret->open[0] = true;
		return 0;
	}
	if (!txn_get(txn, TABLE_LEFT, key_span(&key), &value))
		return -EBADMSG;
	return left_decode(value, count, ret->open);
}

int
queue_read_message(struct queue_port *port, uint64_t id, struct arena *arena,
		   struct queue_message *ret)
{
	struct txn *txn = read_begin(port);

	return read_end(txn, message_read_row(txn, id, arena, ret));
}

int
queue_read_lane(struct queue_port *port, uint64_t lane, struct arena *arena,
		struct lane_record *ret)
{
	struct txn *txn = read_begin(port);
	struct key key = key_id(lane);
	struct span value;
	int r = -ENOENT;

	if (txn_get(txn, TABLE_LANE, key_span(&key), &value))
		r = lane_record_decode(value, arena, ret);
	return read_end(txn, r);
}

int
queue_read_site(struct queue_port *port, uint64_t site, struct arena *arena,
		struct site_record *ret)
{
	struct txn *txn = read_begin(port);
	struct key key = key_id(site);
	struct span value;
	int r = -ENOENT;

	if (txn_get(txn, TABLE_SITE, key_span(&key), &value))
		r = site_record_decode(value, arena, ret);
	return read_end(txn, r);
}

int
queue_read_history(struct queue_port *port, uint64_t id, uint32_t recipient, struct arena *arena,
		   struct history_record *ret)
{
	struct txn *txn = read_begin(port);
	struct key key = key_history(id, recipient);
	struct span value;
	int r = -ENOENT;

	if (txn_get(txn, TABLE_HISTORY, key_span(&key), &value))
		r = history_record_decode(value, arena, ret);
	return read_end(txn, r);
}

int
queue_find_lane(struct queue_port *port, const struct lane_name *name, uint64_t *ret)
{
	struct txn *txn = read_begin(port);

	return read_end(txn, lane_find_row(txn, name, ret) ? 0 : -ENOENT);
}

int
queue_find_site(struct queue_port *port, struct span key, uint64_t *ret)
{
	struct txn *txn = read_begin(port);

	if (key.len == 0) {
		*ret = 0;
		return read_end(txn, 0);
	}
	return read_end(txn, site_find_row(txn, key, ret) ? 0 : -ENOENT);
}

int
queue_read_moments(struct queue_port *port, bool by, const struct queue_moment *after,
		   int64_t until_ms, struct queue_moment *ret, size_t max, size_t *ret_count)
{
	const enum moment_kind kind = by ? MOMENT_BY : MOMENT_RELEASE;
	struct txn *txn = read_begin(port);
	struct key from = key_moment(kind, after->at_ms, after->id + 1);
	struct cursor c;

	*ret_count = 0;
	cursor_open(&c, txn, TABLE_TIMER, key_span(&from));
	while (*ret_count < max && cursor_next(&c) && c.key.len == TIMER_KEY_LEN &&
	       key_number(c.key, 0, 1) == (uint64_t)kind &&
	       (int64_t)key_get_u64(c.key, 1) <= until_ms)
		ret[(*ret_count)++] = (struct queue_moment){ .at_ms = (int64_t)key_get_u64(c.key,
											   1),
							     .id = key_get_u64(c.key, 9) };
	cursor_close(&c);
	return read_end(txn, 0);
}

int
queue_read_cursors(struct queue_port *port, uint64_t *expiry_id, uint64_t *delay_id)
{
	struct txn *txn = read_begin(port);
	struct meta_record meta = { 0 };
	struct span value;
	int r = -EBADMSG;

	if (txn_get(txn, TABLE_META, SPAN("state"), &value))
		r = meta_record_decode(value, &meta);
	*expiry_id = meta.expiry_id;
	*delay_id = meta.delay_id;
	return read_end(txn, r);
}

/* ---- content ------------------------------------------------------------------------------ */

/* Where an offset of the content lies: in which record, and where in that. */
static uint64_t
content_place(const struct message_record *r, uint64_t offset, uint64_t *within, uint64_t *len)
{
	uint64_t n;

	if (body_record_count(r->header_size, r->body_size) == 1 || offset < r->header_size) {
		*within = offset;
		*len = r->header_size;
		if (body_record_count(r->header_size, r->body_size) == 1)
			*len += r->body_size;
		return 0;
	}
	offset -= r->header_size;
	n = offset / QUEUE_CHUNK;
	*within = offset % QUEUE_CHUNK;
	*len = r->body_size - n * QUEUE_CHUNK < QUEUE_CHUNK ? r->body_size - n * QUEUE_CHUNK
							    : QUEUE_CHUNK;
	return n + 1;
}

/*
 * A record is checked as a whole when its first octet is read. The span counts as long as txn does.
 */
static int
content_find(struct txn *txn, const struct message_record *record, uint64_t offset, size_t most,
	     bool may_block, struct span *ret)
{
	uint64_t within, len, n;
	struct span value, part;
	struct key key;

	*ret = SPAN("");
	if (offset >= record->header_size + record->body_size)
		return 0;
	n = content_place(record, offset, &within, &len);
	key = key_body(record->body, n);
	if (!txn_get(txn, TABLE_BODY, key_span(&key), &value) || value.len != len ||
	    n >= record->crc_count)
		return -EBADMSG;
	part = span_first(span_skip(value, (size_t)within), most);
	if (!may_block &&
	    !store_resident(within == 0 ? value.at : part.at, within == 0 ? value.len : part.len))
		return -EAGAIN;
	if (within == 0 && crc32c(0, value.at, value.len) != record->crcs[n])
		return -EBADMSG;
	*ret = part;
	return 0;
}

int
content_read_row(struct txn *txn, const struct message_record *record, uint64_t offset, size_t most,
		 bool may_block, struct buf *out)
{
	struct span part;
	int r = content_find(txn, record, offset, most, may_block, &part);

	buf_append(out, part);
	return r;
}

int
queue_read_content(struct queue_port *port, const struct message_record *record, uint64_t offset,
		   size_t most, bool may_block, struct buf *out)
{
	struct txn *txn = read_begin(port);

	return read_end(txn, content_read_row(txn, record, offset, most, may_block, out));
}

int
queue_visit_content(struct queue_port *port, const struct message_record *record, uint64_t offset,
		    size_t most, void (*visit)(void *arg, struct span part), void *arg)
{
	struct txn *txn = read_begin(port);
	struct span part;
	int r = content_find(txn, record, offset, most, false, &part);

	if (r == 0 && part.len > 0)
		visit(arg, part);
	return read_end(txn, r);
}

int
queue_read_content_cold(struct queue *queue, const struct message_record *record, uint64_t offset,
			size_t most, struct buf *out)
{
	struct txn txn;
	int r = txn_reader(queue->store, &txn);

	if (r < 0)
		return r;
	r = content_read_row(&txn, record, offset, most, true, out);
	if (txn.error != 0)
		r = txn.error;
	txn_abort(&txn);
	return r;
}

/* ---- pages of rows ------------------------------------------------------------------------ */

static struct queue_entry
entry_of(struct span key)
{
	return (struct queue_entry){ .lane = key_get_u64(key, 0),
				     .due_ms = (int64_t)key_get_u64(key, 8),
				     .id = key_get_u64(key, 16),
				     .recipient = (uint32_t)key_number(key, 24, 4) };
}

static struct key
entry_key(const struct queue_entry *e)
{
	return key_entry(e->lane, e->due_ms, e->id, e->recipient);
}

static bool
is_first_page(const struct queue_entry *after)
{
	return after == NULL ||
	       (after->lane == 0 && after->id == 0 && after->due_ms == 0 && after->recipient == 0);
}

/* Entries of a lane behind a key, or from its start; those on hold only if they are asked for. */
static size_t
entries_page(struct txn *txn, uint64_t lane, const struct queue_entry *after, bool held,
	     struct queue_entry *ret, size_t max)
{
	struct key from = after != NULL ? entry_key(after) : key_id(lane);
	struct cursor c;
	size_t count = 0;

	cursor_open(&c, txn, TABLE_ENTRY, key_span(&from));
	while (count < max && cursor_next(&c) && c.key.len == ENTRY_KEY_LEN &&
	       key_get_u64(c.key, 0) == lane) {
		if (after != NULL && span_eq(c.key, key_span(&from)))
			continue;
		ret[count] = entry_of(c.key);
		if (!held && ret[count].due_ms == DUE_HELD)
			break;
		count++;
	}
	cursor_close(&c);
	return count;
}

int
queue_read_entries(struct queue_port *port, uint64_t lane, const struct queue_entry *after,
		   struct queue_entry *ret, size_t max, size_t *ret_count)
{
	struct txn *txn = read_begin(port);

	*ret_count = entries_page(txn, lane, is_first_page(after) ? NULL : after, false, ret, max);
	return read_end(txn, 0);
}

int
queue_read_asleep(struct queue_port *port, uint64_t site, const struct queue_asleep *after,
		  int64_t until_ms, struct queue_asleep *ret, size_t max, size_t *ret_count,
		  int64_t *next_ms, size_t *tenants)
{
	const bool first = after->lane == 0 && after->due_ms == 0 && after->tenant == 0;
	struct asleep_walk w = { .txn = read_begin(port), .site = site, .until_ms = until_ms,
				 .next_ms = *next_ms };
	struct queue_asleep row;

	*ret_count = 0;
	w.from = key_id(site);
	if (!first && after->due_ms == INT64_MAX)
		w.from = key_asleep_tenant(site, after->tenant == 0 ? 1 : after->tenant + 1);
	else if (!first)
		w.from = key_asleep(site, after->tenant, after->due_ms, after->lane);
	while (*ret_count < max && asleep_next(&w, &row))
		if (row.lane != after->lane || row.tenant != after->tenant ||
		    row.due_ms != after->due_ms)
			ret[(*ret_count)++] = row;
	asleep_close(&w);
	*next_ms = w.next_ms;
	*tenants += w.tenants;
	return read_end(w.txn, 0);
}

int
queue_read_wakes(struct queue_port *port, const struct queue_wake *after, int64_t until_ms,
		 struct queue_wake *ret, size_t max, size_t *ret_count)
{
	const bool first = after == NULL || (after->site == 0 && after->at_ms == 0);
	struct txn *txn = read_begin(port);
	struct key from = first ? (struct key){ 0 } : key_wake(after->at_ms, after->site);
	struct cursor c;

	*ret_count = 0;
	cursor_open(&c, txn, TABLE_WAKE, key_span(&from));
	while (*ret_count < max && cursor_next(&c) && c.key.len == WAKE_KEY_LEN) {
		struct queue_wake wake = { .site = key_get_u64(c.key, 8),
					   .at_ms = (int64_t)key_get_u64(c.key, 0) };

		if (wake.at_ms > until_ms)
			break;
		if (first || !span_eq(c.key, key_span(&from)))
			ret[(*ret_count)++] = wake;
	}
	cursor_close(&c);
	return read_end(txn, 0);
}

int
queue_read_owed(struct queue_port *port, const struct queue_owed *after, struct queue_owed *ret,
		size_t max, size_t *ret_count)
{
	const bool first = after == NULL || (after->id == 0 && after->since_ms == 0);
	struct txn *txn = read_begin(port);
	struct key from =
		first ? (struct key){ 0 } : key_timer(after->since_ms, TIMER_REPORT, after->id);
	struct cursor c;

	*ret_count = 0;
	cursor_open(&c, txn, TABLE_TIMER, key_span(&from));
	/* behind them are the moments, whose first octet is their kind */
	while (*ret_count < max && cursor_next(&c) && key_number(c.key, 0, 1) == 0) {
		if (c.key.len != TIMER_KEY_LEN || key_number(c.key, 8, 1) != TIMER_REPORT ||
		    (!first && span_eq(c.key, key_span(&from))))
			continue;
		ret[(*ret_count)++] =
			(struct queue_owed){ .since_ms = (int64_t)key_get_u64(c.key, 0),
					     .id = key_get_u64(c.key, 9) };
	}
	cursor_close(&c);
	return read_end(txn, 0);
}

int
queue_walk_messages(struct queue_port *port, uint64_t after, uint64_t below, uint64_t *ret,
		    size_t max, size_t *ret_count)
{
	struct txn *txn = read_begin(port);
	struct key from = key_id(after + 1);
	struct cursor c;

	*ret_count = 0;
	cursor_open(&c, txn, TABLE_MESSAGE, key_span(&from));
	while (after < UINT64_MAX && *ret_count < max && cursor_next(&c) && c.key.len == 8 &&
	       key_get_u64(c.key, 0) < below)
		ret[(*ret_count)++] = key_get_u64(c.key, 0);
	cursor_close(&c);
	return read_end(txn, 0);
}

/* ---- by an index -------------------------------------------------------------------------- */

/* Where in lane_domain the lane of `after` stands; the start of the range if it is gone by now. */
static struct key
lane_domain_from(struct txn *txn, const struct key *range, const struct queue_entry *after)
{
	struct key key = key_id(after->lane);
	struct lane_record lane;
	struct span value;

	if (txn_get(txn, TABLE_LANE, key_span(&key), &value) &&
	    lane_record_decode(value, NULL, &lane) == 0)
		return key_lane_domain(lane.name.domain, after->lane);
	return *range;
}

int
queue_walk_recipient_domain(struct queue_port *port, struct span domain, bool sub,
			    const struct queue_entry *after, struct queue_entry *ret, size_t max,
			    size_t *ret_count)
{
	struct txn *txn = read_begin(port);
	const struct key range = key_domain(domain, sub);
	struct key from = range;
	struct cursor c;

	*ret_count = 0;
	if (is_first_page(after))
		after = NULL;
	else
		from = lane_domain_from(txn, &range, after);
	cursor_open(&c, txn, TABLE_LANE_DOMAIN, key_span(&from));
	while (*ret_count < max && cursor_next(&c) && key_starts(c.key, &range)) {
		uint64_t lane = key_get_u64(c.key, c.key.len - 8);

		*ret_count +=
			entries_page(txn, lane, after != NULL && after->lane == lane ? after : NULL,
				     true, ret + *ret_count, max - *ret_count);
	}
	cursor_close(&c);
	return read_end(txn, 0);
}

/*
 * One domain's senders in the order of ids. Pages of one address look at all of its domain's: so
 * many rows at a time, and then with a new snapshot.
 */
int
queue_walk_sender(struct queue_port *port, struct span address_or_domain, uint64_t after,
		  uint64_t *ret, size_t max, size_t *ret_count)
{
	const bool address = span_find(address_or_domain, '@') != NULL;
	const struct span local = address_local_of(address_or_domain);
	const struct key range = key_domain(
		address ? address_domain_of(address_or_domain) : address_or_domain, false);
	bool more = after < UINT64_MAX;
	int r = 0;

	*ret_count = 0;
	while (more && r == 0 && *ret_count < max) {
		struct txn *txn = read_begin(port);
		struct key from = range;
		struct cursor c;
		size_t seen = 0;

		key_u64(&from, after + 1);
		cursor_open(&c, txn, TABLE_SENDER, key_span(&from));
		while (*ret_count < max && seen < SCAN_MAX &&
		       (more = cursor_next(&c) && key_starts(c.key, &range))) {
			after = key_get_u64(c.key, range.len);
			seen++;
			if (!address || span_eq(span_skip(c.key, range.len + 8), local))
				ret[(*ret_count)++] = after;
		}
		cursor_close(&c);
		r = read_end(txn, 0);
	}
	return r;
}
