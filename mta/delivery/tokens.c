/*
 * tokens: see tokens.h. Home loop, but for tokens_ask(), answers that arrive at the loop that
 * asked, and run_command(), which has a thread of its own while it runs.
 */
#include "mta/delivery/tokens.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mta/auth/prep.h"
#include "mta/base/clock.h"
#include "mta/base/list.h"
#include "mta/base/log.h"
#include "mta/delivery/token_answer.h"

enum { MARGIN_MS = 60000, MARGIN_PART = 5 };	/* a token ends so long before it expires */

struct entry {
	struct list node;
	struct tokens *tokens;
	struct arena arena;
	struct span route;			/* of who asked first, for the log */
	char **argv;
	struct buf token;
	uint64_t number;			/* of the token; 0: there is none */
	int64_t until_ms;			/* monotonic */
	struct letters waiting;
	/* a run */
	bool running, forgotten;
	uv_thread_t thread;
	struct command_run run;
	int64_t began_ms, lifetime_ms;
	/* the thread's until `ended` */
	atomic_bool ended;
	struct token_answer answer;
	char why[COMMAND_WHY_MAX];
};

struct tokens {
	struct post *home;
	const struct command_runner *runner;
	struct list entries;
	uint64_t last_number;
	uv_async_t wake;
	int stop;				/* an eventfd: readable once we close */
	bool closing;
};

/* ---- answers ------------------------------------------------------------------------------ */

static void
on_answer(struct letter *letter)
{
	struct token_request *request = CONTAINER_OF(letter, struct token_request, letter);

	request->done(request);
}

static void
answer(struct tokens *tokens, struct token_request *request)
{
	request->letter.open = on_answer;
	post_send(tokens->home, request->from, &request->letter);
}

static void
give_token(const struct entry *e, struct token_request *request, bool fresh)
{
	buf_append(&request->token, buf_span(&e->token));
	request->number = e->number;
	request->fresh = fresh;
	answer(e->tokens, request);
}

static void
answer_waiting(struct entry *e)
{
	struct letter *next = e->waiting.first;

	e->waiting = (struct letters){ .last = &e->waiting.first };
	while (next != NULL) {
		struct token_request *request = CONTAINER_OF(next, struct token_request, letter);

		next = next->next;
		if (e->number != 0)
			give_token(e, request, true);
		else
			answer(e->tokens, request);
	}
}

/* ---- a run -------------------------------------------------------------------------------- */

static void
run_command(void *arg)
{
	struct entry *e = arg;
	struct tokens *tokens = e->tokens;
	struct buf printed = { 0 };
	const char *wrong = NULL;

	if (command_run_by(tokens->runner, &e->run, &printed, e->why) == 0)
		wrong = token_answer_read(buf_span(&printed), &e->answer);
	if (wrong != NULL)
		snprintf(e->why, sizeof(e->why), "%s", wrong);
	buf_wipe(&printed);
	atomic_store(&e->ended, true);
	uv_async_send(&tokens->wake);
}

static void
log_run(const struct entry *e)
{
	struct log_line l;

	if (!log_begin(&l, e->number != 0 ? LOG_INFO : LOG_WARNING,
		       e->number != 0 ? "token" : "token-failed"))
		return;
	log_span(&l, "route", e->route);
	log_str(&l, "command", e->argv[0]);
	if (e->number != 0)
		log_i64(&l, "good_for", (e->until_ms - mono_ms() + 999) / 1000);
	else
		log_str(&l, "why", e->why);
	log_i64(&l, "ms", mono_ms() - e->began_ms);
	log_end(&l);
}

static void
drop_token(struct entry *e)
{
	buf_wipe(&e->token);
	e->number = 0;
}

/* Shortly before it expires it is not given any more: the login itself takes its time. */
static int64_t
useful_ms(int64_t lifetime)
{
	int64_t part = lifetime / MARGIN_PART;

	return lifetime - (part < MARGIN_MS ? part : MARGIN_MS);
}

static void
take_answer(struct entry *e)
{
	struct token_answer *a = &e->answer;
	int64_t lifetime = a->lifetime_ms >= 0 ? a->lifetime_ms : e->lifetime_ms;

	drop_token(e);
	if (buf_len(&a->token) > 0) {
		e->token = a->token;
		e->number = ++e->tokens->last_number;
		e->until_ms = mono_ms() + useful_ms(lifetime);
	}
	*a = (struct token_answer){ 0 };
}

