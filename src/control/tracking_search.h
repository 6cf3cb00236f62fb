/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tracking_search: finds lines of the tracking log, the oldest first, a piece at a time, so that a worker thread is not held for long and nothing is
 * gathered that nobody reads. A torn or foreign line is passed over. Reads only; works beside a daemon that writes, and without one.
 *
 * Threads: blocks; one thread at a time.
 */
#ifndef POSTERN_CONTROL_TRACKING_SEARCH_H
#define POSTERN_CONTROL_TRACKING_SEARCH_H

#include "base/buf.h"
#include "os/vfs.h"
#include "session/events.h"

struct tracking_search;

/* Looked at in one step, at most. */
#define TRACKING_SEARCH_STEP_BYTES (8u << 20)
/* Gathered in one step, at most, but for one line more. */
#define TRACKING_SEARCH_FOUND_BYTES (64u << 10)

/* All conditions must be met; what is not set is none. Texts with `*` are patterns (queue/control.h); ASCII letters match in either case. */
struct tracking_filter {
    uint64_t id; /* of the message, or of one that was made of it */
    struct str sender;
    struct str recipient;
    int64_t since_at_ms; /* 0: from the start */
    int64_t until_at_ms; /* not this one any more; 0: to the end */
    unsigned kinds;      /* bits 1 << enum mail_event_kind; 0: all */
};

/* Copies the filter. 0 or a negative errno: the directory can't be read; one that is not there is empty. */
int tracking_search_create(struct tracking_search **search, const struct vfs *vfs, const char *directory,
                           const struct tracking_filter *filter);
/* Appends lines that were found, whole JSON objects with a newline each; may append none. 1: there may be more. 0: that was all. Or a negative errno. */
int tracking_search_next(struct tracking_search *search, struct buf *found);
void tracking_search_destroy(struct tracking_search **search);

#endif
