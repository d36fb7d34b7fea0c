/*
 * message: what happens to a message in the writer's transaction: it is accepted, recipients are
 * settled, a report is made, and with its last recipient it goes. Writer thread only. Each
 * function checks first and changes then: a negative result means that nothing was changed. (A
 * transaction that fails as a whole is undone as a whole.)
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "mta/base/clock.h"
#include "queue/writer.h"

enum { INLINE_MAX = 2000, PAGE = 4096, PAGE_HEADER = 16, ROW_COST = 64 };

/*
 * Large values have pages of their own; of the small ones we count their rows in other tables
 * too.
 */
uint64_t
stored_cost(uint64_t octets)
{
	if (octets <= INLINE_MAX)
		return octets + ROW_COST;
	return (octets + PAGE_HEADER + PAGE - 1) / PAGE * PAGE;
}

/* ---- rows --------------------------------------------------------------------------------- */

void
arrivals_add(struct arrivals *a, const struct queue_arrival *arrival)
{
	if (a->count == ARRIVALS_MAX) {
		a->overflow = true;
		return;
	}
	if (a->count == a->cap) {
		a->cap = a->cap ? a->cap * 2 : 256;
		a->at = xrealloc(a->at, a->cap * sizeof(*a->at));
	}
	a->at[a->count++] = *arrival;
}

void
entry_put(struct batch *b, struct lane_node *lane, int64_t due_ms, uint64_t id, uint32_t recipient,
	  bool tell_it)
{
	struct key key = key_entry(lane->id, due_ms, id, recipient);

	txn_put(&b->txn, TABLE_ENTRY, key_span(&key), SPAN(""));
	lane_added(b, lane, due_ms);
	if (tell_it && due_ms != DUE_HELD)
		arrivals_add(&b->arrivals,
			     &(struct queue_arrival){ .id = id,
						      .lane = lane->id,
						      .site = lane->record.site,
						      .due_ms = due_ms < 0 ? 0 : due_ms,
						      .recipient = recipient });
}

bool
entry_del(struct batch *b, uint64_t lane_id, int64_t due_ms, uint64_t id, uint32_t recipient)
{
	struct key key = key_entry(lane_id, due_ms, id, recipient);
	struct lane_node *lane;

	if (!txn_del(&b->txn, TABLE_ENTRY, key_span(&key)))
		return false;
	lane = lane_get(b, lane_id);
	if (lane == NULL)
		txn_fail(&b->txn, -EBADMSG);
	else
		lane_removed(b, lane);
	return true;
}

void
history_put(struct batch *b, uint64_t id, uint32_t recipient, const struct history_record *h)
{
	struct key key = key_history(id, recipient);

	buf_clear(&b->record);
	history_record_encode(h, &b->record);
	txn_put(&b->txn, TABLE_HISTORY, key_span(&key), buf_span(&b->record));
}

void
history_del(struct batch *b, uint64_t id, uint32_t recipient)
{
	struct key key = key_history(id, recipient);

	txn_del(&b->txn, TABLE_HISTORY, key_span(&key));
}

bool
history_get(struct batch *b, const struct message_state *m, uint32_t recipient,
	    struct history_record *h)
{
	struct key key = key_history(m->id, recipient);
	struct span value;

	if (txn_get(&b->txn, TABLE_HISTORY, key_span(&key), &value)) {
		int r = history_record_decode(value, &b->arena, h);

		if (r == 0)
			return true;
		txn_fail(&b->txn, r);
	}
	*h = (struct history_record){ .due_ms = m->record.due_ms };
	if (m->lanes != NULL)
		h->lane = m->lanes[recipient];
	return false;
}

/* ---- a message in the transaction --------------------------------------------------------- */

static int
message_open_set(struct batch *b, struct message_state *m)
{
	struct key key = key_id(m->id);
	struct span value;

	m->open = arena_alloc(&b->arena, m->recipients * sizeof(*m->open));
	if (m->recipients == 1) {
		m->open[0] = true;
	} else {
		if (!txn_get(&b->txn, TABLE_LEFT, key_span(&key), &value))
			return b->txn.error != 0 ? b->txn.error : -EBADMSG;
		if (left_decode(value, m->recipients, m->open) < 0)
			return -EBADMSG;
	}
	for (size_t i = 0; i < m->recipients; i++)
		m->open_count += m->open[i];
	return 0;
}

