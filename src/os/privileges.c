/* SPDX-License-Identifier: Apache-2.0 */
#include "os/privileges.h"

#include "base/mem.h"
#include "os/vfs.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

bool privileges_are_root(void)
{
    return geteuid() == 0;
}

static const struct passwd *find_user(const char *user, struct error *error)
{
    const struct passwd *entry;

    errno = 0;
    entry = getpwnam(user);
    if (!entry && errno != 0)
        error_set_errno(error, errno, "user %s", user);
    else if (!entry)
        error_set(error,
                  "user %s does not exist: create it (adduser --system --group %s), or name another with `user:`", user,
                  user);
    return entry;
}

/* What programs that are run could get back from their files; not essential, as none is run. Takes a capability itself, so before the user changes. */
static void empty_bounding_set(void)
{
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0)
            return;
}

int privileges_become(const char *user, struct error *error)
{
    const struct passwd *entry = find_user(user, error);

    if (!entry)
        return -1;
    if (entry->pw_uid == 0)
        return 0; /* asked for in so many words */
    empty_bounding_set();
    if (initgroups(user, entry->pw_gid) != 0 || setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) != 0 ||
        setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) != 0)
        return error_set_errno(error, errno, "becoming user %s", user);
    if (setuid(0) == 0)
        return error_set(error, "becoming user %s: could become root again", user);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return 0;
}

int privileges_make_directory(const char *path, const char *user, struct error *error)
{
    struct stat status;
    const struct passwd *entry = NULL;
    int result;

    if (stat(path, &status) == 0)
        return S_ISDIR(status.st_mode) ? 0 : error_set(error, "%s is not a directory", path);
    if (user && !(entry = find_user(user, error)))
        return -1;
    result = vfs_make_directories(vfs_system(), path);
    if (result != 0)
        return error_set_errno(error, -result, "making directory %s", path);
    if (entry && chown(path, entry->pw_uid, entry->pw_gid) != 0)
        return error_set_errno(error, errno, "giving %s to %s", path, user);
    return 0;
}

void privileges_raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    /* Not essential: what is missing shows as refused connections, and in the log. */
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
}
