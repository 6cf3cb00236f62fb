/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard: the table of a shard's segments, and which of them may go. All under the shard's mutex, on the commit thread, unless it is said.
 */
#ifndef POSTERN_SPOOL_SHARD_H
#define POSTERN_SPOOL_SHARD_H

#include "spool/spool_private.h"

/* Nothing runs yet. Takes nothing. */
void shard_init(struct shard *shard, struct spool *spool, unsigned number);
/* Threads must have ended. */
void shard_release(struct shard *shard);

/* A slot for a segment that becomes part of the log. */
uint32_t shard_add_segment(struct shard *shard, struct segment *segment);
/* NULL if none of this number stands. */
struct segment *shard_find_segment(const struct shard *shard, uint64_t number);
/* Whether any segment may go as soon as a checkpoint without it is on the disk. */
bool shard_has_condemnable(const struct shard *shard);
/*
 * The sealed segments that stay, by rising number, after those that may go were set CONDEMNED. The memory is the caller's;
 * NULL if there are none.
 */
struct format_checkpoint_entry *shard_condemn(struct shard *shard, size_t *count);
/* A checkpoint without the condemned is on the disk: they go to the keeper. */
void shard_free_condemned(struct shard *shard);
/* It is not: they stay. */
void shard_spare_condemned(struct shard *shard);

/* Any thread, mutex held. */
void shard_unpin(struct shard *shard, struct segment *segment);
void shard_wake_keeper(struct shard *shard);

#endif
