/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/keeper.h"

#include "base/mem.h"
#include "os/clock.h"
#include "spool/compact.h"
#include "spool/shard.h"
#include "spool/space.h"

#include <errno.h>
#include <stdlib.h>

/* With less room than this for a new message the disk is watched, so that the spool notices when there is space again. */
#define ROOM_WATCHED_BYTES (1u << 20)

static struct segment *make_segment(struct shard *shard, uint64_t bytes, bool is_reserve, const atomic_bool *cancel,
                                    int *result)
{
    struct spool *spool = shard->spool;
    struct segment *segment = NULL;
    char *path;

    space_sample(spool, true);
    if (!space_admits_file(spool, bytes, is_reserve)) {
        *result = -ENOSPC;
        return NULL;
    }
    path = mem_printf("%s/%08llu.seg", shard->directory, (unsigned long long)atomic_fetch_add(&shard->next_file, 1));
    *result = segment_create(spool->vfs, shard->directory, path, bytes, cancel, &segment);
    free(path);
    if (*result < 0 && *result != -ENOSPC && *result != -ECANCELED)
        atomic_fetch_add(&spool->write_errors, 1);
    space_sample(spool, true);
    return segment;
}

/* The same for a normal segment; after a failure not again at once, since each try may cost the disk 64 MiB of zeroes. */
static struct segment *make_spare(struct shard *shard, const atomic_bool *cancel, int *result)
{
    uint64_t retry_at_ms = atomic_load(&shard->retry_at_ms);
    struct segment *segment;

    if (retry_at_ms != 0 && clock_monotonic_ms() < retry_at_ms) {
        *result = atomic_load(&shard->spare_error);
        return NULL;
    }
    segment = make_segment(shard, shard->spool->segment_bytes, false, cancel, result);
    /* Kept after a success too: whoever still finds the old retry time must not be told that all is well. */
    if (!segment)
        atomic_store(&shard->spare_error, *result);
    atomic_store(&shard->retry_at_ms, segment ? 0 : clock_monotonic_ms() + SHARD_SPARE_RETRY_MS);
    return segment;
}

static void add_spare(struct shard *shard, struct segment *segment)
{
    list_append(&shard->spares, &segment->link);
    shard->spare_count++;
    atomic_fetch_add(&shard->spare_bytes, segment->bytes);
    pthread_cond_broadcast(&shard->spare_cond);
}

static struct segment *pop_spare(struct shard *shard)
{
    struct list_link *link = list_take_first(&shard->spares);
    struct segment *segment;

    if (!link)
        return NULL;
    segment = LIST_ENTRY(link, struct segment, link);
    shard->spare_count--;
    atomic_fetch_sub(&shard->spare_bytes, segment->bytes);
    return segment;
}

struct segment *keeper_take_spare(struct shard *shard, bool for_results, int *result)
{
    struct segment *segment;

    pthread_mutex_lock(&shard->mutex);
    while (list_is_empty(&shard->spares) && shard->is_preparing)
        pthread_cond_wait(&shard->spare_cond, &shard->mutex);
    segment = pop_spare(shard);
    pthread_mutex_unlock(&shard->mutex);
    if (!segment)
        segment = make_spare(shard, NULL, result);
    pthread_mutex_lock(&shard->mutex);
    if (!segment && for_results) {
        segment = shard->reserve;
        shard->reserve = NULL;
    }
    shard_wake_keeper(shard);
    pthread_mutex_unlock(&shard->mutex);
    if (!segment && for_results) /* what is left of the disk may still hold a small one */
        segment = make_segment(shard, spool_reserve_segment_bytes(shard->spool), true, NULL, result);
    return segment;
}

bool keeper_keep(struct shard *shard, struct segment *segment)
{
    const struct spool *spool = shard->spool;
    uint64_t reserve_bytes = spool_reserve_segment_bytes(spool);

    /* On a full disk whatever comes free is first of all the way to finish old mail. */
    if (!shard->reserve && (segment->bytes == reserve_bytes ||
                            (segment->bytes > reserve_bytes && !space_admits_file(spool, reserve_bytes, true)))) {
        shard->reserve = segment;
        return true;
    }
    if (segment->bytes != spool->segment_bytes || shard->spare_count >= SHARD_SPARES_MAX)
        return false;
    add_spare(shard, segment);
    return true;
}

static void delete_segment(struct shard *shard, struct segment *segment)
{
    const struct vfs *vfs = shard->spool->vfs;
    char *path = mem_copy_str(str_from_cstr(segment->path));

    segment_destroy(&segment);
    vfs->remove(vfs, path); /* if it stays, recovery takes it for a free one */
    free(path);
}

/* The next freed segment that no reader has pinned. */
static struct segment *take_freed(struct shard *shard)
{
    for (struct list_link *link = shard->freed.next; link != &shard->freed; link = link->next) {
        struct segment *segment = LIST_ENTRY(link, struct segment, link);

        if (segment->pins == 0) {
            list_remove(link);
            return segment;
        }
    }
    return NULL;
}

