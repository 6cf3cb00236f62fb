/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/spool.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "spool/body.h"
#include "spool/commit.h"
#include "spool/keeper.h"
#include "spool/recover.h"
#include "spool/shard.h"
#include "spool/space.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define SEGMENT_BYTES_DEFAULT (64u << 20)
#define RESERVE_BYTES_DEFAULT (16u << 20)

char *spool_body_path(const struct spool *spool, uint64_t name)
{
    return mem_printf("%s/%016llx", spool->body_directory, (unsigned long long)name);
}

uint64_t spool_reserve_segment_bytes(const struct spool *spool)
{
    uint64_t bytes = format_page_align(spool->reserve_bytes);

    if (bytes < SEGMENT_BYTES_MIN)
        bytes = SEGMENT_BYTES_MIN;
    return bytes < spool->segment_bytes ? bytes : spool->segment_bytes;
}

static uint64_t clamp_segment_bytes(uint64_t bytes)
{
    bytes = format_page_align(bytes ? bytes : SEGMENT_BYTES_DEFAULT);
    if (bytes < SEGMENT_BYTES_MIN)
        bytes = SEGMENT_BYTES_MIN;
    return bytes < SEGMENT_BYTES_MAX ? bytes : SEGMENT_BYTES_MAX;
}

static int see_shard(void *context, const char *name)
{
    unsigned *count = context;
    struct str text = str_from_cstr(name);
    uint64_t number;

    if (str_starts_with(text, STR("shard-")) && str_to_u64(str_skip(text, 6), &number) && number < SPOOL_SHARDS_MAX &&
        number >= *count)
        *count = (unsigned)number + 1;
    return 0;
}

static int make_directory(const struct spool *spool, const char *path, struct error *error)
{
    int result = vfs_make_directories(spool->vfs, path);

    return result < 0 ? error_set_errno(error, -result, "%s", path) : 0;
}

static int lock_directory(struct spool *spool, struct error *error)
{
    char *path = mem_printf("%s/lock", spool->directory);
    int result = spool->vfs->open(spool->vfs, path, VFS_READ | VFS_WRITE | VFS_CREATE, &spool->lock);

    if (result == 0)
        result = spool->vfs->lock(spool->lock);
    if (result == -EWOULDBLOCK)
        error_set(error, "%s is in use by another process", spool->directory);
    else if (result < 0)
        error_set_errno(error, -result, "%s", path);
    free(path);
    return result < 0 ? -1 : 0;
}

static int open_shards(struct spool *spool, unsigned wanted, struct error *error)
{
    unsigned count = 0;
    int result = spool->vfs->list(spool->vfs, spool->directory, see_shard, &count);

    if (result < 0)
        return error_set_errno(error, -result, "%s", spool->directory);
    if (wanted > SPOOL_SHARDS_MAX)
        return error_set(error, "%u shards asked for, at most %u are possible", wanted, SPOOL_SHARDS_MAX);
    if (count < wanted)
        count = wanted;
    if (count == 0)
        count = 1;
    spool->shards = mem_alloc_array(count, sizeof(*spool->shards));
    spool->shard_count = count;
    for (unsigned i = 0; i < count; i++)
        shard_init(&spool->shards[i], spool, i);
    for (unsigned i = 0; i < count; i++) {
        if (make_directory(spool, spool->shards[i].directory, error) < 0)
            return -1;
    }
    return 0;
}

static int start_threads(struct spool *spool, struct error *error)
{
    for (unsigned i = 0; i < spool->shard_count; i++) {
        struct shard *shard = &spool->shards[i];
        int result = pthread_create(&shard->commit_thread, NULL, commit_main, shard);

        if (result != 0)
            return error_set_errno(error, result, "thread of the spool");
        shard->has_threads = true;
        result = pthread_create(&shard->keeper_thread, NULL, keeper_main, shard);
        if (result != 0) {
            commit_close(shard);
            pthread_join(shard->commit_thread, NULL);
            shard->has_threads = false;
            return error_set_errno(error, result, "thread of the spool");
        }
    }
    return 0;
}

/* The keeper ends first: what it has submitted needs the commit thread. */
static void stop_shard(struct shard *shard)
{
    if (!shard->has_threads)
        return;
    keeper_stop(shard);
    pthread_join(shard->keeper_thread, NULL);
    commit_close(shard);
    pthread_join(shard->commit_thread, NULL);
    shard->has_threads = false;
    keeper_remove_bodies(shard);
    /* So that the next start finds nothing to copy, and goes on with the very next id. */
    if (shard->active && !shard->active->is_broken)
        commit_checkpoint(shard, 0);
}

struct spool *spool_create(const struct spool_options *options)
{
    struct spool *spool = mem_alloc(sizeof(*spool));

    spool->vfs = options->vfs;
    spool->directory = mem_copy_str(str_from_cstr(options->directory));
    spool->body_directory = mem_printf("%s/body", options->directory);
    spool->badmail_directory = mem_copy_str(str_from_cstr(options->badmail_directory));
    spool->wanted_shards = options->shard_count;
    spool->segment_bytes = clamp_segment_bytes(options->segment_bytes);
    spool->reserve_bytes = options->reserve_bytes ? options->reserve_bytes : RESERVE_BYTES_DEFAULT;
    spool->batch_done = options->batch_done;
    spool->context = options->context;
    atomic_store(&spool->next_sequence, 1);
    return spool;
}

