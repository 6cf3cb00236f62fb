/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/index.h"

#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>

#define CHUNK_ENTRIES    4096u
#define BUCKET_COUNT_MIN 4096u

_Static_assert(sizeof(struct index_entry) == 48, "a message costs 48 bytes");

void index_init(struct index *index)
{
    *index = (struct index){0};
    index->buckets = mem_alloc_array(BUCKET_COUNT_MIN, sizeof(*index->buckets));
    index->bucket_count = BUCKET_COUNT_MIN;
}

void index_release(struct index *index)
{
    for (uint32_t i = 0; i < index->chunk_count; i++)
        free(index->chunks[i]);
    mem_free(&index->chunks);
    mem_free(&index->buckets);
}

static struct index_entry *entry_at(const struct index *index, uint32_t number)
{
    return &index->chunks[number / CHUNK_ENTRIES][number % CHUNK_ENTRIES];
}

/* Ids are handed out one after the other, by us: their sequence number itself spreads evenly. */
static uint32_t *bucket_of(const struct index *index, uint64_t id)
{
    return &index->buckets[(id >> 8) & (index->bucket_count - 1)];
}

struct index_entry *index_find(const struct index *index, uint64_t id)
{
    for (uint32_t link = *bucket_of(index, id); link != 0;) {
        struct index_entry *entry = entry_at(index, link - 1);

        if (entry->id == id)
            return entry;
        link = entry->next;
    }
    return NULL;
}

static void add_chunk(struct index *index)
{
    uint32_t first = index->chunk_count * CHUNK_ENTRIES;
    struct index_entry *chunk = mem_alloc_array(CHUNK_ENTRIES, sizeof(*chunk));

    assert(index->chunk_count < UINT32_MAX / CHUNK_ENTRIES - 1);
    index->chunks = mem_resize_array(index->chunks, index->chunk_count + 1, sizeof(*index->chunks));
    index->chunks[index->chunk_count++] = chunk;
    for (uint32_t i = CHUNK_ENTRIES; i-- > 0;) {
        chunk[i].next = index->free_first;
        index->free_first = first + i + 1;
    }
}

static void double_buckets(struct index *index)
{
    uint32_t old_count = index->bucket_count;
    uint32_t *old = index->buckets;

    index->bucket_count = old_count * 2;
    index->buckets = mem_alloc_array(index->bucket_count, sizeof(*index->buckets));
    for (uint32_t i = 0; i < old_count; i++) {
        for (uint32_t link = old[i]; link != 0;) {
            struct index_entry *entry = entry_at(index, link - 1);
            uint32_t *bucket = bucket_of(index, entry->id);
            uint32_t next = entry->next;

            entry->next = *bucket;
            *bucket = link;
            link = next;
        }
    }
    free(old);
}

struct index_entry *index_add(struct index *index, uint64_t id)
{
    struct index_entry *entry;
    uint32_t *bucket;
    uint32_t link;

    assert(!index_find(index, id));
    if (index->free_first == 0)
        add_chunk(index);
    if (index->count >= index->bucket_count && index->bucket_count < UINT32_MAX / 2)
        double_buckets(index);
    link = index->free_first;
    entry = entry_at(index, link - 1);
    index->free_first = entry->next;
    bucket = bucket_of(index, id);
    *entry = (struct index_entry){.id = id, .next = *bucket};
    *bucket = link;
    index->count++;
    return entry;
}

void index_remove(struct index *index, struct index_entry *entry)
{
    uint32_t *link = bucket_of(index, entry->id);
    uint32_t self;

    while (entry_at(index, *link - 1) != entry)
        link = &entry_at(index, *link - 1)->next;
    self = *link;
    *link = entry->next;
    entry->id = 0;
    entry->next = index->free_first;
    index->free_first = self;
    index->count--;
}
