/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error: what went wrong, in words, on its way up. The one who fails sets it, each caller may add context in front.
 * Functions that take a `struct error *` return 0 or -1 (or NULL) and set it whenever they fail; NULL means "don't tell
 * me".
 */
#ifndef POSTERN_BASE_ERROR_H
#define POSTERN_BASE_ERROR_H

#include <stdbool.h>

#define ERROR_TEXT_BYTES 512

struct error {
    int errno_value; /* 0 where no system call failed */
    char text[ERROR_TEXT_BYTES];
};

/* Both return -1, so that one can `return error_set(...)`. Text that is too long is cut. */
int error_set(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Adds ": " and the system's words for `errno_value` (positive). */
int error_set_errno(struct error *error, int errno_value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Puts the text and ": " in front of what stands there. */
int error_add_context(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
