/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool: the durable store of messages under way. What spool_submit has completed with SPOOL_DONE is on the disk and
 * survives any crash or power cut. An append-only log in shards (docs/spool-format.md); one commit thread a shard
 * gathers whatever waits into one write and one sync. The spool knows messages by id, with an envelope and result
 * records that it does not interpret.
 *
 * Calling sequence: spool_create; spool_open recovers and reports every live message through the recovery callbacks; then
 * spool_reserve_id and spool_submit, spool_reader_* and the rest from any thread; spool_close when nothing more is submitted
 * and all readers are closed.
 *
 * Threads: each call says. No call of this module waits for a loop, and it includes none of it: completion callbacks
 * run on the commit thread and must only hand over (post to a mailbox).
 */
#ifndef POSTERN_SPOOL_SPOOL_H
#define POSTERN_SPOOL_SPOOL_H

#include "base/error.h"
#include "base/list.h"
#include "base/str.h"
#include "os/vfs.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct spool;

/* Bounds of what a caller may submit; asserted. */
#define SPOOL_ENVELOPE_BYTES_MAX (4u << 20) /* a thousand recipients with DSN parameters fit */
#define SPOOL_RESULT_BYTES_MAX   (1u << 20)
#define SPOOL_RESULTS_MAX        4096u        /* in one write */
#define SPOOL_RESULTS_BYTES_MAX  (8u << 20)   /* payloads of one write together */
#define SPOOL_INLINE_BODY_BYTES  (256u << 10) /* a larger body must be a body file */
#define SPOOL_SHARDS_MAX         64u

/*
 * Nobody waits for a result: a batch of results alone is held back this long, or until a message is to be written, or
 * until this many results have gathered. A crash in that time means a delivery twice, never a loss. spool_close holds
 * nothing back. On a full disk it is longer, since each batch takes a page at least of the little that is left.
 */
#define SPOOL_RESULTS_DELAY_MS      5u
#define SPOOL_RESULTS_DELAY_FULL_MS 200u
#define SPOOL_RESULTS_GATHER_MAX    1024u

/* So many ids may be reserved between two writes; see spool_reserve_id. */
#define SPOOL_ID_LEASE (1u << 20)

/* A message's name for the rest of the program: unique for the life of the spool directory, never 0, never reused. */
typedef uint64_t spool_id;

/* The shard that a message lives in: results may share a write if this is the same for all. */
static inline unsigned spool_shard_of(spool_id id)
{
    return (unsigned)(id & 0xff);
}

enum spool_status {
    SPOOL_DONE,   /* on the disk */
    SPOOL_FULL,   /* no room, nothing written; the log is fine (452) */
    SPOOL_FAILED, /* a write or sync failed; not acknowledged, its segment is given up (451) */
};

/*
 * One recipient result or the end of a message. Opaque payload; recovery hands it back in the order it was submitted. A
 * result may come back twice (its write ended SPOOL_FAILED, and reached the disk all the same): applying it again must
 * change nothing. A result for a message that is dead already is dropped, without harm.
 */
struct spool_result {
    spool_id id;
    struct str payload; /* may be empty when `dead` */
    bool dead;          /* the message is settled: forget it and its body */
};

enum spool_write_type { SPOOL_WRITE_MESSAGE, SPOOL_WRITE_RESULTS };

struct spool_body_file;

/*
 * One unit of durability: it is valid as a whole or not at all. The caller owns it and everything it points to,
 * unchanged, until `done` runs (on the commit thread, once). SPOOL_WRITE_MESSAGE is a new message, with any results
 * that it settles (an NDR and the failures that it covers; all ids of `results` must live in the shard of the first);
 * SPOOL_WRITE_RESULTS only results. Fields that are not set must be zero.
 *
 * What SPOOL_FAILED means: not promised. Results of such a write are to be submitted again. A message of such a write
 * is not live; if the process dies before the next write succeeded, it may yet be found by recovery, as a message that
 * the client was told to send again (a duplicate, never a loss).
 */
struct spool_write {
    enum spool_write_type type;

    struct str envelope;      /* MESSAGE only */
    const struct iovec *body; /* MESSAGE only: up to SPOOL_INLINE_BODY_BYTES in all, or none ... */
    int body_part_count;
    /* ... and this, finished (spool_body_file_finish); becomes the spool's when DONE */
    struct spool_body_file *body_file;

    const struct spool_result *results; /* either type; all of one shard */
    size_t result_count;

    void (*done)(struct spool_write *write);

    spool_id id;              /* MESSAGE: from spool_reserve_id, set by the caller */
    enum spool_status status; /* out */

    /* The spool's own, from spool_submit to `done`. */
    struct list_link link;
    struct {
        bool is_copy; /* an internal write of the compactor */
        uint32_t envelope_checksum;
        uint32_t body_checksum;
        uint32_t results_bytes; /* as encoded; 0: no record is left to write */
        uint64_t body_bytes;
        uint64_t body_name; /* of the body file; 0: inline */
        uint64_t frame_bytes;
        uint64_t offset; /* in the segment, once placed in a batch */
        uint64_t epoch;
    } own;
};

