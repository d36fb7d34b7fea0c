/*
 * tramctl: the operator's tool: main, the connection, and how one call becomes requests. See
 * tramctl.h.
 */
#include "mta/ctl/tramctl.h"

#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>

#include "mta/base/id.h"
#include "mta/config/config.h"
#include "mta/control/text.h"
#include "mta/ctl/text.h"

int
tramctl_fail(int code, const char *format, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, format);
	fprintf(stderr, "tramctl: ");
	vfprintf(stderr, format, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	return code;
}

int
tramctl_load_config(struct tramctl *t)
{
	char error[CONFIG_ERROR_MAX];

	if (t->config == NULL && config_load(t->config_path, &t->config, error, NULL) < 0)
		return tramctl_fail(TRAMCTL_CONFIG, "%s", error);
	return TRAMCTL_OK;
}

static int
connect_failed(const char *path, int error)
{
	if (error == -ENOENT || error == -ECONNREFUSED)
		return tramctl_fail(TRAMCTL_NOT_RUNNING,
				    "tramd does not run: nobody listens at %s.\n"
				    "Start it, or name its configuration: tramctl -c FILE",
				    path);
	if (error == -EACCES || error == -EPERM)
		return tramctl_fail(TRAMCTL_NOT_PERMITTED,
				    "you may not open %s.\n"
				    "Be root, tramd's user, or a member of the socket's group.",
				    path);
	return tramctl_fail(TRAMCTL_FAILED, "%s: %s", path, strerror(-error));
}

/*
 * 0 or an exit code. With a mistake in the file the socket is looked for all the same: tramd may
 * run without it.
 */
static int
find_socket(struct tramctl *t, const char **path)
{
	char error[CONFIG_ERROR_MAX];
	int rc = t->config == NULL ? config_load(t->config_path, &t->config, error, NULL) : 0;

	*path = rc < 0 ? control_client_find(t->config_path, &t->arena) : t->config->control;
	if (*path != NULL)
		return TRAMCTL_OK;
	if (rc < 0)
		return tramctl_fail(TRAMCTL_CONFIG, "%s", error);
	return tramctl_fail(TRAMCTL_CONFIG,
			    "%s sets no control socket.\nAdd: control = \"/run/tram/control\"",
			    t->config_path);
}

/* *error is told by the caller: that nobody listens may be no failure. */
static int
open_socket(struct tramctl *t, const char **path, int *error)
{
	int rc;

	*error = 0;
	if (t->client.fd >= 0)
		return TRAMCTL_OK;
	rc = find_socket(t, path);
	if (rc == TRAMCTL_OK)
		*error = control_client_open(&t->client, *path);
	return rc;
}

int
tramctl_connect(struct tramctl *t)
{
	const char *path = NULL;
	int error, rc = open_socket(t, &path, &error);

	return error < 0 ? connect_failed(path, error) : rc;
}

int
tramctl_try_connect(struct tramctl *t)
{
	const char *path = NULL;
	int error, rc = open_socket(t, &path, &error);

	if (error == -ENOENT || error == -ECONNREFUSED)
		return TRAMCTL_NOT_RUNNING;
	return error < 0 ? connect_failed(path, error) : rc;
}

static void
print_json(const json_t *line)
{
	json_dumpf(line, stdout, JSON_COMPACT);
	putchar('\n');
}

static int
answer_failed(const json_t *line)
{
	struct buf text = { 0 };
	int rc;

	text_safe(json_span(line, "error"), &text);
	if (json_span(line, "hint").len > 0) {
		buf_byte(&text, '\n');
		text_safe(json_span(line, "hint"), &text);
	}
	rc = tramctl_fail(TRAMCTL_FAILED, "%.*s", SPAN_FMT(buf_span(&text)));
	buf_free(&text);
	return rc;
}

/*
 * What moves while a list is made may be met twice, before and behind its move: it is listed as
 * it was met first.
 */
