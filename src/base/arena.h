/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena: memory for things that live and die together, a transaction or a configuration. Freed as a whole. Bounded:
 * past `size_max` bytes an allocation returns NULL. One thread at a time.
 */
#ifndef POSTERN_BASE_ARENA_H
#define POSTERN_BASE_ARENA_H

#include "base/str.h"

struct arena_block;
struct arena {
    struct arena_block *blocks;
    size_t size; /* bytes handed out */
    size_t size_max;
};

/* Allocates nothing yet. */
void arena_init(struct arena *a, size_t size_max);
/* Frees everything; the arena is empty and may be used again. */
void arena_release(struct arena *a);

/* Zeroed, aligned for any type; NULL if the arena's maximum would be exceeded. */
void *arena_alloc(struct arena *a, size_t size);
/* A NUL-terminated copy of the bytes; data is NULL if the maximum would be exceeded. */
struct str arena_copy(struct arena *a, struct str s);
struct str arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
