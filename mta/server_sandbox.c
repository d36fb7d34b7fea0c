/* server_sandbox: see server_sandbox.h. The main thread. */
#include "mta/server_sandbox.h"

#include <libgen.h>
#include <sys/stat.h>

#include "mta/base/log.h"
#include "mta/keeper/keeper.h"

enum { ROOTS_MAX = 8 };

struct roots {
	struct arena arena;
	struct sandbox_root each[ROOTS_MAX];
	size_t count;
};

static void
add(struct roots *roots, const char *path, unsigned may)
{
	roots->each[roots->count++] = (struct sandbox_root){ path, may };
}

static void
add_folder_of(struct roots *roots, const char *path, unsigned may)
{
	if (path != NULL)
		add(roots, dirname(arena_str(&roots->arena, span_str(path))), may);
}

/* A file is made anew when the old one has been turned away; a pipe or a terminal is not. */
static void
add_log(struct roots *roots, const char *path)
{
	struct stat there;

	if (path != NULL && stat(path, &there) == 0 && !S_ISREG(there.st_mode))
		add(roots, path, SANDBOX_WRITE);
	else
		add_folder_of(roots, path, SANDBOX_WRITE);
}

void
server_limit_files(const struct config *config, struct sandbox *sandbox)
{
	struct roots roots = { 0 };
	struct sandbox_limits limits = { .roots = roots.each };

	sandbox->wanted = config->sandbox;
	add(&roots, config->queue.path, SANDBOX_READ | SANDBOX_LIST | SANDBOX_WRITE);
	add_folder_of(&roots, config->control, SANDBOX_SOCKETS);
	add_folder_of(&roots, config->submission_socket, SANDBOX_SOCKETS);
	add_log(&roots, config->log.path);
	add(&roots, "/dev/null", SANDBOX_READ | SANDBOX_WRITE);
	limits.count = roots.count;
	sandbox_files(sandbox, &limits);
	arena_free(&roots.arena);
}

void
server_limit_calls(struct sandbox *sandbox)
{
	struct buf text = { 0 };
	bool whole;

	sandbox_calls(sandbox);
	whole = sandbox_describe(sandbox, &text);
	log_message(whole ? LOG_INFO : LOG_WARNING, "sandbox", "%.*s", SPAN_FMT(buf_span(&text)));
	buf_free(&text);
}

void
server_stay_inside(const struct sandbox *sandbox, const struct config *old, struct config *fresh,
		   struct buf *message)
{
	const char *path = fresh->log.path;

	if (path == NULL || (old->log.path != NULL && strcmp(path, old->log.path) == 0) ||
	    sandbox_lets_write(sandbox, path))
		return;
	buf_printf(message, "log.file = \"%s\": its folder was not named when the sandbox was "
			    "closed, so the log stays where it is until a restart\n", path);
	fresh->log.path = old->log.path == NULL ? NULL :
			  arena_str(&fresh->arena, span_str(old->log.path));
}

void
server_tell_keeper(const struct server_rights *rights, const struct config *fresh,
		   struct buf *message)
{
	int rc;

	if (rights->keeper.channel < 0) {
		if (rights->sandbox.wanted && keeper_is_wanted(fresh))
			buf_printf(message, "token-command: there was none at the start, so the "
					    "sandbox lets none be run until a restart\n");
		return;
	}
	rc = keeper_link_reload(&rights->keeper);
	if (rc < 0)
		buf_printf(message, "token-command: the process that runs commands knows only "
				    "those it knew (%s); restart\n", strerror(-rc));
}

json_t *
server_sandbox_json(const struct sandbox *sandbox)
{
	struct buf text = { 0 };
	json_t *ret;

	sandbox_describe(sandbox, &text);
	ret = json_stringn(buf_span(&text).at, buf_len(&text));
	buf_free(&text);
	return ret;
}
