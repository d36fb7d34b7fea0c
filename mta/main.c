/*
 * main: tramd's command line; server.c is what it runs.
 */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "mta/base/log.h"
#include "mta/config/config.h"
#include "mta/server.h"
#include "mta/server_sandbox.h"
#include "mta/server_split.h"

static int
usage(FILE *to, int code)
{
	fprintf(to, "usage: tramd [-n] -c FILE   run in the foreground (-n: only check FILE)\n"
		    "       tramd -V | -h        print the version, or this\n");
	return code;
}

/* Opened before the user is taken on, the log must be one that this user can open again. */
static void
own_log(struct config *config)
{
	const struct passwd *pw = config->user != NULL ? getpwnam(config->user) : NULL;

	if (pw == NULL)
		return;
	config->log.uid = pw->pw_uid;
	config->log.gid = pw->pw_gid;
}

static int
print_directives(void)
{
	struct buf out = { 0 };

	config_print_directives(&out);
	fwrite(out.at + out.start, 1, buf_len(&out), stdout);
	buf_free(&out);
	return 0;
}

/* Takes config. */
static int
run(struct config *config, struct server_rights *rights)
{
	int rc;

	own_log(config);
	server_limit_files(config, rights);	/* no thread is there yet */
	rc = log_start(&config->log);
	if (rc < 0) {
		fprintf(stderr, "tramd: cannot open the log %s: %s\n", config->log.path,
			strerror(-rc));
		config_free(config);
		return EXIT_CANNOT;
	}
	rc = server_run(config, rights);
	if (rc == 0)
		log_message(LOG_INFO, "stopped", "clean");
	log_stop();
	return rc;
}

int
main(int argc, char **argv)
{
	const char *path = NULL;
	bool check = false;
	struct config *config;
	struct server_rights rights = { .keeper.channel = -1 };
	struct buf warnings = { 0 };
	char error[CONFIG_ERROR_MAX];
	int option, rc;

	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return usage(stdout, 0);
	if (argc == 2 && strcmp(argv[1], "--print-directives") == 0)
		return print_directives();
	while ((option = getopt(argc, argv, "c:hnV")) != -1) {
		if (option == 'c')
			path = optarg;
		else if (option == 'n')
			check = true;
		else if (option == 'V')
			return printf("tramd %s\n", TRAM_VERSION) < 0;
		else if (option == 'h')
			return usage(stdout, 0);
		else
			return usage(stderr, EX_USAGE);
	}
	if (path == NULL || optind != argc)
		return usage(stderr, EX_USAGE);
	rc = config_load(path, &config, error, &warnings);
	if (rc == 0 && !check)
		rc = server_split(&config, &rights, error, &warnings);
	if (rc == 0 && (rc = server_open_files(&rights, config, error, &warnings)) < 0)
		config_free(config);
	fprintf(stderr, "%.*s", SPAN_FMT(buf_span(&warnings)));
	buf_free(&warnings);
	if (rc != 0) {
		fprintf(stderr, "tramd: %s\n", error);
		return rc > 0 ? rc : EXIT_CONFIG;
	}
	if (check) {
		config_free(config);
		return printf("%s: no mistake found\n", path) < 0;
	}
	rc = run(config, &rights);
	sandbox_free(&rights.sandbox);
	keeper_link_close(&rights.keeper);
	return rc;
}
