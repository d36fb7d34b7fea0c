/*
 * password: an entry for the file of tram.conf's `passwords`. The password is read from the
 * terminal, twice and unseen, or from standard input; it is never an argument, which others could
 * read. See tramctl.h.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <termios.h>
#include <unistd.h>

#include "mta/auth/passwords.h"
#include "mta/ctl/tramctl.h"
#include "policy/verp.h"

enum { PASSWORD_MAX = 1024 };

/* One line without its end; false: there is none, or it is too long. */
static bool
read_line(char to[PASSWORD_MAX + 2])
{
	size_t len;

	if (fgets(to, PASSWORD_MAX + 2, stdin) == NULL)
		return false;
	len = strlen(to);
	if (len > 0 && to[len - 1] == '\n')
		to[--len] = '\0';
	return len > 0 && len <= PASSWORD_MAX;
}

static bool
read_unseen(const char *prompt, char to[PASSWORD_MAX + 2])
{
	struct termios before, unseen;
	bool read;

	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return false;
	unseen = before;
	unseen.c_lflag &= ~(tcflag_t)ECHO;
	fputs(prompt, stderr);
	fflush(stderr);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &unseen);
	read = read_line(to);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
	fputc('\n', stderr);
	return read;
}

static int
ask(char password[PASSWORD_MAX + 2])
{
	char again[PASSWORD_MAX + 2] = "";
	bool same;

	if (!isatty(STDIN_FILENO))
		return read_line(password)
			       ? TRAMCTL_OK
			       : tramctl_fail(TRAMCTL_USAGE,
					      "standard input has no password of 1 to %d octets "
					      "in its first line",
					      PASSWORD_MAX);
	if (!read_unseen("Password: ", password) || !read_unseen("Again: ", again))
		return tramctl_fail(TRAMCTL_USAGE, "a password has 1 to %d octets", PASSWORD_MAX);
	same = strcmp(password, again) == 0;
	explicit_bzero(again, sizeof(again));
	return same ? TRAMCTL_OK : tramctl_fail(TRAMCTL_USAGE, "the two are not the same");
}

int
tramctl_run_password(struct tramctl *t)
{
	char password[PASSWORD_MAX + 2] = "";
	struct buf entry = { 0 };
	const char *fault;
	int rc = ask(password);

	if (rc != TRAMCTL_OK)
		return rc;
	fault = passwords_make_entry(span_str(t->user), span_str(password),
				     PASSWORD_YESCRYPT | PASSWORD_SCRAM, &entry);
	explicit_bzero(password, sizeof(password));
	if (fault != NULL)
		rc = tramctl_fail(TRAMCTL_USAGE, "%s", fault);
	else
		printf("%.*s", SPAN_FMT(buf_span(&entry)));
	buf_free(&entry);
	return rc;
}

int
tramctl_run_verp_key(struct tramctl *t)
{
	uint8_t key[VERP_KEY];
	struct buf text = { 0 };

	(void)t;
	if (getrandom(key, sizeof(key), 0) != sizeof(key))
		return tramctl_fail(TRAMCTL_FAILED, "no random octets are to be had: %s",
				    strerror(errno));
	verp_key_text(key, &text);
	printf("%.*s\n", SPAN_FMT(buf_span(&text)));
	buf_free(&text);
	return TRAMCTL_OK;
}
