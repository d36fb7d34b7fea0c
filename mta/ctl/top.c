/*
 * top: sites, or tenants, live. At a terminal the picture is drawn again in place, on the
 * terminal's other screen, so that all is as it was afterwards, however it ends; elsewhere it is
 * printed once. Rates of sites are the server's; those of the whole are told from two answers.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/control/text.h"
#include "mta/ctl/text.h"
#include "mta/ctl/tramctl.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ENTER "\x1b[?1049h\x1b[?25l"		/* the other screen; no cursor */
#define LEAVE "\x1b[?25h\x1b[?1049l"
#define HOME "\x1b[H"
#define LINE_END "\x1b[K"
#define REST "\x1b[J"

enum { SITE_MOST = 48, CLASSES_MOST = 2, ROWS_USUALLY = 40, HEAD_LINES = 4 };

static const char *const sorts[] = { "rate", "waiting", "in-flight", "connections", "failures" };

static const struct column site_columns[] = {
	{ "SITE", "site", COLUMN_TEXT, NULL },
	{ "OUT/S", "rate", COLUMN_TEXT, NULL },
	{ "OUT/MIN", "per_minute", COLUMN_NUMBER, "0" },
	{ "IN FLIGHT", "in_flight", COLUMN_NUMBER, "0" },
	{ "READY", "ready", COLUMN_NUMBER, "0" },
	{ "ASLEEP", "asleep", COLUMN_NUMBER, "0" },
	{ "CONNECTIONS", "links", COLUMN_TEXT, NULL },
	{ "SENT", "delivered", COLUMN_NUMBER, "0" },
	{ "DEFERRED", "deferred", COLUMN_NUMBER, "0" },
	{ "FAILED", "failed", COLUMN_NUMBER, "0" },
	{ "HELD BY", "held", COLUMN_TEXT, NULL },
	{ "REPLIES", "replies", COLUMN_TEXT, NULL },
};

static const struct column tenant_columns[] = {
	{ "TENANT", "tenant", COLUMN_TEXT, "(none)" },
	{ "OUT/S", "rate", COLUMN_TEXT, NULL },
	{ "OUT/MIN", "per_minute", COLUMN_NUMBER, "0" },
	{ "WEIGHT", "weight", COLUMN_NUMBER, NULL },
	{ "IN FLIGHT", "in_flight", COLUMN_NUMBER, "0" },
	{ "READY", "ready", COLUMN_NUMBER, "0" },
	{ "LANES", "lanes", COLUMN_NUMBER, "0" },
	{ "SENT", "delivered", COLUMN_NUMBER, "0" },
	{ "DEFERRED", "deferred", COLUMN_NUMBER, "0" },
	{ "FAILED", "failed", COLUMN_NUMBER, "0" },
};

struct sample { int64_t at_ms, accepted, delivered, deferred, failed; };

struct top {
	struct tramctl *t;
	struct control_request request;
	struct sample before;
	bool has_before;
	json_t *rows, *whole;
	size_t sort;
	size_t lines, columns;		/* of the terminal; 0: no bounds */
};

/* ---- asking ------------------------------------------------------------------------------- */

static void
on_row(struct tramctl *t, const json_t *line, void *arg)
{
	struct top *top = arg;

	(void)t;
	json_array_append_new(top->rows, json_deep_copy(line));
}

static double
per_second(const struct top *top, const char *key, int64_t before)
{
	int64_t ms = json_i64(top->whole, "at_ms") - top->before.at_ms;

	return ms <= 0 ? 0 : (double)(json_i64(top->whole, key) - before) * 1000 / (double)ms;
}

static void
add_rates(struct top *top)
{
	const struct sample *b = &top->before;
	const struct { const char *key, *rate; int64_t before; } all[] = {
		{ "accepted", "accepted_per_second", b->accepted },
		{ "delivered", "delivered_per_second", b->delivered },
		{ "deferred", "deferred_per_second", b->deferred },
		{ "failed", "failed_per_second", b->failed },
	};

	for (size_t i = 0; i < COUNT(all) && top->has_before; i++)
		json_object_set_new(top->whole, all[i].rate,
				    json_real(per_second(top, all[i].key, all[i].before)));
	top->before = (struct sample){
		json_i64(top->whole, "at_ms"), json_i64(top->whole, "accepted"),
		json_i64(top->whole, "delivered"), json_i64(top->whole, "deferred"),
		json_i64(top->whole, "failed"),
	};
	top->has_before = true;
}

static int
ask(struct top *top)
{
	bool json = top->t->json;
	int rc;

	json_decref(top->rows);
	json_decref(top->whole);
	top->rows = json_array();
	top->whole = NULL;
	top->t->json = false;			/* it is printed here, with the rates */
	rc = tramctl_ask(top->t, &top->request, on_row, top, &top->whole);
	top->t->json = json;
	if (rc == TRAMCTL_OK)
		add_rates(top);
	return rc;
}

/* ---- a picture ---------------------------------------------------------------------------- */

static json_t *
text(struct buf *text)
{
	json_t *value = json_text(buf_span(text));

	buf_free(text);
	return value;
}

