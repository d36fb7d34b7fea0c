/*
 * server_verbs: the commands. One table says in which states each verb is legal; what is out of
 * order is refused by order_text() and nowhere else. To add a verb: command.c for its grammar, then
 * the table here.
 */
#include "mta/smtp/server_private.h"

#include <assert.h>

enum {
	FRESH = 1 << SERVER_FRESH,
	IDLE = 1 << SERVER_IDLE,
	MAIL = 1 << SERVER_MAIL,
	RCPT = 1 << SERVER_RCPT,
	BDAT_NEXT = 1 << SERVER_BDAT_NEXT,
	BDAT_FAILED = 1 << SERVER_BDAT_FAILED,
	ANY = FRESH | IDLE | MAIL | RCPT | BDAT_NEXT | BDAT_FAILED,

	/* × max_recipients: refusals in one transaction before they are errors */
	REFUSED_FACTOR = 100,
};

/* Not a stranger's. */
static bool
wishes_are_heard(const struct smtp_server *server)
{
	return server->privileged || server->authenticated;
}

static void
list_wishes(struct smtp_server *server)
{
	const struct smtp_server_config *config = server->config;
	char text[WISH_TIME_MAX];

	if (!wishes_are_heard(server))
		return;
	if (config->offer_priority)
		buf_append(&server->out, SPAN("250-MT-PRIORITY\r\n"));
	if (config->hold_max_ms >= 1000)
		buf_printf(&server->out, "250-FUTURERELEASE %lld %s\r\n",
			   (long long)config->hold_max_ms / 1000,
			   wish_time_text(server->now_ms + config->hold_max_ms, text));
	if (config->by_min_ms > 0)
		buf_printf(&server->out, "250-DELIVERBY %lld\r\n",
			   (long long)(config->by_min_ms + 999) / 1000);
}

static void
run_helo(struct smtp_server *server, const struct smtp_command *command)
{
	struct smtp_server_private *p = server->p;
	const struct smtp_server_config *config = server->config;
	struct buf *out = &server->out;

	buf_clear(&p->helo);
	buf_append(&p->helo, command->argument);
	server->helo_name = buf_span(&p->helo);
	server->helo = command->verb == VERB_EHLO ? HELO_EHLO : HELO_HELO;
	server_reset(server);
	if (server->helo == HELO_HELO) {
		buf_printf(out, "250 %.*s\r\n", SPAN_FMT(config->hostname));
		return;
	}
	buf_printf(out, "250-%.*s\r\n250-PIPELINING\r\n", SPAN_FMT(config->hostname));
	buf_printf(out, "250-SIZE %llu\r\n", (unsigned long long)config->max_message_size);
	if (config->offer_starttls && !server->tls)
		buf_append(out, SPAN("250-STARTTLS\r\n"));
	if (server->auth_offer.len > 0)
		buf_printf(out, "250-AUTH %.*s\r\n", SPAN_FMT(server->auth_offer));
	buf_append(out, SPAN("250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-CHUNKING\r\n"));
	if (config->offer_binarymime)
		buf_append(out, SPAN("250-BINARYMIME\r\n"));
	buf_append(out, SPAN("250-DSN\r\n250-SMTPUTF8\r\n"));
	if (server->tls)
		buf_append(out, SPAN("250-REQUIRETLS\r\n"));
	list_wishes(server);
	buf_printf(out, "250-LIMITS RCPTMAX=%zu", config->max_recipients);
	if (config->max_messages != 0)
		buf_printf(out, " MAILMAX=%zu", config->max_messages);
	buf_append(out, SPAN("\r\n250 HELP\r\n"));
}

unsigned
smtp_server_judge_wishes(const struct smtp_server_config *config, int max_priority, int64_t now_ms,
			 struct mail_wishes *w)
{
	int64_t hold_ms = (int64_t)w->hold_for_s * 1000;

	if (w->hold_until_ms != 0)
		hold_ms = w->hold_until_ms - now_ms;
	if (hold_ms > config->hold_max_ms)
		return TEXT_HOLD_TOO_LONG;
	if (w->by_mode != BY_NONE && hold_ms > 0 && w->by_s * 1000 <= hold_ms)
		return TEXT_HOLD_BEYOND_BY;
	if (w->by_mode == BY_RETURN && w->by_s * 1000 < config->by_min_ms)
		return TEXT_BY_TOO_SOON;
	if (w->priority > max_priority)
		w->priority = (int8_t)max_priority;
	return TEXT_COUNT;
}

