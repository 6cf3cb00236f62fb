/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule: when to do what again. A heap of things by time, and the arithmetic of retries. Pure: the time and the chance are passed in.
 * One thread at a time.
 */
#ifndef POSTERN_QUEUE_SCHEDULE_H
#define POSTERN_QUEUE_SCHEDULE_H

#include "queue/queue.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embed it. Zero is "not scheduled". Packed, because each waiting message has one: the padding would cost it two percent of its memory. */
struct schedule_entry {
    uint64_t at_ms;
    uint32_t position; /* in the heap, from 1 */
} __attribute__((packed, aligned(4)));

/* A binary heap, the earliest first. Its memory follows the number of entries. Zero-initialise. */
struct schedule {
    struct schedule_entry **entries;
    size_t count;
    size_t capacity;
};

#define SCHEDULE_NEVER UINT64_MAX
/* The entry's structure of `type` whose member `member` it is. */
#define SCHEDULE_OWNER(entry, type, member) ((type *)(void *)((char *)(entry)-offsetof(type, member)))

void schedule_release(struct schedule *schedule); /* the heap, not what it points to */
/* Adds the entry, or moves it. */
void schedule_put(struct schedule *schedule, struct schedule_entry *entry, uint64_t at_ms);
/* Safe if it is not there. */
void schedule_remove(struct schedule *schedule, struct schedule_entry *entry);
/* The earliest that is due, removed; or NULL. */
struct schedule_entry *schedule_take_due(struct schedule *schedule, uint64_t now_ms);
/* The entry is now at another address. */
void schedule_moved(struct schedule *schedule, struct schedule_entry *entry);
/* SCHEDULE_NEVER if empty. */
uint64_t schedule_first_ms(const struct schedule *schedule);

static inline bool schedule_is_put(const struct schedule_entry *entry)
{
    return entry->position != 0;
}

/* Up to a tenth more or less, so that what failed together doesn't come back together. `chance` is any random number. */
uint64_t schedule_vary_ms(uint64_t interval_ms, uint64_t chance);
/* The time to wait after the `attempts`-th attempt (from 1). */
uint64_t schedule_retry_ms(const struct queue_settings *settings, unsigned attempts, uint64_t chance);
/* When its sender is told that it is late; INT64_MAX: never. */
int64_t schedule_delay_at_ms(const struct queue_settings *settings, int64_t arrived_at_ms);
/* When a message is given up; INT64_MAX where that would overflow. */
int64_t schedule_expiry_at_ms(const struct queue_settings *settings, int64_t arrived_at_ms);

#endif
