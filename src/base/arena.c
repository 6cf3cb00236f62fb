/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include "base/mem.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Blocks grow from the first size to the second, so that a small transaction stays small and a big one has few blocks.
 */
#define ARENA_BLOCK_BYTES_MIN 1024
#define ARENA_BLOCK_BYTES_MAX 65536

struct arena_block {
    struct arena_block *next;
    size_t capacity;
    size_t used;
    alignas(max_align_t) char bytes[];
};

void arena_init(struct arena *a, size_t size_max)
{
    *a = (struct arena){.size_max = size_max};
}

void arena_release(struct arena *a)
{
    struct arena_block *block = a->blocks;

    while (block) {
        struct arena_block *next = block->next;

        free(block);
        block = next;
    }
    arena_init(a, a->size_max);
}

static struct arena_block *add_block(struct arena *a, size_t size)
{
    size_t capacity = a->blocks ? a->blocks->capacity * 2 : ARENA_BLOCK_BYTES_MIN;
    struct arena_block *block;

    if (capacity > ARENA_BLOCK_BYTES_MAX)
        capacity = ARENA_BLOCK_BYTES_MAX;
    if (capacity < size)
        capacity = size;
    block = mem_alloc(sizeof(*block) + capacity);
    block->capacity = capacity;
    block->next = a->blocks;
    a->blocks = block;
    return block;
}

void *arena_alloc(struct arena *a, size_t size)
{
    const size_t alignment = alignof(max_align_t);
    struct arena_block *block = a->blocks;
    size_t left = a->size_max - a->size;
    char *memory;

    /* The second test also catches a size so large that rounding it up would wrap. */
    if (size > left || (size + alignment - 1) / alignment * alignment > left)
        return NULL;
    size = (size + alignment - 1) / alignment * alignment;
    if (!block || block->capacity - block->used < size)
        block = add_block(a, size);
    memory = block->bytes + block->used;
    block->used += size;
    a->size += size;
    return memory;
}

struct str arena_copy(struct arena *a, struct str s)
{
    char *copy = s.length < SIZE_MAX ? arena_alloc(a, s.length + 1) : NULL;

    if (!copy)
        return (struct str){NULL, 0};
    if (s.length > 0)
        memcpy(copy, s.data, s.length);
    return str_make(copy, s.length);
}

struct str arena_printf(struct arena *a, const char *format, ...)
{
    va_list arguments;
    char *text;
    int length;

    va_start(arguments, format);
    length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    text = length < 0 ? NULL : arena_alloc(a, (size_t)length + 1);
    if (!text)
        return (struct str){NULL, 0};
    va_start(arguments, format);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return str_make(text, (size_t)length);
}
