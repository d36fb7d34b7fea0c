/*
 * options: the two tables that say what can be typed; parsing, help and the manual's check all
 * read them.
 */
#include <stdarg.h>
#include <stdlib.h>

#include "mta/base/id.h"
#include "mta/ctl/tramctl.h"
#include "mta/ctl/text.h"

enum option_group {
	GLOBAL = 1, SELECTION = 2, LIMIT = 4, ALL = 8, DRAIN = 16,
	ONE_ID = 32, IDS = 64, FILE_NAME = 128, STORE = 256, SITE = 512, USER = 1024, CLIENT = 2048,
	GOAL = 4096, HOST = 8192, ADDRESS = 16384, ENTRY = 32768, MAIL = 65536, TOP = 131072,
	SITE_KEY = 262144, PLACE = 524288, PART = 1048576, TERM = 2097152, PRIORITY = 4194304,
};

enum option_kind { KIND_FLAG, KIND_TEXT, KIND_AGE, KIND_COUNT, KIND_STATE, KIND_PATH,
		   KIND_PRIORITY };

#define T(field) offsetof(struct tramctl, field)
static const struct option {
	const char *name, *argument, *help;
	enum option_group group;
	enum option_kind kind;
	size_t offset;
} options[] = {
	{ "-c", "FILE", "the configuration of tramd (default " TRAM_CONFIG_DEFAULT ")", GLOBAL,
	  KIND_PATH, T(config_path) },
	{ "--json", NULL, "print JSON, one object a line", GLOBAL, KIND_FLAG, T(json) },
	{ "--help", NULL, "say what a command does and takes", GLOBAL, KIND_FLAG, T(help) },
	{ "--version", NULL, "print the version", GLOBAL, KIND_FLAG, T(version) },
	{ "--list-options", NULL, "print every command with every option it takes", GLOBAL,
	  KIND_FLAG, T(list_options) },
	{ "--domain", "DOMAIN", "recipients in this domain, or below it", SELECTION, KIND_TEXT,
	  T(request.domain) },
	{ "--sender", "ADDRESS|DOMAIN", "mail from here; <> is the null sender", SELECTION,
	  KIND_TEXT, T(request.sender) },
	{ "--recipient", "ADDRESS", "this recipient", SELECTION, KIND_TEXT, T(request.recipient) },
	{ "--older", "AGE", "arrived at least so long ago: 90s, 30m, 1h, 5d, 2w", SELECTION,
	  KIND_AGE, T(request.older_ms) },
	{ "--newer", "AGE", "arrived at most so long ago", SELECTION, KIND_AGE,
	  T(request.newer_ms) },
	{ "--state", "STATE", "waiting, held, owed (a report) or in-flight", SELECTION, KIND_STATE,
	  T(request.state) },
	{ "--error", "TEXT", "whose last error has this text", SELECTION, KIND_TEXT,
	  T(request.error) },
	{ "--all", NULL, "everything: needed where nothing is selected", ALL, KIND_FLAG,
	  T(request.all) },
	{ "--priority", "N", "-9 to 9: what is higher goes first among the mail of its tenant",
	  PRIORITY | MAIL, KIND_PRIORITY, T(request.priority) },
	{ "--limit", "N", "at most so many rows", LIMIT, KIND_COUNT, T(request.limit) },
	{ "--class", "CLASS", "why: a class of replies, of tram.conf(5)", ENTRY, KIND_TEXT,
	  T(request.class) },
	{ "--reason", "TEXT", "why, in words", ENTRY | TERM, KIND_TEXT, T(request.reason) },
	{ "--for", "AGE", "for so long: 90s, 30m, 1h, 5d, 2w; else until it is ended", ENTRY | TERM,
	  KIND_AGE, T(request.for_ms) },
	{ "--source", "NAME", "only what leaves from this source", PART, KIND_TEXT,
	  T(request.source) },
	{ "--tenant", "NAME", "only the mail of this tenant", PART, KIND_TEXT, T(request.tenant) },
	{ "--off", NULL, "accept mail again", DRAIN, KIND_FLAG, T(request.off) },
	{ "--host", "HOST:PORT", "this host, instead of those of a domain", HOST, KIND_TEXT,
	  T(request.host) },
	{ "--to", "ADDRESS", "its recipient", MAIL, KIND_TEXT, T(request.recipient) },
	{ "--from", "ADDRESS", "its sender; <>, if it is not given: the null sender", MAIL,
	  KIND_TEXT, T(request.reverse_path) },
	{ "--user", "NAME", "who has logged in to hand it in", MAIL, KIND_TEXT, T(request.user) },
	{ "--client", "IP", "where it comes from", MAIL, KIND_TEXT, T(request.client) },
	{ "--listener", "NAME", "where it is handed in; local: the socket of tram-sendmail", MAIL,
	  KIND_TEXT, T(request.listener) },
	{ "--header", "FIELD", "a field of its header: \"X-Pool: news\"", MAIL, KIND_TEXT,
	  T(request.header) },
	{ "--size", "OCTETS", "its size", MAIL, KIND_COUNT, T(request.body_size) },
	{ "--requiretls", NULL, "no host may have it without TLS (REQUIRETLS)", MAIL, KIND_FLAG,
	  T(request.requiretls) },
	{ "--hold-for", "AGE", "it is not to go before (HOLDFOR)", MAIL, KIND_AGE,
	  T(request.hold_ms) },
	{ "--within", "AGE", "it is to be there by then, or come back (BY)", MAIL, KIND_AGE,
	  T(request.within_ms) },
	{ "--once", NULL, "print it once; so it is without a terminal", TOP, KIND_FLAG, T(once) },
	{ "--interval", "SECONDS", "look again after so long (1)", TOP, KIND_COUNT, T(interval) },
	{ "--sort", "WHAT",
	  "rate (of the last minute), waiting, in-flight, connections or failures", TOP,
	  KIND_TEXT, T(request.sort) },
	{ "--tenants", NULL, "tenants, not sites", TOP, KIND_FLAG, T(request.tenants) },
	{ "--no-wait", NULL, "return at once", DRAIN, KIND_FLAG, T(no_wait) },
};
enum { OPTION_COUNT = sizeof(options) / sizeof(options[0]) };

