/*
 * test_sandbox: each test closes the sandbox around a child process and looks at what that can
 * still do. What the kernel here does not have is not tested.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mta/keeper/sandbox.h"

enum { SKIPPED = 77 };

static char place[] = "/tmp/tram-sandbox-XXXXXX";

/* What is wrong is told with the line. */
#define MUST(condition)                                                                           \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "%d: %s (%s)\n", __LINE__, #condition, strerror(errno));  \
			_exit(1);                                                                 \
		}                                                                                 \
	} while (0)

static int
run(void (*inside)(void))
{
	int status = 0;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		inside();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		skip();
	return status;
}

static struct sandbox
close_files(bool reads, bool ports)
{
	char own[128];
	struct sandbox_root roots[] = {
		{ own, SANDBOX_READ | SANDBOX_LIST | SANDBOX_WRITE | SANDBOX_SOCKETS },
		{ "/dev/null", SANDBOX_READ | SANDBOX_WRITE },
		{ "/nothing/is/here", SANDBOX_READ },
	};
	struct sandbox_limits limits = { roots, 3, reads, ports };
	struct sandbox s = { .wanted = true };

	snprintf(own, sizeof(own), "%s/own", place);
	sandbox_files(&s, &limits);
	if (s.files <= 0)
		_exit(SKIPPED);
	return s;
}

static void
close_calls(void)
{
	struct sandbox s = { .wanted = true };
	struct sandbox_limits limits = { 0 };

	sandbox_files(&s, &limits);
	sandbox_calls(&s);
	if (s.calls <= 0)
		_exit(SKIPPED);
}

static int
open_in(const char *folder, const char *name, int flags)
{
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s%s/%s", place, folder, name);
	fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
	return fd;
}

static void
files_inside(void)
{
	struct sandbox s = close_files(false, false);

	MUST(open_in("/own", "new", O_CREAT | O_RDWR) >= 0);
	MUST(open_in("/own", "new", O_WRONLY | O_TRUNC) >= 0 || s.files < 3);
	MUST(open_in("", "outside", O_WRONLY) < 0 && errno == EACCES);
	MUST(open_in("", "outside", O_RDONLY) >= 0);
	MUST(open_in("", "made", O_CREAT | O_RDWR) < 0 && errno == EACCES);
	MUST(open("/dev/null", O_RDWR | O_CLOEXEC) >= 0);
	MUST(execl("/bin/true", "true", NULL) < 0 && errno == EACCES);
	MUST(s.writable_count == 2 && !sandbox_lets_write(&s, "/var/log/x"));
	sandbox_free(&s);
}

static void
reads_inside(void)
{
	struct sandbox s = close_files(true, false);

	MUST(open_in("/own", "new", O_CREAT | O_RDWR) >= 0);
	MUST(open_in("", "outside", O_RDONLY) < 0 && errno == EACCES);
	MUST(open("/etc/shadow", O_RDONLY) < 0 && errno == EACCES);
	MUST(open("/etc", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES);
	sandbox_free(&s);
}

static int
listening(uint16_t port, uint32_t address)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(address) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	MUST(fd >= 0);
	return bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 1) < 0 ? -1 : fd;
}

static void
ports_inside(void)
{
	int door = listening(0, INADDR_LOOPBACK), fd;
	struct sandbox s = close_files(false, true);
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);

	if (!s.ports_closed)
		_exit(SKIPPED);
	MUST(listening(45000, INADDR_LOOPBACK) < 0 && errno == EACCES);
	/* a connection goes out, with an address of ours too */
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(getsockname(door, (struct sockaddr *)&sa, &len) == 0);
	MUST(bind(fd, (struct sockaddr *)&(struct sockaddr_in){ .sin_family = AF_INET,
			 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, sizeof(sa)) == 0);
	MUST(connect(fd, (struct sockaddr *)&sa, len) == 0);
	sandbox_free(&s);
}

