/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/space.h"

#include "os/clock.h"
#include "spool/spool_private.h"

void space_sample(struct spool *spool, bool at_once)
{
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t seen_at_ms = atomic_load(&spool->free_seen_at_ms);
    int64_t free_bytes;

    if (!at_once && seen_at_ms != 0 && now_ms - seen_at_ms < SPACE_SAMPLE_MS)
        return;
    /* One asks, the others go on with what is known. */
    if (!atomic_compare_exchange_strong(&spool->free_seen_at_ms, &seen_at_ms, now_ms) && !at_once)
        return;
    free_bytes = spool->vfs->free_bytes(spool->vfs, spool->directory);
    atomic_store(&spool->free_bytes, free_bytes < 0 ? 0 : free_bytes);
}

static uint64_t free_bytes(const struct spool *spool)
{
    return (uint64_t)atomic_load_explicit(&spool->free_bytes, memory_order_relaxed);
}

bool space_admits_file(const struct spool *spool, uint64_t bytes, bool from_reserve)
{
    return free_bytes(spool) >= bytes + (from_reserve ? 0 : spool->reserve_bytes);
}

/* Allocated and not written to. */
static uint64_t unused_bytes(const struct shard *shard)
{
    return atomic_load_explicit(&shard->active_left, memory_order_relaxed) +
           atomic_load_explicit(&shard->spare_bytes, memory_order_relaxed);
}

/* What the results of the shard's messages may need. */
static uint64_t results_room(const struct shard *shard)
{
    uint64_t live = atomic_load_explicit(&shard->spool->live_messages, memory_order_relaxed);

    return live / shard->spool->shard_count * SPACE_RESULTS_BYTES;
}

bool space_is_scarce(const struct shard *shard)
{
    return unused_bytes(shard) < shard->spool->reserve_bytes + results_room(shard) + 2 * BATCH_BYTES_MAX;
}

bool space_admits_copy(const struct shard *shard, uint64_t bytes)
{
    return space_admits_file(shard->spool, shard->spool->segment_bytes, false) ||
           unused_bytes(shard) + free_bytes(shard->spool) >= bytes + results_room(shard);
}

bool space_admits_frame(const struct shard *shard, uint64_t bytes)
{
    const struct spool *spool = shard->spool;
    uint64_t kept = spool->reserve_bytes + results_room(shard);
    uint64_t free = free_bytes(spool);

    if (free >= spool->segment_bytes + kept)
        return true; /* a new segment can be had */
    /* What is kept may be free disk or allocated already. */
    return unused_bytes(shard) >= bytes + (kept > free ? kept - free : 0);
}
