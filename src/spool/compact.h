/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact: copies what is still needed of a nearly dead segment onward, so that it can go: messages that live, their results, and
 * dead records of messages whose frames stand elsewhere (without them those would rise again). Copies are ordinary frames with
 * the old id and epoch, written by the commit thread among everybody's writes; the original counts until they are on the disk.
 *
 * A segment is not compacted while messages in it are copies of some that still stand elsewhere: their dead records' homes
 * would go before the first originals.
 */
#ifndef POSTERN_SPOOL_COMPACT_H
#define POSTERN_SPOOL_COMPACT_H

#include "spool/spool_private.h"

/* Copied and synced at a time. */
#define COMPACT_STEP_BYTES (1u << 20)
/* Only segments of which at most this much lives: 1/4; on a full disk 1/2. */
#define COMPACT_LIVE_DIVISOR       4u
#define COMPACT_LIVE_DIVISOR_SHORT 2u
/* Messages get the time to die by themselves until so many later segments are sealed. */
#define COMPACT_AGE_SEGMENTS 4u
/* A segment that was looked at in vain is left alone for so long. */
#define COMPACT_RETRY_MS 2000u

/* Keeper thread: compacts one segment, if one is worth it. Whether one was. */
bool compact_run(struct shard *shard);

/*
 * Recovery, before there are threads: copies what counts of an open segment from `from` to `to`, above its synced position.
 * Nothing but the page cache may hold it (a process that ended before its sync, or after one that failed), and what is built
 * upon it (segments of its dead messages are used again) must not be lost with it. 0, -ENOSPC, or -EIO.
 */
int compact_rescue(struct shard *shard, struct segment *segment, uint64_t from, uint64_t to);

#endif
