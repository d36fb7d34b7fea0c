/*
 * sandbox: see sandbox.h. Landlock by its raw system calls, for libc has no names for them and its
 * headers may be older than the kernel: the numbers below are the kernel's for good.
 */
#include "mta/keeper/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mta/base/arena.h"

/* The same on all architectures. */
enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446 };
enum { VERSION_FLAG = 1, RULE_PATH = 1, RULE_PORT = 2 };

struct ruleset {			/* struct landlock_ruleset_attr */
	uint64_t fs, net, scoped;
};

struct __attribute__((packed)) path_rule {	/* struct landlock_path_beneath_attr */
	uint64_t may;
	int32_t fd;
};

struct port_rule {			/* struct landlock_net_port_attr */
	uint64_t may, port;
};

enum {
	EXECUTE = 1 << 0, WRITE_FILE = 1 << 1, READ_FILE = 1 << 2, READ_DIR = 1 << 3,
	REMOVE_DIR = 1 << 4, REMOVE_FILE = 1 << 5, MAKE_CHAR = 1 << 6, MAKE_DIR = 1 << 7,
	MAKE_REG = 1 << 8, MAKE_SOCK = 1 << 9, MAKE_FIFO = 1 << 10, MAKE_BLOCK = 1 << 11,
	MAKE_SYM = 1 << 12, REFER = 1 << 13, TRUNCATE = 1 << 14, IOCTL_DEV = 1 << 15,
	ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV,
	READS = READ_FILE | READ_DIR,
	BIND_TCP = 1 << 0,
	SCOPE_SIGNAL = 1 << 1,
};

/* What the first ABI can tell apart, and what later ones added. */
static struct ruleset
known_to(int abi)
{
	struct ruleset all = { .fs = (MAKE_SYM << 1) - 1 };

	if (abi >= 2)
		all.fs |= REFER;
	if (abi >= 3)
		all.fs |= TRUNCATE;
	if (abi >= 4)
		all.net = BIND_TCP;
	if (abi >= 5)
		all.fs |= IOCTL_DEV;
	if (abi >= 6)
		all.scoped = SCOPE_SIGNAL;
	return all;
}

static uint64_t
rights_of(unsigned may)
{
	return (may & SANDBOX_READ ? READ_FILE : 0u) | (may & SANDBOX_LIST ? READ_DIR : 0u) |
	       (may & SANDBOX_WRITE ? WRITE_FILE | TRUNCATE | MAKE_REG | REMOVE_FILE : 0u) |
	       (may & SANDBOX_SOCKETS ? MAKE_SOCK | REMOVE_FILE : 0u);
}

/*
 * What is not there now cannot be opened for the rule; nor will it be by us, and that is told then.
 */
static int
add_root(int ruleset, const struct sandbox_root *root, uint64_t handled)
{
	struct path_rule rule = { rights_of(root->may) & handled,
				  open(root->path, O_PATH | O_CLOEXEC) };
	struct stat there;
	int rc = 0;

	if (rule.fd < 0)
		return 0;
	if (fstat(rule.fd, &there) == 0 && !S_ISDIR(there.st_mode))
		rule.may &= ON_FILES;
	/* EBADFD: a pipe or the like, which Landlock does not look at */
	if (rule.may != 0 && syscall(ADD_RULE, ruleset, RULE_PATH, &rule, 0) < 0 &&
	    errno != EBADFD)
		rc = -errno;
	close(rule.fd);
	return rc;
}

/* An address to send from, without a port of one's own, is what remains of listening. */
static int
add_any_port(int ruleset)
{
	struct port_rule rule = { BIND_TCP, 0 };

	return syscall(ADD_RULE, ruleset, RULE_PORT, &rule, 0) < 0 ? -errno : 0;
}

