/*
 * export: queue export: from the daemon, or, where none runs, from the store itself, read only.
 * Both ways the same lines become the same archive. See tramctl.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/id.h"
#include "mta/config/config.h"
#include "mta/control/text.h"
#include "mta/control/walk.h"
#include "mta/ctl/file.h"
#include "mta/ctl/text.h"
#include "mta/ctl/tramctl.h"
#include "queue/reader.h"

struct exporting {
	struct archive_file file;
	uint64_t missing;
	int rc;
};

static void
say_missing(struct exporting *e, const char *id)
{
	e->missing++;
	tramctl_fail(TRAMCTL_OK, "message %s is not in the queue", id);
}

/* ---- from the daemon ---------------------------------------------------------------------- */

static int
export_line(struct exporting *e, const json_t *line)
{
	const json_t *message = json_object_get(line, "message"),
		     *recipient = json_object_get(line, "recipient");
	struct arena scratch = { 0 };
	struct span octets;
	int rc;

	if (message != NULL)
		return archive_put_json(&e->file, ARCHIVE_MESSAGE, message);
	if (recipient != NULL)
		return archive_put_json(&e->file, ARCHIVE_RECIPIENT, recipient);
	if (json_object_get(line, "message_end") != NULL)
		return archive_put(&e->file, ARCHIVE_MESSAGE_END, SPAN(""));
	if (json_object_get(line, "missing") != NULL) {
		say_missing(e, json_span(line, "missing").at);
		return TRAMCTL_OK;
	}
	if (!base64_decode(json_span(line, "content"), &scratch, &octets))
		rc = tramctl_fail(TRAMCTL_FAILED,
				  "tramd's answer is not understood; is it of the same version?");
	else
		rc = archive_put(&e->file, ARCHIVE_CONTENT, octets);
	arena_free(&scratch);
	return rc;
}

static void
on_export_row(struct tramctl *t, const json_t *line, void *arg)
{
	struct exporting *e = arg;

	(void)t;
	if (e->rc == TRAMCTL_OK)
		e->rc = export_line(e, line);
}

static int
export_asking(struct tramctl *t, struct exporting *e)
{
	json_t *last = NULL;
	int rc = tramctl_ask(t, &t->request, on_export_row, e, &last);

	json_decref(last);
	return rc;
}

/* ---- from the store ----------------------------------------------------------------------- */

static int
store_failed(const char *path, int error)
{
	if (error == -EBADMSG)
		return tramctl_fail(
			TRAMCTL_FAILED,
			"a record of the queue in %s is damaged; what can be read of it: "
			"tramctl queue salvage",
			path);
	return tramctl_fail(TRAMCTL_FAILED, "%s: %s", path, strerror(-error));
}

static int
put_content(struct exporting *e, const char *path, struct queue_port *port,
	    const struct message_record *record)
{
	struct buf piece = { 0 };
	uint64_t at = 0;
	int rc = TRAMCTL_OK;

	while (rc == TRAMCTL_OK) {
		int error = queue_read_content(port, record, at, CONTROL_PIECE, true, &piece);

		if (error < 0)
			rc = store_failed(path, error);
		if (error < 0 || buf_len(&piece) == 0)
			break;
		rc = archive_put(&e->file, ARCHIVE_CONTENT, buf_span(&piece));
		at += buf_len(&piece);
		buf_clear(&piece);
	}
	buf_free(&piece);
	return rc;
}

/*
 * Its own line and its recipients come with its rows, then its content; so that is written when
 * the next one begins.
 */
struct message_now {
	struct arena arena;
	struct message_record record;
	bool any;
};

static int
end_message(struct exporting *e, const char *path, struct queue_port *port, struct message_now *now)
{
	int rc;

	if (!now->any)
		return TRAMCTL_OK;
	rc = put_content(e, path, port, &now->record);
	if (rc == TRAMCTL_OK)
		rc = archive_put(&e->file, ARCHIVE_MESSAGE_END, SPAN(""));
	now->any = false;
	arena_free(&now->arena);
	return rc;
}

static int
begin_message(struct exporting *e, struct message_now *now, const struct walk_row *row)
{
	const struct message_record *from = &row->message->record;
	json_t *object = walk_message_json(row->id, row->message);
	int rc = archive_put_json(&e->file, ARCHIVE_MESSAGE, object);

	json_decref(object);
	now->record = *from;
	now->record.crcs = arena_alloc(&now->arena, from->crc_count * sizeof(*from->crcs) + 1);
	if (from->crc_count > 0)
		memcpy(now->record.crcs, from->crcs, from->crc_count * sizeof(*from->crcs));
	now->any = true;
	return rc;
}

static int
put_row(struct exporting *e, const char *path, const struct walk *walk, struct message_now *now,
	const struct walk_row *row)
{
	int rc = TRAMCTL_OK;
	json_t *object;

	if (now->any && now->record.id != row->id)
		rc = end_message(e, path, walk->source.port, now);
	if (rc == TRAMCTL_OK && !now->any)
		rc = begin_message(e, now, row);
	if (rc != TRAMCTL_OK)
		return rc;
	object = walk_exported_json(walk, row);
	rc = archive_put_json(&e->file, ARCHIVE_RECIPIENT, json_object_get(object, "recipient"));
	json_decref(object);
	return rc;
}

