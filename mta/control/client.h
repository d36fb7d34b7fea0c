/*
 * client: the other end of the control socket, for programs that wait (tramctl, tram-sendmail).
 * Blocking.
 */
#ifndef TRAM_CONTROL_CLIENT_H
#define TRAM_CONTROL_CLIENT_H

#include <jansson.h>

#include "mta/base/buf.h"
#include "mta/control/protocol.h"

struct control_client {
	int fd;				/* -1: not connected */
	struct buf in;
	size_t scanned;			/* octets of it that hold no newline */
	struct buf out;
};

/*
 * The value of `control` in a configuration that has a mistake elsewhere: an operator must be
 * able to steer the daemon that runs under what the file said before. In the arena, or NULL.
 */
const char *control_client_find(const char *config_path, struct arena *arena);
/*
 * 0 or negative errno: -ENOENT and -ECONNREFUSED mean that no tramd listens there, -EACCES that
 * you may not.
 */
int control_client_open(struct control_client *client, const char *path);
void control_client_close(struct control_client *client);
/* Sends a request. 0 or negative errno; -EINVAL: it cannot be said in one line. */
int control_client_ask(struct control_client *client, const struct control_request *request);
/*
 * The next line of the answer; NULL: the connection was lost, or what came is no answer.
 * json_decref() it.
 */
json_t *control_client_next(struct control_client *client);

#endif
