/* keeper: see keeper.h. A process of its own, without threads. */
#include "mta/keeper/keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mta/auth/prep.h"
#include "mta/keeper/request.h"
#include "mta/keeper/user.h"
#include "mta/net/command_run.h"

enum { RUNNING_MAX = 64, WRITE_S = 30, CLOSE_S = 1 };

bool
keeper_is_wanted(const struct config *config)
{
	const struct routes *routes = &config->access.routes;

	for (size_t i = 0; i < routes->count; i++)
		if (routes->routes[i].token_command_count > 0)
			return true;
	return false;
}

/* ---- commands ----------------------------------------------------------------------------- */

static bool
same_words(const struct route *route, const struct keeper_request *request)
{
	if (route->token_command_count != request->word_count)
		return false;
	for (size_t i = 0; i < request->word_count; i++)
		if (!span_eq(route->token_command[i], request->words[i]))
			return false;
	return true;
}

/* The route of this configuration that names exactly this command. */
static const struct route *
route_of(const struct config *config, const struct keeper_request *request)
{
	for (size_t i = 0; config != NULL && i < config->access.routes.count; i++) {
		const struct route *route = &config->access.routes.routes[i];

		if (route->token_command_count > 0 && same_words(route, request))
			return route;
	}
	return NULL;
}

static bool
write_all(int fd, struct span octets)
{
	while (octets.len > 0) {
		ssize_t n = send(fd, octets.at, octets.len, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return false;
		octets = span_skip(octets, n > 0 ? (size_t)n : 0);
	}
	return true;
}

/* In a child: it ends when the command does, or when nobody waits for that any more. */
static _Noreturn void
run_and_tell(const char *user, const struct config *config, const struct route *route, int answer)
{
	struct arena arena = { 0 };
	char **argv = arena_alloc(&arena, (route->token_command_count + 1) * sizeof(*argv));
	struct command_run run = { argv, config->limits.token_timeout_ms,
				   config->limits.token_output, answer };
	struct keeper_outcome outcome;
	struct buf output = { 0 };
	char why[COMMAND_WHY_MAX];
	bool told;

	for (size_t i = 0; i < route->token_command_count; i++)
		argv[i] = arena_str(&arena, route->token_command[i]);
	if (keeper_become(user, true) < 0)
		_exit(1);
	outcome.rc = command_run(&run, &output, why);
	outcome.why_len = (uint32_t)strlen(why);
	outcome.output_len = outcome.rc < 0 ? 0 : (uint32_t)buf_len(&output);
	signal(SIGALRM, SIG_DFL);
	alarm(WRITE_S);
	told = write_all(answer, span_of((char *)&outcome, sizeof(outcome))) &&
	       write_all(answer, span_str(why)) &&
	       write_all(answer, span_first(buf_span(&output), outcome.output_len));
	buf_wipe(&output);
	_exit(told ? 0 : 1);
}

/* A helper has no other children; the keeper of a server buries as it hears of them. */
static void
bury(struct keeper *keeper)
{
	while (keeper->server == 0 && keeper->running > 0 && waitpid(-1, NULL, WNOHANG) > 0)
		keeper->running--;
}

/* Who asks for what is not there hears nothing: the socket is closed. */
static void
run(struct keeper *keeper, const struct keeper_request *request, int answer)
{
	const struct config *config = keeper->config;
	const struct route *route = route_of(config, request);
	pid_t child;

	if (route == NULL) {
		config = keeper->fresh;
		route = route_of(config, request);
	}
	bury(keeper);
	if (route == NULL || keeper->running >= RUNNING_MAX)
		return;
	child = fork();
	if (child == 0) {
		/* no port is held by who runs a command, nor can the server be heard there */
		answer = dup2(answer, STDERR_FILENO + 1);
		if (answer < 0)
			_exit(1);
		close_range((unsigned)answer + 1, ~0u, 0);
		run_and_tell(keeper->user, config, route, answer);
	}
	if (child > 0)
		keeper->running++;
}

/* ---- the configuration -------------------------------------------------------------------- */

/* The server goes on with what it had. */
static void
dropped(struct keeper *keeper)
{
	config_free(keeper->fresh);
	keeper->fresh = NULL;
	if (keeper->server != 0 && keeper->config != NULL)
		keeper_close_doors(keeper);
}

static void
read_again(struct keeper *keeper, int answer)
{
	char error[CONFIG_ERROR_MAX];
	struct config *fresh;
	int rc = config_load(keeper->path, &fresh, error, NULL);

	if (rc == 0 && keeper->server != 0 &&
	    (rc = keeper_open_doors(keeper, fresh, error)) < 0)
		config_free(fresh);
	if (rc < 0) {
		dropped(keeper);
		keeper_give_end(answer, error);
		return;
	}
	config_free(keeper->fresh);
	keeper->fresh = fresh;
	if (keeper->server != 0) {
		keeper_give_files(keeper, fresh, answer);
		keeper_give_doors(keeper, answer);
	}
	keeper_give_end(answer, "");
}

static void
taken(struct keeper *keeper)
{
	if (keeper->fresh == NULL)
		return;
	config_free(keeper->config);
	keeper->config = keeper->fresh;
	keeper->fresh = NULL;
	if (keeper->server != 0) {
		keeper_close_doors(keeper);
		keeper_watch(keeper);
	}
}

struct naming {
	const char *path;
	bool found;
};

static void
compare(void *arg, const char *path)
{
	struct naming *naming = arg;

	naming->found = naming->found || strcmp(path, naming->path) == 0;
}

static bool
is_named(const struct config *config, const char *path)
{
	struct naming naming = { path, false };

	if (config != NULL)
		config_each_file(config, compare, &naming);
	return naming.found;
}

static void
give_one(struct keeper *keeper, const struct keeper_request *request, int answer)
{
	struct arena arena = { 0 };
	char *path = request->word_count == 1 ? arena_str(&arena, request->words[0]) : NULL;

	if (path != NULL && (is_named(keeper->config, path) || is_named(keeper->fresh, path)))
		keeper_give_file(keeper, path, answer);
	else
		keeper_give_end(answer, "the configuration does not name it");
	arena_free(&arena);
}

/* What a server may tell the service manager in our name. */
static void
notify(struct keeper *keeper, const struct keeper_request *request)
{
	static const char *const known[] = { "READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1" };

	for (size_t i = 0; request->word_count == 1 && i < sizeof(known) / sizeof(known[0]); i++)
		if (span_eq(request->words[0], span_str(known[i])))
			keeper->notify(known[i]);
}

/* ---- requests ----------------------------------------------------------------------------- */

static void
do_nothing(int number)
{
	(void)number;
}

/*
 * What a server that was taken over sends along may take its time to be closed (a TCP socket that
 * lingers), be it by close() or by recvmsg() that has no room for it: signals end that.
 */
static void
hurry(bool on)
{
	const struct sigaction action = { .sa_handler = do_nothing };
	const struct itimerval timer = { { CLOSE_S, 0 }, { CLOSE_S, 0 } }, none = { 0 };

	if (on)
		sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, on ? &timer : &none, NULL);
}

