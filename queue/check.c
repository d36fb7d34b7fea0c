/*
 * check: is what the tables say of each other true? One read transaction over all of it; for
 * tests, and for an operator in doubt (on a running queue it pins pages while it lasts). Any
 * thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "queue/writer.h"

struct check {
	struct txn txn;
	void (*report)(void *arg, const char *fault);
	void *arg;
	size_t faults;
	uint64_t live_bytes, messages, bodies, lefts, histories;
	uint64_t entries;		/* that open recipients should have */
	struct map sites;		/* of struct site_count */
};

struct site_count {
	struct map_node node;
	uint64_t lanes;
};

__attribute__((format(printf, 2, 3))) static void
fault(struct check *c, const char *format, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	c->faults++;
	if (c->report != NULL)
		c->report(c->arg, text);
}

static bool
has(struct check *c, enum table table, struct key key)
{
	struct span value;

	return txn_get(&c->txn, table, key_span(&key), &value);
}

/* ---- messages ----------------------------------------------------------------------------- */

static void
check_body(struct check *c, const struct message_record *r)
{
	struct span value;

	for (size_t n = 0; n < r->crc_count; n++) {
		struct key key = key_body(r->body, n);

		c->bodies++;
		if (!txn_get(&c->txn, TABLE_BODY, key_span(&key), &value))
			fault(c, "message %" PRIu64 ": body record %zu is missing", r->id, n);
		else if (crc32c(0, value.at, value.len) != r->crcs[n])
			fault(c, "message %" PRIu64 ": body record %zu is damaged", r->id, n);
	}
}

static void
check_recipient(struct check *c, const struct queue_message *m, uint32_t i, struct arena *arena)
{
	const uint64_t id = m->record.id;
	struct history_record h = { .lane = m->lanes[i], .due_ms = m->record.due_ms };
	struct key key = key_history(id, i);
	struct span value;

	if (txn_get(&c->txn, TABLE_HISTORY, key_span(&key), &value)) {
		c->histories++;
		if (history_record_decode(value, arena, &h) < 0)
			fault(c, "message %" PRIu64 " recipient %u: its history is damaged", id, i);
	}
	if (h.state == HISTORY_OWED) {
		if (!has(c, TABLE_TIMER, key_timer(h.owed_since_ms, TIMER_REPORT, id)))
			fault(c,
			      "message %" PRIu64
			      " recipient %u: a report is owed, and no timer says so",
			      id, i);
		return;
	}
	c->entries++;
	if ((h.state == HISTORY_HELD) != (h.due_ms == DUE_HELD))
		fault(c, "message %" PRIu64 " recipient %u: its state and its due time disagree",
		      id, i);
	if (!has(c, TABLE_ENTRY, key_entry(h.lane, h.due_ms, id, i)))
		fault(c, "message %" PRIu64 " recipient %u: no entry in lane %" PRIu64, id, i,
		      h.lane);
}

static void
check_message(struct check *c, uint64_t id, size_t octets)
{
	struct arena arena = { 0 };
	struct queue_message m;
	bool any = false;

	c->messages++;
	if (message_read_row(&c->txn, id, &arena, &m) < 0) {
		fault(c, "message %" PRIu64 ": its record is damaged", id);
		arena_free(&arena);
		return;
	}
	check_body(c, &m.record);
	c->live_bytes += stored_cost(octets);
	c->lefts += m.envelope.recipient_count > 1;
	if (!has(c, TABLE_SENDER, key_sender(m.envelope.reverse_path, id)))
		fault(c, "message %" PRIu64 ": not in the index of senders", id);
	for (uint32_t i = 0; i < m.envelope.recipient_count; i++) {
		any = any || m.open[i];
		if (m.open[i])
			check_recipient(c, &m, i, &arena);
	}
	if (!any)
		fault(c, "message %" PRIu64 ": it has no open recipient", id);
	arena_free(&arena);
}

