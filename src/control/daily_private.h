/* SPDX-License-Identifier: Apache-2.0 */
/* What daily.c (the ring and its thread) and daily_files.c (names, the open file, rotation) share. */
#ifndef POSTERN_CONTROL_DAILY_PRIVATE_H
#define POSTERN_CONTROL_DAILY_PRIVATE_H

#include "control/daily.h"

/* The thread's own. */
struct daily_files {
    const struct vfs *vfs;
    char *directory;
    const char *what;
    enum daily_names names;
    void (*head)(struct buf *out, int64_t at_ms);
    struct daily_settings settings;
    struct vfs_file *file; /* NULL: none is open */
    struct daily_file current;
    uint64_t offset;
};

/* Appends to the file of this day, opening, rotating and cleaning up as needed. 0 or a negative errno. */
int daily_files_append(struct daily_files *files, int64_t day, struct str lines);
/* Removes what is too old, and the oldest of what is too much. */
void daily_files_clean(struct daily_files *files, int64_t now_ms);
void daily_files_close(struct daily_files *files);

#endif
