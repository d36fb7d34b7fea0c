/*
 * sandbox: what the server gives away before it speaks with anybody, so that who takes it over
 * has little more than its sockets and its queue. Two steps, both for good:
 *
 *	sandbox_files	before the first thread: no new privileges, and writing only below the roots
 *			(Landlock, which holds for the calling thread and those it makes)
 *	sandbox_calls	when all is open, before the first octet from outside: not dumpable, and of
 *			the system's calls only those that it needs (seccomp, all threads)
 *
 * What the kernel lacks is not there; the rest still is. Whoever starts the daemon reads in the log
 * what is in force, and `tramctl stats` says it again.
 */
#ifndef TRAM_SANDBOX_H
#define TRAM_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "mta/base/buf.h"

enum sandbox_may {
	SANDBOX_READ = 1,		/* files */
	SANDBOX_LIST = 2,		/* folders */
	SANDBOX_WRITE = 4,		/* make, change and remove files */
	SANDBOX_SOCKETS = 8,		/* make and remove local sockets */
};

/* A folder with all below it, or one file. */
struct sandbox_root {
	const char *path;
	unsigned may;
};

struct sandbox {
	bool wanted;			/* as configured */
	bool reads_limited;		/* not only writes */
	bool ports_closed;		/* no TCP port can be listened on */
	int files;			/* Landlock's ABI in force; 0: none; or -errno: why not */
	int calls;			/* 1: seccomp is in force; 0: not yet; or -errno */
	struct sandbox_folder *writable;	/* where writing is left */
	size_t writable_count;
};

struct sandbox_limits {
	const struct sandbox_root *roots;
	size_t count;
	bool reads;			/* only below the roots too; else wherever permitted */
	bool ports;			/* listen on no TCP port (where Landlock can see to it) */
};

/* s->wanted is set; if it is false these two do nothing. */
void sandbox_files(struct sandbox *s, const struct sandbox_limits *limits);
void sandbox_calls(struct sandbox *s);
void sandbox_free(struct sandbox *s);		/* what it knows; what it has closed stays so */

/* A file of this name can be made and written, as far as the sandbox is concerned. */
bool sandbox_lets_write(const struct sandbox *s, const char *path);

/* What is in force, and what is not and why, as one line. True: all that was wanted is. */
bool sandbox_describe(const struct sandbox *s, struct buf *out);

/* calls.c: builds and loads the filter of calls. 0 or -errno. */
int sandbox_load_calls(void);

/* This program is a build that is watched: by AddressSanitizer and its kin. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
	__has_feature(memory_sanitizer)
#define SANDBOX_SANITIZED 1
#endif
#endif
#ifndef SANDBOX_SANITIZED
#define SANDBOX_SANITIZED 0
#endif

#endif
