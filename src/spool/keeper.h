/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper: a shard's second thread. Prepares the next segment and the reserve ahead of need, recycles or deletes what was freed,
 * removes dead bodies' files, asks a full disk whether there is space again, and runs the compactor.
 */
#ifndef POSTERN_SPOOL_KEEPER_H
#define POSTERN_SPOOL_KEEPER_H

#include "spool/spool_private.h"

void *keeper_main(void *shard);
/* Any thread, no mutex held: ends it (the caller joins), while the commit thread still runs. */
void keeper_stop(struct shard *shard);

/* Keeper thread: everything but compaction, once; the compactor calls it between its steps. */
void keeper_tend(struct shard *shard);

/*
 * Commit thread, no mutex held: a segment to go on with. Waits if one is being made, makes one if there is none. `for_results`: the
 * reserve may be taken. NULL: *result says why, -ENOSPC or another negative errno.
 */
struct segment *keeper_take_spare(struct shard *shard, bool for_results, int *result);

/* Mutex held: hands over a body file that no message needs any more. */
void keeper_remove_body(struct shard *shard, uint64_t name);
/* No mutex held: removes the files of those that were handed over. */
void keeper_remove_bodies(struct shard *shard);
/* Mutex held: hands over an unused file, to be kept as a spare or as the reserve. False: it has no use for it. */
bool keeper_keep(struct shard *shard, struct segment *segment);

#endif
