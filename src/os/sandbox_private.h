/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the sandbox share. */
#ifndef POSTERN_OS_SANDBOX_PRIVATE_H
#define POSTERN_OS_SANDBOX_PRIVATE_H

#include "os/sandbox.h"

/* What a sanitizer's runtime needs beyond what the program does: LeakSanitizer stops the other threads with ptrace from a clone of the process, reports are
 * written with what a crash leaves. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANDBOX_HAS_SANITIZER 1
#endif
#endif
#ifndef SANDBOX_HAS_SANITIZER
#define SANDBOX_HAS_SANITIZER 0
#endif

/* Adds a part to a text of the report, after "; "; what does not fit is cut. */
void sandbox_say(char text[SANDBOX_TEXT_BYTES], const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Both need no_new_privs to be set. */
void sandbox_apply_landlock(const struct sandbox_settings *settings, struct sandbox_report *report);
void sandbox_apply_seccomp(struct sandbox_report *report);

#endif
