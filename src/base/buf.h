/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf: a growing byte buffer with a maximum that its owner states. What would go over the maximum is not appended, and
 * the buffer remembers it (`overflowed`), so that a caller may append many parts and check once. One thread at a time.
 *
 *     struct buf b;
 *     buf_init(&b, 4096);
 *     buf_append_str(&b, STR("250 "));
 *     buf_printf(&b, "%u", n);
 *     if (b.overflowed) ...
 *     buf_release(&b);
 */
#ifndef POSTERN_BASE_BUF_H
#define POSTERN_BASE_BUF_H

#include "base/str.h"

struct buf {
    char *data; /* not NUL-terminated; NULL while nothing is held */
    size_t length;
    size_t capacity;
    size_t length_max;
    bool overflowed;
};

/* Allocates nothing yet. */
void buf_init(struct buf *b, size_t length_max);
/* Frees the memory; the buffer may be used again, with the same maximum. */
void buf_release(struct buf *b);
/* Empties it and keeps the memory. */
void buf_clear(struct buf *b);

/* false, and nothing appended, if it would exceed the maximum. Of several parts some may be in: see `overflowed`. */
bool buf_append(struct buf *b, const void *data, size_t length);
bool buf_append_str(struct buf *b, struct str s);
bool buf_append_char(struct buf *b, char c);
bool buf_append_u64(struct buf *b, uint64_t value); /* decimal */
bool buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A pointer to room for `length` more bytes, or NULL over the maximum. Add to `b->length` what you write. */
char *buf_reserve(struct buf *b, size_t length);
/* Removes the first `length` bytes. */
void buf_consume(struct buf *b, size_t length);

static inline struct str buf_str(const struct buf *b)
{
    return (struct str){b->data, b->length};
}

#endif
