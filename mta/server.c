/*
 * server: tramd's life: opens the queue, the doors and the reactors, and ends them in
 * order.
 *
 * The first reactor's loop runs on the main thread: signals, gate, dispatcher and control live
 * there. A stop goes: doors shut → idle sessions told 421, deliveries finish → (stop-timeout:
 * what is left is cut off) → everything closed → loops empty → the writer commits what waits and
 * marks a clean stop.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/control/control.h"
#include "mta/https/https.h"
#include "mta/inbound/gate.h"
#include "mta/inbound/login.h"
#include "mta/keeper/user.h"
#include "mta/outbound/dispatcher.h"
#include "mta/reactor/returns.h"
#include "mta/reactor/suppressed.h"
#include "mta/server_certificates.h"
#include "mta/server_private.h"
#include "mta/server_sandbox.h"
#include "mta/server_split.h"
#include "mta/service.h"

enum { POISON_MS = 1000, AGAIN_MS = 3000, TICKET_ROTATE_MS = 12 * 3600 * 1000 };

/* ---- stop --------------------------------------------------------------------------------- */

/* Drain: sessions end as soon as they may. Stop: and none begins. Now: they end. */
enum hurry { HURRY_DRAIN, HURRY_STOP, HURRY_NOW };

struct hurry_letter {
	struct letter letter;
	struct reactor *reactor;
	enum hurry how;
};

static void
on_hurry(struct letter *letter)
{
	struct hurry_letter *h = CONTAINER_OF(letter, struct hurry_letter, letter);
	struct reactor *r = h->reactor;

	if (h->how != HURRY_DRAIN)
		r->stopping = true;
	LIST_EACH(struct session, s, &r->sessions, node)
		session_hurry(s, h->how == HURRY_NOW);
	free(h);
}

static void
hurry(struct server *server, enum hurry how)
{
	for (unsigned i = 0; i < server->count; i++) {
		struct hurry_letter *h = xcalloc(1, sizeof(*h));

		h->letter.open = on_hurry;
		h->reactor = &server->reactors[i];
		h->how = how;
		post_send(home_of(server)->post, server->reactors[i].post, &h->letter);
	}
}

static void
on_close(struct letter *letter)
{
	struct hurry_letter *h = CONTAINER_OF(letter, struct hurry_letter, letter);

	login_close(h->reactor->login);
	reactor_close(h->reactor);
	free(h);
}

static void on_dispatcher_stopped(void *arg);

/* Nothing is left that speaks: every loop closes its handles and ends. */
static void
close_all(struct server *server)
{
	struct reactor *home = home_of(server);

	if (!server->sessions_gone || !server->dispatcher_stopped || server->closed)
		return;
	if (!dispatcher_still(home->dispatcher)) {
		server->dispatcher_stopped = false;
		dispatcher_stop(home->dispatcher, on_dispatcher_stopped, server);
		return;
	}
	server->closed = true;
	control_stop(server->control);
	certificates_stop(server->certificates);
	dispatcher_close(home->dispatcher);
	https_close(home->https);
	returns_close(home->returns);
	suppressed_close(home->suppressed);
	for (size_t i = 0; i < sizeof(server->signals) / sizeof(server->signals[0]); i++)
		uv_close((uv_handle_t *)&server->signals[i], NULL);
	uv_close((uv_handle_t *)&server->stop_timer, NULL);
	uv_close((uv_handle_t *)&server->watchdog, NULL);
	uv_close((uv_handle_t *)&server->poisoned, NULL);
	for (unsigned i = 0; i < server->count; i++) {
		struct hurry_letter *h = xcalloc(1, sizeof(*h));

		h->letter.open = on_close;
		h->reactor = &server->reactors[i];
		post_send(home->post, server->reactors[i].post, &h->letter);
	}
}

static void
on_sessions_gone(void *arg)
{
	struct server *server = arg;

	server->sessions_gone = true;
	close_all(server);
}

static void
on_dispatcher_stopped(void *arg)
{
	struct server *server = arg;

	server->dispatcher_stopped = true;
	close_all(server);
}

static void
on_stop_timeout(uv_timer_t *timer)
{
	struct server *server = timer->data;

	/* even that did not help: the queue is as a crash would leave it */
	if (server->hurried) {
		log_message(LOG_ERROR, "stop", "something does not end: leaving without it");
		log_stop();
		_exit(EXIT_POISONED);
	}
	server->hurried = true;
	log_message(LOG_WARNING, "stop", "stop-timeout has passed: what is in progress is cut off");
	hurry(server, HURRY_NOW);
	if (!server->dispatcher_stopped)
		dispatcher_stop(home_of(server)->dispatcher, on_dispatcher_stopped, server);
	uv_timer_start(timer, on_stop_timeout, AGAIN_MS, 0);
}

