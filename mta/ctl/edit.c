/*
 * edit: commands that change something; they print how much, and a count as they go at a
 * terminal.
 */
#include <unistd.h>

#include "mta/control/text.h"
#include "mta/ctl/tramctl.h"

struct progress {
	bool terminal, shown;
	uint64_t missing;
};

static void
on_edit_row(struct tramctl *t, const json_t *line, void *arg)
{
	const json_t *counts = json_object_get(line, "progress");
	struct span missing = json_span(line, "missing");
	struct progress *p = arg;

	(void)t;
	if (missing.len > 0) {
		fprintf(stderr, "%smessage %.*s is not in the queue\n", p->shown ? "\n" : "",
			SPAN_FMT(missing));
		p->shown = false;
	}
	if (counts != NULL && p->terminal) {
		fprintf(stderr, "\r%lld found, %lld changed", (long long)json_i64(counts, "found"),
			(long long)json_i64(counts, "changed"));
		p->shown = true;
	}
}

int
tramctl_run_edit(struct tramctl *t)
{
	static const char *const done[] = {
		[CONTROL_QUEUE_HOLD] = "on hold now", [CONTROL_QUEUE_RELEASE] = "released",
		[CONTROL_QUEUE_RETRY] = "due now", [CONTROL_QUEUE_BOUNCE] = "returned to sender",
		[CONTROL_QUEUE_REMOVE] = "removed", [CONTROL_QUEUE_SET] = "changed",
	};
	struct progress p = { .terminal = isatty(STDERR_FILENO) };
	json_t *last = NULL;
	long long changed;
	int rc = tramctl_ask(t, &t->request, on_edit_row, &p, &last);

	if (p.shown)
		fprintf(stderr, "\n");
	if (rc != TRAMCTL_OK)
		return rc;
	changed = json_i64(last, "changed");
	if (!t->json)
		printf("%lld recipient%s %s\n", changed, changed == 1 ? "" : "s",
		       done[t->request.command]);
	rc = json_i64(last, "missing") > 0 ? TRAMCTL_FAILED : TRAMCTL_OK;
	json_decref(last);
	return rc;
}

static void
say_done(const struct tramctl *t, const json_t *last)
{
	struct span message = json_span(last, "message");

	switch (t->request.command) {
	case CONTROL_RELOAD:
		printf("The configuration was read again.%s%.*s\n", message.len > 0 ? " " : "",
		       SPAN_FMT(message));
		break;
	case CONTROL_SITES_RETRY:
		printf("It is tried now.\n");
		break;
	case CONTROL_SITES_SUSPEND:
		printf("Nothing is sent there any more.\n");
		break;
	case CONTROL_SITES_RESUME:
		printf("Mail is sent there again.\n");
		break;
	case CONTROL_SITES_RESET:
		printf("It begins anew.\n");
		break;
	case CONTROL_SUPPRESS_ADD:
		printf("No mail is sent there any more.\n");
		break;
	case CONTROL_SUPPRESS_REMOVE:
		printf("Mail is sent there again.\n");
		break;
	case CONTROL_PARDON:
		printf("Its failed logins are forgotten.\n");
		break;
	default:
		printf("tramd stops.\n");
	}
}

int
tramctl_run_plain(struct tramctl *t)
{
	json_t *last = NULL;
	int rc = tramctl_ask(t, &t->request, NULL, NULL, &last);

	if (rc == TRAMCTL_OK && !t->json)
		say_done(t, last);
	json_decref(last);
	return rc;
}