/* Landlock's ABI, or -errno. */
static int
restrict_files(const struct sandbox_limits *limits, bool *ports_closed)
{
	int rc = 0, ruleset, abi = (int)syscall(CREATE_RULESET, NULL, 0, VERSION_FLAG);
	struct ruleset handled;
	size_t size;

	if (abi < 0)
		return -errno;
	handled = known_to(abi);
	if (!limits->reads)
		handled.fs &= ~(uint64_t)READS;
	if (!limits->ports)
		handled.net = 0;
	size = abi >= 6 ? sizeof(handled) : abi >= 4 ? offsetof(struct ruleset, scoped) :
						       offsetof(struct ruleset, net);
	ruleset = (int)syscall(CREATE_RULESET, &handled, size, 0);
	if (ruleset < 0)
		return -errno;
	for (size_t i = 0; rc == 0 && i < limits->count; i++)
		rc = add_root(ruleset, &limits->roots[i], handled.fs);
	if (rc == 0 && handled.net != 0)
		rc = add_any_port(ruleset);
	if (rc == 0 && syscall(RESTRICT_SELF, ruleset, 0) < 0)
		rc = -errno;
	close(ruleset);
	*ports_closed = rc == 0 && handled.net != 0;
	return rc < 0 ? rc : abi;
}

/* ---- where writing is left ---------------------------------------------------------------- */

struct sandbox_folder {
	char *path;			/* without links */
};

static void
remember(struct sandbox *s, const struct sandbox_limits *limits)
{
	s->writable = xcalloc(limits->count + 1, sizeof(*s->writable));
	for (size_t i = 0; i < limits->count; i++) {
		char *path = limits->roots[i].may & SANDBOX_WRITE ?
				     realpath(limits->roots[i].path, NULL) : NULL;

		if (path != NULL)
			s->writable[s->writable_count++].path = path;
	}
}

void
sandbox_free(struct sandbox *s)
{
	for (size_t i = 0; i < s->writable_count; i++)
		free(s->writable[i].path);
	free(s->writable);
	s->writable = NULL;
	s->writable_count = 0;
}

static bool
is_below(const char *path, const char *folder)
{
	size_t len = strcmp(folder, "/") == 0 ? 0 : strlen(folder);

	return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

bool
sandbox_lets_write(const struct sandbox *s, const char *path)
{
	struct arena arena = { 0 };
	char *real = realpath(path, NULL);
	bool lets = s->files <= 0;

	if (real == NULL)		/* it is to be made */
		real = realpath(dirname(arena_str(&arena, span_str(path))), NULL);
	for (size_t i = 0; real != NULL && i < s->writable_count; i++)
		lets = lets || is_below(real, s->writable[i].path);
	free(real);
	arena_free(&arena);
	return lets;
}

/* ---- the two steps ------------------------------------------------------------------------ */

void
sandbox_files(struct sandbox *s, const struct sandbox_limits *limits)
{
	if (!s->wanted)
		return;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		s->files = -errno;
		return;
	}
	s->files = restrict_files(limits, &s->ports_closed);
	s->reads_limited = s->files > 0 && limits->reads;
	remember(s, limits);
}

void
sandbox_calls(struct sandbox *s)
{
	if (!s->wanted)
		return;
	/* LeakSanitizer reads its own process as a debugger does */
	if (!SANDBOX_SANITIZED)
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	s->calls = sandbox_load_calls();
	if (s->calls == 0)
		s->calls = 1;
}

/* ---- what is told ------------------------------------------------------------------------- */

static const char *
reason(int rc)
{
	switch (-rc) {
	case ENOSYS:
	case EINVAL:
		return "this kernel does not have it";
	case EOPNOTSUPP:
		return "it is switched off in this kernel";
	case EPERM:
	case EACCES:
		return "it is forbidden here, by a container's filter perhaps";
	default:
		return strerror(-rc);
	}
}

bool
sandbox_describe(const struct sandbox *s, struct buf *out)
{
	if (!s->wanted) {
		buf_append(out, SPAN("off"));
		return true;
	}
	if (s->files > 0)
		buf_printf(out, "files: %s only below its folders%s (Landlock %d)",
			   s->reads_limited ? "reads and writes" : "writes",
			   s->ports_closed ? ", no listening" : "", s->files);
	else
		buf_printf(out, "files: not limited (no Landlock: %s)", reason(s->files));
	if (s->calls > 0)
		buf_append(out, SPAN("; system calls: only those it needs (seccomp)"));
	else
		buf_printf(out, "; system calls: not limited (no seccomp: %s)", reason(s->calls));
	return s->files > 0 && s->calls > 0;
}