static void
stop(void *arg)
{
	struct server *server = arg;
	struct reactor *home = home_of(server);

	if (server->stopping) {
		if (!server->closed && !server->hurried)
			uv_timer_start(&server->stop_timer, on_stop_timeout, 0, 0);
		return;
	}
	server->stopping = true;
	service_notify("STOPPING=1");
	log_message(LOG_INFO, "stopping", "%zu sessions open", gate_sessions(home->gate));
	gate_close(home->gate);
	hurry(server, HURRY_STOP);
	uv_timer_start(&server->stop_timer, on_stop_timeout,
		       (uint64_t)home->config->stop_timeout_ms, 0);
	gate_when_empty(home->gate, on_sessions_gone, server);
	dispatcher_stop(home->dispatcher, on_dispatcher_stopped, server);
}

static void
on_poison_timeout(uv_timer_t *timer)
{
	(void)timer;
	log_stop();
	/* a clean reopen is the only way on: nothing more is to be trusted */
	_exit(EXIT_POISONED);
}

static void
on_poisoned(uv_async_t *async)
{
	struct server *server = async->data;

	log_message(LOG_ERROR, "poisoned",
		    "the queue cannot be trusted any more: %s; stopping, restart to reopen it",
		    server->poison_text);
	gate_close(home_of(server)->gate);
	hurry(server, HURRY_STOP);
	if (!server->stopping)			/* no result could be kept any more */
		dispatcher_stop(home_of(server)->dispatcher, NULL, NULL);
	uv_timer_start(&server->stop_timer, on_poison_timeout, POISON_MS, 0);
}

/* On the writer thread. */
static void
poisoned(void *arg, const char *why)
{
	struct server *server = arg;

	snprintf(server->poison_text, sizeof(server->poison_text), "%s", why);
	uv_async_send(&server->poisoned);
}

static void
on_signal(uv_signal_t *handle, int number)
{
	struct server *server = handle->data;

	if (number == SIGHUP && !server->stopping)
		server_reload_on_signal(server);
	else if (number == SIGUSR1)
		log_reopen();
	else if (number == SIGUSR2)
		certificates_look(server->certificates);
	else if (number == SIGTERM || number == SIGINT)
		stop(server);
}

static void
drain(void *arg, bool on)
{
	struct server *server = arg;

	gate_accepting(home_of(server)->gate, !on);
	if (on)
		hurry(server, HURRY_DRAIN);
	log_message(LOG_INFO, "drain",
		    on ? "nothing more is accepted; what is queued goes on" : "accepting again");
}

/* ---- start -------------------------------------------------------------------------------- */

static int
fail(const char *what)
{
	fprintf(stderr, "tramd: %s\n", what);
	return EXIT_CANNOT;
}

/* As many files as we may have: descriptors are budgeted from it (gate). */
static void
raise_descriptors(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

static void
on_port_thread(void *arg)
{
	struct reactor *r = arg;

	uv_run(&r->loop, UV_RUN_DEFAULT);
}

static int
open_queue(struct server *server, const struct config *config, char *error)
{
	struct queue_config qc = {
		.path = config->queue.path,
		.map_size = config->queue.map_size,
		.max_size = config->queue.max_size,
		.min_free = config->queue.min_free,
		.readers = config->threads + 8,
		.poisoned = poisoned,
		.arg = server,
	};

	return queue_open(&qc, &server->queue, error);
}

static int
open_reactors(struct server *server, struct config *config)
{
	server->count = config->threads;
	server->reactors = xcalloc(server->count, sizeof(*server->reactors));
	server->posts = xcalloc(server->count, sizeof(*server->posts));
	for (unsigned i = 0; i < server->count; i++) {
		struct reactor *r = &server->reactors[i];
		int rc = reactor_init(r, server->queue, config, server->posts, i, server->count);

		if (rc < 0)
			return rc;
		r->owner = server;
		r->config_unused = server_config_unused;
	}
	return 0;
}

static void
watch_signals(struct server *server)
{
	static const int numbers[] = { SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGINT };
	uv_loop_t *loop = &home_of(server)->loop;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		uv_signal_init(loop, &server->signals[i]);
		server->signals[i].data = server;
		uv_signal_start(&server->signals[i], on_signal, numbers[i]);
	}
	service_watch(&server->watchdog, loop);
	uv_timer_init(loop, &server->stop_timer);
	uv_async_init(loop, &server->poisoned, on_poisoned);
	server->stop_timer.data = server->poisoned.data = server;
}

void
server_configure_https(struct server *server)
{
	struct reactor *home = home_of(server);
	struct https_settings settings = {
		.resolver = home->resolver,
		.ca = home->config->delivery_ca,
		.allow_private = home->config->allow_private,
	};

	https_configure(home->https, &settings);
}

