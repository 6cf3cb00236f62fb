/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index: where each live message of a shard stands, 48 bytes a message and 4 to 8 of buckets. Entries keep their
 * address until they are removed. Not locked: the shard's mutex is held by whoever changes it (only ever the commit
 * thread) and by others who look.
 */
#ifndef POSTERN_SPOOL_INDEX_H
#define POSTERN_SPOOL_INDEX_H

#include <stddef.h>
#include <stdint.h>

struct index_entry {
    uint64_t id;
    uint64_t body_name; /* of a body file; 0: inline */
    uint64_t body_bytes;
    uint32_t segment;        /* slot in the shard's table */
    uint32_t frame_units;    /* offset of the frame, in units of 8 bytes */
    uint32_t envelope_bytes; /* right behind the frame header */
    uint32_t body_at;        /* of an inline body, from the frame's start */
    uint32_t body_checksum;
    uint32_t next; /* the index's own */
};

struct index {
    struct index_entry **chunks;
    uint32_t chunk_count;
    uint32_t *buckets; /* entry number + 1; 0: none */
    uint32_t bucket_count;
    uint32_t free_first; /* entry number + 1 */
    uint32_t count;
};

void index_init(struct index *index);
void index_release(struct index *index);

/* NULL if there is none. */
struct index_entry *index_find(const struct index *index, uint64_t id);
/* A new entry for an id that is not in it; only `id` is set. */
struct index_entry *index_add(struct index *index, uint64_t id);
void index_remove(struct index *index, struct index_entry *entry);

#endif
