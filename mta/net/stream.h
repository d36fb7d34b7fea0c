/*
 * net/stream: one connection: octets in, octets out, one deadline, one end. TCP or Unix, with or
 * without TLS, which can begin at any time and never ends before the connection does: from
 * stream_start_tls() on nothing that is not encrypted comes in or goes out.
 *
 * Reading fills a buffer that all streams of a loop share: the octets given to `read` are good
 * only during the call. What it does not take is kept in `unread`; the owner goes on with it by
 * stream_resume(), which calls `read` again, at once, with what is unread. While the owner is
 * not ready (stream_pause) a little is read ahead, then the peer waits. The end of the peer's
 * octets is told only when all before it have been taken. Writing tries at once and queues what
 * the kernel does not take; errors are told by `ended`, from the loop.
 */
#ifndef TRAM_NET_STREAM_H
#define TRAM_NET_STREAM_H

#include <uv.h>

#include "mta/base/buf.h"
#include "mta/base/netaddr.h"
#include "mta/base/span.h"
#include "mta/tls/tls.h"

enum stream_end {
	STREAM_EOF,		/* the peer has closed its side */
	STREAM_FAILED,		/* reset, broken pipe …: error has the errno */
	STREAM_TIMEOUT,		/* the deadline has passed */
	STREAM_TLS_FAILED,	/* tls_error(stream->tls) says why */
};

/*
 * What the streams of a loop share, so that an idle one needs no room: contents are good only
 * during a call.
 */
struct stream_scratch {
	struct buf in;			/* as read */
	struct buf plain;		/* decrypted */
	struct buf out;			/* encrypted */
};

struct stream;

struct stream_events {
	void (*connected)(struct stream *stream, int error);		/* stream_connect only */
	/* The handshake is done; what came with it follows by `read`. */
	void (*secured)(struct stream *stream);
	/*
	 * Returns how many octets it took; fewer than given: the rest waits until stream_resume().
	 */
	size_t (*read)(struct stream *stream, struct span bytes);
	/* all that was queued has left */
	void (*written)(struct stream *stream);
	void (*ended)(struct stream *stream, enum stream_end end, int error);
	/* after stream_close(): memory may go */
	void (*closed)(struct stream *stream);
};

struct stream {
	union {
		uv_handle_t handle;
		uv_stream_t uv;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} h;
	uv_timer_t timer;
	uv_connect_t connect;
	const struct stream_events *events;
	struct buf unread;		/* given, not taken */
	struct stream_scratch *scratch;
	struct tls *tls;		/* NULL: plain */
	size_t queued;			/* octets in uv's write queue */
	int64_t deadline_ms;		/* of the loop's clock; 0: none */
	uint64_t octets_in, octets_out;
	bool reading, paused, closing, told;
	bool eof;		/* has come, not yet told */
	bool choked;		/* not read until what is queued has left */
	bool said_bye;		/* our close_notify is on its way */
	int handles_open;
};

void stream_scratch_free(struct stream_scratch *scratch);

/*
 * Makes the stream of an accepted descriptor, which it owns from here on. 0 or negative errno
 * (fd is then closed).
 */
int stream_accept(struct stream *stream, uv_loop_t *loop, int fd, bool is_unix,
		  struct stream_scratch *scratch, const struct stream_events *events);
/*
 * Begins to connect; source may be NULL, else it is the address to do it from. `connected` follows,
 * but not behind a negative errno: -EADDRNOTAVAIL, the source is not ours.
 */
int stream_connect(struct stream *stream, uv_loop_t *loop, const struct netaddr *to,
		   const struct netaddr *source, struct stream_scratch *scratch,
		   const struct stream_events *events);
/* The same to a Unix socket. */
int stream_connect_unix(struct stream *stream, uv_loop_t *loop, const char *path,
			struct stream_scratch *scratch, const struct stream_events *events);
void stream_resume(struct stream *stream);	/* read (on); what is unread first */
void stream_pause(struct stream *stream);
/*
 * TLS from here on; tls is the stream's. What was sent before goes out in plain, what was read and
 * not taken is dropped: nobody may put commands before the handshake and have them count after it.
 */
void stream_start_tls(struct stream *stream, struct tls *tls);
/* Sends all of buf (and empties it). 0, or negative errno: `ended` follows. */
int stream_send(struct stream *stream, struct buf *out);
/*
 * Nothing more will be sent: close_notify, and FIN once nothing is queued (call it again when it
 * has been written). What the peer still says is read.
 */
void stream_shut(struct stream *stream);
/*
 * `ended` with STREAM_TIMEOUT after so long; replaces the last; -1: none. Cheap: the timer moves
 * only when due.
 */
void stream_deadline(struct stream *stream, int64_t ms);
/*
 * After it no callback comes but `closed`. reset: RST instead of FIN. Output that is queued is
 * lost, unless flushed.
 */
void stream_close(struct stream *stream, bool reset);

#endif
