/* SPDX-License-Identifier: Apache-2.0 */
/*
 * space: whether there is room. New messages leave `reserve_bytes` alone, of the free disk and of what is allocated and
 * unused, and room for the results of all messages that live; results may use all that, and a reserve segment that is
 * allocated beforehand.
 */
#ifndef POSTERN_SPOOL_SPACE_H
#define POSTERN_SPOOL_SPACE_H

#include <stdbool.h>
#include <stdint.h>

struct spool;
struct shard;

/* The disk is not asked more often than this. */
#define SPACE_SAMPLE_MS 100u
/* What is kept for each live message: a result and the end of it. */
#define SPACE_RESULTS_BYTES 256u

/* Asks the disk, if it was not asked lately or `at_once`. One system call; not on a loop thread. */
void space_sample(struct spool *spool, bool at_once);

/* Whether what is allocated does not suffice by itself, so that what is known of the disk must be fresh. */
bool space_is_scarce(const struct shard *shard);

/* Whether a new message's frame may be written in this shard; any thread, no system call. */
bool space_admits_frame(const struct shard *shard, uint64_t bytes);
/* Whether the compactor may: not into the room that results need. */
bool space_admits_copy(const struct shard *shard, uint64_t bytes);
/* Whether a file may grow by so much: a body or a segment for new messages; `from_reserve`: one for results. */
bool space_admits_file(const struct spool *spool, uint64_t bytes, bool from_reserve);

#endif
