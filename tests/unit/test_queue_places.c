/*
 * queue_places: where a queue may not live, and which files are not opened. Each refusal says what
 * to do. The file system is what this program's own fstatfs() says.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include "queue/reader.h"
#include "queue/store.h"
#include "queue/writer.h"
#include "tests/unit/queue_fixture.h"

static uint32_t file_system;		/* 0: the true one */

int test_fstatfs(int fd, struct statfs *ret) __asm__("fstatfs");
int test_fstatfs64(int fd, struct statfs *ret) __asm__("fstatfs64");

int
test_fstatfs(int fd, struct statfs *ret)
{
	int r = (int)syscall(SYS_fstatfs, fd, ret);

	if (file_system != 0)
		ret->f_type = (__fsword_t)file_system;
	return r;
}

int
test_fstatfs64(int fd, struct statfs *ret)
{
	return test_fstatfs(fd, ret);
}

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

	file_system = 0;
	fixture_free(f);
	free(f);
	return 0;
}

static void
data_path(const struct fixture *f, char path[128])
{
	snprintf(path, 128, "%s/data.mdb", f->path);
}

/* A queue that was opened once, with a message in it. */
static void
make(struct fixture *f)
{
	fixture_open(f);
	fixture_deliverable(f, 1, 1, 1000);
	fixture_close(f);
}

static void
refused(struct fixture *f, int error, const char *word)
{
	f->error[0] = '\0';
	assert_int_equal(fixture_try_open(f), error);
	f->queue = NULL;
	if (strstr(f->error, word) == NULL)
		print_error("%s\n", f->error);
	assert_non_null(strstr(f->error, word));
	assert_non_null(strstr(f->error, f->path));
}

/*
 * ---- the directory
 * ------------------------------------------------------------------------------------------------
 */

static void
file_systems_that_do_not_keep_their_word(void **state)
{
	static const struct { uint32_t type; const char *name; } refusals[] = {
		{ 0x6969, "on NFS" }, { 0x517b, "on SMB" }, { 0xfe534d42, "on SMB" },
		{ 0xff534d42, "on CIFS" },
		{ 0x65735546, "on FUSE" }, { 0x01021997, "on 9P" }, { 0x00c36400, "on Ceph" },
		{ 0x5346414f, "on AFS" },
		{ 0x0bd00bd0, "on Lustre" }, { 0x47504653, "on GPFS" },
		{ 0x786f4256, "VirtualBox" },
	};
	static const uint32_t fine[] = { 0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x2fc12fc1,
					 0x794c7630 };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		file_system = refusals[i].type;
		refused(f, -EOPNOTSUPP, refusals[i].name);
		assert_non_null(strstr(f->error, "give a path on ext4"));
	}
	/* ext4, xfs, btrfs, tmpfs, zfs, overlay */
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
		file_system = fine[i];
		fixture_open(f);
		fixture_close(f);
	}
}

static void
no_directory(void **state)
{
	struct fixture *f = *state;

	rmdir(f->path);
	refused(f, -ENOENT, "make it, with mode 700");
	assert_int_equal(close(open(f->path, O_CREAT | O_WRONLY, 0600)), 0);
	refused(f, -ENOTDIR, "make it");
	unlink(f->path);
	mkdir(f->path, 0700);
}

static void
a_directory_that_others_may_write_to(void **state)
{
	struct fixture *f = *state;

	make(f);
	assert_int_equal(chmod(f->path, 0777), 0);
	refused(f, -EPERM, "(mode 777); chmod 700 it");
	assert_int_equal(chmod(f->path, 0770), 0);
	refused(f, -EPERM, "chmod 700 it");
	assert_int_equal(chmod(f->path, 0755), 0);		/* names can be read, not mail */
	fixture_open(f);
}

static void
somebody_elses(void **state)
{
	struct fixture *f = *state;
	char path[128];

	if (geteuid() != 0)
		skip();
	make(f);
	data_path(f, path);
	assert_int_equal(chown(path, 65534, 65534), 0);
	refused(f, -EPERM, "data.mdb belongs to user 65534 and this runs as user 0; chown it");
	assert_int_equal(chown(path, 0, 0), 0);
	assert_int_equal(chown(f->path, 65534, 65534), 0);
	refused(f, -EPERM,
		"belongs to user 65534 and this runs as user 0; chown it, or run as its owner");
	assert_int_equal(chown(f->path, 0, 0), 0);
	fixture_open(f);
}