enum { EDIT = IDS | SELECTION | ALL };
static const struct tramctl_command commands[] = {
	{ "queue list", "[ID]...",
	  "List recipients that wait, with state, time of the next try and last error.",
	  IDS | SELECTION | LIMIT, CONTROL_QUEUE_LIST, tramctl_run_list },
	{ "queue show", "ID", "Show a message's envelope and recipients.", ONE_ID,
	  CONTROL_QUEUE_SHOW, tramctl_run_show },
	{ "queue cat", "ID", "Print a message's content as it is stored.", ONE_ID,
	  CONTROL_QUEUE_CAT, tramctl_run_cat },
	{ "queue hold", "[ID]...", "Keep messages from being tried.", EDIT, CONTROL_QUEUE_HOLD,
	  tramctl_run_edit },
	{ "queue release", "[ID]...", "End a hold: they are due now.", EDIT, CONTROL_QUEUE_RELEASE,
	  tramctl_run_edit },
	{ "queue retry", "[ID]...", "Try now, whatever the schedule says; their sites are probed.",
	  EDIT, CONTROL_QUEUE_RETRY, tramctl_run_edit },
	{ "queue bounce", "[ID]...", "Return messages to their senders.", EDIT,
	  CONTROL_QUEUE_BOUNCE, tramctl_run_edit },
	{ "queue remove", "[ID]...", "Delete messages; nobody is told.", EDIT, CONTROL_QUEUE_REMOVE,
	  tramctl_run_edit },
	{ "queue set", "[ID]... --priority N", "Give messages another priority.", EDIT | PRIORITY,
	  CONTROL_QUEUE_SET, tramctl_run_edit },
	{ "queue export", "FILE [ID]...",
	  "Copy messages to an archive (- is standard output); they stay queued.",
	  FILE_NAME | IDS | SELECTION, CONTROL_QUEUE_EXPORT, tramctl_run_export },
	{ "queue import", "FILE",
	  "Queue the messages of an archive under new ids; mail that went out since goes out "
	  "twice.",
	  FILE_NAME, CONTROL_IMPORT_MESSAGE, tramctl_run_import },
	{ "queue check", "", "Check every record of the store, while tramd does not run.", 0,
	  CONTROL_STATS, tramctl_run_check },
	{ "queue salvage", "PATH FILE", "Copy what can be read of a damaged store to an archive.",
	  STORE | FILE_NAME, CONTROL_STATS, tramctl_run_salvage },
	{ "explain", "ID",
	  "Say why a message is still here, what it waits for, and when it goes next.", ONE_ID,
	  CONTROL_EXPLAIN, tramctl_run_explain },
	{ "sites retry", "[KEY]", "Probe a site now, whatever its back-off says; --all: every one.",
	  SITE | ALL, CONTROL_SITES_RETRY, tramctl_run_plain },
	{ "sites measures", "", "List what rules or operators have suspended or slowed down, why "
				"and until when.", LIMIT,
	  CONTROL_SITES_MEASURES, tramctl_run_measures },
	{ "sites suspend", "KEY|PROVIDER|@DOMAIN",
	  "Send nothing there, until it is resumed; mail for it waits.",
	  PLACE | PART | TERM, CONTROL_SITES_SUSPEND, tramctl_run_plain },
	{ "sites resume", "KEY|PROVIDER|@DOMAIN",
	  "End what is suspended there, by hand or by a rule.",
	  PLACE | PART, CONTROL_SITES_RESUME, tramctl_run_plain },
	{ "sites reset", "KEY|PROVIDER", "Forget what was held against a site: suspensions, "
					 "slow-downs, back-off, connections.",
	  PLACE, CONTROL_SITES_RESET, tramctl_run_plain },
	{ "sites", "[KEY]", "List next hops: state, connections, failures, next probe; or all "
			    "about one.",
	  LIMIT | SITE_KEY,
	  CONTROL_SITES, tramctl_run_sites },
	{ "top", "", "Show the sites, or tenants, where most happens, again and again: rates, "
		     "connections, what holds them.",
	  TOP | LIMIT, CONTROL_TOP, tramctl_run_top },
	{ "sessions", "", "List the connections of clients.", LIMIT, CONTROL_SESSIONS,
	  tramctl_run_sessions },
	{ "certs", "", "List the certificates: names, key, expiry, who uses them.", 0,
	  CONTROL_CERTS, tramctl_run_certs },
	{ "sources", "", "List the sources: addresses, connections, what they sent today, warm-up, "
			 "what is broken.", 0,
	  CONTROL_SOURCES, tramctl_run_sources },
	{ "bans", "", "List the addresses that are banned for failed logins.", LIMIT, CONTROL_BANS,
	  tramctl_run_bans },
	{ "pardon", "ADDRESS", "Forget the failed logins of an address, and end its ban.", CLIENT,
	  CONTROL_PARDON, tramctl_run_plain },
	{ "tls-check", "[DOMAIN]",
	  "Say, step by step, what a delivery to a domain or host would meet and do about TLS.",
	  GOAL | HOST, CONTROL_TLS_CHECK, tramctl_run_tls_check },
	{ "what-if", "--to ADDRESS",
	  "Print the whole decision for a message that does not exist: taken or not, where to, "
	  "how, what holds it.",
	  MAIL, CONTROL_WHAT_IF, tramctl_run_tls_check },
	{ "dns-records", "DOMAIN",
	  "Print the DNS records to publish for a domain of this server; say which are missing.",
	  GOAL, CONTROL_DNS_RECORDS, tramctl_run_dns_records },
	{ "suppress list", "", "List the addresses and domains that no mail is sent to.", LIMIT,
	  CONTROL_SUPPRESS_LIST, tramctl_run_suppress_list },
	{ "suppress add", "ADDRESS|DOMAIN", "Send no mail to an address or a domain.", ADDRESS |
	  ENTRY, CONTROL_SUPPRESS_ADD, tramctl_run_plain },
	{ "suppress remove", "ADDRESS|DOMAIN", "Send mail there again.", ADDRESS,
	  CONTROL_SUPPRESS_REMOVE, tramctl_run_plain },
	{ "suppress import", "FILE", "Add what a file lists, one ADDRESS [CLASS [REASON]] a line "
				     "(- is standard input).",
	  FILE_NAME | ENTRY, CONTROL_SUPPRESS_ADD, tramctl_run_suppress_import },
	{ "tls-reports send", "",
	  "Report on TLS now what has been counted, and wait until that is done.", 0,
	  CONTROL_TLS_REPORTS_SEND, tramctl_run_tls_reports_send },
	{ "tls-reports", "", "List how TLS to other domains went, as counted for reports.", LIMIT,
	  CONTROL_TLS_REPORTS, tramctl_run_tls_reports },
	{ "password", "USER", "Ask for a password and print its entry for the file of `passwords`.",
	  USER, CONTROL_STATS, tramctl_run_password },
	{ "verp-key", "", "Make a key for the file of `verp-keys`, and print it.", 0, CONTROL_STATS,
	  tramctl_run_verp_key },
	{ "stats", "", "Print counters.", 0, CONTROL_STATS, tramctl_run_stats },
	{ "reload", "",
	  "Read the configuration again: all of it, or (if it has a mistake) nothing.", 0,
	  CONTROL_RELOAD, tramctl_run_plain },
	{ "drain", "",
	  "Accept nothing more, deliver what is queued, and wait until only what waits is left.",
	  DRAIN, CONTROL_DRAIN, tramctl_run_drain },
	{ "stop", "", "Stop tramd, as SIGTERM does.", 0, CONTROL_STOP, tramctl_run_plain },
};
enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

