/*
 * net/command_run: a command that the configuration names is run, and what it prints is handed
 * back, or why there is nothing. The one place from which the server starts another program.
 *
 * Blocks: for a thread of its own, never a loop's. It ends in bounded time: at the latest after
 * timeout_ms, or when `stop` becomes readable, the command and all of its process group are killed.
 * No shell; standard input is empty, the environment is PATH, LANG and HOME=/, the directory is /,
 * no descriptor but 0, 1 and 2 is passed on.
 */
#ifndef TRAM_NET_COMMAND_RUN_H
#define TRAM_NET_COMMAND_RUN_H

#include <stdint.h>

#include "mta/base/buf.h"

enum { COMMAND_WHY_MAX = 400 };

struct command_run {
	char *const *argv;		/* argv[0]: the whole path; NULL at the end */
	int64_t timeout_ms;
	size_t max_output;		/* octets on standard output */
	int stop;			/* a descriptor; -1: none */
};

/*
 * 0: it ended with status 0, and output has what it printed. Negative errno: why has a line without
 * control characters, with the first words that it wrote to standard error; output may hold a part:
 * the caller wipes it, if it is a secret. output never grows piece by piece, so that none is left
 * behind.
 */
int command_run(const struct command_run *run, struct buf *output, char why[COMMAND_WHY_MAX]);

/* Who runs commands for a process that must not: as command_run(). NULL: it does so itself. */
struct command_runner {
	int (*run)(void *arg, const struct command_run *run, struct buf *output,
		   char why[COMMAND_WHY_MAX]);
	void *arg;
};
int command_run_by(const struct command_runner *runner, const struct command_run *run,
		   struct buf *output, char why[COMMAND_WHY_MAX]);

#endif
