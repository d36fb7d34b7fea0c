/*
 * drain: tramctl drain: asks for it, then looks on until nothing goes any more, and says what is
 * left. To interrupt it ends the looking on, not the drain. See tramctl.h.
 */
#include <time.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/control/text.h"
#include "mta/ctl/text.h"
#include "mta/ctl/tramctl.h"

enum { LOOK_MS = 300, SHOWN = 20 };

/* The answer's last line is not printed: it may be one of many. */
static int
ask_quietly(struct tramctl *t, const struct control_request *request, json_t **last)
{
	bool json = t->json;
	int rc;

	t->json = false;
	rc = tramctl_ask(t, request, NULL, NULL, last);
	t->json = json;
	return rc;
}

static void
show_progress(const json_t *state, bool *shown)
{
	if (!isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r%lld messages left, %lld on their way, %lld sessions open \033[K",
		(long long)json_i64(state, "messages"), (long long)json_i64(state, "in_flight"),
		(long long)json_i64(state, "sessions"));
	*shown = true;
}

/* Until nothing goes any more, or the drain has been ended. */
static int
look_on(struct tramctl *t, json_t **ret)
{
	const struct control_request look = { .command = CONTROL_DRAIN_STATE };
	const struct timespec pause = { .tv_nsec = LOOK_MS * 1000000L };
	bool shown = false;
	int rc;

	for (;;) {
		rc = ask_quietly(t, &look, ret);
		if (rc != TRAMCTL_OK || !json_flag(*ret, "draining") || !json_flag(*ret, "busy"))
			break;
		show_progress(*ret, &shown);
		json_decref(*ret);
		*ret = NULL;
		nanosleep(&pause, NULL);
	}
	if (shown)
		fprintf(stderr, "\n");
	return rc;
}

static void
print_left(const json_t *state)
{
	int64_t messages = json_i64(state, "messages"), waiting = json_i64(state, "waiting"),
		held = json_i64(state, "held");
	struct buf when = { 0 };

	printf("%lld message%s left.\n", (long long)messages, messages == 1 ? " is" : "s are");
	if (waiting > 0) {
		text_time(json_i64(state, "next_ms"), wall_ms(), &when);
		printf("%lld recipient%s for a later try, the next %.*s.\n", (long long)waiting,
		       waiting == 1 ? " waits" : "s wait", SPAN_FMT(buf_span(&when)));
	}
	if (held > 0)
		printf("%lld recipient%s on hold.\n", (long long)held, held == 1 ? " is" : "s are");
	buf_free(&when);
}

static int
say_left(struct tramctl *t, const json_t *state)
{
	const struct control_request list = { .command = CONTROL_QUEUE_LIST, .limit = SHOWN };
	int64_t rows = json_i64(state, "waiting") + json_i64(state, "held");

	if (t->json) {
		json_dumpf(state, stdout, JSON_COMPACT);
		putchar('\n');
	}
	if (rows == 0) {
		if (!t->json)
			printf("The queue is empty. Nothing is accepted until: tramctl drain "
			       "--off\n");
		return TRAMCTL_OK;
	}
	if (!t->json) {
		print_left(state);
		tramctl_print_list(t, &list);
		if (rows > SHOWN)
			printf("and %lld more: tramctl queue list\n", (long long)(rows - SHOWN));
	}
	return TRAMCTL_LEFT;
}

int
tramctl_run_drain(struct tramctl *t)
{
	json_t *last = NULL;
	int rc;

	if (t->request.off || t->no_wait) {
		rc = tramctl_ask(t, &t->request, NULL, NULL, &last);
		if (rc == TRAMCTL_OK && !t->json)
			printf("%s\n", t->request.off ? "Mail is accepted again."
						      : "Nothing more is accepted; what is queued "
							"is delivered.");
		json_decref(last);
		return rc;
	}
	rc = ask_quietly(t, &t->request, &last);
	json_decref(last);
	last = NULL;
	if (rc == TRAMCTL_OK)
		rc = look_on(t, &last);
	if (rc == TRAMCTL_OK && !json_flag(last, "draining"))
		rc = tramctl_fail(TRAMCTL_FAILED,
				  "somebody has ended the drain: mail is accepted again.");
	else if (rc == TRAMCTL_OK)
		rc = say_left(t, last);
	json_decref(last);
	return rc;
}
