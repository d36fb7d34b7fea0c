/*
 * command_run: see command_run.h. The end is the end of the process (a pidfd), not of its pipes:
 * what it leaves behind in the background holds nobody up, and is killed with its process group.
 */
#include "mta/net/command_run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mta/base/clock.h"

enum { COMPLAINT_MAX = 200, NOT_RUN = 127 };

struct child {
	pid_t pid;
	int pidfd;
	int out, err;				/* -1: at their end */
	struct buf *output;
	size_t max_output;
	char complaint[COMPLAINT_MAX];		/* the first octets of standard error */
	size_t complaint_len;
};

/* ---- the child: only what is safe after fork() in a program with threads ------------------- */

static _Noreturn void
become_command(char *const *argv, int out, int err)
{
	static char *const environment[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG=C.UTF-8", "HOME=/", NULL
	};
	struct sigaction usual = { .sa_handler = SIG_DFL };
	int null = open("/dev/null", O_RDONLY);
	sigset_t none;

	setpgid(0, 0);
	for (int i = 1; i < NSIG; i++)
		sigaction(i, &usual, NULL);	/* KILL and STOP refuse, and may */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 || chdir("/") < 0)
		_exit(NOT_RUN);
	close_range(3, ~0u, 0);
	execve(argv[0], argv, environment);
	_exit(NOT_RUN);
}

/* ---- the parent --------------------------------------------------------------------------- */

static int
start(struct child *c, const struct command_run *run)
{
	int out[2] = { -1, -1 }, err[2] = { -1, -1 }, rc = 0;

	/*
	 * above 2, so that the child's dup2() never meets its own ends: 0, 1 and 2 are always open
	 */
	if (access(run->argv[0], X_OK) < 0 || pipe2(out, O_CLOEXEC) < 0 ||
	    pipe2(err, O_CLOEXEC) < 0)
		rc = -errno;
	if (rc == 0 && (c->pid = fork()) == 0)
		become_command(run->argv, out[1], err[1]);
	if (rc == 0 && c->pid < 0)
		rc = -errno;
	close(out[1]);
	close(err[1]);
	c->out = out[0];
	c->err = err[0];
	if (rc < 0)
		return rc;
	setpgid(c->pid, c->pid);		/* both do it: neither may be late */
	fcntl(c->out, F_SETFL, O_NONBLOCK);
	fcntl(c->err, F_SETFL, O_NONBLOCK);
	c->pidfd = pidfd_open(c->pid, 0);
	return c->pidfd < 0 ? -errno : 0;
}

static void
read_output(struct child *c)
{
	while (c->out >= 0 && buf_len(c->output) <= c->max_output) {
		size_t room = c->max_output + 1 - buf_len(c->output);
		ssize_t n = read(c->out, buf_reserve(c->output, room), room);

		if (n > 0) {
			buf_grew(c->output, (size_t)n);
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			close(c->out);
			c->out = -1;
		} else if (errno == EAGAIN) {
			return;
		}
	}
}

/* The first words are kept; the rest is read, that it may write on, and dropped. */
static void
read_complaint(struct child *c)
{
	char drain[4096];
	ssize_t n = c->err < 0 ? -1 : read(c->err, drain, sizeof(drain));

	if (n > 0) {
		size_t room = sizeof(c->complaint) - c->complaint_len;
		size_t take = (size_t)n < room ? (size_t)n : room;

		memcpy(c->complaint + c->complaint_len, drain, take);
		c->complaint_len += take;
	} else if (c->err >= 0 && (n == 0 || (errno != EAGAIN && errno != EINTR))) {
		close(c->err);
		c->err = -1;
	}
}

