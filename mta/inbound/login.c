/*
 * login: see login.h. An exchange goes from question to question (login_go): what it asks of a
 * backend comes back through one of the callbacks, on the same loop, never inside the call. Before
 * the first of them home is asked whether this user may try at all from there; a wrong password
 * goes home for its verdict, so that guesses are counted over all sessions, and waits for its
 * delay.
 */
#include "mta/inbound/login.h"

#include <assert.h>
#include <stdlib.h>

#include "mta/auth/dovecot.h"
#include "mta/base/log.h"
#include "mta/inbound/gate.h"
#include "mta/inbound/receiver_private.h"
#include "mta/inbound/verdict.h"

struct login {
	struct reactor *reactor;
	struct checker_port port;
	struct dovecot *dovecot;	/* NULL: no configuration has named one yet */
	char *path;			/* of its socket */
	int64_t timeout_ms;
};

struct exchange {
	struct session *session;
	struct sasl_config config;	/* the listener's, less what the backend cannot do */
	struct sasl sasl;
	uint8_t binding[32];
	struct buf external;		/* the certificate's identity */
	struct check check;
	struct buf spelling;		/* of the user in the file */
	struct dovecot_request request;
	uint64_t guess;
	bool suspended;			/* the session waits for session_answered() */
	bool asked_home;		/* may it try? */
	enum sasl_action pending;	/* what was to be asked then */
	enum check_rank rank;
	uv_timer_t *delay;
	struct reply reply;		/* said after the delay */
};

enum stage { LOGIN_BEGINS, LOGIN_FAILED, LOGIN_SUCCEEDED };

/* What home is asked or told of a login, on its way and back. It has copies: the session may go. */
struct outcome {
	struct letter letter;
	struct session *session;	/* counted in session->outcomes */
	struct netaddr client;
	struct buf user;
	uint64_t guess;
	enum stage stage;
	struct throttle_verdict verdict;
};

/* ---- of a reactor ------------------------------------------------------------------------- */

/* The one that from names; another takes the place of the one that was. */
static struct dovecot *
dovecot_from(struct login *login, const struct config *from)
{
	struct dovecot_config config = {
		.path = span_str(from->auth_socket),
		.timeout_ms = from->limits.auth_timeout_ms,
	};

	if (login->dovecot != NULL && strcmp(login->path, from->auth_socket) == 0 &&
	    login->timeout_ms == config.timeout_ms)
		return login->dovecot;
	if (login->dovecot != NULL)
		dovecot_retire(login->dovecot);
	free(login->path);
	login->path = strdup(from->auth_socket);
	login->timeout_ms = config.timeout_ms;
	login->dovecot = dovecot_new(&login->reactor->loop, &login->reactor->scratch, &config);
	return login->dovecot;
}

/* Dovecot is asked for its mechanisms at once: who comes first is to see all of them. */
int
login_open(struct reactor *reactor, struct checker *checker)
{
	struct login *login = xcalloc(1, sizeof(*login));
	int rc;

	login->reactor = reactor;
	reactor->login = login;
	rc = checker_port_init(&login->port, checker, &reactor->loop);
	if (rc == 0 && reactor->config->auth_socket != NULL)
		dovecot_from(login, reactor->config);
	return rc;
}

void
login_close(struct login *login)
{
	if (login == NULL)
		return;
	checker_port_close(&login->port);
	if (login->dovecot != NULL)
		dovecot_close(login->dovecot);
	login->dovecot = NULL;
}

void
login_free(struct login *login)
{
	if (login == NULL)
		return;
	free(login->path);
	free(login);
}

/*
 * As the newest configuration wants it, also for sessions that began under an older one: or they
 * would take the connection from each other, and what the others have asked would be lost.
 */
static struct dovecot *
dovecot_of(struct session *s)
{
	const struct config *newest = s->reactor->config;

	return dovecot_from(s->reactor->login, newest->auth_socket != NULL ? newest : s->config);
}

/* ---- what is offered ---------------------------------------------------------------------- */

/* EXTERNAL and channel binding need what the handshake has shown. */
static struct sasl_facts
facts_of(struct session *s, uint8_t binding[32], struct buf *external)
{
	struct sasl_facts facts = { .tls = s->server.tls };

	if (s->stream.tls == NULL || !s->server.tls)
		return facts;
	if (tls_channel_binding(s->stream.tls, binding))
		facts.binding = span_of(binding, 32);
	if (tls_client_identity(s->stream.tls, external))
		facts.external = buf_span(external);
	return facts;
}