static void
a_link_to_the_directory_is_that_directory(void **state)
{
	struct fixture *f = *state;
	struct fixture other = *f;
	char path[128];

	snprintf(path, sizeof(path), "%s-link", f->path);
	assert_int_equal(symlink(f->path, path), 0);
	other.config.path = path;
	fixture_open(f);
	assert_int_equal(fixture_try_open(&other), -EBUSY);
	assert_non_null(strstr(other.error,
			       "in use by another tramd; stop it, or give another path"));
	fixture_close(f);
	fixture_open(&other);
	assert_int_equal(fixture_try_open(f), -EBUSY);
	f->queue = NULL;
	fixture_close(&other);
	unlink(path);
}

static void
a_second_opener(void **state)
{
	struct fixture *f = *state;
	struct queue_reader *reader;
	struct queue *second;
	char error[QUEUE_ERROR_MAX];

	fixture_open(f);
	assert_int_equal(queue_open(&f->config, &second, error), -EBUSY);
	assert_non_null(strstr(error, "another tramd"));
	assert_int_equal(queue_reader_open(f->path, &reader, error), -EBUSY);
	fixture_close(f);
	assert_int_equal(queue_reader_open(f->path, &reader, error), 0);
	assert_int_equal(fixture_try_open(f), -EBUSY);
	f->queue = NULL;
	queue_reader_close(reader);
	fixture_open(f);
}

/*
 * ---- the files
 * ----------------------------------------------------------------------------------------------------
 */

static void
a_data_file_that_others_may_read(void **state)
{
	struct fixture *f = *state;
	char path[128];

	make(f);
	data_path(f, path);
	assert_int_equal(chmod(path, 0644), 0);
	refused(f, -EPERM, "(mode 644); chmod 600 it");
	assert_int_equal(chmod(path, 0640), 0);
	refused(f, -EPERM, "chmod 600 it");
	assert_int_equal(chmod(path, 0600), 0);
	fixture_open(f);
}

/* Two directories with links to one file: each would have a lock of its own. */
static void
links(void **state)
{
	static const char *const names[] = { "data.mdb", "lock.mdb" };
	struct fixture *f = *state;
	char path[128], other[128];

	make(f);
	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", f->path, names[i]);
		snprintf(other, sizeof(other), "%s-other", f->path);
		assert_int_equal(link(path, other), 0);
		refused(f, -EPERM, "a second name elsewhere (a hard link)");
		assert_int_equal(unlink(path), 0);
		assert_int_equal(symlink(other, path), 0);
		refused(f, -EPERM, "is no file of its own; move the file that is meant here");
		assert_non_null(strstr(f->error, names[i]));
		assert_int_equal(unlink(path), 0);
		assert_int_equal(symlink("/nowhere", path), 0);
		refused(f, -EPERM, "is no file of its own");
		assert_int_equal(unlink(path), 0);
		assert_int_equal(mkfifo(path, 0600), 0);
		refused(f, -EPERM, "is no file of its own");
		assert_int_equal(rename(other, path), 0);
		fixture_open(f);
		fixture_close(f);
	}
}

static void
a_file_cut_short(void **state)
{
	struct fixture *f = *state;
	char path[128];

	data_path(f, path);
	fixture_open(f);
	fixture_deliverable(f, 1, 1, 1000000);
	fixture_close(f);
	assert_int_equal(truncate(path, 500000), 0);
	refused(f, -EBADMSG, "cut short: it has 500000 octets and should have at least 1");
	assert_non_null(strstr(f->error, "`tramctl queue salvage`"));
	assert_int_equal(truncate(path, 100), 0);
	refused(f, -EPROTO, "not a queue");
	assert_int_equal(truncate(path, 0), 0);
	fixture_open(f);
}

