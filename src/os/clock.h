/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock: the time, behind a table that tests replace. Deadlines everywhere are monotonic milliseconds (`_deadline_ms`);
 * times that survive a restart are real time in milliseconds since 1970 UTC (`_at_ms`). Any thread.
 */
#ifndef POSTERN_OS_CLOCK_H
#define POSTERN_OS_CLOCK_H

#include <stdint.h>

struct clock_source {
    uint64_t (*monotonic_ms)(void);
    int64_t (*real_ms)(void);
};

uint64_t clock_monotonic_ms(void);
int64_t clock_real_ms(void);

/* NULL goes back to the system's. Only before other threads start. */
void clock_use(const struct clock_source *source);

#endif
