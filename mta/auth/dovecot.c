/*
 * dovecot: see dovecot.h. The loop's thread only. A link is one connection's life, from connect to
 * closed; dovecot outlives its links, and one timer serves deadlines and back-off.
 */
#include "mta/auth/dovecot.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/auth/prep.h"
#include "mta/base/arena.h"

enum {
	TIMEOUT_MS = 30000,
	MAX_PENDING = 1000,
	RETRY_MS = 1000,
	RETRY_MAX_MS = 30000,
	TROUBLE_MAX = 120
};

enum request_state {
	REQUEST_NONE,
	REQUEST_QUEUED,			/* until the connection is ready */
	REQUEST_ASKED,
	REQUEST_RESTING,		/* the client is to answer a challenge */
	REQUEST_LOST,			/* the connection was lost meanwhile: told by continue */
	REQUEST_FAILING,		/* done is called from the loop, soon */
};

struct link {
	struct stream stream;
	struct dovecot *owner;		/* NULL: closing */
	struct dovecot_codec codec;
	int64_t ready_ms;		/* the loop's clock; 0: not yet */
};

struct dovecot {
	uv_loop_t *loop;
	struct stream_scratch *scratch;
	struct dovecot_config config;
	char *path, *service;
	struct link *link;		/* NULL: backing off until retry_at_ms */
	int64_t retry_at_ms, retry_ms;
	uv_timer_t timer;
	struct list waiting;		/* QUEUED and ASKED, by deadline: all wait equally long */
	struct list resting;		/* RESTING and LOST */
	struct list failing;
	struct map by_id;		/* all of them */
	size_t pending;
	bool retired;
	uint32_t last_id;
	unsigned mechanisms;
	char trouble[TROUBLE_MAX];
};

static const char too_long[] = "longer than Dovecot takes";
static const char not_offered[] = "Dovecot does not have this mechanism (auth_mechanisms)";

static void on_timer(uv_timer_t *timer);

static int64_t
now_ms(const struct dovecot *d)
{
	return (int64_t)uv_now(d->loop);
}

/* To the first of: a failure to be told, a deadline, the end of the back-off. */
static void
set_timer(struct dovecot *d)
{
	int64_t at = INT64_MAX, now = now_ms(d);

	if (!list_empty(&d->waiting))
		at = CONTAINER_OF(d->waiting.next, struct dovecot_request, node)->deadline_ms;
	if (d->link == NULL && !d->retired && d->retry_at_ms < at)
		at = d->retry_at_ms;
	if (!list_empty(&d->failing))
		at = now;
	if (at == INT64_MAX)
		uv_timer_stop(&d->timer);
	else
		uv_timer_start(&d->timer, on_timer, at > now ? (uint64_t)(at - now) : 0, 0);
}

/* Takes the request out; its memory may go in the callback. */
static void
finish(struct dovecot_request *r, const struct dovecot_result *result)
{
	struct dovecot *d = r->dovecot;

	list_remove(&r->node);
	map_remove(&d->by_id, &r->by_id);
	d->pending--;
	buf_wipe(&r->unsent);
	r->dovecot = NULL;
	r->state = REQUEST_NONE;
	if (result != NULL)
		r->done(r, result);
}

static void
finish_temporary(struct dovecot_request *r, const char *why)
{
	finish(r, &(struct dovecot_result){ .verdict = SASL_TEMPORARY, .why = why });
}

static void
fail_soon(struct dovecot_request *r, const char *why)
{
	struct dovecot *d = r->dovecot;

	list_remove(&r->node);
	r->state = REQUEST_FAILING;
	r->failure = why;
	buf_wipe(&r->unsent);
	list_add_last(&d->failing, &r->node);
	set_timer(d);
}

static void
wait_for_answer(struct dovecot_request *r, enum request_state state)
{
	struct dovecot *d = r->dovecot;

	list_remove(&r->node);
	r->state = state;
	r->deadline_ms = now_ms(d) + d->config.timeout_ms;
	list_add_last(&d->waiting, &r->node);
	set_timer(d);
}

static struct dovecot_request *
find_request(const struct dovecot *d, uint32_t id)
{
	struct map_node *node = map_find(&d->by_id, id);

	return node == NULL ? NULL : CONTAINER_OF(node, struct dovecot_request, by_id);
}

