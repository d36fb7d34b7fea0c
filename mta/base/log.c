/*
 * log: see log.h. The thread that writes, and what hands lines to it.
 *
 * Two buffers of equal size take turns: callers fill one under a mutex that is held for one
 * memcpy, the log thread writes the other without it, so a sink that blocks stops nobody. A
 * thread that hangs in write() cannot be ended: log_stop() leaves it alone, with a buffer and a
 * descriptor that are its own, and a new generation number tells it to go away should it ever
 * wake.
 */
#include "mta/base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/base/arena.h"
#include "mta/base/clock.h"
#include "mta/base/open_as.h"

enum {
	GATHER_MS = 20,		/* lines that come together go in one write */
	STOP_MS = 2000,
	/* how often a thread that waits for its sink looks whether it is still wanted */
	POLL_MS = 100,
};

/* What the log thread owns alone. */
struct log_writer {
	uint64_t generation;
	int fd;
	bool torn;		/* the last write ended inside a line */
	char *at;
	size_t len;
};

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t work, ended;
	pthread_t thread;
	bool conditions_made, running, stopping, finished, reopen;
	uint64_t generation;
	char *fill;		/* filled by callers */
	size_t used, cap;
	uint64_t unreported;	/* lines lost and not yet said so */
	char *path;		/* NULL: standard error */
	int next_fd;		/* to be taken over by the thread; -1: none */
} logger = {
	.mutex = PTHREAD_MUTEX_INITIALIZER,
	.next_fd = -1,
};

static atomic_uint_fast64_t lost_lines;

static struct timespec
deadline_in(int64_t ms)
{
	int64_t at = mono_ms() + ms;

	return (struct timespec){ .tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000 };
}

/* Non-blocking, so that a FIFO nobody reads cannot hang the thread. Negative errno if it fails. */
static int
open_sink(const char *path, uid_t uid, gid_t gid)
{
	int fd;

	if (path != NULL)
		return open_as(path,
			       O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
			       0640, uid, gid);
	fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : fd;
}

/* Opened by root, reopened by the user who runs by then: it must be that one's. */
static void
give_away(int fd, const struct log_config *config)
{
	struct stat there;

	if (config->path == NULL || config->uid == 0 || geteuid() != 0)
		return;
	if (fstat(fd, &there) == 0 && S_ISREG(there.st_mode) && there.st_uid == 0 &&
	    fchown(fd, config->uid, config->gid) < 0)
		fprintf(stderr, "tramd: %s stays root's: %s\n", config->path, strerror(errno));
}

static size_t
count_lines(struct span s)
{
	size_t n = 0;

	for (const char *end; (end = span_find(s, '\n')) != NULL; n++)
		s = span_skip(s, (size_t)(end - s.at) + 1);
	return n;
}

static void
lose(size_t lines)
{
	logger.unreported += lines;
	atomic_fetch_add(&lost_lines, lines);
}

static bool
still_wanted(const struct log_writer *writer)
{
	bool wanted;

	pthread_mutex_lock(&logger.mutex);
	wanted = writer->generation == logger.generation;
	pthread_mutex_unlock(&logger.mutex);
	return wanted;
}

