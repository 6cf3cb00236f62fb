/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sandbox says stands must stand, and what it does not say must not be believed: each test applies it in a child and tries what somebody would
 * who has taken over the daemon, and what the daemon itself goes on doing. Where the kernel lacks a wall, the report has to say so and the rest has to hold.
 */
#include "os/sandbox.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER true
#else
#define HAS_SANITIZER false
#endif

struct fixture {
    char root[64];
    char granted[96];  /* rw */
    char readable[96]; /* ro */
    char denied[96];
};

/* In the child. 0, or the line that went wrong. */
typedef int attempt_fn(const struct fixture *f, const struct sandbox_report *report);

#define WANT(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            return __LINE__;                                                                                           \
    } while (0)

static void make_file(const char *directory, const char *name)
{
    char path[160];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("secret", file);
    fclose(file);
}

static int set_up(void **state)
{
    static struct fixture f;

    snprintf(f.root, sizeof(f.root), "/tmp/sandbox-XXXXXX");
    assert_non_null(mkdtemp(f.root));
    snprintf(f.granted, sizeof(f.granted), "%s/granted", f.root);
    snprintf(f.readable, sizeof(f.readable), "%s/readable", f.root);
    snprintf(f.denied, sizeof(f.denied), "%s/denied", f.root);
    assert_int_equal(mkdir(f.granted, 0755) | mkdir(f.readable, 0755) | mkdir(f.denied, 0755), 0);
    make_file(f.granted, "file");
    make_file(f.readable, "file");
    make_file(f.denied, "file");
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    const struct fixture *f = *state;
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", f->root);
    return system(command);
}

static void apply(const struct fixture *f, struct sandbox_report *report)
{
    char missing[160];

    snprintf(missing, sizeof(missing), "%s/not-there", f->root);
    {
        const struct sandbox_path paths[] = {{f->granted, true},  {f->readable, false}, {missing, true},
                                             {"/dev/null", true}, {"/usr", false},      {"/lib", false},
                                             {"/etc", false},     {"/proc/self", false}};

        sandbox_apply(&(struct sandbox_settings){paths, sizeof(paths) / sizeof(paths[0])}, report);
    }
}

