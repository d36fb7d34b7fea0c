/*
 * server_facts: what the control socket shows of the daemon as a whole: its sessions, gathered from
 * all reactors, and its counters. Home loop.
 */
#include "mta/server_private.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/inbound/gate.h"
#include "mta/reactor/returns.h"
#include "mta/server_sandbox.h"

struct sessions_letter {
	struct letter letter;
	struct reactor *reactor;
	struct server *server;
	struct control_sessions *request;
	json_t *part;
};

static const char *
waiting_for(const struct session *s)
{
	if (s->accepting)
		return "commit";
	if (s->stream.tls != NULL && tls_state(s->stream.tls) == TLS_SHAKING)
		return "tls handshake";
	return smtp_server_waiting_for(&s->server);
}

static json_t *
session_json(const struct session *s)
{
	char text[NETADDR_TEXT_MAX];
	json_t *helo = json_stringn(s->server.helo_name.at ? s->server.helo_name.at : "",
				    s->server.helo_name.len);

	return json_pack("{s:I,s:s%,s:s,s:o,s:s,s:I,s:I,s:I,s:i}", "session", (json_int_t)s->number,
			 "listener", s->listener.at, s->listener.len, "client",
			 s->client.local ? "local" : netaddr_format_port(&s->client.peer, text),
			 "helo", helo ? helo : json_string("?"), "waiting_for",
			 waiting_for(s), "messages",
			 (json_int_t)s->accepted, "errors", (json_int_t)s->server.errors, "age_ms",
			 (json_int_t)(mono_ms() - s->began_ms), "thread", (int)s->reactor->index);
}

static void
on_sessions_home(struct letter *letter)
{
	struct sessions_letter *l = CONTAINER_OF(letter, struct sessions_letter, letter);
	struct control_sessions *request = l->request;

	json_array_extend(request->array, l->part);
	json_decref(l->part);
	free(l);
	if (--request->pending == 0)
		request->done(request, request->array);
}

static void
on_sessions_asked(struct letter *letter)
{
	struct sessions_letter *l = CONTAINER_OF(letter, struct sessions_letter, letter);

	l->part = json_array();
	LIST_EACH(struct session, s, &l->reactor->sessions, node)
		json_array_append_new(l->part, session_json(s));
	l->letter.open = on_sessions_home;
	post_send(l->reactor->post, l->reactor->home, &l->letter);
}

void
server_sessions(void *arg, struct control_sessions *request)
{
	struct server *server = arg;

	request->array = json_array();
	request->pending = server->count;
	for (unsigned i = 0; i < server->count; i++) {
		struct sessions_letter *l = xcalloc(1, sizeof(*l));

		l->letter.open = on_sessions_asked;
		l->reactor = &server->reactors[i];
		l->request = request;
		post_send(home_of(server)->post, server->reactors[i].post, &l->letter);
	}
}

/* Until when: on the clock that people read. */
static void
add_ban(void *arg, const struct netaddr *address, int64_t until_ms)
{
	char text[NETADDR_TEXT_MAX];
	json_int_t until = until_ms - mono_ms() + wall_ms();

	json_array_append_new(arg, json_pack("{s:s,s:I}", "address", netaddr_format(address, text),
					     "until_ms", until));
}

void
server_bans(void *arg, json_t *array)
{
	throttle_banned(gate_throttle(home_of(arg)->gate), mono_ms(), add_ban, array);
}

bool
server_pardon(void *arg, const struct netaddr *address)
{
	return throttle_pardon(gate_throttle(home_of(arg)->gate), address);
}

static void
count_ban(void *arg, const struct netaddr *address, int64_t until_ms)
{
	size_t *count = arg;

	(void)address;
	(void)until_ms;
	++*count;
}

static size_t
bans(struct gate *gate)
{
	size_t count = 0;

	throttle_banned(gate_throttle(gate), mono_ms(), count_ban, &count);
	return count;
}

static uint64_t
accepted(struct server *server)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < server->count; i++)
		n += atomic_load_explicit(&server->reactors[i].accepted, memory_order_relaxed);
	return n;
}

/* Memory of our own, without the store's map; 0: not known. */
static uint64_t
memory_octets(void)
{
	uint64_t pages[3] = { 0 };	/* size, resident, shared: proc(5) */
	FILE *file = fopen("/proc/self/statm", "re");
	char line[128] = "", *at = line;

	if (file == NULL)
		return 0;
	if (fgets(line, sizeof(line), file) != NULL)
		for (int i = 0; i < 3; i++)
			pages[i] = strtoull(at, &at, 10);
	fclose(file);
	return (pages[1] - pages[2]) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static json_t *
classes_json(const uint32_t counts[REPLY_CLASSES])
{
	json_t *object = json_object();

	for (enum reply_class class = 0; class < REPLY_CLASSES; class++)
		if (counts[class] > 0)
			json_object_set_new(object, reply_class_name(class),
					    json_integer(counts[class]));
	return object;
}

/* What came back. */
static void
add_returns(const struct returns *returns, json_t *into)
{
	const struct returns_facts *facts = returns_facts(returns);
	json_t *tenants = json_object();

	for (enum returns_what what = 0; what < RETURNS_KINDS; what++) {
		char key[64];

		snprintf(key, sizeof(key), "returned_%s", returns_name(what));
		json_object_set_new(into, key, json_integer((json_int_t)facts->counts[what]));
	}
	json_object_set_new(into, "returns_kept", json_integer((json_int_t)facts->records));
	json_object_set_new(into, "returns_octets", json_integer((json_int_t)facts->octets));
	json_object_set_new(into, "returned_classes", classes_json(facts->classes));
	for (const struct returns_tenant *t = facts->tenants; t != NULL; t = t->next)
		json_object_setn_new(tenants, t->name.at, t->name.len, classes_json(t->classes));
	json_object_set_new(into, "returned_tenants", tenants);
}

void
server_stats(void *arg, json_t *into)
{
	struct server *server = arg;
	struct gate *gate = home_of(server)->gate;

	json_object_set_new(into, "accepted", json_integer((json_int_t)accepted(server)));
	json_object_set_new(into, "memory_octets", json_integer((json_int_t)memory_octets()));
	json_object_set_new(into, "failed_logins",
			    json_integer((json_int_t)gate_failed_logins(gate)));
	json_object_set_new(into, "banned", json_integer((json_int_t)bans(gate)));
	json_object_set_new(into, "login_octets",
			    json_integer((json_int_t)throttle_memory(gate_throttle(gate))));
	json_object_set_new(into, "sessions",
			    json_integer((json_int_t)gate_sessions(gate)));
	add_returns(home_of(server)->returns, into);
	json_object_set_new(into, "threads", json_integer(server->count));
	json_object_set_new(into, "sandbox", server_sandbox_json(&server->rights->sandbox));
	json_object_set_new(into, "log_lost", json_integer((json_int_t)log_lost()));
}
