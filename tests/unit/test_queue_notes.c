/*
 * notes: put, replaced, removed, read by prefix in pages; bounded; committed with an accept or not
 * at all; kept over a kill; a store from before there were notes opens; salvage passes them over.
 */
#include <lmdb.h>
#include <signal.h>
#include <sys/wait.h>

#include "queue/key.h"
#include "queue/reader.h"
#include "queue_fixture.h"

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	fixture_init(f);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	if (f->queue != NULL)
		fixture_check(f);
	fixture_free(f);
	free(f);
	return 0;
}

static int
put(struct fixture *f, uint8_t kind, struct span key, struct span value)
{
	struct queue_note note = { .op.urgent = true, .kind = kind, .key = key, .value = value };

	queue_submit_note(f->port, &note);
	fixture_settle(f);
	return note.op.result;
}

static int
take_away(struct fixture *f, uint8_t kind, struct span key)
{
	struct queue_note note = { .kind = kind, .key = key, .remove = true };

	queue_submit_note(f->port, &note);
	fixture_settle(f);
	return note.op.result;
}

static bool
is(struct fixture *f, enum note_kind kind, struct span key, struct span value)
{
	struct buf out = { 0 };
	bool same =
		queue_read_note(f->port, kind, key, &out) == 0 && span_eq(buf_span(&out), value);

	buf_free(&out);
	return same;
}

static void
kept_replaced_and_removed(void **state)
{
	struct fixture *f = *state;
	struct buf out = { 0 };

	fixture_open(f);
	assert_int_equal(put(f, NOTE_STS_POLICY, SPAN("a.example"), SPAN("one")), 0);
	assert_int_equal(put(f, NOTE_TLS_REPORT, SPAN("a.example"), SPAN("other kind")), 0);
	assert_int_equal(put(f, NOTE_STS_POLICY, SPAN("a.example"), SPAN("two")), 0);
	assert_int_equal(put(f, NOTE_STS_POLICY, SPAN("empty"), SPAN("")), 0);
	fixture_close(f);
	fixture_open(f);
	assert_true(is(f, NOTE_STS_POLICY, SPAN("a.example"), SPAN("two")));
	assert_true(is(f, NOTE_STS_POLICY, SPAN("empty"), SPAN("")));
	assert_int_equal(take_away(f, NOTE_STS_POLICY, SPAN("a.example")), 0);
	assert_int_equal(take_away(f, NOTE_STS_POLICY, SPAN("a.example")), 0);
	assert_int_equal(queue_read_note(f->port, NOTE_STS_POLICY, SPAN("a.example"), &out),
			 -ENOENT);
	assert_true(is(f, NOTE_TLS_REPORT, SPAN("a.example"), SPAN("other kind")));
}

static void
too_long_is_refused(void **state)
{
	struct fixture *f = *state;
	static char octets[NOTE_VALUE_MAX + 1];

	fixture_open(f);
	assert_int_equal(put(f, 1, SPAN(""), SPAN("x")), -EMSGSIZE);
	assert_int_equal(put(f, 1, span_of(octets, NOTE_KEY_MAX + 1), SPAN("x")), -EMSGSIZE);
	assert_int_equal(put(f, 1, SPAN("x"), span_of(octets, NOTE_VALUE_MAX + 1)), -EMSGSIZE);
	assert_int_equal(put(f, 1, span_of(octets, NOTE_KEY_MAX), span_of(octets, NOTE_VALUE_MAX)),
			 0);
	assert_true(is(f, 1, span_of(octets, NOTE_KEY_MAX), span_of(octets, NOTE_VALUE_MAX)));
}

enum { EACH = 40 };			/* notes of a transaction */

