/* keeper: see keeper.h. A process of its own, without threads. */
#include "mta/keeper/keeper.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mta/auth/prep.h"
#include "mta/keeper/request.h"
#include "mta/net/command_run.h"

enum { RUNNING_MAX = 64, WRITE_S = 30 };

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
run_and_tell(const struct config *config, const struct route *route, int answer)
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
	outcome.rc = command_run(&run, &output, why);
	outcome.why_len = (uint32_t)strlen(why);
	outcome.output_len = outcome.rc < 0 ? 0 : (uint32_t)buf_len(&output);
	alarm(WRITE_S);
	told = write_all(answer, span_of((char *)&outcome, sizeof(outcome))) &&
	       write_all(answer, span_str(why)) &&
	       write_all(answer, span_first(buf_span(&output), outcome.output_len));
	buf_wipe(&output);
	_exit(told ? 0 : 1);
}

static void
bury(struct keeper *keeper)
{
	while (keeper->running > 0 && waitpid(-1, NULL, WNOHANG) > 0)
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
		config = keeper->before;
		route = route_of(config, request);
	}
	bury(keeper);
	if (route == NULL || keeper->running >= RUNNING_MAX)
		return;
	child = fork();
	if (child == 0) {
		close(keeper->channel);
		run_and_tell(config, route, answer);
	}
	if (child > 0)
		keeper->running++;
}

/* ---- the configuration -------------------------------------------------------------------- */

static void
read_again(struct keeper *keeper, int answer)
{
	char error[CONFIG_ERROR_MAX];
	struct config *fresh;
	int32_t rc = config_load(keeper->path, &fresh, error, NULL);

	if (rc == 0) {
		config_free(keeper->before);
		keeper->before = keeper->config;
		keeper->config = fresh;
	}
	send(answer, &rc, sizeof(rc), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- requests ----------------------------------------------------------------------------- */

/* One request and the descriptor that came with it; 0: nobody is there any more. */
static ssize_t
receive(int channel, char *at, size_t room, int *ret_fd)
{
	union {
		struct cmsghdr head;
		char octets[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { at, room };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
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
}

void
keeper_serve(struct keeper *keeper)
{
	char *octets = malloc(KEEPER_REQUEST_MAX);
	ssize_t n = 0;
	int answer;

	if (octets == NULL)
		_exit(1);
	prctl(PR_SET_NAME, "tramd-keeper", 0, 0, 0);
	signal(SIGCHLD, SIG_DFL);		/* process 1 ignores it; here the ended are counted */
	do {
		n = receive(keeper->channel, octets, KEEPER_REQUEST_MAX, &answer);
		if (n > 0)
			answer_one(keeper, span_of(octets, (size_t)n), answer);
		if (answer >= 0)
			close(answer);
	} while (n > 0 || (n < 0 && errno == EINTR));
	_exit(0);
}
