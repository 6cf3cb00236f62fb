/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls that are left, by libseccomp. An allow-list, since a kernel's next call is one that nobody here has thought of. What is not in it fails
 * with ENOSYS: libraries ask for what is newest and fall back on what is old, and a glibc of tomorrow must not end the daemon by asking. It is logged by the
 * kernel where auditing is on. What ends the process is what only somebody uses who has taken it over: there nothing falls back, and going on helps nobody
 * else.
 *
 * Two that are expected to be refused: clone3, whose flags no filter can see, so that glibc goes back to clone; and io_uring, which does what is asked of it past
 * every filter.
 */
#include "os/sandbox_private.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* By name: one that this architecture or this libseccomp does not know is left out. */
static const char *const allowed[] = {
    /* files */
    "access", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3", "faccessat",
    "faccessat2", "fadvise64", "fallocate", "fchmod", "fchmodat", "fchown", "fchownat", "fcntl", "fcntl64", "fdatasync",
    "flock", "fstat", "fstat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "getcwd", "getdents",
    "getdents64", "lchown", "link", "linkat", "lseek", "_llseek", "lstat", "lstat64", "mkdir", "mkdirat", "newfstatat",
    "fstatat64", "open", "openat", "openat2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read",
    "readahead", "readlink", "readlinkat", "readv", "rename", "renameat", "renameat2", "rmdir", "sendfile",
    "sendfile64", "splice", "stat", "stat64", "statfs", "statfs64", "statx", "sync_file_range", "syncfs", "truncate",
    "truncate64", "umask", "unlink", "unlinkat", "utimensat", "write", "writev",
    /* waiting and telling */
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2",
    "inotify_add_watch", "inotify_init1", "inotify_rm_watch", "pipe", "pipe2", "poll", "ppoll", "pselect6", "select",
    "_newselect", "signalfd4", "timerfd_create", "timerfd_gettime", "timerfd_settime",
    /* the network; socket() below */
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom",
    "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketpair",
    /* memory; mmap and mprotect below */
    "brk", "madvise", "membarrier", "mincore", "mlock", "mlock2", "mremap", "msync", "munlock", "munmap",
    /* threads; clone below */
    "arch_prctl", "exit", "exit_group", "futex", "futex_time64", "futex_waitv", "get_robust_list", "get_thread_area",
    "getcpu", "gettid", "map_shadow_stack", "restart_syscall", "rseq", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler",
    "sched_rr_get_interval", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
    "sched_yield", "set_robust_list", "set_thread_area", "set_tid_address",
    /* signals; tgkill below */
    "pause", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "rt_sigtimedwait_time64", "sigaltstack", "sigreturn",
    /* time */
    "clock_getres", "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "gettimeofday",
    "nanosleep", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "times",
    /* who and where */
    "capget", "getegid", "geteuid", "getgid", "getgroups", "getpgrp", "getpid", "getppid", "getpriority", "getrandom",
    "getresgid", "getresuid", "getrlimit", "getrusage", "getsid", "getuid", "sysinfo", "ugetrlimit", "uname"};

static const char *const hostile[] = {
    "execve", "execveat", "uselib", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "process_madvise", "kcmp",
    /* the kernel */
    "bpf", "perf_event_open", "userfaultfd", "init_module", "finit_module", "delete_module", "kexec_load",
    "kexec_file_load", "reboot", "swapon", "swapoff", "acct", "quotactl", "iopl", "ioperm", "modify_ldt",
    "lookup_dcookie", "vhangup", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "sethostname",
    "setdomainname",
    /* the file system, from outside of it */
    "mount", "umount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount",
    "open_tree", "mount_setattr", "open_by_handle_at", "name_to_handle_at", "unshare", "setns", "mknod", "mknodat",
    /* somebody else */
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups",
    "capset"};

/* What a sanitizer's runtime does besides. */
static const char *const of_sanitizers[] = {"clone",       "clone3", "ptrace", "wait4", "waitid", "prctl",
                                            "personality", "tkill",  "tgkill", "kill",  "mmap",   "mprotect"};

/* Calls of which some arguments are allowed: where (argument & mask) == value. A call stands in as many rules as it has such values. */
struct condition {
    const char *name;
    unsigned argument;
    uint64_t mask;
    uint64_t value;
};

#define INT UINT32_MAX /* an int: what the upper half of the register holds is nobody's */