static void
check_messages(struct check *c)
{
	struct cursor at;

	cursor_open(&at, &c->txn, TABLE_MESSAGE, SPAN(""));
	while (cursor_next(&at))
		check_message(c, key_get_u64(at.key, 0), at.value.len);
	cursor_close(&at);
	cursor_open(&at, &c->txn, TABLE_BODY, SPAN(""));
	while (cursor_next(&at)) {
		c->live_bytes += stored_cost(at.value.len);
		if (has(c, TABLE_DRAFT, key_id(key_get_u64(at.key, 0))))
			c->bodies++;
	}
	cursor_close(&at);
	cursor_open(&at, &c->txn, TABLE_TIMER, SPAN(""));
	while (cursor_next(&at))
		if (!has(c, TABLE_MESSAGE, key_id(key_get_u64(at.key, 9))))
			fault(c,
			      "a report is owed, or a moment asked for, by message %" PRIu64
			      ", which is gone",
			      key_get_u64(at.key, 9));
	cursor_close(&at);
}

/* ---- lanes and sites ---------------------------------------------------------------------- */

static int64_t
later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static uint64_t
entries_of(struct check *c, uint64_t lane)
{
	struct key from = key_id(lane);
	struct cursor at;
	uint64_t count = 0;

	cursor_open(&at, &c->txn, TABLE_ENTRY, key_span(&from));
	while (cursor_next(&at) && key_get_u64(at.key, 0) == lane)
		count++;
	cursor_close(&at);
	return count;
}

static void
site_count_add(struct check *c, uint64_t site)
{
	struct map_node *node = map_find(&c->sites, site);
	struct site_count *count;

	if (node == NULL) {
		count = xcalloc(1, sizeof(*count));
		map_add(&c->sites, &count->node, site);
	} else {
		count = CONTAINER_OF(node, struct site_count, node);
	}
	count->lanes++;
}

/* Returns how many entries it has. */
static uint64_t
check_lane(struct check *c, uint64_t id, const struct lane_record *lane)
{
	const uint64_t entries = entries_of(c, id);
	const int64_t first = first_due(&c->txn, id);
	uint8_t hash[HASH_LEN];

	lane_name_hash(&lane->name, hash);
	site_count_add(c, lane->site);
	if (lane->count != entries)
		fault(c, "lane %" PRIu64 ": counts %" PRIu64 " entries and has %" PRIu64, id,
		      lane->count, entries);
	if (!has(c, TABLE_LANE_HASH, key_hash(hash, id)) ||
	    !has(c, TABLE_LANE_DOMAIN, key_lane_domain(lane->name.domain, id)))
		fault(c, "lane %" PRIu64 ": not found by its name", id);
	if (!has(c, TABLE_SITE, key_id(lane->site)))
		fault(c, "lane %" PRIu64 ": its site %" PRIu64 " is gone", id, lane->site);
	if (lane->asleep_ms != INT64_MAX &&
	    !has(c, TABLE_ASLEEP, key_asleep(lane->site, tenant_mark(lane->name.tenant),
						lane->asleep_ms, id)))
		fault(c, "lane %" PRIu64 ": its row in asleep is gone", id);
	if (!lane->hold && first != INT64_MAX &&
	    lane->asleep_ms > later(first, lane->backoff.next_ms))
		fault(c, "lane %" PRIu64 ": asleep for longer than its first entry", id);
	return entries;
}

static void
check_lanes(struct check *c)
{
	uint64_t entries = 0, lanes = 0, asleep = 0;
	struct lane_record lane;
	struct cursor at;

	cursor_open(&at, &c->txn, TABLE_LANE, SPAN(""));
	while (cursor_next(&at)) {
		lanes++;
		if (lane_record_decode(at.value, NULL, &lane) < 0) {
			fault(c, "lane %" PRIu64 ": its record is damaged", key_get_u64(at.key, 0));
			continue;
		}
		entries += check_lane(c, key_get_u64(at.key, 0), &lane);
		asleep += lane.asleep_ms != INT64_MAX;
	}
	cursor_close(&at);
	if (entries != txn_count(&c->txn, TABLE_ENTRY) || entries != c->entries)
		fault(c,
		      "open recipients should have %" PRIu64 " entries, lanes have %" PRIu64
		      " of %" PRIu64,
		      c->entries, entries, txn_count(&c->txn, TABLE_ENTRY));
	if (asleep != txn_count(&c->txn, TABLE_ASLEEP))
		fault(c, "asleep has rows of no lane");
	if (lanes != txn_count(&c->txn, TABLE_LANE_HASH) ||
	    lanes != txn_count(&c->txn, TABLE_LANE_DOMAIN))
		fault(c, "names lead to lanes that are gone");
}

