/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment: one file of a shard's log, and what keeps it from being used again.
 *
 *                 first batch        no room, or an error       nothing holds it, or compacted
 *     SPARE ----------------> ACTIVE ----------------> SEALED ----------------------> CONDEMNED
 *       ^                                                 ^                               | a checkpoint without it is
 * on the disk |  recycled by the keeper, or deleted             '--- that write failed ---------+
 *       '------------------------------------------------------------------------- FREED <'
 *
 * A sealed segment may go when no message in it lives, and no record in it concerns a frame that stands in another
 * segment, and no message in it is a copy of one that still stands elsewhere. The sets below say which segments these
 * are.
 *
 * Threads: file and binding don't change while a segment is active or later; the rest is under the shard's mutex, and
 * changed by the commit thread alone until FREED, except pins.
 */
#ifndef POSTERN_SPOOL_SEGMENT_H
#define POSTERN_SPOOL_SEGMENT_H

#include "base/list.h"
#include "os/vfs.h"
#include "spool/format.h"

#include <stdatomic.h>

/* Zeroed and synced in pieces of this size, so that commits that run meanwhile don't wait for 64 MiB. */
#define SEGMENT_ZERO_STEP_BYTES (4u << 20)
#define SEGMENT_BYTES_MIN       (16u << 10)
#define SEGMENT_BYTES_MAX       (4ull << 30)

/* A small set of segment numbers. */
struct segment_set {
    uint64_t *numbers;
    size_t count;
    size_t capacity;
};

bool segment_set_has(const struct segment_set *set, uint64_t number);
void segment_set_add(struct segment_set *set, uint64_t number);
void segment_set_add_all(struct segment_set *set, const struct segment_set *other);
void segment_set_remove(struct segment_set *set, uint64_t number);
void segment_set_release(struct segment_set *set);

enum segment_state { SEGMENT_SPARE, SEGMENT_ACTIVE, SEGMENT_SEALED, SEGMENT_CONDEMNED, SEGMENT_FREED };

struct segment {
    struct vfs_file *file;
    char *path;
    enum segment_state state;
    struct format_binding binding; /* number 0 while SPARE */
    uint64_t bytes;
    bool is_broken;    /* a write or sync failed: nothing is ever written to it again */
    bool is_compacted; /* whatever was needed of it has been copied */

    uint64_t position; /* of the next batch */
    uint64_t synced;   /* what the next batch header may state */
    uint64_t end;      /* of what counts in it */

    uint32_t slot; /* in the shard's table, from ACTIVE on */
    uint64_t live_count;
    uint64_t live_bytes;
    struct segment_set holds_on;  /* where frames stand that its records concern */
    struct segment_set copies_of; /* where its messages were copied from */
    struct segment_set moved_to;  /* where its messages were copied to */

    unsigned pins;             /* readers */
    uint64_t compact_after_ms; /* compaction is not tried again before */
    struct list_link link;     /* spares or freed */
};

/* Makes, zeroes and syncs a file: 0 or negative errno, and nothing stays behind. `cancel` (optional) ends it early with
 * -ECANCELED. */
int segment_create(const struct vfs *vfs, const char *directory, const char *path, uint64_t bytes,
                   const atomic_bool *cancel, struct segment **segment);
/* For a file that exists. Takes the file and the path. */
struct segment *segment_adopt(struct vfs_file *file, char *path, uint64_t bytes);
/* SPARE -> ACTIVE. The header goes to the disk with the first batch. */
void segment_activate(struct segment *segment, uint64_t number, uint32_t slot);
/* FREED -> SPARE: a new structure for the same file. */
struct segment *segment_recycle(struct segment **segment);
/* One setter of the state; asserts the transition. */
void segment_set_state(struct segment *segment, enum segment_state state);
/* Closes; the file stays. */
void segment_destroy(struct segment **segment);

#endif