/* ---- help --------------------------------------------------------------------------------- */

static void
print_options(unsigned groups)
{
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		char left[64];

		if ((options[i].group & groups) == 0)
			continue;
		snprintf(left, sizeof(left), "%s%s%s", options[i].name,
			 options[i].argument != NULL ? " " : "",
			 options[i].argument != NULL ? options[i].argument : "");
		printf("  %-26s  %s\n", left, options[i].help);
	}
}

void
tramctl_help(const struct tramctl *t)
{
	const struct tramctl_command *c = t->command;

	if (c != NULL) {
		printf("usage: tramctl [OPTION]... %s%s%s\n\n%s\n\n", c->words,
		       c->arguments[0] ? " " : "", c->arguments, c->help);
		print_options(c->takes | GLOBAL);
		return;
	}
	printf("usage: tramctl [OPTION]... COMMAND [ARGUMENT]...\n\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		char left[64];

		snprintf(left, sizeof(left), "%s %s", commands[i].words, commands[i].arguments);
		printf("  %-26s  %s\n", left, commands[i].help);
	}
	printf("\nOptions of all commands (those of one: tramctl COMMAND --help):\n");
	print_options(GLOBAL);
}

void
tramctl_list_options(void)
{
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (options[i].group == GLOBAL)
			printf("%s\n", options[i].name);
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		printf("%s\n", commands[i].words);
		for (size_t j = 0; j < OPTION_COUNT; j++)
			if ((options[j].group & commands[i].takes) != 0)
				printf("%s %s\n", commands[i].words, options[j].name);
	}
}

