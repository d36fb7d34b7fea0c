/* open_as: what root opens for a user who owns a folder on the way, and what it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/base/open_as.h"

enum { NOBODY = 65534 };

static char place[] = "/tmp/tram-open-XXXXXX";

static char *
at(const char *name)
{
	static char paths[4][128];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", place, name);
	return path;
}

static int
try(const char *name, int flags)
{
	int fd = open_as(at(name), flags | O_CLOEXEC, 0600, NOBODY, NOBODY);

	assert_int_equal(geteuid(), 0);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static void
make(const char *name, mode_t mode)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	close(fd);
}

static void
test_links(void **state)
{
	struct stat there;

	(void)state;
	if (geteuid() != 0)
		skip();
	/* root's folder: what root put there */
	assert_int_equal(try("root/secret", O_RDONLY), 0);
	assert_int_equal(try("root/link", O_RDONLY), 0);
	assert_int_equal(try("root/made", O_WRONLY | O_CREAT), 0);
	/* the user's: what the user may */
	assert_int_equal(try("his/link", O_RDONLY), -EACCES);
	assert_int_equal(try("his/link", O_WRONLY | O_APPEND), -EACCES);
	assert_int_equal(try("his/folder/secret", O_RDONLY), -EACCES);
	assert_int_equal(try("his/made", O_WRONLY | O_CREAT), 0);
	assert_int_equal(stat(at("his/made"), &there), 0);
	assert_int_equal(there.st_uid, NOBODY);
	/* root's link into the user's folder, and the user's where all may write */
	assert_int_equal(try("root/there", O_RDONLY), -EACCES);
	assert_int_equal(try("all/link", O_RDONLY), -EACCES);
	assert_int_equal(try("loop", O_RDONLY), -ELOOP);
	assert_int_equal(open_as(at("his/missing"), O_RDONLY, 0, NOBODY, NOBODY), -ENOENT);
	/* for root it is as ever */
	assert_true(close(open_as(at("root/secret"), O_RDONLY | O_CLOEXEC, 0, 0, 0)) == 0);
}

static int
make_place(void **state)
{
	(void)state;
	if (mkdtemp(place) == NULL || chmod(place, 0755) < 0 || mkdir(at("root"), 0700) < 0 ||
	    mkdir(at("his"), 0755) < 0 || mkdir(at("all"), 0777) < 0 || chmod(at("all"), 01777) < 0)
		return -1;
	make("root/secret", 0600);
	if (symlink("secret", at("root/link")) < 0 ||
	    symlink("../his/link", at("root/there")) < 0 ||
	    symlink("../root/secret", at("his/link")) < 0 ||
	    symlink("../root", at("his/folder")) < 0 ||
	    symlink("../root/secret", at("all/link")) < 0 || symlink("loop", at("loop")) < 0)
		return -1;
	return geteuid() == 0 && (chown(at("his"), NOBODY, NOBODY) < 0 ||
				  lchown(at("all/link"), NOBODY, NOBODY) < 0) ? -1 : 0;
}

static int
remove_place(void **state)
{
	static const char *const names[] = { "root/made", "root/secret", "root/link", "root/there",
					     "his/made",
					     "his/link", "his/folder", "all/link", "loop" };
	static const char *const folders[] = { "root", "his", "all" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(at(names[i]));
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		rmdir(at(folders[i]));
	return rmdir(place);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_links) };

	return cmocka_run_group_tests(tests, make_place, remove_place);
}