/* The connection is of no use any more. */
static void
drop_link(struct dovecot *d, const char *what, const char *detail)
{
	struct link *link = d->link;
	int64_t now = now_ms(d), lived = link->ready_ms != 0 ? now - link->ready_ms : -1;

	snprintf(d->trouble, sizeof(d->trouble), "%s%s%s", what, detail[0] != '\0' ? ": " : "",
		 detail);
	link->owner = NULL;
	d->link = NULL;
	stream_close(&link->stream, false);
	/* one that was good for a while is tried again at once: Dovecot was restarted */
	d->retry_ms = lived >= d->config.retry_ms || d->retry_ms == 0 ? d->config.retry_ms
								      : d->retry_ms * 2;
	if (d->retry_ms > d->config.retry_max_ms)
		d->retry_ms = d->config.retry_max_ms;
	d->retry_at_ms = lived >= d->config.retry_ms ? now : now + d->retry_ms;
	LIST_EACH(struct dovecot_request, r, &d->resting, node)
		r->state = REQUEST_LOST;
	LIST_EACH(struct dovecot_request, waits, &d->waiting, node)
		fail_soon(waits, "the connection to Dovecot's auth socket was lost");
	set_timer(d);
}

static void
on_challenge(struct dovecot *d, struct dovecot_request *r, struct span data)
{
	list_remove(&r->node);
	r->state = REQUEST_RESTING;
	list_add_last(&d->resting, &r->node);
	r->challenge(r, data);
}

static void
on_result(struct dovecot_request *r, const struct dovecot_codec *codec, bool good)
{
	static const char *const why[] = {
		[DOVECOT_REFUSED] = "wrong password, or no such user",
		[DOVECOT_TEMPORARY] = "Dovecot has a temporary failure",
		[DOVECOT_AUTHZ] = "may not act as another user",
		[DOVECOT_DISABLED] = "the user is disabled",
		[DOVECOT_EXPIRED] = "the password has expired",
	};
	struct dovecot_result result = { .verdict = SASL_OK, .user = codec->user };

	if (!good) {
		result.verdict =
			codec->failure == DOVECOT_TEMPORARY ? SASL_TEMPORARY : SASL_REFUSED;
		result.why = why[codec->failure];
		result.reason = codec->reason;
	}
	finish(r, &result);
}

static void
send_unsent(struct dovecot *d)
{
	struct buf out = { 0 };

	LIST_EACH(struct dovecot_request, r, &d->waiting, node) {
		if (r->state != REQUEST_QUEUED)
			continue;
		if ((d->mechanisms & 1u << r->mechanism) == 0) {
			fail_soon(r, not_offered);
			continue;
		}
		r->state = REQUEST_ASKED;
		buf_append(&out, buf_span(&r->unsent));
		buf_wipe(&r->unsent);
	}
	stream_send(&d->link->stream, &out);
	buf_wipe(&out);
}

static void
on_ready(struct dovecot *d)
{
	d->link->ready_ms = now_ms(d);
	d->mechanisms = d->link->codec.mechanisms;
	d->trouble[0] = '\0';
	stream_deadline(&d->link->stream, -1);
	send_unsent(d);
}

static void
handle(struct dovecot *d, enum dovecot_event event)
{
	const struct dovecot_codec *codec = &d->link->codec;
	struct dovecot_request *r;

	if (event == DOVECOT_READY) {
		on_ready(d);
		return;
	}
	if (event == DOVECOT_BROKEN) {
		drop_link(d, "it does not speak the protocol", codec->why);
		return;
	}
	r = find_request(d, codec->id);
	if (r == NULL || r->state != REQUEST_ASKED)	/* cancelled, or too late */
		return;
	if (event == DOVECOT_CONT)
		on_challenge(d, r, codec->data);
	else
		on_result(r, codec, event == DOVECOT_OK);
}

static size_t
on_read(struct stream *stream, struct span bytes)
{
	struct link *link = (struct link *)(void *)stream;
	size_t all = bytes.len;

	while (bytes.len > 0 && link->owner != NULL) {
		enum dovecot_event event;

		bytes = span_skip(bytes, dovecot_codec_take(&link->codec, bytes, &event));
		if (event != DOVECOT_MORE)
			handle(link->owner, event);
	}
	return all;
}

static void
on_connected(struct stream *stream, int error)
{
	struct link *link = (struct link *)(void *)stream;
	struct buf hello = { 0 };
	uint32_t pid;

	if (error < 0) {
		drop_link(link->owner, "connect", strerror(-error));
		return;
	}
	/* unique among Dovecot's clients, and our process has a connection for each loop */
	scram_random(&pid, sizeof(pid));
	dovecot_put_hello((pid & 0x3fffffff) | 0x40000000, &hello);
	stream_send(stream, &hello);
	buf_free(&hello);
	stream_resume(stream);
}

