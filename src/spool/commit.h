/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit: group commit. One thread a shard takes whatever waits, writes it as one batch with one sync, and completes it; what
 * is submitted meanwhile is in the next batch.
 *
 * A batch is on the disk, then it counts: index and table change, then each `done` runs, then `batch_done`. If the write or
 * the sync fails, the segment is given up for ever, the whole batch ends SPOOL_FAILED, and the next goes to another segment.
 */
#ifndef POSTERN_SPOOL_COMMIT_H
#define POSTERN_SPOOL_COMMIT_H

#include "spool/spool_private.h"

void *commit_main(void *shard);

/* Any thread. */
void commit_submit(struct shard *shard, struct spool_write *write);
/* Any thread: a segment may go as soon as a checkpoint says so. */
void commit_want_checkpoint(struct shard *shard);
/* After the last submit: the thread writes what waits and ends (the caller joins). */
void commit_close(struct shard *shard);

/* Recovery, before there are threads: commits what is queued, here and now. */
void commit_run(struct shard *shard);
/* The same for a checkpoint alone; 0 or negative errno. `sequence_lease` is added to the next sequence number that it states. */
int commit_checkpoint(struct shard *shard, uint64_t sequence_lease);

#endif
