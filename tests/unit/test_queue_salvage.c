/*
 * queue_salvage: what is read out of a damaged data file. Most of it works on a copy of one file in
 * memory: a queue that has seen several times the mail that it holds, so that most of its pages are
 * old versions.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "queue/lmdb_page.h"
#include "queue/raw_scan.h"
#include "tests/unit/queue_fixture.h"

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

	fixture_free(f);
	free(f);
	return 0;
}

static void
data_path(const struct fixture *f, char path[128])
{
	snprintf(path, 128, "%s/data.mdb", f->path);
}

static int
count_salvaged(void *arg, const struct queue_salvaged *found)
{
	assert_int_equal(found->message.envelope.recipient_count, 2);
	assert_false(found->doubtful);
	assert_true(found->lost || found->content.len > 5000);
	*(int *)arg += !found->lost;
	return 0;
}

/* Damages each place where these octets stand in the file: pages are copied when they change. */
static void
damage(const char *path, struct span octets)
{
	int fd = open(path, O_RDWR);
	char *all = malloc(8 << 20), *at = all;
	ssize_t len = pread(fd, all, 8 << 20, 0);
	int found = 0;

	while ((at = memmem(at, (size_t)(all + len - at), octets.at, octets.len)) != NULL) {
		assert_int_equal(pwrite(fd, "?!?!", 4, at++ - all), 4);
		found++;
	}
	assert_true(found > 0);
	free(all);
	close(fd);
}

static void
salvage_passes_over_damage(void **state)
{
	struct fixture *f = *state;
	char path[128];
	struct queue_accept a;
	struct buf content = { 0 };
	uint64_t ids[20];
	size_t n;
	struct queue_salvage_facts facts;
	int count = 0;

	data_path(f, path);
	fixture_open(f);
	for (int i = 0; i < 20; i++) {
		fixture_message(f, &a, 2, 1, 5000);
		if (i == 7)
			a.body = SPAN("this body will be damaged in the file, for it stands there "
				      "as it came ............");
		assert_int_equal(fixture_accept(f, &a), 0);
	}
	fixture_close(f);
	damage(path, SPAN("this body will be damaged"));
	assert_int_equal(queue_salvage(f->path, count_salvaged, &count, &facts, f->error), 0);
	assert_int_equal(count, 19);
	assert_true(facts.expected == 20 && facts.messages == 19 && facts.lost == 1);
	fixture_open(f);
	assert_int_equal(queue_check(f->queue, NULL, NULL), -EBADMSG);
	assert_int_equal(queue_walk_messages(f->port, 0, UINT64_MAX, ids, 20, &n), 0);
	assert_int_equal(fixture_content(f, ids[7], &content), -EBADMSG);
	buf_free(&content);
}

/*
 * ---- a file in memory
 * -----------------------------------------------------------------------------------------------
 */

enum { GENERATIONS = 6, EACH = 60, MOST = GENERATIONS * EACH };

struct truth {
	uint64_t id;
	bool gone, open[3];
	size_t recipients;
};

struct file {
	char *at;
	size_t size, pages;		/* pages up to the last one in use */
	uint32_t page_size;
	struct truth truth[MOST];
	size_t count, live;
	/* what was salvaged */
	unsigned found, doubtful, lost;
	bool seen[MOST];
	struct queue_salvage_facts facts;
};

static struct file *file;

/* Without meta pages, snapshots are told apart by the millisecond of their commit. */
static void
next_millisecond(void)
{
	const struct timespec pause = { .tv_nsec = 2000000 };

	nanosleep(&pause, NULL);
}

static void
settle(struct fixture *f, struct truth *t, uint32_t recipient)
{
	assert_int_equal(fixture_settle_one(f, t->id, recipient,
					    (struct settle_recipient){ .kind = SETTLE_DELIVERED },
					    NULL),
			 0);
	t->open[recipient] = false;
}

/*
 * Each generation comes, and most of the one before it goes; of what stays, some have recipients
 * that went.
 */
