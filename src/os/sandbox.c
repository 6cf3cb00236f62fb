/* SPDX-License-Identifier: Apache-2.0 */
#include "os/sandbox.h"

#include "os/sandbox_private.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

void sandbox_say(char text[SANDBOX_TEXT_BYTES], const char *format, ...)
{
    size_t length = strlen(text);
    va_list arguments;

    if (length > 0)
        length += (size_t)snprintf(text + length, SANDBOX_TEXT_BYTES - length, "; ");
    if (length >= SANDBOX_TEXT_BYTES)
        return;
    va_start(arguments, format);
    vsnprintf(text + length, SANDBOX_TEXT_BYTES - length, format, arguments);
    va_end(arguments);
}

/* Not dumpable: no core whatever the limit says (a pattern with a pipe ignores it), no ptrace and no /proc/PID/mem by others of the same user. */
static void refuse_core(struct sandbox_report *report)
{
    const struct rlimit none = {0, 0};

    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        sandbox_say(report->missing, "core files: %s", strerrordesc_np(errno));
    else
        report->has_no_core = true;
}

static void drop_capabilities(struct sandbox_report *report)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

    /* The bounding set takes a capability to be lowered, and matters to programs that are run only: of which there are none. Whoever was root is rid of it. */
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0)
            break;
    /* A kernel before 4.3 has no ambient set, and answers EINVAL. */
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL)
        sandbox_say(report->missing, "ambient capabilities: %s", strerrordesc_np(errno));
    else if (syscall(SYS_capset, &header, none) != 0)
        sandbox_say(report->missing, "capabilities: %s", strerrordesc_np(errno));
    else if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        sandbox_say(report->missing, "no new privileges: %s", strerrordesc_np(errno));
    else
        report->has_no_capabilities = true;
}

/* A thread that started before stays outside of Landlock. */
static void look_for_threads(struct sandbox_report *report)
{
    DIR *tasks = opendir("/proc/self/task");
    size_t count = 0;

    if (!tasks)
        return;
    for (const struct dirent *entry = readdir(tasks); entry; entry = readdir(tasks))
        count += entry->d_name[0] != '.';
    closedir(tasks);
    if (count <= 1)
        return;
    if (SANDBOX_HAS_SANITIZER)
        sandbox_say(report->weakened, "a thread of the sanitizer's runs outside of Landlock");
    else
        sandbox_say(report->missing, "%zu threads run already, outside of Landlock", count - 1);
}

void sandbox_apply(const struct sandbox_settings *settings, struct sandbox_report *report)
{
    *report = (struct sandbox_report){0};
    refuse_core(report);
    drop_capabilities(report);
    look_for_threads(report);
    sandbox_apply_landlock(settings, report);
    /* Last, since it would refuse what the others do. */
    sandbox_apply_seccomp(report);
}
