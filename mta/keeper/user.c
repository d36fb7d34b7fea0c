/* user: see user.h. */
#include "mta/keeper/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

int
keeper_become(const char *name, bool for_good)
{
	const struct passwd *pw;
	uid_t uid;
	gid_t gid;

	if (name == NULL || getuid() != 0)
		return 0;
	pw = getpwnam(name);
	if (pw == NULL)
		return -ENOENT;
	uid = pw->pw_uid;
	gid = pw->pw_gid;
	if (!for_good)
		return initgroups(name, gid) < 0 || setegid(gid) < 0 || seteuid(uid) < 0 ? -errno
											 : 0;
	if (seteuid(0) < 0 || initgroups(name, gid) < 0 || setresgid(gid, gid, gid) < 0 ||
	    setresuid(uid, uid, uid) < 0)
		return -errno;
	return 0;
}