/* ---- parsing ------------------------------------------------------------------------------ */

static bool usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

static bool
usage(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fprintf(stderr, "tramctl: ");
	vfprintf(stderr, format, ap);
	fprintf(stderr, "\nSee: tramctl --help\n");
	va_end(ap);
	return false;
}

struct parse {
	struct tramctl *t;
	int argc, at;
	char **argv;
	unsigned given[OPTION_COUNT];		/* times */
	const char **words;			/* what is no option */
	size_t word_count;
};

static bool
read_priority(const char *value, struct control_priority *ret)
{
	const char *digit = value[0] == '-' ? value + 1 : value;

	if (digit[0] < '0' || digit[0] > '9' || digit[1] != '\0')
		return false;
	*ret = (struct control_priority){
		.given = true, .mt = (int8_t)(digit > value ? '0' - digit[0] : digit[0] - '0')
	};
	return true;
}

static bool
set_value(struct tramctl *t, const struct option *o, const char *value)
{
	void *to = (char *)t + o->offset;
	bool ok = true;

	switch (o->kind) {
	case KIND_FLAG:
		*(bool *)to = true;
		break;
	case KIND_TEXT:
		*(struct span *)to = span_str(value);
		ok = value != NULL && value[0] != '\0';
		break;
	case KIND_PATH:
		*(const char **)to = value;
		break;
	case KIND_AGE:
		ok = text_parse_age(span_str(value), to);
		break;
	case KIND_COUNT:
		ok = span_to_u64(span_str(value), INT64_MAX, to) && *(uint64_t *)to > 0;
		break;
	case KIND_STATE:
		ok = control_state_parse(span_str(value), to) &&
		     *(uint64_t *)to != CONTROL_STATE_ANY;
		break;
	case KIND_PRIORITY:
		ok = value != NULL && read_priority(value, to);
		break;
	}
	return ok || usage("%s takes %s, not \"%s\": %s", o->name, o->argument, value, o->help);
}

