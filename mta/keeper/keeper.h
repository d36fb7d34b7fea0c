/*
 * keeper: the process beside the server that may what the server gave away. It parses nothing from
 * the network; of the server it hears requests of few kinds (request.h), and does only what its own
 * reading of the configuration names: a command that is not in there is not run, whoever asks.
 *
 * It is forked from a process without threads, and ends when the server does.
 */
#ifndef TRAM_KEEPER_H
#define TRAM_KEEPER_H

#include "mta/config/config.h"

struct keeper {
	int channel;			/* requests come here */
	const char *path;		/* of the configuration */
	struct config *config, *before;	/* as read last, and the time before */
	size_t running;			/* commands */
};

/* Does any route have a command to run? */
bool keeper_is_wanted(const struct config *config);

/* Until nobody can ask any more. */
_Noreturn void keeper_serve(struct keeper *keeper);

#endif
