/*
 * local: a socket of ours in the file system: tramctl's and tram-sendmail's. Any thread; blocks
 * for no longer than connect() to a socket on this machine does.
 */
#ifndef TRAM_NET_LOCAL_H
#define TRAM_NET_LOCAL_H

#include <sys/stat.h>

/*
 * Binds fd to the path and gives that its mode; nobody can connect before listen(). A socket that
 * nobody listens on any more, left by a process that was killed, is replaced. 0, or -EADDRINUSE
 * (somebody answers there), -EEXIST (what stands there is no socket, and not ours to remove),
 * -ENAMETOOLONG (107 octets are the most), or another -errno.
 */
int local_bind(int fd, const char *path, mode_t mode);

#endif