static void
run_mail(struct smtp_server *server, const struct smtp_command *command)
{
	struct arena *arena = &server->arena;
	unsigned wrong;

	if (server->config->max_messages != 0 && server->messages >= server->config->max_messages) {
		server_end_text(server, TEXT_TOO_MANY_MESSAGES);
		return;
	}
	if (command->size > server->config->max_message_size) {
		server_say_text(server, TEXT_TOO_LARGE);
		return;
	}
	server->wishes = command->wishes;
	wrong = smtp_server_judge_wishes(server->config, server->max_priority, server->now_ms,
					 &server->wishes);
	server->p->lowered = server->wishes.priority < command->wishes.priority;
	if (wrong != TEXT_COUNT) {
		server_say_text(server, (enum smtp_text)wrong);
		return;
	}
	server->envelope = (struct envelope){
		.reverse_path = address_text(&command->path, arena),
		.envid = arena_copy(arena, command->envid),
		.ret = command->ret,
		.body = command->body,
		.smtputf8 = command->smtputf8,
		.requiretls = command->requiretls,
	};
	server->declared_size = command->size;
	server_ask(server, SMTP_QUESTION_MAIL);
}

/*
 * A refused recipient is an error only while none has been accepted: a list with many dead
 * addresses must get through, or it would be cut off anew at each try.
 */
void
server_refuse_recipient(struct smtp_server *server, const struct reply *reply)
{
	size_t errors = server->errors;

	server->recipients_refused++;
	server->p->refused++;
	server_say(server, reply);
	if (server->p->refused / REFUSED_FACTOR > server->config->max_recipients)
		server->errors = errors + 1;
	else if (server->envelope.recipient_count > 0)
		server->errors = errors;
}

static void
run_rcpt(struct smtp_server *server, const struct smtp_command *command)
{
	if (server->envelope.recipient_count >= server->config->max_recipients) {
		server_refuse_recipient(server, &smtp_texts[TEXT_TOO_MANY_RECIPIENTS]);
		return;
	}
	/* in the scratch arena, so that refused ones do not pile up: answered 2xx it is copied */
	server->asked = (struct recipient){
		.address = address_text(&command->path, &server->p->scratch),
		.orcpt = command->orcpt,
		.notify = command->notify,
	};
	server_ask(server, SMTP_QUESTION_RCPT);
}

static void
run_data(struct smtp_server *server, const struct smtp_command *command)
{
	(void)command;
	if (server->envelope.body == BODY_BINARYMIME)
		server_say_text(server, TEXT_BDAT_FOR_BINARY);
	else
		server_ask(server, SMTP_QUESTION_DATA);
}

static void
run_rset(struct smtp_server *server, const struct smtp_command *command)
{
	(void)command;
	server_reset(server);
	server_say_text(server, TEXT_RSET_OK);
}

static void
run_noop(struct smtp_server *server, const struct smtp_command *command)
{
	(void)command;
	server_say_text(server, TEXT_NOOP_OK);
}

static void
run_vrfy(struct smtp_server *server, const struct smtp_command *command)
{
	(void)command;
	server_say_text(server, TEXT_VRFY);
}

static void
run_help(struct smtp_server *server, const struct smtp_command *command)
{
	(void)command;
	server_say_text(server, TEXT_HELP);
}

static void
run_quit(struct smtp_server *server, const struct smtp_command *command)
{
	struct reply bye = smtp_texts[TEXT_BYE];

	(void)command;
	bye.text = arena_printf(&server->p->scratch, "%.*s %.*s",
				SPAN_FMT(server->config->hostname), SPAN_FMT(bye.text));
	server_end(server, &bye);
}

static void
run_starttls(struct smtp_server *server, const struct smtp_command *command)
{
	(void)command;
	server_say_text(server, TEXT_TLS_READY);
	server->p->tls_due = true;
}

static void
run_auth(struct smtp_server *server, const struct smtp_command *command)
{
	server_ask_auth(server, SMTP_QUESTION_AUTH, command->argument);
}

static const struct {
	unsigned legal;			/* states, as bits */
	bool junk;			/* moves no mail: counted between messages */
	void (*run)(struct smtp_server *server, const struct smtp_command *command);
	bool private;			/* not without TLS, where that is required */
} verbs[VERB_COUNT] = {
	[VERB_UNKNOWN] = { ANY, false, NULL, false },
	[VERB_HELO] = { ANY, true, run_helo, false },
	[VERB_EHLO] = { ANY, true, run_helo, false },
	[VERB_MAIL] = { IDLE, false, run_mail, true },
	[VERB_RCPT] = { MAIL | RCPT, false, run_rcpt, true },
	[VERB_DATA] = { RCPT, false, run_data, true },
	[VERB_BDAT] = { RCPT | BDAT_NEXT, false, server_begin_chunk, true },
	[VERB_RSET] = { ANY, true, run_rset, false },
	[VERB_NOOP] = { ANY, true, run_noop, false },
	[VERB_VRFY] = { ANY, true, run_vrfy, true },
	[VERB_EXPN] = { ANY, true, NULL, false },
	[VERB_HELP] = { ANY, true, run_help, false },
	[VERB_QUIT] = { ANY, false, run_quit, false },
	[VERB_STARTTLS] = { IDLE, false, run_starttls, false },
	[VERB_AUTH] = { IDLE, false, run_auth, false },
};

