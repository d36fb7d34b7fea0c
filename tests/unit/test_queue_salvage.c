/*
 * queue_salvage: what is read out of a damaged data file.
 */
#include <errno.h>
#include <fcntl.h>

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
count_salvaged(void *arg, const struct queue_message *message, struct span content)
{
	assert_true(message->envelope.recipient_count == 2 && content.len > 5000);
	++*(int *)arg;
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
	int count = 0;

	data_path(f, path);
	fixture_open(f);
	for (int i = 0; i < 20; i++) {
		fixture_message(f, &a, 2, 1, 5000);
		if (i == 7)
			a.body = SPAN("this body will be damaged in the file, for it stands there as it came ............");
		assert_int_equal(fixture_accept(f, &a), 0);
	}
	fixture_close(f);
	damage(path, SPAN("this body will be damaged"));
	assert_int_equal(queue_salvage(f->path, count_salvaged, &count, f->error), 0);
	assert_int_equal(count, 19);
	fixture_open(f);
	assert_int_equal(queue_check(f->queue, NULL, NULL), -EBADMSG);
	assert_int_equal(queue_walk_messages(f->port, 0, UINT64_MAX, ids, 20, &n), 0);
	assert_int_equal(fixture_content(f, ids[7], &content), -EBADMSG);
	buf_free(&content);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(salvage_passes_over_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
