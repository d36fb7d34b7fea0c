/*
 * net/listen: sockets that listen, on an address or on a path that everybody here may connect to.
 * -errno, for which listen_failed() has a sentence.
 */
#ifndef TRAM_NET_LISTEN_H
#define TRAM_NET_LISTEN_H

#include "mta/base/netaddr.h"

enum { LISTEN_ERROR_MAX = 256 };

int listen_inet(const struct netaddr *address);
int listen_local(const char *path);
/* Returns rc. */
int listen_failed(int rc, const char *what, char error[LISTEN_ERROR_MAX]);

#endif