static void recycle(struct shard *shard)
{
    struct segment *segment;

    pthread_mutex_lock(&shard->mutex);
    while ((segment = take_freed(shard))) {
        if (!segment->is_broken) {
            segment = segment_recycle(&segment);
            if (keeper_keep(shard, segment))
                continue;
        }
        pthread_mutex_unlock(&shard->mutex);
        delete_segment(shard, segment);
        pthread_mutex_lock(&shard->mutex);
    }
    pthread_mutex_unlock(&shard->mutex);
}

void keeper_remove_body(struct shard *shard, uint64_t name)
{
    if (shard->dead_body_count == shard->dead_body_capacity) {
        shard->dead_body_capacity = shard->dead_body_capacity ? shard->dead_body_capacity * 2 : 64;
        shard->dead_bodies = mem_resize_array(shard->dead_bodies, shard->dead_body_capacity, sizeof(uint64_t));
    }
    shard->dead_bodies[shard->dead_body_count++] = name;
    shard_wake_keeper(shard);
}

void keeper_remove_bodies(struct shard *shard)
{
    const struct vfs *vfs = shard->spool->vfs;

    for (;;) {
        uint64_t name = 0;
        char *path;

        pthread_mutex_lock(&shard->mutex);
        if (shard->dead_body_count > 0)
            name = shard->dead_bodies[--shard->dead_body_count];
        pthread_mutex_unlock(&shard->mutex);
        if (name == 0)
            return;
        path = spool_body_path(shard->spool, name);
        vfs->remove(vfs, path); /* if it stays, recovery removes it */
        free(path);
    }
}

static void prepare_spare(struct shard *shard)
{
    struct segment *segment = NULL;
    bool is_wanted;
    int result;

    pthread_mutex_lock(&shard->mutex);
    is_wanted = shard->spare_count == 0;
    shard->is_preparing = is_wanted;
    pthread_mutex_unlock(&shard->mutex);
    if (!is_wanted)
        return;
    segment = make_spare(shard, &shard->stops, &result);
    pthread_mutex_lock(&shard->mutex);
    shard->is_preparing = false;
    if (segment)
        add_spare(shard, segment);
    else
        pthread_cond_broadcast(&shard->spare_cond);
    pthread_mutex_unlock(&shard->mutex);
}

static void prepare_reserve(struct shard *shard)
{
    struct segment *segment;
    bool is_wanted;
    int result;

    pthread_mutex_lock(&shard->mutex);
    is_wanted = !shard->reserve;
    pthread_mutex_unlock(&shard->mutex);
    if (!is_wanted)
        return;
    segment = make_segment(shard, spool_reserve_segment_bytes(shard->spool), true, &shard->stops, &result);
    if (!segment)
        return;
    pthread_mutex_lock(&shard->mutex);
    if (!shard->reserve) {
        shard->reserve = segment;
        segment = NULL;
    }
    pthread_mutex_unlock(&shard->mutex);
    if (segment)
        delete_segment(shard, segment);
}

void keeper_tend(struct shard *shard)
{
    keeper_remove_bodies(shard);
    recycle(shard);
    prepare_spare(shard);
    prepare_reserve(shard);
}

static bool is_short_of_space(struct shard *shard)
{
    return shard->spare_count == 0 || !shard->reserve || !space_admits_frame(shard, ROOM_WATCHED_BYTES);
}

/* False: it is to end. */
static bool wait_for_work(struct shard *shard)
{
    bool stops;

    pthread_mutex_lock(&shard->mutex);
    while (!shard->keeper_has_work && !shard->keeper_stops) {
        if (is_short_of_space(shard)) {
            struct timespec deadline;

            clock_gettime(CLOCK_MONOTONIC, &deadline);
            deadline.tv_nsec += SHARD_SPARE_RETRY_MS * 1000000L;
            deadline.tv_sec += deadline.tv_nsec / 1000000000L;
            deadline.tv_nsec %= 1000000000L;
            if (pthread_cond_timedwait(&shard->keeper_cond, &shard->mutex, &deadline) == ETIMEDOUT)
                break;
        } else {
            pthread_cond_wait(&shard->keeper_cond, &shard->mutex);
        }
    }
    shard->keeper_has_work = false;
    stops = shard->keeper_stops;
    pthread_mutex_unlock(&shard->mutex);
    return !stops;
}

void *keeper_main(void *argument)
{
    struct shard *shard = argument;

    keeper_tend(shard); /* what recovery left to be done */
    while (wait_for_work(shard)) {
        space_sample(shard->spool, false);
        keeper_tend(shard);
        while (!atomic_load(&shard->stops) && compact_run(shard))
            keeper_tend(shard);
    }
    return NULL;
}

void keeper_stop(struct shard *shard)
{
    atomic_store(&shard->stops, true);
    pthread_mutex_lock(&shard->mutex);
    shard->keeper_stops = true;
    pthread_cond_signal(&shard->keeper_cond);
    pthread_mutex_unlock(&shard->mutex);
}
