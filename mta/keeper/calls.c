/*
 * calls: which system calls the running daemon may make; see sandbox.h. The only file with
 * <seccomp.h>.
 *
 * What is not on the list does not exist (ENOSYS): so a newer libc that tries a new call falls back
 * to an old one, as on an old kernel. That goes for clone3() too, whose arguments cannot be looked
 * at. What only an intruder has a use for (to run a program, to look into another process) ends the
 * process at once. New calls belong on the list in the group of their kind; what tramd itself,
 * libuv, LMDB, c-ares, OpenSSL, libcurl and glibc's allocator, threads and name services use stands
 * there. The list names more than one of a kind (stat), for architectures differ in which they
 * have.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mta/keeper/sandbox.h"

static const char *const allowed[] = {
	/* descriptors */
	"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2",
	"pwritev2", "close", "close_range", "lseek", "_llseek", "dup", "dup2", "dup3", "fcntl",
	"fcntl64", "pipe", "pipe2", "eventfd", "eventfd2", "readahead", "fadvise64", "fadvise64_64",
	"arm_fadvise64_64",
	/* files: which of them, the permissions and Landlock say */
	"open", "openat", "openat2", "stat", "stat64", "fstat", "fstat64", "lstat", "lstat64",
	"newfstatat", "fstatat64", "statx", "access", "faccessat", "faccessat2", "readlink",
	"readlinkat", "getcwd", "getdents", "getdents64", "statfs", "statfs64", "fstatfs",
	"fstatfs64",
	"truncate", "truncate64", "ftruncate", "ftruncate64", "fallocate", "fsync", "fdatasync",
	"sync_file_range", "sync_file_range2", "flock", "rename", "renameat", "renameat2", "link",
	"linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "chmod", "fchmod", "fchmodat",
	"fchmodat2",
	"fchown", "fchown32", "utimensat", "umask", "inotify_init1", "inotify_add_watch",
	"inotify_rm_watch",
	/* waiting */
	"epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2",
	"poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6", "pselect6_time64",
	/* memory */
	"brk", "munmap", "mremap", "madvise", "mincore", "msync", "membarrier",
	/* sockets, but for socket() itself */
	"socketpair", "bind", "listen", "accept", "accept4", "connect", "getsockname",
	"getpeername",
	"getsockopt", "setsockopt", "send", "sendto", "sendmsg", "sendmmsg", "recv", "recvfrom",
	"recvmsg", "recvmmsg", "recvmmsg_time64", "shutdown",
	/* threads and signals, but for making and sending them */
	"futex", "futex_time64", "futex_waitv", "futex_wait", "futex_wake", "futex_requeue",
	"set_robust_list", "get_robust_list", "rseq", "set_tid_address", "sched_yield",
	"sched_getaffinity", "getcpu", "exit", "exit_group", "gettid", "rt_sigaction",
	"rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait",
	"rt_sigtimedwait_time64", "rt_sigsuspend", "sigaltstack", "sigreturn", "restart_syscall",
	/* who and when */
	"getpid", "getppid", "getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32",
	"getegid", "getegid32", "getresuid", "getresuid32", "getresgid", "getresgid32", "getgroups",
	"getgroups32", "getpgrp", "getpgid", "getsid", "getrlimit", "ugetrlimit", "getrusage",
	"clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64",
	"clock_nanosleep",
	"clock_nanosleep_time64", "gettimeofday", "nanosleep", "time", "times", "uname", "sysinfo",
	"getrandom",
};

/* By the arguments: all conditions of a line hold; one line of several with a name is enough. */
struct condition {
	const char *name;
	unsigned count;
	struct scmp_arg_cmp args[2];
};

#define IS(arg, value) SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, 0xffffffffu, (uint32_t)(value))
#define BITS(arg, mask, value) SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, (mask), (value))
#define EXACTLY(arg, value) SCMP_CMP(arg, SCMP_CMP_EQ, (value), 0)
#define KIND(value) BITS(1, SOCK_KIND, (value))
#ifdef __s390__
#define CLONE_FLAGS 1
#else
#define CLONE_FLAGS 0
#endif

enum { SOCK_KIND = 0xf, PR_SET_VMA_ = 0x53564d41, WRITTEN_AND_RUN = PROT_WRITE | PROT_EXEC };