int spool_open(struct spool *spool, const struct spool_recovery *recovery, struct error *error)
{
    assert(!spool->shards);
    if (make_directory(spool, spool->directory, error) < 0 || lock_directory(spool, error) < 0 ||
        make_directory(spool, spool->body_directory, error) < 0)
        return -1;
    space_sample(spool, true);
    if (open_shards(spool, spool->wanted_shards, error) < 0 || recover_spool(spool, recovery, error) < 0)
        return -1;
    return start_threads(spool, error);
}

void spool_close(struct spool **spool)
{
    struct spool *old = *spool;

    if (!old)
        return;
    for (unsigned i = 0; i < old->shard_count; i++)
        stop_shard(&old->shards[i]);
    for (unsigned i = 0; i < old->shard_count; i++)
        shard_release(&old->shards[i]);
    if (old->lock)
        old->vfs->close(old->lock);
    free(old->shards);
    free(old->directory);
    free(old->body_directory);
    free(old->badmail_directory);
    mem_free(spool);
}

spool_id spool_reserve_id(struct spool *spool, spool_id beside)
{
    uint64_t sequence = atomic_fetch_add_explicit(&spool->next_sequence, 1, memory_order_relaxed);
    unsigned number = beside ? spool_shard_of(beside) : atomic_fetch_add(&spool->next_shard, 1) % spool->shard_count;

    assert(number < spool->shard_count);
    return sequence << 8 | number;
}

static void take_body(struct spool_write *write)
{
    if (write->body_file) {
        assert(write->body_file->is_finished && write->body_part_count == 0);
        write->own.body_name = write->body_file->name;
        write->own.body_bytes = write->body_file->bytes;
        write->own.body_checksum = write->body_file->checksum;
        return;
    }
    for (int i = 0; i < write->body_part_count; i++) {
        write->own.body_bytes += write->body[i].iov_len;
        write->own.body_checksum = crc32c(write->own.body_checksum, write->body[i].iov_base, write->body[i].iov_len);
    }
    assert(write->own.body_bytes <= SPOOL_INLINE_BODY_BYTES);
}

static void check_results(const struct spool_write *write, unsigned shard)
{
    uint64_t bytes = 0;

    assert(write->result_count <= SPOOL_RESULTS_MAX);
    for (size_t i = 0; i < write->result_count; i++) {
        const struct spool_result *result = &write->results[i];

        assert(spool_shard_of(result->id) == shard && result->payload.length <= SPOOL_RESULT_BYTES_MAX);
        bytes += result->payload.length;
    }
    assert(bytes <= SPOOL_RESULTS_BYTES_MAX);
}

void spool_submit(struct spool *spool, struct spool_write *write)
{
    unsigned number;

    memset(&write->own, 0, sizeof(write->own));
    if (write->type == SPOOL_WRITE_MESSAGE) {
        assert(write->id != 0 && write->envelope.length <= SPOOL_ENVELOPE_BYTES_MAX);
        number = spool_shard_of(write->id);
        write->own.envelope_checksum = crc32c(0, write->envelope.data, write->envelope.length);
        take_body(write);
    } else {
        assert(write->result_count > 0);
        number = spool_shard_of(write->results[0].id);
    }
    assert(number < spool->shard_count);
    check_results(write, number);
    commit_submit(&spool->shards[number], write);
}

bool spool_is_full(const struct spool *spool, uint64_t body_bytes)
{
    if (body_bytes > SPOOL_INLINE_BODY_BYTES)
        return !space_admits_file(spool, body_bytes, false);
    for (unsigned i = 0; i < spool->shard_count; i++) {
        if (space_admits_frame(&spool->shards[i], format_frame_bytes(0, 0, body_bytes)))
            return false;
    }
    return true;
}

static void add_shard_statistics(struct shard *shard, struct spool_statistics *statistics)
{
    pthread_mutex_lock(&shard->mutex);
    for (uint32_t i = 0; i < shard->segment_slots; i++) {
        if (!shard->segments[i])
            continue;
        statistics->segments++;
        statistics->bytes_on_disk += shard->segments[i]->bytes;
    }
    statistics->segments_free += shard->spare_count + (shard->reserve ? 1 : 0);
    statistics->bytes_on_disk += atomic_load(&shard->spare_bytes) + (shard->reserve ? shard->reserve->bytes : 0);
    for (const struct list_link *link = shard->freed.next; link != &shard->freed; link = link->next) {
        statistics->segments_free++;
        statistics->bytes_on_disk += LIST_ENTRY(link, struct segment, link)->bytes;
    }
    pthread_mutex_unlock(&shard->mutex);
}

void spool_get_statistics(const struct spool *spool, struct spool_statistics *statistics)
{
    *statistics = (struct spool_statistics){
        .live_messages = atomic_load(&spool->live_messages),
        .syncs = atomic_load(&spool->syncs),
        .frames = atomic_load(&spool->frames),
        .write_errors = atomic_load(&spool->write_errors),
    };
    for (unsigned i = 0; i < spool->shard_count; i++)
        add_shard_statistics(&spool->shards[i], statistics);
}
