/*
 * server_split: how many processes tramd is. Started as root with a `user` it is two: the keeper,
 * which stays root, and the server, which gets its configuration, files and listening sockets from
 * it. Else it is one, with a helper beside it if there are commands to run and the sandbox forbids
 * that.
 */
#ifndef TRAM_SERVER_SPLIT_H
#define TRAM_SERVER_SPLIT_H

#include "mta/server.h"

/*
 * *config has been read, its files have not; there is no thread. The keeper does not come back from
 * here. In the server *config is another one, if there are two. 0; -errno and a sentence, and
 * *config is freed; or an exit code, and a sentence.
 */
int server_split(struct config **config, struct server_rights *rights,
		 char error[CONFIG_ERROR_MAX], struct buf *warnings);
/*
 * At the start. What the keeper does not give is looked for by its name, as at a reload: by the
 * user, though the process is root's still.
 */
int server_open_files(const struct server_rights *rights, struct config *config,
		      char error[CONFIG_ERROR_MAX], struct buf *warnings);
/* The server dies with its keeper; behind the last change of user. */
void server_bind_to_keeper(const struct server_rights *rights);

/* The configuration anew, from the keeper or from its file. As config_load(). */
int server_load(const struct server_rights *rights, const char *path, struct config **ret,
		char error[CONFIG_ERROR_MAX], struct buf *warnings);
/* What server_load() has brought is in use; what a helper cannot run is told. */
void server_loaded(const struct server_rights *rights, const struct config *fresh,
		   struct buf *message);

#endif
