/*
 * delivery_auth: logging in at a smarthost (RFC 4954). The secret is read from its file anew for
 * each connection, so that a token that somebody else refreshes is always the newest; that, and
 * what is slow to calculate, happens in the pool. Or it is a token that a command prints
 * (tokens.h): one that was known before and is refused is asked for once more. Whether the host is
 * who it should be has been settled by delivery_tls. Its reactor only, but for the pool's part.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "mta/auth/prep.h"
#include "mta/auth/sasl_client.h"
#include "mta/base/log.h"
#include "mta/delivery/delivery_private.h"

enum { SECRET_MAX = 65536 };

struct delivery_auth {
	uv_work_t work;
	struct delivery *delivery;	/* NULL: it has gone while the pool was at work */
	struct arena arena;
	char *path;			/* NULL: a command's token */
	const struct file_opener *opener;
	bool is_token, loaded;
	bool working;			/* in the pool, or a token has been asked for */
	bool asked_again;
	struct token_request request;
	struct buf secret;
	int result;			/* of reading it */
	uint8_t binding[32];
	struct sasl_client_config config;
	struct sasl_client client;
	bool begun;
};

static void go(struct delivery_auth *a, enum sasl_client_action action);

static void
auth_free(struct delivery_auth *a)
{
	if (a->begun)
		sasl_client_free(&a->client);
	if (a->secret.at != NULL)
		explicit_bzero(a->secret.at, a->secret.cap);
	buf_free(&a->secret);
	buf_wipe(&a->request.token);
	arena_free(&a->arena);
	free(a);
}

void
delivery_auth_drop(struct delivery *d)
{
	struct delivery_auth *a = d->auth;

	d->auth = NULL;
	if (a == NULL)
		return;
	a->delivery = NULL;
	if (!a->working)
		auth_free(a);
}

/* ---- in the pool -------------------------------------------------------------------------- */

/* The first line of the file: editors add a newline, and comments have no place here. */
static int
read_secret(struct delivery_auth *a)
{
	int fd = file_open_by(a->opener, a->path);
	ssize_t n;
	struct span line;

	if (fd < 0)
		return fd;
	n = read(fd, buf_reserve(&a->secret, SECRET_MAX), SECRET_MAX);
	if (n > 0)
		buf_grew(&a->secret, (size_t)n);
	close(fd);
	if (n < 0)
		return -errno;
	line = buf_span(&a->secret);
	line = span_cut(&line, '\n');
	if (line.len > 0 && line.at[line.len - 1] == '\r')
		line.len--;
	a->config.password = a->is_token ? SPAN("") : line;
	a->config.token = a->is_token ? line : SPAN("");
	return line.len > 0 ? 0 : -ENODATA;
}

static void
do_work(uv_work_t *work)
{
	struct delivery_auth *a = CONTAINER_OF(work, struct delivery_auth, work);

	if (!a->loaded)
		a->result = read_secret(a);
	else
		sasl_client_work(&a->client);
}

/* ---- on the loop -------------------------------------------------------------------------- */

static void
fail(struct delivery_auth *a, struct reply reply)
{
	struct delivery *d = a->delivery;

	reply.text = arena_copy(&d->arena, reply.text);
	delivery_auth_drop(d);
	smtp_client_auth_failed(&d->client, &reply);
}

static void
fail_ours(struct delivery_auth *a, const char *why, const char *what)
{
	struct reply reply = { 0, { 4, 7, 0 }, { 0 } };

	reply.text = arena_printf(&a->delivery->arena, "cannot log in: %s%s%s", why,
				  what[0] != '\0' ? ": " : "", what);
	fail(a, reply);
}

/* A report to the sender may tell the reply: what our files are called is for the log only. */
static void
fail_secret(struct delivery_auth *a)
{
	struct log_line l;

	if (log_begin(&l, LOG_WARNING, "secret-failed")) {
		log_span(&l, "route", a->delivery->route->name);
		log_str(&l, "file", a->path);
		log_str(&l, "why", a->result == -ENODATA ? "it is empty" : strerror(-a->result));
		log_end(&l);
	}
	fail_ours(a, a->is_token ? "its token cannot be read" : "its password cannot be read",
		  "see secret-failed in the log");
}

static void
begin(struct delivery_auth *a)
{
	struct delivery *d = a->delivery;
	enum sasl_mechanism mechanism;

	if (a->result < 0) {
		fail_secret(a);
		return;
	}
	if (!sasl_client_choose(&a->config, sasl_set_of(d->client.features.auth), &mechanism)) {
		fail_ours(a, "the host offers nothing that we may use",
			  arena_str(&a->arena, d->client.features.auth));
		return;
	}
	sasl_client_init(&a->client, &a->config, mechanism);
	a->begun = true;
	go(a, sasl_client_start(&a->client));
}

