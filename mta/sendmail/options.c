/*
 * options: sendmail's command line, from one table (which the manual's check reads too). As with
 * sendmail a letter's value may stand in the same word or be the next one; some values can only
 * be in the same word. What has no meaning here but is often given is taken and does nothing.
 */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "mta/base/address.h"
#include "mta/sendmail/sendmail.h"

/* NEXT: in this word or the next; SAME, MAYBE: in this word only */
enum value { NONE, NEXT, SAME, MAYBE };

static const struct option {
	char letter;
	enum value value;
	const char *argument;		/* in help */
	const char *help;		/* NULL: taken, and does nothing */
} options[] = {
	{ 't', NONE, "", "read recipients from To, Cc and Bcc; Bcc is taken out" },
	{ 'i', NONE, "", "a line with a lone dot does not end the message" },
	{ 'f', NEXT, " SENDER", "the envelope's sender; <> is the null sender" },
	{ 'r', NEXT, " SENDER", "the same" },
	{ 'F', NEXT, " NAME", "the sender's full name, where the message has no From" },
	{ 'b', SAME, "MODE",
	  "m: send (default); s: SMTP on standard input; p: list the queue; i: newaliases" },
	{ 'q', MAYBE, "[X]", "try what is queued now: all, or -qIID, -qRRECIPIENT, -qSSENDER" },
	{ 'B', NEXT, " TYPE", "7BIT or 8BITMIME" },
	{ 'N', NEXT, " WHEN", "report on: never, or success, failure, delay (a list)" },
	{ 'R', NEXT, " WHAT", "reports return: full or hdrs" },
	{ 'V', NEXT, " ENVID", "the envelope's identifier, named in reports" },
	{ 'v', NONE, "", "say what the server answers" },
	{ 'o', SAME, "X", "i: as -i; eq: say nothing of errors; others are taken and do nothing" },
	{ 'C', NEXT, " FILE", "the configuration of tramd (default " TRAM_CONFIG_DEFAULT ")" },
	{ 'A', SAME, NULL, NULL },
	{ 'D', NEXT, NULL, NULL },
	{ 'E', NONE, NULL, NULL },
	{ 'G', NONE, NULL, NULL },
	{ 'L', NEXT, NULL, NULL },
	{ 'O', NEXT, NULL, NULL },
	{ 'U', NONE, NULL, NULL },
	{ 'X', NEXT, NULL, NULL },
	{ 'd', MAYBE, NULL, NULL },
	{ 'e', SAME, NULL, NULL },
	{ 'h', NEXT, NULL, NULL },
	{ 'm', NONE, NULL, NULL },
	{ 'n', NONE, NULL, NULL },
	{ 'p', NEXT, NULL, NULL },
	{ 's', NONE, NULL, NULL },
};
enum { OPTION_COUNT = sizeof(options) / sizeof(options[0]) };

void
sendmail_help(void)
{
	printf("usage: sendmail [OPTION]... [RECIPIENT]...   hand in the message on standard "
	       "input\n"
	       "       mailq                                 list the queue\n"
	       "       newaliases                            nothing: there is no alias "
	       "database\n\n");
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (options[i].help != NULL)
			printf("  -%c%-10s  %s\n", options[i].letter, options[i].argument,
			       options[i].help);
	printf("  --%-10s  what follows are recipients\n", "");
	printf("\nTaken, and without effect:");
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (options[i].help == NULL)
			printf(" -%c", options[i].letter);
	printf("\n");
}

/* ---- values ------------------------------------------------------------------------------- */

static int
bad_value(char letter, const char *value)
{
	return sendmail_fail(EX_USAGE, "-%c does not take \"%s\"; see --help", letter, value);
}

static int
set_sender(struct sendmail *s, const char *value)
{
	struct sendmail_addresses one = { 0 };
	struct span bad;

	if (!sendmail_addresses_add(&one, span_str(value), &s->arena, &bad) || one.count > 1)
		return bad_value('f', value);
	s->sender = one.count == 1 ? one.list[0] : SPAN("");
	s->sender_given = true;
	return 0;
}

static int
set_mode(struct sendmail *s, const char *value)
{
	static const struct { const char *name; enum sendmail_mode mode;
	} modes[] = {
		{ "m", SENDMAIL_SEND },
		{ "s", SENDMAIL_SMTP },
		{ "p", SENDMAIL_LIST },
		{ "i", SENDMAIL_ALIASES },
	};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(value, modes[i].name) == 0) {
			s->mode = modes[i].mode;
			return 0;
		}
	if (strcmp(value, "d") == 0 || strcmp(value, "D") == 0)
		return sendmail_fail(EX_USAGE, "-b%s: the daemon is another program: tramd", value);
	return bad_value('b', value);
}

static int
set_queue_run(struct sendmail *s, const char *value)
{
	struct span rest = span_skip(span_str(value), 1);

	/* -q30m, which made sendmail a daemon, runs it once */
	s->mode = SENDMAIL_RUN_QUEUE;
	if (value[0] == 'I')
		s->queue_id = rest;
	else if (value[0] == 'R')
		s->queue_recipient = rest;
	else if (value[0] == 'S')
		s->queue_sender = rest;
	return (value[0] == 'I' || value[0] == 'R' || value[0] == 'S') && rest.len == 0
		       ? bad_value('q', value)
		       : 0;
}