/* Returns the octets written: fewer if the sink failed, or nobody wants them any more. */
static size_t
write_all(const struct log_writer *writer, struct span s)
{
	size_t at = 0;

	while (at < s.len) {
		ssize_t n = write(writer->fd, s.at + at, s.len - at);

		if (n > 0) {
			at += (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			struct pollfd pfd = { .fd = writer->fd, .events = POLLOUT };

			poll(&pfd, 1, POLL_MS);
			if (!still_wanted(writer))
				break;
		} else if (n == 0 || errno != EINTR) {
			break;
		}
	}
	return at;
}

/* Without the mutex. Returns the lines that could not be written. */
static size_t
write_batch(struct log_writer *writer)
{
	struct span batch = span_of(writer->at, writer->len);
	size_t done;

	if (batch.len == 0)
		return 0;
	if (writer->torn && write_all(writer, SPAN("\n")) == 0)
		return count_lines(batch);
	done = write_all(writer, batch);
	writer->torn = done < batch.len && (done == 0 ? writer->torn : batch.at[done - 1] != '\n');
	return count_lines(span_skip(batch, done));
}

/* The buffer has room for one line beyond its bound: for this one. */
static void
append_loss(struct log_writer *writer, uint64_t lost)
{
	struct log_line line;

	log_line_open(&line, LOG_WARNING, "log-lost");
	log_u64(&line, "lines", lost);
	log_line_close(&line);
	memcpy(writer->at + writer->len, line.at, line.len);
	writer->len += line.len;
}

static void
tell_not_reopened(struct log_writer *writer, int error)
{
	struct log_line line;

	log_line_open(&line, LOG_ERROR, "log-reopen");
	log_str(&line, "msg", "the log file cannot be opened again, the old one is used");
	log_errno(&line, "error", error);
	log_line_close(&line);
	write_all(writer, span_of(line.at, line.len));
}

/* With the mutex held: waits for something to do, and then a little for what comes with it. */
static void
wait_for_work(void)
{
	struct timespec until;

	while (logger.used == 0 && !logger.stopping && !logger.reopen && logger.next_fd < 0)
		pthread_cond_wait(&logger.work, &logger.mutex);
	until = deadline_in(GATHER_MS);
	while (logger.used < logger.cap / 2 && !logger.stopping && !logger.reopen &&
	       logger.next_fd < 0)
		if (pthread_cond_timedwait(&logger.work, &logger.mutex, &until) != 0)
			break;
}

/* With the mutex held, but not while opening: a dead disk must stop this thread alone. */
static void
change_sink(struct log_writer *writer)
{
	int fd = logger.next_fd;
	char *path = NULL;

	logger.next_fd = -1;
	if (fd < 0 && logger.reopen && logger.path != NULL)
		path = strdup(logger.path);
	logger.reopen = false;
	if (path != NULL) {
		pthread_mutex_unlock(&logger.mutex);
		fd = open_sink(path, 0, 0);
		free(path);
		if (fd < 0)
			tell_not_reopened(writer, fd);
		pthread_mutex_lock(&logger.mutex);
	}
	if (fd < 0)
		return;			/* the old one is better than none */
	close(writer->fd);
	writer->fd = fd;
	writer->torn = false;
}

/* With the mutex held: the filled buffer to the writer, the empty one to the callers. */
static uint64_t
swap_buffers(struct log_writer *writer)
{
	char *empty = writer->at;
	uint64_t lost = logger.unreported;

	writer->at = logger.fill;
	writer->len = logger.used;
	logger.fill = empty;
	logger.used = 0;
	if (writer->len > 0)
		logger.unreported = 0;
	return writer->len > 0 ? lost : 0;
}

static void *
run_writer(void *arg)
{
	struct log_writer *writer = arg;

	pthread_mutex_lock(&logger.mutex);
	while (writer->generation == logger.generation && !(logger.stopping && logger.used == 0)) {
		uint64_t lost;
		size_t failed;

		wait_for_work();
		if (logger.next_fd >= 0 || logger.reopen)
			change_sink(writer);
		if (writer->generation != logger.generation)
			break;
		lost = swap_buffers(writer);
		pthread_mutex_unlock(&logger.mutex);
		if (lost > 0)
			append_loss(writer, lost);
		failed = write_batch(writer);
		pthread_mutex_lock(&logger.mutex);
		if (writer->generation != logger.generation)
			break; /* given up while it was blocked: counted by log_stop() */
		/* the report stood last: it is no loss of its own */
		if (failed > 0 && lost > 0) {
			logger.unreported += lost;
			failed--;
		}
		lose(failed);
	}
	if (writer->generation == logger.generation) {
		logger.finished = true;
		pthread_cond_signal(&logger.ended);
	}
	pthread_mutex_unlock(&logger.mutex);
	close(writer->fd);
	free(writer->at);
	free(writer);
	return NULL;
}

/* With the mutex held, once for all starts: a thread that was given up may still hold them. */
static void
make_conditions(void)
{
	pthread_condattr_t monotonic;

	if (logger.conditions_made)
		return;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&logger.work, &monotonic);
	pthread_cond_init(&logger.ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
	logger.conditions_made = true;
}

static int
start_thread(struct log_writer *writer)
{
	sigset_t all, old;
	int error;

	/* Signals are for the first reactor; a pipe nobody reads is an error of write(). */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&logger.thread, NULL, run_writer, writer);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -error;
}