static void
entry_free(struct entry *e)
{
	assert(e->waiting.first == NULL && !e->running);
	list_remove(&e->node);
	drop_token(e);
	arena_free(&e->arena);
	free(e);
}

static void
run_ended(struct entry *e)
{
	uv_thread_join(&e->thread);
	e->running = false;
	take_answer(e);
	log_run(e);
	answer_waiting(e);
	if (e->forgotten)
		entry_free(e);
}

static void
on_wake(uv_async_t *wake)
{
	struct tokens *tokens = wake->data;

	LIST_EACH(struct entry, e, &tokens->entries, node)
		if (e->running && atomic_load(&e->ended))
			run_ended(e);
}

static void
start_run(struct entry *e, const struct token_request *request)
{
	int rc;

	e->run = (struct command_run){ e->argv, request->limits->token_timeout_ms,
				       request->limits->token_output, e->tokens->stop };
	e->lifetime_ms = request->route->token_lifetime_ms;
	e->began_ms = mono_ms();
	atomic_store(&e->ended, false);
	rc = uv_thread_create(&e->thread, run_command, e);
	e->running = rc == 0;
	if (e->running)
		return;
	drop_token(e);
	snprintf(e->why, sizeof(e->why), "no thread for it: %s", uv_strerror(rc));
	log_run(e);
	answer_waiting(e);
}

/* ---- requests ----------------------------------------------------------------------------- */

static bool
same_command(const struct entry *e, const struct route *route)
{
	for (size_t i = 0; i < route->token_command_count; i++)
		if (e->argv[i] == NULL || !span_eq(span_str(e->argv[i]), route->token_command[i]))
			return false;
	return e->argv[route->token_command_count] == NULL;
}

static struct entry *
entry_of(struct tokens *tokens, const struct route *route)
{
	struct entry *made;

	LIST_EACH(struct entry, e, &tokens->entries, node)
		if (!e->forgotten && same_command(e, route))
			return e;
	made = xcalloc(1, sizeof(*made));
	made->tokens = tokens;
	made->route = arena_copy(&made->arena, route->name);
	made->argv = arena_alloc(&made->arena, (route->token_command_count + 1) * sizeof(char *));
	for (size_t i = 0; i < route->token_command_count; i++)
		made->argv[i] = arena_str(&made->arena, route->token_command[i]);
	made->waiting.last = &made->waiting.first;
	list_add_last(&tokens->entries, &made->node);
	return made;
}

static void
on_request(struct letter *letter)
{
	struct token_request *request = CONTAINER_OF(letter, struct token_request, letter);
	struct tokens *tokens = request->tokens;
	struct entry *e;

	if (tokens->closing) {
		answer(tokens, request);
		return;
	}
	e = entry_of(tokens, request->route);
	if (!e->running && e->number != 0 && e->number != request->refused &&
	    mono_ms() < e->until_ms) {
		give_token(e, request, false);
		return;
	}
	letter->next = NULL;
	*e->waiting.last = letter;
	e->waiting.last = &letter->next;
	if (!e->running)
		start_run(e, request);
}

void
tokens_ask(struct token_request *request)
{
	request->letter.open = on_request;
	post_send(request->from, request->home, &request->letter);
}

/* ---- life --------------------------------------------------------------------------------- */

struct tokens *
tokens_start(uv_loop_t *loop, struct post *home, const struct command_runner *runner)
{
	struct tokens *tokens = xcalloc(1, sizeof(*tokens));

	tokens->home = home;
	tokens->runner = runner;
	list_init(&tokens->entries);
	tokens->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uv_async_init(loop, &tokens->wake, on_wake);
	tokens->wake.data = tokens;
	return tokens;
}

void
tokens_forget(struct tokens *tokens)
{
	LIST_EACH(struct entry, e, &tokens->entries, node) {
		e->forgotten = true;
		if (!e->running)
			entry_free(e);
	}
}

void
tokens_close(struct tokens *tokens)
{
	uint64_t one = 1;

	tokens->closing = true;
	if (tokens->stop >= 0 && write(tokens->stop, &one, sizeof(one)) < 0)
		log_message(LOG_WARNING, "token-failed", "the commands are waited for");
	LIST_EACH(struct entry, e, &tokens->entries, node)
		if (e->running)
			run_ended(e);
	tokens_forget(tokens);
	uv_close((uv_handle_t *)&tokens->wake, NULL);
}

void
tokens_free(struct tokens *tokens)
{
	if (tokens->stop >= 0)
		close(tokens->stop);
	free(tokens);
}
