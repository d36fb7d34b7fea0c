/*
 * shim: goes in front of libc (LD_PRELOAD) and stands between tramd and the disk, for what happens
 * to data.mdb alone (and to data.new, which becomes data.mdb when it is on disk).
 *
 * TRAM_SHIM_LOG=FILE       notes each write, change of length and sync, in order (struct note, then the octets);
 *                          test_power.py makes from it the files that a power cut could have left
 * TRAM_SHIM_SYNC_MS=N      a sync takes N ms longer
 * TRAM_SHIM_SYNC_FAILS=N   the N-th sync and all that follow fail with EIO
 * TRAM_SHIM_STATFS=N       every file system is of this type (the numbers of statfs(2); 0x… is hexadecimal)
 *
 * It calls the kernel itself and never libc's function of the same name, so it needs no dlsym() and
 * does not care who else (a sanitizer) stands in that place.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { NOTE_WRITE = 1, NOTE_LENGTH, NOTE_ALLOCATE, NOTE_SYNC, NOTE_MSYNC, NOTE_NAME };

struct note {
	uint64_t begin_ns, end_ns;		/* CLOCK_MONOTONIC */
	uint32_t kind;
	uint32_t durable;			/* the file was opened with O_DSYNC */
	uint64_t offset, length;
};

enum { FDS = 4096, WATCHED = 1, DURABLE = 2 };

