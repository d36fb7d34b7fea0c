/*
 * control: the socket, its peers, and turns for their jobs. See control.h; loop of the first
 * reactor only.
 *
 * A peer has at most one job; while it has one nothing is read from it, so requests queue up in
 * the kernel. All jobs share one idle handle: each loop turn gives one of them one slice, in
 * turn, so that the loop's other work never waits for more than that.
 */
#include "mta/control/control.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/control/job.h"
#include "mta/net/local.h"
#include "mta/net/stream.h"

enum {
	PEERS_MAX = 32, BACKLOG = 64,
	OUT_MAX = 256 * 1024,		/* octets that wait to be read: above it no more are made */
	STALL_MS = 30 * 1000,		/* a peer that reads nothing for so long is closed */
	IDLE_MS = 10 * 60 * 1000,	/* so is one that asks nothing */
	LOOK_MS = 5 * 1000,
};

struct control_peer {
	struct list node;		/* control->peers */
	struct control *control;
	struct stream stream;
	struct buf line;		/* of a request, so far */
	struct buf out;
	struct control_job *job;
	struct control_import *import;
	struct ucred who;
	bool ending;			/* it gets what is written, then the end */
	bool closed;
	size_t left_before;		/* octets that waited at the last look */
	int64_t progress_ms;
};

struct control {
	struct reactor *home;
	struct control_owner owner;
	char *path;
	int fd;
	uv_poll_t listener;
	uv_idle_t idle;			/* runs while a job has work */
	uv_timer_t look;
	struct list peers;
	size_t peer_count;
	unsigned imports;		/* begun so far, from a random number on */
	size_t jobs_waiting;		/* jobs that something still works on, peers gone or not */
	int handles_open;
	bool stopping, draining;
};

static void on_idle(uv_idle_t *idle);
static void peer_goes_on(struct control_peer *peer);

/* ---- the end of control itself ------------------------------------------------------------ */

static void
free_if_empty(struct control *c)
{
	if (!c->stopping || c->handles_open > 0 || c->peer_count > 0 || c->jobs_waiting > 0)
		return;
	free(c->path);
	free(c);
}

static void
on_handle_closed(uv_handle_t *handle)
{
	struct control *c = handle->data;

	c->handles_open--;
	free_if_empty(c);
}

/* ---- jobs --------------------------------------------------------------------------------- */

struct reactor *
job_home(const struct control_job *job)
{
	return job->control->home;
}

const struct control_owner *
job_owner(const struct control_job *job)
{
	return &job->control->owner;
}

struct control_import **
job_import(struct control_job *job)
{
	return &job->peer->import;
}

bool *
job_draining(struct control_job *job)
{
	return &job->control->draining;
}

unsigned
job_import_number(struct control_job *job)
{
	return job->control->imports++;
}

void
job_row(struct control_job *job, json_t *object)
{
	if (job->peer == NULL)
		json_decref(object);
	else
		json_line(object, &job->peer->out);
}

enum job_next
job_end(struct control_job *job, json_t *object)
{
	if (object == NULL)
		object = json_object();
	json_object_set_new(object, "end", json_true());
	job_row(job, object);
	job->answered = true;
	return JOB_DONE;
}

enum job_next
job_fail(struct control_job *job, const char *text, const char *hint)
{
	json_t *object = json_object();

	json_object_set_new(object, "error", json_text(span_str(text)));
	json_object_set_new(object, "hint", json_text(span_str(hint)));
	job_row(job, object);
	job->answered = true;
	job->outcome = arena_copy(&job->arena, span_str(text));
	return JOB_DONE;
}

enum job_next
job_fail_errno(struct control_job *job, int error)
{
	switch (error) {
	case -ENOSPC:
		return job_fail(job, "The queue has no room for this now.",
				"Make room on its disk or raise queue.max-size; then ask again.");
	case -ESHUTDOWN:
		return job_fail(job, "The queue's store has failed; tramd is about to exit.",
				"See the log; tramd must be started again.");
	case -EBADMSG:
		return job_fail(job, "A record in the queue is damaged.",
				"Stop tramd and run: tramctl queue check");
	default:
		return job_fail(job, strerror(-error), "See the log of tramd.");
	}
}

