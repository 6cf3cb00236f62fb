/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set of networks. Adding collects; finishing sweeps over the starts in rising order, with a heap of the entries that cover
 * the current address, and writes disjoint intervals, each with the lowest entry that covers it. At most twice as many as entries.
 */
#include "base/mem.h"
#include "policy/cidr.h"

#include <assert.h>

struct cidr_interval {
    __uint128_t first;
    __uint128_t last;
    uint32_t entry;
};

/* ::ffff:0:0/96 */
#define MAPPED_FIRST ((__uint128_t)0xffff00000000u)
#define MAPPED_LAST  ((__uint128_t)0xffffffffffffu)

static __uint128_t to_number(const struct cidr_address *address)
{
    uint64_t high;
    uint64_t low;

    memcpy(&high, address->bytes, 8);
    memcpy(&low, address->bytes + 8, 8);
    return (__uint128_t)__builtin_bswap64(high) << 64 | __builtin_bswap64(low);
}

static struct cidr_address from_number(__uint128_t number)
{
    struct cidr_address address;

    for (int i = 15; i >= 0; i--, number >>= 8)
        address.bytes[i] = (unsigned char)(number & 0xff);
    return address;
}

void cidr_set_init(struct cidr_set *set)
{
    *set = (struct cidr_set){0};
}

void cidr_set_release(struct cidr_set *set)
{
    mem_free(&set->intervals);
    *set = (struct cidr_set){0};
}

static void append(struct cidr_set *set, __uint128_t first, __uint128_t last, uint32_t entry)
{
    if (set->count == set->capacity) {
        set->capacity = set->capacity ? set->capacity * 2 : 8;
        set->intervals = mem_resize_array(set->intervals, set->capacity, sizeof(set->intervals[0]));
    }
    set->intervals[set->count++] = (struct cidr_interval){first, last, entry};
}

void cidr_set_add(struct cidr_set *set, const struct cidr_range *range, uint32_t entry)
{
    __uint128_t first = to_number(&range->first);
    __uint128_t last = to_number(&range->last);

    assert(!set->finished && first <= last);
    if (first < MAPPED_FIRST && last > MAPPED_LAST) {
        append(set, first, MAPPED_FIRST - 1, entry);
        append(set, MAPPED_LAST + 1, last, entry);
    } else {
        append(set, first, last, entry);
    }
}

static int compare_starts(const void *left, const void *right)
{
    const struct cidr_interval *a = left;
    const struct cidr_interval *b = right;

    if (a->first != b->first)
        return a->first < b->first ? -1 : 1;
    return (a->entry > b->entry) - (a->entry < b->entry);
}

/* A heap with the lowest entry on top. */
static void heap_push(struct cidr_interval *heap, size_t *count, struct cidr_interval item)
{
    size_t at = (*count)++;

    while (at > 0 && heap[(at - 1) / 2].entry > item.entry) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

static void heap_pop(struct cidr_interval *heap, size_t *count)
{
    struct cidr_interval item = heap[--*count];
    size_t at = 0;

    for (;;) {
        size_t child = at * 2 + 1;

        if (child >= *count)
            break;
        if (child + 1 < *count && heap[child + 1].entry < heap[child].entry)
            child++;
        if (heap[child].entry >= item.entry)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
}

/* Writes what the heap's entries cover of [*at, limit]; *at ends beyond what was written. */
static void sweep(struct cidr_set *out, struct cidr_interval *heap, size_t *count, __uint128_t *at, __uint128_t limit)
{
    while (*count > 0 && *at <= limit) {
        __uint128_t last = heap[0].last;

        if (last < *at) {
            heap_pop(heap, count);
            continue;
        }
        if (last > limit)
            last = limit;
        if (out->count > 0 && out->intervals[out->count - 1].entry == heap[0].entry &&
            out->intervals[out->count - 1].last + 1 == *at)
            out->intervals[out->count - 1].last = last;
        else
            append(out, *at, last, heap[0].entry);
        if (last == ~(__uint128_t)0) {
            *count = 0;
            return;
        }
        *at = last + 1;
    }
}

void cidr_set_finish(struct cidr_set *set)
{
    struct cidr_set out = {0};
    struct cidr_interval *heap;
    size_t heap_count = 0;
    __uint128_t at = 0;

    assert(!set->finished);
    heap = mem_alloc_array(set->count, sizeof(heap[0]));
    if (set->count > 1)
        qsort(set->intervals, set->count, sizeof(set->intervals[0]), compare_starts);
    for (size_t i = 0; i < set->count; i++) {
        if (set->intervals[i].first > at) {
            sweep(&out, heap, &heap_count, &at, set->intervals[i].first - 1);
            at = set->intervals[i].first;
        }
        heap_push(heap, &heap_count, set->intervals[i]);
    }
    sweep(&out, heap, &heap_count, &at, ~(__uint128_t)0);
    free(heap);
    mem_free(&set->intervals);
    *set = out;
    set->finished = true;
}

uint32_t cidr_set_find(const struct cidr_set *set, const struct cidr_address *address)
{
    __uint128_t number = to_number(address);
    size_t low = 0;
    size_t high = set->count;

    assert(set->finished || set->count == 0);
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (number < set->intervals[middle].first)
            high = middle;
        else if (number > set->intervals[middle].last)
            low = middle + 1;
        else
            return set->intervals[middle].entry;
    }
    return CIDR_NO_ENTRY;
}

bool cidr_set_next(const struct cidr_set *set, size_t *position, struct cidr_range *range, uint32_t *entry)
{
    const struct cidr_interval *interval;

    if (*position >= set->count)
        return false;
    interval = &set->intervals[(*position)++];
    range->first = from_number(interval->first);
    range->last = from_number(interval->last);
    *entry = interval->entry;
    return true;
}
