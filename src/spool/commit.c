/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/commit.h"

#include "base/mem.h"
#include "spool/apply.h"
#include "spool/body.h"
#include "spool/keeper.h"
#include "spool/shard.h"
#include "spool/space.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

static struct spool_write *write_of(struct list_link *link)
{
    return LIST_ENTRY(link, struct spool_write, link);
}

/* A home for the records of a batch: the index is changed by this thread alone, so that it may look without the mutex. */
static uint64_t home_of(void *context, uint64_t id)
{
    const struct shard *shard = context;
    const struct index_entry *entry = index_find(&shard->index, id);

    return entry ? apply_segment_of(shard, entry)->binding.number : 0;
}

/* Measures what is to be written now; false if nothing is (its messages died meanwhile). */
static bool measure_write(struct shard *shard, struct spool_write *write)
{
    uint64_t results_bytes = 0;

    for (size_t i = 0; i < write->result_count; i++) {
        if (home_of(shard, write->results[i].id) != 0)
            results_bytes += format_record_bytes(write->results[i].payload.length);
    }
    write->own.results_bytes = (uint32_t)results_bytes;
    write->own.frame_bytes = format_frame_bytes(write->envelope.length, results_bytes,
                                                write->own.body_name == 0 ? write->own.body_bytes : 0);
    return write->type == SPOOL_WRITE_MESSAGE || results_bytes > 0;
}

/* A message that died or moved since the compactor looked is not copied; what its frame says of others is. */
static bool measure_copy(struct shard *shard, struct spool_copy *copy)
{
    if (copy->frame.type == FORMAT_MESSAGE) {
        const struct index_entry *entry = index_find(&shard->index, copy->frame.id);
        bool stands = entry && apply_segment_of(shard, entry) == copy->source &&
                      (uint64_t)entry->frame_units * FORMAT_ALIGNMENT == copy->source_offset;

        if (!stands) {
            copy->frame = (struct format_frame){
                .type = FORMAT_RESULTS,
                .epoch = copy->frame.epoch,
                .results_bytes = copy->frame.results_bytes,
                .results_checksum = copy->frame.results_checksum,
            };
            copy->write.envelope = str_make(NULL, 0);
            copy->body = (struct iovec){0};
        }
    }
    copy->write.own.frame_bytes = format_frame_bytes(copy->frame.envelope_bytes, copy->frame.results_bytes,
                                                     format_frame_inline_bytes(&copy->frame));
    copy->frame.frame_bytes = (uint32_t)copy->write.own.frame_bytes;
    return copy->frame.type == FORMAT_MESSAGE || copy->records.length > 0;
}

static bool measure(struct shard *shard, struct spool_write *write)
{
    return write->own.is_copy ? measure_copy(shard, LIST_ENTRY(write, struct spool_copy, write))
                              : measure_write(shard, write);
}

static void update_left(struct shard *shard)
{
    const struct segment *active = shard->active;

    atomic_store_explicit(&shard->active_left, active && !active->is_broken ? active->bytes - active->position : 0,
                          memory_order_relaxed);
}

/* Starts the batch in the active segment, with a checkpoint if it is due or the segment's first. False: no room for that. */
static bool begin_batch(struct shard *shard)
{
    struct batch *batch = &shard->batch;
    struct format_checkpoint_entry *entries;
    bool fits = true;
    size_t count;

    if (!shard->active || shard->active->is_broken)
        return false;
    if (shard->active->position + FORMAT_PAGE_BYTES > shard->active->bytes)
        return false;
    batch_begin(batch, shard->active, shard->number);
    if (!shard->checkpoint_due && batch->write_at != 0)
        return true;
    pthread_mutex_lock(&shard->mutex);
    entries = shard_condemn(shard, &count);
    pthread_mutex_unlock(&shard->mutex);
    if (batch_fits_segment(batch, format_frame_bytes(count * FORMAT_CHECKPOINT_ENTRY_BYTES, 0, 0)))
        batch_add_checkpoint(batch, entries, count);
    else
        fits = false;
    free(entries);
    return fits;
}

