/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the spool's own files share: the spool, its shards, and who may touch what.
 *
 * A shard has two threads. The commit thread (commit.c) alone writes to the log and changes index and segment table.
 * The keeper (keeper.c) prepares segments ahead of need, recycles and deletes, and copies the few messages of nearly
 * dead segments onward by submitting copies to the commit thread. No thread holds two mutexes, or one during I/O.
 */
#ifndef POSTERN_SPOOL_SPOOL_PRIVATE_H
#define POSTERN_SPOOL_SPOOL_PRIVATE_H

#include "spool/batch.h"
#include "spool/index.h"
#include "spool/segment.h"
#include "spool/spool.h"

#include <pthread.h>
#include <stdatomic.h>

/* Free segments kept for reuse, beside the reserve; more are deleted. */
#define SHARD_SPARES_MAX 4u
/* A segment that could not be had is not asked for again for this long. */
#define SHARD_SPARE_RETRY_MS 100u

/* A copy of a frame, or of some of its records, that the compactor wants written. `write.own.is_copy` tells it from a
 * write. */
struct spool_copy {
    struct spool_write write; /* type, envelope, done */
    struct format_frame frame;
    struct segment *source;
    uint64_t source_offset;
    struct str records; /* encoded */
    struct iovec body;
};

/* What a submitter has to wake the commit thread from. */
enum commit_sleep { COMMIT_AWAKE, COMMIT_IDLE, COMMIT_HOLDS_RESULTS };

struct shard {
    struct spool *spool;
    unsigned number;
    char *directory;

    /* Submitters to commit thread. */
    pthread_mutex_t queue_mutex;
    pthread_cond_t queue_cond;
    struct list_link queue;
    size_t queued_urgent;  /* messages and copies */
    size_t queued_results; /* the rest: nobody waits for them */
    bool wants_checkpoint; /* a segment can be freed */
    bool is_closing;
    enum commit_sleep commit_sleep;

    pthread_mutex_t mutex; /* from here to the next line of this kind */
    struct index index;
    struct segment **segments; /* by slot; ACTIVE, SEALED, CONDEMNED; NULL: slot not in use */
    uint32_t segment_slots;
    struct list_link spares;
    size_t spare_count;
    struct segment *reserve; /* the last one, for results on a full disk */
    struct list_link freed;  /* for the keeper */
    uint64_t *dead_bodies;   /* names, for the keeper */
    size_t dead_body_count;
    size_t dead_body_capacity;
    bool is_preparing; /* the keeper makes a segment right now */
    bool keeper_has_work;
    bool keeper_stops;
    pthread_cond_t keeper_cond;
    pthread_cond_t spare_cond;
    /* end of what `mutex` guards */

    /* The commit thread's own. */
    struct list_link work; /* taken from the queue */
    struct batch batch;
    struct segment *active;
    uint64_t next_number;
    uint64_t next_epoch;
    bool checkpoint_due;
    bool frees_segments; /* the checkpoint that is due would */
    bool is_clean;       /* the last batch holds nothing that recovery would have to copy */

    atomic_uint_fast64_t next_file;   /* names of segment files */
    atomic_uint_fast64_t active_left; /* bytes */
    atomic_uint_fast64_t spare_bytes; /* without the reserve */
    atomic_uint_fast64_t retry_at_ms; /* when a segment may be asked for again; 0: at once */
    atomic_int spare_error;           /* why not before: negative errno */
    atomic_bool stops;                /* the keeper: at once */
    pthread_t commit_thread;
    pthread_t keeper_thread;
    bool has_threads;
};

struct spool {
    const struct vfs *vfs;
    char *directory;
    char *body_directory;
    char *badmail_directory;
    unsigned wanted_shards;
    uint64_t segment_bytes;
    uint64_t reserve_bytes;
    void (*batch_done)(void *context);
    void *context;
    struct vfs_file *lock;

    struct shard *shards;
    unsigned shard_count;
    atomic_uint_fast64_t next_sequence; /* of message ids, for all shards */
    atomic_uint next_shard;

    atomic_int_fast64_t free_bytes; /* of the disk, as last seen */
    atomic_uint_fast64_t free_seen_at_ms;

    atomic_uint_fast64_t live_messages;
    atomic_uint_fast64_t syncs;
    atomic_uint_fast64_t frames;
    atomic_uint_fast64_t write_errors;
};

/* spool.c: the names of things. Malloced. */
char *spool_body_path(const struct spool *spool, uint64_t name);
uint64_t spool_reserve_segment_bytes(const struct spool *spool);

#endif
