/*
 * pass: -bs, SMTP on standard input and output, passed on to the daemon's local socket.
 *
 * Programs write a whole session into it at once, DATA and message too, and end lines as they
 * like. The daemon takes no message before it has said 354 (it might be smuggled), so lines are
 * passed on one by one, each after the reply to the one before, and get CRLF.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/sendmail/sendmail.h"

enum { AHEAD = 65536 };			/* octets of input that are held */

struct pass {
	int fd;
	struct buf in;			/* from standard input, not passed on */
	bool in_ended;
	bool waiting;			/* for a reply */
	bool in_data;			/* between 354 and the dot */
	bool line_open;			/* its beginning was passed on */
	bool asked_data;		/* the last command was DATA */
	uint64_t chunk;			/* octets of BDAT that follow */
	struct buf reply;		/* the line so far */
};

static bool
pass_on(int fd, struct span s)
{
	while (s.len > 0) {
		ssize_t n = send(fd, s.at, s.len, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return false;
		s = span_skip(s, n < 0 ? 0 : (size_t)n);
	}
	return true;
}

/* What a command means for what follows it. */
static void
note_command(struct pass *p, struct span line)
{
	struct span rest = span_trim(line), verb = span_cut(&rest, ' '),
		    size = span_cut(&rest, ' ');

	p->asked_data = span_ieq(verb, SPAN("DATA"));
	if (!span_ieq(verb, SPAN("BDAT")) || !span_to_u64(size, UINT64_MAX, &p->chunk))
		p->chunk = 0;
	p->waiting = p->chunk == 0;
}

static bool
pass_chunk(struct pass *p)
{
	struct span some =
		span_first(buf_span(&p->in), p->chunk < AHEAD ? (size_t)p->chunk : AHEAD);
	bool ok = pass_on(p->fd, some);

	p->chunk -= some.len;
	buf_consume(&p->in, some.len);
	p->waiting = p->chunk == 0;
	return ok;
}

/*
 * A whole line, or, of one that is longer than what is held, its beginning. False: the daemon is
 * gone.
 */
static bool
pass_line(struct pass *p, bool *idle)
{
	struct span all = buf_span(&p->in), line = all;
	const char *end = span_find(all, '\n');
	bool begins = !p->line_open, ok;

	*idle = end == NULL && all.len < AHEAD && !(p->in_ended && all.len > 0);
	if (*idle)
		return true;
	line.len = end != NULL ? (size_t)(end - all.at) : all.len;
	p->line_open = end == NULL && !p->in_ended;
	if (p->line_open)
		line.len--;			/* it might be the CR of its end */
	else if (line.len > 0 && line.at[line.len - 1] == '\r')
		line.len--;
	ok = pass_on(p->fd, line) && (p->line_open || pass_on(p->fd, SPAN("\r\n")));
	if (!p->in_data && !p->line_open) {
		note_command(p, line);
	} else if (begins && !p->line_open && span_eq(line, SPAN("."))) {
		p->in_data = false;
		p->asked_data = false;
		p->waiting = true;
	}
	buf_consume(&p->in, p->line_open  ? line.len
			    : end != NULL ? (size_t)(end - all.at) + 1
					  : all.len);
	return ok;
}

static bool
pass_input(struct pass *p)
{
	bool idle = false;

	while (!p->waiting && !idle) {
		if (p->chunk > 0 && buf_len(&p->in) == 0)
			break;
		if (!(p->chunk > 0 ? pass_chunk(p) : pass_line(p, &idle)))
			return false;
	}
	if (p->in_ended && buf_len(&p->in) == 0 && !p->waiting)
		shutdown(p->fd, SHUT_WR);
	return true;
}

/* A reply's last line has its code and a blank. */
static void
note_reply(struct pass *p, struct span octets)
{
	while (octets.len > 0) {
		const char *end = span_find(octets, '\n');
		struct span line;

		buf_append(&p->reply, span_first(octets, end == NULL ? octets.len
								     : (size_t)(end - octets.at)));
		octets =
			span_skip(octets, end == NULL ? octets.len : (size_t)(end - octets.at) + 1);
		if (end == NULL)
			return;
		line = buf_span(&p->reply);
		if (line.len >= 3 && (line.len == 3 || line.at[3] != '-')) {
			p->waiting = false;
			p->in_data = p->asked_data && span_starts(line, SPAN("354"));
		}
		buf_clear(&p->reply);
	}
}

static bool
take_replies(struct pass *p)
{
	char bytes[16384];
	ssize_t n = read(p->fd, bytes, sizeof(bytes)), done = 0;

	if (n < 0 && errno == EINTR)
		return true;
	while (done < n) {
		ssize_t written = write(STDOUT_FILENO, bytes + done, (size_t)(n - done));

		if (written < 0 && errno != EINTR)
			return false;
		done += written < 0 ? 0 : written;
	}
	if (n > 0)
		note_reply(p, span_of(bytes, (size_t)n));
	return n > 0;
}

static void
take_input(struct pass *p)
{
	ssize_t n = read(STDIN_FILENO, buf_reserve(&p->in, AHEAD), AHEAD);

	if (n > 0)
		buf_grew(&p->in, (size_t)n);
	else if (n == 0 || errno != EINTR)
		p->in_ended = true;
}

int
sendmail_pass_smtp(const struct sendmail *s)
{
	struct pass p = { .fd = sendmail_connect(s->socket, mono_ms()), .waiting = true };
	bool alive = true;

	if (p.fd < 0) {
		printf("421 4.3.2 the mail system does not answer\r\n");
		return sendmail_no_daemon(s, p.fd);
	}
	while (alive) {
		bool wants = !p.in_ended && buf_len(&p.in) < AHEAD;
		struct pollfd fds[2] = { { .fd = p.fd, .events = POLLIN },
					 { .fd = wants ? STDIN_FILENO : -1, .events = POLLIN } };

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents != 0)
			take_input(&p);
		if (fds[0].revents != 0)
			alive = take_replies(&p);
		alive = alive && pass_input(&p);
	}
	close(p.fd);
	buf_free(&p.in);
	buf_free(&p.reply);
	return EX_OK;
}
