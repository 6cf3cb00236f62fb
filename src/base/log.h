/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: the process's log, as text or JSON lines. log_write formats into a bounded ring and returns; a thread of the
 * logger's own writes, gathering lines for a few milliseconds, so that no loop ever waits for a terminal, a pipe or a
 * disk. When the ring is full, lines are dropped and counted, and the next line that fits says how many. Any thread.
 *
 * Text:  2026-11-21T10:00:00.123Z info queued id=1A server=internet from=<a@b>
 * JSON:  {"time":"...","level":"info","event":"queued","id":"1A",...}
 *
 * A value never breaks the line: control bytes, quotes, backslashes and invalid UTF-8 are escaped. Text values with any
 * of these, a space, "=" or other bytes than ASCII are quoted.
 *
 *     LOG_INFO("queued", log_str("id", id), log_u64("size", size));
 */
#ifndef POSTERN_BASE_LOG_H
#define POSTERN_BASE_LOG_H

#include "base/error.h"
#include "base/str.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

enum log_field_type { LOG_FIELD_STR, LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_BOOL };

struct log_field {
    const char *name;
    enum log_field_type type;
    struct str text;
    int64_t number;
};

static inline struct log_field log_str(const char *name, struct str value)
{
    return (struct log_field){name, LOG_FIELD_STR, value, 0};
}

static inline struct log_field log_cstr(const char *name, const char *value)
{
    return (struct log_field){name, LOG_FIELD_STR, str_from_cstr(value), 0};
}

static inline struct log_field log_u64(const char *name, uint64_t value)
{
    return (struct log_field){name, LOG_FIELD_U64, {0}, (int64_t)value};
}

static inline struct log_field log_i64(const char *name, int64_t value)
{
    return (struct log_field){name, LOG_FIELD_I64, {0}, value};
}

static inline struct log_field log_bool(const char *name, bool value)
{
    return (struct log_field){name, LOG_FIELD_BOOL, {0}, value};
}

static inline struct log_field log_error(const struct error *error)
{
    return (struct log_field){"error", LOG_FIELD_STR, str_from_cstr(error->text), 0};
}

/* A line is at most this long; longer values are cut. The ring holds LOG_RING_BYTES. */
#define LOG_LINE_BYTES_MAX 4096
#define LOG_RING_BYTES     (4u << 20)

/* Lines go straight to the descriptor from here on; for what is to be said before there may be threads. */
void log_use(int fd, enum log_format format, enum log_level level);
/* Starts the writing thread; before it and after log_stop lines go straight to the descriptor. `fd` is not owned. */
void log_start(int fd, enum log_format format, enum log_level level);
/* Changes format and level while running (reload). */
void log_configure(enum log_format format, enum log_level level);
/* Writes what waits and ends the thread. Idempotent. */
void log_stop(void);
bool log_is_enabled(enum log_level level);

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t field_count);

/*
 * One JSON line of this form for another record than the log: {"time":"...","event":"...",FIELDS} and a newline. At most `room` bytes (at least 256),
 * LOG_LINE_BYTES_MAX hold any that is of use; values are cut, and fields left out, as in the log. Returns its length. `at_ms`: real time, not before 1970.
 */
size_t log_format_record(char *line, size_t room, int64_t at_ms, const char *event, const struct log_field *fields,
                         size_t field_count);

#define LOG_AT(level, event, ...)                                                                                      \
    do {                                                                                                               \
        if (log_is_enabled(level)) {                                                                                   \
            const struct log_field log_fields_[] = {__VA_ARGS__};                                                      \
            log_write((level), (event), log_fields_, sizeof(log_fields_) / sizeof(log_fields_[0]));                    \
        }                                                                                                              \
    } while (0)

/* Each takes an event name and at least one field. */
#define LOG_DEBUG(event, ...)   LOG_AT(LOG_LEVEL_DEBUG, event, __VA_ARGS__)
#define LOG_INFO(event, ...)    LOG_AT(LOG_LEVEL_INFO, event, __VA_ARGS__)
#define LOG_WARNING(event, ...) LOG_AT(LOG_LEVEL_WARNING, event, __VA_ARGS__)
#define LOG_ERROR(event, ...)   LOG_AT(LOG_LEVEL_ERROR, event, __VA_ARGS__)

#endif