/* What is wrong with this verb now; TEXT_COUNT: nothing. */
static enum smtp_text
order_text(const struct smtp_server *server, enum smtp_verb verb)
{
	if (verb == VERB_STARTTLS && !server->config->offer_starttls)
		return TEXT_NOT_IMPLEMENTED;
	if (verb == VERB_STARTTLS && server->tls)
		return TEXT_TLS_ACTIVE;
	if (verbs[verb].private && server->config->require_tls && !server->tls)
		return TEXT_TLS_REQUIRED;
	if (verb == VERB_AUTH && server->auth_offer.len == 0)
		return server->config->auth_needs_tls && !server->tls ? TEXT_AUTH_NEEDS_TLS :
									TEXT_NOT_IMPLEMENTED;
	if (verb == VERB_AUTH && server->authenticated)
		return TEXT_AUTH_DONE;
	if (verb == VERB_AUTH && server->helo != HELO_EHLO && server->state == SERVER_IDLE)
		return TEXT_AUTH_ORDER;
	if ((verbs[verb].legal & 1U << server->state) != 0)
		return verb == VERB_MAIL && server->config->require_auth && !server->authenticated ?
		       TEXT_AUTH_REQUIRED : TEXT_COUNT;
	if (verb == VERB_AUTH)
		return TEXT_AUTH_ORDER;
	if (verb == VERB_STARTTLS)
		return TEXT_TLS_ORDER;
	switch (server->state) {
	case SERVER_FRESH:
		return TEXT_HELO_FIRST;
	case SERVER_IDLE:
		return TEXT_MAIL_FIRST;
	case SERVER_MAIL:
	case SERVER_RCPT:
		return verb == VERB_MAIL ? TEXT_MAIL_OPEN : TEXT_NO_RECIPIENTS;
	case SERVER_BDAT_NEXT:
		return TEXT_BDAT_OPEN;
	default:
		assert(server->state == SERVER_BDAT_FAILED);
		return TEXT_BDAT_FAILED;
	}
}

/* A web page that makes a browser or a proxy speak to us can put whole commands into the body. */
bool
server_is_http(struct span line)
{
	static const char *const methods[] = {
		"GET",	   "POST",    "PUT",   "HEAD",	"DELETE",
		"OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI",
	};
	struct span word = span_cut(&line, ' ');

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (span_ieq(word, span_str(methods[i])))
			return true;
	return false;
}

/* The chunk behind a refused BDAT must be swallowed; how much that is must be known. */
static void
refuse(struct smtp_server *server, const struct smtp_command *command, bool parsed,
       const struct reply *reply)
{
	if (command->verb != VERB_BDAT) {
		server_say(server, reply);
	} else if (!parsed) {
		server_end_text(server, TEXT_BDAT_SYNTAX);
	} else {
		server->p->chunk_left = command->size;
		server->p->chunk_last = command->last;
		server_refuse_chunk(server, reply);
	}
}

void
server_command(struct smtp_server *server, struct span line)
{
	const struct smtp_server_config *config = server->config;
	struct smtp_command_limits limits = {
		.strict_addresses = config->strict_addresses,
		.local_submission = config->local_submission,
		.offer_binarymime = config->offer_binarymime,
		.extended = server->helo == HELO_EHLO,
		.auth = server->auth_offer.len > 0 || server->authenticated,
		.smtputf8 = server->envelope.smtputf8,
		.tls = server->tls,
		.priority = wishes_are_heard(server) && config->offer_priority,
		.hold = wishes_are_heard(server) && config->hold_max_ms >= 1000,
		.by = wishes_are_heard(server) && config->by_min_ms > 0,
	};
	struct smtp_command command;
	struct reply error;
	enum smtp_text order;
	bool parsed;

	server->commands++;
	arena_free(&server->p->scratch);
	parsed = smtp_command_parse(line, &limits, &server->p->scratch, &command, &error);
	if (command.verb == VERB_UNKNOWN && server_is_http(line)) {
		server_end_text(server, TEXT_NOT_SMTP);
		return;
	}
	if (server->errors >= config->max_errors && config->max_errors != 0 &&
	    command.verb != VERB_QUIT) {
		server_end_text(server, TEXT_TOO_MANY_ERRORS);
		return;
	}
	if (verbs[command.verb].junk && ++server->junk > config->max_junk)
		server->errors++;
	order = order_text(server, command.verb);
	if (order != TEXT_COUNT)
		refuse(server, &command, parsed, &smtp_texts[order]);
	else if (!parsed)
		refuse(server, &command, parsed, &error);
	else
		verbs[command.verb].run(server, &command);
}