static void
live_a_life(struct fixture *f)
{
	for (size_t i = 0; i < MOST; i++) {
		struct truth *t = &file->truth[i], *old = &file->truth[i < EACH ? 0 : i - EACH];

		if (i + 2 >= MOST)
			next_millisecond();
		t->recipients = i % 3 == 0 ? 3 : 1;
		t->id = fixture_deliverable(f, t->recipients, 2,
					    i % 20 == 7	 ? 150000
					    : i % 7 == 3 ? 6000
							 : 300);
		for (size_t k = 0; k < t->recipients; k++)
			t->open[k] = true;
		if (i >= EACH && i % 5 != 0)
			for (uint32_t k = 0; k < old->recipients; k++)
				settle(f, old, k);
		else if (i >= EACH && old->recipients == 3)
			settle(f, old, (uint32_t)(i % 3));
		arena_free(&f->arena);
	}
	file->count = MOST;
	for (size_t i = 0; i < MOST; i++) {
		struct truth *t = &file->truth[i];

		t->gone = !t->open[0] && !t->open[1] && !t->open[2];
		file->live += !t->gone;
	}
}

static void
file_make(struct fixture *f)
{
	struct lmdb_meta meta;
	char path[128];
	int fd;

	data_path(f, path);
	fixture_open(f);
	live_a_life(f);
	next_millisecond();
	fixture_close(f);
	fd = open(path, O_RDONLY);
	file->at = malloc(LMDB_META_LEN);
	assert_int_equal(pread(fd, file->at, LMDB_META_LEN, 0), LMDB_META_LEN);
	assert_int_equal(lmdb_meta_read(file->at, &meta), LMDB_READABLE);
	file->page_size = meta.page_size;
	file->pages = meta.last_page + 2;		/* the other meta page may say one more */
	file->size = file->pages * meta.page_size;
	file->at = realloc(file->at, file->size);
	assert_int_equal(pread(fd, file->at, file->size, 0), (ssize_t)file->size);
	close(fd);
}

/* It takes seconds to make, so it is made once. */
static int
group_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	(void)state;
	file = calloc(1, sizeof(*file));
	fixture_init(f);
	file_make(f);
	fixture_free(f);
	free(f);
	return 0;
}

static int
group_teardown(void **state)
{
	(void)state;
	free(file->at);
	free(file);
	return 0;
}

static int
on_salvaged(void *arg, const struct queue_salvaged *found)
{
	size_t i = 0;

	(void)arg;
	while (i < file->count && file->truth[i].id != found->message.record.id)
		i++;
	assert_true(i < file->count && !file->seen[i]);
	file->seen[i] = true;
	assert_int_equal(found->message.envelope.recipient_count, file->truth[i].recipients);
	for (size_t k = 0; k < file->truth[i].recipients; k++)
		if (found->doubtful)
			assert_true(found->message.open[k] || !file->truth[i].open[k]);
		else
			assert_int_equal(found->message.open[k], file->truth[i].open[k]);
	assert_true(found->doubtful || !file->truth[i].gone);
	if (found->lost)
		assert_int_equal(found->content.len, 0);
	else
		assert_int_equal(found->content.len, found->message.record.header_size +
							     found->message.record.body_size);
	file->found += !found->lost;
	file->doubtful += found->doubtful && !found->lost;
	file->lost += found->lost;
	return 0;
}

static void
scan(const char *at, size_t size)
{
	file->found = file->doubtful = file->lost = 0;
	memset(file->seen, 0, sizeof(file->seen));
	assert_int_equal(raw_scan(span_of(at, size), file->page_size, on_salvaged, NULL,
				  &file->facts), 0);
	assert_int_equal(file->facts.messages, file->found);
	assert_true(file->facts.doubtful == file->doubtful && file->facts.lost == file->lost);
}

/* How many that are there were not found, damaged ones apart. */
static size_t
missing(void)
{
	size_t count = 0;

	for (size_t i = 0; i < file->count; i++)
		count += !file->truth[i].gone && !file->seen[i];
	return count;
}

static char *
copy_of(void)
{
	char *copy = malloc(file->size);

	memcpy(copy, file->at, file->size);
	return copy;
}

static void
destroy(char *copy, uint64_t page)
{
	assert_true(page < file->pages);
	memset(copy + page * file->page_size, '!', file->page_size);
}

