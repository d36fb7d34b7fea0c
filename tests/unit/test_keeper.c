/*
 * test_keeper: what the keeper does for a server, and what it does not do for one that has been
 * taken over: it opens no file and runs no command that its configuration does not name.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mta/keeper/keeper.h"
#include "mta/keeper/link.h"

static char place[] = "/tmp/tram-keeper-XXXXXX", config_path[64], secret_path[64];

static unsigned port;

struct two {
	struct keeper_link link;
	pid_t keeper;
};

static void
write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static void
configure(const char *more)
{
	struct buf text = { 0 };

	buf_printf(&text,
		   "hostname = \"a.test\"\nsubmission-socket = \"%s/socket\"\n"
		   "listener smtp { address = {\"127.0.0.1:%u\"} }\n%s"
		   "route \"*\" { deliver = \"smtp:[127.0.0.1]:9\" user = \"u\" auth-unverified = "
		   "yes %s }\n"
		   "route \"b.test\" { deliver = \"smtp:[127.0.0.1]:9\" user = \"u\" "
		   "auth-unverified = yes "
		   "password-file = \"%s\" }\n",
		   place, port, more, "token-command = {\"/bin/echo\", \"a token\"}", secret_path);
	buf_byte(&text, '\0');
	write_file(config_path, text.at + text.start);
	buf_free(&text);
}

static void
ignore(const char *state)
{
	(void)state;
}

/* two stays where it is: the link points to itself. */
static void
start(struct two *two, bool gives)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	two->keeper = fork();
	assert_true(two->keeper >= 0);
	if (two->keeper == 0) {
		struct keeper keeper = { .channel = ends[1], .path = config_path, .watch = -1,
					 .server = gives ? getppid() : 0, .uid = getuid(),
					 .gid = getgid(), .notify = ignore };

		close(ends[0]);
		keeper.doors = xcalloc(1, sizeof(*keeper.doors));
		keeper_serve(&keeper);
	}
	close(ends[1]);
	keeper_link_init(&two->link, ends[0], gives);
}

static void
stop(struct two *two)
{
	int status;

	keeper_link_close(&two->link);
	assert_int_equal(waitpid(two->keeper, &status, 0), two->keeper);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int
run(struct two *two, char *first, char *second, struct buf *output)
{
	char *argv[] = { first, second, NULL }, why[COMMAND_WHY_MAX];
	struct command_run how = { argv, 20000, 1000, -1 };
	int rc = two->link.runner.run(two->link.runner.arg, &how, output, why);

	assert_true(rc == 0 || why[0] != '\0');
	return rc;
}

static char echo[] = "/bin/echo", token[] = "a token", other[] = "another", shell[] = "/bin/sh";

static void
test_commands(void **state)
{
	struct two two;
	struct buf output = { 0 };
	struct files *none;
	char error[CONFIG_ERROR_MAX];

	(void)state;
	start(&two, false);
	configure("");
	assert_true(run(&two, echo, token, &output) < 0);	/* no configuration yet */
	assert_int_equal(keeper_link_fetch(&two.link, KEEPER_RELOAD, &none, NULL, error), 0);
	assert_null(none);
	keeper_link_tell(&two.link, KEEPER_TAKEN, "");
	assert_int_equal(run(&two, echo, token, &output), 0);
	assert_true(span_eq(buf_span(&output), SPAN("a token\n")));
	assert_true(run(&two, echo, other, &output) < 0);
	assert_true(run(&two, echo, NULL, &output) < 0);
	assert_true(run(&two, shell, token, &output) < 0);
	assert_int_equal(run(&two, echo, token, &output), 0);
	/* a helper gives no files */
	assert_true(two.link.opener.open(two.link.opener.arg, secret_path) < 0);
	buf_free(&output);
	stop(&two);
}

static void
read_secret(struct two *two, const char *wanted)
{
	char text[16] = "";
	int fd = two->link.opener.open(two->link.opener.arg, secret_path);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, text, sizeof(text) - 1), strlen(wanted));
	assert_string_equal(text, wanted);
	assert_true(write(fd, "x", 1) < 0 && ftruncate(fd, 0) < 0);
	close(fd);
}

static bool
has(const struct files *files, const char *path)
{
	for (size_t i = 0; i < files->count; i++)
		if (strcmp(files->each[i].path, path) == 0)
			return true;
	return false;
}

static void
test_files(void **state)
{
	struct two two;
	char error[CONFIG_ERROR_MAX], door[80], room[FILES_PATH_MAX];
	struct files *files, *doors;
	struct stat there;

	(void)state;
	start(&two, true);
	configure("");
	assert_int_equal(chmod(secret_path, 0640), 0);
	snprintf(door, sizeof(door), "%s/socket", place);
	assert_true(two.link.opener.open(two.link.opener.arg, secret_path) < 0);
	assert_int_equal(keeper_link_fetch(&two.link, KEEPER_RELOAD, &files, &doors, error), 0);
	assert_true(files->count == 2 && has(files, config_path) && has(files, secret_path));
	assert_true(doors->count == 2 && has(doors, door));
	assert_int_equal(stat(files_at(files, secret_path, room), &there), 0);
	assert_int_equal(there.st_mode & 0777, 0640);
	files_free(files);
	files_free(doors);
	keeper_link_tell(&two.link, KEEPER_TAKEN, "");
	read_secret(&two, "one");
	write_file(secret_path, "three");
	read_secret(&two, "three");
	write_file(secret_path, "one");
	assert_int_equal(two.link.opener.open(two.link.opener.arg, "/etc/shadow"), -EACCES);
	assert_int_equal(two.link.opener.open(two.link.opener.arg, place), -EACCES);
	assert_int_equal(keeper_link_fetch(&two.link, KEEPER_LOOK, &files, NULL, error), 0);
	assert_true(files->count == 2);
	files_free(files);
	stop(&two);
	unlink(door);
}

