/*
 * watch: what changes in the folders of the files that the configuration names, and in those where
 * links lead to; the server is told by a signal, and asks for the files. In the keeper.
 */
#include <libgen.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "mta/keeper/keeper.h"

enum { CHANGES = IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_ATTRIB |
		 IN_DELETE_SELF | IN_MOVE_SELF };

static void
watch_one(void *arg, const char *path)
{
	const struct keeper *keeper = arg;
	struct arena arena = { 0 };
	char *real = realpath(path, NULL);

	inotify_add_watch(keeper->watch, dirname(arena_str(&arena, span_str(path))), CHANGES);
	if (real != NULL)
		inotify_add_watch(keeper->watch, dirname(real), CHANGES);
	free(real);
	arena_free(&arena);
}

/* Anew each time, for links and folders may be others by now. */
void
keeper_watch(struct keeper *keeper)
{
	if (keeper->watch >= 0)
		close(keeper->watch);
	keeper->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (keeper->watch >= 0)
		config_each_file(keeper->config, watch_one, keeper);
}