static void
on_ended(struct stream *stream, enum stream_end end, int error)
{
	struct link *link = (struct link *)(void *)stream;

	if (link->owner == NULL)
		return;
	if (end == STREAM_TIMEOUT)
		drop_link(link->owner, "no handshake in time", "");
	else
		drop_link(link->owner, "connection lost",
			  end == STREAM_FAILED ? strerror(-error) : "");
}

static void
on_closed(struct stream *stream)
{
	struct link *link = (struct link *)(void *)stream;

	dovecot_codec_free(&link->codec);
	free(link);
}

static const struct stream_events events = {
	.connected = on_connected, .read = on_read, .ended = on_ended, .closed = on_closed,
};

static void
start_link(struct dovecot *d)
{
	struct link *link = xcalloc(1, sizeof(*link));
	int rc;

	link->owner = d;
	d->link = link;
	rc = stream_connect_unix(&link->stream, d->loop, d->path, d->scratch, &events);
	if (rc < 0)
		drop_link(d, "connect", strerror(-rc));
	else
		stream_deadline(&link->stream, d->config.timeout_ms);
}

static void
send_cancel(struct dovecot_request *r)
{
	struct dovecot *d = r->dovecot;
	struct buf out = { 0 };

	if ((r->state != REQUEST_ASKED && r->state != REQUEST_RESTING) || !dovecot_connected(d))
		return;
	dovecot_put_cancel((uint32_t)r->by_id.key, &out);
	stream_send(&d->link->stream, &out);
	buf_free(&out);
}

static void
fail_overdue(struct dovecot *d)
{
	while (!list_empty(&d->waiting)) {
		struct dovecot_request *r =
			CONTAINER_OF(d->waiting.next, struct dovecot_request, node);

		if (r->deadline_ms > now_ms(d))
			break;
		send_cancel(r);
		fail_soon(r, "Dovecot did not answer in time");
	}
}

/* Behind callbacks that may have closed it, or ended the last request of one that was retired. */
static void
rest(struct dovecot *d)
{
	if (uv_is_closing((uv_handle_t *)&d->timer))
		return;
	if (d->retired && d->pending == 0)
		dovecot_close(d);
	else
		set_timer(d);
}

static void
on_timer(uv_timer_t *timer)
{
	struct dovecot *d = timer->data;
	struct list failing;

	fail_overdue(d);
	if (d->link == NULL && !d->retired && now_ms(d) >= d->retry_at_ms)
		start_link(d);
	/* those that fail now; callbacks may add others, whose turn is the next */
	list_init(&failing);
	while (!list_empty(&d->failing)) {
		struct list *node = d->failing.next;

		list_remove(node);
		list_add_last(&failing, node);
	}
	while (!list_empty(&failing)) {
		struct dovecot_request *r =
			CONTAINER_OF(failing.next, struct dovecot_request, node);

		finish_temporary(r, r->failure);
	}
	rest(d);
}

static char *
copy(struct span s)
{
	char *text = xcalloc(1, s.len + 1);

	memcpy(text, s.at, s.len);
	return text;
}

struct dovecot *
dovecot_new(uv_loop_t *loop, struct stream_scratch *scratch, const struct dovecot_config *config)
{
	struct dovecot *d = xcalloc(1, sizeof(*d));

	d->loop = loop;
	d->scratch = scratch;
	d->config = *config;
	d->path = copy(config->path);
	d->service = copy(config->service.len > 0 ? config->service : SPAN("smtp"));
	if (d->config.timeout_ms <= 0)
		d->config.timeout_ms = TIMEOUT_MS;
	if (d->config.max_pending == 0)
		d->config.max_pending = MAX_PENDING;
	if (d->config.retry_ms <= 0)
		d->config.retry_ms = RETRY_MS;
	if (d->config.retry_max_ms < d->config.retry_ms)
		d->config.retry_max_ms =
			d->config.retry_ms > RETRY_MAX_MS ? d->config.retry_ms : RETRY_MAX_MS;
	list_init(&d->waiting);
	list_init(&d->resting);
	list_init(&d->failing);
	uv_timer_init(loop, &d->timer);
	d->timer.data = d;
	start_link(d);
	return d;
}

static void
on_timer_closed(uv_handle_t *handle)
{
	struct dovecot *d = handle->data;

	map_free(&d->by_id);
	free(d->path);
	free(d->service);
	free(d);
}

