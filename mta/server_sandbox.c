/* server_sandbox: see server_sandbox.h. The main thread. */
#include "mta/server_sandbox.h"

#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "mta/base/log.h"

enum { ROOTS_MAX = 32 };

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

/*
 * What libraries look into, now and then: all of it public. Of /etc the permissions let the
 * server's user see no more.
 */
static void
add_system(struct roots *roots, const struct config *config)
{
	static const char *const folders[] = { "/etc", "/usr", "/lib", "/lib64", "/proc",
					       "/sys/devices/system/cpu" };
	static const char *const devices[] = { "/dev/urandom", "/dev/random" };
	char *resolver = realpath("/etc/resolv.conf", NULL);

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		add(roots, folders[i], SANDBOX_READ | SANDBOX_LIST);
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		add(roots, devices[i], SANDBOX_READ);
	if (resolver != NULL)
		add_folder_of(roots, resolver, SANDBOX_READ);
	free(resolver);
	/* read again for each request over HTTPS; or a folder, which cannot be given */
	add_folder_of(roots, config->delivery_ca, SANDBOX_READ | SANDBOX_LIST);
	if (config->delivery_ca != NULL)
		add(roots, config->delivery_ca, SANDBOX_READ | SANDBOX_LIST);
	if (SANDBOX_SANITIZED)
		add(roots, "/", SANDBOX_READ);	/* a report names lines of the sources */
}

void
server_limit_files(const struct config *config, struct server_rights *rights)
{
	bool two = rights->keeper.gives;
	struct sandbox *sandbox = &rights->sandbox;
	struct roots roots = { 0 };
	struct sandbox_limits limits = { .roots = roots.each, .reads = two, .ports = two };

	sandbox->wanted = config->sandbox;
	add(&roots, config->queue.path, SANDBOX_READ | SANDBOX_LIST | SANDBOX_WRITE);
	add_folder_of(&roots, config->control, SANDBOX_SOCKETS);
	add_folder_of(&roots, config->submission_socket, SANDBOX_SOCKETS);
	add_log(&roots, config->log.path);
	add(&roots, "/dev/null", SANDBOX_READ | SANDBOX_WRITE);
	if (two)
		add_system(&roots, config);
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