/* argv[at] is an option: --name, --name=value, --name value. */
static bool
take_option(struct parse *p)
{
	const char *text = p->argv[p->at], *equals = strchr(text, '=');
	struct span name = equals != NULL ? span_of(text, (size_t)(equals - text)) : span_str(text);

	for (size_t i = 0; i < OPTION_COUNT; i++) {
		const struct option *o = &options[i];

		if (!span_eq(name, span_str(o->name)))
			continue;
		if (p->given[i]++ > 0)
			return usage("%s is given twice", o->name);
		if (o->argument == NULL)
			return equals == NULL ? set_value(p->t, o, NULL)
					      : usage("%s takes no value", o->name);
		if (equals != NULL)
			return set_value(p->t, o, equals + 1);
		if (p->at + 1 == p->argc)
			return usage("%s needs %s", o->name, o->argument);
		return set_value(p->t, o, p->argv[++p->at]);
	}
	return usage("there is no option %.*s", SPAN_FMT(name));
}

/* "list, show, cat": what may stand behind the first word. */
static const char *
words_behind(struct parse *p)
{
	size_t len = strlen(p->words[0]);
	struct buf list = { 0 };
	const char *ret;

	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (strncmp(commands[i].words, p->words[0], len) == 0 &&
		    commands[i].words[len] == ' ')
			buf_printf(&list, "%s%s", buf_len(&list) > 0 ? ", " : "",
				   commands[i].words + len + 1);
	ret = arena_str(&p->t->arena, buf_span(&list));
	buf_free(&list);
	return ret;
}

/* The longest command that the words begin with. */
static bool
take_command(struct parse *p)
{
	for (size_t want = 2; want >= 1; want--)
		for (size_t i = 0; i < COMMAND_COUNT && want <= p->word_count; i++) {
			char text[64];

			snprintf(text, sizeof(text), "%s%s%s", p->words[0], want == 2 ? " " : "",
				 want == 2 ? p->words[1] : "");
			if (strcmp(text, commands[i].words) != 0)
				continue;
			p->t->command = &commands[i];
			p->words += want;
			p->word_count -= want;
			return true;
		}
	if (p->t->help || p->t->version || p->t->list_options)
		return true;
	if (p->word_count == 0)
		return usage("no command is given");
	if (words_behind(p)[0] != '\0')
		return usage("%s what? There are: %s", p->words[0], words_behind(p));
	return usage("there is no command \"%s\"", p->words[0]);
}

static bool
take_ids(struct parse *p)
{
	struct tramctl *t = p->t;

	t->ids = arena_alloc(&t->arena, (p->word_count + 1) * sizeof(*t->ids));
	for (; p->word_count > 0; p->words++, p->word_count--) {
		if (!id_parse(span_str(p->words[0]), &t->ids[t->id_count]))
			return usage("\"%s\" is not the id of a message: 13 letters and digits",
				     p->words[0]);
		t->id_count += seen_add(&t->seen, t->ids[t->id_count], UINT32_MAX);
	}
	return true;
}

static const char *
take_word(struct parse *p)
{
	if (p->word_count == 0)
		return NULL;
	p->word_count--;
	return *p->words++;
}

