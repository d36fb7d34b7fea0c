/*
 * give: files and sockets for a server that may open neither: copies of files, as they are now,
 * that nobody can change any more, and duplicates of sockets. In the keeper.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "mta/base/open_as.h"
#include "mta/keeper/keeper.h"
#include "mta/keeper/request.h"
#include "mta/net/listen.h"

enum { COPY_MAX = 65 << 20, PIECE = 64 << 10, TEXT_MAX = 8 << 10, SEND_S = 10 };

/* ---- messages ----------------------------------------------------------------------------- */

/* The server reads as we send; one that does not is waited for no longer than this. */
static bool
give(int answer, enum keeper_gives what, const char *text, int fd)
{
	union {
		struct cmsghdr head;
		char octets[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char kind = (char)what;
	struct iovec parts[] = { { &kind, 1 },
				 { (void *)(uintptr_t)text, strnlen(text, TEXT_MAX) } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	struct timeval patience = { .tv_sec = SEND_S };

	if (fd >= 0) {
		control.head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
						 .cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	setsockopt(answer, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return sendmsg(answer, &message, MSG_NOSIGNAL) >= 0;
}

void
keeper_give_end(int answer, const char *error)
{
	give(answer, KEEPER_GIVES_END, error, -1);
}

/* ---- files -------------------------------------------------------------------------------- */

static int
copy_octets(int from, int to)
{
	char *piece = malloc(PIECE);
	size_t copied = 0;
	int rc = piece == NULL ? -ENOMEM : 0;

	while (rc == 0) {
		ssize_t n = read(from, piece, PIECE);

		if (n <= 0) {
			rc = n < 0 ? -errno : 0;
			break;
		}
		copied += (size_t)n;
		if (copied > COPY_MAX)
			rc = -EFBIG;
		else if (write(to, piece, (size_t)n) != n)
			rc = -EIO;
	}
	if (piece != NULL)
		explicit_bzero(piece, PIECE);
	free(piece);
	return rc;
}

/* With the file's mode, for who complains of keys that everybody can read; the server's own. */
static int
seal(const struct keeper *keeper, int fd, mode_t mode)
{
	if (fchmod(fd, (mode & 0777) | S_IRUSR) < 0 || fchown(fd, keeper->uid, keeper->gid) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return -errno;
	return 0;
}

/* Of a file only: what may wait (a pipe) would stop us. */
static int
copy_file(const struct keeper *keeper, const char *path)
{
	int rc = 0, copy = -1, fd = open_as(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0,
					    keeper->uid, keeper->gid);
	struct stat there;

	if (fd < 0)
		return fd;
	if (fstat(fd, &there) < 0)
		rc = -errno;
	else if (!S_ISREG(there.st_mode))
		rc = -ENOTSUP;
	if (rc == 0 && (copy = memfd_create("given", MFD_CLOEXEC | MFD_ALLOW_SEALING)) < 0)
		rc = -errno;
	if (rc == 0)
		rc = copy_octets(fd, copy);
	if (rc == 0)
		rc = seal(keeper, copy, there.st_mode);
	if (rc == 0)
		lseek(copy, 0, SEEK_SET);	/* for who reads it as it comes */
	close(fd);
	if (rc < 0 && copy >= 0)
		close(copy);
	return rc < 0 ? rc : copy;
}

struct giving {
	const struct keeper *keeper;
	int answer;
	bool failed;
};

/* What cannot be read is not given: the server will say so when it needs it. */
static void
give_file(void *arg, const char *path)
{
	struct giving *g = arg;
	int fd = g->failed ? -1 : copy_file(g->keeper, path);

	if (fd < 0)
		return;
	g->failed = !give(g->answer, KEEPER_GIVES_FILE, path, fd);
	close(fd);
}

void
keeper_give_files(struct keeper *keeper, const struct config *config, int answer)
{
	struct giving giving = { keeper, answer, false };

	config_each_file(config, give_file, &giving);
}

void
keeper_give_file(struct keeper *keeper, const char *path, int answer)
{
	int fd = copy_file(keeper, path);

	if (fd >= 0) {
		give(answer, KEEPER_GIVES_FILE, path, fd);
		close(fd);
	}
	keeper_give_end(answer, fd < 0 ? strerror(-fd) : "");
}

/* ---- sockets ------------------------------------------------------------------------------ */

static bool
is_open(const struct keeper *keeper, const char *name)
{
	for (size_t i = 0; i < keeper->doors->count; i++)
		if (keeper->doors->each[i].fd >= 0 &&
		    strcmp(keeper->doors->each[i].path, name) == 0)
			return true;
	return false;
}

static int
open_door(struct keeper *keeper, const struct netaddr *address, const char *name,
	  char error[CONFIG_ERROR_MAX])
{
	int fd;

	if (is_open(keeper, name))
		return 0;
	fd = address != NULL ? listen_inet(address) : listen_local(name);
	if (fd < 0)
		return listen_failed(fd, name, error);
	files_add(keeper->doors, name, fd);
	return 0;
}

int
keeper_open_doors(struct keeper *keeper, const struct config *config, char error[CONFIG_ERROR_MAX])
{
	const char *local = config->submission_socket;
	char text[NETADDR_TEXT_MAX];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < config->listener_count; i++)
		for (size_t j = 0; rc == 0 && j < config->listeners[i].address_count; j++) {
			const struct netaddr *address = &config->listeners[i].addresses[j];

			rc = open_door(keeper, address, netaddr_format_port(address, text), error);
		}
	/* where it is takes a restart: there is one while we live */
	if (rc == 0 && local != NULL && keeper->config == NULL)
		rc = open_door(keeper, NULL, local, error);
	return rc;
}

static bool
is_listener(const struct config *config, const char *name)
{
	char text[NETADDR_TEXT_MAX];

	for (size_t i = 0; i < config->listener_count; i++)
		for (size_t j = 0; j < config->listeners[i].address_count; j++)
			if (strcmp(name, netaddr_format_port(&config->listeners[i].addresses[j],
							     text)) == 0)
				return true;
	return name[0] == '/';
}

void
keeper_close_doors(struct keeper *keeper)
{
	struct files *doors = keeper->doors;
	size_t kept = 0;

	for (size_t i = 0; i < doors->count; i++) {
		struct file_given door = doors->each[i];

		if (is_listener(keeper->config, door.path)) {
			doors->each[kept++] = door;
		} else {
			close(door.fd);
			free(door.path);
		}
	}
	doors->count = kept;
}

void
keeper_give_doors(struct keeper *keeper, int answer)
{
	bool given = true;

	for (size_t i = 0; given && i < keeper->doors->count; i++)
		if (keeper->doors->each[i].fd >= 0)
			given = give(answer, KEEPER_GIVES_DOOR, keeper->doors->each[i].path,
				     keeper->doors->each[i].fd);
}