/* Seals the active segment and goes on in another: 0 or negative errno. */
static int roll_over(struct shard *shard, bool for_results)
{
    int result = -ENOSPC;
    struct segment *next = keeper_take_spare(shard, for_results, &result);

    if (!next)
        return result;
    pthread_mutex_lock(&shard->mutex);
    if (shard->active) {
        segment_set_state(shard->active, SEGMENT_SEALED);
        shard_wake_keeper(shard);
    }
    segment_activate(next, shard->next_number++, shard_add_segment(shard, next));
    shard->active = next;
    pthread_mutex_unlock(&shard->mutex);
    update_left(shard);
    return begin_batch(shard) ? 0 : -ENOSPC;
}

static bool is_new_message(const struct spool_write *write)
{
    return write->type == SPOOL_WRITE_MESSAGE && !write->own.is_copy;
}

/* Whether the write may have room at all: SPOOL_DONE, or how it ends. */
static enum spool_status admit(const struct shard *shard, const struct spool_write *write)
{
    uint64_t frame_bytes = write->own.frame_bytes;

    if (frame_bytes + 3 * FORMAT_PAGE_BYTES > shard->spool->segment_bytes)
        return SPOOL_FAILED;
    if (is_new_message(write) && !space_admits_frame(shard, frame_bytes))
        return SPOOL_FULL;
    if (write->own.is_copy && !space_admits_copy(shard, frame_bytes))
        return SPOOL_FULL;
    return SPOOL_DONE;
}

static void finish_write(struct spool_write *write, enum spool_status status, struct list_link *finished)
{
    list_remove(&write->link);
    write->status = status;
    list_append(finished, &write->link);
}

static void add_to_batch(struct shard *shard, struct spool_write *write)
{
    list_remove(&write->link);
    if (write->own.is_copy)
        batch_add_copy(&shard->batch, LIST_ENTRY(write, struct spool_copy, write));
    else
        batch_add_write(&shard->batch, write, &shard->next_epoch, home_of, shard);
}

/* Room for a write that does not fit: true if it fits now. */
static bool make_room(struct shard *shard, const struct spool_write *write, bool *has_batch, enum spool_status *status)
{
    int result = roll_over(shard, !is_new_message(write));

    *has_batch = result == 0;
    if (result == 0 && batch_fits(&shard->batch, write->own.frame_bytes))
        return true;
    *status = result == 0 || result == -ENOSPC ? SPOOL_FULL : SPOOL_FAILED;
    return false;
}

/* Fills the batch from `work`. What can't be written is finished at once. Returns whether there is a batch. */
static bool fill_batch(struct shard *shard, struct list_link *finished)
{
    struct list_link *link;
    bool has_batch = begin_batch(shard);

    while ((link = shard->work.next) != &shard->work) {
        struct spool_write *write = write_of(link);
        enum spool_status status = SPOOL_DONE;

        if (!measure(shard, write)) {
            finish_write(write, SPOOL_DONE, finished);
            continue;
        }
        status = admit(shard, write);
        if (status != SPOOL_DONE) {
            finish_write(write, status, finished);
            continue;
        }
        if (!has_batch || !batch_fits(&shard->batch, write->own.frame_bytes)) {
            if (has_batch && !list_is_empty(&shard->batch.placed))
                break; /* the next batch's */
            if (!make_room(shard, write, &has_batch, &status)) {
                finish_write(write, status, finished);
                continue;
            }
        }
        add_to_batch(shard, write);
    }
    /* On a full disk the way to more room may be a checkpoint that there is no room for. */
    if (!has_batch && shard->frees_segments)
        has_batch = roll_over(shard, true) == 0;
    return has_batch && (!list_is_empty(&shard->batch.placed) || shard->batch.has_checkpoint);
}