static void
log_change(const struct control_job *job)
{
	struct log_line l;
	struct buf text = { 0 };

	if (job->peer == NULL || !control_command_changes(job->request.command) ||
	    !log_begin(&l, LOG_INFO, "control"))
		return;
	log_str(&l, "command", control_command_name(job->request.command));
	log_u64(&l, "uid", job->uid);
	log_i64(&l, "pid", job->pid);
	if (control_request_format(&job->request, &text))
		log_span(&l, "request", span_first(buf_span(&text), buf_len(&text) - 1));
	log_span(&l, "outcome", job->outcome.len > 0 ? job->outcome : SPAN("done"));
	log_end(&l);
	buf_free(&text);
}

static void
job_free(struct control_job *job)
{
	if (job->free_state != NULL)
		job->free_state(job);
	arena_free(&job->arena);
	free(job);
}

static void
job_finish(struct control_job *job)
{
	struct control_peer *peer = job->peer;

	if (job->answered)
		log_change(job);
	job_free(job);
	if (peer != NULL) {
		peer->job = NULL;
		peer_goes_on(peer);
	}
}

void
job_wake(struct control_job *job)
{
	struct control *c = job->control;

	assert(job->waits);
	job->waits = false;
	c->jobs_waiting--;
	if (job->peer != NULL) {
		uv_idle_start(&c->idle, on_idle);
		return;
	}
	job_free(job);
	free_if_empty(c);
}

static void
job_step(struct control_job *job)
{
	struct control_peer *peer = job->peer;
	enum job_next next;

	job->waits = true;		/* so that a callback may come before step returns */
	job->control->jobs_waiting++;
	next = job->step(job);
	if (next != JOB_WAITS && job->waits) {
		job->waits = false;
		job->control->jobs_waiting--;
	}
	if (next == JOB_DONE)
		job_finish(job);
	else if (buf_len(&peer->out) > 0)
		stream_send(&peer->stream, &peer->out);
}

static bool
peer_may_step(const struct control_peer *peer)
{
	return peer->job != NULL && !peer->job->waits && !peer->ending &&
	       peer->stream.queued + buf_len(&peer->out) < OUT_MAX;
}

/* One slice for one peer, which then goes to the end of the row. */
static void
on_idle(uv_idle_t *idle)
{
	struct control *c = CONTAINER_OF(idle, struct control, idle);

	LIST_EACH(struct control_peer, peer, &c->peers, node)
		if (peer_may_step(peer)) {
			list_remove(&peer->node);
			list_add_last(&c->peers, &peer->node);
			job_step(peer->job);
			return;
		}
	uv_idle_stop(idle);
}

/* ---- peers -------------------------------------------------------------------------------- */

static void
on_peer_closed(struct stream *stream)
{
	struct control_peer *peer = CONTAINER_OF(stream, struct control_peer, stream);
	struct control *c = peer->control;

	list_remove(&peer->node);
	buf_free(&peer->line);
	buf_free(&peer->out);
	free(peer);
	c->peer_count--;
	free_if_empty(c);
}

static void
peer_close(struct control_peer *peer)
{
	struct control_job *job = peer->job;

	if (peer->closed)
		return;
	peer->closed = true;
	peer->job = NULL;
	if (job != NULL) {
		job->peer = NULL;
		if (!job->waits)
			job_free(job);
	}
	control_import_abort(peer->import);
	peer->import = NULL;
	stream_close(&peer->stream, false);
}

/* What is written goes out; then the next request may come, or the end. */
static void
peer_goes_on(struct control_peer *peer)
{
	stream_send(&peer->stream, &peer->out);
	if (peer->ending && peer->stream.queued == 0)
		peer_close(peer);
	else if (!peer->ending && peer->job == NULL)
		stream_resume(&peer->stream);
}

static void
refuse(struct control_peer *peer, const struct control_error *error)
{
	json_t *object = json_object();

	json_object_set_new(object, "error", json_text(error->text));
	json_object_set_new(object, "hint", json_text(error->hint));
	json_line(object, &peer->out);
	peer->ending = true;
	stream_pause(&peer->stream);
	peer_goes_on(peer);
}