/* A transaction of them, from the key `from` on. */
static int
put_each(struct fixture *f, uint8_t kind, size_t from)
{
	static char octets[NOTE_VALUE_MAX], keys[EACH][16];
	struct queue_note notes[EACH];

	for (size_t i = 0; i < EACH; i++) {
		snprintf(keys[i], sizeof(keys[i]), "%zu", from + i);
		notes[i] = (struct queue_note){ .kind = kind, .key = span_str(keys[i]),
						.value = span_of(octets, sizeof(octets)) };
	}
	notes[0].op.urgent = true;
	notes[0].more = &notes[1];
	notes[0].more_count = EACH - 1;
	queue_submit_note(f->port, &notes[0]);
	fixture_settle(f);
	return notes[0].op.result;
}

/* Their keys are made up by whoever sends: no more of them, and the rest goes on. */
static void
counts_leave_room(void **state)
{
	struct fixture *f = *state;
	size_t count = 0;

	fixture_open(f);
	while (count < 5000 && put_each(f, NOTE_SHAPE, count) == 0)
		count += EACH;
	assert_in_range(count, 1100, 1300);
	assert_int_equal(put_each(f, NOTE_SOURCE_DAY, 0), -ENOSPC);
	assert_int_equal(put_each(f, NOTE_SUPPRESSION, 0), 0);
}

static void
the_table_is_bounded(void **state)
{
	struct fixture *f = *state;
	static char octets[NOTE_VALUE_MAX], key[16];
	int r = 0;
	size_t count = 0;

	fixture_open(f);
	for (; r == 0 && count < 5000 / EACH; count++)
		r = put_each(f, 1, count * EACH);
	for (count = (count - 1) * EACH; r == -ENOSPC && count < 5000; count++) {
		snprintf(key, sizeof(key), "%zu", count);
		if (put(f, 1, span_str(key), span_of(octets, sizeof(octets))) != 0)
			break;
	}
	assert_int_equal(r, -ENOSPC);
	assert_in_range(count, 2400, 2560);
	assert_int_equal(take_away(f, 1, SPAN("0")), 0);	/* no transaction has gone beyond */
	assert_int_equal(put(f, 1, SPAN("again"), span_of(octets, sizeof(octets))), 0);
	fixture_deliverable(f, 1, 1, 100);
}

static void
read_in_pages_by_prefix(void **state)
{
	struct fixture *f = *state;
	struct queue_note_row rows[7];
	char key[32], last[32] = "";
	size_t count, total = 0;

	fixture_open(f);
	for (int i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "b.%02d", i);
		assert_int_equal(put(f, 1, span_str(key), span_str(key)), 0);
	}
	assert_int_equal(put(f, 1, SPAN("a"), SPAN("")), 0);
	assert_int_equal(put(f, 1, SPAN("c"), SPAN("")), 0);
	assert_int_equal(put(f, 2, SPAN("b.99"), SPAN("")), 0);
	do {
		assert_int_equal(queue_read_notes(f->port, 1, SPAN("b."), span_str(last), &f->arena,
						  rows, 7, &count),
				 0);
		for (size_t i = 0; i < count; i++) {
			snprintf(key, sizeof(key), "b.%02zu", total++);
			assert_true(span_eq(rows[i].key, span_str(key)) &&
				    span_eq(rows[i].value, span_str(key)));
			assert_false(rows[i].damaged);
			snprintf(last, sizeof(last), "%s", key);
		}
	} while (count > 0);
	assert_int_equal(total, 20);
	assert_int_equal(queue_read_notes(f->port, 1, SPAN(""), SPAN(""), &f->arena, rows, 7,
					  &count), 0);
	assert_int_equal(count, 7);
	assert_true(span_eq(rows[0].key, SPAN("a")));
	assert_int_equal(queue_read_notes(f->port, 3, SPAN(""), SPAN(""), &f->arena, rows, 7,
					  &count), 0);
	assert_int_equal(count, 0);
}

