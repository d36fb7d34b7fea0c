/*
 * https: the life of a request; see https.h. Its loop only.
 *
 *	https_request → waits its turn → look-up of the host's addresses (here)
 *	→ transfer by libcurl (transfer.c, on the loop by wire.c) → https_call_over → done (here)
 *
 * One clock runs over all of it. A call is in one of two lists, waiting and running, until it is
 * over.
 */
#include "mta/https/private.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/stat.h>

static void start_waiting(struct https *https);

/* ---- the end of a call -------------------------------------------------------------------- */

static void
on_deadline_closed(uv_handle_t *handle)
{
	struct https_call *call = handle->data;

	buf_free(&call->in);
	arena_free(&call->arena);
	free(call);
}

/* Nothing of it is under way any more; its memory is good until the loop's next turn. */
static void
end(struct https_call *call)
{
	struct https *https = call->https;

	assert(call->state != CALL_OVER);
	if (call->state == CALL_WAITS)
		https->waiting_count--;
	else
		https->running_count--;
	list_remove(&call->node);
	call->state = CALL_OVER;
	lookup_cancel(call->lookup);
	call->lookup = NULL;
	transfer_drop(call);
	uv_close((uv_handle_t *)&call->deadline, on_deadline_closed);
}

void
https_call_over(struct https_call *call, const struct https_answer *answer)
{
	struct https *https = call->https;

	end(call);
	call->done(call->arg, answer);
	start_waiting(https);
}

void
https_cancel(struct https_call *call)
{
	if (call == NULL)
		return;
	end(call);
	start_waiting(call->https);
}

/* Time is over; for a call that was refused it had none. */
static void
on_deadline(uv_timer_t *timer)
{
	struct https_call *call = timer->data;
	struct https_answer answer = { .failure = HTTPS_TIMED_OUT };

	if (call->refused.len > 0) {
		answer.failure = HTTPS_NO_HOST;
		answer.why = call->refused;
	} else if (call->state == CALL_WAITS) {
		answer.why = SPAN("no turn in time: too many requests are under way");
	} else if (call->state == CALL_LOOKS_UP) {
		answer.why = SPAN("its address was not found in time");
	} else {
		answer.why = SPAN("no answer in time");
	}
	https_call_over(call, &answer);
}

/* ---- its beginning ------------------------------------------------------------------------ */

static void
on_addresses(void *arg, const struct host_addresses *found)
{
	struct https_call *call = arg;
	struct https_answer answer = { .failure = HTTPS_NO_HOST };

	call->lookup = NULL;
	if (found->count > 0) {
		call->state = CALL_TRANSFERS;
		transfer_start(call, found);
		return;
	}
	answer.why = arena_copy(&call->arena, found->failure.text);
	https_call_over(call, &answer);
}

static void
start(struct https_call *call)
{
	struct https *https = call->https;

	list_remove(&call->node);
	https->waiting_count--;
	list_add_last(&https->running, &call->node);
	https->running_count++;
	call->state = CALL_LOOKS_UP;
	call->allow_private = https->allow_private;
	call->lookup = lookup_addresses(https->resolver, call->host, call->port,
					call->allow_private, ADDRESSES_MAX, on_addresses, call);
}

static void
start_waiting(struct https *https)
{
	LIST_EACH(struct https_call, call, &https->waiting, node) {
		if (https->running_count == HTTPS_AT_ONCE || https->resolver == NULL)
			return;
		if (call->refused.len == 0)
			start(call);
	}
}

struct https_call *
https_request(struct https *https, const struct https_request *request)
{
	struct https_call *call = xcalloc(1, sizeof(*call));
	int64_t wait_ms = request->timeout_ms;

	assert(!https->closed);
	call->https = https;
	call->method = request->method;
	call->done = request->done;
	call->arg = request->arg;
	call->url = arena_str(&call->arena, request->url);
	call->content_type = arena_copy(&call->arena, request->content_type);
	call->body = arena_copy(&call->arena, request->body);
	if (https->waiting_count >= HTTPS_WAITING_MAX)
		call->refused = SPAN("too many requests wait");
	if (call->refused.len > 0 || !transfer_read_url(call))
		wait_ms = 0;			/* it ends in the loop's next turn */
	call->until_ms = (int64_t)uv_now(https->loop) + wait_ms;
	uv_timer_init(https->loop, &call->deadline);
	call->deadline.data = call;
	uv_timer_start(&call->deadline, on_deadline, (uint64_t)wait_ms, 0);
	list_add_last(&https->waiting, &call->node);
	https->waiting_count++;
	start_waiting(https);
	return call;
}

/* ---- the client --------------------------------------------------------------------------- */

struct https *
https_new(uv_loop_t *loop)
{
	struct https *https = xcalloc(1, sizeof(*https));

	https->loop = loop;
	list_init(&https->sockets);
	list_init(&https->waiting);
	list_init(&https->running);
	wire_open(https);
	return https;
}

void
https_configure(struct https *https, const struct https_settings *settings)
{
	struct span ca = span_str(settings->ca);
	struct stat there;

	free(https->ca);
	https->ca = ca.len > 0 ? xcalloc(1, ca.len + 1) : NULL;
	if (ca.len > 0)
		memcpy(https->ca, ca.at, ca.len);
	https->ca_is_folder = ca.len > 0 && stat(https->ca, &there) == 0 && S_ISDIR(there.st_mode);
	https->resolver = settings->resolver;
	https->allow_private = settings->allow_private;
	start_waiting(https);
}

void
https_close(struct https *https)
{
	if (https == NULL || https->closed)
		return;
	https->closed = true;
	LIST_EACH(struct https_call, call, &https->waiting, node)
		end(call);
	LIST_EACH(struct https_call, call, &https->running, node)
		end(call);
	wire_close(https);
}

void
https_free(struct https *https)
{
	if (https == NULL)
		return;
	assert(https->closed && list_empty(&https->sockets));
	free(https->ca);
	free(https);
}
