/*
 * server_reload: a new configuration, whole or not at all, spread to all reactors by letters. What
 * began under an old one keeps it until it ends; the last reactor to have no user of it left says
 * so, and it is freed. Home loop.
 */
#include "mta/server_private.h"

#include <stdlib.h>

#include "mta/base/log.h"
#include "mta/inbound/gate.h"
#include "mta/outbound/dispatcher.h"
#include "mta/server_certificates.h"
#include "mta/server_sandbox.h"
#include "mta/server_split.h"
#include "mta/service.h"

/* ---- configurations that are no longer used ----------------------------------------------- */

struct unused_letter {
	struct letter letter;
	struct server *server;
	struct config *config;
};

static void
on_config_unused(struct letter *letter)
{
	struct unused_letter *u = CONTAINER_OF(letter, struct unused_letter, letter);
	struct server *server = u->server;

	for (struct retired **at = &server->retired; *at != NULL; at = &(*at)->next) {
		struct retired *old = *at;

		if (old->config != u->config || ++old->reactors < server->count)
			continue;
		*at = old->next;
		config_free(old->config);
		free(old);
		break;
	}
	free(u);
}

void
server_config_unused(struct reactor *r, struct config *config)
{
	struct unused_letter *u = xcalloc(1, sizeof(*u));

	u->letter.open = on_config_unused;
	u->server = r->owner;
	u->config = config;
	post_send(r->post, r->home, &u->letter);
}

void
server_free_retired(struct server *server)
{
	while (server->retired != NULL) {
		struct retired *old = server->retired;

		server->retired = old->next;
		config_free(old->config);
		free(old);
	}
}

/* ---- reload ------------------------------------------------------------------------------- */

struct config_letter {
	struct letter letter;
	struct reactor *reactor;
	struct config *config, *old;
};

static bool
same_resolver(const struct dns_config *a, const struct dns_config *b)
{
	if (a->server_count != b->server_count || a->timeout_ms != b->timeout_ms ||
	    a->tries != b->tries || a->tcp != b->tcp || a->trusted != b->trusted)
		return false;
	for (size_t i = 0; i < a->server_count; i++)
		if (!netaddr_same_ip(&a->servers[i], &b->servers[i]) ||
		    a->servers[i].port != b->servers[i].port)
			return false;
	return true;
}

/* On its loop. */
static void
use_resolver(struct reactor *r, const struct config *config, const struct config *old)
{
	if (!same_resolver(&old->resolver, &config->resolver) &&
	    reactor_set_resolver(r, &config->resolver) < 0)
		log_message(LOG_ERROR, "resolver",
			    "the new resolver could not be opened: look-ups fail until a reload");
}

static void
on_config_letter(struct letter *letter)
{
	struct config_letter *c = CONTAINER_OF(letter, struct config_letter, letter);
	struct reactor *r = c->reactor;

	if (r->post != r->home) {			/* home has it since the reload itself */
		reactor_config_use(r, c->config);
		r->config = c->config;
		use_resolver(r, c->config, c->old);
	}
	r->memory_max = c->config->limits.memory / r->post->peers;
	/* behind whatever was begun under it on its way here */
	reactor_config_release(r, c->old);
	free(c);
}

static void
spread_config(struct server *server, struct config *fresh, struct config *old)
{
	struct retired *retired = xcalloc(1, sizeof(*retired));

	retired->config = old;
	retired->next = server->retired;
	server->retired = retired;
	for (unsigned i = 0; i < server->count; i++) {
		struct config_letter *c = xcalloc(1, sizeof(*c));

		c->letter.open = on_config_letter;
		c->reactor = &server->reactors[i];
		c->config = fresh;
		c->old = old;
		post_send(home_of(server)->post, server->reactors[i].post, &c->letter);
	}
}

int
server_reload(void *arg, struct buf *message)
{
	struct server *server = arg;
	struct reactor *home = home_of(server);
	struct config *fresh, *old = home->config;
	struct arena arena = { 0 };
	struct span restart = { 0 };
	char error[CONFIG_ERROR_MAX];
	int rc = server_load(server->rights, old->path, &fresh, error, message);

	if (rc == 0) {
		server_stay_inside(&server->rights->sandbox, old, fresh, message);
		restart = config_needs_restart(old, fresh, &arena);
		fresh->threads = server->count;		/* those that run, whatever it says */
	}
	if (rc == 0 && (rc = config_open_files(fresh, error, message)) < 0)
		config_free(fresh);
	if (rc < 0) {
		keeper_link_tell(&server->rights->keeper, KEEPER_DROPPED, "");
		buf_clear(message);
		buf_append(message, span_str(error));
		arena_free(&arena);
		return rc;
	}
	config_use_secrets(fresh, &server->secrets);
	home->config = fresh;
	rc = gate_reconfigure(home->gate, error);
	if (rc < 0) {
		home->config = old;
		gate_reconfigure(home->gate, (char[GATE_ERROR_MAX]){ 0 });
		buf_append(message, span_str(error));
		config_free(fresh);
		keeper_link_tell(&server->rights->keeper, KEEPER_DROPPED, "");
		arena_free(&arena);
		return rc;
	}
	if (restart.len > 0)
		buf_printf(message, "%.*s\n", SPAN_FMT(restart));
	arena_free(&arena);
	config_close_files(fresh);
	server_loaded(server->rights, fresh, message);
	reactor_config_use(home, fresh);
	use_resolver(home, fresh, old);
	server_configure_https(server);
	log_configure(&fresh->log);
	queue_reconfigure(server->queue, fresh->queue.max_size, fresh->queue.min_free);
	spread_config(server, fresh, old);
	dispatcher_reconfigure(home->dispatcher);
	certificates_follow(server->certificates);
	return 0;
}

void
server_reload_on_signal(struct server *server)
{
	struct buf message = { 0 };

	service_notify("RELOADING=1");
	if (server_reload(server, &message) < 0)
		log_message(LOG_ERROR, "reload", "nothing has changed: %.*s",
			    SPAN_FMT(buf_span(&message)));
	else
		log_message(LOG_INFO, "reload", "the new configuration holds. %.*s",
			    SPAN_FMT(buf_span(&message)));
	service_notify("READY=1");
	buf_free(&message);
}
