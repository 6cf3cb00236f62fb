/* SPDX-License-Identifier: Apache-2.0 */
#include "os/clock.h"

#include <time.h>

static int64_t read_clock_ms(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now); /* can't fail for these clocks */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint64_t system_monotonic_ms(void)
{
    return (uint64_t)read_clock_ms(CLOCK_MONOTONIC);
}

static int64_t system_real_ms(void)
{
    return read_clock_ms(CLOCK_REALTIME);
}

static const struct clock_source system_source = {system_monotonic_ms, system_real_ms};
static const struct clock_source *current_source = &system_source;

uint64_t clock_monotonic_ms(void)
{
    return current_source->monotonic_ms();
}

int64_t clock_real_ms(void)
{
    return current_source->real_ms();
}

void clock_use(const struct clock_source *source)
{
    current_source = source ? source : &system_source;
}
