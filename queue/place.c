/*
 * place: see place.h. Any thread; nothing is written. What is refused, and why:
 *
 *   the directory is somebody else's, or others may write to it: they could put another file
 *   there; its files would be theirs.
 *   a file system of the network, or made by a program (FUSE): locks, syncs or maps do not do
 *   what they say. An overlay is as good as what it lies on, unless it is mounted `volatile`.
 *   the data file is no regular file, or has another name elsewhere (a link of either kind): two
 *   directories would lead to it, and the lock stands for one of them.
 *   others may read it: it is mail.
 *   it is not ours, cut short, of another byte order, page size or a newer LMDB.
 */
#include "queue/place.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "queue/lmdb_page.h"

__attribute__((format(printf, 3, 4))) static int
refuse(char error[PLACE_ERROR_MAX], int r, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(error, PLACE_ERROR_MAX, format, ap);
	va_end(ap);
	return r;
}

/* ---- the file system ---------------------------------------------------------------------- */

/* The third word of a line of mountinfo: "36 35 98:0 …" (proc(5)). */
static dev_t
mounted_device(const char *line)
{
	char *at = strchr(line, ' ');
	unsigned long major_number, minor_number;

	at = at != NULL ? strchr(at + 1, ' ') : NULL;
	if (at == NULL)
		return 0;
	major_number = strtoul(at + 1, &at, 10);
	if (*at != ':')
		return 0;
	minor_number = strtoul(at + 1, NULL, 10);
	return makedev((unsigned)major_number, (unsigned)minor_number);
}

/* Is the overlay of this device one whose syncs do nothing? (Newer kernels say fsync=volatile.) */
static bool
overlay_is_volatile(dev_t device)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	bool found = false;
	char *line = NULL;
	size_t cap = 0;

	while (mounts != NULL && !found && getline(&line, &cap, mounts) > 0) {
		const char *options = strstr(line, " - overlay ");

		found = options != NULL &&
			(strstr(options, ",volatile") != NULL ||
			 strstr(options, ",fsync=volatile") != NULL) &&
			mounted_device(line) == device;
	}
	free(line);
	if (mounts != NULL)
		fclose(mounts);
	return found;
}

/* File systems whose locks, syncs or maps cannot be relied on. */
static const char *
unsafe_file_system(int fd)
{
	static const struct {
		uint32_t magic;
		const char *name;
	} refused[] = {
		{ 0x6969, "NFS" },	  { 0x517b, "SMB" },	  { 0xff534d42, "CIFS" },
		{ 0xfe534d42, "SMB" },	  { 0x65735546, "FUSE" }, { 0x01021997, "9P" },
		{ 0x5346414f, "AFS" },	  { 0x6b414653, "AFS" },  { 0x00c36400, "Ceph" },
		{ 0x47504653, "GPFS" },	  { 0x0bd00bd0, "Lustre" }, { 0x73757245, "Coda" },
		{ 0x19830326, "BeeGFS" },
		{ 0x786f4256, "a shared folder of VirtualBox" },
		{ 0xbacbacbc, "a shared folder of VMware" },
	};
	const uint32_t overlay = 0x794c7630;
	struct statfs fs;
	struct stat st;

	if (fstatfs(fd, &fs) < 0)
		return NULL;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if ((uint32_t)fs.f_type == refused[i].magic)
			return refused[i].name;
	if ((uint32_t)fs.f_type == overlay && fstat(fd, &st) == 0 &&
	    overlay_is_volatile(st.st_dev))
		return "an overlay mounted `volatile`, which does not sync";
	return NULL;
}

/* ---- the directory ------------------------------------------------------------------------ */

static int
check_directory(int directory, const char *path, char error[PLACE_ERROR_MAX])
{
	const char *unsafe = unsafe_file_system(directory);
	struct stat st;

	if (unsafe != NULL)
		return refuse(error, -EOPNOTSUPP,
			      "%s is on %s; a queue needs a local file system that keeps what it "
			      "says: give a path on ext4, xfs, btrfs or the like",
			      path, unsafe);
	if (fstat(directory, &st) < 0)
		return refuse(error, -errno, "%s cannot be looked at: %s", path, strerror(errno));
	if (st.st_uid != geteuid())
		return refuse(error, -EPERM,
			      "%s belongs to user %u and this runs as user %u; chown it, or run as "
			      "its owner (`user` in the configuration)",
			      path, (unsigned)st.st_uid, (unsigned)geteuid());
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return refuse(error, -EPERM,
			      "others than its owner may write to %s (mode %03o); chmod 700 it",
			      path, (unsigned)st.st_mode & 0777);
	return 0;
}

int
place_open(const char *path, bool only_read, int *ret_directory, char error[PLACE_ERROR_MAX])
{
	int r = 0, directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (directory < 0)
		return refuse(error, -errno,
			      "the queue's directory %s cannot be opened: %s; make it, with mode "
			      "700, or give another path",
			      path, strerror(errno));
	if (!only_read)
		r = check_directory(directory, path, error);
	if (r == 0 && !only_read && flock(directory, LOCK_EX | LOCK_NB) < 0)
		r = errno == EWOULDBLOCK
			    ? refuse(error, -EBUSY,
				     "%s is in use by another tramd; stop it, or give another path",
				     path)
			    : refuse(error, -errno, "%s cannot be locked: %s", path,
				     strerror(errno));
	if (r < 0) {
		close(directory);
		return r;
	}
	*ret_directory = directory;
	return 0;
}

