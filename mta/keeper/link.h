/*
 * link: the server's end to the keeper. Calls block; from any thread.
 */
#ifndef TRAM_KEEPER_LINK_H
#define TRAM_KEEPER_LINK_H

#include "mta/config/config.h"
#include "mta/net/command_run.h"

struct keeper_link {
	int channel;			/* -1: there is no keeper */
	struct command_runner runner;	/* by keeper_link_start() */
};

/*
 * Forks a keeper for a server that goes on here, if the configuration has commands to run and the
 * sandbox would forbid them; before the first thread. link lives as long as it is used. -errno.
 */
int keeper_link_start(struct keeper_link *link, const struct config *config);
/* The configuration has changed: its commands are others. -errno: they stay those that they were. */
int keeper_link_reload(const struct keeper_link *link);
void keeper_link_close(struct keeper_link *link);

#endif
