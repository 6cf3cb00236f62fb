/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/schedule.h"

#include "base/mem.h"

#include <assert.h>

#define SCHEDULE_CAPACITY_MIN 16

void schedule_release(struct schedule *schedule)
{
    free(schedule->entries);
    *schedule = (struct schedule){0};
}

static void place(struct schedule *schedule, size_t position, struct schedule_entry *entry)
{
    schedule->entries[position - 1] = entry;
    entry->position = (uint32_t)position;
}

static void sift_up(struct schedule *schedule, struct schedule_entry *entry)
{
    size_t position = entry->position;

    while (position > 1 && schedule->entries[position / 2 - 1]->at_ms > entry->at_ms) {
        place(schedule, position, schedule->entries[position / 2 - 1]);
        position /= 2;
    }
    place(schedule, position, entry);
}

static void sift_down(struct schedule *schedule, struct schedule_entry *entry)
{
    size_t position = entry->position;

    for (;;) {
        size_t child = position * 2;

        if (child > schedule->count)
            break;
        if (child < schedule->count && schedule->entries[child]->at_ms < schedule->entries[child - 1]->at_ms)
            child++;
        if (schedule->entries[child - 1]->at_ms >= entry->at_ms)
            break;
        place(schedule, position, schedule->entries[child - 1]);
        position = child;
    }
    place(schedule, position, entry);
}

/* By half, not by two: the heap counts into what a waiting message may cost. */
static void set_capacity(struct schedule *schedule, size_t capacity)
{
    schedule->entries = mem_resize_array(schedule->entries, capacity, sizeof(*schedule->entries));
    schedule->capacity = capacity;
}

void schedule_put(struct schedule *schedule, struct schedule_entry *entry, uint64_t at_ms)
{
    if (!schedule_is_put(entry)) {
        assert(schedule->count < UINT32_MAX);
        if (schedule->count == schedule->capacity)
            set_capacity(schedule,
                         schedule->capacity ? schedule->capacity + schedule->capacity / 2 : SCHEDULE_CAPACITY_MIN);
        place(schedule, ++schedule->count, entry);
    }
    entry->at_ms = at_ms;
    sift_up(schedule, entry);
    sift_down(schedule, entry);
}

void schedule_remove(struct schedule *schedule, struct schedule_entry *entry)
{
    struct schedule_entry *last;
    size_t position = entry->position;

    if (position == 0)
        return;
    assert(position <= schedule->count && schedule->entries[position - 1] == entry);
    last = schedule->entries[--schedule->count];
    entry->position = 0;
    if (last != entry) {
        place(schedule, position, last);
        sift_up(schedule, last);
        sift_down(schedule, last);
    }
    if (schedule->capacity > SCHEDULE_CAPACITY_MIN && schedule->count < schedule->capacity / 4)
        set_capacity(schedule, schedule->capacity / 2);
}

struct schedule_entry *schedule_take_due(struct schedule *schedule, uint64_t now_ms)
{
    struct schedule_entry *first;

    if (schedule->count == 0 || schedule->entries[0]->at_ms > now_ms)
        return NULL;
    first = schedule->entries[0];
    schedule_remove(schedule, first);
    return first;
}

void schedule_moved(struct schedule *schedule, struct schedule_entry *entry)
{
    assert(entry->position > 0 && entry->position <= schedule->count);
    schedule->entries[entry->position - 1] = entry;
}

uint64_t schedule_first_ms(const struct schedule *schedule)
{
    return schedule->count ? schedule->entries[0]->at_ms : SCHEDULE_NEVER;
}

uint64_t schedule_vary_ms(uint64_t interval_ms, uint64_t chance)
{
    uint64_t tenth = interval_ms / 10;

    return interval_ms - tenth + chance % (2 * tenth + 1);
}

uint64_t schedule_retry_ms(const struct queue_settings *settings, unsigned attempts, uint64_t chance)
{
    unsigned step = attempts ? attempts - 1 : 0;

    assert(settings->retry_count > 0);
    if (step >= settings->retry_count)
        step = settings->retry_count - 1;
    return schedule_vary_ms(settings->retry_ms[step], chance);
}

static int64_t add_ms(int64_t at_ms, uint64_t wait_ms)
{
    return wait_ms > (uint64_t)(INT64_MAX - at_ms) ? INT64_MAX : at_ms + (int64_t)wait_ms;
}

int64_t schedule_delay_at_ms(const struct queue_settings *settings, int64_t arrived_at_ms)
{
    return settings->delay_notice_ms == 0 ? INT64_MAX : add_ms(arrived_at_ms, settings->delay_notice_ms);
}

int64_t schedule_expiry_at_ms(const struct queue_settings *settings, int64_t arrived_at_ms)
{
    return add_ms(arrived_at_ms, settings->expire_ms);
}