static void
check_site(struct check *c, uint64_t id, const struct site_record *site)
{
	const int64_t first = first_asleep(&c->txn, id);
	struct map_node *node = map_find(&c->sites, id);
	const uint64_t lanes =
		node != NULL ? CONTAINER_OF(node, struct site_count, node)->lanes : 0;
	uint8_t hash[HASH_LEN];

	site_key_hash(site->key, hash);
	if (site->lanes != lanes)
		fault(c, "site %" PRIu64 ": counts %" PRIu64 " lanes and has %" PRIu64, id,
		      site->lanes, lanes);
	if (id != 0 && !has(c, TABLE_SITE_KEY, key_hash(hash, id)))
		fault(c, "site %" PRIu64 ": not found by its key", id);
	if (site->wake_ms != INT64_MAX && !has(c, TABLE_WAKE, key_wake(site->wake_ms, id)))
		fault(c, "site %" PRIu64 ": its row in wake is gone", id);
	if (!site->state.suspended && first != INT64_MAX &&
	    site->wake_ms > later(first, site->state.backoff.next_ms))
		fault(c, "site %" PRIu64 ": wakes later than it is needed", id);
}

static void
check_sites(struct check *c)
{
	uint64_t sites = 0, wakes = 0;
	struct site_record site;
	struct cursor at;

	cursor_open(&at, &c->txn, TABLE_SITE, SPAN(""));
	while (cursor_next(&at)) {
		sites++;
		if (site_record_decode(at.value, NULL, &site) < 0) {
			fault(c, "site %" PRIu64 ": its record is damaged", key_get_u64(at.key, 0));
			continue;
		}
		check_site(c, key_get_u64(at.key, 0), &site);
		wakes += site.wake_ms != INT64_MAX;
	}
	cursor_close(&at);
	if (wakes != txn_count(&c->txn, TABLE_WAKE))
		fault(c, "wake has rows of no site");
	if (sites != txn_count(&c->txn, TABLE_SITE_KEY) + 1)
		fault(c, "keys lead to sites that are gone");
}

static void
check_notes(struct check *c)
{
	struct span value;
	struct cursor at;

	cursor_open(&at, &c->txn, TABLE_NOTE, SPAN(""));
	while (cursor_next(&at)) {
		if (at.key.len < 2)
			fault(c, "a note has no key");
		else if (note_record_decode(at.value, &value) < 0)
			fault(c, "a note of kind %u is damaged", (unsigned char)at.key.at[0]);
	}
	cursor_close(&at);
}

/* ---- all of it ---------------------------------------------------------------------------- */

static void
check_counts(struct check *c)
{
	const struct { enum table table; uint64_t count; const char *name; } rows[] = {
		{ TABLE_BODY, c->bodies, "body" }, { TABLE_LEFT, c->lefts, "left" },
		{ TABLE_HISTORY, c->histories, "history" }, { TABLE_SENDER, c->messages, "sender" },
	};
	struct meta_record meta = { 0 };
	struct span value;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (txn_count(&c->txn, rows[i].table) != rows[i].count)
			fault(c, "%s has %" PRIu64 " rows, %" PRIu64 " belong to messages",
			      rows[i].name, txn_count(&c->txn, rows[i].table), rows[i].count);
	if (!txn_get(&c->txn, TABLE_META, SPAN("state"), &value) ||
	    meta_record_decode(value, &meta) < 0)
		fault(c, "the state of the store is damaged");
	if (meta.messages != c->messages)
		fault(c, "%" PRIu64 " messages are counted, %" PRIu64 " are there", meta.messages,
		      c->messages);
	if (meta.live_bytes != c->live_bytes)
		fault(c, "%" PRIu64 " live octets are counted, %" PRIu64 " are there",
		      meta.live_bytes, c->live_bytes);
}

int
queue_check(struct queue *queue, void (*report)(void *arg, const char *fault), void *arg)
{
	struct check c = { .report = report, .arg = arg };
	struct map_node *node;
	int r = txn_reader(queue->store, &c.txn);

	if (r < 0)
		return r;
	check_messages(&c);
	check_lanes(&c);
	check_sites(&c);
	check_notes(&c);
	check_counts(&c);
	if (c.txn.error != 0)
		fault(&c, "the file is damaged: a table cannot be read to its end");
	txn_abort(&c.txn);
	while ((node = map_any(&c.sites)) != NULL) {
		map_remove(&c.sites, node);
		free(CONTAINER_OF(node, struct site_count, node));
	}
	map_free(&c.sites);
	return c.faults > 0 ? -EBADMSG : 0;
}
