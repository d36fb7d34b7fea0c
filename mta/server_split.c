/* server_split: see server_split.h. The main thread. */
#include "mta/server_split.h"

#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "mta/keeper/keeper.h"
#include "mta/keeper/user.h"
#include "mta/service.h"

int
server_load(const struct server_rights *rights, const char *path, struct config **ret,
	    char error[CONFIG_ERROR_MAX], struct buf *warnings)
{
	struct files *files, *doors;
	int rc;

	if (!rights->keeper.gives)
		return config_load(path, ret, error, warnings);
	rc = keeper_link_fetch(&rights->keeper, KEEPER_RELOAD, &files, &doors, error);
	return rc < 0 ? rc : config_load_given(path, files, doors, ret, error, warnings);
}

int
server_open_files(const struct server_rights *rights, struct config *config,
		  char error[CONFIG_ERROR_MAX], struct buf *warnings)
{
	int rc;

	if (!rights->keeper.gives)
		return config_open_files(config, error, warnings);
	rc = keeper_become(config->user, false);
	if (rc < 0)
		snprintf(error, CONFIG_ERROR_MAX, "cannot become %s: %s", config->user,
			 strerror(-rc));
	else
		rc = config_open_files(config, error, warnings);
	if (seteuid(0) < 0 || setegid(0) < 0)
		abort();
	return rc;
}

/* A helper reads the configuration itself. */
static void
tell_helper(const struct server_rights *rights, const struct config *fresh, struct buf *message)
{
	char error[CONFIG_ERROR_MAX];
	struct files *none;

	if (rights->keeper.channel < 0) {
		if (rights->sandbox.wanted && keeper_is_wanted(fresh))
			buf_printf(message, "token-command: there was none at the start, so the "
					    "sandbox lets none be run until a restart\n");
		return;
	}
	if (keeper_link_fetch(&rights->keeper, KEEPER_RELOAD, &none, NULL, error) < 0)
		buf_printf(message, "token-command: those before are run until a restart, for %s\n",
			   error);
}

void
server_loaded(const struct server_rights *rights, const struct config *fresh, struct buf *message)
{
	if (!rights->keeper.gives)
		tell_helper(rights, fresh, message);
	keeper_link_tell(&rights->keeper, KEEPER_TAKEN, "");
}

void
server_bind_to_keeper(const struct server_rights *rights)
{
	if (!rights->keeper.gives)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != rights->parent)
		raise(SIGKILL);			/* it was dead before */
}

/* Two processes: the one that comes back is the server. */
static int
split(struct config **config, const struct passwd *user, struct server_rights *rights,
      char error[CONFIG_ERROR_MAX], struct buf *warnings)
{
	struct keeper keeper = { .channel = -1, .path = (*config)->path, .user = (*config)->user,
				 .uid = user->pw_uid,
				 .gid = user->pw_gid, .doors = xcalloc(1, sizeof(struct files)),
				 .notify = service_notify };
	struct config *inherited = *config;
	pid_t parent = getpid();
	int channel = -1, rc = keeper_open_doors(&keeper, *config, error);

	if (rc == 0 && (rc = keeper_split(&keeper, &channel)) < 0)
		snprintf(error, CONFIG_ERROR_MAX, "there can be no second process: %s",
			 strerror(-rc));
	if (rc < 0) {
		files_free(keeper.doors);
		config_free(inherited);
		return EXIT_CANNOT;
	}
	rights->parent = parent;
	keeper_link_init(&rights->keeper, channel, true);
	service_tell_by(&rights->keeper);
	buf_clear(warnings);			/* it is judged once more */
	rc = server_load(rights, inherited->path, config, error, warnings);
	config_free(inherited);
	return rc;
}

int
server_split(struct config **config, struct server_rights *rights, char error[CONFIG_ERROR_MAX],
	     struct buf *warnings)
{
	const char *name = (*config)->user;
	const struct passwd *user;
	int rc = 0;

	service_hold_signals();
	user = name != NULL && getuid() == 0 ? getpwnam(name) : NULL;
	if (user != NULL && user->pw_uid != 0)
		return split(config, user, rights, error, warnings);
	keeper_link_init(&rights->keeper, -1, false);
	if ((*config)->sandbox || getpid() == 1)	/* who does not hear how its children end */
		rc = keeper_link_help(&rights->keeper, *config);
	if (rc < 0)
		fprintf(stderr, "tramd: no process for token commands: %s\n", strerror(-rc));
	return 0;
}