/* The root of a table as of the last commit, or ("") of the tables. */
static uint64_t
root_of(const char *table)
{
	const struct lmdb_file pages = { file->at, file->size, file->page_size };
	struct lmdb_meta metas[2];
	struct lmdb_table found;
	uint64_t root;

	for (size_t i = 0; i < 2; i++)
		assert_int_equal(lmdb_meta_read(file->at + i * file->page_size, &metas[i]),
				 LMDB_READABLE);
	root = metas[metas[1].transaction > metas[0].transaction].main_root;
	if (table[0] == '\0')
		return root;
	assert_true(lmdb_table_find(&pages, root, table, &found));
	return found.root;
}

/*
 * ---- page by page
 * -----------------------------------------------------------------------------------------------
 */

static void
a_sound_file(void **state)
{
	(void)state;
	scan(file->at, file->size);
	assert_int_equal(file->found, file->live);
	assert_int_equal(file->doubtful + file->lost + missing(), 0);
	assert_true(!file->facts.guessed && file->facts.expected == file->live);
	assert_true(file->live < MOST / 2 && file->live > 50);
}

/* The last commit is found by its content. */
static void
without_meta_pages(void **state)
{

	(void)state;
	for (unsigned which = 1; which <= 3; which++) {
		char *copy = copy_of();

		if (which & 1)
			destroy(copy, 0);
		if (which & 2)
			destroy(copy, 1);
		scan(copy, file->size);
		assert_int_equal(missing(), 0);
		assert_true(file->facts.guessed);
		assert_int_equal(file->facts.expected, file->live);
		free(copy);
	}
}

