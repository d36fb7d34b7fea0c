/*
 * net/stream: see stream.h. The loop's thread only. Two handles each (socket, timer); both are
 * closed together and `closed` is called once both are gone.
 */
#include "mta/net/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "mta/base/arena.h"
#include "mta/base/list.h"

enum { READ_SIZE = 65536, READ_AHEAD = 65536, UNASKED_MAX = 65536 };

struct pending_write {
	uv_write_t req;
	struct stream *stream;
	size_t len;
	char bytes[];
};

void
stream_scratch_free(struct stream_scratch *scratch)
{
	buf_free(&scratch->in);
	buf_free(&scratch->plain);
	buf_free(&scratch->out);
}

static struct stream *
stream_of(void *handle)
{
	return ((uv_handle_t *)handle)->data;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret);
static void on_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *b);

static void
start_reading(struct stream *s)
{
	if (s->reading || s->choked || s->eof)
		return;
	s->reading = true;
	uv_read_start(&s->h.uv, on_alloc, on_read);
}

static void
stop_reading(struct stream *s)
{
	if (s->reading)
		uv_read_stop(&s->h.uv);
	s->reading = false;
}

static void
tell_end(struct stream *s, enum stream_end end, int error)
{
	if (s->told || s->closing)
		return;
	s->told = true;
	stop_reading(s);
	s->events->ended(s, end, error);
}

static void
on_timer(uv_timer_t *timer)
{
	struct stream *s = stream_of(timer);
	int64_t now = (int64_t)uv_now(timer->loop);

	if (s->deadline_ms == 0)
		return;
	if (now < s->deadline_ms) {
		uv_timer_start(timer, on_timer, (uint64_t)(s->deadline_ms - now), 0);
		return;
	}
	s->deadline_ms = 0;
	tell_end(s, STREAM_TIMEOUT, UV_ETIMEDOUT);
}

void
stream_deadline(struct stream *s, int64_t ms)
{
	int64_t now = (int64_t)uv_now(s->timer.loop);

	if (s->closing)
		return;
	s->deadline_ms = ms < 0 ? 0 : now + ms;
	if (ms < 0)
		return;
	if (!uv_is_active((uv_handle_t *)&s->timer) ||
	    (int64_t)uv_timer_get_due_in(&s->timer) > ms)
		uv_timer_start(&s->timer, on_timer, (uint64_t)ms, 0);
}

static void
on_written(uv_write_t *req, int status)
{
	struct pending_write *w = CONTAINER_OF(req, struct pending_write, req);
	struct stream *s = w->stream;

	s->queued -= w->len;
	s->octets_out += status == 0 ? w->len : 0;
	free(w);
	if (s->closing)
		return;
	if (s->choked && s->queued == 0) {
		s->choked = false;
		if (!s->told && buf_len(&s->unread) < READ_AHEAD)
			start_reading(s);
	}
	if (status < 0)
		tell_end(s, STREAM_FAILED, status);
	else if (s->queued == 0 && s->events->written != NULL)
		s->events->written(s);
}

static int
send_raw(struct stream *s, struct buf *out)
{
	struct span rest = buf_span(out);
	struct pending_write *w;
	uv_buf_t b;
	int rc = 0;

	if (rest.len == 0 || s->closing || s->told) {
		buf_clear(out);
		return 0;
	}
	if (s->queued == 0) {
		b = uv_buf_init(out->at + out->start, (unsigned)rest.len);
		rc = uv_try_write(&s->h.uv, &b, 1);
		if (rc > 0) {
			s->octets_out += (size_t)rc;
			rest = span_skip(rest, (size_t)rc);
		}
	}
	if (rest.len > 0) {		/* an error shows again here, and is told from the loop */
		w = xcalloc(1, sizeof(*w) + rest.len);
		w->stream = s;
		w->len = rest.len;
		memcpy(w->bytes, rest.at, rest.len);
		s->queued += rest.len;
		b = uv_buf_init(w->bytes, (unsigned)rest.len);
		rc = uv_write(&w->req, &s->h.uv, &b, 1, on_written);
		if (rc < 0) {
			s->queued -= rest.len;
			free(w);
		}
	}
	buf_clear(out);
	return rc < 0 && rc != UV_EAGAIN ? rc : 0;
}

static void
on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
	struct stream *s = stream_of(handle);

	(void)suggested;
	if (s->scratch->in.cap < READ_SIZE)
		buf_reserve(&s->scratch->in, READ_SIZE);
	*ret = uv_buf_init(s->scratch->in.at, READ_SIZE);
}

