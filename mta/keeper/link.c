/* link: see link.h. */
#include "mta/keeper/link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/keeper/keeper.h"
#include "mta/keeper/request.h"
#include "mta/keeper/user.h"

enum { GRACE_MS = 10000 };

/* ---- asking ------------------------------------------------------------------------------- */

/* The socket on which the answer comes, or -errno. */
static int
ask(const struct keeper_link *link, const struct keeper_request *request)
{
	union {
		struct cmsghdr head;
		char octets[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct buf octets = { 0 };
	struct iovec part;
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	int ends[2], rc = 0;

	if (!keeper_request_encode(request, &octets)) {
		buf_free(&octets);
		return -E2BIG;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
		rc = -errno;
		buf_free(&octets);
		return rc;
	}
	part = (struct iovec){ octets.at + octets.start, buf_len(&octets) };
	control.head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
					 .cmsg_len = CMSG_LEN(sizeof(int)) };
	memcpy(CMSG_DATA(&control.head), &ends[1], sizeof(int));
	if (sendmsg(link->channel, &message, MSG_NOSIGNAL) < 0)
		rc = -errno;
	close(ends[1]);
	if (rc < 0)
		close(ends[0]);
	buf_free(&octets);
	return rc < 0 ? rc : ends[0];
}

/* Reads so many octets. 0 or -errno: ECANCELED (stop), ETIMEDOUT, EPIPE (it does not answer). */
static int
read_all(int fd, void *to, size_t len, int stop, int64_t end_ms)
{
	char *at = to;

	while (len > 0) {
		struct pollfd fds[] = { { fd, POLLIN, 0 }, { stop, POLLIN, 0 } };
		int64_t left = end_ms - mono_ms();
		ssize_t n;

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(fds, 2, (int)left) < 0 && errno != EINTR)
			return -errno;
		if ((fds[1].revents & POLLIN) != 0)
			return -ECANCELED;
		if ((fds[0].revents & (POLLIN | POLLHUP | POLLERR)) == 0)
			continue;
		n = recv(fd, at, len, MSG_DONTWAIT);
		if (n == 0)
			return -EPIPE;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* ---- commands ----------------------------------------------------------------------------- */

static int
read_outcome(int fd, const struct command_run *how, struct buf *output, char why[COMMAND_WHY_MAX])
{
	int64_t end_ms = mono_ms() + how->timeout_ms + GRACE_MS;
	struct keeper_outcome outcome;
	int rc = read_all(fd, &outcome, sizeof(outcome), how->stop, end_ms);

	if (rc == 0 && (outcome.why_len >= COMMAND_WHY_MAX || outcome.output_len > how->max_output ||
			outcome.rc > 0))
		rc = -EBADMSG;
	if (rc == 0)
		rc = read_all(fd, why, outcome.why_len, how->stop, end_ms);
	if (rc < 0)
		return rc;
	why[outcome.why_len] = '\0';
	rc = read_all(fd, buf_reserve(output, outcome.output_len), outcome.output_len, how->stop,
		      end_ms);
	if (rc == 0)
		buf_grew(output, outcome.output_len);
	return rc == 0 ? outcome.rc : rc;
}

static int
run_there(void *arg, const struct command_run *how, struct buf *output, char why[COMMAND_WHY_MAX])
{
	const struct keeper_link *link = arg;
	struct keeper_request request = { .ask = KEEPER_RUN };
	int fd, rc;

	buf_clear(output);
	buf_reserve(output, how->max_output + 1);
	why[0] = '\0';
	while (how->argv[request.word_count] != NULL && request.word_count < KEEPER_WORDS_MAX) {
		request.words[request.word_count] = span_str(how->argv[request.word_count]);
		request.word_count++;
	}
	fd = link->channel < 0				     ? -ENOSYS :
	     how->argv[request.word_count] != NULL ? -E2BIG : ask(link, &request);
	if (fd < 0) {
		snprintf(why, COMMAND_WHY_MAX, "%s", fd == -ENOSYS ?
			 "the sandbox lets no program be started: restart tramd" :
			 "the process that runs commands cannot be asked: restart tramd");
		return fd;
	}
	rc = read_outcome(fd, how, output, why);
	close(fd);
	if (rc < 0 && why[0] == '\0')
		snprintf(why, COMMAND_WHY_MAX, rc == -ECANCELED ?
			 "it was killed, for the server stops" :
			 "the process that runs commands does not answer: %s", strerror(-rc));
	return rc;
}

/* ---- life --------------------------------------------------------------------------------- */

int
keeper_link_start(struct keeper_link *link, const struct config *config)
{
	int ends[2];
	pid_t child;

	*link = (struct keeper_link){ -1, { run_there, link } };
	if (!keeper_is_wanted(config))
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	child = fork();
	if (child == 0) {
		struct keeper keeper = { .channel = ends[1], .path = config->path };
		char error[CONFIG_ERROR_MAX];

		close(ends[0]);
		/* commands run as the user that this server will be, not as root */
		if (config_load(config->path, &keeper.config, error, NULL) < 0 ||
		    keeper_become(config->user, true) < 0)
			_exit(1);
		keeper_serve(&keeper);
	}
	close(ends[1]);
	if (child < 0) {
		close(ends[0]);
		return -errno;
	}
	link->channel = ends[0];
	return 0;
}

int
keeper_link_reload(const struct keeper_link *link)
{
	struct keeper_request request = { .ask = KEEPER_RELOAD };
	int32_t answer = 0;
	int rc, fd;

	if (link->channel < 0)
		return 0;
	fd = ask(link, &request);
	if (fd < 0)
		return fd;
	rc = read_all(fd, &answer, sizeof(answer), -1, mono_ms() + GRACE_MS);
	close(fd);
	return rc < 0 ? rc : answer;
}

void
keeper_link_close(struct keeper_link *link)
{
	if (link->channel >= 0)
		close(link->channel);
	link->channel = -1;
}
