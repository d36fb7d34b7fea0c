/* queue: accept, settle, report, edit, lanes and sites, reads, drafts; after each test every invariant is checked. */
#include <errno.h>
#include <pthread.h>

#include "mta/base/list.h"
#include "tests/unit/queue_fixture.h"

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	fixture_init(f);
	fixture_open(f);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	fixture_settle(f);
	fixture_check(f);
	fixture_free(f);
	free(f);
	return 0;
}

static void
accepts_and_reads_back(void **state)
{
	static const size_t sizes[] = { 0, 1, 4096, 65520 - 33, 65520 - 32, 65520, 65521, 200000, 131040 };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct queue_accept a;
		struct buf content = { 0 };
		struct queue_message m;

		fixture_message(f, &a, 1 + i, 2, sizes[i]);
		assert_int_equal(fixture_accept(f, &a), 0);
		assert_int_equal(queue_read_message(f->port, a.id, &f->arena, &m), 0);
		assert_int_equal(m.envelope.recipient_count, 1 + i);
		assert_true(span_eq(m.envelope.reverse_path, SPAN("sender@from.example")));
		assert_true(m.open[i]);
		assert_int_equal(fixture_content(f, a.id, &content), 0);
		assert_int_equal(buf_len(&content), a.header.len + sizes[i]);
		assert_memory_equal(content.at, a.header.at, a.header.len);
		assert_memory_equal(content.at + a.header.len, a.body.at, sizes[i]);
		buf_free(&content);
	}
	assert_int_equal(f->arrival_count, 45);
}

static void
nothing_is_there_at_first(void **state)
{
	struct fixture *f = *state;
	struct queue_message m;
	struct queue_wake wake;
	struct queue_facts facts;
	size_t count;

	assert_int_equal(queue_read_message(f->port, 1, &f->arena, &m), -ENOENT);
	assert_int_equal(queue_read_wakes(f->port, NULL, INT64_MAX, &wake, 1, &count), 0);
	assert_int_equal(count, 0);
	queue_facts(f->queue, &facts);
	assert_int_equal(facts.messages, 0);
	assert_true(facts.clean_start);
	assert_true(queue_has_room(f->queue, 1 << 20));
	assert_false(queue_has_room(f->queue, (128 << 20) + 1));
}

