/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scan: walks the frames of one segment by the rules of format.h, "What counts". Recovery, the compactor and the
 * offline check all read segments through it, so that they agree on where a log ends. Blocks; one thread at a time for
 * one call.
 */
#ifndef POSTERN_SPOOL_SCAN_H
#define POSTERN_SPOOL_SCAN_H

#include "os/vfs.h"
#include "spool/format.h"

struct scan_source {
    struct vfs_file *file;
    struct format_binding binding;
    uint64_t bytes;     /* of the segment */
    uint64_t end;       /* of a sealed segment; 0: open */
    bool verify_bodies; /* those below the synced position too */
};

struct scan_visitor {
    void *context;
    /*
     * A valid frame; the views are valid during the call. `in_tail`: it stands above the synced position, so nothing
     * but the page cache may hold it. `body_is_good` is false if verify_bodies found the body damaged. Non-zero stops
     * the scan.
     */
    int (*frame)(void *context, uint64_t offset, const struct format_frame *frame, struct str envelope,
                 struct str results, bool in_tail, bool body_is_good);
    /* Bytes that do not count; `frame` is the header if that much can be trusted, else NULL. */
    void (*damage)(void *context, uint64_t from, uint64_t to, const struct format_frame *frame, const char *what);
};

struct scan_result {
    uint64_t batch_count;
    uint64_t frame_count;
    uint64_t synced;        /* the highest position stated, or a sealed segment's end */
    uint64_t end;           /* where the log ends */
    uint64_t position;      /* the first page that no batch claims: where an open segment may go on */
    uint64_t next_sequence; /* 0 if nothing says */
    uint64_t next_epoch;
    bool is_torn;       /* the log ends within a batch */
    bool is_unreadable; /* ... where the disk did not answer: the log must not go on over it */
    bool is_stopped;    /* the visitor ended the scan */
};

void scan_segment(const struct scan_source *source, const struct scan_visitor *visitor, struct scan_result *result);

#endif
