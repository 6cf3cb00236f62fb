/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into the daemon: while the file $POSTERN_FAIL_SYNC exists, syncs of files in the spool fail as on a broken
 * disk. */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_to_fail(int fd)
{
    const char *switch_file = getenv("POSTERN_FAIL_SYNC");
    char link[64];
    char path[4096];
    ssize_t length;

    if (!switch_file || access(switch_file, F_OK) != 0)
        return false;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof(path) - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    return strstr(path, "/spool/") != NULL;
}

int fdatasync(int fd)
{
    static int (*real)(int);

    if (is_to_fail(fd)) {
        errno = EIO;
        return -1;
    }
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return real(fd);
}

int fsync(int fd)
{
    static int (*real)(int);

    if (is_to_fail(fd)) {
        errno = EIO;
        return -1;
    }
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return real(fd);
}
