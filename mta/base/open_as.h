/*
 * open_as: root opens a file of which another user may have more to say than root likes. Where that
 * user can put something else in its place (a link to a file that only root may read or write), it
 * is opened with that user's rights. For a process without other threads; errors are negative
 * errno.
 */
#ifndef TRAM_OPEN_AS_H
#define TRAM_OPEN_AS_H

#include <sys/types.h>

/* As open(); not root, or uid 0: no more than that. */
int open_as(const char *path, int flags, mode_t mode, uid_t uid, gid_t gid);

#endif
