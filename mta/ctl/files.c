/* files: queue cat and queue import: content to and from the daemon. See tramctl.h. */
#include <stdlib.h>

#include "mta/control/text.h"
#include "mta/ctl/tramctl.h"
#include "mta/ctl/file.h"
#include "mta/ctl/text.h"
#include "queue/record.h"

/* ---- cat ---------------------------------------------------------------------------------- */

static void
on_cat_row(struct tramctl *t, const json_t *line, void *arg)
{
	struct arena scratch = { 0 };
	struct span octets;

	(void)t;
	(void)arg;
	if (base64_decode(json_span(line, "content"), &scratch, &octets))
		fwrite(octets.at, 1, octets.len, stdout);
	arena_free(&scratch);
}

int
tramctl_run_cat(struct tramctl *t)
{
	json_t *last = NULL;
	int rc = tramctl_ask(t, &t->request, on_cat_row, NULL, &last);

	json_decref(last);
	return rc;
}

/* ---- import ------------------------------------------------------------------------------- */

static uint64_t
number(const json_t *object, const char *key)
{
	int64_t n = json_i64(object, key);

	return n < 0 ? 0 : (uint64_t)n;
}

/* Not in an archive of an older version: then it is judged anew. */
static struct control_priority
priority(const json_t *object)
{
	int64_t mt = json_i64(object, "priority");
	bool given = json_object_get(object, "priority") != NULL;

	return (struct control_priority){ .given = given && mt >= -PRIORITY_MT_MAX &&
					  mt <= PRIORITY_MT_MAX, .mt = (int8_t)mt };
}

static uint64_t
by_mode(const json_t *m)
{
	struct span mode = json_span(m, "by_mode");

	return span_eq(mode, SPAN("return"))   ? BY_RETURN
	       : span_eq(mode, SPAN("notify")) ? BY_NOTIFY
					       : BY_NONE;
}

static void
message_request(const json_t *m, struct control_request *r)
{
	*r = (struct control_request){ .command = CONTROL_IMPORT_MESSAGE,
				       .reverse_path = json_span(m, "reverse_path"),
				       .envid = json_span(m, "envid"),
				       .client = json_span(m, "client"),
				       .user = json_span(m, "user"),
				       .ret = number(m, "ret"),
				       .body = number(m, "body"),
				       .flags = number(m, "flags"),
				       .arrival_ms = number(m, "arrival_ms"),
				       .header_size = number(m, "header_size"),
				       .body_size = number(m, "body_size"),
				       .priority = priority(m),
				       .release_ms = number(m, "release_ms"),
				       .by_ms = number(m, "by_ms"),
				       .by_mode = by_mode(m),
				       .by_trace = json_flag(m, "by_trace"),
				       .smtputf8 = json_flag(m, "smtputf8") };
}

static void
recipient_request(const json_t *m, struct control_request *r)
{
	*r = (struct control_request){ .command = CONTROL_IMPORT_RECIPIENT,
				       .address = json_span(m, "address"),
				       .orcpt = json_span(m, "orcpt"),
				       .tenant = json_span(m, "tenant"),
				       .pool = json_span(m, "pool"),
				       .priority = priority(m),
				       .notify = number(m, "notify"),
				       .due_ms = number(m, "due_ms"),
				       .attempts = number(m, "attempts"),
				       .action = number(m, "action"),
				       .uncertain = json_flag(m, "uncertain"),
				       .warned = json_flag(m, "warned") };
	if (r->attempts > CONTROL_ATTEMPTS_MAX)
		r->attempts = CONTROL_ATTEMPTS_MAX;
	control_state_parse(json_span(m, "state"), &r->state);
}

static void
attempt_request(const json_t *a, struct control_request *r)
{
	*r = (struct control_request){ .command = CONTROL_IMPORT_ATTEMPT,
				       .at_ms = number(a, "at_ms"),
				       .host = json_span(a, "host"),
				       .peer = json_span(a, "address"),
				       .stage = number(a, "stage"),
				       .code = number(a, "code"),
				       .status = json_span(a, "status"),
				       .text = json_span(a, "text"),
				       .source = json_span(a, "source"),
				       .tls = json_span(a, "tls"),
				       .tls_policy = json_span(a, "tls_policy"),
				       .tls_resumed = json_flag(a, "tls_resumed") };
}

static int
ask_one(struct tramctl *t, const struct control_request *request)
{
	json_t *last = NULL;
	bool json = t->json;
	int rc;

	t->json = false;
	rc = tramctl_ask(t, request, NULL, NULL, &last);
	t->json = json;
	if (rc == TRAMCTL_OK && request->command == CONTROL_IMPORT_COMMIT && json)
		printf("{\"id\":\"%s\"}\n", json_span(last, "id").at);
	json_decref(last);
	return rc;
}

static int
import_attempts(struct tramctl *t, const json_t *recipient)
{
	struct control_request request;
	int rc = TRAMCTL_OK;
	json_t *one;
	size_t i;

	json_array_foreach(json_object_get(recipient, "tries"), i, one) {
		attempt_request(one, &request);
		if (rc == TRAMCTL_OK)
			rc = ask_one(t, &request);
	}
	return rc;
}

static int
import_record(struct tramctl *t, enum archive_type type, struct span payload)
{
	struct control_request request = { 0 };
	json_t *object = NULL;
	int rc;

	if (type == ARCHIVE_MESSAGE || type == ARCHIVE_RECIPIENT) {
		object = json_loadb(payload.at, payload.len, 0, NULL);
		if (object == NULL)
			return tramctl_fail(TRAMCTL_FAILED, "%s: it is damaged", t->file);
		if (type == ARCHIVE_MESSAGE)
			message_request(object, &request);
		else
			recipient_request(object, &request);
	} else if (type == ARCHIVE_MESSAGE_END) {
		request.command = CONTROL_IMPORT_COMMIT;
	} else {
		request.command = CONTROL_IMPORT_CONTENT;
		request.data = payload;
	}
	rc = ask_one(t, &request);
	if (rc == TRAMCTL_OK && type == ARCHIVE_RECIPIENT)
		rc = import_attempts(t, object);
	json_decref(object);
	return rc;
}

int
tramctl_run_import(struct tramctl *t)
{
	struct archive_file a = { 0 };
	enum archive_type type = ARCHIVE_ABOUT;
	struct span payload;
	uint64_t messages = 0;
	int rc = archive_open(&a, t->file);

	if (rc == TRAMCTL_OK)
		rc = archive_verify(&a);
	if (rc == TRAMCTL_OK)
		rc = tramctl_connect(t);
	if (rc == TRAMCTL_OK)
		fprintf(stderr, "Mail of this archive that went out since it was made goes out a "
				"second time.\n");
	while (rc == TRAMCTL_OK && type != ARCHIVE_END) {
		rc = archive_next(&a, &type, &payload);
		if (rc == TRAMCTL_OK && type != ARCHIVE_ABOUT && type != ARCHIVE_END)
			rc = import_record(t, type, payload);
		messages += rc == TRAMCTL_OK && type == ARCHIVE_MESSAGE_END;
	}
	archive_close(&a);
	if (rc != TRAMCTL_OK && messages > 0)
		tramctl_fail(rc,
			     "the first %llu messages were imported: to import the archive again "
			     "repeats them.",
			     (unsigned long long)messages);
	if (rc == TRAMCTL_OK && !t->json)
		printf("%llu message%s queued\n", (unsigned long long)messages,
		       messages == 1 ? "" : "s");
	return rc;
}