/* "quota-issues 12, spam 3": the classes of most replies that were no yes. */
static json_t *
replies(const json_t *row)
{
	const json_t *classes = json_object_get(row, "classes");
	struct buf out = { 0 };
	json_int_t below = INT64_MAX;

	for (int n = 0; n < CLASSES_MOST; n++) {
		const char *key, *best = NULL;
		json_int_t most = 0;
		json_t *value;

		json_object_foreach((json_t *)(uintptr_t)classes, key, value)
			if (json_integer_value(value) > most && json_integer_value(value) < below) {
				most = json_integer_value(value);
				best = key;
			}
		if (best == NULL)
			break;
		buf_printf(&out, "%s%s %lld", n > 0 ? ", " : "", best, (long long)most);
		below = most;
	}
	return text(&out);
}

static json_t *
shown_row(const json_t *row)
{
	json_t *shown = json_copy((json_t *)(uintptr_t)row), *words = json_array(), *one;
	struct span key = json_span(row, "key");
	struct buf out = { 0 };
	size_t i;

	buf_append(&out, span_first(key, SITE_MOST));
	if (key.len > SITE_MOST)
		buf_append(&out, SPAN("..."));
	json_object_set_new(shown, "site", text(&out));
	buf_printf(&out, "%6.1f", json_real_value(json_object_get(row, "per_second")));
	json_object_set_new(shown, "rate", text(&out));
	if (json_object_get(row, "connections") != NULL)
		buf_printf(&out, "%lld of %lld", (long long)json_i64(row, "connections"),
			   (long long)json_i64(row, "limit"));
	json_object_set_new(shown, "links", text(&out));
	json_object_set_new(shown, "replies", replies(row));
	json_array_foreach(json_object_get(row, "held_by"), i, one)
		json_array_append(words, json_object_get(one, "kind"));
	json_object_set_new(shown, "held", words);
	return shown;
}

static void
put_rate(const struct top *top, FILE *out, const char *word, const char *key)
{
	const json_t *rate = json_object_get(top->whole, key);

	if (rate == NULL)
		fprintf(out, "%s -/s", word);
	else
		fprintf(out, "%s %.1f/s", word, json_real_value(rate));
}

static void
put_whole(const struct top *top, FILE *out)
{
	const json_t *w = top->whole;
	struct buf size = { 0 };

	put_rate(top, out, "accepted", "accepted_per_second");
	put_rate(top, out, "   delivered", "delivered_per_second");
	put_rate(top, out, "   deferred", "deferred_per_second");
	put_rate(top, out, "   bounced", "failed_per_second");
	fprintf(out, "%s\n", json_flag(w, "draining") ? "   draining" : "");
	text_size((uint64_t)json_i64(w, "queue_octets"), &size);
	fprintf(out, "queue %lld messages, %.*s", (long long)json_i64(w, "queue_messages"),
		SPAN_FMT(buf_span(&size)));
	buf_clear(&size);
	text_size((uint64_t)json_i64(w, "memory_octets"), &size);
	fprintf(out,
		"   in flight %lld   connections %lld in, %lld out   sites %lld   memory %.*s   "
		"log lines lost %lld\n\n",
		(long long)json_i64(w, "in_flight"), (long long)json_i64(w, "sessions"),
		(long long)json_i64(w, "connections_out"), (long long)json_i64(w, "window_sites"),
		SPAN_FMT(buf_span(&size)), (long long)json_i64(w, "log_lost"));
	buf_free(&size);
}

static void
put_picture(const struct top *top, FILE *out)
{
	bool tenants = top->request.tenants;
	struct table table;
	const json_t *row;
	size_t i;

	put_whole(top, out);
	table_init(&table, out, tenants ? tenant_columns : site_columns,
		   tenants ? COUNT(tenant_columns) : COUNT(site_columns));
	json_array_foreach(top->rows, i, row) {
		json_t *shown = shown_row(row);

		table_row(&table, shown);
		json_decref(shown);
	}
	table_end(&table);
	if (json_array_size(top->rows) == 0)
		fprintf(out, tenants ? "No tenant sends.\n" : "No site is known: nothing waits.\n");
}

static void
put_json(const struct top *top, FILE *out)
{
	const json_t *row;
	size_t i;

	json_array_foreach(top->rows, i, row) {
		json_dumpf(row, out, JSON_COMPACT);
		fputc('\n', out);
	}
	json_dumpf(top->whole, out, JSON_COMPACT);
	fputc('\n', out);
	fflush(out);
}

/* ---- at a terminal ------------------------------------------------------------------------ */

/* What a signal's handler must know to leave the terminal as it was. */
static struct termios as_it_was;
static volatile sig_atomic_t on_screen, has_modes;

static void
leave_screen(void)
{
	if (!on_screen)
		return;
	on_screen = 0;
	if (write(STDOUT_FILENO, LEAVE, sizeof(LEAVE) - 1) < 0)
		return;				/* then nobody looks at it */
	if (has_modes)
		tcsetattr(STDIN_FILENO, TCSANOW, &as_it_was);
}

