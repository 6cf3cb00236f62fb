/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem: allocation that does not fail. Everything here is bounded by limits that stand in the configuration, so running
 * out of memory means that the machine is gone; the process ends at once, and the spool keeps what was acknowledged
 * (docs/adr/0004). Any thread.
 */
#ifndef POSTERN_BASE_MEM_H
#define POSTERN_BASE_MEM_H

#include "base/str.h"

#include <stddef.h>

/* Zeroed. Size 0 is allowed. Freed with free(). */
void *mem_alloc(size_t size);
void *mem_alloc_array(size_t count, size_t size); /* ends the process on overflow too */
void *mem_resize(void *old, size_t size);         /* new bytes are not zeroed */
void *mem_resize_array(void *old, size_t count, size_t size);
/* A NUL-terminated copy. */
char *mem_copy_str(struct str s);
char *mem_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Frees `*pointer` and sets it to NULL. */
#define mem_free(pointer)                                                                                              \
    do {                                                                                                               \
        free(*(pointer));                                                                                              \
        *(pointer) = NULL;                                                                                             \
    } while (0)

#endif
