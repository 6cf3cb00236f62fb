/* SPDX-License-Identifier: Apache-2.0 */
/*
 * errors: the mistakes and warnings found while a configuration is read, each with its place. Bounded: past the maximum they
 * are counted only. One thread at a time.
 */
#ifndef POSTERN_CONFIG_ERRORS_H
#define POSTERN_CONFIG_ERRORS_H

#include "base/buf.h"
#include "base/str.h"

#define CONFIG_MESSAGES_MAX      1000
#define CONFIG_MESSAGE_BYTES_MAX 1024

/* Where something stands. Without a line the whole file is meant; without a file, the machine. */
struct config_place {
    const char *file;
    unsigned line;   /* from 1; 0: none */
    unsigned column; /* from 1; 0: none */
};

struct config_message {
    bool is_warning;
    const char *code; /* of a warning, for programs: a static string such as "connector-overrides"; "" for an error */
    char *file;
    unsigned line;
    unsigned column;
    char *text;
};

struct config_errors {
    struct config_message *messages;
    size_t count;
    size_t capacity;
    size_t error_count; /* all, those beyond the maximum included */
    size_t warning_count;
};

void config_errors_init(struct config_errors *errors);
void config_errors_release(struct config_errors *errors);

/* Returns -1, so that one can `return config_errors_add(...)`. */
int config_errors_add(struct config_errors *errors, const struct config_place *place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void config_errors_warn(struct config_errors *errors, const struct config_place *place, const char *code,
                        const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Orders by file (in the order of first mention), line and column; finding order on a tie. */
void config_errors_sort(struct config_errors *errors);
/* "FILE:LINE:COLUMN: text", or "FILE:LINE:COLUMN: warning: text", without a line end; parts without a value are left out. */
void config_message_format(const struct config_message *message, struct buf *out);

#endif