int
message_load(struct batch *b, uint64_t id, bool whole, struct message_state *m)
{
	struct key key = key_id(id);
	struct span value;
	uint32_t recipients;
	int r;

	*m = (struct message_state){ .id = id };
	if (!txn_get(&b->txn, TABLE_MESSAGE, key_span(&key), &value))
		return b->txn.error != 0 ? b->txn.error : -ENOENT;
	m->cost = value.len;
	if (whole) {
		r = message_record_decode(value, &b->arena, &m->record, &m->envelope, &m->lanes);
		m->recipients = m->envelope.recipient_count;
	} else {
		r = message_record_peek(value, &m->record, &m->envelope.reverse_path, &recipients);
		m->recipients = r == 0 ? recipients : 0;
		if (r == 0)
			m->envelope.reverse_path = arena_copy(&b->arena, m->envelope.reverse_path);
		m->record.client = SPAN("");
	}
	if (r < 0 || m->record.id != id || m->recipients == 0)
		return r < 0 ? r : -EBADMSG;
	return message_open_set(b, m);
}

void
message_end_recipient(struct message_state *m, uint32_t recipient)
{
	assert(recipient < m->recipients && m->open[recipient]);
	m->open[recipient] = false;
	m->open_count--;
	m->changed = true;
}

static uint64_t
body_cost(const struct message_record *r)
{
	uint64_t chunks = body_record_count(r->header_size, r->body_size) - 1;

	if (chunks == 0)
		return stored_cost(r->header_size + r->body_size);
	return stored_cost(r->header_size) + (chunks - 1) * stored_cost(QUEUE_CHUNK) +
	       stored_cost(r->body_size - (chunks - 1) * QUEUE_CHUNK);
}

/* The moments a message asks for: when it may go, by when it is to be there. */
static void
moments_put(struct batch *b, const struct message_record *r)
{
	struct key key;

	if ((r->flags & MESSAGE_RELEASED) != 0) {
		key = key_moment(MOMENT_RELEASE, r->due_ms, r->id);
		txn_put(&b->txn, TABLE_TIMER, key_span(&key), SPAN(""));
	}
	if (r->by_mode != BY_NONE) {
		key = key_moment(MOMENT_BY, r->by_ms, r->id);
		txn_put(&b->txn, TABLE_TIMER, key_span(&key), SPAN(""));
	}
}

static void
moments_del(struct batch *b, const struct message_record *r)
{
	struct key key;

	if ((r->flags & MESSAGE_RELEASED) != 0) {
		key = key_moment(MOMENT_RELEASE, r->due_ms, r->id);
		txn_del(&b->txn, TABLE_TIMER, key_span(&key));
	}
	if (r->by_mode != BY_NONE) {
		key = key_moment(MOMENT_BY, r->by_ms, r->id);
		txn_del(&b->txn, TABLE_TIMER, key_span(&key));
	}
}

static void
message_delete(struct batch *b, struct message_state *m)
{
	const uint64_t records = body_record_count(m->record.header_size, m->record.body_size);
	struct key key = key_id(m->id);

	txn_del(&b->txn, TABLE_MESSAGE, key_span(&key));
	if (m->recipients > 1)
		txn_del(&b->txn, TABLE_LEFT, key_span(&key));
	for (uint64_t n = 0; n < records; n++) {
		key = key_body(m->record.body, n);
		txn_del(&b->txn, TABLE_BODY, key_span(&key));
	}
	key = key_sender(m->envelope.reverse_path, m->id);
	txn_del(&b->txn, TABLE_SENDER, key_span(&key));
	moments_del(b, &m->record);
	b->meta.messages--;
	b->meta.live_bytes -= stored_cost(m->cost) + body_cost(&m->record);
}

bool
message_finish(struct batch *b, struct message_state *m)
{
	struct key key = key_id(m->id);

	if (m->open_count == 0) {
		message_delete(b, m);
		return true;
	}
	if (m->changed) {
		buf_clear(&b->record);
		left_encode(m->open, m->recipients, &b->record);
		txn_put(&b->txn, TABLE_LEFT, key_span(&key), buf_span(&b->record));
	}
	return false;
}

/* ---- accept ------------------------------------------------------------------------------- */