static bool
listed_before(struct tramctl *t, const struct control_request *request, const json_t *line)
{
	uint64_t id;

	return request->command == CONTROL_QUEUE_LIST && id_parse(json_span(line, "id"), &id) &&
	       !seen_add(&t->seen, id, (uint32_t)json_i64(line, "number"));
}

/* One request and its answer. */
static int
ask_once(struct tramctl *t, const struct control_request *request,
	 void (*row)(struct tramctl *t, const json_t *line, void *arg), void *arg, json_t **last)
{
	int rc = control_client_ask(&t->client, request);
	int64_t dropped = 0;
	json_t *line;

	if (rc == -EINVAL)
		return tramctl_fail(TRAMCTL_USAGE, "an argument is too long, or not UTF-8.");
	if (rc < 0)
		return tramctl_fail(TRAMCTL_FAILED, "the connection to tramd was lost: %s",
				    strerror(-rc));
	while ((line = control_client_next(&t->client)) != NULL) {
		if (json_object_get(line, "hint") != NULL) {
			rc = answer_failed(line);
			json_decref(line);
			return rc;
		}
		if (json_flag(line, "end")) {
			if (dropped > 0)
				json_object_set_new(line, "rows",
						    json_integer(json_i64(line, "rows") - dropped));
			if (t->json)
				print_json(line);
			*last = line;
			return TRAMCTL_OK;
		}
		if (listed_before(t, request, line))
			dropped++;
		else if (t->json)
			print_json(line);
		else if (row != NULL)
			row(t, line, arg);
		json_decref(line);
	}
	/* it stops before its last line, or behind it */
	if (request->command == CONTROL_STOP) {
		*last = json_object();
		return TRAMCTL_OK;
	}
	return tramctl_fail(TRAMCTL_FAILED,
			    "tramd has closed the connection in the middle of its answer.");
}

/* The numbers of several answers, as one. */
static void
add_up(json_t *sum, const json_t *more)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)more, key, value) if (json_is_integer(value))
		json_object_set_new(sum, key,
				    json_integer(json_i64(sum, key) + json_integer_value(value)));
}

int
tramctl_ask(struct tramctl *t, const struct control_request *request,
	    void (*row)(struct tramctl *t, const json_t *line, void *arg), void *arg, json_t **last)
{
	struct control_request part = *request;
	size_t done = 0;
	int rc = tramctl_connect(t);

	*last = NULL;
	while (rc == TRAMCTL_OK && (*last == NULL || done < t->id_count)) {
		json_t *one = NULL;

		part.ids = t->ids == NULL ? NULL : t->ids + done;
		part.id_count =
			t->id_count - done < CONTROL_IDS_MAX ? t->id_count - done : CONTROL_IDS_MAX;
		done += part.id_count;
		rc = ask_once(t, &part, row, arg, &one);
		if (rc != TRAMCTL_OK)
			break;
		if (*last == NULL) {
			*last = one;
		} else {
			add_up(*last, one);
			json_decref(one);
		}
	}
	if (rc != TRAMCTL_OK) {
		json_decref(*last);
		*last = NULL;
	}
	return rc;
}

int
main(int argc, char **argv)
{
	struct tramctl t;
	int rc = TRAMCTL_OK;

	setlocale(LC_TIME, "");
	if (!tramctl_parse(argc, argv, &t))
		rc = TRAMCTL_USAGE;
	else if (t.list_options)
		tramctl_list_options();
	else if (t.version)
		printf("tramctl %s\n", TRAM_VERSION);
	else if (t.help)
		tramctl_help(&t);
	else
		rc = t.command->run(&t);
	control_client_close(&t.client);
	config_free(t.config);
	arena_free(&t.arena);
	seen_free(&t.seen);
	if ((fflush(stdout) != 0 || ferror(stdout)) && rc == TRAMCTL_OK)
		rc = tramctl_fail(TRAMCTL_FAILED, "standard output: %s", strerror(errno));
	return rc;
}