static const struct condition conditional[] = {
	/* AF_NETLINK: which addresses are this machine's own */
	{ "socket", 1, { IS(0, AF_UNIX) } },
	{ "socket", 2, { IS(0, AF_INET), KIND(SOCK_STREAM) } },
	{ "socket", 2, { IS(0, AF_INET), KIND(SOCK_DGRAM) } },
	{ "socket", 2, { IS(0, AF_INET6), KIND(SOCK_STREAM) } },
	{ "socket", 2, { IS(0, AF_INET6), KIND(SOCK_DGRAM) } },
	{ "socket", 2, { IS(0, AF_NETLINK), IS(2, NETLINK_ROUTE) } },
	/* threads, no processes */
	{ "clone", 1, { BITS(CLONE_FLAGS, CLONE_THREAD, CLONE_THREAD) } },
	/* nothing that was written is run; a library that is loaded late is */
	{ "mmap", 1, { BITS(2, WRITTEN_AND_RUN, 0) } },
	{ "mmap", 1, { BITS(2, WRITTEN_AND_RUN, PROT_WRITE) } },
	{ "mmap", 1, { BITS(2, WRITTEN_AND_RUN, PROT_EXEC) } },
	{ "mmap2", 1, { BITS(2, WRITTEN_AND_RUN, 0) } },
	{ "mmap2", 1, { BITS(2, WRITTEN_AND_RUN, PROT_WRITE) } },
	{ "mmap2", 1, { BITS(2, WRITTEN_AND_RUN, PROT_EXEC) } },
	{ "mprotect", 1, { BITS(2, PROT_EXEC, 0) } },
	/* limits are read, not set */
	{ "prlimit64", 2, { IS(0, 0), EXACTLY(2, 0) } },
	{ "prctl", 1, { IS(0, PR_SET_NAME) } },
	{ "prctl", 1, { IS(0, PR_GET_NAME) } },
	{ "prctl", 1, { IS(0, PR_SET_VMA_) } },
	/* a terminal takes no input from us (TIOCSTI) */
	{ "ioctl", 1, { IS(1, FIONBIO) } },
	{ "ioctl", 1, { IS(1, FIONREAD) } },
	{ "ioctl", 1, { IS(1, FIOCLEX) } },
	{ "ioctl", 1, { IS(1, FIONCLEX) } },
	{ "ioctl", 1, { IS(1, TCGETS) } },
	{ "ioctl", 1, { IS(1, SIOCGIFINDEX) } },
	{ "ioctl", 1, { IS(1, SIOCGIFNAME) } },
};

/* A sanitizer stops all threads from a process of its own, at the end, and looks for leaks. */
static const char *const for_sanitizers[] = {
	"clone", "fork", "vfork", "ptrace", "process_vm_readv", "wait4", "waitid", "kill", "tkill",
	"tgkill", "prctl", "arch_prctl", "prlimit64", "setrlimit", "sched_getparam",
	"sched_getscheduler", "personality", "setitimer", "ioctl", "mprotect", "mmap", "mmap2",
};

static const char *const deadly[] = { "execve", "execveat", "process_vm_writev" };
static const char *const deadly_but_to_sanitizers[] = { "ptrace", "process_vm_readv" };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct filter {
	scmp_filter_ctx ctx;
	int rc;				/* the first failure */
};

/* Not every architecture, nor every libseccomp, knows each of them. */
static void
add(struct filter *f, uint32_t action, const char *name, unsigned count,
    const struct scmp_arg_cmp *args)
{
	int number = seccomp_syscall_resolve_name(name);

	if (f->rc == 0 && number != __NR_SCMP_ERROR)
		f->rc = seccomp_rule_add_array(f->ctx, action, number, count, args);
}

static void
add_all(struct filter *f, uint32_t action, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		add(f, action, names[i], 0, NULL);
}

static void
add_conditional(struct filter *f)
{
	const struct scmp_arg_cmp self = IS(0, getpid());

	for (size_t i = 0; i < COUNT(conditional); i++) {
		bool free_then = SANDBOX_SANITIZED && strcmp(conditional[i].name, "socket") != 0;

		if (!free_then)
			add(f, SCMP_ACT_ALLOW, conditional[i].name, conditional[i].count,
			    conditional[i].args);
	}
	if (SANDBOX_SANITIZED)
		return;
	add(f, SCMP_ACT_ALLOW, "kill", 1, &self);
	add(f, SCMP_ACT_ALLOW, "tgkill", 1, &self);
}

static void
set(struct filter *f, enum scmp_filter_attr attribute, uint32_t value)
{
	if (f->rc == 0)
		f->rc = seccomp_attr_set(f->ctx, attribute, value);
}

int
sandbox_load_calls(void)
{
	struct filter f = { .ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS)) };
	uint32_t end = seccomp_api_get() >= 3 ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_KILL_THREAD;

	if (f.ctx == NULL)
		return -ENOMEM;
	set(&f, SCMP_FLTATR_CTL_TSYNC, 1);
	set(&f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	set(&f, SCMP_FLTATR_ACT_BADARCH, end);
	add_all(&f, SCMP_ACT_ALLOW, allowed, COUNT(allowed));
	add_all(&f, end, deadly, COUNT(deadly));
	add_conditional(&f);
	if (SANDBOX_SANITIZED)
		add_all(&f, SCMP_ACT_ALLOW, for_sanitizers, COUNT(for_sanitizers));
	else
		add_all(&f, end, deadly_but_to_sanitizers, COUNT(deadly_but_to_sanitizers));
	if (f.rc == 0)
		f.rc = seccomp_load(f.ctx);
	seccomp_release(f.ctx);
	return f.rc == -EOPNOTSUPP ? -ENOSYS : f.rc;
}
