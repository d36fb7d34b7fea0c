/*
 * server: the daemon from an accepted configuration to its end.
 */
#ifndef TRAM_SERVER_H
#define TRAM_SERVER_H

#include "mta/config/config.h"
#include "mta/keeper/link.h"
#include "mta/keeper/sandbox.h"

/* sysexits.h: configuration, operating system, try again. */
enum { EXIT_CONFIG = 78, EXIT_CANNOT = 71, EXIT_POISONED = 75 };

/* What is left to this process, and who does for it what it must not. */
struct server_rights {
	struct sandbox sandbox;
	struct keeper_link keeper;
	pid_t parent;			/* the keeper, if there are two processes */
};

/*
 * Runs until it is told to stop (SIGTERM, SIGINT); takes the configuration. server_split() and
 * server_limit_files() have been called. Returns the exit code.
 */
int server_run(struct config *config, struct server_rights *rights);

#endif