static const struct condition conditions[] = {
    /* Threads, not processes. */
    {"clone", 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM},
    /* Code comes from files, and is never written to. */
    {"mmap", 2, PROT_EXEC, 0},
    {"mmap", 2, PROT_EXEC | PROT_WRITE, PROT_EXEC},
    {"mmap2", 2, PROT_EXEC, 0},
    {"mmap2", 2, PROT_EXEC | PROT_WRITE, PROT_EXEC},
    {"mprotect", 2, PROT_EXEC, 0},
    {"socket", 0, INT, AF_INET},
    {"socket", 0, INT, AF_INET6},
    {"socket", 0, INT, AF_UNIX},
    {"prctl", 0, INT, PR_SET_NAME},
    {"prctl", 0, INT, PR_GET_NAME},
    {"prctl", 0, INT, PR_GET_DUMPABLE},
    {"prctl", 0, INT, PR_GET_NO_NEW_PRIVS},
    {"prctl", 0, INT, PR_GET_SECCOMP},
    {"prctl", 0, INT, PR_CAPBSET_READ},
    {"prctl", 0, INT, 0x53564d41}, /* PR_SET_VMA: malloc names its memory */
    /* No terminal is written to as if somebody had typed (TIOCSTI). */
    {"ioctl", 1, INT, FIONREAD},
    {"ioctl", 1, INT, FIONBIO},
    {"ioctl", 1, INT, FIOCLEX},
    {"ioctl", 1, INT, FIONCLEX},
    {"ioctl", 1, INT, TCGETS},
    {"ioctl", 1, INT, TIOCOUTQ},
    {"ioctl", 1, INT, 0x802c542a}, /* TCGETS2: isatty of newer glibc */
    {"ioctl", 1, INT, SIOCGIFINDEX},
    {"ioctl", 1, INT, SIOCGIFNAME},
    {"prlimit64", 0, INT, 0}};

static int add(scmp_filter_ctx filter, uint32_t action, const char *name, unsigned count,
               const struct scmp_arg_cmp *arguments)
{
    const int number = seccomp_syscall_resolve_name(name);

    return number == __NR_SCMP_ERROR ? 0 : seccomp_rule_add_array(filter, action, number, count, arguments);
}

static int add_all(scmp_filter_ctx filter, uint32_t action, const char *const *names, size_t count)
{
    int result = 0;

    for (size_t i = 0; i < count && result == 0; i++)
        result = add(filter, action, names[i], 0, NULL);
    return result;
}

static int add_condition(scmp_filter_ctx filter, const struct condition *condition)
{
    const struct scmp_arg_cmp argument =
        SCMP_CMP(condition->argument, SCMP_CMP_MASKED_EQ, condition->mask, condition->value);

    return add(filter, SCMP_ACT_ALLOW, condition->name, 1, &argument);
}

/* The addresses of the machine, and nothing else of the kernel's. */
static int add_netlink(scmp_filter_ctx filter)
{
    const struct scmp_arg_cmp arguments[] = {SCMP_CMP(0, SCMP_CMP_MASKED_EQ, INT, AF_NETLINK),
                                             SCMP_CMP(2, SCMP_CMP_MASKED_EQ, INT, NETLINK_ROUTE)};

    return add(filter, SCMP_ACT_ALLOW, "socket", COUNT(arguments), arguments);
}

/* Signals within the process: abort, pthread_kill. */
static int add_own_signals(scmp_filter_ctx filter)
{
    const struct scmp_arg_cmp argument = SCMP_CMP(0, SCMP_CMP_MASKED_EQ, INT, (uint64_t)getpid());

    return add(filter, SCMP_ACT_ALLOW, "tgkill", 1, &argument);
}

static int add_rules(scmp_filter_ctx filter)
{
    int result = add_all(filter, SCMP_ACT_ALLOW, allowed, COUNT(allowed));

    if (result == 0)
        result = add_all(filter, SCMP_ACT_KILL_PROCESS, hostile, COUNT(hostile));
    if (result == 0 && SANDBOX_HAS_SANITIZER)
        result = add_all(filter, SCMP_ACT_ALLOW, of_sanitizers, COUNT(of_sanitizers));
    else if (result == 0)
        result = add(filter, SCMP_ACT_KILL_PROCESS, "ptrace", 0, NULL);
    for (size_t i = 0; i < COUNT(conditions) && result == 0; i++)
        result = add_condition(filter, &conditions[i]);
    if (result == 0)
        result = add_netlink(filter);
    return result == 0 ? add_own_signals(filter) : result;
}

static int load(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int result;

    if (!filter)
        return -ENOMEM;
    /* Not essential, and not in every kernel or library: refusals in the kernel's log; a search tree instead of a chain; no slower memory (that
     * mitigation is for code of others in the same process). */
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    /* No thread is left out, were there another one already. */
    result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (result == 0)
        result = add_rules(filter);
    if (result == 0)
        result = seccomp_load(filter);
    seccomp_release(filter);
    return result;
}

void sandbox_apply_seccomp(struct sandbox_report *report)
{
    const int result = load();

    if (result != 0) {
        sandbox_say(report->missing, "seccomp: %s", strerrordesc_np(-result));
        return;
    }
    report->has_seccomp = true;
    if (SANDBOX_HAS_SANITIZER)
        sandbox_say(report->weakened, "ptrace, new processes and executable memory are left to the sanitizer");
}