static int
set_notify(struct sendmail *s, const char *value)
{
	static const struct { struct span word; uint8_t bit; } words[] = {
		{ { "never", 5 }, NOTIFY_NEVER }, { { "success", 7 }, NOTIFY_SUCCESS },
		{ { "failure", 7 }, NOTIFY_FAILURE }, { { "delay", 5 }, NOTIFY_DELAY },
	};
	struct span list = span_str(value);

	s->notify = 0;
	while (list.len > 0) {
		struct span word = span_trim(span_cut(&list, ','));
		uint8_t bit = 0;

		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
			if (span_ieq(word, words[i].word))
				bit = words[i].bit;
		if (bit == 0)
			return bad_value('N', value);
		s->notify |= bit;
	}
	if (s->notify == 0 || ((s->notify & NOTIFY_NEVER) != 0 && s->notify != NOTIFY_NEVER))
		return bad_value('N', value);
	return 0;
}

static int
set_body(struct sendmail *s, const char *value)
{
	s->eightbit = span_ieq(span_str(value), SPAN("8BITMIME"));
	return s->eightbit || span_ieq(span_str(value), SPAN("7BIT")) ? 0 : bad_value('B', value);
}

static int
set_return(struct sendmail *s, const char *value)
{
	s->ret = span_ieq(span_str(value), SPAN("full")) ? RET_FULL
		 : span_ieq(span_str(value), SPAN("hdrs")) ? RET_HDRS : RET_UNSET;
	return s->ret != RET_UNSET ? 0 : bad_value('R', value);
}

static int
set_envid(struct sendmail *s, const char *value)
{
	struct buf text = { 0 };

	xtext_encode(span_str(value), &text);
	s->envid = arena_copy(&s->arena, buf_span(&text));
	buf_free(&text);
	/* RFC 3461 §4.4 */
	return s->envid.len > 0 && s->envid.len <= 100 ? 0 : bad_value('V', value);
}

static int
set_option(struct sendmail *s, char letter, const char *value)
{
	switch (letter) {
	case 't':
		s->from_header = true;
		return 0;
	case 'i':
		s->dots_are_text = true;
		return 0;
	case 'v':
		s->verbose = true;
		return 0;
	case 'F':
		s->full_name = span_str(value);
		return 0;
	case 'C':
		s->config_path = value;
		return 0;
	case 'f':
	case 'r':
		return set_sender(s, value);
	case 'b':
		return set_mode(s, value);
	case 'q':
		return set_queue_run(s, value);
	case 'B':
		return set_body(s, value);
	case 'N':
		return set_notify(s, value);
	case 'R':
		return set_return(s, value);
	case 'V':
		return set_envid(s, value);
	case 'o':
		s->dots_are_text = s->dots_are_text || strcmp(value, "i") == 0;
		s->quiet = s->quiet || strcmp(value, "eq") == 0;
		return 0;
	default:
		return 0;
	}
}

/* ---- the command line --------------------------------------------------------------------- */

/* One word of letters; *at moves on if a value is taken from the next word. */
static int
take_word(struct sendmail *s, int argc, char **argv, int *at)
{
	const char *p = argv[*at] + 1;

	while (*p != '\0') {
		const struct option *o = NULL;
		const char *value = p + 1;
		int rc;

		for (size_t i = 0; i < OPTION_COUNT; i++)
			if (options[i].letter == *p)
				o = &options[i];
		if (o == NULL)
			return sendmail_fail(EX_USAGE, "there is no option -%c; see --help", *p);
		if (o->value == NEXT && *value == '\0') {
			if (*at + 1 >= argc)
				return sendmail_fail(EX_USAGE, "-%c needs a value; see --help", *p);
			value = argv[++*at];
		} else if (o->value == SAME && *value == '\0') {
			return sendmail_fail(EX_USAGE,
					     "-%c needs a value in the same word; see --help", *p);
		}
		rc = set_option(s, *p, value);
		if (rc != 0 || o->value != NONE)
			return rc;
		p++;
	}
	return 0;
}

static void
mode_by_name(struct sendmail *s, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;

	if (strcmp(name, "mailq") == 0)
		s->mode = SENDMAIL_LIST;
	else if (strcmp(name, "newaliases") == 0)
		s->mode = SENDMAIL_ALIASES;
}

int
sendmail_parse(int argc, char **argv, struct sendmail *s)
{
	int at = 1, rc = 0;
	struct span bad;

	*s = (struct sendmail){ .mode = SENDMAIL_SEND };
	if (argc > 0)
		mode_by_name(s, argv[0]);
	for (; at < argc && argv[at][0] == '-' && argv[at][1] != '\0' && rc == 0; at++) {
		if (strcmp(argv[at], "--") == 0) {
			at++;
			break;
		}
		if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "--version") == 0) {
			s->mode = argv[at][2] == 'h' ? SENDMAIL_HELP : SENDMAIL_VERSION;
			return 0;
		}
		rc = take_word(s, argc, argv, &at);
	}
	for (; at < argc && rc == 0; at++)
		if (!sendmail_addresses_add(&s->recipients, span_str(argv[at]), &s->arena, &bad))
			rc = sendmail_fail(EX_USAGE, "\"%s\" is no address", argv[at]);
	return rc;
}