static struct sasl_config
config_of(struct session *s)
{
	struct sasl_config config = s->settings->sasl;
	struct dovecot *dovecot;

	if (s->config->auth_socket == NULL)
		return config;
	dovecot = dovecot_of(s);
	if (dovecot_mechanisms(dovecot) != 0)
		config.offered &= dovecot_mechanisms(dovecot) | 1u << SASL_EXTERNAL;
	else
		config.offered &= 1u << SASL_PLAIN | 1u << SASL_LOGIN | 1u << SASL_EXTERNAL;
	return config;
}

void
login_offer(struct session *s)
{
	uint8_t binding[32];
	struct buf external = { 0 };
	struct sasl_facts facts;
	struct sasl_config config;

	buf_clear(&s->auth_offer);
	s->server.auth_offer = SPAN("");
	if (s->settings == NULL || s->settings->auth == LISTENER_AUTH_OFF ||
	    (!s->server.tls && !s->settings->auth_without_tls))
		return;
	facts = facts_of(s, binding, &external);
	config = config_of(s);
	sasl_names(sasl_offered(&config, &facts), &s->auth_offer);
	s->server.auth_offer = buf_span(&s->auth_offer);
	buf_free(&external);
}

/* ---- an exchange -------------------------------------------------------------------------- */

static void login_go(struct exchange *e, enum sasl_action action);

static void
on_delay_closed(uv_handle_t *handle)
{
	free(handle);
}

static void
exchange_free(struct exchange *e)
{
	e->session->exchange = NULL;
	check_cancel(&e->check);
	dovecot_cancel(&e->request);
	if (e->delay != NULL)
		uv_close((uv_handle_t *)e->delay, on_delay_closed);
	sasl_free(&e->sasl);
	buf_free(&e->external);
	buf_free(&e->spelling);
	free(e);
}

void
login_drop(struct session *s)
{
	if (s->exchange != NULL)
		exchange_free(s->exchange);
	buf_free(&s->auth_offer);
	s->server.auth_offer = SPAN("");
}

static void
suspend(struct exchange *e)
{
	e->suspended = e->session->waiting = true;
	stream_deadline(&e->session->stream, -1);	/* backends have their own */
}

static void
say(struct exchange *e, const struct reply *reply)
{
	struct session *s = e->session;
	bool suspended = e->suspended;

	e->suspended = false;
	if (!suspended) {
		smtp_server_answer(&s->server, reply);
		return;
	}
	s->waiting = false;
	session_answered(s, reply);
}

/* The last word: the exchange goes before it is said, for that may end the session. */
static void
say_last(struct exchange *e, const struct reply *reply)
{
	struct session *s = e->session;
	struct buf text = { 0 };
	struct reply last = *reply;
	bool suspended = e->suspended;

	buf_append(&text, reply->text);
	last.text = buf_span(&text);
	exchange_free(e);
	if (!suspended) {
		smtp_server_answer(&s->server, &last);
	} else {
		s->waiting = false;
		session_answered(s, &last);
	}
	buf_free(&text);
}

static void
login_log(const struct exchange *e, const char *result, const struct throttle_verdict *verdict)
{
	const struct session *s = e->session;
	struct log_line l;

	if (!log_begin(&l, verdict != NULL && verdict->ban_begins ? LOG_WARNING : LOG_INFO, "auth"))
		return;
	log_u64(&l, "session", s->number);
	log_addr(&l, "client", &s->client.peer);
	log_span(&l, "user", e->sasl.user);
	log_span(&l, "mechanism", sasl_name(e->sasl.mechanism));
	log_str(&l, "result", result);
	if (e->sasl.why != NULL)
		log_str(&l, "why", e->sasl.why);
	if (verdict != NULL) {
		log_u64(&l, "failures", verdict->address_failures);
		log_u64(&l, "user-failures", verdict->user_failures);
		log_i64(&l, "delay", verdict->delay_ms);
		if (verdict->ban_begins)
			log_str(&l, "ban", "begins");
	}
	log_end(&l);
}

/* ---- home and back ------------------------------------------------------------------------ */

static void
outcome_free(struct outcome *o)
{
	buf_free(&o->user);
	free(o);
}

static void
on_delay(uv_timer_t *timer)
{
	struct exchange *e = timer->data;

	say_last(e, &e->reply);
}

/*
 * Its verdict is here: it goes on; or what was wrong is said after the delay, or was the last that
 * we hear.
 */