static void *
thread(void *arg)
{
	return arg;
}

/* What the daemon does all day. */
static void
calls_inside(void)
{
	pthread_t id;
	void *at, *ret = NULL;

	close_calls();
	MUST(pthread_create(&id, NULL, thread, place) == 0 && pthread_join(id, &ret) == 0 &&
	     ret == place);
	at = malloc(64 << 20);
	MUST(at != NULL);
	free(at);
	MUST(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0) >= 0 || errno == EAFNOSUPPORT);
	MUST(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
	MUST(open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0);
	if (SANDBOX_SANITIZED)
		return;
	MUST(socket(AF_PACKET, SOCK_DGRAM, 0) < 0 && errno == ENOSYS);
	MUST(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) < 0 && errno == ENOSYS);
	MUST(fork() < 0 && errno == ENOSYS);
	MUST(kill(getppid(), SIGTERM) < 0 && errno == ENOSYS);
	MUST(syscall(SYS_unshare, 0) < 0 && errno == ENOSYS);
	MUST(syscall(SYS_bpf, 0, NULL, 0) < 0 && errno == ENOSYS);
	MUST(syscall(SYS_setuid, 0) < 0 && errno == ENOSYS);
	at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(at != MAP_FAILED && mprotect(at, 4096, PROT_READ | PROT_EXEC) < 0 && errno == ENOSYS);
	MUST(mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	     MAP_FAILED);
	MUST(munmap(at, 4096) == 0);
}

static void
runs_a_program(void)
{
	close_calls();
	execl("/bin/true", "true", NULL);
}

static void
watches_another(void)
{
	close_calls();
	syscall(SYS_ptrace, PTRACE_SEIZE, getppid(), NULL, NULL);
}

static void
says_it(void)
{
	struct buf text = { 0 };
	struct sandbox off = { 0 }, none = { .wanted = true, .files = -ENOSYS, .calls = -EINVAL },
		       some = { .wanted = true, .files = 7, .calls = 1, .reads_limited = true };

	MUST(sandbox_describe(&off, &text) && span_eq(buf_span(&text), SPAN("off")));
	buf_clear(&text);
	MUST(!sandbox_describe(&none, &text));
	MUST(memmem(text.at + text.start, buf_len(&text), "no Landlock: this kernel", 24) != NULL);
	MUST(memmem(text.at + text.start, buf_len(&text), "no seccomp: this kernel", 23) != NULL);
	buf_clear(&text);
	MUST(sandbox_describe(&some, &text));
	MUST(memmem(text.at + text.start, buf_len(&text), "(Landlock 7)", 12) != NULL);
	MUST(sandbox_lets_write(&off, "/var/log/x"));
	buf_free(&text);
}

static void
test_works_and_refuses(void **state)
{
	(void)state;
	assert_int_equal(run(files_inside), 0);
	assert_int_equal(run(reads_inside), 0);
	assert_int_equal(run(calls_inside), 0);
	assert_int_equal(run(says_it), 0);
}

static void
test_ports(void **state)
{
	(void)state;
	assert_int_equal(run(ports_inside), 0);
}

static void
test_deadly(void **state)
{
	int status = run(runs_a_program);

	(void)state;
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	status = run(watches_another);
	assert_true(SANDBOX_SANITIZED || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS));
}

static int
make_place(void **state)
{
	char path[64];
	FILE *file;

	(void)state;
	if (mkdtemp(place) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/own", place);
	if (mkdir(path, 0700) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/outside", place);
	file = fopen(path, "w");
	return file == NULL ? -1 : fclose(file);
}

static int
remove_place(void **state)
{
	static const char *const names[] = { "/own/new", "/own", "/outside", "" };
	char path[64];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s%s", place, names[i]);
		remove(path);
	}
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_works_and_refuses),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_deadly),
	};

	return cmocka_run_group_tests(tests, make_place, remove_place);
}