static void
set_path(const char *path)
{
	free(logger.path);
	logger.path = path == NULL ? NULL : strdup(path);
	if (path != NULL && logger.path == NULL)
		abort();
}

int
log_start(const struct log_config *config)
{
	size_t half = config->ring_octets / 2, least = 2 * LOG_LINE_MAX,
	       cap = half < least ? least : half;
	struct log_writer *writer;
	int error, fd = open_sink(config->path, config->uid, config->gid);

	if (fd < 0)
		return fd;
	give_away(fd, config);
	log_line_shape(config->level, config->format);
	writer = xcalloc(1, sizeof(*writer));
	writer->fd = fd;
	writer->at = xcalloc(1, cap + LOG_LINE_MAX);
	pthread_mutex_lock(&logger.mutex);
	assert(!logger.running);
	make_conditions();
	set_path(config->path);
	writer->generation = ++logger.generation;
	logger.fill = xcalloc(1, cap + LOG_LINE_MAX);
	logger.cap = cap;
	logger.used = 0;
	/* the report belongs to the log in which the lines are missing */
	logger.unreported = 0;
	logger.stopping = logger.finished = logger.reopen = false;
	error = start_thread(writer);
	logger.running = error == 0;
	if (error != 0) {
		free(logger.fill);
		logger.fill = NULL;
		close(fd);
		free(writer->at);
		free(writer);
	}
	pthread_mutex_unlock(&logger.mutex);
	return error;
}

int
log_configure(const struct log_config *config)
{
	bool same;
	int fd = -1;

	pthread_mutex_lock(&logger.mutex);
	same = !logger.running || (config->path == NULL ? logger.path == NULL
				   : logger.path != NULL && strcmp(config->path, logger.path) == 0);
	pthread_mutex_unlock(&logger.mutex);
	if (!same && (fd = open_sink(config->path, 0, 0)) < 0)
		return fd;
	log_line_shape(config->level, config->format);
	if (same)
		return 0;
	pthread_mutex_lock(&logger.mutex);
	set_path(config->path);
	if (logger.next_fd >= 0)
		close(logger.next_fd);
	logger.next_fd = fd;
	pthread_cond_signal(&logger.work);
	pthread_mutex_unlock(&logger.mutex);
	return 0;
}

void
log_reopen(void)
{
	pthread_mutex_lock(&logger.mutex);
	logger.reopen = true;
	if (logger.running)
		pthread_cond_signal(&logger.work);
	pthread_mutex_unlock(&logger.mutex);
}

void
log_stop(void)
{
	struct timespec until = deadline_in(STOP_MS);
	bool finished;

	pthread_mutex_lock(&logger.mutex);
	if (!logger.running) {
		pthread_mutex_unlock(&logger.mutex);
		return;
	}
	logger.running = false;		/* from now on lines go straight to standard error */
	logger.stopping = true;
	pthread_cond_signal(&logger.work);
	while (!logger.finished)
		if (pthread_cond_timedwait(&logger.ended, &logger.mutex, &until) != 0)
			break;
	finished = logger.finished;
	if (!finished) {
		logger.generation++;
		lose(count_lines(span_of(logger.fill, logger.used)));
	}
	free(logger.fill);
	logger.fill = NULL;
	logger.used = 0;
	set_path(NULL);
	if (logger.next_fd >= 0)
		close(logger.next_fd);
	logger.next_fd = -1;
	pthread_mutex_unlock(&logger.mutex);
	if (finished)
		pthread_join(logger.thread, NULL);
	else
		pthread_detach(logger.thread);
}

uint64_t
log_lost(void)
{
	return atomic_load(&lost_lines);
}

bool
log_hand_over(struct span line)
{
	bool running;

	pthread_mutex_lock(&logger.mutex);
	running = logger.running;
	if (running && logger.used + line.len > logger.cap) {
		lose(1);
	} else if (running) {
		bool first = logger.used == 0, was_low = logger.used < logger.cap / 2;

		memcpy(logger.fill + logger.used, line.at, line.len);
		logger.used += line.len;
		if (first || (was_low && logger.used >= logger.cap / 2))
			pthread_cond_signal(&logger.work);
	}
	pthread_mutex_unlock(&logger.mutex);
	return running;
}
