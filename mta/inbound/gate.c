/*
 * gate: see gate.h. Descriptors that listen are watched with uv_poll and accepted with accept4,
 * some at a time, so that a flood of connections does not keep the loop from its sessions.
 */
#include "mta/inbound/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/base/map.h"
#include "mta/inbound/login.h"
#include "mta/net/listen.h"

enum {
	ACCEPT_BATCH = 64,
	PAUSE_MS = 100,
	REMEMBER_MS = 300000,		/* a password that was right */
	BAN_MAX_MS = 24 * 3600 * 1000,
	DESCRIPTORS_OURS = 64,		/* store, log, resolvers, listeners, standard ones */
};

struct door {				/* one address that listens */
	struct list node;
	struct gate *gate;
	uv_poll_t poll;
	int fd;
	struct netaddr address;
	bool local;
	size_t listener;		/* index in the configuration; unused if local */
	bool keep;			/* found again in a new configuration */
};

struct client_count {
	struct map_node node;
	size_t count;
};

struct user_rate {
	struct map_node node;
	int64_t minute;
	size_t messages;
};

struct gate {
	struct reactor *reactors;	/* home first */
	unsigned reactor_count;
	struct list doors;
	uv_timer_t pause;
	struct map clients, users;
	size_t *per_reactor;
	size_t sessions, max_sessions, refused, failed_logins;
	uint64_t next_number;
	/* given up for a moment when there are no descriptors left */
	int spare_fd;
	struct checker *checker;	/* of all logins */
	struct throttle *throttle;
	struct quota *quota;
	uint64_t guess_seed;
	bool accepting;
	char *local_path;		/* of the socket for local programs */
	int64_t complained_ms;
	void (*gone)(void *arg);
	void *gone_arg;
};

static struct config *
config_of(const struct gate *gate)
{
	return gate->reactors[0].config;
}

/* ---- counts ------------------------------------------------------------------------------- */

static size_t
client_add(struct gate *gate, uint64_t key)
{
	struct map_node *node = map_find(&gate->clients, key);
	struct client_count *c = node ? CONTAINER_OF(node, struct client_count, node) : NULL;

	if (c == NULL) {
		c = xcalloc(1, sizeof(*c));
		map_add(&gate->clients, &c->node, key);
	}
	return ++c->count;
}

static void
client_remove(struct gate *gate, uint64_t key)
{
	struct map_node *node = map_find(&gate->clients, key);
	struct client_count *c = node ? CONTAINER_OF(node, struct client_count, node) : NULL;

	if (c == NULL || --c->count > 0)
		return;
	map_remove(&gate->clients, node);
	free(c);
}

bool
gate_local_user_may_send(struct gate *gate, uint32_t uid, size_t per_minute)
{
	struct map_node *node = map_find(&gate->users, uid);
	struct user_rate *u = node ? CONTAINER_OF(node, struct user_rate, node) : NULL;
	int64_t minute = mono_ms() / 60000;

	if (per_minute == 0)
		return true;
	if (u == NULL) {
		u = xcalloc(1, sizeof(*u));
		map_add(&gate->users, &u->node, uid);
	}
	if (u->minute != minute)
		u->messages = 0;
	u->minute = minute;
	return ++u->messages <= per_minute;
}

size_t
gate_sessions(const struct gate *gate)
{
	return gate->sessions;
}

/* Descriptors are shared out: ours, the deliveries', and what is left is for sessions. */
static void
set_max_sessions(struct gate *gate)
{
	const struct limits *limits = &config_of(gate)->limits;
	struct rlimit rl = { 0 };
	size_t have, outbound = limits->deliveries;

	getrlimit(RLIMIT_NOFILE, &rl);
	have = rl.rlim_cur > 1000000 ? 1000000 : (size_t)rl.rlim_cur;
	have = have > DESCRIPTORS_OURS * 2 ? have - DESCRIPTORS_OURS : DESCRIPTORS_OURS;
	if (outbound > have / 2)
		outbound = have / 2;
	gate->max_sessions = limits->connections;
	if (gate->max_sessions > have - outbound) {
		gate->max_sessions = have - outbound;
		log_message(LOG_WARNING, "descriptors",
			    "the limit of open files allows %zu connections, not %zu: raise "
			    "LimitNOFILE",
			    gate->max_sessions, limits->connections);
	}
}

/* ---- sessions: out to a reactor, and back ------------------------------------------------- */