static void
on_verdict(struct outcome *o)
{
	struct session *s = o->session;
	struct exchange *e = s->exchange;
	struct throttle_verdict verdict = o->verdict;
	enum stage stage = o->stage;

	outcome_free(o);
	s->outcomes--;
	if (session_gone(s) || e == NULL || s->stream.closing)
		return;
	if (stage == LOGIN_BEGINS && verdict.banned_until_ms == 0) {
		e->rank = verdict.friendly ? CHECK_FRIEND :
			  verdict.suspect  ? CHECK_SUSPECT :
					     CHECK_UNKNOWN;
		login_go(e, e->pending);
		return;
	}
	login_log(e, stage == LOGIN_BEGINS ? "banned" : "failed", &verdict);
	if (verdict.banned_until_ms > 0)
		e->reply = REPLY(421, 4, 7, 0, "too many failed logins, try again later");
	else
		e->reply = e->sasl.reply;
	e->delay = xcalloc(1, sizeof(*e->delay));
	e->delay->data = e;
	uv_timer_init(&s->reactor->loop, e->delay);
	uv_timer_start(e->delay, on_delay, stage == LOGIN_BEGINS ? 0 : (uint64_t)verdict.delay_ms,
		       0);
}

static void
on_outcome_back(struct letter *letter)
{
	struct outcome *o = CONTAINER_OF(letter, struct outcome, letter);

	if (o->stage != LOGIN_SUCCEEDED) {
		on_verdict(o);
		return;
	}
	o->session->outcomes--;
	session_gone(o->session);
	outcome_free(o);
}

/* On the home loop. The session is there still: it waits for its outcomes. */
static void
on_outcome_home(struct letter *letter)
{
	struct outcome *o = CONTAINER_OF(letter, struct outcome, letter);
	struct reactor *r = o->session->reactor;

	if (o->stage == LOGIN_SUCCEEDED)
		gate_login_succeeded(r->gate, &o->client, buf_span(&o->user));
	else if (o->stage == LOGIN_BEGINS)
		o->verdict = gate_login_begins(r->gate, &o->client, buf_span(&o->user));
	else
		o->verdict = gate_login_failed(r->gate, &o->client, buf_span(&o->user), o->guess);
	o->letter.open = on_outcome_back;
	post_send(r->home, r->post, &o->letter);
}

static void
send_home(struct exchange *e, enum stage stage)
{
	struct session *s = e->session;
	struct outcome *o = xcalloc(1, sizeof(*o));

	o->client = s->client.peer;
	buf_append(&o->user, e->sasl.user);
	o->guess = e->guess;
	o->stage = stage;
	o->session = s;
	s->outcomes++;
	o->letter.open = on_outcome_home;
	post_send(s->reactor->post, s->reactor->home, &o->letter);
}

/* ---- the backends ------------------------------------------------------------------------- */

static void
on_checked(struct check *check, bool right)
{
	struct exchange *e = CONTAINER_OF(check, struct exchange, check);

	login_go(e, sasl_answer(&e->sasl, right ? SASL_OK : SASL_REFUSED, buf_span(&e->spelling),
				right ? NULL : "wrong password or no such user"));
}

static void
on_challenge(struct dovecot_request *request, struct span data)
{
	struct exchange *e = CONTAINER_OF(request, struct exchange, request);

	login_go(e, sasl_answer_relay(&e->sasl, data));
}

static void
on_dovecot(struct dovecot_request *request, const struct dovecot_result *result)
{
	struct exchange *e = CONTAINER_OF(request, struct exchange, request);

	login_go(e, sasl_answer(&e->sasl, result->verdict, result->user, result->why));
}

static struct dovecot_facts
dovecot_facts_of(const struct session *s)
{
	return (struct dovecot_facts){
		.client = &s->client.peer,
		.local = s->client.server.family != 0 ? &s->client.server : NULL,
		.tls = s->server.tls,
	};
}

static void
ask_dovecot(struct exchange *e, enum sasl_action action)
{
	struct dovecot *dovecot = dovecot_of(e->session);
	struct dovecot_facts facts = dovecot_facts_of(e->session);

	e->request.challenge = on_challenge;
	e->request.done = on_dovecot;
	if (action == SASL_VERIFY_PASSWORD)
		dovecot_start_password(dovecot, &e->request, &facts, e->sasl.authzid, e->sasl.user,
				       e->sasl.password);
	else if (e->request.dovecot != NULL)
		dovecot_continue(&e->request, e->sasl.message);
	else
		dovecot_start(dovecot, &e->request, e->sasl.mechanism, &facts, &e->sasl.message);
}

