/*
 * tramctl: the operator's tool. One call is parsed into struct tramctl by the tables of
 * options.c; the command's `run` then asks the daemon, and prints for people or, by --json, the
 * lines as they came.
 */
#ifndef TRAM_TRAMCTL_H
#define TRAM_TRAMCTL_H

#include <stdio.h>

#include "mta/control/client.h"
#include "mta/control/protocol.h"
#include "mta/ctl/seen.h"

#define TRAM_CONFIG_DEFAULT "/etc/tram/tram.conf"

enum tramctl_exit {
	TRAMCTL_OK = 0,
	TRAMCTL_FAILED = 1,
	TRAMCTL_USAGE = 2,
	TRAMCTL_NOT_RUNNING = 3,
	TRAMCTL_NOT_PERMITTED = 4,
	TRAMCTL_CONFIG = 5,
	TRAMCTL_LEFT = 6,		/* drain: not all could be delivered now */
};

struct config;
struct tramctl_command;

struct tramctl {
	const struct tramctl_command *command;	/* NULL: only help or version was asked for */
	const char *config_path;
	bool json, help, version, list_options, no_wait, once;
	uint64_t interval;			/* top: seconds; 0: usual */
	struct control_request request;		/* ids not in it: they may be many */
	const char *file, *store;		/* export, import, salvage */
	const char *user;			/* password */
	uint64_t *ids;
	size_t id_count;
	struct arena arena;
	/* while it runs */
	struct config *config;
	struct control_client client;
	struct seen seen;		/* ids that were named; recipients that were listed */
};

struct tramctl_command {
	const char *words;			/* "queue list" */
	const char *arguments;			/* for its usage line */
	const char *help;
	unsigned takes;				/* enum option_group of options.c */
	enum control_command ask;
	int (*run)(struct tramctl *t);		/* enum tramctl_exit */
};

/* The tables. True, or a message is on standard error (TRAMCTL_USAGE). */
bool tramctl_parse(int argc, char **argv, struct tramctl *ret);
void tramctl_help(const struct tramctl *t);
/* "queue list --domain": what the manual's check reads */
void tramctl_list_options(void);

/* Standard error, "tramctl: " before it; returns the exit code given. */
int tramctl_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Connects on first use. 0 or an exit code, with a message on standard error. */
int tramctl_connect(struct tramctl *t);
/* The same, but TRAMCTL_NOT_RUNNING comes without a message. */
int tramctl_try_connect(struct tramctl *t);
int tramctl_load_config(struct tramctl *t);
/*
 * Asks, in as many requests as the ids need, and gives each line but the last to row() if
 * there is one; 0 or an exit code.
 */
int tramctl_ask(struct tramctl *t, const struct control_request *request,
		void (*row)(struct tramctl *t, const json_t *line, void *arg), void *arg,
		json_t **last);

/* rows.c */
int tramctl_run_list(struct tramctl *t);
/* the same table, of any request whose rows are those of a list */
int tramctl_print_list(struct tramctl *t, const struct control_request *request);
int tramctl_run_show(struct tramctl *t);
int tramctl_run_explain(struct tramctl *t);
int tramctl_run_sites(struct tramctl *t);
int tramctl_run_sessions(struct tramctl *t);
int tramctl_run_certs(struct tramctl *t);
int tramctl_run_sources(struct tramctl *t);
int tramctl_run_bans(struct tramctl *t);
int tramctl_run_suppress_list(struct tramctl *t);
int tramctl_run_measures(struct tramctl *t);
int tramctl_run_tls_reports(struct tramctl *t);
int tramctl_run_tls_reports_send(struct tramctl *t);
int tramctl_run_stats(struct tramctl *t);
/* edit.c: what changes something and prints little */
int tramctl_run_edit(struct tramctl *t);
int tramctl_run_plain(struct tramctl *t);
int tramctl_run_drain(struct tramctl *t);		/* drain.c */
/* check.c */
int tramctl_run_tls_check(struct tramctl *t);
int tramctl_run_dns_records(struct tramctl *t);
/* files.c */
int tramctl_run_cat(struct tramctl *t);
int tramctl_run_import(struct tramctl *t);
int tramctl_run_top(struct tramctl *t);		/* top.c */
/* password.c: needs neither daemon nor configuration */
int tramctl_run_password(struct tramctl *t);
int tramctl_run_verp_key(struct tramctl *t);
/* export.c */
int tramctl_run_export(struct tramctl *t);
int tramctl_run_suppress_import(struct tramctl *t);	/* suppress.c */
/* store.c: the store itself, while no tramd has it */
int tramctl_run_check(struct tramctl *t);
int tramctl_run_salvage(struct tramctl *t);

#endif