static void
without_roots(void **state)
{
	static const struct { const char *tables[3]; bool doubt; } cases[] = {
		{ { "message" }, false }, { { "sender" }, false }, { { "body" }, false },
		{ { "meta", "entry" }, false },
		{ { "left" }, true }, { { "message", "sender" }, true }, { { "" }, true },
		{ { "message", "sender", "" }, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *copy = copy_of();

		for (size_t k = 0; k < 3 && cases[i].tables[k] != NULL; k++)
			destroy(copy, root_of(cases[i].tables[k]));
		scan(copy, file->size);
		assert_int_equal(missing() + file->lost, 0);
		if (!cases[i].doubt)
			assert_true(file->found == file->live && file->doubtful == 0);
		free(copy);
	}
}

/*
 * Whatever page is gone: what is not on it is found, and what is gone never comes as if it were
 * not.
 */
static void
without_any_one_page(void **state)
{
	char *copy = copy_of();
	size_t worst = 0, lost = 0;

	(void)state;
	for (uint64_t page = 0; page < file->pages; page++) {
		destroy(copy, page);
		scan(copy, file->size);
		if (missing() + file->lost > worst)
			worst = missing() + file->lost;
		lost += file->lost;
		memcpy(copy + page * file->page_size, file->at + page * file->page_size,
		       file->page_size);
	}
	assert_in_range(worst, 1, 20);
	assert_true(lost > 0);
	free(copy);
}

static void
cut_short_anywhere(void **state)
{

	(void)state;
	for (size_t size = 0; size < file->size; size += file->page_size * 7 / 2) {
		char *copy = malloc(size + 1);		/* so that a sanitizer sees the end */

		memcpy(copy, file->at, size);
		scan(copy, size);
		free(copy);
	}
}

static int
on_noise(void *arg, const struct queue_salvaged *found)
{
	const struct message_record *r = &found->message.record;

	(void)arg;
	assert_true(found->lost || found->content.len == r->header_size + r->body_size);
	return 0;
}

/*
 * Octets turned over at random, many at a time: nothing else than that it ends, and what comes is
 * whole.
 */
static void
noise(void **state)
{
	uint64_t dice = 1;

	(void)state;
	for (int round = 0; round < 60; round++) {
		char *copy = copy_of();

		for (int i = 0; i < 1 << (round % 12); i++) {
			dice = dice * 6364136223846793005u + 1442695040888963407u;
			copy[(dice >> 20) % file->size] ^= (char)(dice >> 12 & 255);
		}
		assert_int_equal(raw_scan(span_of(copy, file->size), file->page_size, on_noise,
					  &dice, &file->facts),
				 0);
		free(copy);
	}
}

/*
 * A leaf page, made by somebody who sent it as the body of a message, with a record of another
 * message.
 */
static void
forge(char *page, uint64_t number, const char *value, size_t offset, size_t len)
{
	char *at = page + offset, *recipient;
	uint32_t crc;

	memcpy(page, value - offset, file->page_size);
	memcpy(page, &number, sizeof(number));
	recipient = memmem(at, len, "r0@domain", 9);
	assert_non_null(recipient);
	*recipient = 'X';
	crc = crc32c(0, at, len - 4);
	for (size_t i = 0; i < 4; i++)
		at[len - 4 + i] = (char)(crc >> (24 - 8 * i) & 255);
}

static int
on_forged(void *arg, const struct queue_salvaged *found)
{
	*(int *)arg += found->message.envelope.recipients[0].address.at[0] == 'X';
	return 0;
}

static void
a_forged_page_counts_for_nothing(void **state)
{
	struct lmdb_file pages = { file->at, file->size, file->page_size };
	char *copy = realloc(copy_of(), file->size + file->page_size);
	struct lmdb_node node;
	unsigned char key[8];
	size_t i = file->count - 1, offset;
	int forged = 0;

	(void)state;
	for (size_t k = 0; k < 8; k++)
		key[k] = (unsigned char)(file->truth[i].id >> (56 - 8 * k) & 255);
	assert_int_equal(lmdb_find(&pages, root_of("message"), span_of(key, 8), &node), LMDB_FOUND);
	offset = (size_t)(node.value.at - file->at) % file->page_size;
	for (int round = 0; round < 2; round++) {
		forge(copy + file->size, file->pages, node.value.at, offset, node.value.len);
		assert_int_equal(raw_scan(span_of(copy, file->size + file->page_size),
					  file->page_size, on_forged, &forged, &file->facts),
				 0);
		assert_int_equal(forged, round);
		/* now only its word is left */
		destroy(copy, (uint64_t)(node.value.at - file->at) / file->page_size);
	}
	free(copy);
}

static int
stop_at_once(void *arg, const struct queue_salvaged *found)
{
	(void)found;
	++*(int *)arg;
	return -EIO;
}

static void
who_cannot_go_on_is_not_asked_again(void **state)
{
	int calls = 0;

	(void)state;
	assert_int_equal(raw_scan(span_of(file->at, file->size), file->page_size, stop_at_once,
				  &calls, &file->facts),
			 -EIO);
	assert_int_equal(calls, 1);
}

/*
 * ---- the file
 * -----------------------------------------------------------------------------------------------------
 */

static int
count_all(void *arg, const struct queue_salvaged *found)
{
	(void)found;
	++*(int *)arg;
	return 0;
}

static void
no_file_and_no_first_page(void **state)
{
	struct fixture *f = *state;
	struct queue_salvage_facts facts;
	static const char nothing[LMDB_META_LEN];
	char path[128];
	int fd, count = 0;

	data_path(f, path);
	assert_int_equal(queue_salvage(f->path, count_all, &count, &facts, f->error), -ENOENT);
	assert_non_null(strstr(f->error, path));
	fixture_open(f);
	for (int i = 0; i < 5; i++)
		fixture_deliverable(f, 1, 1, 100000);
	fixture_close(f);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, nothing, sizeof(nothing), 0), sizeof(nothing));
	close(fd);
	assert_int_equal(queue_salvage(f->path, count_all, &count, &facts, f->error), 0);
	assert_true(facts.messages == 5 && count == 5);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(queue_salvage(f->path, count_all, &count, &facts, f->error), 0);
	assert_true(facts.messages == 0 && count == 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(salvage_passes_over_damage), TEST(a_sound_file), TEST(without_meta_pages),
		TEST(without_roots),
		TEST(without_any_one_page), TEST(cut_short_anywhere), TEST(noise),
		TEST(a_forged_page_counts_for_nothing), TEST(who_cannot_go_on_is_not_asked_again),
		TEST(no_file_and_no_first_page),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