static void
on_worked(uv_work_t *work, int status)
{
	struct delivery_auth *a = CONTAINER_OF(work, struct delivery_auth, work);
	struct delivery *d = a->delivery;
	struct span none = { 0 };

	a->working = false;
	if (d == NULL) {
		auth_free(a);
		return;
	}
	if (status < 0)
		fail_ours(a, "no thread for it", uv_strerror(status));
	else if (!a->loaded) {
		a->loaded = true;
		begin(a);
	} else {
		go(a, sasl_client_worked(&a->client));
	}
	delivery_pump(d, &none);
}

/* ---- a token from a command --------------------------------------------------------------- */

static void
on_token(struct token_request *request)
{
	struct delivery_auth *a = CONTAINER_OF(request, struct delivery_auth, request);
	struct delivery *d = a->delivery;
	struct span none = { 0 };

	a->working = false;
	if (d == NULL) {
		auth_free(a);
		return;
	}
	a->config.token = buf_span(&request->token);
	if (a->config.token.len == 0)
		/*
		 * not why: a report to the sender may tell this, and what the program said is not
		 * for him
		 */
		fail_ours(a, "its token-command failed", "see token-failed in the log");
	else
		begin(a);
	delivery_pump(d, &none);
}

static void
ask_for_token(struct delivery_auth *a)
{
	struct delivery *d = a->delivery;

	a->working = true;
	buf_wipe(&a->request.token);
	a->request.tokens = d->tokens;
	a->request.from = d->reactor->post;
	a->request.home = d->reactor->home;
	a->request.done = on_token;
	a->request.route = d->route;
	a->request.limits = &d->config->limits;
	a->request.refused = a->request.number;
	tokens_ask(&a->request);
}

/* It may have been taken back before its time: the command is run once more, if nobody has yet. */
static bool
asks_again(struct delivery_auth *a)
{
	if (!a->client.token_refused || a->request.number == 0 || a->request.fresh ||
	    a->asked_again)
		return false;
	a->asked_again = true;
	sasl_client_free(&a->client);
	a->begun = false;
	ask_for_token(a);
	return true;
}

static void
start_work(struct delivery_auth *a)
{
	a->working = true;
	uv_queue_work(&a->delivery->reactor->loop, &a->work, do_work, on_worked);
}

/* Does what the exchange wants next. */
static void
go(struct delivery_auth *a, enum sasl_client_action action)
{
	struct delivery *d = a->delivery;

	switch (action) {
	case SASL_CLIENT_SEND:
		smtp_client_auth_line(&d->client, buf_span(&a->client.out));
		break;
	case SASL_CLIENT_WORK:
		start_work(a);
		break;
	case SASL_CLIENT_DONE:
		delivery_auth_drop(d);
		smtp_client_auth_done(&d->client);
		break;
	case SASL_CLIENT_FAILED:
		if (asks_again(a))
			break;
		if (a->client.why != NULL)
			fail_ours(a, a->client.why, "");
		else
			fail(a, a->client.reply);
		break;
	}
}

static struct delivery_auth *
auth_new(struct delivery *d)
{
	const struct route *route = d->route;
	struct delivery_auth *a = xcalloc(1, sizeof(*a));
	enum sasl_mechanism mechanism;

	a->delivery = d;
	a->is_token = route->password_file == NULL;
	a->opener = d->reactor->opener;
	if (route->token_command_count == 0)
		a->path = arena_str(&a->arena, span_str(a->is_token ? route->token_file :
								      route->password_file));
	a->config.user = arena_copy(&a->arena, route->user);
	a->config.host = arena_copy(&a->arena, d->host_name);
	a->config.port = d->to.port;
	for (size_t i = 0; i < route->mechanism_count; i++)
		if (sasl_find(route->mechanisms[i], &mechanism))
			a->config.allowed |= 1u << mechanism;
	if (route->mechanism_count == 0)
		a->config.allowed = (1u << SASL_MECHANISMS) - 1;
	if (d->stream.tls != NULL && tls_channel_binding(d->stream.tls, a->binding))
		a->config.binding = span_of(a->binding, sizeof(a->binding));
	return a;
}

void
delivery_auth(struct delivery *d)
{
	struct reply changed = { 0, { 4, 7, 0 }, SPAN("its route has changed") };

	if (d->route == NULL) {
		smtp_client_auth_failed(&d->client, &changed);
	} else if (d->client.auth_reply.code == 0) {
		delivery_auth_drop(d);
		d->auth = auth_new(d);
		if (d->route->token_command_count > 0)
			ask_for_token(d->auth);
		else
			start_work(d->auth);
	} else {
		go(d->auth, sasl_client_reply(&d->auth->client, &d->client.auth_reply));
	}
}
