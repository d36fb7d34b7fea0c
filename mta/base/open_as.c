/* open_as: see open_as.h. */
#include "mta/base/open_as.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINKS_MAX = 16 };

struct user {
	uid_t uid;
	gid_t gid;
};

static bool is_in_hands(const char *path, const struct user *user, unsigned links);

/* A link that is not the user's, which leads where the user could have changed something? */
static bool
leads_into_hands(const char *link, const struct user *user, unsigned links)
{
	char target[PATH_MAX], path[2 * PATH_MAX];
	ssize_t n = readlink(link, target, sizeof(target) - 1);
	const char *name = strrchr(link, '/');

	if (n < 0 || links == 0)
		return true;
	target[n] = '\0';
	snprintf(path, sizeof(path), "%.*s%s",
		 target[0] == '/' || name == NULL ? 0 : (int)(name - link) + 1, link, target);
	return is_in_hands(path, user, links - 1);
}

/*
 * Itself, or a folder or link on the way to it, is the user's, or such that the user may replace
 * it.
 */
static bool
is_in_hands(const char *path, const struct user *user, unsigned links)
{
	char name[2 * PATH_MAX];
	size_t len = strnlen(path, sizeof(name) - 1);
	bool found = path[len] != '\0';

	for (size_t i = 1; !found && i <= len; i++) {
		struct stat there;

		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(name, path, i);
		name[i] = '\0';
		if (lstat(name, &there) < 0)
			break;
		found = there.st_uid == user->uid ||
			(S_ISLNK(there.st_mode) && leads_into_hands(name, user, links)) ||
			(S_ISDIR(there.st_mode) && (there.st_mode & S_ISVTX) == 0 &&
			 ((there.st_mode & S_IWOTH) != 0 ||
			  ((there.st_mode & S_IWGRP) != 0 && there.st_gid == user->gid)));
	}
	return found;
}

static int
try_open(const char *path, int flags, mode_t mode)
{
	int fd = open(path, flags, mode);

	return fd < 0 ? -errno : fd;
}

int
open_as(const char *path, int flags, mode_t mode, uid_t uid, gid_t gid)
{
	const struct user user = { uid, gid };
	gid_t groups[NGROUPS_MAX], root_gid = getegid();
	int fd, count;

	if (uid == 0 || geteuid() != 0 || !is_in_hands(path, &user, LINKS_MAX))
		return try_open(path, flags, mode);
	count = getgroups(NGROUPS_MAX, groups);
	if (count < 0 || setgroups(1, &gid) < 0)
		return -errno;
	if (setegid(gid) == 0 && seteuid(uid) == 0)
		fd = try_open(path, flags, mode);
	else
		fd = -errno;
	if (seteuid(0) < 0 || setegid(root_gid) < 0 || setgroups((size_t)count, groups) < 0)
		abort();			/* whoever goes on is somebody else */
	return fd;
}
