/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_log: the SMTP sessions in the W3C extended log file format, with the fields and the file names (exYYMMDD.log) of the IIS SMTP service, for the
 * tools that know those. A line for each command with the code of its reply; what was said to authenticate is never in it. Off unless configured; a thread
 * of its own writes (daily.h).
 *
 * Calling sequence: as for tracking.h.
 */
#ifndef POSTERN_CONTROL_SESSION_LOG_H
#define POSTERN_CONTROL_SESSION_LOG_H

#include "base/error.h"
#include "config/config.h"
#include "os/vfs.h"
#include "session/command_log.h"

struct session_log;

struct session_log *session_log_create(const struct vfs *vfs);
/* Main thread; blocks. Another directory than before: what was written goes on standing in the old one. */
int session_log_configure(struct session_log *log, const struct config_session_log *config, struct error *error);
/* Nobody tells it anything any more. Sets the pointer to NULL, which it may be. */
void session_log_destroy(struct session_log **log);

/* Valid as long as the log. */
const struct command_log_sink *session_log_sink(struct session_log *log);

/* One line, with its newline; pure. */
void session_log_format(struct buf *out, const struct command_log_entry *entry, int64_t at_ms);

#endif
