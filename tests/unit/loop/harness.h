/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of fibers share: a loop of its own for each scenario, which runs in a fiber of it. cmocka's assertions jump, which only the
 * thread that runs the test may do, so a scenario uses CHECK: it says what is wrong and ends the program.
 */
#ifndef POSTERN_TESTS_LOOP_HARNESS_H
#define POSTERN_TESTS_LOOP_HARNESS_H

#include "loop/fiber.h"
#include "loop/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* A wait that is expected to end otherwise; long enough for a sanitizer on a busy machine. */
#define HARNESS_PATIENCE_MS 60000

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                                  \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

struct harness {
    struct loop_task task;
    struct loop *loop;
    void (*scenario)(void *argument);
    void *argument;
};

static inline uint64_t harness_deadline(void)
{
    return loop_now_ms() + HARNESS_PATIENCE_MS;
}

static inline void harness_main(void *argument)
{
    struct harness *harness = argument;

    harness->scenario(harness->argument);
    loop_stop(harness->loop);
}

static inline void harness_begin(struct loop_task *task)
{
    CHECK(fiber_start(harness_main, task) == 0);
    loop_run_ready(loop_current());
}

/* Runs `scenario(argument)` in a fiber of a new loop until it returns. */
static inline void harness_run(void (*scenario)(void *argument), void *argument)
{
    struct harness harness = {.task = {.run = harness_begin}, .scenario = scenario, .argument = argument};

    assert_int_equal(loop_create(&harness.loop, "test", NULL), 0);
    assert_int_equal(loop_start(harness.loop, NULL), 0);
    loop_post(harness.loop, &harness.task);
    loop_join(harness.loop);
    loop_destroy(&harness.loop);
}

/* For one fiber that waits for others. */
struct harness_latch {
    unsigned count;
    struct fiber *waiter;
};

static inline void harness_arrive(struct harness_latch *latch)
{
    latch->count++;
    if (latch->waiter)
        fiber_wake(latch->waiter);
}

static inline void harness_wait(struct harness_latch *latch, unsigned count)
{
    latch->waiter = fiber_current();
    while (latch->count < count)
        CHECK(fiber_wait(harness_deadline()) == WAIT_READY);
    latch->waiter = NULL;
}

#endif
