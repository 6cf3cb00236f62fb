/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover: what a spool holds when it is opened. For each shard: find the segment files, scan them from the last checkpoint on (in
 * threads), join messages and records into what lives, set damage aside, copy what may not have been synced onward
 * (compact_rescue), state a checkpoint; then report. On the thread of spool_open, before there are others.
 */
#ifndef POSTERN_SPOOL_RECOVER_H
#define POSTERN_SPOOL_RECOVER_H

#include "spool/spool_private.h"

/* At most so many threads scan. */
#define RECOVER_THREADS_MAX 8u
/* Of a damaged piece, so much is set aside. */
#define RECOVER_ASIDE_BYTES_MAX (64u << 20)

/* All shards, whose directories exist: 0, or -1 and the error. */
int recover_spool(struct spool *spool, const struct spool_recovery *recovery, struct error *error);

#endif
