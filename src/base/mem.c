/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Uses neither stdio nor the log: both may allocate. */
static _Noreturn void mem_exhausted(void)
{
    static const char text[] = "postern: out of memory\n";

    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
        abort();
    abort();
}

void *mem_alloc(size_t size)
{
    return mem_alloc_array(1, size);
}

void *mem_alloc_array(size_t count, size_t size)
{
    /* calloc may answer NULL for size 0, which would look like a failure. */
    void *memory = count == 0 || size == 0 ? calloc(1, 1) : calloc(count, size);

    if (!memory)
        mem_exhausted();
    return memory;
}

void *mem_resize(void *old, size_t size)
{
    void *memory = realloc(old, size > 0 ? size : 1);

    if (!memory)
        mem_exhausted();
    return memory;
}

void *mem_resize_array(void *old, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        mem_exhausted();
    return mem_resize(old, bytes);
}

char *mem_copy_str(struct str s)
{
    size_t bytes;
    char *copy;

    if (__builtin_add_overflow(s.length, (size_t)1, &bytes))
        mem_exhausted();
    copy = mem_resize(NULL, bytes);
    if (s.length > 0)
        memcpy(copy, s.data, s.length);
    copy[s.length] = '\0';
    return copy;
}

char *mem_printf(const char *format, ...)
{
    va_list arguments;
    char *text = NULL;
    int length;

    va_start(arguments, format);
    length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0)
        mem_exhausted();
    return text;
}
