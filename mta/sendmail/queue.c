/* queue: mailq and -q, by way of the control socket: for those who may open it. */
#include <errno.h>
#include <stdio.h>
#include <sysexits.h>

#include "mta/base/id.h"
#include "mta/control/client.h"
#include "mta/control/text.h"
#include "mta/sendmail/sendmail.h"
#include "mta/ctl/text.h"

static const struct column columns[] = {
	{ "ID", "id", COLUMN_TEXT, NULL }, { "SIZE", "size", COLUMN_SIZE, NULL },
	{ "ARRIVED", "arrival_ms", COLUMN_TIME, NULL }, { "STATE", "state", COLUMN_TEXT, NULL },
	{ "SENDER", "sender", COLUMN_TEXT, "<>" }, { "RECIPIENT", "recipient", COLUMN_TEXT, NULL },
	{ "LAST ERROR", "error", COLUMN_TEXT, NULL },
};

/* The whole answer; *ret is its last line. */
static int
ask(const struct sendmail *s, const struct control_request *request, struct table *table,
    json_t **ret)
{
	struct control_client client;
	json_t *line = NULL;
	int rc = control_client_open(&client, s->control);

	if (rc == -EACCES || rc == -EPERM)
		return sendmail_fail(EX_NOPERM,
				     "you may not see the queue: %s is for its operators",
				     s->control);
	if (rc < 0)
		return sendmail_fail(EX_TEMPFAIL, "tramd does not answer at %s: %s", s->control,
				     strerror(-rc));
	rc = control_client_ask(&client, request);
	while (rc == 0 && (line = control_client_next(&client)) != NULL) {
		if (json_flag(line, "end") || json_object_get(line, "hint") != NULL)
			break;
		if (table != NULL)
			table_row(table, line);
		json_decref(line);
	}
	control_client_close(&client);
	if (line == NULL)
		return sendmail_fail(EX_TEMPFAIL, "the connection to tramd was lost");
	if (json_object_get(line, "hint") != NULL) {
		rc = sendmail_fail(EX_UNAVAILABLE, "%s", json_span(line, "error").at);
		json_decref(line);
		return rc;
	}
	*ret = line;
	return EX_OK;
}

int
sendmail_list(const struct sendmail *s)
{
	struct control_request request = { .command = CONTROL_QUEUE_LIST };
	struct table table;
	json_t *last = NULL;
	int rc;

	table_init(&table, stdout, columns, sizeof(columns) / sizeof(columns[0]));
	rc = ask(s, &request, &table, &last);
	table_end(&table);
	if (rc == EX_OK && json_i64(last, "rows") == 0)
		printf("Mail queue is empty\n");
	json_decref(last);
	return rc;
}

int
sendmail_run_queue(const struct sendmail *s)
{
	struct control_request request = { .command = CONTROL_QUEUE_RETRY,
					   .sender = s->queue_sender };
	json_t *last = NULL;
	uint64_t id;
	int rc;

	if (s->queue_id.len > 0 && !id_parse(s->queue_id, &id))
		return sendmail_fail(EX_USAGE, "-qI takes the id of a message");
	if (s->queue_id.len > 0) {
		request.ids = &id;
		request.id_count = 1;
	}
	if (span_find(s->queue_recipient, '@') != NULL)
		request.recipient = s->queue_recipient;
	else
		request.domain = s->queue_recipient;
	request.all = !control_selects(&request);
	rc = ask(s, &request, NULL, &last);
	json_decref(last);
	return rc;
}
