/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox: what a process gives up once it has what it needs: core files and being traced, capabilities, new privileges, the file system but for named
 * trees (Landlock), the system calls that it has no use for (seccomp). Each wall stands on its own: a kernel that lacks one is told of it, and the
 * others stand. There is no way back.
 *
 * Calling sequence: sandbox_apply once, in the main thread, after the change of user and before any other thread starts: threads inherit all of it, but
 * one that is there already stays outside of Landlock (nothing before ABI 8 reaches it), and as it shares the memory, so would the whole process. One that is
 * found is reported as missing.
 *
 * What stays possible: sockets of the families INET, INET6, UNIX and NETLINK_ROUTE; threads, but no new process and no program; memory that may be
 * written or executed, not both. Refused calls fail with ENOSYS, as on a kernel without them, so that libraries fall back on others; those that only
 * an attacker has a use for (execve, ptrace, mount, bpf and the like) end the process with SIGSYS.
 *
 * Connecting to a UNIX socket needs no path to be granted (Landlock does not see it); making one needs its directory.
 */
#ifndef POSTERN_OS_SANDBOX_H
#define POSTERN_OS_SANDBOX_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct sandbox_path {
    const char *path; /* a file or a directory with all below it; one that does not exist is left out */
    bool may_write;   /* create, remove and rename too; else read only */
};

struct sandbox_settings {
    const struct sandbox_path *paths;
    size_t path_count;
};

#define SANDBOX_TEXT_BYTES 256

struct sandbox_report {
    bool has_no_core; /* PR_SET_DUMPABLE 0, RLIMIT_CORE 0: no memory to be read by ptrace or from a core file */
    bool
        has_no_capabilities; /* none effective, permitted, inheritable or ambient, and no new privileges by whatever is run */
    bool has_landlock;
    int landlock_abi; /* what the kernel has; 0: no Landlock */
    bool has_seccomp;
    char missing[SANDBOX_TEXT_BYTES];  /* in words, what the kernel lacks or refused; empty: nothing */
    char weakened[SANDBOX_TEXT_BYTES]; /* in words, what this build has to leave open (sanitizers); empty: nothing */
};

/* Never fails: the report says what stands. */
void sandbox_apply(const struct sandbox_settings *settings, struct sandbox_report *report);

#endif
