/*
 * sendmail: main: who calls, where the daemon is, and the one thing that is wanted. See
 * sendmail.h.
 */
#include "mta/sendmail/sendmail.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sysexits.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/config/config.h"

enum { HOST_MAX = 256 };

int
sendmail_fail(int code, const char *format, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, format);
	fprintf(stderr, "sendmail: ");
	vfprintf(stderr, format, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	return code;
}

/* ---- where the daemon is ------------------------------------------------------------------ */

static void
use_defaults(struct sendmail *s)
{
	char name[HOST_MAX] = "";

	s->socket = TRAM_SUBMISSION_DEFAULT;
	s->control = TRAM_CONTROL_DEFAULT;
	if (gethostname(name, sizeof(name) - 1) < 0 || name[0] == '\0')
		s->hostname = SPAN("localhost");
	else
		s->hostname = arena_copy(&s->arena, span_str(name));
}

/*
 * A configuration that was named must be good. The default one may be unreadable for who calls,
 * or have a mistake that its owner is just mending: mail is handed in at the default place then.
 */
static int
find_daemon(struct sendmail *s)
{
	char error[CONFIG_ERROR_MAX];
	struct config *config;

	use_defaults(s);
	if (config_load(s->config_path != NULL ? s->config_path : TRAM_CONFIG_DEFAULT, &config,
			error, NULL) < 0)
		return s->config_path == NULL ? EX_OK : sendmail_fail(EX_CONFIG, "%s", error);
	if (config->submission_socket != NULL)
		s->socket = arena_str(&s->arena, span_str(config->submission_socket));
	else if (s->config_path != NULL && (s->mode == SENDMAIL_SEND || s->mode == SENDMAIL_SMTP))
		return sendmail_fail(EX_CONFIG, "%s sets no submission-socket", s->config_path);
	if (config->control != NULL)
		s->control = arena_str(&s->arena, span_str(config->control));
	s->hostname = arena_copy(&s->arena, config->hostname);
	s->max_size = config->limits.message_size;
	config_free(config);
	return EX_OK;
}

/* ---- the message -------------------------------------------------------------------------- */

static struct span
full_name_of(const struct passwd *user, struct arena *arena)
{
	struct span gecos = span_str(user->pw_gecos), name = span_cut(&gecos, ',');
	struct buf out = { 0 };
	struct span ret;

	for (size_t i = 0; i < name.len; i++) {
		if (name.at[i] != '&') {
			buf_byte(&out, name.at[i]);
			continue;
		}
		buf_append(&out, span_str(user->pw_name));	/* an old habit of passwd(5) */
		if (user->pw_name[0] >= 'a' && user->pw_name[0] <= 'z')
			out.at[out.end - strlen(user->pw_name)] =
				(char)(user->pw_name[0] - 'a' + 'A');
	}
	ret = arena_copy(arena, buf_span(&out));
	buf_free(&out);
	return ret;
}

static void
find_caller(struct sendmail *s, struct sendmail_facts *facts)
{
	const struct passwd *user = getpwuid(getuid());

	*facts = (struct sendmail_facts){ .hostname = s->hostname, .now_ms = wall_ms() };
	if (user != NULL) {
		facts->login = arena_copy(&s->arena, span_str(user->pw_name));
		facts->full_name = full_name_of(user, &s->arena);
	} else {
		facts->login = arena_printf(&s->arena, "uid%u", (unsigned)getuid());
	}
	if (s->sender_given && s->sender.len > 0 && !span_eq(s->sender, facts->login))
		facts->full_name = (struct span){ 0 };		/* it is somebody else's */
	if (getrandom(&facts->unique, sizeof(facts->unique), 0) != sizeof(facts->unique))
		facts->unique = (uint64_t)getpid();
}

static int
read_message(struct sendmail_message *m)
{
	char bytes[65536];

	while (!m->ended && !m->too_large) {
		ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return sendmail_fail(EX_IOERR, "standard input: %s", strerror(errno));
		if (n == 0)
			break;
		sendmail_message_take(m, span_of(bytes, (size_t)n));
	}
	sendmail_message_end(m);
	if (m->too_large)
		return sendmail_fail(EX_UNAVAILABLE,
				     "the message is larger than limits.message-size allows");
	return EX_OK;
}

static int
send_message(struct sendmail *s)
{
	struct sendmail_message m = { .dots_are_text = s->dots_are_text, .max_size = s->max_size };
	struct sendmail_facts facts;
	struct span bad;
	int rc;

	if (s->recipients.count == 0 && !s->from_header)
		return sendmail_fail(EX_USAGE,
				     "no recipient: name one, or take them from the header by -t");
	find_caller(s, &facts);
	rc = read_message(&m);
	if (rc == EX_OK && !sendmail_message_complete(&m, s, &facts, &bad))
		rc = sendmail_fail(EX_DATAERR, "\"%.*s\" is no address", SPAN_FMT(bad));
	if (rc == EX_OK && s->recipients.count == 0)
		rc = sendmail_fail(EX_USAGE, "the message names no recipient in To, Cc or Bcc");
	if (!s->sender_given)
		s->sender = facts.login;
	if (rc == EX_OK)
		rc = sendmail_submit(s, &m);
	sendmail_message_free(&m);
	return rc;
}

static int
run(struct sendmail *s)
{
	int rc;

	switch (s->mode) {
	case SENDMAIL_HELP:
		sendmail_help();
		return EX_OK;
	case SENDMAIL_VERSION:
		printf("tram-sendmail %s\n", TRAM_VERSION);
		return EX_OK;
	case SENDMAIL_ALIASES:
		printf("newaliases: tram keeps no alias database yet; there is nothing to do\n");
		return EX_OK;
	default:
		break;
	}
	rc = find_daemon(s);
	if (rc != EX_OK)
		return rc;
	switch (s->mode) {
	case SENDMAIL_SMTP:
		return sendmail_pass_smtp(s);
	case SENDMAIL_LIST:
		return sendmail_list(s);
	case SENDMAIL_RUN_QUEUE:
		return sendmail_run_queue(s);
	default:
		return send_message(s);
	}
}

int
main(int argc, char **argv)
{
	struct sendmail s;
	int rc;

	if (getauxval(AT_SECURE) != 0 || getuid() != geteuid() || getgid() != getegid())
		return sendmail_fail(
			EX_NOPERM,
			"it must not be installed set-uid or set-gid: it needs no privilege");
	rc = sendmail_parse(argc, argv, &s);
	if (rc == 0)
		rc = run(&s);
	arena_free(&s.arena);
	if (fflush(stdout) != 0 && rc == EX_OK)
		rc = EX_IOERR;
	return rc;
}