/*
 * Gives octets to the owner. False: nothing more may be given, nor kept of these: it has closed the
 * stream, or begun TLS.
 */
static bool
give(struct stream *s, struct span bytes, size_t *taken)
{
	const struct tls *before = s->tls;

	*taken = s->events->read(s, bytes);
	return !s->closing && s->tls == before;
}

/* Gives what is unread; true if all of it was taken. */
static bool
give_unread(struct stream *s)
{
	size_t taken;

	while (!s->paused && !s->closing && buf_len(&s->unread) > 0) {
		if (!give(s, buf_span(&s->unread), &taken))
			return !s->closing;
		buf_consume(&s->unread, taken);
		if (taken == 0)
			break;
	}
	if (s->closing || buf_len(&s->unread) > 0)
		return false;
	if (s->unread.cap > 0)
		buf_free(&s->unread);
	return true;
}

static void
give_fresh(struct stream *s, struct span bytes)
{
	size_t taken;

	if (buf_len(&s->unread) > 0 || s->paused) {
		buf_append(&s->unread, bytes);
		give_unread(s);
	} else if (!give(s, bytes, &taken)) {
		return;
	} else if (taken < bytes.len) {
		buf_append(&s->unread, span_skip(bytes, taken));
	}
	if (!s->closing && buf_len(&s->unread) >= READ_AHEAD)
		stop_reading(s);
}

/* No more octets will come. Told once what came before has been taken. */
static void
note_eof(struct stream *s)
{
	stop_reading(s);
	s->eof = true;
	if (!s->paused && buf_len(&s->unread) == 0)
		tell_end(s, STREAM_EOF, 0);
}

/* What arrived is decrypted whole, so that nothing waits inside of OpenSSL. */
static void
take_encrypted(struct stream *s, struct span in)
{
	struct stream_scratch *scratch = s->scratch;
	bool was_shaking = tls_state(s->tls) == TLS_SHAKING, unasked;
	enum tls_state state;

	buf_clear(&scratch->plain);
	state = tls_receive(s->tls, in, &scratch->plain, &scratch->out);
	unasked = buf_len(&scratch->out) > 0;
	send_raw(s, &scratch->out);
	/* a no to each renegotiation: who does not read them gets no more */
	if (unasked && s->queued >= UNASKED_MAX) {
		stop_reading(s);
		s->choked = true;
	}
	if (state == TLS_FAILED) {
		tell_end(s, STREAM_TLS_FAILED, UV_EPROTO);
		return;
	}
	if (was_shaking && state != TLS_SHAKING && s->events->secured != NULL)
		s->events->secured(s);
	if (!s->closing && !s->told && buf_len(&scratch->plain) > 0)
		give_fresh(s, buf_span(&scratch->plain));
	if (!s->closing && !s->told && state == TLS_CLOSED)
		note_eof(s);
}

static void
on_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *b)
{
	struct stream *s = stream_of(uv);

	if (n > 0) {
		s->octets_in += (size_t)n;
		if (s->tls != NULL)
			take_encrypted(s, span_of(b->base, (size_t)n));
		else
			give_fresh(s, span_of(b->base, (size_t)n));
		return;
	}
	if (n == 0)
		return;
	if (n == UV_EOF) {
		note_eof(s);
		return;
	}
	tell_end(s, STREAM_FAILED, (int)n);
}

void
stream_resume(struct stream *s)
{
	s->paused = false;
	if (s->closing || s->told || !give_unread(s))
		return;
	if (s->paused)
		return;
	if (s->eof)
		tell_end(s, STREAM_EOF, 0);
	else
		start_reading(s);
}

void
stream_pause(struct stream *s)
{
	s->paused = true;
}

static int
stream_init(struct stream *s, uv_loop_t *loop, bool is_unix, struct stream_scratch *scratch,
	    const struct stream_events *events)
{
	int rc;

	*s = (struct stream){ .events = events, .scratch = scratch };
	rc = is_unix ? uv_pipe_init(loop, &s->h.pipe, 0) : uv_tcp_init(loop, &s->h.tcp);
	if (rc < 0)
		return rc;
	uv_timer_init(loop, &s->timer);
	s->h.handle.data = s;
	s->timer.data = s;
	s->handles_open = 2;
	return 0;
}