static void
body_put(struct batch *b, struct queue_accept *a, struct span body, struct message_record *r)
{
	const struct draft *draft = a->draft;
	const uint32_t chunks = draft != NULL ? draft->chunks : 0;
	struct key key = key_body(a->id, 0);
	struct span tail = body;
	char *at;

	r->crc_count = body_record_count(r->header_size, r->body_size);
	r->crcs = arena_alloc(&b->arena, r->crc_count * sizeof(*r->crcs));
	r->crcs[0] = crc32c(0, a->header.at, a->header.len);
	if (r->crc_count == 1) {
		r->crcs[0] = crc32c(r->crcs[0], body.at, body.len);
		at = txn_reserve(&b->txn, TABLE_BODY, key_span(&key), a->header.len + body.len);
		if (at != NULL && a->header.len > 0)
			memcpy(at, a->header.at, a->header.len);
		if (at != NULL && body.len > 0)
			memcpy(at + a->header.len, body.at, body.len);
		return;
	}
	txn_put(&b->txn, TABLE_BODY, key_span(&key), a->header);
	for (uint32_t n = 1; n <= chunks; n++)
		r->crcs[n] = draft->crcs[n - 1];
	for (uint32_t n = chunks + 1; n < r->crc_count; n++) {
		struct span chunk = span_first(tail, QUEUE_CHUNK);

		r->crcs[n] = crc32c(0, chunk.at, chunk.len);
		key = key_body(a->id, n);
		txn_put(&b->txn, TABLE_BODY, key_span(&key), chunk);
		tail = span_skip(tail, QUEUE_CHUNK);
	}
}

static void
entries_put(struct batch *b, const struct queue_accept *a, const uint64_t *lanes)
{
	const size_t count = a->envelope->recipient_count;
	bool *open = arena_alloc(&b->arena, count * sizeof(*open));
	struct key key = key_id(a->id);

	for (size_t i = 0; i < count; i++) {
		struct lane_node *lane = lane_get(b, lanes[i]);

		if (lane == NULL)
			return;
		open[i] = true;
		entry_put(b, lane, a->hold ? DUE_HELD : a->due_ms, a->id, (uint32_t)i, true);
		if (a->hold)
			history_put(b, a->id, (uint32_t)i, &(struct history_record){
				.state = HISTORY_HELD, .lane = lanes[i], .due_ms = DUE_HELD });
	}
	if (count > 1) {
		buf_clear(&b->record);
		left_encode(open, count, &b->record);
		txn_put(&b->txn, TABLE_LEFT, key_span(&key), buf_span(&b->record));
	}
	key = key_sender(a->envelope->reverse_path, a->id);
	txn_put(&b->txn, TABLE_SENDER, key_span(&key), SPAN(""));
}

static int
accept_check(struct batch *b, const struct queue_accept *a, uint64_t cost, bool exempt)
{
	const struct queue *q = b->queue;

	if (a->draft != NULL && a->draft->failed < 0)
		return a->draft->failed;
	if (!q->disk_ok || (!exempt && b->meta.live_bytes + cost > q->quota))
		return -ENOSPC;
	return 0;
}

int
accept_apply(struct batch *b, struct queue_accept *a, bool exempt)
{
	const size_t count = a->envelope->recipient_count;
	const struct span tail = a->draft != NULL ? span_of(a->draft->at, a->draft->len) : a->body;
	struct message_record record = {
		.id = a->id,
		.body = a->id,
		.arrival_ms = a->arrival_ms,
		.due_ms = a->due_ms,
		.flags = a->flags,
		.header_size = a->header.len,
		.body_size = a->draft != NULL ? a->draft->size : a->body.len,
		.client = a->client,
		.user = a->user,
		.by_ms = a->envelope->by_ms,
		.by_mode = a->envelope->by_mode,
	};
	uint64_t *lanes = arena_alloc(&b->arena, count * sizeof(*lanes));
	struct key key = key_id(a->id);
	uint64_t cost, octets = 0;
	int r;

	assert(count > 0);
	r = accept_check(b, a, stored_cost(a->header.len + tail.len), exempt);
	for (size_t i = 0; r == 0 && i < a->note_count; i++)
		r = note_check(b, &a->notes[i], &octets);
	if (r < 0)
		return r;
	for (size_t i = 0; i < a->note_count; i++)
		note_write(b, &a->notes[i]);
	for (size_t i = 0; i < count && b->txn.error == 0; i++) {
		struct lane_node *lane = lane_named(b, &a->lanes[i]);

		lanes[i] = lane != NULL ? lane->id : 0;
	}
	body_put(b, a, tail, &record);
	buf_clear(&b->record);
	message_record_encode(&record, a->envelope, lanes, &b->record);
	cost = stored_cost(buf_len(&b->record)) + body_cost(&record);
	/*
	 * An id twice is a bug of ours that would lose a message: nothing of this batch may stay.
	 */
	if (!txn_put_new(&b->txn, TABLE_MESSAGE, key_span(&key), buf_span(&b->record)))
		txn_fail(&b->txn, -EEXIST);
	entries_put(b, a, lanes);
	moments_put(b, &record);
	if (a->draft != NULL && a->draft->chunks > 0) {
		txn_del(&b->txn, TABLE_DRAFT, key_span(&key));
		b->meta.live_bytes -= a->draft->chunks * stored_cost(QUEUE_CHUNK);
	}
	b->meta.live_bytes += cost;
	b->meta.messages++;
	if (b->meta.last_id < a->id)
		b->meta.last_id = a->id;
	return 0;
}

