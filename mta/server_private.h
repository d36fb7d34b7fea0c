/*
 * server_private: what server.c (life and end), server_reload.c (a new configuration) and
 * server_facts.c (what the control socket shows of the whole) share.
 */
#ifndef TRAM_SERVER_PRIVATE_H
#define TRAM_SERVER_PRIVATE_H

#include "mta/control/control.h"
#include "mta/reactor/reactor.h"
#include "mta/server.h"

/* Configurations that old sessions still use. */
struct retired {
	struct retired *next;
	struct config *config;
	unsigned reactors;			/* that have reported their last user gone */
};

struct server {
	struct reactor *reactors;		/* home first */
	struct post *posts;
	unsigned count;
	struct queue *queue;
	struct server_rights *rights;
	struct control *control;
	uv_signal_t signals[5];
	uv_timer_t stop_timer, watchdog;
	uv_async_t poisoned;
	char poison_text[256];			/* written once, before poisoned is sent */
	bool stopping, hurried, sessions_gone, dispatcher_stopped, closed;
	int exit_code;
	struct config_secrets secrets;		/* of all configurations */
	struct certificates *certificates;
	struct retired *retired;		/* configurations that old sessions still use */
};

static inline struct reactor *
home_of(struct server *server)
{
	return &server->reactors[0];
}

/* server.c: what holds for the HTTPS requests that begin from now on */
void server_configure_https(struct server *server);

/* server_reload.c: whole or not at all; control_owner.reload */
int server_reload(void *arg, struct buf *message);
void server_reload_on_signal(struct server *server);
/* reactor.config_unused */
void server_config_unused(struct reactor *r, struct config *config);
void server_free_retired(struct server *server);

/* server_facts.c: control_owner.sessions, .stats, .bans, .pardon */
void server_sessions(void *arg, struct control_sessions *request);
void server_stats(void *arg, json_t *into);
void server_bans(void *arg, json_t *array);
bool server_pardon(void *arg, const struct netaddr *address);

#endif
