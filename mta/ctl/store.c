/*
 * store: the store itself, without the daemon: check and salvage. See tramctl.h.
 *
 * As root, check becomes the owner of the queue's directory first, so that no file of root's
 * stays behind in it.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/base/id.h"
#include "mta/config/config.h"
#include "mta/control/text.h"
#include "mta/control/walk.h"
#include "mta/ctl/tramctl.h"
#include "mta/ctl/file.h"
#include "mta/ctl/text.h"
#include "queue/queue.h"

static int
become_owner(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return tramctl_fail(TRAMCTL_FAILED, "%s: %s", path, strerror(errno));
	if (geteuid() == 0 && st.st_uid != 0 && (setegid(st.st_gid) < 0 || seteuid(st.st_uid) < 0))
		return tramctl_fail(TRAMCTL_FAILED, "cannot become the owner of %s: %s", path,
				    strerror(errno));
	return TRAMCTL_OK;
}

/* ---- check -------------------------------------------------------------------------------- */

struct check {
	bool json;
	uint64_t faults;
};

static void
on_fault(void *arg, const char *fault)
{
	struct check *c = arg;
	json_t *object = json_object();

	c->faults++;
	if (c->json) {
		json_object_set_new(object, "fault", json_text(span_str(fault)));
		json_dumpf(object, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		printf("%s\n", fault);
	}
	json_decref(object);
}

static void
on_poisoned(void *arg, const char *why)
{
	(void)arg;
	fprintf(stderr, "tramctl: the store has failed: %s\n", why);
}

int
tramctl_run_check(struct tramctl *t)
{
	struct check check = { .json = t->json };
	struct queue_config config = { .readers = 2, .poisoned = on_poisoned };
	char error[QUEUE_ERROR_MAX];
	struct queue *queue;
	struct queue_facts facts;
	int rc = tramctl_load_config(t);

	if (rc == TRAMCTL_OK)
		rc = become_owner(t->config->queue.path);
	if (rc != TRAMCTL_OK)
		return rc;
	config.path = t->config->queue.path;
	config.map_size = t->config->queue.map_size;
	config.max_size = t->config->queue.max_size;
	config.min_free = t->config->queue.min_free;
	rc = queue_open(&config, &queue, error);
	if (rc == -EBUSY)
		return tramctl_fail(TRAMCTL_FAILED,
				    "tramd runs and holds the queue. Stop it first: tramctl stop");
	if (rc < 0)
		return tramctl_fail(TRAMCTL_FAILED, "%s", error);
	rc = queue_check(queue, on_fault, &check);
	queue_facts(queue, &facts);
	queue_close(queue);
	if (rc < 0 && check.faults == 0)
		return tramctl_fail(TRAMCTL_FAILED, "the check could not be ended: %s",
				    strerror(-rc));
	if (!t->json && check.faults == 0)
		printf("%llu messages, no fault\n", (unsigned long long)facts.messages);
	else if (!t->json)
		printf("%llu messages, %llu faults\n", (unsigned long long)facts.messages,
		       (unsigned long long)check.faults);
	return check.faults > 0 ? TRAMCTL_FAILED : TRAMCTL_OK;
}

/* ---- salvage ------------------------------------------------------------------------------ */

/* What may have been delivered already comes back held, so that it does not go out by itself. */
static int
put_recipients(struct archive_file *a, const struct queue_salvaged *found)
{
	const struct queue_message *m = &found->message;
	struct history_record history = { .state = found->doubtful ? HISTORY_HELD
								   : HISTORY_WAITING };
	int rc = TRAMCTL_OK;

	for (size_t i = 0; i < m->envelope.recipient_count && rc == TRAMCTL_OK; i++) {
		json_t *outer;

		if (!m->open[i])
			continue;
		outer = walk_recipient_json(&m->envelope.recipients[i], &history, NULL);
		rc = archive_put_json(a, ARCHIVE_RECIPIENT, json_object_get(outer, "recipient"));
		json_decref(outer);
	}
	return rc;
}

static bool
any_open(const struct queue_message *m)
{
	for (size_t i = 0; i < m->envelope.recipient_count; i++)
		if (m->open[i])
			return true;
	return false;
}

static int
on_message(void *arg, const struct queue_salvaged *found)
{
	struct archive_file *a = arg;
	struct span content = found->content;
	char id[ID_TEXT_LEN + 1];
	json_t *object;
	int rc;

	if (!any_open(&found->message))
		return 0;
	if (found->lost) {
		fprintf(stderr, "tramctl: message %s: its content is damaged; left out\n",
			id_format(found->message.record.id, id));
		return 0;
	}
	object = walk_message_json(found->message.record.id, &found->message);
	rc = archive_put_json(a, ARCHIVE_MESSAGE, object);
	json_decref(object);
	if (rc == TRAMCTL_OK)
		rc = put_recipients(a, found);
	for (; content.len > 0 && rc == TRAMCTL_OK; content = span_skip(content, CONTROL_PIECE))
		rc = archive_put(a, ARCHIVE_CONTENT, span_first(content, CONTROL_PIECE));
	if (rc == TRAMCTL_OK)
		rc = archive_put(a, ARCHIVE_MESSAGE_END, SPAN(""));
	return rc == TRAMCTL_OK ? 0 : -EIO;
}

static void
tell_salvaged(FILE *to, const struct archive_file *a, const struct queue_salvage_facts *facts)
{
	const unsigned long long messages = a->messages, doubtful = facts->doubtful;

	fprintf(to, "%llu message%s salvaged; import %s into a new queue\n", messages,
		messages == 1 ? "" : "s", messages == 1 ? "it" : "them");
	if (doubtful > 0)
		fprintf(to,
			"%llu of %s may have been delivered already, in whole or in part; what is "
			"imported of %s is held\n",
			doubtful, messages == 1 ? "it" : "them", doubtful == 1 ? "it" : "these");
	if (facts->guessed)
		fprintf(to, "the file does not say which commit was its last: this may include "
			    "messages that were delivered already\n");
	if (facts->expected > facts->messages + facts->lost)
		fprintf(to, "the store counts %llu: %llu could not be found\n",
			(unsigned long long)facts->expected,
			(unsigned long long)(facts->expected - facts->messages - facts->lost));
}

int
tramctl_run_salvage(struct tramctl *t)
{
	struct archive_file a = { 0 };
	struct queue_salvage_facts facts;
	char error[QUEUE_ERROR_MAX] = "";
	int rc = archive_create(&a, t->file), salvaged;

	if (rc != TRAMCTL_OK)
		return rc;
	salvaged = queue_salvage(t->store, on_message, &a, &facts, error);
	rc = archive_finish(&a);
	archive_close(&a);
	if (error[0] != '\0')
		tramctl_fail(TRAMCTL_FAILED, "%s", error);
	if (salvaged < 0 && a.messages == 0) {		/* nothing could be read: no archive */
		if (strcmp(t->file, "-") != 0)
			unlink(t->file);
		return TRAMCTL_FAILED;
	}
	tell_salvaged(strcmp(t->file, "-") == 0 ? stderr : stdout, &a, &facts);
	return salvaged < 0 ? TRAMCTL_FAILED : rc;
}
