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
	int channel;			/* requests come here; -1: nobody can ask any more */
	const char *path;		/* of the configuration */
	/* what the server uses, and what it was given and has not taken yet; either may be NULL */
	struct config *config, *fresh;
	size_t running;			/* commands */

	/* two processes: */
	pid_t server;			/* 0: we are a helper of our parent, and give nothing */
	const char *user;		/* whose the server is, and the commands are */
	uid_t uid;
	gid_t gid;
	struct files *doors;		/* what listens, by address */
	int signals, watch;		/* signalfd, inotify */
	void (*notify)(const char *state);
};

/* Does any route have a command to run? */
bool keeper_is_wanted(const struct config *config);

/* A helper's life: until nobody can ask any more. */
_Noreturn void keeper_serve(struct keeper *keeper);
/* One request; false: nobody can ask any more. */
bool keeper_hear(struct keeper *keeper);

/* watch.c: the folders of all files that the configuration in use names. */
void keeper_watch(struct keeper *keeper);

/* give.c: answers to the server, of two processes */
/* Listens on what `config` names and is not listened on yet. -errno and a sentence. */
int keeper_open_doors(struct keeper *keeper, const struct config *config,
		      char error[CONFIG_ERROR_MAX]);
/* Only what the configuration in use names stays open. */
void keeper_close_doors(struct keeper *keeper);
void keeper_give_files(struct keeper *keeper, const struct config *config, int answer);
void keeper_give_doors(struct keeper *keeper, int answer);
void keeper_give_file(struct keeper *keeper, const char *path, int answer);
void keeper_give_end(int answer, const char *error);

/*
 * parent.c: two processes. Forks the server, which goes on behind the call with its end of the
 * channel in *ret; here, the keeper's life, until its server has ended: exits as that did.
 */
int keeper_split(struct keeper *keeper, int *ret);

#endif