static int
start_home(struct server *server, struct config *config)
{
	struct reactor *home = home_of(server);
	struct control_owner owner = { .arg = server,
				       .reload = server_reload,
				       .drain = drain,
				       .stop = stop,
				       .sessions = server_sessions,
				       .stats = server_stats,
				       .certificates = server_certificates,
				       .bans = server_bans,
				       .pardon = server_pardon };
	char error[GATE_ERROR_MAX];

	if (keeper_become(config->user, false) == 0 && seteuid(0) < 0 && getuid() == 0)
		return fail("cannot become root again to open the listeners");
	if (gate_open(server->reactors, server->count, &home->gate, error) < 0)
		return fail(error);
	for (unsigned i = 0; i < server->count; i++)
		server->reactors[i].gate = home->gate;
	for (unsigned i = 0; i < server->count && server->rights->keeper.gives; i++)
		server->reactors[i].opener = &server->rights->keeper.opener;
	if (keeper_become(config->user, true) < 0)
		return fail("cannot become the configured user");
	config_close_files(config);
	keeper_link_tell(&server->rights->keeper, KEEPER_TAKEN, "");
	if (suppressed_open(home, &home->suppressed) < 0)
		return fail(
			"cannot read the list of suppressed addresses: run tramctl queue check");
	if (returns_open(home, &home->returns) < 0)
		return fail("cannot read the key of verp: run tramctl queue check");
	for (unsigned i = 0; i < server->count; i++) {
		server->reactors[i].suppressed = home->suppressed;
		server->reactors[i].returns = home->returns;
	}
	home->https = https_new(&home->loop);
	server_configure_https(server);
	if (config->sandbox || server->rights->keeper.channel >= 0)
		home->runner = &server->rights->keeper.runner;
	home->dispatcher = dispatcher_start(home);
	server->certificates = certificates_start(server);
	if (config->control != NULL && control_start(home, &owner, &server->control, error) < 0)
		return fail(error);
	return 0;
}

static void
free_server(struct server *server)
{
	struct reactor *home = home_of(server);
	struct config *config = home->config;

	dispatcher_free(home->dispatcher);
	https_free(home->https);
	returns_free(home->returns);
	suppressed_free(home->suppressed);
	gate_free(home->gate);
	for (unsigned i = 0; i < server->count; i++)
		reactor_free(&server->reactors[i]);
	queue_close(server->queue);
	server_free_retired(server);
	free(server->reactors);
	free(server->posts);
	config_free(config);
	tls_tickets_free(server->secrets.tickets);
}

static void
log_ready(struct server *server, int64_t began)
{
	struct queue_facts facts;
	struct log_line l;

	queue_facts(server->queue, &facts);
	if (!log_begin(&l, LOG_INFO, "ready"))
		return;
	log_u64(&l, "messages", facts.messages);
	log_u64(&l, "in_doubt", facts.in_doubt);
	log_str(&l, "last_stop", facts.clean_start ? "clean" : "unclean");
	log_u64(&l, "threads", server->count);
	log_i64(&l, "ms", mono_ms() - began);
	log_end(&l);
}

static void
make_secrets(struct config_secrets *secrets)
{
	secrets->tickets = tls_tickets_new(TICKET_ROTATE_MS);
	if (getrandom(secrets->sasl, sizeof(secrets->sasl), 0) != sizeof(secrets->sasl))
		/* a kernel without random octets: nothing is safe */
		abort();
}

int
server_run(struct config *config, struct server_rights *rights)
{
	struct server server = { .rights = rights };
	char error[QUEUE_ERROR_MAX] = "";
	int64_t began = mono_ms();
	int rc;

	raise_descriptors();
	make_secrets(&server.secrets);
	config_use_secrets(config, &server.secrets);
	rc = keeper_become(config->user, rights->keeper.gives);
	server_bind_to_keeper(rights);
	if (rc < 0 || open_queue(&server, config, error) < 0) {
		config_free(config);
		tls_tickets_free(server.secrets.tickets);
		return fail(error[0] ? error : "the configured user does not exist");
	}
	if (open_reactors(&server, config) < 0)
		return fail("cannot start the event loops");
	watch_signals(&server);
	rc = start_home(&server, config);
	if (rc != 0)
		exit(rc);
	server_limit_calls(&rights->sandbox);
	for (unsigned i = 1; i < server.count; i++)
		if (uv_thread_create(&server.reactors[i].thread, on_port_thread,
				     &server.reactors[i]) < 0)
			exit(fail("cannot start a thread"));
	log_ready(&server, began);
	service_hear_signals();
	service_notify("READY=1");
	uv_run(&home_of(&server)->loop, UV_RUN_DEFAULT);
	for (unsigned i = 1; i < server.count; i++)
		uv_thread_join(&server.reactors[i].thread);
	free_server(&server);
	return server.exit_code;
}
