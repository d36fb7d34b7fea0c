/*
 * server_sandbox: the sandbox of this daemon: which folders its configuration leaves it, and what
 * is told of it in the log, at a reload and by tramctl.
 */
#ifndef TRAM_SERVER_SANDBOX_H
#define TRAM_SERVER_SANDBOX_H

#include <jansson.h>

#include "mta/server.h"

/*
 * Before the first thread. The server of a keeper reads the system's public files and its queue,
 * and listens on nothing: the rest is given to it. In one process only writing is limited: what it
 * may read is what its user may read, for a file that a later reload names, or that a link is
 * turned to, is anywhere.
 */
void server_limit_files(const struct config *config, struct server_rights *rights);
/* When all is open; logs what is in force. */
void server_limit_calls(struct sandbox *sandbox);
/* What a reload moves to where the sandbox does not let it stays where it was, and says so. */
void server_stay_inside(const struct sandbox *sandbox, const struct config *old,
			struct config *fresh, struct buf *message);

json_t *server_sandbox_json(const struct sandbox *sandbox);

#endif