static void
with_an_accept_or_not_at_all(void **state)
{
	struct fixture *f = *state;
	const struct queue_note notes[] = {
		{ .kind = 1, .key = SPAN("counted"), .remove = true },
		{ .kind = 1, .key = SPAN("pending"), .value = SPAN("8") },
		{ .kind = 1, .key = SPAN(""), .value = SPAN("x") },
	};
	struct queue_message m;
	struct queue_accept a;

	fixture_open(f);
	assert_int_equal(put(f, 1, SPAN("counted"), SPAN("7")), 0);
	fixture_message(f, &a, 1, 1, 200 << 20);		/* more than the quota */
	a.notes = notes;
	a.note_count = 2;
	assert_int_equal(fixture_accept(f, &a), -ENOSPC);
	assert_true(is(f, 1, SPAN("counted"), SPAN("7")));
	fixture_message(f, &a, 1, 1, 100);
	a.notes = notes;
	a.note_count = 3;
	assert_int_equal(fixture_accept(f, &a), -EMSGSIZE);
	assert_true(is(f, 1, SPAN("counted"), SPAN("7")));
	assert_int_equal(queue_read_message(f->port, a.id, &f->arena, &m), -ENOENT);
	fixture_message(f, &a, 1, 1, 100);
	a.notes = notes;
	a.note_count = 2;
	assert_int_equal(fixture_accept(f, &a), 0);
	assert_false(is(f, 1, SPAN("counted"), SPAN("7")));
	assert_true(is(f, 1, SPAN("pending"), SPAN("8")));
	assert_int_equal(queue_read_message(f->port, a.id, &f->arena, &m), 0);
}

static void
several_at_once_or_none(void **state)
{
	struct fixture *f = *state;
	struct queue_note more[] = { { .kind = 1, .key = SPAN("b"), .value = SPAN("2") },
				     { .kind = 1, .key = SPAN(""), .value = SPAN("3") } };
	struct queue_note note = { .kind = 1, .key = SPAN("a"), .value = SPAN("1"), .more = more,
				   .more_count = 2 };

	fixture_open(f);
	queue_submit_note(f->port, &note);
	fixture_settle(f);
	assert_int_equal(note.op.result, -EMSGSIZE);
	assert_false(is(f, 1, SPAN("a"), SPAN("1")));
	more[1].key = SPAN("c");
	queue_submit_note(f->port, &note);
	fixture_settle(f);
	assert_true(is(f, 1, SPAN("a"), SPAN("1")) && is(f, 1, SPAN("b"), SPAN("2")) &&
		    is(f, 1, SPAN("c"), SPAN("3")));
}

static void
die(struct queue_op *op)
{
	raise(op->result == 0 ? SIGKILL : SIGTERM);
}

static void
kept_over_a_kill(void **state)
{
	struct fixture *f = *state;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct queue_note note = { .op.done = die, .kind = 1, .key = SPAN("k"),
					   .value = SPAN("v") };

		fixture_open(f);
		queue_submit_note(f->port, &note);
		fixture_settle(f);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	fixture_open(f);
	assert_true(is(f, 1, SPAN("k"), SPAN("v")));
}

/* Takes the table out of a store, or changes an octet in each of its values. */
static void
tamper(struct fixture *f, bool drop)
{
	MDB_val key, value;
	MDB_cursor *at;
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi table;

	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_set_maxdbs(env, 1), 0);
	assert_int_equal(mdb_env_set_mapsize(env, f->config.map_size), 0);
	assert_int_equal(mdb_env_open(env, f->path, 0, 0600), 0);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, "note", 0, &table), 0);
	if (drop) {
		assert_int_equal(mdb_drop(txn, table, 1), 0);
	} else {
		assert_int_equal(mdb_cursor_open(txn, table, &at), 0);
		while (mdb_cursor_get(at, &key, &value, MDB_NEXT) == 0) {
			char octets[64];

			memcpy(octets, value.mv_data, value.mv_size);
			octets[3] ^= 1;
			value.mv_data = octets;
			assert_int_equal(mdb_cursor_put(at, &key, &value, MDB_CURRENT), 0);
		}
		mdb_cursor_close(at);
	}
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