static int write_batch(struct shard *shard, uint64_t sequence_lease)
{
    struct batch *batch = &shard->batch;
    struct segment *segment = batch->segment;
    const struct vfs *vfs = segment->file->vfs;
    uint64_t next_sequence = atomic_load(&shard->spool->next_sequence) + sequence_lease;
    int result;

    batch_finish(batch, next_sequence, shard->next_epoch);
    result = vfs->write_at(segment->file, batch->parts, (int)batch->part_count, batch->write_at);
    if (result == 0)
        result = vfs->sync_data(segment->file);
    if (result < 0) {
        segment->is_broken = true;
        atomic_fetch_add(&shard->spool->write_errors, 1);
        return result;
    }
    segment->end = batch->start + batch->length;
    segment->synced = segment->end;
    segment->position = batch->write_end;
    shard->is_clean = !batch->has_content;
    atomic_fetch_add_explicit(&shard->spool->syncs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&shard->spool->frames, batch->frame_count, memory_order_relaxed);
    return 0;
}

/* Index and table after a batch that is on the disk, or after one that is not. */
static void settle_batch(struct shard *shard, int result)
{
    struct batch *batch = &shard->batch;
    bool is_due;

    pthread_mutex_lock(&shard->mutex);
    if (result < 0) {
        shard_spare_condemned(shard);
    } else {
        for (struct list_link *link = batch->placed.next; link != &batch->placed; link = link->next)
            apply_write(shard, batch->segment, write_of(link));
        if (batch->has_checkpoint)
            shard_free_condemned(shard);
    }
    is_due = shard_has_condemnable(shard);
    pthread_mutex_unlock(&shard->mutex);
    shard->checkpoint_due = is_due;
    shard->frees_segments = is_due;
    update_left(shard);
    if (is_due)
        commit_want_checkpoint(shard);
}

static void complete(struct list_link *list, enum spool_status status, bool has_status)
{
    struct list_link *link;

    while ((link = list_take_first(list))) {
        struct spool_write *write = write_of(link);

        if (has_status)
            write->status = status;
        if (write->status == SPOOL_DONE && !write->own.is_copy && write->body_file)
            body_file_handed_over(&write->body_file);
        write->done(write);
    }
}

/* One batch from `work`; what does not go into it stays there. */
static int commit_batch(struct shard *shard, uint64_t sequence_lease)
{
    struct list_link finished;
    bool is_written;
    int result = 0;

    list_init(&finished);
    space_sample(shard->spool, space_is_scarce(shard));
    is_written = fill_batch(shard, &finished);
    if (is_written) {
        result = write_batch(shard, sequence_lease);
        settle_batch(shard, result);
        complete(&shard->batch.placed, result == 0 ? SPOOL_DONE : SPOOL_FAILED, true);
    }
    complete(&finished, SPOOL_DONE, false);
    if (shard->spool->batch_done)
        shard->spool->batch_done(shard->spool->context);
    return result;
}