static void
job_start(struct control_job *job)
{
	switch (job->request.command) {
	case CONTROL_QUEUE_LIST:
	case CONTROL_QUEUE_SHOW:
	case CONTROL_EXPLAIN:
		control_list_start(job);
		break;
	case CONTROL_QUEUE_CAT:
	case CONTROL_QUEUE_EXPORT:
		control_content_start(job);
		break;
	case CONTROL_QUEUE_HOLD:
	case CONTROL_QUEUE_RELEASE:
	case CONTROL_QUEUE_RETRY:
	case CONTROL_QUEUE_BOUNCE:
	case CONTROL_QUEUE_REMOVE:
	case CONTROL_QUEUE_SET:
		control_edit_start(job);
		break;
	case CONTROL_DRAIN:
	case CONTROL_DRAIN_STATE:
		control_drain_start(job);
		break;
	case CONTROL_TLS_CHECK:
	case CONTROL_DNS_RECORDS:
		control_check_start(job);
		break;
	case CONTROL_WHAT_IF:
		control_what_if_start(job);
		break;
	case CONTROL_IMPORT_MESSAGE:
	case CONTROL_IMPORT_RECIPIENT:
	case CONTROL_IMPORT_ATTEMPT:
	case CONTROL_IMPORT_CONTENT:
	case CONTROL_IMPORT_COMMIT:
		control_import_start(job);
		break;
	case CONTROL_SUPPRESS_LIST:
	case CONTROL_SUPPRESS_ADD:
	case CONTROL_SUPPRESS_REMOVE:
		control_suppress_start(job);
		break;
	case CONTROL_SITES_MEASURES:
	case CONTROL_SITES_SUSPEND:
	case CONTROL_SITES_RESUME:
	case CONTROL_SITES_RESET:
		control_measures_start(job);
		break;
	case CONTROL_TLS_REPORTS:
	case CONTROL_TLS_REPORTS_SEND:
		control_tls_reports_start(job);
		break;
	default:
		control_state_start(job);
	}
}

static void
take_request(struct control_peer *peer)
{
	struct control *c = peer->control;
	struct control_job *job = xcalloc(1, sizeof(*job));
	struct control_error error;
	bool ok = control_request_parse(buf_span(&peer->line), &job->arena, &job->request, &error);

	buf_clear(&peer->line);
	if (!ok) {
		refuse(peer, &error);
		job_free(job);
		return;
	}
	job->control = c;
	job->peer = peer;
	job->uid = peer->who.uid;
	job->pid = peer->who.pid;
	peer->job = job;
	peer->progress_ms = mono_ms();
	job_start(job);
	stream_pause(&peer->stream);
	uv_idle_start(&c->idle, on_idle);
}

static size_t
on_peer_read(struct stream *stream, struct span bytes)
{
	struct control_peer *peer = CONTAINER_OF(stream, struct control_peer, stream);
	const char *end = span_find(bytes, '\n');
	size_t len = end == NULL ? bytes.len : (size_t)(end - bytes.at);

	if (peer->job != NULL || peer->ending)
		return 0;
	if (buf_len(&peer->line) + len >= CONTROL_LINE_MAX) {
		refuse(peer, &(struct control_error){ SPAN("The request is too long."),
						      SPAN("Name fewer ids at once.") });
		return bytes.len;
	}
	buf_append(&peer->line, span_first(bytes, len));
	if (end == NULL)
		return len;
	take_request(peer);
	return len + 1;
}

static void
on_peer_written(struct stream *stream)
{
	struct control_peer *peer = CONTAINER_OF(stream, struct control_peer, stream);

	peer->progress_ms = mono_ms();
	if (peer->ending)
		peer_close(peer);
	else
		uv_idle_start(&peer->control->idle, on_idle);
}

static void
on_peer_ended(struct stream *stream, enum stream_end end, int error)
{
	struct control_peer *peer = CONTAINER_OF(stream, struct control_peer, stream);

	(void)error;
	if (end == STREAM_EOF && peer->stream.queued > 0)
		peer->ending = true;		/* it has asked all it wants, and may still read */
	else
		peer_close(peer);
}

static const struct stream_events peer_events = {
	.read = on_peer_read,
	.written = on_peer_written,
	.ended = on_peer_ended,
	.closed = on_peer_closed,
};

static void
peer_accept(struct control *c, int fd)
{
	struct control_peer *peer;
	socklen_t len = sizeof(peer->who);

	peer = xcalloc(1, sizeof(*peer));
	peer->control = c;
	peer->progress_ms = mono_ms();
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer->who, &len) < 0)
		peer->who = (struct ucred){ .pid = -1, .uid = (uid_t)-1, .gid = (gid_t)-1 };
	list_add_last(&c->peers, &peer->node);
	c->peer_count++;
	if (stream_accept(&peer->stream, &c->home->loop, fd, true, &c->home->scratch,
			  &peer_events) < 0)
		peer_close(peer);
	else if (c->peer_count > PEERS_MAX)
		refuse(peer,
		       &(struct control_error){ SPAN("Too many control connections are open."),
						SPAN("End another tramctl first.") });
	else
		stream_resume(&peer->stream);
}