static void
a_store_from_before_notes(void **state)
{
	struct fixture *f = *state;
	struct queue_note_row rows[4];
	struct queue_reader *reader;
	struct buf out = { 0 };
	struct queue_port *port;
	uint64_t id, ids[4];
	size_t count;

	fixture_open(f);
	id = fixture_deliverable(f, 1, 1, 100);
	fixture_close(f);
	tamper(f, true);
	assert_int_equal(queue_reader_open(f->path, &reader, f->error), 0);
	port = queue_reader_port(reader);
	assert_int_equal(queue_walk_messages(port, 0, UINT64_MAX, ids, 4, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(ids[0], id);
	assert_int_equal(queue_read_note(port, 1, SPAN("k"), &out), -ENOENT);
	assert_int_equal(queue_read_notes(port, 1, SPAN(""), SPAN(""), &f->arena, rows, 4, &count),
			 0);
	assert_int_equal(count, 0);
	queue_reader_close(reader);
	fixture_open(f);
	assert_int_equal(put(f, 1, SPAN("k"), SPAN("v")), 0);
	assert_true(is(f, 1, SPAN("k"), SPAN("v")));
}

static void
count_fault(void *arg, const char *fault)
{
	(void)fault;
	++*(int *)arg;
}

static void
damage_is_found(void **state)
{
	struct fixture *f = *state;
	struct queue_note_row row;
	struct buf out = { 0 };
	int faults = 0;
	size_t count;

	fixture_open(f);
	assert_int_equal(put(f, 1, SPAN("k"), SPAN("value")), 0);
	fixture_close(f);
	tamper(f, false);
	fixture_open(f);
	assert_int_equal(queue_read_note(f->port, 1, SPAN("k"), &out), -EBADMSG);
	assert_int_equal(queue_read_notes(f->port, 1, SPAN(""), SPAN(""), &f->arena, &row, 1,
					  &count), 0);
	assert_true(count == 1 && row.damaged && row.value.len == 0);
	assert_int_equal(queue_check(f->queue, count_fault, &faults), -EBADMSG);
	assert_int_equal(faults, 1);
	assert_int_equal(put(f, 1, SPAN("k"), SPAN("new")), 0);
	assert_true(is(f, 1, SPAN("k"), SPAN("new")));
}

static int
on_salvaged(void *arg, const struct queue_salvaged *found)
{
	assert_false(found->lost || found->doubtful);
	++*(int *)arg;
	return 0;
}

/* Keys as long as those of messages and bodies, values as long as bodies. */
static void
salvage_passes_them_over(void **state)
{
	struct fixture *f = *state;
	static char octets[NOTE_VALUE_MAX];
	struct queue_salvage_facts facts;
	int found = 0;

	fixture_open(f);
	fixture_deliverable(f, 2, 2, 100);
	assert_int_equal(put(f, 0, SPAN("\0\0\0\0\0\0\1"), span_of(octets, 20)), 0);
	assert_int_equal(put(f, 0, SPAN("\0\0\0\0\0\0\1\0\0\0\0"), span_of(octets, 20)), 0);
	assert_int_equal(put(f, 0, SPAN("\0\0\0\0\0\0\2\0\0\0\0"), span_of(octets, sizeof(octets))),
			 0);
	assert_int_equal(put(f, 's', SPAN("tate"), span_of(octets, 61)), 0);
	fixture_close(f);
	assert_int_equal(queue_salvage(f->path, on_salvaged, &found, &facts, f->error), 0);
	assert_int_equal(found, 1);
	assert_false(facts.guessed);
	assert_int_equal(facts.lost + facts.doubtful, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(kept_replaced_and_removed), TEST(too_long_is_refused),
		TEST(the_table_is_bounded), TEST(counts_leave_room),
		TEST(read_in_pages_by_prefix), TEST(with_an_accept_or_not_at_all),
		TEST(several_at_once_or_none), TEST(kept_over_a_kill),
		TEST(a_store_from_before_notes), TEST(damage_is_found),
		TEST(salvage_passes_them_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