static unsigned char watched[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;

static uint64_t
now_ns(void)
{
	struct timespec t;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static long
setting(const char *name)
{
	const char *text = getenv(name);

	return text != NULL ? strtol(text, NULL, 0) : 0;
}

static int
is_watched(int fd)
{
	return fd >= 0 && fd < FDS ? watched[fd] : 0;
}

static void
note(int fd, enum kind kind, uint64_t begin_ns, uint64_t offset, uint64_t length,
     const struct iovec *parts, int count)
{
	struct note n = { begin_ns, now_ns(), kind, (is_watched(fd) & DURABLE) != 0, offset,
			  length };
	const char *path = getenv("TRAM_SHIM_LOG");
	struct iovec out[1 + 1024] = { { &n, sizeof(n) } };
	int saved = errno;

	if (path == NULL)
		return;
	memcpy(out + 1, parts, (size_t)count * sizeof(*parts));
	pthread_mutex_lock(&lock);
	if (log_fd < 0)
		log_fd = (int)syscall(SYS_openat, AT_FDCWD, path,
				      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (syscall(SYS_writev, log_fd, out, 1 + count) < (long)sizeof(n))
		abort();
	pthread_mutex_unlock(&lock);
	errno = saved;
}

/*
 * ---- which descriptors
 * ---------------------------------------------------------------------------------------
 */

static int
ends_in(const char *text, const char *end)
{
	size_t len = strlen(text), want = strlen(end);

	return len >= want && strcmp(text + len - want, end) == 0;
}

static int
do_open(int at, const char *path, int flags, mode_t mode)
{
	int fd = (int)syscall(SYS_openat, at, path, flags, mode);

	if (fd >= 0 && fd < FDS)
		watched[fd] = 0;
	if (fd >= 0 && fd < FDS && (flags & O_ACCMODE) != O_RDONLY &&
	    (ends_in(path, "/data.mdb") || ends_in(path, "/data.new")))
		watched[fd] = WATCHED | ((flags & O_DSYNC) ? DURABLE : 0);
	return fd;
}

static mode_t
mode_of(int flags, va_list ap)
{
	return (flags & (O_CREAT | O_TMPFILE)) ? va_arg(ap, mode_t) : 0;
}

int
open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	return do_open(AT_FDCWD, path, flags, mode);
}

int
openat(int at, const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	return do_open(at, path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int openat64(int at, const char *path, int flags, ...) __attribute__((alias("openat")));

int
renameat(int from_at, const char *from, int to_at, const char *to)
{
	uint64_t begin_ns = now_ns();
	int r = (int)syscall(SYS_renameat2, from_at, from, to_at, to, 0);

	if (r == 0 && ends_in(to, "data.mdb"))
		note(-1, NOTE_NAME, begin_ns, 0, 0, NULL, 0);
	return r;
}

int
close(int fd)
{
	if (fd >= 0 && fd < FDS)
		watched[fd] = 0;
	return (int)syscall(SYS_close, fd);
}

/*
 * ---- writes
 * --------------------------------------------------------------------------------------------------
 */

static ssize_t
written(int fd, ssize_t done, uint64_t begin_ns, uint64_t offset, const struct iovec *parts,
	int count)
{
	struct iovec cut[1024];
	size_t left = done > 0 ? (size_t)done : 0;
	int n = 0;

	for (; n < count && left > 0; n++) {
		cut[n] = parts[n];
		if (cut[n].iov_len > left)
			cut[n].iov_len = left;
		left -= cut[n].iov_len;
	}
	if (done > 0)
		note(fd, NOTE_WRITE, begin_ns, offset, (uint64_t)done, cut, n);
	return done;
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t offset)
{
	struct iovec part = { (void *)(uintptr_t)data, len };
	uint64_t begin_ns = now_ns();
	ssize_t done = syscall(SYS_pwrite64, fd, data, len, offset);

	return is_watched(fd) ? written(fd, done, begin_ns, (uint64_t)offset, &part, 1) : done;
}
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset)
	__attribute__((alias("pwrite")));

ssize_t
writev(int fd, const struct iovec *parts, int count)
{
	uint64_t begin_ns = now_ns();
	off_t at = is_watched(fd) ? syscall(SYS_lseek, fd, 0, SEEK_CUR) : 0;
	ssize_t done = syscall(SYS_writev, fd, parts, count);

	return is_watched(fd) ? written(fd, done, begin_ns, (uint64_t)at, parts, count) : done;
}

ssize_t
pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
	uint64_t begin_ns = now_ns();
	ssize_t done = syscall(SYS_pwritev, fd, parts, count, offset, 0);

	return is_watched(fd) ? written(fd, done, begin_ns, (uint64_t)offset, parts, count) : done;
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
	__attribute__((alias("pwritev")));

ssize_t
write(int fd, const void *data, size_t len)
{
	struct iovec part = { (void *)(uintptr_t)data, len };

	return is_watched(fd) ? writev(fd, &part, 1) : syscall(SYS_write, fd, data, len);
}

/*
 * ---- length and syncs
 * ----------------------------------------------------------------------------------------
 */

int
ftruncate(int fd, off_t length)
{
	uint64_t begin_ns = now_ns();
	int r = (int)syscall(SYS_ftruncate, fd, length);

	if (r == 0 && is_watched(fd))
		note(fd, NOTE_LENGTH, begin_ns, 0, (uint64_t)length, NULL, 0);
	return r;
}
int ftruncate64(int fd, off64_t length) __attribute__((alias("ftruncate")));

int
fallocate(int fd, int mode, off_t offset, off_t length)
{
	uint64_t begin_ns = now_ns();
	int r = (int)syscall(SYS_fallocate, fd, mode, offset, length);

	if (r == 0 && mode == 0 && is_watched(fd))
		note(fd, NOTE_ALLOCATE, begin_ns, (uint64_t)offset, (uint64_t)length, NULL, 0);
	return r;
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length)
	__attribute__((alias("fallocate")));

static int
do_sync(int fd, long number)
{
	static long syncs;
	uint64_t begin_ns = now_ns();
	long delay_ms, fails;
	int r;

	if (!is_watched(fd))
		return (int)syscall(number, fd);
	delay_ms = setting("TRAM_SHIM_SYNC_MS");
	fails = setting("TRAM_SHIM_SYNC_FAILS");
	if (delay_ms > 0)
		syscall(SYS_nanosleep,
			&(struct timespec){ delay_ms / 1000, delay_ms % 1000 * 1000000 }, NULL);
	if (fails > 0 && __atomic_add_fetch(&syncs, 1, __ATOMIC_SEQ_CST) >= fails) {
		errno = EIO;
		return -1;
	}
	r = (int)syscall(number, fd);
	if (r == 0)
		note(fd, NOTE_SYNC, begin_ns, 0, 0, NULL, 0);
	return r;
}

int
fdatasync(int fd)
{
	return do_sync(fd, SYS_fdatasync);
}

int
fsync(int fd)
{
	return do_sync(fd, SYS_fsync);
}

int
msync(void *at, size_t len, int flags)
{
	note(-1, NOTE_MSYNC, now_ns(), (uintptr_t)at, len, NULL, 0);
	return (int)syscall(SYS_msync, at, len, flags);
}

/*
 * ---- where
 * ----------------------------------------------------------------------------------------------------
 */

int
fstatfs(int fd, struct statfs *ret)
{
	int r = (int)syscall(SYS_fstatfs, fd, ret);

	if (r == 0 && setting("TRAM_SHIM_STATFS") != 0)
		ret->f_type = setting("TRAM_SHIM_STATFS");
	return r;
}
int fstatfs64(int fd, struct statfs64 *ret) __attribute__((alias("fstatfs")));
