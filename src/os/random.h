/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random: unpredictable bytes (getrandom, buffered per thread), or a repeatable sequence when a test sets a seed. Any
 * thread.
 */
#ifndef POSTERN_OS_RANDOM_H
#define POSTERN_OS_RANDOM_H

#include <stddef.h>
#include <stdint.h>

void random_bytes(void *data, size_t length);
uint64_t random_u64(void);
/* Uniform in 0 .. limit-1; limit is not 0. */
uint64_t random_below(uint64_t limit);

/* Repeatable from here on, for tests; 0 goes back to the system's. Only before other threads start. */
void random_use_seed(uint64_t seed);

#endif