static bool
ask_file(struct exchange *e)
{
	struct session *s = e->session;
	struct password_hash hash;
	struct span spelling;

	passwords_hash_of(s->config->passwords, e->sasl.user, &hash, &spelling);
	buf_clear(&e->spelling);
	buf_append(&e->spelling, spelling);
	e->check.done = on_checked;
	return checker_submit(&s->reactor->login->port, &e->check, e->rank,
			      netaddr_limit_key(&s->client.peer), &hash, e->sasl.password) == 0;
}

/* Not of who has proved by a certificate who it is. */
static bool
ask_home(struct exchange *e, enum sasl_action action)
{
	if (e->asked_home || action == SASL_ADMIT)
		return false;
	e->asked_home = true;
	e->pending = action;
	suspend(e);
	send_home(e, LOGIN_BEGINS);
	return true;
}

/* Something must be asked. Returns the next action if that is known at once, else suspends. */
static bool
ask_backend(struct exchange *e, enum sasl_action *action)
{
	const struct passwords *passwords = e->session->config->passwords;
	const struct scram_verifier *verifier;
	struct span spelling = { 0 };
	bool asked;

	if (*action == SASL_VERIFY_PASSWORD || *action == SASL_VERIFY_TOKEN)
		e->guess = throttle_guess(gate_guess_seed(e->session->reactor->gate), e->sasl.user,
					  *action == SASL_VERIFY_TOKEN ? e->sasl.token
								       : e->sasl.password);
	if (*action == SASL_FETCH_SCRAM) {
		verifier = passwords_scram(passwords, e->sasl.user, &spelling);
		*action = sasl_answer_scram(&e->sasl, verifier, spelling);
		return true;
	}
	if (*action == SASL_ADMIT) {
		bool ours = passwords == NULL || passwords_find(passwords, e->sasl.user, &spelling);

		*action = sasl_answer(&e->sasl, ours ? SASL_OK : SASL_REFUSED, spelling,
				      ours ? NULL : "no such user");
		return true;
	}
	asked = passwords != NULL ? *action == SASL_VERIFY_PASSWORD && ask_file(e) :
				    e->session->config->auth_socket != NULL;
	if (passwords == NULL && asked)
		ask_dovecot(e, *action);
	if (asked)
		suspend(e);
	else
		*action = sasl_answer(&e->sasl, SASL_TEMPORARY, SPAN(""),
				      "too much waits, or no backend");
	return !asked;
}

/* ---- from question to question ------------------------------------------------------------ */

static void
login_succeeds(struct exchange *e)
{
	struct session *s = e->session;

	buf_clear(&s->user);
	buf_append(&s->user, e->sasl.user);
	s->client.authenticated = true;
	s->server.max_priority =
		verdict_max_priority(s->config, s->server.config, buf_span(&s->user));
	login_log(e, "ok", NULL);
	send_home(e, LOGIN_SUCCEEDED);
	say_last(e, &e->sasl.reply);
}

static void
login_fails(struct exchange *e)
{
	if (e->sasl.failure == SASL_BAD_CREDENTIALS) {
		if (!e->suspended)
			suspend(e);
		send_home(e, LOGIN_FAILED);	/* on_verdict goes on */
		return;
	}
	login_log(e, e->sasl.failure == SASL_BACKEND_FAILED ? "temporary" : "failed", NULL);
	say_last(e, &e->sasl.reply);
}

static void
login_go(struct exchange *e, enum sasl_action action)
{
	struct reply challenge = { .code = 334 };

	for (;;) {
		switch (action) {
		case SASL_CHALLENGE:
			challenge.text = buf_span(&e->sasl.challenge);
			say(e, &challenge);
			return;
		case SASL_SUCCESS:
			login_succeeds(e);
			return;
		case SASL_FAIL:
			login_fails(e);
			return;
		default:
			if (ask_home(e, action) || !ask_backend(e, &action))
				return;
		}
	}
}

void
login_ask(struct session *s, enum smtp_question question)
{
	struct exchange *e = s->exchange;
	struct sasl_facts facts;

	if (question == SMTP_QUESTION_AUTH_LINE) {
		assert(e != NULL);
		login_go(e, sasl_line(&e->sasl, s->server.auth_text));
		return;
	}
	if (e != NULL)
		exchange_free(e);		/* its line was too long: it never ended */
	e = s->exchange = xcalloc(1, sizeof(*e));
	e->session = s;
	e->config = config_of(s);
	facts = facts_of(s, e->binding, &e->external);
	sasl_init(&e->sasl, &e->config, &facts);
	login_go(e, sasl_start(&e->sasl, s->server.auth_text));
}
