/* files: see files.h. */
#include "mta/base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mta/base/arena.h"

const char *
files_at(const struct files *files, const char *path, char room[FILES_PATH_MAX])
{
	for (size_t i = 0; files != NULL && i < files->count; i++)
		if (strcmp(files->each[i].path, path) == 0) {
			snprintf(room, FILES_PATH_MAX, "/proc/self/fd/%d", files->each[i].fd);
			return room;
		}
	return path;
}

void
files_add(struct files *files, const char *path, int fd)
{
	size_t len = strlen(path);
	struct file_given *given;

	files->each = xrealloc(files->each, (files->count + 1) * sizeof(*files->each));
	given = &files->each[files->count++];
	given->path = memcpy(xcalloc(1, len + 1), path, len);
	given->fd = fd;
}

int
files_take(struct files *files, const char *path)
{
	for (size_t i = 0; i < files->count; i++) {
		int fd = files->each[i].fd;

		if (fd < 0 || strcmp(files->each[i].path, path) != 0)
			continue;
		files->each[i].fd = -1;
		return fd;
	}
	return -1;
}

int
file_open_by(const struct file_opener *opener, const char *path)
{
	int fd;

	if (opener != NULL)
		return opener->open(opener->arg, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void
files_free(struct files *files)
{
	if (files == NULL)
		return;
	for (size_t i = 0; i < files->count; i++) {
		if (files->each[i].fd >= 0)
			close(files->each[i].fd);
		free(files->each[i].path);
	}
	free(files->each);
	free(files);
}