static void
what_is_not_a_queue(void **state)
{
	struct fixture *f = *state;
	char path[128];
	FILE *file;

	data_path(f, path);
	umask(077);
	file = fopen(path, "w");
	for (int i = 0; i < 10000; i++)
		fputc(i & 255, file);
	fclose(file);
	refused(f, -EPROTO, "not a queue");
}

static void
patch(const char *path, off_t at, const void *octets, size_t len)
{
	int fd = open(path, O_WRONLY);

	assert_int_equal(pwrite(fd, octets, len, at), (ssize_t)len);
	close(fd);
}

/* One field of both meta pages. */
static void
patch_metas(const char *path, off_t field, uint32_t value)
{
	patch(path, field, &value, sizeof(value));
	patch(path, sysconf(_SC_PAGESIZE) + field, &value, sizeof(value));
}

enum { META_MAGIC = 16, META_VERSION = 20, META_PAGE_SIZE = 40 };

static void
a_file_of_another_machine(void **state)
{
	struct fixture *f = *state;
	const uint32_t ours = (uint32_t)sysconf(_SC_PAGESIZE);
	char path[128];

	data_path(f, path);
	make(f);
	patch_metas(path, META_MAGIC, __builtin_bswap32(0xbeefc0de));
	refused(f, -EPROTO, "another byte order; drain it there, or export it there");
	patch_metas(path, META_MAGIC, 0xbeefc0de);
	patch_metas(path, META_VERSION, 2);
	refused(f, -EPROTO,
		"another version of LMDB (format 2, this is 1); drain it with the tramd that made "
		"it");
	patch_metas(path, META_VERSION, 1);
	patch_metas(path, META_PAGE_SIZE, 2 * ours);
	refused(f, -EOPNOTSUPP, "was made with pages of");
	assert_non_null(strstr(f->error, "drain it where it was made"));
	patch_metas(path, META_PAGE_SIZE, 1000);
	refused(f, -EPROTO, "first page is damaged");
	patch_metas(path, META_PAGE_SIZE, ours);
	fixture_open(f);
}

/* A file of LMDB that has tables, and none is ours. */
static void
a_database_of_somebody_else(void **state)
{
	static const char name[] = "\4\0meta";
	struct fixture *f = *state;
	char path[128], *all = malloc(8 << 20), *at = all;
	struct stat before, after;
	ssize_t len;
	int fd;

	data_path(f, path);
	make(f);
	fd = open(path, O_RDONLY);
	len = pread(fd, all, 8 << 20, 0);
	close(fd);
	while ((at = memmem(at, (size_t)(all + len - at), name, 6)) != NULL)
		patch(path, ++at - all + 1, "mata", 4);
	free(all);
	assert_int_equal(stat(path, &before), 0);
	refused(f, -EPROTO, "not a queue of tram");
	assert_int_equal(stat(path, &after), 0);
	assert_true(before.st_mtim.tv_sec == after.st_mtim.tv_sec &&
		    before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
}

static void
a_newer_format(void **state)
{
	struct fixture *f = *state;
	const struct store_config config = { .path = f->path, .map_size = 16 << 20, .readers = 1 };
	const struct key newer = key_id(QUEUE_FORMAT + 1);
	char error[STORE_ERROR_MAX];
	struct store *store;
	struct txn txn;

	fixture_open(f);
	fixture_close(f);
	assert_int_equal(store_open(&config, &store, error), 0);
	assert_int_equal(txn_write(store, &txn), 0);
	txn_put(&txn, TABLE_META, SPAN("format"), key_span(&newer));
	assert_int_equal(txn_commit(&txn), 0);
	store_close(store);
	refused(f, -EPROTO, "start the newer tramd, or drain the queue with it first");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(file_systems_that_do_not_keep_their_word), TEST(no_directory),
		TEST(a_directory_that_others_may_write_to), TEST(somebody_elses),
		TEST(a_link_to_the_directory_is_that_directory), TEST(a_second_opener),
		TEST(a_data_file_that_others_may_read), TEST(links), TEST(a_file_cut_short),
		TEST(what_is_not_a_queue),
		TEST(a_file_of_another_machine), TEST(a_database_of_somebody_else),
		TEST(a_newer_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
