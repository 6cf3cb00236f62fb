/* SPDX-License-Identifier: Apache-2.0 */
/* What log.c (the ring and its thread) and log_line.c (the text of one line) share. */
#ifndef POSTERN_BASE_LOG_PRIVATE_H
#define POSTERN_BASE_LOG_PRIVATE_H

#include "base/log.h"

/* A value takes at most this much of a line, escapes included, so that one long value does not push out the others. */
#define LOG_VALUE_BYTES_MAX 1024

/*
 * Writes the line, newline included, and returns its length; `room` is at least 256. A field that does not fit is left
 * out with all that follow it; the line stays well-formed. Any thread.
 */
size_t log_line_format(char *line, size_t room, enum log_format format, enum log_level level, const char *event,
                       const struct log_field *fields, size_t field_count);

#endif