/* Ctrl-C is an end like any other; what else ends a program says so in its status. */
static void
on_signal(int number)
{
	leave_screen();
	if (number == SIGINT)
		_exit(TRAMCTL_OK);
	signal(number, SIG_DFL);
	raise(number);
}

static void
on_resize(int number)
{
	(void)number;			/* poll() has returned: it is drawn anew */
}

static void
enter_screen(void)
{
	struct sigaction end = { .sa_handler = on_signal }, resize = { .sa_handler = on_resize };
	struct termios modes;

	has_modes = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &as_it_was) == 0;
	on_screen = 1;
	sigaction(SIGINT, &end, NULL);
	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGHUP, &end, NULL);
	sigaction(SIGWINCH, &resize, NULL);
	if (has_modes) {
		modes = as_it_was;
		modes.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
		modes.c_cc[VMIN] = 1;
		modes.c_cc[VTIME] = 0;
		modes.c_cc[VSUSP] = _POSIX_VDISABLE;
		tcsetattr(STDIN_FILENO, TCSANOW, &modes);
	}
	fputs(ENTER, stdout);
	fflush(stdout);
}

static void
measure(struct top *top)
{
	struct winsize size = { 0 };

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
		size = (struct winsize){ .ws_row = 24, .ws_col = 80 };
	top->lines = size.ws_row;
	top->columns = size.ws_col;
}

/* As much of it as there is room for: characters count, not octets. */
static struct span
cropped(struct span line, size_t columns)
{
	size_t width = 0;

	for (size_t i = 0; i < line.len; i++)
		if (((unsigned char)line.at[i] & 0xc0) != 0x80 && ++width > columns)
			return span_first(line, i);
	return line;
}

static void
draw(struct top *top)
{
	char *picture = NULL;
	size_t len = 0, line = 0;
	FILE *out = open_memstream(&picture, &len);
	struct span rest;

	if (out == NULL)
		return;
	put_picture(top, out);
	fclose(out);
	measure(top);
	fputs(HOME, stdout);
	for (rest = span_of(picture, len); rest.len > 0 && line + 1 < top->lines; line++) {
		struct span shown = cropped(span_cut(&rest, '\n'), top->columns);

		printf("%.*s" LINE_END "\n", SPAN_FMT(shown));
	}
	printf("%.*s" LINE_END REST, (int)top->columns, "q: end   t: sites, tenants   s: sort");
	fflush(stdout);
	free(picture);
}

/* False: the operator has seen enough. */
static bool
heed_key(struct top *top)
{
	char key;
	ssize_t n = read(STDIN_FILENO, &key, 1);

	if (n == 0 || (n < 0 && errno != EINTR))
		return false;
	if (n < 0)
		return true;
	if (key == 't')
		top->request.tenants = !top->request.tenants;
	if (key == 's') {
		top->sort = (top->sort + 1) % COUNT(sorts);
		top->request.sort = span_str(sorts[top->sort]);
	}
	return key != 'q' && key != 'Q';
}

static bool
wait_for_next(struct top *top, int ms)
{
	struct pollfd keys = { .fd = has_modes ? STDIN_FILENO : -1, .events = POLLIN };

	return poll(&keys, 1, ms) <= 0 || heed_key(top);
}

static int
live(struct top *top, int ms)
{
	int rc;

	/* what fails is told before the screen is another one */
	rc = tramctl_connect(top->t);
	if (rc != TRAMCTL_OK)
		return rc;
	measure(top);
	enter_screen();
	do {
		top->request.limit = top->lines > HEAD_LINES ? top->lines - HEAD_LINES : 1;
		rc = ask(top);
		if (rc == TRAMCTL_OK)
			draw(top);
	} while (rc == TRAMCTL_OK && wait_for_next(top, ms));
	leave_screen();
	return rc == TRAMCTL_OK ? rc : ask(top);	/* why, was said on the other screen */
}

/* ---- elsewhere ---------------------------------------------------------------------------- */

static int
once(struct top *top, int ms)
{
	int rc = ask(top);

	if (rc != TRAMCTL_OK)
		return rc;
	poll(NULL, 0, ms);
	rc = ask(top);
	if (rc == TRAMCTL_OK && top->t->json)
		put_json(top, stdout);
	else if (rc == TRAMCTL_OK)
		put_picture(top, stdout);
	return rc;
}

int
tramctl_run_top(struct tramctl *t)
{
	struct top top = { .t = t, .request = t->request };
	int ms = t->interval > 0 ? (int)(t->interval < 3600 ? t->interval : 3600) * 1000 : 1000;
	int rc;

	for (size_t i = 0; i < COUNT(sorts); i++)
		if (span_eq(t->request.sort, span_str(sorts[i])))
			top.sort = i;
	if (top.request.limit == 0)
		top.request.limit = ROWS_USUALLY;
	rc = !t->once && !t->json && isatty(STDOUT_FILENO) ? live(&top, ms) : once(&top, ms);
	json_decref(top.rows);
	json_decref(top.whole);
	return rc;
}