static void
on_session_home(struct letter *letter)
{
	struct session *s = CONTAINER_OF(letter, struct session, letter);
	struct gate *gate = s->reactor->gate;

	gate->sessions--;
	gate->per_reactor[s->reactor->index]--;
	client_remove(gate, s->limit_key);
	session_free(s);
	if (gate->sessions == 0 && gate->gone != NULL) {
		void (*gone)(void *) = gate->gone;

		gate->gone = NULL;
		gone(gate->gone_arg);
	}
}

void
gate_session_ended(struct session *s)
{
	s->letter.open = on_session_home;
	post_send(s->reactor->post, s->reactor->home, &s->letter);
}

static void
on_session_arrives(struct letter *letter)
{
	session_start(CONTAINER_OF(letter, struct session, letter));
}

static struct reactor *
least_loaded(struct gate *gate)
{
	unsigned best = 0;

	for (unsigned i = 1; i < gate->reactor_count; i++)
		if (gate->per_reactor[i] < gate->per_reactor[best])
			best = i;
	return &gate->reactors[best];
}

static void
hand_over(struct gate *gate, struct door *door, int fd, const struct netaddr *peer, uint64_t key)
{
	struct config *config = config_of(gate);
	struct session *s = xcalloc(1, sizeof(*s));
	struct ucred cred = { 0 };
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(cred), sa_len = sizeof(sa);

	s->fd = fd;
	s->client.peer = *peer;
	s->client.local = door->local;
	s->limit_key = key;
	s->crowd = gate->max_sessions * 4 / 5 / gate->reactor_count;
	s->number = ++gate->next_number;
	s->config = config;
	s->reactor = door->local ? &gate->reactors[0] : least_loaded(gate);
	if (door->local) {
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
		s->uid = cred.uid;
		s->smtp = &config->submission;
		s->listener = SPAN("local");
	} else {
		if (getsockname(fd, (struct sockaddr *)&sa, &sa_len) == 0)
			netaddr_from_sockaddr((struct sockaddr *)&sa, &s->client.server);
		s->settings = &config->listeners[door->listener];
		s->smtp = listener_smtp(s->settings, peer);
		s->listener = s->settings->name;
	}
	gate->sessions++;
	gate->per_reactor[s->reactor->index]++;
	s->letter.open = on_session_arrives;
	post_send(gate->reactors[0].post, s->reactor->post, &s->letter);
}

/* ---- accepting ---------------------------------------------------------------------------- */

