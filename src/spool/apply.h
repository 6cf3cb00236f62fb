/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apply: what a batch that has reached the disk changes in index and segment table. Commit thread, shard's mutex held.
 */
#ifndef POSTERN_SPOOL_APPLY_H
#define POSTERN_SPOOL_APPLY_H

#include "spool/spool_private.h"

/* A write or copy whose frame stands in `segment`. */
void apply_write(struct shard *shard, struct segment *segment, struct spool_write *write);

/* Where a message's frame stands, and how long it is. */
struct segment *apply_segment_of(const struct shard *shard, const struct index_entry *entry);
uint64_t apply_frame_bytes(const struct index_entry *entry);
/* Sets an entry's place from a frame's header, and counts it in the segment. */
void apply_place(struct index_entry *entry, struct segment *segment, const struct format_frame *frame, uint64_t offset);

#endif