/* The child's wait status. _exit: the leak check at the end would not be the daemon's. */
static int run(const struct fixture *f, attempt_fn *attempt)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        struct sandbox_report report;
        int line;

        apply(f, &report);
        line = attempt(f, &report);
        if (line != 0) {
            fprintf(stderr, "# line %d: %s; missing: %s\n", line, strerror(errno), report.missing);
            _exit(1);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void assert_succeeds(void **state, attempt_fn *attempt)
{
    const int status = run(*state, attempt);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- what is told ---- */

static int report_is_true(const struct fixture *f, const struct sandbox_report *report)
{
    (void)f;
    WANT(report->has_no_core && report->has_no_capabilities);
    WANT(prctl(PR_GET_DUMPABLE) == 0);
    WANT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    if (report->has_seccomp)
        WANT(prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2);
    else
        WANT(strstr(report->missing, "seccomp"));
    if (report->has_landlock)
        WANT(report->landlock_abi >= 2);
    else
        WANT(strstr(report->missing, "Landlock"));
    if (report->has_seccomp && report->has_landlock)
        WANT(report->missing[0] == '\0' || strstr(report->missing, "threads"));
    WANT((report->weakened[0] != '\0') == HAS_SANITIZER);
    return 0;
}

static void test_report(void **state)
{
    assert_succeeds(state, report_is_true);
}

static int is_powerless(const struct fixture *f, const struct sandbox_report *report)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    struct rlimit limit;

    (void)f;
    (void)report;
    WANT(syscall(SYS_capget, &header, data) == 0);
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        WANT((data[i].effective | data[i].permitted | data[i].inheritable) == 0);
    WANT(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
    return 0;
}

static void test_no_capabilities(void **state)
{
    assert_succeeds(state, is_powerless);
}

/* ---- files ---- */

static int open_in(const char *directory, const char *name, int flags)
{
    char path[160];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return open(path, flags | O_CLOEXEC, 0600);
}

static int keeps_to_granted_files(const struct fixture *f, const struct sandbox_report *report)
{
    if (!report->has_landlock)
        return 0;
    WANT(open_in(f->denied, "file", O_RDONLY) < 0 && errno == EACCES);
    WANT(open_in(f->denied, "new", O_RDWR | O_CREAT) < 0 && errno == EACCES);
    WANT(open_in(f->root, "", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES);
    WANT(open("/root", O_RDONLY | O_DIRECTORY) < 0 && (errno == EACCES || errno == ENOENT));
    WANT(open_in(f->readable, "file", O_RDONLY) >= 0);
    WANT(open_in(f->readable, "file", O_WRONLY) < 0 && errno == EACCES);
    WANT(open_in(f->readable, "new", O_RDWR | O_CREAT) < 0 && errno == EACCES);
    return 0;
}

static void test_only_granted_files(void **state)
{
    assert_succeeds(state, keeps_to_granted_files);
}

static int works_with_granted_files(const struct fixture *f, const struct sandbox_report *report)
{
    char from[160], to[160], directory[160];
    int fd = open_in(f->granted, "new", O_RDWR | O_CREAT | O_EXCL);

    (void)report;
    WANT(fd >= 0 && write(fd, "x", 1) == 1 && fdatasync(fd) == 0 && fallocate(fd, 0, 0, 4096) == 0 &&
         ftruncate(fd, 0) == 0);
    snprintf(directory, sizeof(directory), "%s/sub", f->granted);
    snprintf(from, sizeof(from), "%s/new", f->granted);
    snprintf(to, sizeof(to), "%s/sub/new", f->granted);
    WANT(mkdir(directory, 0700) == 0);
    /* From one directory to another, as a Maildir's tmp to new. */
    WANT(rename(from, to) == 0 && link(to, from) == 0 && unlink(to) == 0 && unlink(from) == 0);
    WANT(rmdir(directory) == 0);
    WANT(open("/dev/null", O_RDWR | O_CLOEXEC) >= 0);
    WANT(open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0);
    return 0;
}

static void test_granted_files_work(void **state)
{
    assert_succeeds(state, works_with_granted_files);
}

/* ---- what the daemon goes on doing ---- */

static void *set_true(void *flag)
{
    prctl(PR_SET_NAME, "worker");
    *(bool *)flag = true;
    return NULL;
}

static int starts_threads(const struct fixture *f, const struct sandbox_report *report)
{
    pthread_t thread;
    bool has_run = false;
    const struct sched_param none = {0};
    int fd = -1;

    WANT(pthread_setschedparam(pthread_self(), SCHED_BATCH, &none) == 0);
    WANT(pthread_create(&thread, NULL, set_true, &has_run) == 0);
    WANT(pthread_join(thread, NULL) == 0 && has_run);
    /* ... that are as confined. */
    if (report->has_landlock)
        fd = open_in(f->denied, "file", O_RDONLY);
    WANT(fd < 0);
    return 0;
}

static void test_threads(void **state)
{
    assert_succeeds(state, starts_threads);
}

static int looks_up_and_connects(const struct fixture *f, const struct sandbox_report *report)
{
    static const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    struct addrinfo *found = NULL;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)report;
    WANT(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listener, 1) == 0);
    WANT(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
    WANT(connect(client, (struct sockaddr *)&address, sizeof(address)) == 0 && accept4(listener, NULL, NULL, 0) >= 0);
    snprintf(local.sun_path, sizeof(local.sun_path), "%s/socket", f->granted);
    WANT(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&local, sizeof(local)) == 0);
    /* Numeric, so that nothing is asked; AI_ADDRCONFIG asks the kernel for the machine's addresses. */
    WANT(getaddrinfo("127.0.0.1", "25", &hints, &found) == 0);
    freeaddrinfo(found);
    WANT(socket(AF_PACKET, SOCK_RAW, 0) < 0);
    return 0;
}

static void test_network(void **state)
{
    assert_succeeds(state, looks_up_and_connects);
}

/* NSS modules and SASL mechanisms are loaded when they are first needed. */
static int loads_libraries(const struct fixture *f, const struct sandbox_report *report)
{
    void *library = dlopen("libresolv.so.2", RTLD_NOW);

    (void)f;
    (void)report;
    WANT(library != NULL);
    dlclose(library);
    return 0;
}

static void test_late_libraries(void **state)
{
    assert_succeeds(state, loads_libraries);
}

/* ---- what only an attacker does ---- */

static int makes_code(const struct fixture *f, const struct sandbox_report *report)
{
    void *page;

    (void)f;
    if (!report->has_seccomp || HAS_SANITIZER)
        return 0;
    WANT(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    WANT(page != MAP_FAILED);
    WANT(mprotect(page, 4096, PROT_READ | PROT_EXEC) != 0);
    WANT(mprotect(page, 4096, PROT_READ) == 0);
    return 0;
}

static void test_no_new_code(void **state)
{
    assert_succeeds(state, makes_code);
}

static int makes_processes(const struct fixture *f, const struct sandbox_report *report)
{
    (void)f;
    if (!report->has_seccomp || HAS_SANITIZER)
        return 0;
    WANT(fork() < 0 && errno == ENOSYS);
    WANT(kill(getppid(), 0) != 0);
    WANT(prctl(PR_SET_DUMPABLE, 1) != 0);
    return 0;
}

static void test_no_new_processes(void **state)
{
    assert_succeeds(state, makes_processes);
}

static int gets_refused(const struct fixture *f, const struct sandbox_report *report)
{
    static const long calls[] = {SYS_io_uring_setup, SYS_memfd_create, SYS_symlinkat, SYS_keyctl,
                                 SYS_shmget,         SYS_clone3,       100000};

    (void)f;
    if (!report->has_seccomp || HAS_SANITIZER)
        return 0;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        WANT(syscall(calls[i], 0, 0, 0, 0, 0) < 0 && errno == ENOSYS);
    return 0;
}

static void test_others_are_as_if_missing(void **state)
{
    assert_succeeds(state, gets_refused);
}

static long hostile_call;

static int calls_hostile(const struct fixture *f, const struct sandbox_report *report)
{
    (void)f;
    if (!report->has_seccomp)
        raise(SIGSYS);
    syscall(hostile_call, 0, 0, 0, 0, 0);
    return __LINE__;
}

static void test_hostile_calls_end_it(void **state)
{
    static const long calls[] = {SYS_execve, SYS_execveat,    SYS_process_vm_readv, SYS_bpf,
                                 SYS_mount,  SYS_userfaultfd, SYS_unshare,          SYS_init_module,
                                 SYS_setuid, SYS_capset,      SYS_perf_event_open};

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        int status;

        hostile_call = calls[i];
        status = run(*state, calls_hostile);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGSYS);
    }
    if (!HAS_SANITIZER) {
        int status;

        hostile_call = SYS_ptrace;
        status = run(*state, calls_hostile);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    }
}

static void test_nothing_granted(void **state)
{
    pid_t child = fork();
    int status;

    (void)state;
    if (child == 0) {
        struct sandbox_report report;

        sandbox_apply(&(struct sandbox_settings){NULL, 0}, &report);
        _exit(report.has_landlock && open("/etc/passwd", O_RDONLY) >= 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_report, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_capabilities, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_granted_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_granted_files_work, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_network, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_late_libraries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_new_code, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_new_processes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_others_are_as_if_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile_calls_end_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_granted, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
