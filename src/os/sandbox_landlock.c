/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock by its system calls: glibc has no functions for them, and Debian 12's header lacks the newer rights, so what is used stands here. What a
 * kernel's version (ABI) knows of is all handled, and so denied, unless a rule grants it; nothing grants programs to be run, devices or symbolic links
 * to be made.
 */
#include "os/sandbox_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The same numbers on every architecture. */
#define CALL_CREATE_RULESET 444
#define CALL_ADD_RULE       445
#define CALL_RESTRICT_SELF  446

#define CREATE_RULESET_VERSION 1U
#define RULE_PATH_BENEATH      1

#define FS_EXECUTE     (1ULL << 0)
#define FS_WRITE_FILE  (1ULL << 1)
#define FS_READ_FILE   (1ULL << 2)
#define FS_READ_DIR    (1ULL << 3)
#define FS_REMOVE_DIR  (1ULL << 4)
#define FS_REMOVE_FILE (1ULL << 5)
#define FS_MAKE_DIR    (1ULL << 7)
#define FS_MAKE_REG    (1ULL << 8)
#define FS_MAKE_SOCK   (1ULL << 9)
#define FS_OF_ABI_1    ((1ULL << 13) - 1)
#define FS_REFER       (1ULL << 13) /* ABI 2 */
#define FS_TRUNCATE    (1ULL << 14) /* ABI 3 */
#define FS_IOCTL_DEV   (1ULL << 15) /* ABI 5 */
#define SCOPE_SIGNAL   (1ULL << 1)  /* ABI 6: no signals to processes outside */

/* Before it, nothing can be renamed or linked from one directory to another, which Maildirs live from. */
#define ABI_MIN 2

struct ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

struct path_beneath {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));

static uint64_t rights_of_abi(int abi)
{
    uint64_t rights = FS_OF_ABI_1;

    if (abi >= 2)
        rights |= FS_REFER;
    if (abi >= 3)
        rights |= FS_TRUNCATE;
    if (abi >= 5)
        rights |= FS_IOCTL_DEV;
    return rights;
}

static uint64_t rights_of(const struct sandbox_path *path, bool is_directory)
{
    uint64_t rights = FS_READ_FILE;

    if (is_directory)
        rights |= FS_READ_DIR;
    if (path->may_write)
        rights |= FS_WRITE_FILE | FS_TRUNCATE;
    if (path->may_write && is_directory)
        rights |= FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SOCK | FS_REFER;
    return rights;
}

/* 0 or a negative errno; a path that is not there, or that this user can't reach anyway, is no error. */
static int grant(int ruleset_fd, const struct sandbox_path *path, uint64_t handled)
{
    struct path_beneath rule = {.parent_fd = open(path->path, O_PATH | O_CLOEXEC)};
    struct stat status;
    int result = 0;

    if (rule.parent_fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -errno;
    if (fstat(rule.parent_fd, &status) != 0) {
        result = -errno;
    } else {
        rule.allowed_access = rights_of(path, S_ISDIR(status.st_mode)) & handled;
        if (syscall(CALL_ADD_RULE, ruleset_fd, RULE_PATH_BENEATH, &rule, 0) != 0)
            result = -errno;
    }
    close(rule.parent_fd);
    return result;
}

static void say_why_not(struct sandbox_report *report, int errno_value)
{
    if (errno_value == ENOSYS)
        sandbox_say(report->missing, "Landlock: not in this kernel");
    else if (errno_value == EOPNOTSUPP)
        sandbox_say(report->missing, "Landlock: disabled at boot");
    else
        sandbox_say(report->missing, "Landlock: %s", strerrordesc_np(errno_value));
}

static int restrict_to(const struct sandbox_settings *settings, const struct ruleset *rules)
{
    int fd = (int)syscall(CALL_CREATE_RULESET, rules, sizeof(*rules), 0);
    int result = 0;

    if (fd < 0)
        return -errno;
    for (size_t i = 0; i < settings->path_count && result == 0; i++)
        result = grant(fd, &settings->paths[i], rules->handled_access_fs);
    if (result == 0 && syscall(CALL_RESTRICT_SELF, fd, 0) != 0)
        result = -errno;
    close(fd);
    return result;
}

void sandbox_apply_landlock(const struct sandbox_settings *settings, struct sandbox_report *report)
{
    const int abi = (int)syscall(CALL_CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);
    struct ruleset rules;
    int result;

    if (abi < 0) {
        say_why_not(report, errno);
        return;
    }
    report->landlock_abi = abi;
    if (abi < ABI_MIN) {
        sandbox_say(report->missing, "Landlock: that of this kernel (ABI %d) forbids moving files", abi);
        return;
    }
    /* What a kernel does not know of has to be zero, whatever the size of the structure. */
    rules = (struct ruleset){.handled_access_fs = rights_of_abi(abi), .scoped = abi >= 6 ? SCOPE_SIGNAL : 0};
    result = restrict_to(settings, &rules);
    if (result != 0)
        say_why_not(report, -result);
    else
        report->has_landlock = true;
}
