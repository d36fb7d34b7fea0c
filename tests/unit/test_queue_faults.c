/*
 * queue_faults: full disks, failed syncs, crashes, a clock that steps back. LMDB's writes and
 * syncs, and the clock, are this program's own functions, so that they can fail or lie.
 */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "tests/unit/queue_fixture.h"

/*
 * ---- what LMDB calls
 * ----------------------------------------------------------------------------------------------
 */

static _Atomic size_t write_most = SIZE_MAX;	/* larger writes find the disk full */
static _Atomic int sync_error, sync_count;
static _Atomic int64_t clock_offset_s;

ssize_t test_pwrite(int fd, const void *at, size_t len, off_t offset) __asm__("pwrite");
ssize_t test_writev(int fd, const struct iovec *parts, int count) __asm__("writev");
int test_fdatasync(int fd) __asm__("fdatasync");
int test_clock_gettime(clockid_t which, struct timespec *ret) __asm__("clock_gettime");

ssize_t
test_pwrite(int fd, const void *at, size_t len, off_t offset)
{
	if (len > write_most) {
		errno = ENOSPC;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, at, len, offset);
}

ssize_t
test_writev(int fd, const struct iovec *parts, int count)
{
	size_t len = 0;

	for (int i = 0; i < count; i++)
		len += parts[i].iov_len;
	if (len > write_most) {
		errno = ENOSPC;
		return -1;
	}
	return syscall(SYS_writev, fd, parts, count);
}

