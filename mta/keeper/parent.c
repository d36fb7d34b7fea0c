/*
 * parent: the keeper of a server that is its child: hands on signals, tells it of changed files,
 * hears what it asks, and ends when it does, with the same status. Without threads.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mta/keeper/keeper.h"

enum { EXIT_KILLED = 75 };		/* to be started again, as sysexits.h has it */

static int
hear_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	signal(SIGCHLD, SIG_DFL);	/* process 1 buries its orphans with the rest */
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* The server's end is ours. */
static void
bury(struct keeper *keeper)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == keeper->server) {
			if (WIFSIGNALED(status))
				fprintf(stderr, "tramd: the server was killed by signal %d\n",
					WTERMSIG(status));
			_exit(WIFSIGNALED(status) ? EXIT_KILLED : WEXITSTATUS(status));
		}
		if (keeper->running > 0)
			keeper->running--;
	}
}

static void
on_signal(struct keeper *keeper)
{
	struct signalfd_siginfo info;

	while (read(keeper->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			bury(keeper);
		else
			kill(keeper->server, (int)info.ssi_signo);
	}
}

static void
on_change(struct keeper *keeper)
{
	keeper_watch(keeper);			/* which forgets what has happened */
	kill(keeper->server, SIGUSR2);
}

static _Noreturn void
keep(struct keeper *keeper)
{
	prctl(PR_SET_NAME, "tramd-keeper", 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	for (;;) {
		struct pollfd fds[] = { { keeper->signals, POLLIN, 0 },
					{ keeper->channel, POLLIN, 0 },
					{ keeper->watch, POLLIN, 0 } };

		if (poll(fds, 3, -1) < 0 && errno != EINTR)
			_exit(EXIT_KILLED);		/* the server dies with us */
		if (fds[0].revents != 0)
			on_signal(keeper);
		if (fds[2].revents != 0)
			on_change(keeper);
		if (fds[1].revents != 0 && !keeper_hear(keeper)) {
			close(keeper->channel);		/* it is about to end */
			keeper->channel = -1;
		}
	}
}

int
keeper_split(struct keeper *keeper, int *ret)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	keeper->watch = -1;
	keeper->signals = hear_signals();
	if (keeper->signals < 0)
		return -errno;
	keeper->server = fork();
	if (keeper->server < 0)
		return -errno;
	if (keeper->server > 0) {
		close(ends[0]);
		keeper->channel = ends[1];
		keep(keeper);
	}
	close(ends[1]);
	close(keeper->signals);
	/* what a terminal sends to the group comes once, from the keeper: twice means at once */
	setsid();
	files_free(keeper->doors);	/* they come again, as with each reload */
	*ret = ends[0];
	return 0;
}
