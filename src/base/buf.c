/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_CAPACITY_MIN 64

void buf_init(struct buf *b, size_t length_max)
{
    *b = (struct buf){.length_max = length_max};
}

void buf_release(struct buf *b)
{
    free(b->data);
    buf_init(b, b->length_max);
}

void buf_clear(struct buf *b)
{
    b->length = 0;
    b->overflowed = false;
}

char *buf_reserve(struct buf *b, size_t length)
{
    size_t capacity = b->capacity < BUF_CAPACITY_MIN ? BUF_CAPACITY_MIN : b->capacity;
    size_t needed;

    if (length > b->length_max - b->length) {
        b->overflowed = true;
        return NULL;
    }
    needed = b->length + length;
    if (!b->data || needed > b->capacity) {
        while (capacity < needed)
            capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
        /* Never below the minimum: a pointer to write to must exist even for a maximum of 0. */
        if (capacity > b->length_max)
            capacity = b->length_max < BUF_CAPACITY_MIN ? BUF_CAPACITY_MIN : b->length_max;
        b->data = mem_resize(b->data, capacity);
        b->capacity = capacity;
    }
    return b->data + b->length;
}

bool buf_append(struct buf *b, const void *data, size_t length)
{
    char *room = buf_reserve(b, length);

    if (!room)
        return false;
    if (length > 0)
        memcpy(room, data, length);
    b->length += length;
    return true;
}

bool buf_append_str(struct buf *b, struct str s)
{
    return buf_append(b, s.data, s.length);
}

bool buf_append_char(struct buf *b, char c)
{
    return buf_append(b, &c, 1);
}

bool buf_append_u64(struct buf *b, uint64_t value)
{
    char digits[20];
    size_t start = sizeof(digits);

    do {
        digits[--start] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return buf_append(b, digits + start, sizeof(digits) - start);
}

bool buf_printf(struct buf *b, const char *format, ...)
{
    size_t room = b->capacity - b->length;
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(b->data ? b->data + b->length : NULL, b->data ? room : 0, format, arguments);
    va_end(arguments);
    if (length < 0) {
        b->overflowed = true;
        return false;
    }
    if ((size_t)length > b->length_max - b->length) {
        b->overflowed = true;
        return false;
    }
    if (!b->data || (size_t)length >= room) {
        /* vsnprintf wants a byte for its NUL, which is not part of the content and not bound by the maximum. */
        size_t needed = b->length + (size_t)length + 1;

        b->capacity = needed > b->capacity * 2 ? needed : b->capacity * 2;
        b->data = mem_resize(b->data, b->capacity);
        va_start(arguments, format);
        vsnprintf(b->data + b->length, b->capacity - b->length, format, arguments);
        va_end(arguments);
    }
    b->length += (size_t)length;
    return true;
}

void buf_consume(struct buf *b, size_t length)
{
    if (length >= b->length) {
        b->length = 0;
        return;
    }
    memmove(b->data, b->data + length, b->length - length);
    b->length -= length;
}
