/* listen: see listen.h. */
#include "mta/net/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mta/net/local.h"

enum { BACKLOG = 4096 };

static int
bind_inet(int fd, const struct netaddr *address)
{
	struct sockaddr_storage sa;
	socklen_t len = netaddr_to_sockaddr(address, &sa);
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address->family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	return bind(fd, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

static int
socket_of(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* The socket, bound with the result rc; it is gone where that failed. */
static int
listen_on(int fd, int rc)
{
	if (rc == 0 && listen(fd, BACKLOG) < 0)
		rc = -errno;
	if (rc < 0)
		close(fd);
	return rc < 0 ? rc : fd;
}

int
listen_inet(const struct netaddr *address)
{
	int fd = socket_of(address->family);

	return fd < 0 ? fd : listen_on(fd, bind_inet(fd, address));
}

int
listen_local(const char *path)
{
	int fd = socket_of(AF_UNIX);

	/* anybody here may submit: SO_PEERCRED names them */
	return fd < 0 ? fd : listen_on(fd, local_bind(fd, path, 0666));
}

int
listen_failed(int rc, const char *what, char error[LISTEN_ERROR_MAX])
{
	const char *hint =
		rc == -EADDRINUSE
			? "another program listens there: stop it, or choose another address"
		: rc == -EACCES	       ? "ports below 1024 need root or CAP_NET_BIND_SERVICE"
		: rc == -EADDRNOTAVAIL ? "this machine has no such address"
		: rc == -ENAMETOOLONG  ? "choose a path of at most 107 octets"
		: rc == -EEXIST	       ? "something that is no socket stands there: move it away"
				       : "check the address and the permissions";

	snprintf(error, LISTEN_ERROR_MAX, "cannot listen on %s: %s; %s", what, strerror(-rc), hint);
	return rc;
}