int
chunk_apply(struct batch *b, struct draft_chunk *chunk)
{
	struct draft *draft = chunk->draft;
	struct key key = key_body(draft->config.id, chunk->n);

	assert(chunk->len == QUEUE_CHUNK);
	if (draft->failed == 0 &&
	    (!b->queue->disk_ok || b->meta.live_bytes + stored_cost(chunk->len) > b->queue->quota))
		draft->failed = -ENOSPC;
	if (draft->failed < 0)
		return draft->failed;
	txn_put(&b->txn, TABLE_BODY, key_span(&key), span_of(chunk->at, chunk->len));
	if (chunk->n == 1) {
		key = key_id(draft->config.id);
		txn_put(&b->txn, TABLE_DRAFT, key_span(&key), SPAN(""));
	}
	b->meta.live_bytes += stored_cost(chunk->len);
	if (b->meta.last_id < draft->config.id)
		b->meta.last_id = draft->config.id;
	return 0;
}

void
draft_delete(struct batch *b, uint64_t id)
{
	struct key key = key_id(id);
	struct cursor c;

	cursor_open(&c, &b->txn, TABLE_BODY, key_span(&key));
	while (cursor_next(&c) && key_starts(c.key, &key)) {
		b->meta.live_bytes -= stored_cost(c.value.len);
		cursor_del(&c);
	}
	cursor_close(&c);
	txn_del(&b->txn, TABLE_DRAFT, key_span(&key));
}

/* ---- settle ------------------------------------------------------------------------------- */

/*
 * When the first recipient of this message became owed, or INT64_MAX: all that are owed share
 * that moment.
 */
static int64_t
owed_since(struct batch *b, const struct message_state *m)
{
	struct key key = key_id(m->id);
	struct history_record h;
	struct cursor c;
	int64_t since = INT64_MAX;

	cursor_open(&c, &b->txn, TABLE_HISTORY, key_span(&key));
	while (since == INT64_MAX && cursor_next(&c) && key_starts(c.key, &key))
		if (history_record_decode(c.value, &b->arena, &h) == 0 && h.state == HISTORY_OWED)
			since = h.owed_since_ms;
	cursor_close(&c);
	return since;
}

void
recipient_owe(struct batch *b, struct message_state *m, uint32_t recipient,
	      struct history_record *h, enum report_action action)
{
	if (m->owed_since_ms == 0)
		m->owed_since_ms = owed_since(b, m);
	if (m->owed_since_ms == INT64_MAX) {
		struct key key = key_timer(b->now_ms, TIMER_REPORT, m->id);

		txn_put(&b->txn, TABLE_TIMER, key_span(&key), SPAN(""));
		m->owed_since_ms = b->now_ms;
	}
	h->state = HISTORY_OWED;
	h->due_ms = 0;
	h->owed_since_ms = m->owed_since_ms;
	h->action = (uint8_t)action;
	history_put(b, m->id, recipient, h);
}

void
recipient_unowe(struct batch *b, struct message_state *m)
{
	struct key key = key_timer(m->owed_since_ms, TIMER_REPORT, m->id);

	if (owed_since(b, m) == INT64_MAX)
		txn_del(&b->txn, TABLE_TIMER, key_span(&key));
}

/*
 * Takes a recipient's entry away. The caller knows where it stands; should it be wrong, its
 * history or the message tells. False: it has none (settled before, or owed).
 */