static void take_queue(struct shard *shard)
{
    struct list_link *queue = &shard->queue;

    if (!list_is_empty(queue)) {
        queue->next->previous = shard->work.previous;
        shard->work.previous->next = queue->next;
        queue->previous->next = &shard->work;
        shard->work.previous = queue->previous;
        list_init(queue);
    }
    shard->queued_urgent = 0;
    shard->queued_results = 0;
    if (shard->wants_checkpoint) {
        shard->checkpoint_due = true;
        shard->frees_segments = true;
    }
    shard->wants_checkpoint = false;
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t results_delay_ms(const struct shard *shard)
{
    return space_admits_frame(shard, FORMAT_PAGE_BYTES) ? SPOOL_RESULTS_DELAY_MS : SPOOL_RESULTS_DELAY_FULL_MS;
}

/* Waits until there is a reason to write. False: closing, and nothing is left. */
static bool gather(struct shard *shard)
{
    uint64_t hold_until_ns = 0;
    bool goes_on;

    pthread_mutex_lock(&shard->queue_mutex);
    while (shard->queued_urgent == 0 && shard->queued_results < SPOOL_RESULTS_GATHER_MAX && !shard->is_closing) {
        struct timespec deadline;

        if (shard->queued_results == 0 && !shard->wants_checkpoint) {
            shard->commit_sleep = COMMIT_IDLE;
            pthread_cond_wait(&shard->queue_cond, &shard->queue_mutex);
            continue;
        }
        if (hold_until_ns == 0)
            hold_until_ns = now_ns() + results_delay_ms(shard) * 1000000u;
        deadline.tv_sec = (time_t)(hold_until_ns / 1000000000u);
        deadline.tv_nsec = (long)(hold_until_ns % 1000000000u);
        shard->commit_sleep = COMMIT_HOLDS_RESULTS;
        if (pthread_cond_timedwait(&shard->queue_cond, &shard->queue_mutex, &deadline) == ETIMEDOUT)
            break;
    }
    shard->commit_sleep = COMMIT_AWAKE;
    goes_on = !shard->is_closing || !list_is_empty(&shard->queue);
    take_queue(shard);
    pthread_mutex_unlock(&shard->queue_mutex);
    return goes_on;
}

void *commit_main(void *argument)
{
    struct shard *shard = argument;
    const struct sched_param parameters = {0};

    /* It works in batches, and is woken often: without preempting those who wake it, batches get larger. Not essential. */
    pthread_setschedparam(pthread_self(), SCHED_BATCH, &parameters);
    pthread_setname_np(pthread_self(), "commit");
    while (gather(shard)) {
        commit_batch(shard, SPOOL_ID_LEASE);
        while (!list_is_empty(&shard->work)) {
            pthread_mutex_lock(&shard->queue_mutex);
            take_queue(shard);
            pthread_mutex_unlock(&shard->queue_mutex);
            commit_batch(shard, SPOOL_ID_LEASE);
        }
    }
    return NULL;
}

void commit_submit(struct shard *shard, struct spool_write *write)
{
    bool is_urgent = write->type == SPOOL_WRITE_MESSAGE || write->own.is_copy;
    bool wakes;

    pthread_mutex_lock(&shard->queue_mutex);
    list_append(&shard->queue, &write->link);
    if (is_urgent)
        shard->queued_urgent++;
    else
        shard->queued_results++;
    /* While results are held back, one more changes nothing: no thread is woken for each of them. */
    wakes = shard->commit_sleep == COMMIT_IDLE || (shard->commit_sleep == COMMIT_HOLDS_RESULTS &&
                                                   (is_urgent || shard->queued_results >= SPOOL_RESULTS_GATHER_MAX));
    if (wakes)
        shard->commit_sleep = COMMIT_AWAKE;
    pthread_mutex_unlock(&shard->queue_mutex);
    if (wakes)
        pthread_cond_signal(&shard->queue_cond);
}

void commit_want_checkpoint(struct shard *shard)
{
    pthread_mutex_lock(&shard->queue_mutex);
    shard->wants_checkpoint = true;
    if (shard->commit_sleep == COMMIT_IDLE)
        pthread_cond_signal(&shard->queue_cond);
    pthread_mutex_unlock(&shard->queue_mutex);
}

void commit_close(struct shard *shard)
{
    pthread_mutex_lock(&shard->queue_mutex);
    shard->is_closing = true;
    pthread_cond_signal(&shard->queue_cond);
    pthread_mutex_unlock(&shard->queue_mutex);
}

void commit_run(struct shard *shard)
{
    take_queue(shard);
    while (!list_is_empty(&shard->work))
        commit_batch(shard, SPOOL_ID_LEASE);
}

int commit_checkpoint(struct shard *shard, uint64_t sequence_lease)
{
    int result;

    shard->checkpoint_due = true;
    if (!begin_batch(shard)) {
        result = roll_over(shard, true);
        if (result < 0)
            return result;
    }
    result = write_batch(shard, sequence_lease);
    settle_batch(shard, result);
    return result;
}
