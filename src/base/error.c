/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Appends to the text from `start`; what does not fit is cut. Returns where the text ends now. */
static size_t text_vprintf(struct error *error, size_t start, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

static size_t text_vprintf(struct error *error, size_t start, const char *format, va_list arguments)
{
    size_t room = sizeof(error->text) - start;
    int length = vsnprintf(error->text + start, room, format, arguments);

    if (length < 0) {
        error->text[start] = '\0';
        return start;
    }
    return start + ((size_t)length < room ? (size_t)length : room - 1);
}

int error_set(struct error *error, const char *format, ...)
{
    va_list arguments;

    if (!error)
        return -1;
    error->errno_value = 0;
    va_start(arguments, format);
    text_vprintf(error, 0, format, arguments);
    va_end(arguments);
    return -1;
}

int error_set_errno(struct error *error, int errno_value, const char *format, ...)
{
    char words[128];
    va_list arguments;
    size_t end;

    if (!error)
        return -1;
    error->errno_value = errno_value;
    va_start(arguments, format);
    end = text_vprintf(error, 0, format, arguments);
    va_end(arguments);
    snprintf(error->text + end, sizeof(error->text) - end, ": %s", strerror_r(errno_value, words, sizeof(words)));
    return -1;
}

int error_add_context(struct error *error, const char *format, ...)
{
    char before[ERROR_TEXT_BYTES];
    va_list arguments;
    size_t end;

    if (!error)
        return -1;
    memcpy(before, error->text, sizeof(before));
    before[sizeof(before) - 1] = '\0';
    va_start(arguments, format);
    end = text_vprintf(error, 0, format, arguments);
    va_end(arguments);
    snprintf(error->text + end, sizeof(error->text) - end, ": %s", before);
    return -1;
}