static void
wakes_and_entries_lead_to_a_message(void **state)
{
	struct fixture *f = *state;
	const uint64_t id = fixture_deliverable(f, 1, 1, 100);
	struct queue_wake wake[4];
	struct queue_asleep asleep[4];
	int64_t next = INT64_MAX;
	struct queue_entry entry[4];
	size_t count, tenants = 0;

	assert_int_equal(queue_read_wakes(f->port, NULL, wall_ms() + 1000, wake, 4, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(wake[0].site, 0);
	assert_int_equal(queue_read_asleep(f->port, 0, &(struct queue_asleep){ 0 }, INT64_MAX, asleep, 4, &count,
					   &next, &tenants), 0);
	assert_int_equal(count, 1);
	assert_int_equal(queue_read_entries(f->port, asleep[0].lane, NULL, entry, 4, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(entry[0].id, id);
	assert_int_equal(f->arrivals[0].id, id);
	assert_int_equal(f->arrivals[0].lane, entry[0].lane);
	assert_int_equal(f->arrivals[0].due_ms, entry[0].due_ms);
}

static void
delivered_is_gone(void **state)
{
	struct fixture *f = *state;
	const uint64_t id = fixture_deliverable(f, 1, 1, 100000);
	struct queue_message m;
	struct queue_facts facts;
	bool removed = false;

	assert_int_equal(fixture_settle_one(f, id, 0, (struct settle_recipient){ .kind = SETTLE_DELIVERED }, &removed), 0);
	assert_true(removed);
	assert_int_equal(queue_read_message(f->port, id, &f->arena, &m), -ENOENT);
	queue_facts(f->queue, &facts);
	assert_int_equal(facts.messages, 0);
	assert_int_equal(facts.live_bytes, 0);
}

static void
the_last_of_several_removes_it(void **state)
{
	struct fixture *f = *state;
	const uint64_t id = fixture_deliverable(f, 20, 3, 100);
	struct queue_message m;
	bool removed = true;

	for (uint32_t i = 0; i < 20; i++) {
		const struct settle_recipient s = { .kind = i % 2 ? SETTLE_DELIVERED : SETTLE_ENDED };

		assert_int_equal(fixture_settle_one(f, id, i, s, &removed), 0);
		assert_int_equal(removed, i == 19);
		fixture_check(f);
	}
	assert_int_equal(queue_read_message(f->port, id, &f->arena, &m), -ENOENT);
}

static void
a_retry_is_remembered(void **state)
{
	struct fixture *f = *state;
	const uint64_t id = fixture_deliverable(f, 1, 1, 100);
	const struct attempt attempt = { .at_ms = 5, .host = SPAN("mx.example"), .address = SPAN("192.0.2.1:25"),
					 .code = 451, .status = { 4, 3, 2 }, .text = SPAN("later") };
	struct history_record h;

	for (int i = 1; i <= 20; i++) {
		const struct settle_recipient s = { .kind = SETTLE_RETRY, .due_ms = wall_ms() + i * 1000,
						    .attempt = &attempt, .uncertain = i == 7 };

		assert_int_equal(fixture_settle_one(f, id, 0, s, NULL), 0);
		assert_int_equal(queue_read_history(f->port, id, 0, &f->arena, &h), 0);
		assert_int_equal(h.attempt_count, i);
		assert_int_equal(h.due_ms, s.due_ms);
		assert_int_equal(h.uncertain, i >= 7);
	}
	assert_int_equal(h.kept, HISTORY_FIRST + HISTORY_LAST);
	assert_true(span_eq(h.attempts[0].text, SPAN("later")));
	assert_int_equal(h.attempts[0].status.detail, 2);
}

static void
again_writes_only_what_changed(void **state)
{
	struct fixture *f = *state;
	const uint64_t id = fixture_deliverable(f, 1, 1, 100);
	struct history_record h;

	assert_int_equal(fixture_settle_one(f, id, 0, (struct settle_recipient){ .kind = SETTLE_AGAIN }, NULL), 0);
	assert_int_equal(queue_read_history(f->port, id, 0, &f->arena, &h), -ENOENT);
	assert_int_equal(fixture_settle_one(f, id, 0, (struct settle_recipient){ .kind = SETTLE_AGAIN, .due_ms = 77 },
					    NULL), 0);
	assert_int_equal(queue_read_history(f->port, id, 0, &f->arena, &h), 0);
	assert_int_equal(h.attempt_count, 0);
	assert_int_equal(h.due_ms, 77);
}

static void
a_wrong_place_is_found_again(void **state)
{
	struct fixture *f = *state;
	const uint64_t id = fixture_deliverable(f, 1, 1, 100);
	struct settle_recipient s = { .kind = SETTLE_DELIVERED, .lane = 4711, .old_due_ms = 3 };
	struct queue_settle settle = { .id = id, .recipients = &s, .count = 1 };

	queue_submit_settle(f->port, &settle);
	fixture_settle(f);
	assert_int_equal(settle.op.result, 0);
	assert_true(settle.removed);
	queue_submit_settle(f->port, &settle);
	fixture_settle(f);
	assert_int_equal(settle.op.result, -ENOENT);
}

static void
owed_then_reported(void **state)
{
	struct fixture *f = *state;
	const uint64_t id = fixture_deliverable(f, 3, 2, 100);
	const uint32_t first[] = { 0, 1 }, last[] = { 2 };
	struct queue_accept dsn;
	struct queue_report report = { .id = id, .recipients = first, .count = 2, .accept = &dsn };
	struct queue_owed owed[4];
	struct queue_message m;
	size_t count;

	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(fixture_settle_one(f, id, i, (struct settle_recipient){
			.kind = SETTLE_OWED, .action = REPORT_FAILED }, NULL), 0);
	fixture_check(f);
	assert_int_equal(queue_read_owed(f->port, NULL, owed, 4, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(owed[0].id, id);
	fixture_message(f, &dsn, 1, 1, 50);
	queue_submit_report(f->port, &report);
	fixture_settle(f);
	assert_int_equal(report.op.result, 0);
	assert_false(report.removed);
	fixture_check(f);
	assert_int_equal(queue_read_message(f->port, dsn.id, &f->arena, &m), 0);
	report = (struct queue_report){ .id = id, .recipients = last, .count = 1 };
	queue_submit_report(f->port, &report);
	fixture_settle(f);
	assert_true(report.removed);
	assert_int_equal(queue_read_owed(f->port, NULL, owed, 4, &count), 0);
	assert_int_equal(count, 0);
}

static void
a_delay_warning_marks(void **state)
{
	struct fixture *f = *state;
	const uint64_t id = fixture_deliverable(f, 1, 1, 100);
	const uint32_t recipient = 0;
	struct queue_report report = { .id = id, .recipients = &recipient, .count = 1, .delay = true };
	struct history_record h;

	queue_submit_report(f->port, &report);
	fixture_settle(f);
	assert_int_equal(report.op.result, 0);
	assert_int_equal(queue_read_history(f->port, id, 0, &f->arena, &h), 0);
	assert_true(h.warned);
	assert_int_equal(h.state, HISTORY_WAITING);
}

/* ---- lanes and sites ---- */

static uint64_t
move_lane(struct fixture *f, uint64_t lane, struct span key)
{
	struct queue_lane_change change = { .lane = lane, .set_site = true, .site_key = key };

	queue_submit_lane(f->port, &change);
	fixture_settle(f);
	assert_int_equal(change.op.result, 0);
	assert_false(change.gone);
	return change.site_id;
}

static void
a_lane_moves_between_sites(void **state)
{
	struct fixture *f = *state;
	struct site_record site;
	struct queue_wake wake[4];
	size_t count;
	uint64_t a, b, lane, found;

	fixture_deliverable(f, 1, 1, 100);
	lane = f->arrivals[0].lane;
	a = move_lane(f, lane, SPAN("mx:a.example"));
	assert_int_not_equal(a, 0);
	fixture_check(f);
	assert_int_equal(move_lane(f, lane, SPAN("mx:a.example")), a);
	b = move_lane(f, lane, SPAN("mx:b.example"));
	assert_int_not_equal(a, b);
	assert_int_equal(queue_read_site(f->port, a, &f->arena, &site), -ENOENT);
	assert_int_equal(queue_find_site(f->port, SPAN("mx:b.example"), &found), 0);
	assert_int_equal(found, b);
	assert_int_equal(queue_read_wakes(f->port, NULL, wall_ms(), wake, 4, &count), 0);
	assert_true(count >= 1);
	assert_int_equal(wake[count - 1].site, b);
	fixture_deliverable(f, 1, 1, 100);
	assert_int_equal(f->arrivals[1].site, b);
}

static void
a_site_in_backoff_has_one_row(void **state)
{
	struct fixture *f = *state;
	const int64_t probe = wall_ms() + 60000;
	struct queue_site_change change = { .state.backoff = { probe, 1, SPAN("refused") }, .wake_ms = probe };
	struct queue_wake wake[4];
	struct site_record site;
	size_t count;

	fixture_deliverable(f, 1, 1, 100);
	change.site = move_lane(f, f->arrivals[0].lane, SPAN("static:x"));
	queue_submit_site(f->port, &change);
	for (int i = 0; i < 10; i++)
		fixture_deliverable(f, 1, 1, 100);
	fixture_check(f);
	assert_int_equal(queue_read_site(f->port, change.site, &f->arena, &site), 0);
	assert_int_equal(site.wake_ms, probe);
	assert_true(span_eq(site.state.backoff.text, SPAN("refused")));
	assert_int_equal(queue_read_wakes(f->port, NULL, INT64_MAX, wake, 4, &count), 0);
	assert_int_equal(wake[count - 1].at_ms, probe);
	/* Success: nothing holds it back, so it may not sleep longer than what waits. */
	change = (struct queue_site_change){ .site = change.site, .wake_ms = INT64_MAX - 1 };
	queue_submit_site(f->port, &change);
	fixture_settle(f);
	assert_int_equal(queue_read_site(f->port, change.site, &f->arena, &site), 0);
	assert_true(site.wake_ms <= wall_ms());
}

static void
an_empty_lane_is_deleted(void **state)
{
	struct fixture *f = *state;
	const uint64_t id = fixture_deliverable(f, 1, 1, 100);
	struct queue_lane_change change = { .lane = f->arrivals[0].lane, .set_due = true, .due_ms = INT64_MAX };
	struct lane_record lane;
	struct site_record site;
	const uint64_t a = move_lane(f, change.lane, SPAN("mx:a.example"));

	queue_submit_lane(f->port, &change);
	fixture_settle(f);
	assert_false(change.gone);
	assert_int_equal(queue_read_lane(f->port, change.lane, &f->arena, &lane), 0);
	assert_int_equal(lane.asleep_ms, f->arrivals[0].due_ms);
	assert_int_equal(fixture_settle_one(f, id, 0, (struct settle_recipient){ .kind = SETTLE_DELIVERED }, NULL), 0);
	assert_int_equal(queue_read_lane(f->port, change.lane, &f->arena, &lane), 0);
	assert_int_equal(lane.count, 0);
	queue_submit_lane(f->port, &change);
	fixture_settle(f);
	assert_true(change.gone);
	assert_int_equal(queue_read_lane(f->port, change.lane, &f->arena, &lane), -ENOENT);
	assert_int_equal(queue_read_site(f->port, a, &f->arena, &site), -ENOENT);
	queue_submit_lane(f->port, &change);
	fixture_settle(f);
	assert_true(change.gone);
}

static void
a_lane_backs_off_and_holds(void **state)
{
	struct fixture *f = *state;
	const int64_t next = wall_ms() + 300000;
	struct queue_lane_change change = { .set_backoff = true, .backoff = { next, 2, SPAN("SERVFAIL") } };
	struct lane_record lane;

	fixture_deliverable(f, 1, 1, 100);
	change.lane = f->arrivals[0].lane;
	queue_submit_lane(f->port, &change);
	fixture_settle(f);
	assert_int_equal(queue_read_lane(f->port, change.lane, &f->arena, &lane), 0);
	assert_int_equal(lane.asleep_ms, next);
	assert_true(span_eq(lane.backoff.text, SPAN("SERVFAIL")));
	change = (struct queue_lane_change){ .lane = change.lane, .set_hold = true, .hold = true };
	queue_submit_lane(f->port, &change);
	fixture_deliverable(f, 1, 1, 100);
	assert_int_equal(queue_read_lane(f->port, change.lane, &f->arena, &lane), 0);
	assert_int_equal(lane.asleep_ms, INT64_MAX);
	fixture_check(f);
	change.hold = false;
	queue_submit_lane(f->port, &change);
	fixture_settle(f);
	assert_int_equal(queue_read_lane(f->port, change.lane, &f->arena, &lane), 0);
	assert_int_equal(lane.asleep_ms, next);
}

/* ---- edits ---- */

static size_t
edit(struct fixture *f, struct queue_edit *e)
{
	size_t changed = 0;

	do {
		queue_submit_edit(f->port, e);
		fixture_settle(f);
		assert_int_equal(e->op.result, 0);
		assert_true(e->changed <= 500);
		changed += e->changed;
		fixture_check(f);
	} while (e->more);
	return changed;
}

static void
hold_and_release(void **state)
{
	struct fixture *f = *state;
	const uint64_t id = fixture_deliverable(f, 3, 2, 10);
	struct queue_edit e = { .kind = EDIT_HOLD, .ids = &id, .count = 1, .only_recipient = UINT32_MAX };
	struct queue_entry entries[8];
	struct history_record h;
	size_t count;

	assert_int_equal(edit(f, &e), 3);
	assert_int_equal(queue_read_history(f->port, id, 1, &f->arena, &h), 0);
	assert_int_equal(h.state, HISTORY_HELD);
	assert_int_equal(queue_read_entries(f->port, h.lane, NULL, entries, 8, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(queue_walk_recipient_domain(f->port, SPAN("example"), true, NULL, entries, 8, &count), 0);
	assert_int_equal(count, 3);
	f->arrival_count = 0;
	e = (struct queue_edit){ .kind = EDIT_RELEASE, .ids = &id, .count = 1, .only_recipient = 1, .due_ms = wall_ms() };
	assert_int_equal(edit(f, &e), 1);
	assert_int_equal(f->arrival_count, 1);
	assert_int_equal(queue_read_entries(f->port, h.lane, NULL, entries, 8, &count), 0);
	assert_int_equal(count, 1);
}

static void
bulk_goes_in_slices(void **state)
{
	struct fixture *f = *state;
	uint64_t ids[3];
	struct queue_edit e = { .kind = EDIT_RETRY, .ids = ids, .count = 3, .only_recipient = UINT32_MAX, .due_ms = 12345 };
	const struct attempt attempt = { .at_ms = 9, .text = SPAN("expired") };
	struct queue_owed owed[4];
	struct queue_facts facts;
	size_t count;

	for (size_t i = 0; i < 3; i++)
		ids[i] = fixture_deliverable(f, 400, 7, 10);
	assert_int_equal(edit(f, &e), 1200);
	e = (struct queue_edit){ .kind = EDIT_FAIL, .ids = ids, .count = 2, .only_recipient = UINT32_MAX,
				 .attempt = &attempt };
	assert_int_equal(edit(f, &e), 800);
	assert_int_equal(queue_read_owed(f->port, NULL, owed, 4, &count), 0);
	assert_int_equal(count, 2);
	e = (struct queue_edit){ .kind = EDIT_REMOVE, .ids = ids, .count = 3, .only_recipient = UINT32_MAX };
	assert_int_equal(edit(f, &e), 1200);
	queue_facts(f->queue, &facts);
	assert_int_equal(facts.messages, 0);
	assert_int_equal(facts.live_bytes, 0);
}

static void
a_recipient_moves_to_another_lane(void **state)
{
	struct fixture *f = *state;
	const uint64_t id = fixture_deliverable(f, 2, 1, 10);
	const struct lane_name to = { .domain = SPAN("domain0.example"), .route = SPAN("domain0.example") };
	struct queue_edit e = { .kind = EDIT_MOVE, .ids = &id, .count = 1, .only_recipient = UINT32_MAX, .lane = &to,
				.from_lane = f->arrivals[0].lane };
	struct history_record h;
	uint64_t lane;

	assert_int_equal(edit(f, &e), 2);
	assert_int_equal(queue_find_lane(f->port, &to, &lane), 0);
	assert_int_equal(queue_read_history(f->port, id, 1, &f->arena, &h), 0);
	assert_int_equal(h.lane, lane);
	assert_int_equal(h.due_ms, f->arrivals[0].due_ms);
	assert_int_equal(fixture_settle_one(f, id, 1, (struct settle_recipient){ .kind = SETTLE_DELIVERED }, NULL), 0);
}

/* Held ones, too; what has it already, or is a report, stays. */
static void
recipients_get_another_priority(void **state)
{
	struct fixture *f = *state;
	const uint64_t id = fixture_deliverable(f, 2, 1, 10);
	struct queue_edit e = { .kind = EDIT_HOLD, .ids = &id, .count = 1, .only_recipient = 1 };
	struct lane_record before, after;
	struct history_record h;

	assert_int_equal(queue_read_lane(f->port, f->arrivals[0].lane, &f->arena, &before), 0);
	assert_int_equal(edit(f, &e), 1);
	e = (struct queue_edit){ .kind = EDIT_PRIORITY, .ids = &id, .count = 1, .only_recipient = UINT32_MAX,
				 .priority = priority_of_mt(-4) };
	assert_int_equal(edit(f, &e), 2);
	e.resume = 0;
	assert_int_equal(edit(f, &e), 0);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(queue_read_history(f->port, id, i, &f->arena, &h), 0);
		assert_int_equal(h.due_ms, i == 0 ? f->arrivals[0].due_ms : DUE_HELD);
		assert_int_equal(queue_read_lane(f->port, h.lane, &f->arena, &after), 0);
		assert_int_equal(priority_mt(after.name.priority), -4);
		after.name.priority = before.name.priority;
		assert_true(lane_name_eq(&after.name, &before.name));
	}
}

struct counted_edit {
	struct queue_edit edit;
	struct fixture *fixture;
	size_t arrivals;		/* that had been told by then */
};

static void
count_arrivals(struct queue_op *op)
{
	struct counted_edit *e = CONTAINER_OF(op, struct counted_edit, edit.op);

	e->arrivals = e->fixture->arrival_count;
}

/* Else who asked for the edit would take the entry, told of after it, for one that is there. */
static void
an_arrival_is_told_before_its_edit(void **state)
{
	struct fixture *f = *state;
	uint64_t id;
	struct counted_edit e = { .fixture = f, .arrivals = 99 };
	struct queue_accept a;

	fixture_message(f, &a, 1, 1, 10);
	id = a.id;
	e.edit = (struct queue_edit){ .op.done = count_arrivals, .kind = EDIT_HOLD, .ids = &id, .count = 1,
				      .only_recipient = UINT32_MAX };
	queue_submit_accept(f->port, &a);
	queue_submit_edit(f->port, &e.edit);		/* both are in one batch */
	fixture_settle(f);
	assert_int_equal(e.edit.changed, 1);
	assert_int_equal(e.arrivals, 1);
}

/* ---- drafts ---- */

static void
count_room(void *arg)
{
	++*(int *)arg;
}

static void
a_draft_streams_out(void **state)
{
	static const size_t sizes[] = { 0, 10, 65520, 65521, 131040, 1000000 };
	struct fixture *f = *state;

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct buf content = { 0 };
		struct queue_accept a;
		struct draft *draft;
		int rooms = 0;

		fixture_message(f, &a, 1, 1, sizes[s]);
		draft = draft_begin(&(struct draft_config){ .port = f->port, .id = a.id, .room = count_room, .arg = &rooms });
		for (size_t at = 0; at < sizes[s]; at += 7000) {
			if (draft_full(draft))
				fixture_settle(f);
			assert_false(draft_full(draft));
			draft_append(draft, span_first(span_skip(a.body, at), 7000));
			assert_true(draft_memory(draft) <= 3 * QUEUE_CHUNK);
		}
		a.draft = draft;
		assert_int_equal(fixture_accept(f, &a), 0);
		assert_int_equal(rooms > 0, sizes[s] > 500000);
		assert_int_equal(fixture_content(f, a.id, &content), 0);
		assert_int_equal(buf_len(&content), a.header.len + sizes[s]);
		assert_memory_equal(content.at + a.header.len, a.body.at, sizes[s]);
		buf_free(&content);
		fixture_check(f);
	}
}

static void
an_aborted_draft_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	char *octets = calloc(1, 300000);
	struct queue_facts facts;

	for (size_t size = 0; size <= 300000; size += 150000) {
		struct draft *draft = draft_begin(&(struct draft_config){ .port = f->port, .id = queue_next_id(f->queue) });

		draft_append(draft, span_of(octets, size));
		draft_abort(draft);
	}
	fixture_settle(f);
	queue_facts(f->queue, &facts);
	assert_int_equal(facts.live_bytes, 0);
	free(octets);
}

/* ---- walks ---- */

static void
pages_go_on_where_they_ended(void **state)
{
	struct fixture *f = *state;
	struct queue_entry after = { 0 }, page[3];
	uint64_t last = 0, ids[3], from = 0;
	size_t count, seen = 0;

	for (int i = 0; i < 10; i++)
		fixture_deliverable(f, 2, 2, 10);
	do {
		assert_int_equal(queue_walk_messages(f->port, last, UINT64_MAX, ids, 3, &count), 0);
		for (size_t i = 0; i < count; i++, seen++) {
			assert_true(ids[i] > last);
			last = ids[i];
		}
	} while (count == 3);
	assert_int_equal(seen, 10);
	seen = 0;
	do {
		assert_int_equal(queue_walk_recipient_domain(f->port, SPAN("example"), true, &after, page, 3, &count), 0);
		seen += count;
		if (count > 0)
			after = page[count - 1];
	} while (count == 3);
	assert_int_equal(seen, 20);
	assert_int_equal(queue_walk_recipient_domain(f->port, SPAN("example"), false, NULL, page, 3, &count), 0);
	assert_int_equal(count, 0);
	seen = 0;
	do {
		assert_int_equal(queue_walk_sender(f->port, SPAN("sender@from.example"), from, ids, 3, &count), 0);
		seen += count;
		from = count > 0 ? ids[count - 1] : from;
	} while (count == 3);
	assert_int_equal(seen, 10);
	assert_int_equal(queue_walk_sender(f->port, SPAN("from.example"), 0, ids, 3, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(queue_walk_sender(f->port, SPAN("other@from.example"), 0, ids, 3, &count), 0);
	assert_int_equal(count, 0);
}

static void
cursors_are_kept(void **state)
{
	struct fixture *f = *state;
	struct queue_cursor_set set = { .expiry_id = 7 };
	uint64_t expiry, delay;

	queue_submit_cursors(f->port, &set);
	fixture_settle(f);
	fixture_close(f);
	fixture_open(f);
	assert_int_equal(queue_read_cursors(f->port, &expiry, &delay), 0);
	assert_int_equal(expiry, 7);
	assert_int_equal(delay, 0);
}

/* ---- several threads ---- */

enum { THREADS = 3, PER_THREAD = 300 };

struct worker {
	struct queue *queue;
	pthread_t thread;
	int event;
	unsigned accepted, settled;
};

struct work {
	struct queue_accept accept;
	struct queue_settle settle;
	struct settle_recipient recipient;
	struct worker *worker;
	bool done;
};

static void
work_settled(struct queue_op *op)
{
	struct work *w = CONTAINER_OF(op, struct work, settle.op);

	w->worker->settled += op->result == 0 && w->settle.removed;
	w->done = true;
}

static void
work_accepted(struct queue_op *op)
{
	struct work *w = CONTAINER_OF(op, struct work, accept.op);
	struct queue_port *port = op->port;

	w->worker->accepted += op->result == 0;
	queue_taken(port, &w->accept.id, 1);
	w->settle = (struct queue_settle){ .op.done = work_settled, .id = w->accept.id, .recipients = &w->recipient, .count = 1 };
	w->recipient = (struct settle_recipient){ .kind = SETTLE_DELIVERED, .old_due_ms = w->accept.due_ms };
	queue_submit_settle(port, &w->settle);
}

static void *
worker_main(void *arg)
{
	static const struct recipient recipient = { .address = { "r@to.example", 12 } };
	static const struct lane_name lane = { .domain = { "to.example", 10 }, .route = { "*", 1 } };
	const struct envelope envelope = { .recipients = (struct recipient *)(uintptr_t)&recipient, .recipient_count = 1 };
	struct worker *worker = arg;
	struct work *works = calloc(PER_THREAD, sizeof(*works));
	struct queue_port *port;
	uint64_t n;

	assert_int_equal(queue_port_open(worker->queue, fixture_wake, &worker->event, &port), 0);
	for (size_t i = 0; i < PER_THREAD; i++) {
		works[i].worker = worker;
		works[i].accept = (struct queue_accept){
			.op.done = work_accepted, .id = queue_next_id(worker->queue), .arrival_ms = 1, .due_ms = 1,
			.envelope = &envelope, .lanes = &lane, .header = SPAN("A: b\r\n\r\n"), .body = SPAN("body\r\n") };
		queue_submit_accept(port, &works[i].accept);
		if (i % 10 == 0) {
			queue_port_flush(port);
			queue_port_run(port);
		}
	}
	queue_port_flush(port);
	while (queue_port_busy(port)) {
		assert_int_equal(read(worker->event, &n, sizeof(n)), sizeof(n));
		queue_port_run(port);
		queue_port_flush(port);
	}
	queue_port_close(port);
	free(works);
	return NULL;
}

static void
several_ports_at_once(void **state)
{
	struct fixture *f = *state;
	struct worker workers[THREADS];
	struct queue_facts facts;

	for (int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .queue = f->queue, .event = eventfd(0, 0) };
		pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
	}
	for (int i = 0; i < 50; i++) {
		queue_facts(f->queue, &facts);
		fixture_deliverable(f, 1, 1, 100);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		close(workers[i].event);
		assert_int_equal(workers[i].accepted, PER_THREAD);
		assert_int_equal(workers[i].settled, PER_THREAD);
	}
	queue_facts(f->queue, &facts);
	assert_int_equal(facts.messages, 50);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(accepts_and_reads_back), TEST(nothing_is_there_at_first), TEST(wakes_and_entries_lead_to_a_message),
		TEST(delivered_is_gone), TEST(the_last_of_several_removes_it), TEST(a_retry_is_remembered),
		TEST(again_writes_only_what_changed), TEST(a_wrong_place_is_found_again), TEST(owed_then_reported),
		TEST(a_delay_warning_marks), TEST(a_lane_moves_between_sites), TEST(a_site_in_backoff_has_one_row),
		TEST(an_empty_lane_is_deleted), TEST(a_lane_backs_off_and_holds), TEST(hold_and_release),
		TEST(bulk_goes_in_slices), TEST(a_recipient_moves_to_another_lane), TEST(recipients_get_another_priority),
		TEST(an_arrival_is_told_before_its_edit), TEST(a_draft_streams_out),
		TEST(an_aborted_draft_leaves_nothing), TEST(pages_go_on_where_they_ended), TEST(cursors_are_kept),
		TEST(several_ports_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