static int
export_walk(struct exporting *e, const char *path, struct walk *walk)
{
	struct message_now now = { 0 };
	int rc = TRAMCTL_OK, error = 0;
	enum walk_result result = WALK_PAUSE;
	char text[ID_TEXT_LEN + 1];
	struct walk_row row;

	while (rc == TRAMCTL_OK && result != WALK_DONE) {
		size_t budget = SIZE_MAX;

		result = walk_next(walk, &budget, &row, &error);
		if (result == WALK_ROW)
			rc = put_row(e, path, walk, &now, &row);
		else if (result == WALK_MISSING)
			say_missing(e, id_format(row.id, text));
		else if (result == WALK_ERROR)
			rc = store_failed(path, error);
	}
	if (rc == TRAMCTL_OK)
		rc = end_message(e, path, walk->source.port, &now);
	arena_free(&now.arena);
	return rc;
}

/* The filters as the daemon would read them: domains in lower case. All the ids at once. */
static int
read_filters(struct tramctl *t, struct control_request *ret)
{
	struct control_request asked = t->request;
	struct control_error error = { SPAN("an argument is too long, or not UTF-8."), SPAN("") };
	struct buf line = { 0 };
	bool ok;

	asked.all = !control_selects(&asked);
	ok = control_request_format(&asked, &line) &&
	     control_request_parse(span_first(buf_span(&line), buf_len(&line) - 1), &t->arena, ret,
				   &error);
	buf_free(&line);
	ret->ids = t->ids;
	ret->id_count = t->id_count;
	return ok ? TRAMCTL_OK
		  : tramctl_fail(TRAMCTL_USAGE, "%.*s", SPAN_FMT(error.text));
}

static int
export_reading(struct tramctl *t, struct queue_reader *reader, struct exporting *e)
{
	struct walk_source source = { .port = queue_reader_port(reader), .below = UINT64_MAX };
	struct control_request filter = { 0 };
	struct walk *walk;
	int rc = read_filters(t, &filter);

	if (rc != TRAMCTL_OK)
		return rc;
	walk = xcalloc(1, sizeof(*walk));
	walk_init(walk, &source, &filter, WALK_BY_MESSAGE);
	rc = export_walk(e, t->config->queue.path, walk);
	walk_free(walk);
	free(walk);
	return rc;
}

/* ---- either ------------------------------------------------------------------------------- */

/*
 * *reader: none answers at the socket and none holds the queue, so it is read here. NULL: ask the
 * daemon.
 */
static int
find_source(struct tramctl *t, struct queue_reader **reader)
{
	char error[QUEUE_ERROR_MAX];
	int rc = tramctl_try_connect(t);

	*reader = NULL;
	if (rc != TRAMCTL_NOT_RUNNING)
		return rc;
	rc = tramctl_load_config(t);
	if (rc != TRAMCTL_OK)
		return rc;
	rc = queue_reader_open(t->config->queue.path, reader, error);
	if (rc == -EBUSY)
		return tramctl_fail(TRAMCTL_NOT_RUNNING,
				    "%s, but nobody answers at its control socket.\n"
				    "It may be starting or ending: ask again.", error);
	return rc < 0 ? tramctl_fail(TRAMCTL_FAILED, "%s", error) : TRAMCTL_OK;
}

static int
export_to(struct tramctl *t, struct queue_reader *reader)
{
	struct exporting e = { 0 };
	int rc = archive_create(&e.file, t->file);

	if (rc != TRAMCTL_OK)
		return rc;
	rc = reader != NULL ? export_reading(t, reader, &e) : export_asking(t, &e);
	if (rc == TRAMCTL_OK)
		rc = e.rc;
	if (rc == TRAMCTL_OK)
		rc = archive_finish(&e.file);
	archive_close(&e.file);
	if (rc != TRAMCTL_OK)
		return tramctl_fail(rc, "%s is not complete and cannot be imported.", t->file);
	fprintf(strcmp(t->file, "-") == 0 ? stderr : stdout,
		"%llu message%s, %llu octets of content%s\n", (unsigned long long)e.file.messages,
		e.file.messages == 1 ? "" : "s", (unsigned long long)e.file.octets,
		reader != NULL ? " (tramd does not run: read from its queue)" : "");
	return e.missing > 0 ? TRAMCTL_FAILED : TRAMCTL_OK;
}

int
tramctl_run_export(struct tramctl *t)
{
	struct queue_reader *reader;
	int rc = find_source(t, &reader);

	t->request.all = t->id_count == 0 && !control_selects(&t->request);
	t->json = false;
	if (rc == TRAMCTL_OK)
		rc = export_to(t, reader);
	queue_reader_close(reader);
	return rc;
}