/*
 * One request and the descriptor that came with it; 0: nobody is there any more. There is room for
 * one descriptor, and not for the one that would fit into the padding: if there are more, all are
 * closed.
 */
static ssize_t
receive(int channel, char *at, size_t room, int *ret_fd)
{
	union {
		struct cmsghdr head;
		char octets[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { at, room };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = CMSG_LEN(sizeof(int)) };
	ssize_t n = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *head = n < 0 ? NULL : CMSG_FIRSTHDR(&message);

	*ret_fd = -1;
	if (head != NULL && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
	    head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(head), sizeof(int));
	if (n > 0 && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
		if (*ret_fd >= 0)
			close(*ret_fd);
		*ret_fd = -1;
	}
	return n;
}

static void
answer_one(struct keeper *keeper, struct span octets, int answer)
{
	struct keeper_request request;

	if (answer < 0 || !keeper_request_decode(octets, &request))
		return;
	if (request.ask == KEEPER_RUN)
		run(keeper, &request, answer);
	else if (request.ask == KEEPER_RELOAD)
		read_again(keeper, answer);
	else if (request.ask == KEEPER_TAKEN)
		taken(keeper);
	else if (request.ask == KEEPER_DROPPED)
		dropped(keeper);
	else if (keeper->server == 0)
		return;				/* a helper gives nothing */
	else if (request.ask == KEEPER_LOOK && keeper->config != NULL) {
		keeper_give_files(keeper, keeper->config, answer);
		keeper_give_end(answer, "");
	} else if (request.ask == KEEPER_FILE)
		give_one(keeper, &request, answer);
	else if (request.ask == KEEPER_NOTIFY)
		notify(keeper, &request);
}

bool
keeper_hear(struct keeper *keeper)
{
	static char octets[KEEPER_REQUEST_MAX];
	struct pollfd wait = { keeper->channel, POLLIN, 0 };
	int answer, error;
	ssize_t n;

	if (poll(&wait, 1, -1) < 0)
		return errno == EINTR;
	hurry(true);
	n = receive(keeper->channel, octets, sizeof(octets), &answer);
	error = errno;
	hurry(false);
	if (n > 0)
		answer_one(keeper, span_of(octets, (size_t)n), answer);
	hurry(true);
	if (answer >= 0)
		close(answer);
	hurry(false);
	return n > 0 || (n < 0 && error == EINTR);
}

void
keeper_serve(struct keeper *keeper)
{
	prctl(PR_SET_NAME, "tramd-keeper", 0, 0, 0);
	/* outside of the sandbox, of the same user: nobody may look into it or change it */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	/* process 1 ignores it; here the ended are counted */
	signal(SIGCHLD, SIG_DFL);
	while (keeper_hear(keeper))
		;
	_exit(0);
}
