/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daily: a directory of files of lines, one for each day (UTC), written by a thread of its own. daily_write copies the line into a bounded ring and
 * returns, so that no loop waits for a disk. When the ring is full, or the disk refuses, lines are dropped, counted, and the daemon's log says so.
 *
 * A line goes to the file of the day on which daily_write was called. A file that has grown to its share of settings.bytes_max is followed by a
 * second part of the same day, "-2" behind the date, and so on. Files whose day ended more than keep_ms ago are removed, and the oldest until all
 * together leave room for what the next part may need within bytes_max.
 *
 * After a crash a file may end in a torn line: the next process begins with a new line behind it.
 *
 * Threads: any, but create, enable and destroy: one of them at a time.
 */
#ifndef POSTERN_CONTROL_DAILY_H
#define POSTERN_CONTROL_DAILY_H

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"
#include "os/vfs.h"

struct daily;

#define DAILY_RING_BYTES     (4u << 20)
#define DAILY_LINE_BYTES_MAX 16384
#define DAILY_NAME_BYTES     32
/* The smallest bytes_max that is honoured. */
#define DAILY_BYTES_MIN (4u << 20)

enum daily_names {
    DAILY_NAMES_ISO, /* 2026-11-21.jsonl, 2026-11-21-2.jsonl */
    DAILY_NAMES_W3C, /* ex261121.log, ex261121-2.log */
};

struct daily_settings {
    uint64_t keep_ms;   /* 0: for ever */
    uint64_t bytes_max; /* of all files; 0: no limit */
};

struct daily_options {
    const struct vfs *vfs;
    const char *directory; /* copied; made if it is missing */
    const char *what;      /* for the log: "tracking"; static */
    enum daily_names names;
    /* What every file, and every part written by another process, begins with; NULL: nothing. On the writing thread. */
    void (*head)(struct buf *out, int64_t at_ms);
};

/* Writes nothing and has no thread before daily_enable: what is written until then is dropped in silence. */
struct daily *daily_create(const struct daily_options *options);
/* Starts the thread, or gives it other settings. -1: no thread, or the directory can't be made. Blocks. */
int daily_enable(struct daily *daily, const struct daily_settings *settings, struct error *error);
/* Writes what waits and ends the thread. Sets the pointer to NULL, which it may be. */
void daily_destroy(struct daily **daily);

/* `line` with its newline; at most DAILY_LINE_BYTES_MAX (asserted). */
void daily_write(struct daily *daily, struct str line, int64_t at_ms);
/* Waits until what was written before is in the file, at most so long: not on a loop thread. */
void daily_flush(struct daily *daily, unsigned timeout_ms);
/* Lines that were dropped. */
uint64_t daily_lost(struct daily *daily);
/* Lines that reached a file. */
uint64_t daily_written(struct daily *daily);

/* ---- file names; pure ---- */

struct daily_file {
    int64_t day;   /* since 1970 */
    unsigned part; /* from 1 */
};

void daily_name(enum daily_names names, const struct daily_file *file, char name[DAILY_NAME_BYTES]);
/* false: not a name of this kind. */
bool daily_parse_name(enum daily_names names, struct str name, struct daily_file *file);
/* <0, 0, >0: by day, then part. */
int daily_compare(const struct daily_file *a, const struct daily_file *b);
/* The day of a time. */
int64_t daily_day(int64_t at_ms);

/* All files of the directory, the oldest first; freed by the caller. 0 or a negative errno; a directory that is not there has none. Blocks. */
int daily_list(const struct vfs *vfs, const char *directory, enum daily_names names, struct daily_file **files,
               size_t *count);

#endif
