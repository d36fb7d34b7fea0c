/*
 * smtp: hands a message in over the local socket: the outbound machine of mta/smtp, driven by
 * blocking calls. While the daemon is not there, or says that it is about to stop, it is tried
 * again for 30 s in all; what it has answered for a recipient is final.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/smtp/client.h"
#include "mta/sendmail/sendmail.h"

enum { PIECE = 65536 };

struct dialogue {
	int fd;
	struct smtp_client client;
	struct smtp_transaction transaction;
	const struct sendmail_message *message;
	struct buf in;
	struct reply failure;		/* of the session, in the arena */
	bool ended;			/* the transaction has its outcome */
};

/* ---- the socket --------------------------------------------------------------------------- */

void
sendmail_pause(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 250 * 1000 * 1000 }, NULL);
}

int
sendmail_connect(const char *path, int64_t began_ms)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int rc;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path));
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			return -errno;
		if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
			return fd;
		rc = -errno;
		close(fd);
		if ((rc != -ENOENT && rc != -ECONNREFUSED && rc != -EAGAIN && rc != -EINTR) ||
		    mono_ms() - began_ms >= SENDMAIL_WAIT_MS)
			return rc;
		sendmail_pause();
	}
}

static bool
send_all(int fd, struct buf *out)
{
	while (buf_len(out) > 0) {
		ssize_t n = send(fd, out->at + out->start, buf_len(out), MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		buf_consume(out, (size_t)n);
	}
	return true;
}

/* More of what the server says into d->in; false: it is gone, and *why tells. */
static bool
receive(struct dialogue *d, struct span *why)
{
	struct pollfd p = { .fd = d->fd, .events = POLLIN };
	int64_t timeout = smtp_client_timeout_ms(&d->client);
	int ready = poll(&p, 1, timeout < 0 || timeout > INT32_MAX ? -1 : (int)timeout);
	ssize_t n;

	*why = SPAN("no answer in time");
	if (ready == 0)
		return false;
	n = ready < 0 ? -1 : read(d->fd, buf_reserve(&d->in, PIECE), PIECE);
	if (n < 0 && errno == EINTR)
		return true;
	*why = n < 0 ? span_str(strerror(errno)) : SPAN("connection closed");
	if (n <= 0)
		return false;
	buf_grew(&d->in, (size_t)n);
	return true;
}

/* ---- the dialogue ------------------------------------------------------------------------- */

/* All of it. Should the daemon refuse it half way, it says so at the end: it swallows the rest. */
static bool
send_body(struct dialogue *d)
{
	struct span parts[] = { buf_span(&d->message->header), d->message->body };

	for (size_t i = 0; i < 2; i++)
		for (; parts[i].len > 0; parts[i] = span_skip(parts[i], PIECE)) {
			smtp_client_body(&d->client, span_first(parts[i], PIECE));
			if (buf_len(&d->client.out) >= PIECE && !send_all(d->fd, &d->client.out))
				return false;
		}
	smtp_client_body_end(&d->client);
	return true;
}

/* One event; false once there is nothing more to say. */
static bool
step(struct dialogue *d)
{
	struct smtp_transaction *done = NULL;
	enum smtp_client_event event;
	struct span why;
	size_t taken = smtp_client_take(&d->client, buf_span(&d->in), &event, &done);

	buf_consume(&d->in, taken);
	switch (event) {
	case CLIENT_READY:
		if (d->ended)
			smtp_client_quit(&d->client);
		else
			smtp_client_send(&d->client, &d->transaction);
		break;
	case CLIENT_BODY:
		if (!send_body(d))
			smtp_client_lost(&d->client, span_str(strerror(errno)));
		break;
	case CLIENT_DONE:
		d->ended = true;
		break;
	case CLIENT_AUTH:
	case CLIENT_START_TLS:
	case CLIENT_CLOSED:
		return false;
	case CLIENT_WAIT:
		if (!send_all(d->fd, &d->client.out))
			smtp_client_lost(&d->client, span_str(strerror(errno)));
		else if (!receive(d, &why))
			smtp_client_lost(&d->client, why);
		break;
	}
	return true;
}

static const struct smtp_client_config client_config = {
	.ehlo_name = { "localhost", 9 },
	.pipelining = true,
	.chunking = false,
	.max_reply = 65536,
	.timeouts = { .banner = 60000,
		      .ehlo = 60000,
		      .mail = 60000,
		      .rcpt = 60000,
		      .data = 60000,
		      .block = 60000,
		      .dot = 300000,
		      .quit = 5000 },
};

/* Writing is blocking, but not for ever. */
static void
run(struct dialogue *d, struct arena *arena)
{
	struct timeval patience = { .tv_sec = 60 };

	setsockopt(d->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	smtp_client_init(&d->client, &client_config);
	while (step(d))
		;
	if (buf_len(&d->client.out) > 0)
		send_all(d->fd, &d->client.out);
	d->failure = d->client.failure;
	d->failure.text = arena_copy(arena, d->failure.text);
	smtp_client_free(&d->client);
	buf_free(&d->in);
	close(d->fd);
}

/* ---- outcomes ----------------------------------------------------------------------------- */

static int
exit_code_of(const struct smtp_client_recipient *r)
{
	const struct status *s = &r->reply.status;

	if (r->fate == FATE_DELIVERED)
		return EX_OK;
	if (r->fate != FATE_PERMANENT)
		return EX_TEMPFAIL;
	if (s->subject == 1 || r->reply.code == 501 || r->reply.code == 553)
		return EX_NOUSER;
	if (s->subject == 6 || (r->reply.code == 550 && s->subject == 5 && s->detail == 2))
		return EX_DATAERR;
	return s->subject == 7 ? EX_NOPERM : EX_UNAVAILABLE;
}

static void
tell(const struct sendmail *s, const struct smtp_client_recipient *r)
{
	struct buf line = { 0 };

	if ((r->fate == FATE_DELIVERED && !s->verbose) || s->quiet)
		return;
	if (r->reply.code > 0)
		reply_to_line(&r->reply, &line);
	else
		buf_append(&line, r->reply.text.len > 0 ? r->reply.text
							: SPAN("the connection to tramd was lost"));
	fprintf(stderr, "sendmail: %.*s: %.*s\n", SPAN_FMT(r->recipient->address),
		SPAN_FMT(buf_span(&line)));
	buf_free(&line);
}

/* What must be tried again counts most: the caller keeps the message then. */
static int
outcome(const struct sendmail *s, const struct smtp_transaction *t)
{
	int worst = EX_OK;

	for (size_t i = 0; i < t->recipient_count; i++) {
		int code = exit_code_of(&t->recipients[i]);

		tell(s, &t->recipients[i]);
		if (code != EX_OK && worst != EX_TEMPFAIL)
			worst = code;
	}
	return worst;
}

/*
 * The daemon was on its way out, or full: nothing was begun, and a moment later it may be
 * otherwise.
 */
static bool
worth_again(const struct dialogue *d)
{
	return !d->ended && !d->transaction.started && d->failure.code / 100 != 5;
}

/* ---- the transaction ---------------------------------------------------------------------- */

static void
prepare(const struct sendmail *s, const struct sendmail_message *m, struct arena *arena,
	struct envelope *envelope, struct smtp_transaction *t)
{
	size_t count = s->recipients.count;

	*envelope = (struct envelope){ .reverse_path = s->sender,
				       .envid = s->envid,
				       .ret = s->ret,
				       .body = m->eightbit ? BODY_8BITMIME : BODY_7BIT,
				       .smtputf8 = !span_is_ascii(s->sender),
				       .recipients =
					       arena_alloc(arena, count * sizeof(struct recipient)),
				       .recipient_count = count };
	*t = (struct smtp_transaction){
		.arena = arena, .envelope = envelope, .recipient_count = count,
		.recipients = arena_alloc(arena, count * sizeof(struct smtp_client_recipient)),
		.size = buf_len(&m->header) + m->body.len, .needs_8bit = m->eightbit };
	for (size_t i = 0; i < count; i++) {
		envelope->recipients[i] =
			(struct recipient){ .address = s->recipients.list[i], .notify = s->notify };
		t->recipients[i].recipient = &envelope->recipients[i];
		envelope->smtputf8 = envelope->smtputf8 || !span_is_ascii(s->recipients.list[i]);
	}
	t->needs_smtputf8 = envelope->smtputf8;
}

int
sendmail_no_daemon(const struct sendmail *s, int error)
{
	if (error == -EACCES || error == -EPERM)
		return sendmail_fail(EX_NOPERM, "you may not open %s", s->socket);
	return sendmail_fail(EX_TEMPFAIL, "tramd does not answer at %s: %s", s->socket,
			     strerror(-error));
}

int
sendmail_submit(const struct sendmail *s, const struct sendmail_message *m)
{
	int64_t began = mono_ms();
	struct arena arena = { 0 };
	struct envelope envelope;
	struct dialogue d;
	int rc;

	for (;;) {
		d = (struct dialogue){ .message = m };
		d.fd = sendmail_connect(s->socket, began);
		if (d.fd < 0) {
			rc = sendmail_no_daemon(s, d.fd);
			break;
		}
		prepare(s, m, &arena, &envelope, &d.transaction);
		run(&d, &arena);
		if (worth_again(&d) && mono_ms() - began < SENDMAIL_WAIT_MS) {
			sendmail_pause();
			continue;
		}
		if (d.ended)
			rc = outcome(s, &d.transaction);
		else
			rc = sendmail_fail(d.failure.code / 100 == 5 ? EX_UNAVAILABLE : EX_TEMPFAIL,
					   "tramd took nothing: %.*s", SPAN_FMT(d.failure.text));
		break;
	}
	arena_free(&arena);
	return rc;
}
