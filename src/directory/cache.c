/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/cache.h"

#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"
#include "os/clock.h"

#include <pthread.h>

struct entry {
    struct list_link link; /* the least recently used first */
    uint64_t expires_ms;
    struct answer *answer; /* NULL: NO */
    size_t bytes;
    size_t key_length;
    char key[];
};

struct cache {
    pthread_mutex_t mutex;
    uint64_t entries_max;
    uint64_t positive_ms, negative_ms;
    uint64_t epoch;
    size_t bytes;
    struct hash_table table;
    struct list_link entries;
};

struct cache *cache_create(uint64_t entries_max, uint64_t positive_ms, uint64_t negative_ms)
{
    struct cache *cache = mem_alloc(sizeof(*cache));

    pthread_mutex_init(&cache->mutex, NULL);
    cache->entries_max = entries_max;
    cache->positive_ms = positive_ms;
    cache->negative_ms = negative_ms;
    hash_table_init(&cache->table);
    list_init(&cache->entries);
    return cache;
}

static void entry_free(struct entry *entry)
{
    answer_release(entry->answer);
    free(entry);
}

static void drop(struct cache *cache, struct entry *entry)
{
    hash_table_remove(&cache->table, str_make(entry->key, entry->key_length));
    list_remove(&entry->link);
    cache->bytes -= entry->bytes;
    entry_free(entry);
}

void cache_destroy(struct cache **pointer)
{
    struct cache *cache = *pointer;

    if (!cache)
        return;
    *pointer = NULL;
    cache_clear(cache);
    hash_table_release(&cache->table);
    pthread_mutex_destroy(&cache->mutex);
    free(cache);
}

enum directory_status cache_get(struct cache *cache, struct str key, struct answer **answer)
{
    enum directory_status status = DIRECTORY_UNAVAILABLE;
    struct entry *entry;

    *answer = NULL;
    pthread_mutex_lock(&cache->mutex);
    entry = hash_table_get(&cache->table, key);
    if (entry && entry->expires_ms <= clock_monotonic_ms()) {
        drop(cache, entry);
        entry = NULL;
    }
    if (entry) {
        list_remove(&entry->link);
        list_append(&cache->entries, &entry->link);
        status = entry->answer ? DIRECTORY_YES : DIRECTORY_NO;
        if (entry->answer)
            *answer = answer_retain(entry->answer);
    }
    pthread_mutex_unlock(&cache->mutex);
    return status;
}

static struct entry *make_entry(struct str key, struct answer *answer, uint64_t expires_ms)
{
    struct entry *entry = mem_alloc(sizeof(*entry) + key.length);

    entry->expires_ms = expires_ms;
    entry->answer = answer ? answer_retain(answer) : NULL;
    entry->bytes = sizeof(*entry) + key.length + (answer ? answer->bytes : 0);
    entry->key_length = key.length;
    memcpy(entry->key, key.data, key.length);
    return entry;
}

void cache_put(struct cache *cache, struct str key, struct answer *answer, uint64_t epoch)
{
    uint64_t keep_ms = answer ? cache->positive_ms : cache->negative_ms;
    struct entry *entry, *old;

    if (keep_ms == 0 || cache->entries_max == 0)
        return;
    entry = make_entry(key, answer, clock_monotonic_ms() + keep_ms);
    pthread_mutex_lock(&cache->mutex);
    old = hash_table_get(&cache->table, key);
    if (old)
        drop(cache, old);
    if (epoch == cache->epoch) {
        hash_table_put(&cache->table, str_make(entry->key, entry->key_length), entry);
        list_append(&cache->entries, &entry->link);
        cache->bytes += entry->bytes;
        while (cache->table.count > cache->entries_max || cache->bytes > CACHE_BYTES_MAX)
            drop(cache, LIST_ENTRY(cache->entries.next, struct entry, link));
        entry = NULL;
    }
    pthread_mutex_unlock(&cache->mutex);
    if (entry)
        entry_free(entry);
}

uint64_t cache_epoch(struct cache *cache)
{
    uint64_t epoch;

    pthread_mutex_lock(&cache->mutex);
    epoch = cache->epoch;
    pthread_mutex_unlock(&cache->mutex);
    return epoch;
}

/* A big cache is freed without the mutex, so that no loop waits for it. */
void cache_clear(struct cache *cache)
{
    struct list_link gone;
    struct list_link *link;
    struct hash_table table;

    list_init(&gone);
    pthread_mutex_lock(&cache->mutex);
    cache->epoch++;
    table = cache->table;
    hash_table_init(&cache->table);
    cache->bytes = 0;
    list_append(&cache->entries, &gone);
    list_remove(&cache->entries);
    pthread_mutex_unlock(&cache->mutex);
    hash_table_release(&table);
    while ((link = list_take_first(&gone)))
        entry_free(LIST_ENTRY(link, struct entry, link));
}

size_t cache_count(struct cache *cache)
{
    size_t count;

    pthread_mutex_lock(&cache->mutex);
    count = cache->table.count;
    pthread_mutex_unlock(&cache->mutex);
    return count;
}