/* Until it has ended: 0; or why it must end now. */
static int
attend(struct child *c, const struct command_run *run)
{
	int64_t end_ms = mono_ms() + run->timeout_ms;

	for (;;) {
		struct pollfd fds[] = { { c->pidfd, POLLIN, 0 }, { run->stop, POLLIN, 0 },
					{ c->out, POLLIN, 0 }, { c->err, POLLIN, 0 } };
		int64_t left = end_ms - mono_ms();

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(fds, 4, (int)left) < 0 && errno != EINTR)
			return -errno;
		read_output(c);
		read_complaint(c);
		if (buf_len(c->output) > c->max_output)
			return -EFBIG;
		if ((fds[0].revents & POLLIN) != 0)
			return 0;
		if ((fds[1].revents & POLLIN) != 0)
			return -ECANCELED;
	}
}

/* Kills what is left of it; its status, or -errno: it is not known (SIGCHLD is ignored). */
static int
finish(struct child *c)
{
	int status = 0, rc = 0;

	if (c->pid > 0) {
		kill(-c->pid, SIGKILL);
		kill(c->pid, SIGKILL);
		while ((rc = waitpid(c->pid, &status, 0)) < 0 && errno == EINTR)
			;
		rc = rc < 0 ? -errno : 0;
	}
	if (c->pidfd >= 0)
		close(c->pidfd);
	if (c->out >= 0)
		close(c->out);
	if (c->err >= 0)
		close(c->err);
	return rc < 0 ? rc : status;
}

static int
judge_status(int status, char *why, size_t room)
{
	if (WIFSIGNALED(status))
		snprintf(why, room, "it was killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) == NOT_RUN)
		snprintf(why, room, "it ended with status %d: it, or what it calls, cannot be run",
			 NOT_RUN);
	else if (WEXITSTATUS(status) != 0)
		snprintf(why, room, "it ended with status %d", WEXITSTATUS(status));
	return status == 0 ? 0 : -EIO;
}

static void
say_why(const struct command_run *run, int rc, char *why, size_t room)
{
	if (rc == -ETIMEDOUT)
		snprintf(why, room, "it had not ended after %lld ms, and was killed",
			 (long long)run->timeout_ms);
	else if (rc == -EFBIG)
		snprintf(why, room, "it prints more than %zu octets", run->max_output);
	else if (rc == -ECANCELED)
		snprintf(why, room, "it was killed, for the server stops");
	else
		snprintf(why, room, "it cannot be run: %s", strerror(-rc));
}

/* Its own words, on one line. */
static void
add_complaint(const struct child *c, char why[COMMAND_WHY_MAX])
{
	struct span text = span_of(c->complaint, c->complaint_len);
	size_t at = strlen(why);

	text = span_trim(span_cut(&text, '\n'));
	if (text.len == 0)
		return;
	snprintf(why + at, COMMAND_WHY_MAX - at, "; it says: %.*s", SPAN_FMT(text));
	for (; why[at] != '\0'; at++)
		if ((unsigned char)why[at] < ' ' || (unsigned char)why[at] > '~')
			why[at] = '?';
}

int
command_run(const struct command_run *run, struct buf *output, char why[COMMAND_WHY_MAX])
{
	struct child c = { .pidfd = -1, .out = -1, .err = -1, .output = output,
			   .max_output = run->max_output };
	int rc, status;

	buf_clear(output);
	buf_reserve(output, run->max_output + 1);
	why[0] = '\0';
	rc = start(&c, run);
	if (rc == 0)
		rc = attend(&c, run);
	status = finish(&c);
	if (rc == 0 && status < 0)
		rc = status;
	if (rc < 0)
		say_why(run, rc, why, COMMAND_WHY_MAX);
	else
		rc = judge_status(status, why, COMMAND_WHY_MAX);
	if (rc < 0)
		add_complaint(&c, why);
	return rc;
}

int
command_run_by(const struct command_runner *runner, const struct command_run *run,
	       struct buf *output, char why[COMMAND_WHY_MAX])
{
	return runner != NULL ? runner->run(runner->arg, run, output, why) :
				command_run(run, output, why);
}
