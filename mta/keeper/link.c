/* link: see link.h. */
#include "mta/keeper/link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/keeper/keeper.h"
#include "mta/keeper/user.h"

enum { GRACE_MS = 10000, GIVE_MS = 30000, TEXT_MAX = 16 << 10 };

/* ---- asking ------------------------------------------------------------------------------- */

/* The socket on which the answer comes, or -errno. */
static int
ask(const struct keeper_link *link, const struct keeper_request *request, int kind)
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
	if (socketpair(AF_UNIX, kind | SOCK_CLOEXEC, 0, ends) < 0) {
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

	if (rc == 0 && (outcome.why_len >= COMMAND_WHY_MAX ||
			outcome.output_len > how->max_output || outcome.rc > 0))
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
	     how->argv[request.word_count] != NULL ? -E2BIG : ask(link, &request, SOCK_STREAM);
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

/* ---- files and sockets -------------------------------------------------------------------- */

/*
 * One message of an answer: its kind, its text with a NUL, its descriptor (-1: none). 0 or -errno.
 */
static int
receive(int fd, char text[TEXT_MAX], int *ret_fd)
{
	union {
		struct cmsghdr head;
		char octets[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { text, TEXT_MAX - 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct pollfd wait = { fd, POLLIN, 0 };
	struct cmsghdr *head;
	ssize_t n;

	*ret_fd = -1;
	if (poll(&wait, 1, GIVE_MS) == 0)
		return -ETIMEDOUT;
	n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n <= 0)
		return n == 0 ? -EPIPE : -errno;
	head = CMSG_FIRSTHDR(&message);
	if (head != NULL && head->cmsg_type == SCM_RIGHTS &&
	    head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(head), sizeof(int));
	text[n] = '\0';
	return 0;
}

/* Until the end of the answer, which may say what was wrong. */
static int
receive_all(int fd, struct files *files, struct files *doors, char error[CONFIG_ERROR_MAX])
{
	char *text = xcalloc(1, TEXT_MAX);
	int rc, given;

	for (;;) {
		rc = receive(fd, text, &given);
		if (rc == -EAGAIN || rc == -EINTR)
			continue;
		if (rc < 0 || text[0] == KEEPER_GIVES_END)
			break;
		if (given >= 0)
			files_add(text[0] == KEEPER_GIVES_DOOR ? doors : files, text + 1, given);
	}
	if (rc < 0)
		snprintf(error, CONFIG_ERROR_MAX, "the keeper does not answer: %s", strerror(-rc));
	else if (text[1] != '\0') {
		snprintf(error, CONFIG_ERROR_MAX, "%s", text + 1);
		rc = -EINVAL;
	}
	free(text);
	return rc;
}

int
keeper_link_fetch(const struct keeper_link *link, enum keeper_ask what, struct files **files,
		  struct files **doors, char error[CONFIG_ERROR_MAX])
{
	struct keeper_request request = { .ask = what };
	struct files *new_files = xcalloc(1, sizeof(*new_files));
	struct files *new_doors = xcalloc(1, sizeof(*new_doors));
	int rc, fd = link->channel < 0 ? -EPIPE : ask(link, &request, SOCK_SEQPACKET);

	if (fd < 0) {
		rc = fd;
		snprintf(error, CONFIG_ERROR_MAX, "the keeper cannot be asked: %s", strerror(-rc));
	} else {
		rc = receive_all(fd, new_files, new_doors, error);
		close(fd);
	}
	if (rc < 0 || !link->gives) {
		files_free(new_files);
		files_free(new_doors);
		new_files = new_doors = NULL;
	}
	*files = new_files;
	if (doors != NULL)
		*doors = new_doors;
	else
		files_free(new_doors);
	return rc;
}

/* A copy of one file that the configuration names. */
static int
open_there(void *arg, const char *path)
{
	const struct keeper_link *link = arg;
	struct keeper_request request = { .ask = KEEPER_FILE, .words = { span_str(path) },
					  .word_count = 1 };
	struct files files = { 0 }, doors = { 0 };
	char error[CONFIG_ERROR_MAX];
	int rc, given = -1, fd = ask(link, &request, SOCK_SEQPACKET);

	if (fd < 0)
		return fd;
	rc = receive_all(fd, &files, &doors, error);
	close(fd);
	if (rc == 0)
		given = files_take(&files, path);
	for (size_t i = 0; i < files.count; i++) {
		if (files.each[i].fd >= 0)
			close(files.each[i].fd);
		free(files.each[i].path);
	}
	free(files.each);
	return rc < 0 ? -EACCES : given < 0 ? -ENOENT : given;
}

void
keeper_link_tell(const struct keeper_link *link, enum keeper_ask what, const char *word)
{
	struct keeper_request request = { .ask = what, .words = { span_str(word) },
					  .word_count = word[0] != '\0' };
	char nothing;
	int fd = link->channel < 0 ? -1 : ask(link, &request, SOCK_SEQPACKET);

	/* it closes its end when it has done what it must: no port is held by both any more */
	if (fd >= 0 && what != KEEPER_NOTIFY)
		read_all(fd, &nothing, sizeof(nothing), -1, mono_ms() + GRACE_MS);
	if (fd >= 0)
		close(fd);
}

/* ---- life --------------------------------------------------------------------------------- */

void
keeper_link_init(struct keeper_link *link, int channel, bool gives)
{
	*link = (struct keeper_link){ channel, gives, { run_there, link }, { open_there, link } };
}

int
keeper_link_help(struct keeper_link *link, const struct config *config)
{
	int ends[2];
	pid_t child;

	keeper_link_init(link, -1, false);
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

void
keeper_link_close(struct keeper_link *link)
{
	if (link->channel >= 0)
		close(link->channel);
	link->channel = -1;
}