uint32_t
place_page_size(void)
{
	long octets = sysconf(_SC_PAGESIZE);

	return octets > LMDB_PAGE_MAX ? LMDB_PAGE_MAX : (uint32_t)octets;
}

/* ---- the data file ------------------------------------------------------------------------ */

/* What it is, without a look inside. */
static int
check_inode(const struct stat *st, const char *path, const char *name, char error[PLACE_ERROR_MAX])
{
	if (!S_ISREG(st->st_mode))
		return refuse(
			error, -EPERM,
			"%s/%s is no file of its own; move the file that is meant here, under "
			"this name, or give the directory where it is",
			path, name);
	if (st->st_nlink > 1)
		return refuse(error, -EPERM,
			      "%s/%s has a second name elsewhere (a hard link), so that two tramds "
			      "could open it; remove the other name, or work on a copy",
			      path, name);
	if (st->st_uid != geteuid())
		return refuse(error, -EPERM,
			      "%s/%s belongs to user %u and this runs as user %u; chown it", path,
			      name, (unsigned)st->st_uid, (unsigned)geteuid());
	if ((st->st_mode & 077) != 0)
		return refuse(error, -EPERM,
			      "others than its owner may read %s/%s (mode %03o); chmod 600 it",
			      path, name, (unsigned)st->st_mode & 0777);
	return 0;
}

/* 1: it is open; 0: there is none. */
static int
open_data(int directory, const char *path, bool only_read, int *ret, struct stat *ret_stat,
	  char error[PLACE_ERROR_MAX])
{
	struct stat lock;
	int r = 0;

	if (fstatat(directory, "data.mdb", ret_stat, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT && !only_read)
			return 0;
		return refuse(error, -errno, "%s/data.mdb cannot be opened: %s", path,
			      strerror(errno));
	}
	if (!only_read) {
		r = check_inode(ret_stat, path, "data.mdb", error);
		if (r == 0 && fstatat(directory, "lock.mdb", &lock, AT_SYMLINK_NOFOLLOW) == 0)
			r = check_inode(&lock, path, "lock.mdb", error);
		if (r < 0)
			return r;
	}
	*ret = openat(directory, "data.mdb",
		      O_RDONLY | O_CLOEXEC | O_NONBLOCK | (only_read ? 0 : O_NOFOLLOW));
	if (*ret < 0 || fstat(*ret, ret_stat) < 0) {
		r = refuse(error, -errno, "%s/data.mdb cannot be opened: %s", path,
			   strerror(errno));
		if (*ret >= 0)
			close(*ret);
		return r;
	}
	return 1;
}

/* The newest meta page, and what kind of file it is of. */
static enum lmdb_kind
read_metas(int fd, struct lmdb_meta *ret)
{
	unsigned char first[LMDB_META_LEN], second[LMDB_META_LEN];
	struct lmdb_meta other;
	enum lmdb_kind kind = LMDB_FOREIGN;

	if (pread(fd, first, sizeof(first), 0) == (ssize_t)sizeof(first))
		kind = lmdb_meta_read(first, ret);
	if (kind == LMDB_READABLE &&
	    pread(fd, second, sizeof(second), (off_t)ret->page_size) == (ssize_t)sizeof(second) &&
	    lmdb_meta_read(second, &other) == LMDB_READABLE && other.transaction > ret->transaction)
		*ret = other;
	return kind;
}

static int
check_content(int fd, const char *path, uint64_t size, char error[PLACE_ERROR_MAX])
{
	struct lmdb_meta meta = { 0 };

	switch (read_metas(fd, &meta)) {
	case LMDB_READABLE:
		break;
	case LMDB_OTHER_ORDER:
		return refuse(error, -EPROTO,
			      "%s/data.mdb was made on a machine with another byte order; drain it "
			      "there, or export it there and import it here",
			      path);
	case LMDB_OTHER_VERSION:
		return refuse(error, -EPROTO,
			      "%s/data.mdb was made by another version of LMDB (format %u, this is "
			      "%u); drain it with the tramd that made it",
			      path, meta.version, LMDB_VERSION);
	default:
		return refuse(error, -EPROTO,
			      "%s/data.mdb is not a queue of tram, or its first page is damaged; "
			      "give another path, restore it, or run `tramctl queue salvage`",
			      path);
	}
	if (meta.last_page >= size / meta.page_size)
		return refuse(error, -EBADMSG,
			      "%s/data.mdb is cut short: it has %" PRIu64
			      " octets and should have at least %" PRIu64
			      "; restore it, or run `tramctl queue salvage`",
			      path, size, (meta.last_page + 1) * meta.page_size);
	if (meta.page_size != place_page_size())
		return refuse(error, -EOPNOTSUPP,
			      "%s/data.mdb was made with pages of %u octets, this machine has %u; "
			      "drain it where it was made, or export it there and import it here",
			      path, meta.page_size, place_page_size());
	return 1;
}

int
place_check_file(int directory, const char *path, bool only_read, char error[PLACE_ERROR_MAX])
{
	struct stat st;
	int fd = -1, r = open_data(directory, path, only_read, &fd, &st, error);

	if (r <= 0)
		return r;
	r = st.st_size == 0 && !only_read ? 0
					  : check_content(fd, path, (uint64_t)st.st_size, error);
	close(fd);
	return r;
}