static void
test_mistakes(void **state)
{
	struct two two;
	char error[CONFIG_ERROR_MAX];
	struct files *files, *doors;

	(void)state;
	start(&two, true);
	configure("");
	assert_int_equal(keeper_link_fetch(&two.link, KEEPER_RELOAD, &files, &doors, error), 0);
	files_free(files);
	files_free(doors);
	keeper_link_tell(&two.link, KEEPER_TAKEN, "");
	/* what is no request, and one without a socket for its answer */
	assert_int_equal(send(two.link.channel, "\xff\xff\xff", 3, 0), 3);
	assert_int_equal(send(two.link.channel, "\x02\x00", 2, 0), 2);
	configure("nonsense = 1\n");
	assert_int_equal(keeper_link_fetch(&two.link, KEEPER_RELOAD, &files, &doors, error),
			 -EINVAL);
	assert_non_null(strstr(error, "nonsense"));
	assert_null(files);
	keeper_link_tell(&two.link, KEEPER_DROPPED, "");
	keeper_link_tell(&two.link, KEEPER_NOTIFY, "STATUS=taken over");
	read_secret(&two, "one");
	stop(&two);
}

static size_t
open_in(pid_t pid)
{
	char path[64];
	size_t count = 0;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	folder = opendir(path);
	assert_non_null(folder);
	while (readdir(folder) != NULL)
		count++;
	closedir(folder);
	return count;
}

/* What is no request, with so many copies of a descriptor. */
static void
send_along(const struct two *two, int fd, size_t count)
{
	union {
		struct cmsghdr head;
		char octets[CMSG_SPACE(8 * sizeof(int))];
	} control = { 0 };
	struct iovec part = { "\xff", 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = CMSG_SPACE(count * sizeof(int)) };

	control.head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
					 .cmsg_len = CMSG_LEN(count * sizeof(int)) };
	for (size_t i = 0; i < count; i++)
		memcpy(CMSG_DATA(&control.head) + i * sizeof(int), &fd, sizeof(int));
	assert_int_equal(sendmsg(two->link.channel, &message, 0), 1);
}

static void
test_too_many_descriptors(void **state)
{
	struct two two;
	size_t before;

	(void)state;
	start(&two, true);
	configure("");
	keeper_link_tell(&two.link, KEEPER_DROPPED, "");	/* it is there */
	before = open_in(two.keeper);
	for (size_t count = 1; count <= 8; count++)
		send_along(&two, STDIN_FILENO, count);
	keeper_link_tell(&two.link, KEEPER_DROPPED, "");
	assert_int_equal(open_in(two.keeper), before);
	stop(&two);
}

/* A connection with octets that nobody reads, which is closed only when they are, or in an hour. */
static int
lingering(int *ret_peer)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct linger linger = { 1, 3600 };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	static const char octets[1 << 16];
	socklen_t len = sizeof(sa);

	assert_int_equal(bind(listener, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&sa, &len), 0);
	assert_true(connect(fd, (struct sockaddr *)&sa, len) == 0 || errno == EINPROGRESS);
	*ret_peer = accept(listener, NULL, NULL);
	assert_true(*ret_peer >= 0);
	close(listener);
	assert_int_equal(poll(&(struct pollfd){ fd, POLLOUT, 0 }, 1, 20000), 1);
	while (send(fd, octets, sizeof(octets), MSG_NOSIGNAL) > 0)
		;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	return fd;
}

/* Be it taken as where an answer goes to, or one too many. */
static void
test_slow_to_close(void **state)
{
	struct two two;
	char error[CONFIG_ERROR_MAX];
	struct files *files, *doors;

	(void)state;
	start(&two, true);
	configure("");
	for (size_t count = 1; count <= 2; count++) {
		int peer, fd = lingering(&peer);

		/* the keeper closes it last: it waits, or we would */
		assert_int_equal(kill(two.keeper, SIGSTOP), 0);
		assert_int_equal(waitpid(two.keeper, NULL, WUNTRACED), two.keeper);
		send_along(&two, fd, count);
		close(fd);
		assert_int_equal(kill(two.keeper, SIGCONT), 0);
		assert_int_equal(keeper_link_fetch(&two.link, KEEPER_RELOAD, &files, &doors, error),
				 0);
		files_free(files);
		files_free(doors);
		close(peer);
	}
	stop(&two);
}

static unsigned
free_port(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sa);

	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	close(fd);
	return ntohs(sa.sin_port);
}

static int
make_place(void **state)
{
	port = free_port();
	(void)state;
	if (mkdtemp(place) == NULL)
		return -1;
	snprintf(config_path, sizeof(config_path), "%s/conf", place);
	snprintf(secret_path, sizeof(secret_path), "%s/secret", place);
	write_file(secret_path, "one");
	return 0;
}

static int
remove_place(void **state)
{
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "%s/socket", place);
	unlink(path);
	unlink(config_path);
	unlink(secret_path);
	return rmdir(place);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_too_many_descriptors),
		cmocka_unit_test(test_slow_to_close),
	};

	return cmocka_run_group_tests(tests, make_place, remove_place);
}
