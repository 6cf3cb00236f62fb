/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What recovery and the offline check share: segment files as they are found, and what scans of them say. No threads but
 * recover_scan's own, and no locks.
 */
#ifndef POSTERN_SPOOL_RECOVER_PRIVATE_H
#define POSTERN_SPOOL_RECOVER_PRIVATE_H

#include "base/error.h"
#include "spool/recover.h"
#include "spool/scan.h"

/* A message frame. */
struct found_message {
    uint64_t id;
    uint64_t epoch;
    uint64_t body_bytes;
    uint64_t body_name;
    uint32_t segment; /* place in found_shard.segments */
    uint32_t frame_units;
    uint32_t envelope_bytes;
    uint32_t body_at;
    uint32_t body_checksum;
    uint8_t body_is_good; /* unless the check found otherwise */
};

/* A result record. */
struct found_record {
    uint64_t id;
    uint64_t epoch;
    uint64_t payload_at; /* in the segment */
    uint32_t payload_bytes;
    uint32_t segment;
    bool dead;
};

struct found_damage {
    uint32_t segment;
    uint64_t from;
    uint64_t to;
    uint64_t id; /* of a message frame whose header is good; else 0 */
    const char *what;
};

enum found_state {
    FOUND_FREE,   /* counts for nothing: a spare, or one that was freed */
    FOUND_BAD,    /* its header can't be read */
    FOUND_SEALED, /* listed in the last checkpoint */
    FOUND_OPEN,   /* that of the last checkpoint, or later */
};

struct found_segment {
    struct vfs_file *file;
    char *path;
    uint64_t bytes;
    struct format_segment header; /* number 0: none */
    enum found_state state;
    uint64_t listed_end; /* SEALED */
    struct scan_result scan;
    bool has_checkpoint;
    struct format_checkpoint_entry *checkpoint; /* the last in it */
    size_t checkpoint_count;

    /* What its scan found; moved into the shard's arrays by found_join. */
    struct found_message *messages;
    size_t message_count, message_capacity;
    struct found_record *records;
    size_t record_count, record_capacity;
    struct found_damage *damages;
    size_t damage_count, damage_capacity;

    uint32_t place;
    const struct found_bodies *bodies;
    unsigned shard;
};

/* The body files that exist, by rising name. */
struct found_bodies {
    uint64_t *names;
    bool *used;
    size_t count;
    size_t capacity;
};

struct found_shard {
    const struct vfs *vfs;
    unsigned number;
    const char *directory;
    bool verify_bodies;
    struct found_segment *segments; /* by falling number, those without one last */
    size_t segment_count, segment_capacity;
    uint64_t next_file;
    uint64_t *missing; /* listed, and not there */
    size_t missing_count;
    bool has_checkpoint;

    struct found_message *messages; /* by id, then the latest place first */
    size_t message_count;
    struct found_record *records; /* by id, then epoch */
    size_t record_count;
    struct found_damage *damages;
    size_t damage_count;
};

/* Lists `directory`: 0, or -1 and the error. An absent one is empty. */
int found_bodies_list(struct found_bodies *bodies, const struct vfs *vfs, const char *directory, struct error *error);
/* The place of a name, or SIZE_MAX. */
size_t found_bodies_find(const struct found_bodies *bodies, uint64_t name);
void found_bodies_release(struct found_bodies *bodies);

/* Opens and scans a shard's files; `found` must be zeroed. 0, or -1 and the error. */
int found_read(struct found_shard *found, const struct vfs *vfs, const char *directory, unsigned number,
               const struct found_bodies *bodies, bool verify_bodies, struct error *error);
void found_release(struct found_shard *found);

/* All frames of one message, and all records about it. */
struct found_group {
    const struct found_message *frames; /* the latest place first */
    size_t frame_count;
    const struct found_record *records; /* by epoch; the same one may occur twice */
    size_t record_count;
    bool dead;
};

/* Visits all messages: start with both positions 0. False at the end. */
struct found_position {
    size_t message;
    size_t record;
};
bool found_next(const struct found_shard *found, struct found_position *position, struct found_group *group);

#endif