static bool
check_selection(const struct parse *p)
{
	const struct tramctl *t = p->t;
	unsigned takes = t->command->takes;
	bool selects = t->id_count > 0 || control_selects(&t->request);

	if ((takes & EDIT) == EDIT && !selects && !t->request.all)
		return usage(
			"which messages? Name ids or a filter, or say --all for the whole queue");
	if ((takes & EDIT) == EDIT && (takes & PRIORITY) != 0 && !t->request.priority.given)
		return usage("%s needs --priority: from -9 to 9", t->command->words);
	if (t->request.all && (selects || t->request.site.len > 0))
		return usage("--all and a selection contradict each other");
	if ((takes & SITE) != 0 && t->request.site.len == 0 && !t->request.all)
		return usage("which site? Name its key (see: tramctl sites), or say --all");
	return true;
}

static bool
take_arguments(struct parse *p)
{
	struct tramctl *t = p->t;
	unsigned takes = t->command->takes;

	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (p->given[i] > 0 && (options[i].group & (takes | GLOBAL)) == 0)
			return usage("%s takes no %s", t->command->words, options[i].name);
	if ((takes & STORE) != 0 && (t->store = take_word(p)) == NULL)
		return usage("%s needs the path of a queue", t->command->words);
	if ((takes & FILE_NAME) != 0 && (t->file = take_word(p)) == NULL)
		return usage("%s needs a file", t->command->words);
	if ((takes & USER) != 0 && (t->user = take_word(p)) == NULL)
		return usage("%s needs the user's name", t->command->words);
	if ((takes & CLIENT) != 0 && p->word_count == 0)
		return usage("%s needs an IP address", t->command->words);
	if ((takes & CLIENT) != 0)
		t->request.client = span_str(take_word(p));
	if ((takes & GOAL) != 0 && p->word_count > 0)
		t->request.domain = span_str(take_word(p));
	if ((takes & GOAL) != 0 && (t->request.domain.len > 0) == (t->request.host.len > 0))
		return usage("%s needs a domain%s", t->command->words,
			     (takes & HOST) != 0 ? ", or --host: one of both" : "");
	if ((takes & MAIL) != 0 && t->request.recipient.len == 0)
		return usage("%s needs --to: who is the recipient?", t->command->words);
	if ((takes & ADDRESS) != 0 && p->word_count == 0)
		return usage("%s needs an address, or a domain", t->command->words);
	if ((takes & ADDRESS) != 0)
		t->request.address = span_str(take_word(p));
	if ((takes & PLACE) != 0 && p->word_count == 0)
		return usage("%s needs the key of a site (see: tramctl sites), a provider, or @ "
			     "and a domain",
			     t->command->words);
	if ((takes & (SITE | SITE_KEY | PLACE)) != 0 && p->word_count > 0)
		t->request.site = span_str(take_word(p));
	if ((takes & (IDS | ONE_ID)) != 0 && !take_ids(p))
		return false;
	if ((takes & ONE_ID) != 0 && t->id_count != 1)
		return usage("%s needs one id", t->command->words);
	if (p->word_count > 0)
		return usage("%s does not know what to do with \"%s\"", t->command->words,
			     p->words[0]);
	return check_selection(p);
}

bool
tramctl_parse(int argc, char **argv, struct tramctl *t)
{
	struct parse p = { .t = t, .argc = argc, .argv = argv, .at = 1 };
	bool options_end = false;

	*t = (struct tramctl){ .config_path = TRAM_CONFIG_DEFAULT, .client.fd = -1 };
	p.words = arena_alloc(&t->arena, (size_t)(argc + 1) * sizeof(*p.words));
	for (; p.at < argc; p.at++) {
		if (!options_end && strcmp(argv[p.at], "--") == 0)
			options_end = true;
		else if (options_end || argv[p.at][0] != '-' || argv[p.at][1] == '\0')
			p.words[p.word_count++] = argv[p.at];
		else if (!take_option(&p))
			return false;
	}
	if (!take_command(&p))
		return false;
	if (t->help || t->version || t->list_options)
		return true;
	t->request.command = t->command->ask;
	return take_arguments(&p);
}