int
stream_accept(struct stream *s, uv_loop_t *loop, int fd, bool is_unix,
	      struct stream_scratch *scratch, const struct stream_events *events)
{
	int rc = stream_init(s, loop, is_unix, scratch, events);

	if (rc == 0)
		rc = is_unix ? uv_pipe_open(&s->h.pipe, fd) : uv_tcp_open(&s->h.tcp, fd);
	if (rc < 0)
		close(fd);
	if (rc == 0 && !is_unix)
		uv_tcp_nodelay(&s->h.tcp, 1);
	return rc;
}

static void
on_connected(uv_connect_t *req, int status)
{
	struct stream *s = req->data;

	if (s->closing)
		return;
	if (status == 0 && s->h.handle.type == UV_TCP)
		uv_tcp_nodelay(&s->h.tcp, 1);
	s->events->connected(s, status);
}

/*
 * The port is chosen when it is known where to, so that it need be free for that only: else all
 * connections from one address would share 28,000.
 */
static int
bind_source(struct stream *s, const struct netaddr *source)
{
	struct sockaddr_storage sa;
	socklen_t len = netaddr_to_sockaddr(source, &sa);
	int on = 1, rc, fd = socket(source->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	rc = bind(fd, (struct sockaddr *)&sa, len) < 0 ? -errno : uv_tcp_open(&s->h.tcp, fd);
	if (rc < 0)
		close(fd);
	return rc;
}

int
stream_connect(struct stream *s, uv_loop_t *loop, const struct netaddr *to,
	       const struct netaddr *source, struct stream_scratch *scratch,
	       const struct stream_events *events)
{
	struct sockaddr_storage sa;
	int rc = stream_init(s, loop, false, scratch, events);

	if (rc < 0)
		return rc;
	if (source != NULL && source->family != 0)
		rc = bind_source(s, source);
	if (rc == 0) {
		netaddr_to_sockaddr(to, &sa);
		s->connect.data = s;
		rc = uv_tcp_connect(&s->connect, &s->h.tcp, (struct sockaddr *)&sa, on_connected);
	}
	return rc;
}

int
stream_connect_unix(struct stream *s, uv_loop_t *loop, const char *path,
		    struct stream_scratch *scratch, const struct stream_events *events)
{
	int rc = stream_init(s, loop, true, scratch, events);

	if (rc < 0)
		return rc;
	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return -ENAMETOOLONG;		/* libuv would cut it */
	s->connect.data = s;
	uv_pipe_connect(&s->connect, &s->h.pipe, path, on_connected);
	return 0;
}

int
stream_send(struct stream *s, struct buf *out)
{
	if (s->tls == NULL)
		return send_raw(s, out);
	if (buf_len(out) == 0 || s->closing || s->told) {
		buf_clear(out);
		return 0;
	}
	if (!tls_send(s->tls, buf_span(out), &s->scratch->out)) {
		buf_clear(out);
		buf_clear(&s->scratch->out);
		return UV_EPROTO;
	}
	buf_clear(out);
	return send_raw(s, &s->scratch->out);
}

void
stream_start_tls(struct stream *s, struct tls *tls)
{
	assert(s->tls == NULL);
	s->tls = tls;
	buf_free(&s->unread);
	take_encrypted(s, SPAN(""));
}

static void
say_bye(struct stream *s)
{
	if (s->tls == NULL || s->said_bye)
		return;
	s->said_bye = true;
	tls_close(s->tls, &s->scratch->out);
	send_raw(s, &s->scratch->out);
}

void
stream_shut(struct stream *s)
{
	uv_os_fd_t fd;

	if (s->closing || s->told)
		return;
	say_bye(s);
	if (s->queued == 0 && uv_fileno(&s->h.handle, &fd) == 0)
		shutdown(fd, SHUT_WR);
}

static void
on_handle_closed(uv_handle_t *handle)
{
	struct stream *s = stream_of(handle);

	if (--s->handles_open > 0)
		return;
	buf_free(&s->unread);
	tls_free(s->tls);
	s->events->closed(s);
}

void
stream_close(struct stream *s, bool reset)
{
	if (s->closing)
		return;
	if (!reset)
		say_bye(s);
	s->closing = true;
	if (reset && s->h.handle.type == UV_TCP) {
		struct linger hard = { .l_onoff = 1 };
		uv_os_fd_t fd;

		if (uv_fileno(&s->h.handle, &fd) == 0)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	}
	uv_close(&s->h.handle, on_handle_closed);
	uv_close((uv_handle_t *)&s->timer, on_handle_closed);
}