static void
on_listener(uv_poll_t *poll, int status, int events)
{
	struct control *c = CONTAINER_OF(poll, struct control, listener);
	int fd;

	(void)status;
	(void)events;
	fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		peer_accept(c, fd);
}

/*
 * Who reads nothing, and who asks nothing, is closed. A job that waits for others has all the
 * time it needs.
 */
static void
on_look(uv_timer_t *timer)
{
	struct control *c = CONTAINER_OF(timer, struct control, look);
	int64_t now = mono_ms();

	LIST_EACH(struct control_peer, peer, &c->peers, node) {
		size_t left = peer->closed ? 0 : uv_stream_get_write_queue_size(&peer->stream.h.uv);

		if (peer->closed)
			continue;
		if ((left == 0 && peer->job != NULL) || left != peer->left_before)
			peer->progress_ms = now;
		peer->left_before = left;
		if (now - peer->progress_ms >= (left > 0 ? STALL_MS : IDLE_MS))
			peer_close(peer);
	}
}

/* ---- the socket --------------------------------------------------------------------------- */

static int
fail_start(char error[CONTROL_ERROR_MAX], int rc, const char *path, const char *hint)
{
	snprintf(error, CONTROL_ERROR_MAX, "control socket %s: %s; %s", path, strerror(-rc), hint);
	return rc;
}

static int
open_socket(const char *path, mode_t mode, int *ret, char error[CONTROL_ERROR_MAX])
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc;

	if (fd < 0)
		return fail_start(error, -errno, path, "raise the limit of open files");
	rc = local_bind(fd, path, mode);
	if (rc == 0 && listen(fd, BACKLOG) < 0)
		rc = -errno;
	if (rc == 0) {
		*ret = fd;
		return 0;
	}
	close(fd);
	return fail_start(error, rc, path,
			  rc == -ENAMETOOLONG ? "choose a path of at most 107 octets"
			  : rc == -EADDRINUSE ? "another tramd answers there: stop it, or "
						"change `control`"
			  : rc == -EEXIST     ? "remove it, or change `control`"
				: "its directory must exist and be writable for tramd's user");
}

int
control_start(struct reactor *home, const struct control_owner *owner, struct control **ret,
	      char error[CONTROL_ERROR_MAX])
{
	struct control *c;
	int fd = -1, rc;

	rc = open_socket(home->config->control, (mode_t)home->config->control_mode, &fd, error);
	if (rc < 0)
		return rc;
	c = xcalloc(1, sizeof(*c));
	c->home = home;
	c->owner = *owner;
	c->fd = fd;
	c->path = xcalloc(1, strlen(home->config->control) + 1);
	memcpy(c->path, home->config->control, strlen(home->config->control));
	list_init(&c->peers);
	if (getrandom(&c->imports, sizeof(c->imports), 0) < 0)
		c->imports = (unsigned)getpid();
	uv_idle_init(&home->loop, &c->idle);
	uv_timer_init(&home->loop, &c->look);
	rc = uv_poll_init(&home->loop, &c->listener, fd);
	assert(rc == 0);		/* fails only for what cannot be polled */
	c->idle.data = c->look.data = c->listener.data = c;
	c->handles_open = 3;
	uv_timer_start(&c->look, on_look, LOOK_MS, LOOK_MS);
	uv_poll_start(&c->listener, UV_READABLE, on_listener);
	*ret = c;
	return 0;
}

void
control_stop(struct control *c)
{
	if (c == NULL || c->stopping)
		return;
	c->stopping = true;
	LIST_EACH(struct control_peer, peer, &c->peers, node)
		peer_close(peer);
	uv_poll_stop(&c->listener);
	uv_close((uv_handle_t *)&c->listener, on_handle_closed);
	uv_close((uv_handle_t *)&c->idle, on_handle_closed);
	uv_close((uv_handle_t *)&c->look, on_handle_closed);
	close(c->fd);
	unlink(c->path);
}
