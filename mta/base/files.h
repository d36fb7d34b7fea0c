/*
 * files: where the octets of a named file are. A process that may open it by its name does; one
 * that may not has got them from another as a descriptor, and opens that under a name that the
 * kernel has for it. So whoever reads a file by its path, a library too, needs no more than another
 * path. Any thread, as long as nobody adds.
 */
#ifndef TRAM_FILES_H
#define TRAM_FILES_H

#include <stddef.h>

struct file_given {
	char *path;
	int fd;				/* of a copy, with the file's mode */
};

struct files {
	struct file_given *each;
	size_t count;
};

enum { FILES_PATH_MAX = 32 };

/*
 * Where to open `path`: itself, if it was not given (files may be NULL). room: for the other name.
 */
const char *files_at(const struct files *files, const char *path, char room[FILES_PATH_MAX]);
/* Takes the descriptor. */
void files_add(struct files *files, const char *path, int fd);
/* The descriptor of this name is the caller's now; -1: there is none. */
int files_take(struct files *files, const char *path);

/* Who opens a file for a process that must not; NULL: it does so itself. A descriptor or -errno. */
struct file_opener {
	int (*open)(void *arg, const char *path);
	void *arg;
};
int file_open_by(const struct file_opener *opener, const char *path);

void files_free(struct files *files);	/* NULL is fine; closes */

#endif
