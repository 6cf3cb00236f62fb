/* SPDX-License-Identifier: Apache-2.0 */
/*
 * edit: what the commands that change the embedded directory share. Root becomes the configuration's `user` before the database is touched: so it belongs to
 * whom the daemon runs as, and root follows no link that stands in that user's directory.
 */
#ifndef POSTERN_CMD_EDIT_H
#define POSTERN_CMD_EDIT_H

#include "cmd/tool.h"
#include "directory/store.h"
#include "mail/address.h"

struct edit {
    const struct tool_options *options;
    const struct config *config;
    struct store *store; /* NULL after edit_open_to_read: there is no database */
};

/* The configuration, which must say sqlite. Anything but DONE: a message has gone to the standard error, and edit_end is still called. */
enum exit_code edit_begin(struct edit *edit, const struct tool_options *options);
enum exit_code edit_open(struct edit *edit);
enum exit_code edit_open_to_read(struct edit *edit);
void edit_end(struct edit *edit);

/* Prints what has become of it, and returns the exit code. `done`: in words, for people, who want to know what is so now. */
enum exit_code edit_report(const struct edit *edit, enum store_result result, const struct error *error,
                           const char *done, struct str about);

/*
 * An address or pattern as it is kept: one in an alias domain under the domain that it stands for, since the directory is asked about that. -1: a message has gone
 * to the standard error. `must_be_asked`: a domain that the directory is never asked about is refused.
 */
int edit_take_address(const struct edit *edit, struct str given, bool must_be_asked,
                      char taken[ADDRESS_TEXT_OCTETS_MAX + 1]);
/* The name of a user, which may be an address in a local domain. */
int edit_take_name(const struct edit *edit, const char *given, char taken[ADDRESS_TEXT_OCTETS_MAX + 1]);

#endif