struct spool_options {
    const struct vfs *vfs;
    const char *directory;         /* DATA-DIR/spool; made if missing */
    const char *badmail_directory; /* damaged frames are set aside there */
    unsigned shard_count; /* of a new spool; an existing one keeps what it finds, and gains shards if more are asked */
    uint64_t segment_bytes; /* 64 MiB; tests use less */
    uint64_t reserve_bytes; /* of free disk space that new messages may not use, kept for results (default 16 MiB) */
    /* Optional: runs on the commit thread after the last `done` of a batch, so that loops are notified once a batch. */
    void (*batch_done)(void *context);
    void *context;
};

/* What recovery reports, on the thread of spool_open. Views are valid during the call only. */
struct spool_recovery {
    void *context;
    void (*message)(void *context, spool_id id, struct str envelope, uint64_t body_bytes);
    void (*result)(void *context, spool_id id, struct str payload);     /* after its message; never of a dead one */
    void (*damage)(void *context, const char *where, const char *what); /* a frame set aside: a line for the log */
};

/* No I/O, never fails; the texts of the options are copied. */
struct spool *spool_create(const struct spool_options *options);
/* Recovers and starts the commit threads: once. The directory is locked; another process's lock is an error. After -1 only spool_close. */
int spool_open(struct spool *spool, const struct spool_recovery *recovery, struct error *error);
/* Writes what was submitted, ends the threads, frees. Also on one that was never opened, and on NULL inside. */
void spool_close(struct spool **spool);

/*
 * A fresh id for a new message (its name stands in the Received line, so it is needed before the write). With `beside`
 * not 0, one in the shard of that message, as a report about it needs; else shards take turns. Any thread, no I/O. Ids
 * that are never submitted cost nothing, and are not given again after a restart either: each batch states a number
 * that is SPOOL_ID_LEASE beyond the last id given, and a restart goes on from there. (Only if no batch at all could be
 * written since the start, on a full disk, the next start gives the same ids again.)
 */
spool_id spool_reserve_id(struct spool *spool, spool_id beside);

/* Any thread; never blocks for the disk. `done` always runs, later, on the commit thread. */
void spool_submit(struct spool *spool, struct spool_write *write);

/* Whether a new message of this size would be refused with SPOOL_FULL right now, as far as is known: any thread, cheap
 * (no system call). */
bool spool_is_full(const struct spool *spool, uint64_t body_bytes);

/*
 * A live message's body. Reads up to `length` bytes at `offset`: count, 0 at the end, or a negative errno; -EILSEQ if
 * the body's checksum does not match (checked by the read that reaches the end, when the reading was sequential from 0
 * with the same reader). With `nowait`, -EAGAIN instead of waiting for the disk; may then be called on a loop thread.
 */
struct spool_reader;
struct spool_reader *spool_reader_open(struct spool *spool, spool_id id); /* NULL: no such live message. No I/O. */
uint64_t spool_reader_body_bytes(const struct spool_reader *reader);
ssize_t spool_reader_read(struct spool_reader *reader, void *data, size_t length, uint64_t offset, bool nowait);
void spool_reader_close(struct spool_reader **reader);

/* A live message's envelope again, malloced (the queue keeps only what it needs in memory): 0 or negative errno.
 * Blocks. */
int spool_read_envelope(struct spool *spool, spool_id id, char **data, size_t *length);

/*
 * A body over SPOOL_INLINE_BODY_BYTES, written while it arrives. All of these block: only on worker threads. One thread
 * at a time. -ENOSPC when the reserve would be touched.
 */
int spool_body_file_create(struct spool *spool, struct spool_body_file **file);
int spool_body_file_append(struct spool_body_file *file, const void *data, size_t length);
/* Syncs the file and its directory. After it, submit. */
int spool_body_file_finish(struct spool_body_file *file);
/* Removes a file that was not submitted, or whose write did not end DONE. */
void spool_body_file_discard(struct spool_body_file **file);

struct spool_statistics {
    uint64_t live_messages;
    uint64_t segments;
    uint64_t segments_free;
    uint64_t syncs;
    uint64_t frames;
    uint64_t write_errors;
    uint64_t bytes_on_disk; /* of segments, without body files */
};
void spool_get_statistics(const struct spool *spool, struct spool_statistics *statistics); /* any thread */

/* `postern spool check`: reads everything, changes nothing; calls `line` for each finding. Returns the number of
 * damaged frames, or -1. */
struct spool_check_report {
    uint64_t segments, frames, live_messages, dead_messages, torn_tails, damaged_frames, damaged_bodies;
};
int64_t spool_check(const struct vfs *vfs, const char *directory, struct spool_check_report *report,
                    void (*line)(void *context, const char *text), void *context, struct error *error);

#endif