int
test_fdatasync(int fd)
{
	sync_count++;
	if (sync_error != 0) {
		errno = sync_error;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

int
test_clock_gettime(clockid_t which, struct timespec *ret)
{
	int r = (int)syscall(SYS_clock_gettime, which, ret);

	if (which == CLOCK_REALTIME)
		ret->tv_sec += clock_offset_s;
	return r;
}

/*
 * ---- set-up
 * -------------------------------------------------------------------------------------------------------
 */

static char poison_text[256];

static void
poisoned(void *arg, const char *why)
{
	(void)arg;
	snprintf(poison_text, sizeof(poison_text), "%s", why);
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	fixture_init(f);
	f->config.poisoned = poisoned;
	poison_text[0] = '\0';
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	write_most = SIZE_MAX;
	sync_error = 0;
	clock_offset_s = 0;
	fixture_free(f);
	free(f);
	return 0;
}

static int
settle_result(struct fixture *f, uint64_t id)
{
	return fixture_settle_one(f, id, 0, (struct settle_recipient){ .kind = SETTLE_DELIVERED },
				  NULL);
}

/*
 * ---- no room
 * ------------------------------------------------------------------------------------------------------
 */

static void
quota_stops_accepts_only(void **state)
{
	struct fixture *f = *state;
	uint64_t ids[200];
	struct queue_accept a;
	size_t count = 0;

	f->config.max_size = 1 << 20;
	fixture_open(f);
	for (int r = 0; r == 0 && count < 200; count += r == 0) {
		fixture_message(f, &a, 1, 1, 10000);
		r = fixture_accept(f, &a);
		ids[count] = a.id;
		assert_true(r == 0 || r == -ENOSPC);
	}
	assert_in_range(count, 80, 90);
	assert_false(queue_has_room(f->queue, 20000));
	for (size_t i = 0; i < count; i++)
		assert_int_equal(settle_result(f, ids[i]), 0);
	assert_true(queue_has_room(f->queue, 20000));
	assert_int_equal(fixture_accept(f, &a), 0);
	queue_reconfigure(f->queue, 100, 0);
	assert_int_equal(settle_result(f, a.id), 0);
	assert_false(queue_has_room(f->queue, 20000));
	fixture_check(f);
}

static void
a_full_map_lets_settles_through(void **state)
{
	struct fixture *f = *state;
	uint64_t ids[1000];
	struct queue_accept a;
	size_t count = 0;

	f->config.map_size = 2 << 20;
	fixture_open(f);
	for (int r = 0; r == 0 && count < 1000; count += r == 0) {
		fixture_message(f, &a, 3, 3, 1500);
		r = fixture_accept(f, &a);
		ids[count] = a.id;
		assert_true(r == 0 || r == -ENOSPC);
	}
	assert_in_range(count, 200, 999);
	fixture_check(f);
	for (size_t i = 0; i < count; i++)
		for (uint32_t k = 0; k < 3; k++)
			assert_int_equal(fixture_settle_one(f, ids[i], k, (struct settle_recipient){
				.kind = SETTLE_DELIVERED }, NULL), 0);
	assert_int_equal(poison_text[0], 0);
	fixture_check(f);
}

/*
 * In one batch: the halves part the accept, whose pages do not fit the disk, from the settle, whose
 * do.
 */
static void
a_settle_gets_through_where_an_accept_cannot(void **state)
{
	struct fixture *f = *state;
	struct settle_recipient s = { .kind = SETTLE_DELIVERED };
	struct queue_settle settle = { .recipients = &s, .count = 1 };
	struct queue_accept a, first;

	fixture_open(f);
	fixture_message(f, &first, 1, 1, 100);
	assert_int_equal(fixture_accept(f, &first), 0);
	settle.id = first.id;
	s.lane = f->arrivals[0].lane;
	s.old_due_ms = f->arrivals[0].due_ms;
	fixture_message(f, &a, 1, 1, 300000);
	write_most = 60000;
	queue_submit_settle(f->port, &settle);
	assert_int_equal(fixture_accept(f, &a), -ENOSPC);
	assert_int_equal(settle.op.result, 0);
	assert_true(settle.removed);
	assert_false(queue_has_room(f->queue, 1));
	assert_int_equal(poison_text[0], 0);
	fixture_check(f);
}

static void
a_full_disk_loses_nothing(void **state)
{
	struct fixture *f = *state;
	struct queue_accept a;
	uint64_t id;
	int r;

	fixture_open(f);
	id = fixture_deliverable(f, 1, 1, 100);
	write_most = 0;
	assert_int_equal(settle_result(f, id), -ENOSPC);
	fixture_message(f, &a, 1, 1, 100);
	assert_int_equal(fixture_accept(f, &a), -ENOSPC);
	fixture_check(f);
	write_most = SIZE_MAX;
	assert_int_equal(settle_result(f, id), 0);
	do {
		/* refused without trying for up to a second */
		r = fixture_accept(f, &a);
		usleep(20000);
	} while (r == -ENOSPC);
	assert_int_equal(r, 0);
	fixture_check(f);
}

static void
a_draft_that_finds_no_room_is_deleted(void **state)
{
	struct fixture *f = *state;
	struct queue_accept a;
	struct queue_facts facts;
	struct draft *draft;

	f->config.max_size = 200000;
	fixture_open(f);
	fixture_message(f, &a, 1, 1, 400000);
	draft = draft_begin(&(struct draft_config){ .port = f->port, .id = a.id });
	draft_append(draft, a.body);
	fixture_settle(f);
	assert_int_equal(draft_error(draft), -ENOSPC);
	a.draft = draft;
	assert_int_equal(fixture_accept(f, &a), -ENOSPC);
	fixture_message(f, &a, 1, 1, 400000);
	draft = draft_begin(&(struct draft_config){ .port = f->port, .id = a.id });
	draft_append(draft, a.body);
	draft_abort(draft);
	fixture_settle(f);
	queue_facts(f->queue, &facts);
	assert_int_equal(facts.live_bytes, 0);
	fixture_check(f);
}

/*
 * ---- poison
 * ---------------------------------------------------------------------------------------------------------
 */

static void
a_failed_sync_poisons(void **state)
{
	struct fixture *f = *state;
	struct queue_accept a;
	struct queue_facts facts;
	struct queue_message m;
	uint64_t id;

	fixture_open(f);
	id = fixture_deliverable(f, 1, 1, 100);
	sync_error = EIO;
	fixture_message(f, &a, 1, 1, 100);
	assert_int_equal(fixture_accept(f, &a), -ESHUTDOWN);
	sync_error = 0;
	assert_true(strlen(poison_text) > 0);
	assert_false(queue_has_room(f->queue, 1));
	assert_int_equal(fixture_accept(f, &a), -ESHUTDOWN);
	assert_int_equal(settle_result(f, id), -ESHUTDOWN);
	queue_facts(f->queue, &facts);
	assert_true(facts.poisoned);
	fixture_close(f);
	fixture_open(f);
	queue_facts(f->queue, &facts);
	assert_false(facts.clean_start);
	assert_int_equal(queue_read_message(f->port, id, &f->arena, &m), 0);
	fixture_check(f);
}

static void
each_commit_syncs(void **state)
{
	struct fixture *f = *state;
	int before;

	fixture_open(f);
	for (int i = 0; i < 5; i++) {
		before = sync_count;
		fixture_deliverable(f, 1, 1, 100);
		assert_true(sync_count > before);
	}
}

/*
 * ---- restart
 * --------------------------------------------------------------------------------------------------------
 */

/* Runs part in a process that ends without closing, or is killed. */
static void
crash_in(struct fixture *f, void (*part)(struct fixture *f))
{
	pid_t pid = fork();
	int status;

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		fixture_open(f);
		part(f);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void
part_with_doubt(struct fixture *f)
{
	struct queue_accept a;
	const struct attempt attempt = { .code = 451 };
	uint64_t taken;

	/* taken, one recipient settled, then again */
	taken = fixture_deliverable(f, 2, 2, 100);
	queue_taken(f->port, &taken, 1);
	fixture_settle_one(f, taken, 0, (struct settle_recipient){ .kind = SETTLE_DELIVERED },
			   NULL);
	queue_taken(f->port, &taken, 1);
	/* tried, and due later: no doubt */
	taken = fixture_deliverable(f, 1, 1, 100);
	queue_taken(f->port, &taken, 1);
	fixture_settle_one(f, taken, 0,
			   (struct settle_recipient){ .kind = SETTLE_RETRY, .due_ms = wall_ms() +
						      3600000, .attempt = &attempt }, NULL);
	/* due long ago, and not handed out */
	fixture_message(f, &a, 1, 1, 100);
	a.due_ms -= 3600000;
	fixture_accept(f, &a);
	fixture_message(f, &a, 1, 1, 100);				/* due just now */
	a.due_ms = wall_ms() - 10;
	fixture_accept(f, &a);
}

static void
a_crash_leaves_doubt_where_it_belongs(void **state)
{
	static const bool doubtful[] = { true, false, false, true };
	struct fixture *f = *state;
	struct queue_facts facts;
	struct history_record h;
	uint64_t ids[8];
	size_t count;

	crash_in(f, part_with_doubt);
	/* the last second is that before the last commit, whenever we come back */
	clock_offset_s = 3600;
	fixture_open(f);
	queue_facts(f->queue, &facts);
	assert_false(facts.clean_start);
	assert_int_equal(facts.in_doubt, 2);
	assert_int_equal(queue_walk_messages(f->port, 0, UINT64_MAX, ids, 8, &count), 0);
	assert_int_equal(count, 4);
	for (size_t i = 0; i < 4; i++) {
		const uint32_t recipient = i == 0 ? 1 : 0;
		int r = queue_read_history(f->port, ids[i], recipient, &f->arena, &h);

		assert_int_equal(r == 0 && h.uncertain, doubtful[i]);
	}
	fixture_check(f);
	fixture_close(f);
	fixture_open(f);
	queue_facts(f->queue, &facts);
	assert_true(facts.clean_start);
	assert_int_equal(facts.in_doubt, 0);
}

static void
part_with_draft(struct fixture *f)
{
	char *octets = calloc(1, 400000);
	struct draft *draft = draft_begin(
		&(struct draft_config){ .port = f->port, .id = queue_next_id(f->queue) });

	fixture_deliverable(f, 1, 1, 200000);
	draft_append(draft, span_of(octets, 400000));
	fixture_settle(f);
}

static void
drafts_are_swept(void **state)
{
	struct fixture *f = *state;
	struct queue_facts facts;

	crash_in(f, part_with_draft);
	fixture_open(f);
	fixture_check(f);
	queue_facts(f->queue, &facts);
	assert_int_equal(facts.messages, 1);
	assert_in_range(facts.live_bytes, 200000, 220000);
}

/*
 * What was acknowledged is written to a pipe; after the kill it must be there, unless its settle
 * had begun.
 */
struct acknowledged { uint64_t id; bool settling; };

static int ack_pipe[2], load_rounds;

static void
acknowledge(uint64_t id, bool settling)
{
	const struct acknowledged a = { id, settling };

	assert_int_equal(write(ack_pipe[1], &a, sizeof(a)), sizeof(a));
}

static void
part_under_load(struct fixture *f)
{
	uint64_t id, old = 0;
	uint32_t recipient = 0;
	struct queue_accept dsn;
	struct queue_report report = { .op.urgent = true, .recipients = &recipient, .count = 1,
				       .accept = &dsn };

	for (int i = 0; i < load_rounds; i++) {
		struct queue_edit edit = { .kind = EDIT_RETRY, .ids = &id, .count = 1,
					   .only_recipient = UINT32_MAX, .due_ms = i };
		struct draft *draft;
		struct queue_accept a;

		fixture_message(f, &a, 1, 2, 150000);
		draft = a.draft =
			draft_begin(&(struct draft_config){ .port = f->port, .id = a.id });
		draft_append(draft, a.body);
		fixture_settle(f);
		assert_int_equal(fixture_accept(f, &a), 0);
		id = a.id;
		acknowledge(id, false);
		queue_submit_edit(f->port, &edit);
		fixture_settle(f);
		acknowledge(id, true);
		if (i % 2 == 0) {
			assert_int_equal(settle_result(f, id), 0);
			continue;
		}
		assert_int_equal(fixture_settle_one(f, id, 0, (struct settle_recipient){
			.kind = SETTLE_OWED, .action = REPORT_FAILED }, NULL), 0);
		fixture_message(f, &dsn, 1, 1, 100);
		report.id = id;
		queue_submit_report(f->port, &report);
		fixture_settle(f);
		acknowledge(dsn.id, false);
		if (old != 0) {
			acknowledge(old, true);
			assert_int_equal(settle_result(f, old), 0);
		}
		old = dsn.id;
		arena_free(&f->arena);
	}
}

static void
verify_acknowledged(struct fixture *f)
{
	struct acknowledged a;
	struct queue_message m;
	uint64_t ids[512];
	size_t count = 0;

	close(ack_pipe[1]);
	while (read(ack_pipe[0], &a, sizeof(a)) == sizeof(a)) {
		size_t i = 0;

		while (i < count && ids[i] != a.id)
			i++;
		if (a.settling && i < count)
			ids[i] = ids[--count];
		else if (!a.settling)
			ids[count++] = a.id;
		assert_true(count < 512);
	}
	close(ack_pipe[0]);
	for (size_t i = 0; i < count; i++) {
		struct buf content = { 0 };

		assert_int_equal(queue_read_message(f->port, ids[i], &f->arena, &m), 0);
		assert_int_equal(fixture_content(f, ids[i], &content), 0);
		buf_free(&content);
	}
}

static void
run_killed(struct fixture *f, const char *point, unsigned after_ms)
{
	pid_t pid;
	int status;

	load_rounds = point == NULL ? 200 : 10;
	assert_int_equal(pipe(ack_pipe), 0);
	pid = fork();
	if (pid == 0) {
		if (point != NULL)
			setenv("TRAM_CRASH_AT", point, 1);
		fixture_open(f);
		part_under_load(f);
		_exit(0);
	}
	if (point == NULL) {
		usleep(after_ms * 1000);
		kill(pid, SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* Without crash points built in, it runs to its end: no crash, the same check. */
	assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
	fixture_open(f);
	fixture_check(f);
	verify_acknowledged(f);
	fixture_close(f);
}

static void
nothing_acknowledged_is_lost_by_a_kill(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 20; i++)
		run_killed(f, NULL, 5 + i * 7);
}

static void
nothing_acknowledged_is_lost_at_any_point(void **state)
{
	static const char *const points[] = {
		"accept-before-commit:3", "accept-after-commit:4", "settle-before-commit:5",
		"settle-after-commit:3",
		"report-before-commit:2", "report-after-commit:2", "chunk-before-commit:2",
		"chunk-after-commit:3", "sweep",
		"edit-before-commit:7", "edit-after-commit:5",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++)
		run_killed(f, points[i], 0);
}

static void
ids_grow_when_the_clock_steps_back(void **state)
{
	struct fixture *f = *state;
	uint64_t last, id;

	fixture_open(f);
	last = queue_next_id(f->queue);
	clock_offset_s = -86400;
	for (int i = 0; i < 100000; i++, last = id) {
		id = queue_next_id(f->queue);
		assert_true(id > last);
	}
	id = fixture_deliverable(f, 1, 1, 10);
	assert_true(id > last);
	fixture_close(f);
	clock_offset_s = -2 * 86400;
	fixture_open(f);
	assert_true(queue_next_id(f->queue) > id);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(quota_stops_accepts_only), TEST(a_full_map_lets_settles_through),
		TEST(a_settle_gets_through_where_an_accept_cannot), TEST(a_full_disk_loses_nothing),
		TEST(a_draft_that_finds_no_room_is_deleted), TEST(a_failed_sync_poisons),
		TEST(each_commit_syncs),
		TEST(a_crash_leaves_doubt_where_it_belongs), TEST(drafts_are_swept),
		TEST(nothing_acknowledged_is_lost_by_a_kill),
		TEST(nothing_acknowledged_is_lost_at_any_point),
		TEST(ids_grow_when_the_clock_steps_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
