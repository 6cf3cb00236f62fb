/* SPDX-License-Identifier: Apache-2.0 */
/* What relaytest prints: while it runs to the standard error, its result for people, for programs, and for build servers. */
#ifndef POSTERN_CMD_RELAYTEST_OUTPUT_H
#define POSTERN_CMD_RELAYTEST_OUTPUT_H

#include "cmd/tool.h"
#include "relaytest/relaytest.h"

/* What both print beside the result itself. */
struct relaytest_subject {
    const char *target; /* as given */
    const char *user;   /* NULL: none */
    bool envelope_only;
};

/* `context`: none is needed. The first only where the standard error is a terminal. */
void relaytest_show_progress(void *context, const struct relaytest_progress *progress);
void relaytest_hide_progress(void);
void relaytest_show_said(void *context, char who, struct str line);

void relaytest_print_text(const struct relaytest_subject *subject, const struct relaytest_result *result);
/* docs/relaytest.schema.json describes it. */
void relaytest_print_json(const struct relaytest_subject *subject, const struct relaytest_result *result);
/* 0, or -1 and an error: `path` could not be written. */
int relaytest_write_junit(const char *path, const struct relaytest_subject *subject,
                          const struct relaytest_result *result, struct error *error);

/* "6a" */
#define RELAYTEST_ID_BYTES 8
void relaytest_probe_id(const struct relaytest_row *row, char id[RELAYTEST_ID_BYTES]);

#endif
