/*
 * link: the server's end to the keeper: its parent, if there are two processes, which gives it all
 * files and listening sockets; or a helper that only runs commands; or nobody. Calls block, for as
 * long as the keeper reads files; from any thread.
 */
#ifndef TRAM_KEEPER_LINK_H
#define TRAM_KEEPER_LINK_H

#include "mta/base/files.h"
#include "mta/config/config.h"
#include "mta/keeper/request.h"
#include "mta/net/command_run.h"

struct keeper_link {
	int channel;			/* -1: there is no keeper */
	bool gives;			/* two processes: files and sockets come from there */
	struct command_runner runner;	/* by keeper_link_init() */
	struct file_opener opener;	/* the same; where it gives */
};

/* link lives as long as it is used. */
void keeper_link_init(struct keeper_link *link, int channel, bool gives);
void keeper_link_close(struct keeper_link *link);
/*
 * Forks a helper for a server that goes on here, if the configuration has commands to run. Before
 * the first thread. -errno.
 */
int keeper_link_help(struct keeper_link *link, const struct config *config);

/*
 * KEEPER_RELOAD, KEEPER_LOOK: what is given, for the caller to free (NULL where it gives nothing).
 * doors may be NULL. -errno, and a sentence.
 */
int keeper_link_fetch(const struct keeper_link *link, enum keeper_ask ask, struct files **files,
		      struct files **doors, char error[CONFIG_ERROR_MAX]);
/* KEEPER_TAKEN, KEEPER_DROPPED (word: ""), which are waited for; KEEPER_NOTIFY. */
void keeper_link_tell(const struct keeper_link *link, enum keeper_ask ask, const char *word);

#endif
