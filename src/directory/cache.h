/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache: answers of the directory for a while, positive and negative ones; the least recently used make room. Bounded in entries and in bytes. Any thread,
 * loops too: nothing blocks but a mutex that is held for a hash look-up.
 */
#ifndef POSTERN_DIRECTORY_CACHE_H
#define POSTERN_DIRECTORY_CACHE_H

#include "directory/answer.h"

struct cache;

#define CACHE_BYTES_MAX (64u << 20)

/* A time of 0 keeps nothing of its kind. */
struct cache *cache_create(uint64_t entries_max, uint64_t positive_ms, uint64_t negative_ms);
void cache_destroy(struct cache **cache);

/* YES with a reference, NO, or UNAVAILABLE if it is not known here. */
enum directory_status cache_get(struct cache *cache, struct str key, struct answer **answer);
/* `answer` NULL: NO. It is kept with a reference of its own. `epoch`: cache_epoch before the backend was asked; what was asked before a cache_clear
 * is not kept. */
void cache_put(struct cache *cache, struct str key, struct answer *answer, uint64_t epoch);
uint64_t cache_epoch(struct cache *cache);
void cache_clear(struct cache *cache);

size_t cache_count(struct cache *cache);

#endif