static bool
entry_take(struct batch *b, struct message_state *m, const struct settle_recipient *s,
	   uint64_t *lane)
{
	struct message_state whole;
	struct history_record h;

	*lane = s->lane;
	if (entry_del(b, s->lane, s->old_due_ms, m->id, s->recipient))
		return true;
	if (b->txn.error != 0 || message_load(b, m->id, true, &whole) < 0)
		return false;
	history_get(b, &whole, s->recipient, &h);
	*lane = h.lane;
	return h.state != HISTORY_OWED && entry_del(b, h.lane, h.due_ms, m->id, s->recipient);
}

static void
settle_end(struct batch *b, struct message_state *m, const struct settle_recipient *s)
{
	uint64_t lane;

	if (!entry_take(b, m, s, &lane))
		return;
	history_del(b, m->id, s->recipient);
	message_end_recipient(m, s->recipient);
}

static void
settle_stay(struct batch *b, struct message_state *m, const struct settle_recipient *s)
{
	struct history_record h;
	struct lane_node *lane;
	uint64_t lane_id;

	if (s->kind == SETTLE_AGAIN && s->due_ms == s->old_due_ms && !s->uncertain)
		return;
	if (!entry_take(b, m, s, &lane_id))
		return;
	lane = lane_get(b, lane_id);
	if (lane == NULL)
		return;
	history_get(b, m, s->recipient, &h);
	h.lane = lane_id;
	h.due_ms = s->due_ms;
	h.uncertain = h.uncertain || s->uncertain;
	if (s->kind == SETTLE_RETRY && s->attempt != NULL)
		history_add_attempt(&h, s->attempt, &b->arena);
	h.state = HISTORY_WAITING;
	entry_put(b, lane, s->due_ms, m->id, s->recipient, false);
	history_put(b, m->id, s->recipient, &h);
}

static void
settle_owe(struct batch *b, struct message_state *m, const struct settle_recipient *s)
{
	struct history_record h;
	uint64_t lane;

	if (!entry_take(b, m, s, &lane))
		return;
	history_get(b, m, s->recipient, &h);
	h.lane = lane;
	h.uncertain = h.uncertain || s->uncertain;
	if (s->attempt != NULL)
		history_add_attempt(&h, s->attempt, &b->arena);
	recipient_owe(b, m, s->recipient, &h, s->action);
}

int
settle_apply(struct batch *b, struct queue_settle *settle)
{
	struct message_state m;
	int r = message_load(b, settle->id, false, &m);

	settle->removed = false;
	taken_settled(b, settle->id);
	if (r < 0)
		return r;
	for (size_t i = 0; i < settle->count; i++) {
		const struct settle_recipient *s = &settle->recipients[i];

		assert(s->recipient < m.recipients);
		if (!m.open[s->recipient])
			continue;
		switch (s->kind) {
		case SETTLE_DELIVERED:
		case SETTLE_ENDED:
			settle_end(b, &m, s);
			break;
		case SETTLE_RETRY:
		case SETTLE_AGAIN:
			settle_stay(b, &m, s);
			break;
		case SETTLE_OWED:
			settle_owe(b, &m, s);
			break;
		}
	}
	settle->removed = message_finish(b, &m);
	return 0;
}

/* ---- report ------------------------------------------------------------------------------- */

static void
report_recipient(struct batch *b, struct message_state *m, uint32_t recipient, bool delay)
{
	struct history_record h;

	if (!m->open[recipient])
		return;
	history_get(b, m, recipient, &h);
	if (delay) {
		h.warned = true;
		history_put(b, m->id, recipient, &h);
		return;
	}
	if (h.state == HISTORY_OWED)
		m->owed_since_ms = h.owed_since_ms;
	else
		entry_del(b, h.lane, h.due_ms, m->id, recipient);
	history_del(b, m->id, recipient);
	message_end_recipient(m, recipient);
}

int
report_apply(struct batch *b, struct queue_report *report)
{
	struct message_state m;
	int r = message_load(b, report->id, true, &m);

	report->removed = false;
	if (r < 0)
		return r;
	if (report->accept != NULL)
		r = accept_apply(b, report->accept, true);
	if (r < 0)
		return r;
	for (size_t i = 0; i < report->count; i++) {
		assert(report->recipients[i] < m.recipients);
		report_recipient(b, &m, report->recipients[i], report->delay);
	}
	if (m.owed_since_ms != 0)
		recipient_unowe(b, &m);
	report->removed = message_finish(b, &m);
	return 0;
}
