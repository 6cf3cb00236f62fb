/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash: a table from byte strings to pointers, and the keyed hash under it (SipHash-1-3). The key is drawn at random at
 * start, so that nobody outside can choose names that collide. Open addressing; grows, and shrinks when nearly empty.
 * One thread at a time.
 */
#ifndef POSTERN_BASE_HASH_H
#define POSTERN_BASE_HASH_H

#include "base/str.h"

/* Sets the process's key, once, before any table exists. Without it a fixed key is used (tests, tools). */
void hash_set_key(const unsigned char key[16]);
uint64_t hash_bytes(const void *data, size_t length);

struct hash_slot;
struct hash_table {
    struct hash_slot *slots;
    size_t capacity;
    size_t count;
};

void hash_table_init(struct hash_table *t);
void hash_table_release(struct hash_table *t); /* frees the table, not the keys and values */

/* The value, or NULL. */
void *hash_table_get(const struct hash_table *t, struct str key);
/* Adds or replaces. The key's bytes are not copied: they must live as long as the entry. Value must not be NULL.
 * Returns the value that stood there before, or NULL; the key is replaced too. */
void *hash_table_put(struct hash_table *t, struct str key, void *value);
/* Returns the value removed, or NULL. */
void *hash_table_remove(struct hash_table *t, struct str key);

/* Visits all: start with *position 0; false at the end. The table must not change meanwhile. */
bool hash_table_next(const struct hash_table *t, size_t *position, struct str *key, void **value);

#endif
