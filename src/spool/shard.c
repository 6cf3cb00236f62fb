/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/shard.h"

#include "base/mem.h"
#include "spool/keeper.h"

#include <assert.h>
#include <stdlib.h>

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

void shard_init(struct shard *shard, struct spool *spool, unsigned number)
{
    shard->spool = spool;
    shard->number = number;
    shard->directory = mem_printf("%s/shard-%02u", spool->directory, number);
    pthread_mutex_init(&shard->queue_mutex, NULL);
    pthread_mutex_init(&shard->mutex, NULL);
    init_condition(&shard->queue_cond);
    init_condition(&shard->keeper_cond);
    init_condition(&shard->spare_cond);
    list_init(&shard->queue);
    list_init(&shard->work);
    list_init(&shard->spares);
    list_init(&shard->freed);
    index_init(&shard->index);
    batch_init(&shard->batch);
    shard->next_number = 1;
    shard->next_epoch = 1;
    shard->checkpoint_due = true;
    atomic_store(&shard->next_file, 1);
}

static void release_segments(struct list_link *list)
{
    struct list_link *link;

    while ((link = list_take_first(list))) {
        struct segment *segment = LIST_ENTRY(link, struct segment, link);

        segment_destroy(&segment);
    }
}

void shard_release(struct shard *shard)
{
    assert(!shard->has_threads);
    for (uint32_t i = 0; i < shard->segment_slots; i++)
        segment_destroy(&shard->segments[i]);
    mem_free(&shard->segments);
    release_segments(&shard->spares);
    release_segments(&shard->freed);
    segment_destroy(&shard->reserve);
    mem_free(&shard->dead_bodies);
    index_release(&shard->index);
    batch_release(&shard->batch);
    pthread_mutex_destroy(&shard->queue_mutex);
    pthread_mutex_destroy(&shard->mutex);
    pthread_cond_destroy(&shard->queue_cond);
    pthread_cond_destroy(&shard->keeper_cond);
    pthread_cond_destroy(&shard->spare_cond);
    mem_free(&shard->directory);
}

uint32_t shard_add_segment(struct shard *shard, struct segment *segment)
{
    uint32_t slot = 0;

    while (slot < shard->segment_slots && shard->segments[slot])
        slot++;
    if (slot == shard->segment_slots) {
        shard->segments = mem_resize_array(shard->segments, slot + 1, sizeof(struct segment *));
        shard->segment_slots++;
    }
    shard->segments[slot] = segment;
    return slot;
}

struct segment *shard_find_segment(const struct shard *shard, uint64_t number)
{
    for (uint32_t i = 0; i < shard->segment_slots; i++) {
        struct segment *segment = shard->segments[i];

        if (segment && segment->binding.number == number)
            return segment;
    }
    return NULL;
}

static bool is_condemnable(const struct segment *segment)
{
    return segment && segment->state == SEGMENT_SEALED && segment->live_count == 0 && segment->copies_of.count == 0 &&
           (segment->is_compacted || segment->holds_on.count == 0);
}

bool shard_has_condemnable(const struct shard *shard)
{
    for (uint32_t i = 0; i < shard->segment_slots; i++) {
        const struct segment *segment = shard->segments[i];

        if (is_condemnable(segment) || (segment && segment->state == SEGMENT_CONDEMNED))
            return true;
    }
    return false;
}

static int compare_entries(const void *a, const void *b)
{
    const struct format_checkpoint_entry *left = a;
    const struct format_checkpoint_entry *right = b;

    return left->number < right->number ? -1 : left->number > right->number;
}

struct format_checkpoint_entry *shard_condemn(struct shard *shard, size_t *count)
{
    struct format_checkpoint_entry *entries = mem_alloc_array(shard->segment_slots, sizeof(*entries));

    *count = 0;
    for (uint32_t i = 0; i < shard->segment_slots; i++) {
        struct segment *segment = shard->segments[i];

        if (is_condemnable(segment))
            segment_set_state(segment, SEGMENT_CONDEMNED);
        if (segment && segment->state == SEGMENT_SEALED)
            entries[(*count)++] = (struct format_checkpoint_entry){segment->binding.number, segment->end};
    }
    if (*count > 1)
        qsort(entries, *count, sizeof(*entries), compare_entries);
    return entries;
}

/* Nothing of `gone` stands any more: who held on to it holds on to where its messages went. */
static void forget_segment(struct shard *shard, const struct segment *gone)
{
    uint64_t number = gone->binding.number;

    for (uint32_t i = 0; i < shard->segment_slots; i++) {
        struct segment *segment = shard->segments[i];

        if (!segment)
            continue;
        if (segment_set_has(&segment->holds_on, number)) {
            segment_set_remove(&segment->holds_on, number);
            segment_set_add_all(&segment->holds_on, &gone->moved_to);
            segment_set_remove(&segment->holds_on, segment->binding.number);
        }
        segment_set_remove(&segment->copies_of, number);
        segment_set_remove(&segment->moved_to, number);
    }
}

void shard_free_condemned(struct shard *shard)
{
    for (uint32_t i = 0; i < shard->segment_slots; i++) {
        struct segment *segment = shard->segments[i];

        if (!segment || segment->state != SEGMENT_CONDEMNED)
            continue;
        segment_set_state(segment, SEGMENT_FREED);
        shard->segments[i] = NULL;
        forget_segment(shard, segment);
        list_append(&shard->freed, &segment->link);
        shard_wake_keeper(shard);
    }
}

void shard_spare_condemned(struct shard *shard)
{
    for (uint32_t i = 0; i < shard->segment_slots; i++) {
        struct segment *segment = shard->segments[i];

        if (segment && segment->state == SEGMENT_CONDEMNED)
            segment_set_state(segment, SEGMENT_SEALED);
    }
}

void shard_unpin(struct shard *shard, struct segment *segment)
{
    assert(segment->pins > 0);
    segment->pins--;
    if (segment->pins == 0 && segment->state == SEGMENT_FREED)
        shard_wake_keeper(shard);
}

void shard_wake_keeper(struct shard *shard)
{
    shard->keeper_has_work = true;
    pthread_cond_signal(&shard->keeper_cond);
}
