/* SPDX-License-Identifier: Apache-2.0 */
#include "delivery/reach.h"

#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdlib.h>

struct reach_key {
    struct net_address address, source;
};

struct reach_entry {
    struct list_link link; /* reach->entries */
    struct reach_key key;
    uint64_t until_ms;
};

struct reach {
    pthread_mutex_t lock;
    struct hash_table by_key;
    struct list_link entries; /* the latest failure last */
};

struct reach *reach_create(void)
{
    struct reach *reach = mem_alloc(sizeof(*reach));

    pthread_mutex_init(&reach->lock, NULL);
    hash_table_init(&reach->by_key);
    list_init(&reach->entries);
    return reach;
}

static void forget(struct reach *reach, struct reach_entry *entry)
{
    list_remove(&entry->link);
    hash_table_remove(&reach->by_key, str_make((const char *)&entry->key, sizeof(entry->key)));
    free(entry);
}

void reach_destroy(struct reach **pointer)
{
    struct reach *reach = *pointer;

    if (!reach)
        return;
    *pointer = NULL;
    while (!list_is_empty(&reach->entries))
        forget(reach, LIST_ENTRY(reach->entries.next, struct reach_entry, link));
    hash_table_release(&reach->by_key);
    pthread_mutex_destroy(&reach->lock);
    free(reach);
}

static struct reach_key make_key(const struct net_address *address, const struct net_address *source)
{
    struct reach_key key = {.address = *address};

    if (source)
        memcpy(key.source.ip, source->ip, sizeof(key.source.ip));
    return key;
}

static struct reach_entry *find(const struct reach *reach, const struct reach_key *key)
{
    return hash_table_get(&reach->by_key, str_make((const char *)key, sizeof(*key)));
}

bool reach_may_try(struct reach *reach, const struct net_address *address, const struct net_address *source,
                   uint64_t now_ms, uint64_t probe_ms)
{
    struct reach_key key = make_key(address, source);
    struct reach_entry *entry;
    bool may_try;

    pthread_mutex_lock(&reach->lock);
    entry = find(reach, &key);
    may_try = !entry || now_ms >= entry->until_ms;
    if (entry && may_try)
        entry->until_ms = now_ms + probe_ms;
    pthread_mutex_unlock(&reach->lock);
    return may_try;
}

void reach_failed(struct reach *reach, const struct net_address *address, const struct net_address *source,
                  uint64_t until_ms)
{
    struct reach_key key = make_key(address, source);
    struct reach_entry *entry;

    pthread_mutex_lock(&reach->lock);
    entry = find(reach, &key);
    if (entry) {
        list_remove(&entry->link);
    } else {
        if (reach->by_key.count >= REACH_ENTRIES_MAX)
            forget(reach, LIST_ENTRY(reach->entries.next, struct reach_entry, link));
        entry = mem_alloc(sizeof(*entry));
        entry->key = key;
        hash_table_put(&reach->by_key, str_make((const char *)&entry->key, sizeof(entry->key)), entry);
    }
    entry->until_ms = until_ms;
    list_append(&reach->entries, &entry->link);
    pthread_mutex_unlock(&reach->lock);
}

void reach_succeeded(struct reach *reach, const struct net_address *address, const struct net_address *source)
{
    struct reach_key key = make_key(address, source);
    struct reach_entry *entry;

    pthread_mutex_lock(&reach->lock);
    entry = find(reach, &key);
    if (entry)
        forget(reach, entry);
    pthread_mutex_unlock(&reach->lock);
}
