/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tracking: the tracking log, a record of what became of every message: data-dir/tracking/YYYY-MM-DD.jsonl, a JSON object on each line for each event,
 * described in docs/tracking-log.md. It is the sink of session's and delivery's events (session/events.h); a thread of its own writes (daily.h).
 *
 * Calling sequence: tracking_create; tracking_configure at start and at each reload; tracking_sink to who has something to tell; tracking_destroy once
 * nobody tells any more.
 */
#ifndef POSTERN_CONTROL_TRACKING_H
#define POSTERN_CONTROL_TRACKING_H

#include "base/error.h"
#include "config/config.h"
#include "os/vfs.h"
#include "session/events.h"

struct tracking;

#define TRACKING_DIRECTORY "tracking"

/* Opens nothing yet. */
struct tracking *tracking_create(const struct vfs *vfs, const char *data_directory);
/* Main thread; blocks. */
int tracking_configure(struct tracking *tracking, const struct config_tracking *config, struct error *error);
void tracking_destroy(struct tracking **tracking);

/* Valid as long as the tracking. */
const struct mail_event_sink *tracking_sink(struct tracking *tracking);
/* What has been told so far is in the files afterwards: for a search. Blocks, a second at most. */
void tracking_flush(struct tracking *tracking);

struct tracking_statistics {
    uint64_t written;
    uint64_t lost;
};
void tracking_get_statistics(struct tracking *tracking, struct tracking_statistics *statistics);

#endif