void
dovecot_close(struct dovecot *d)
{
	struct map_node *node;

	if (d == NULL || uv_is_closing((uv_handle_t *)&d->timer))
		return;
	while ((node = map_any(&d->by_id)) != NULL)
		finish(CONTAINER_OF(node, struct dovecot_request, by_id), NULL);
	if (d->link != NULL) {
		d->link->owner = NULL;
		stream_close(&d->link->stream, false);
		d->link = NULL;
	}
	uv_close((uv_handle_t *)&d->timer, on_timer_closed);
}

void
dovecot_retire(struct dovecot *d)
{
	d->retired = true;
	if (d->link != NULL)
		drop_link(d, "it was replaced", "");
	rest(d);
}

unsigned
dovecot_mechanisms(const struct dovecot *d)
{
	return d->mechanisms;
}

bool
dovecot_connected(const struct dovecot *d)
{
	return d->link != NULL && d->link->ready_ms != 0;
}

const char *
dovecot_trouble(const struct dovecot *d)
{
	return dovecot_connected(d) ? "" : d->trouble[0] != '\0' ? d->trouble : "connecting";
}

static void
add_request(struct dovecot *d, struct dovecot_request *r)
{
	assert(r->dovecot == NULL);
	do
		d->last_id++;
	while (d->last_id == 0 || map_find(&d->by_id, d->last_id) != NULL);
	r->dovecot = d;
	r->state = REQUEST_NONE;
	r->unsent = (struct buf){ 0 };
	list_init(&r->node);
	map_add(&d->by_id, &r->by_id, d->last_id);
	d->pending++;
}

void
dovecot_start(struct dovecot *d, struct dovecot_request *r, enum sasl_mechanism mechanism,
	      const struct dovecot_facts *facts, const struct span *message)
{
	struct buf out = { 0 };

	assert(!d->retired);
	add_request(d, r);
	r->mechanism = mechanism;
	if (d->pending > d->config.max_pending) {
		fail_soon(r, "too many requests to Dovecot at a time");
		return;
	}
	if (d->link == NULL) {
		fail_soon(r, "no connection to Dovecot's auth socket");
		return;
	}
	if (dovecot_connected(d) && (d->mechanisms & 1u << mechanism) == 0) {
		fail_soon(r, not_offered);
		return;
	}
	dovecot_put_auth(d->last_id, sasl_name(mechanism), span_str(d->service), facts, message,
			 &out);
	if (buf_len(&out) > DOVECOT_SENT_MAX) {
		fail_soon(r, too_long);
		buf_wipe(&out);
	} else if (dovecot_connected(d)) {
		wait_for_answer(r, REQUEST_ASKED);
		stream_send(&d->link->stream, &out);
		buf_wipe(&out);
	} else {
		wait_for_answer(r, REQUEST_QUEUED);
		r->unsent = out;
	}
}

void
dovecot_start_password(struct dovecot *d, struct dovecot_request *r,
		       const struct dovecot_facts *facts, struct span authzid, struct span user,
		       struct span password)
{
	struct buf plain = { 0 };
	struct span message;

	buf_reserve(&plain, authzid.len + user.len + password.len + 3);
	buf_append(&plain, authzid);
	buf_byte(&plain, '\0');
	buf_append(&plain, user);
	buf_byte(&plain, '\0');
	buf_append(&plain, password);
	message = buf_span(&plain);
	dovecot_start(d, r, SASL_PLAIN, facts, &message);
	buf_wipe(&plain);
}

void
dovecot_continue(struct dovecot_request *r, struct span response)
{
	struct dovecot *d = r->dovecot;
	struct buf out = { 0 };

	assert(d != NULL && (r->state == REQUEST_RESTING || r->state == REQUEST_LOST));
	if (r->state == REQUEST_LOST) {
		fail_soon(r, "the connection to Dovecot's auth socket was lost");
		return;
	}
	dovecot_put_cont((uint32_t)r->by_id.key, response, &out);
	if (buf_len(&out) > DOVECOT_SENT_MAX) {
		send_cancel(r);
		fail_soon(r, too_long);
	} else {
		wait_for_answer(r, REQUEST_ASKED);
		stream_send(&d->link->stream, &out);
	}
	buf_wipe(&out);
}

void
dovecot_cancel(struct dovecot_request *r)
{
	struct dovecot *d = r->dovecot;

	if (d == NULL)
		return;
	send_cancel(r);
	finish(r, NULL);
	rest(d);
}