static void
refuse(struct gate *gate, int fd, const struct netaddr *peer, const char *why)
{
	char line[256];
	int64_t now = mono_ms();
	int n = snprintf(line, sizeof(line), "421 4.7.0 %.*s %s\r\n",
			 SPAN_FMT(config_of(gate)->hostname), why);
	ssize_t sent = n > 0 ? send(fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

	close(fd);
	gate->refused++;
	if (sent >= 0 && now - gate->complained_ms > 1000) {	/* a flood must not flood the log */
		struct log_line l;

		gate->complained_ms = now;
		if (log_begin(&l, LOG_WARNING, "refused")) {
			log_addr(&l, "client", peer);
			log_str(&l, "why", why);
			log_u64(&l, "sessions", gate->sessions);
			log_u64(&l, "refused", gate->refused);
			log_end(&l);
		}
	}
}

/* Only where nobody does anything without a login: elsewhere AUTH is refused, not others' mail. */
static bool
is_banned(struct gate *gate, const struct door *door, const struct netaddr *peer)
{
	return !door->local &&
	       config_of(gate)->listeners[door->listener].auth == LISTENER_AUTH_REQUIRED &&
	       throttle_turns_away(gate->throttle, peer, mono_ms());
}

static void on_door(uv_poll_t *poll, int status, int events);

static void
on_pause_over(uv_timer_t *timer)
{
	struct gate *gate = timer->data;

	if (gate->spare_fd < 0)
		gate->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	LIST_EACH(struct door, door, &gate->doors, node)
		uv_poll_start(&door->poll, UV_READABLE, on_door);
}

/*
 * Out of descriptors: the spare one is given up to tell the client so, instead of leaving it in
 * the backlog.
 */
static void
refuse_without_descriptor(struct gate *gate, struct door *door)
{
	struct netaddr nobody = { 0 };
	int fd;

	if (gate->spare_fd >= 0)
		close(gate->spare_fd);
	fd = accept4(door->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		refuse(gate, fd, &nobody, "too many connections, try again later");
	gate->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	/* others ate it: look away for a moment instead of spinning */
	if (gate->spare_fd < 0) {
		uv_poll_stop(&door->poll);
		uv_timer_start(&gate->pause, on_pause_over, PAUSE_MS, 0);
	}
}

static bool
accept_one(struct gate *gate, struct door *door)
{
	const struct limits *limits = &config_of(gate)->limits;
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	struct access_client client = { .local = door->local };
	uint64_t key;
	size_t from_client;
	int fd = accept4(door->fd, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			refuse_without_descriptor(gate, door);
		return errno == EINTR || errno == ECONNABORTED;
	}
	if (door->local)
		client.peer.family = AF_UNIX;
	else
		netaddr_from_sockaddr((struct sockaddr *)&sa, &client.peer);
	access_greet(&config_of(gate)->access, &client);
	key = netaddr_limit_key(&client.peer);
	from_client = client_add(gate, key);
	if (!gate->accepting)
		refuse(gate, fd, &client.peer, "not accepting mail now, try again later");
	else if (gate->sessions >= gate->max_sessions)
		refuse(gate, fd, &client.peer, "too many connections, try again later");
	else if (!client.trusted && from_client > limits->connections_per_client)
		refuse(gate, fd, &client.peer, "too many connections from your network");
	else if (is_banned(gate, door, &client.peer))
		refuse(gate, fd, &client.peer, "too many failed logins, try again later");
	else {
		hand_over(gate, door, fd, &client.peer, key);
		return true;
	}
	client_remove(gate, key);
	return true;
}

static void
on_door(uv_poll_t *poll, int status, int events)
{
	struct door *door = poll->data;

	(void)events;
	if (status < 0)
		return;
	for (int i = 0; i < ACCEPT_BATCH && accept_one(door->gate, door); i++)
		;
}

/* ---- doors -------------------------------------------------------------------------------- */

/* A socket that came with the configuration, or one of our own. */
static int
socket_for(struct gate *gate, const struct netaddr *address, const char *path)
{
	struct files *given = config_of(gate)->doors;
	char text[NETADDR_TEXT_MAX];
	int fd;

	if (given == NULL)
		return path ? listen_local(path) : listen_inet(address);
	fd = files_take(given, path ? path : netaddr_format_port(address, text));
	return fd < 0 ? -EBADF : fd;
}

static int
door_open(struct gate *gate, const struct netaddr *address, const char *path, size_t listener)
{
	struct door *door;
	int fd = socket_for(gate, address, path);

	if (fd < 0)
		return fd;
	door = xcalloc(1, sizeof(*door));
	*door = (struct door){
		.gate = gate, .fd = fd, .local = path != NULL, .listener = listener, .keep = true
	};
	if (address != NULL)
		door->address = *address;
	uv_poll_init(&gate->reactors[0].loop, &door->poll, fd);
	door->poll.data = door;
	uv_poll_start(&door->poll, UV_READABLE, on_door);
	list_add_last(&gate->doors, &door->node);
	return 0;
}

static void
on_door_closed(uv_handle_t *handle)
{
	struct door *door = handle->data;

	close(door->fd);
	free(door);
}

static void
door_close(struct door *door)
{
	list_remove(&door->node);
	uv_close((uv_handle_t *)&door->poll, on_door_closed);
}

static struct door *
door_find(struct gate *gate, const struct netaddr *address)
{
	LIST_EACH(struct door, door, &gate->doors, node)
		if (!door->local && netaddr_same_ip(&door->address, address) &&
		    door->address.port == address->port)
			return door;
	return NULL;
}

static int
open_doors(struct gate *gate, char error[GATE_ERROR_MAX])
{
	struct config *config = config_of(gate);
	char text[NETADDR_TEXT_MAX];

	for (size_t i = 0; i < config->listener_count; i++) {
		for (size_t j = 0; j < config->listeners[i].address_count; j++) {
			const struct netaddr *address = &config->listeners[i].addresses[j];
			struct door *door = door_find(gate, address);
			int rc;

			if (door != NULL) {
				door->keep = true;
				door->listener = i;
				continue;
			}
			rc = door_open(gate, address, NULL, i);
			if (rc < 0)
				return listen_failed(rc, netaddr_format_port(address, text), error);
		}
	}
	return 0;
}

static struct throttle_config
throttle_of(const struct limits *limits)
{
	return (struct throttle_config){
		.max_delay_ms = limits->auth_delay_ms,
		.ban_after = (unsigned)limits->auth_failures,
		.ban_ms = limits->auth_ban_ms,
		.ban_max_ms = limits->auth_ban_ms > BAN_MAX_MS ? limits->auth_ban_ms : BAN_MAX_MS,
		.never_ban = limits->auth_ban_ms == 0,
		.max_addresses = limits->auth_remembered,
		.max_users = limits->auth_remembered,
		.max_friends = limits->auth_remembered * 2,
	};
}

static int
open_logins(struct gate *gate)
{
	const struct limits *limits = &config_of(gate)->limits;
	struct checker_config checker = { .max_waiting = limits->auth_waiting,
					  .remember_ms = REMEMBER_MS };
	struct throttle_config throttle = throttle_of(limits);
	int rc = 0;

	if (getrandom(&gate->guess_seed, sizeof(gate->guess_seed), 0) < 0)
		return -errno;
	gate->checker = checker_new(&checker);
	gate->throttle = throttle_new(&throttle, gate->guess_seed);
	gate->quota = quota_new(0, gate->guess_seed);
	for (unsigned i = 0; rc == 0 && i < gate->reactor_count; i++)
		rc = login_open(&gate->reactors[i], gate->checker);
	return rc;
}

struct throttle_verdict
gate_login_failed(struct gate *gate, const struct netaddr *client, struct span user, uint64_t guess)
{
	gate->failed_logins++;
	return throttle_failed(gate->throttle, client, user, guess, mono_ms());
}

struct throttle_verdict
gate_login_begins(struct gate *gate, const struct netaddr *client, struct span user)
{
	return throttle_ask(gate->throttle, client, user, mono_ms());
}

void
gate_login_succeeded(struct gate *gate, const struct netaddr *client, struct span user)
{
	throttle_succeeded(gate->throttle, client, user, mono_ms());
}

struct throttle *
gate_throttle(struct gate *gate)
{
	return gate->throttle;
}

size_t
gate_failed_logins(const struct gate *gate)
{
	return gate->failed_logins;
}

uint64_t
gate_guess_seed(const struct gate *gate)
{
	return gate->guess_seed;
}

struct quota *
gate_quota(struct gate *gate)
{
	return gate->quota;
}

int
gate_open(struct reactor *reactors, unsigned count, struct gate **ret, char error[GATE_ERROR_MAX])
{
	struct gate *gate = xcalloc(1, sizeof(*gate));
	const char *path = reactors[0].config->submission_socket;
	int rc;

	gate->reactors = reactors;
	gate->reactor_count = count;
	gate->per_reactor = xcalloc(count, sizeof(*gate->per_reactor));
	gate->accepting = true;
	gate->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	list_init(&gate->doors);
	uv_timer_init(&reactors[0].loop, &gate->pause);
	gate->pause.data = gate;
	set_max_sessions(gate);
	*ret = gate;
	rc = open_logins(gate);
	if (rc < 0)
		snprintf(error, GATE_ERROR_MAX, "cannot prepare for logins: %s", strerror(-rc));
	else
		rc = open_doors(gate, error);
	if (rc == 0 && path != NULL) {
		rc = door_open(gate, NULL, path, 0);
		if (rc < 0)
			listen_failed(rc, path, error);
		else
			gate->local_path = strdup(path);
	}
	return rc;
}

int
gate_reconfigure(struct gate *gate, char error[GATE_ERROR_MAX])
{
	struct throttle_config throttle = throttle_of(&config_of(gate)->limits);
	int rc;

	LIST_EACH(struct door, door, &gate->doors, node)
		door->keep = door->local;
	rc = open_doors(gate, error);
	LIST_EACH(struct door, old, &gate->doors, node)
		if (!old->keep && rc == 0)
			door_close(old);
	set_max_sessions(gate);
	throttle_configure(gate->throttle, &throttle);
	return rc;
}

void
gate_accepting(struct gate *gate, bool on)
{
	gate->accepting = on;
}

void
gate_close(struct gate *gate)
{
	if (uv_is_closing((uv_handle_t *)&gate->pause))
		return;
	uv_close((uv_handle_t *)&gate->pause, NULL);
	LIST_EACH(struct door, door, &gate->doors, node)
		door_close(door);
	if (gate->local_path != NULL)
		unlink(gate->local_path);
}

void
gate_when_empty(struct gate *gate, void (*gone)(void *arg), void *arg)
{
	gate->gone = gone;
	gate->gone_arg = arg;
	if (gate->sessions == 0) {
		gate->gone = NULL;
		gone(arg);
	}
}

static void
free_nodes(struct map *map)
{
	struct map_node *node;

	while ((node = map_any(map)) != NULL) {
		map_remove(map, node);
		free(node);		/* stands first in both structures */
	}
	map_free(map);
}

void
gate_free(struct gate *gate)
{
	free_nodes(&gate->clients);
	free_nodes(&gate->users);
	if (gate->spare_fd >= 0)
		close(gate->spare_fd);
	for (unsigned i = 0; i < gate->reactor_count; i++)
		login_free(gate->reactors[i].login);
	checker_free(gate->checker);
	throttle_free(gate->throttle);
	quota_free(gate->quota);
	free(gate->local_path);
	free(gate->per_reactor);
	free(gate);
}
