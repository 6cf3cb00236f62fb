/* SPDX-License-Identifier: Apache-2.0 */
/* Every session and delivery is a fiber: a wake that is lost is a session that hangs, a stack that leaks into another is anything. */
#include "loop/fiber.h"

#include "harness.h"

#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <string.h>

/* ---- waiting ---- */

static void scenario_wake_before_wait(void *argument)
{
    struct fiber *self = fiber_current();

    (void)argument;
    fiber_wake(self);
    fiber_wake(self);
    CHECK(fiber_wait(loop_now_ms() + HARNESS_PATIENCE_MS) == WAIT_READY);
    /* Two wakes are one. */
    CHECK(fiber_wait(loop_now_ms() + 1) == WAIT_TIMEOUT);
    /* It comes before the deadline, even one that has passed: the condition is what counts. */
    fiber_wake(self);
    CHECK(fiber_wait(0) == WAIT_READY);
    CHECK(fiber_wait(0) == WAIT_TIMEOUT);
}

/* A job that is done before its fiber waits for it must not leave the fiber waiting. */
static void test_a_wake_before_the_wait_is_not_lost(void **state)
{
    (void)state;
    harness_run(scenario_wake_before_wait, NULL);
}

static void wake_main(void *argument)
{
    fiber_wake(argument);
}

static void scenario_wake_during_yield(void *argument)
{
    (void)argument;
    CHECK(fiber_start(wake_main, fiber_current()) == 0);
    fiber_yield();
    CHECK(fiber_wait(loop_now_ms() + HARNESS_PATIENCE_MS) == WAIT_READY);
}

/* Nor one that comes while the fiber lets others run. */
static void test_a_wake_during_a_yield_is_not_lost(void **state)
{
    (void)state;
    harness_run(scenario_wake_during_yield, NULL);
}

static void scenario_deadlines(void *argument)
{
    uint64_t before_ms = loop_now_ms();

    (void)argument;
    CHECK(fiber_wait(before_ms + 20) == WAIT_TIMEOUT);
    CHECK(loop_now_ms() >= before_ms + 20);
    CHECK(fiber_wait(loop_now_ms()) == WAIT_TIMEOUT);
}

static void test_a_deadline_passes(void **state)
{
    (void)state;
    harness_run(scenario_deadlines, NULL);
}

struct sleeper {
    struct fiber *fiber;
    struct harness_latch *latch;
    uint64_t deadlines_ms[3]; /* of its waits, from the start; 0 ends */
    enum wait_result results[3];
    uint64_t ended_at_ms[3];
};

static void sleeper_main(void *argument)
{
    struct sleeper *sleeper = argument;
    uint64_t start_ms = loop_now_ms();

    sleeper->fiber = fiber_current();
    for (unsigned i = 0; i < 3 && sleeper->deadlines_ms[i] > 0; i++) {
        uint64_t deadline_ms = sleeper->deadlines_ms[i];

        sleeper->results[i] = fiber_wait(deadline_ms == DEADLINE_NEVER ? deadline_ms : start_ms + deadline_ms);
        sleeper->ended_at_ms[i] = loop_now_ms() - start_ms;
    }
    harness_arrive(sleeper->latch);
}

static void scenario_timer_is_armed_again(void *argument)
{
    struct harness_latch latch = {0};
    struct sleeper earlier = {.latch = &latch, .deadlines_ms = {HARNESS_PATIENCE_MS, 15, 25}};
    struct sleeper later = {.latch = &latch, .deadlines_ms = {10, 40}};
    struct sleeper never = {.latch = &latch, .deadlines_ms = {10, DEADLINE_NEVER, 5}};

    (void)argument;
    CHECK(fiber_start(sleeper_main, &earlier) == 0);
    CHECK(fiber_start(sleeper_main, &later) == 0);
    CHECK(fiber_start(sleeper_main, &never) == 0);
    fiber_yield();
    /* Woken early: their timers stay armed for the first deadline. */
    fiber_wake(earlier.fiber);
    fiber_wake(later.fiber);
    fiber_wake(never.fiber);
    harness_wait(&latch, 2);
    CHECK(earlier.results[0] == WAIT_READY && earlier.results[1] == WAIT_TIMEOUT && earlier.results[2] == WAIT_TIMEOUT);
    CHECK(earlier.ended_at_ms[1] >= 15 && earlier.ended_at_ms[2] >= 25 && earlier.ended_at_ms[2] < HARNESS_PATIENCE_MS);
    CHECK(later.results[0] == WAIT_READY && later.results[1] == WAIT_TIMEOUT && later.ended_at_ms[1] >= 40);
    /* The stale timer of `never` has fired by now, and has not ended its wait. */
    CHECK(latch.count == 2);
    fiber_wake(never.fiber);
    harness_wait(&latch, 3);
    CHECK(never.results[1] == WAIT_READY && never.results[2] == WAIT_TIMEOUT);
}

/* The timer is lazy: one left over from an earlier wait must neither end the next too early nor let it run over. */
static void test_a_timer_left_over_serves_the_next_wait(void **state)
{
    (void)state;
    harness_run(scenario_timer_is_armed_again, NULL);
}

static void cancelled_main(void *argument)
{
    struct sleeper *sleeper = argument;

    sleeper->fiber = fiber_current();
    sleeper->results[0] = fiber_wait(DEADLINE_NEVER);
    CHECK(fiber_is_cancelled(sleeper->fiber));
    sleeper->results[1] = fiber_wait(harness_deadline());
    fiber_clear_cancel();
    CHECK(!fiber_is_cancelled(sleeper->fiber));
    sleeper->results[2] = fiber_wait(loop_now_ms() + 1);
    harness_arrive(sleeper->latch);
}

static void scenario_cancel(void *argument)
{
    struct harness_latch latch = {0};
    struct sleeper parked = {.latch = &latch};
    struct sleeper not_begun = {.latch = &latch};

    (void)argument;
    CHECK(fiber_start(cancelled_main, &parked) == 0);
    fiber_yield();
    fiber_cancel(parked.fiber);
    fiber_cancel(parked.fiber);
    harness_wait(&latch, 1);
    CHECK(parked.results[0] == WAIT_CANCELLED && parked.results[1] == WAIT_CANCELLED &&
          parked.results[2] == WAIT_TIMEOUT);
    /* The next to use this stack begins uncancelled. */
    not_begun.deadlines_ms[0] = 1;
    CHECK(fiber_start(sleeper_main, &not_begun) == 0);
    harness_wait(&latch, 2);
    CHECK(not_begun.results[0] == WAIT_TIMEOUT);
}

/* The end of the daemon: a cancelled session says goodbye and goes; it must not hang, and must still be able to speak. */
static void test_cancel_and_clear(void **state)
{
    (void)state;
    harness_run(scenario_cancel, NULL);
}

/* ---- turns ---- */

struct turns {
    struct harness_latch latch;
    bool stop;
    unsigned yields;
};

static void yielder_main(void *argument)
{
    struct turns *turns = argument;

    while (!turns->stop) {
        turns->yields++;
        fiber_yield();
    }
    harness_arrive(&turns->latch);
}

static void on_posted(struct loop_task *task)
{
    struct harness_latch *latch = *(struct harness_latch **)(void *)(task + 1);

    harness_arrive(latch);
    loop_run_ready(loop_current());
}

static void scenario_yield(void *argument)
{
    struct turns turns = {0};
    struct {
        struct loop_task task;
        struct harness_latch *latch;
    } posted = {{.run = on_posted}, &turns.latch};

    (void)argument;
    for (unsigned i = 0; i < 3; i++)
        CHECK(fiber_start(yielder_main, &turns) == 0);
    /* Timers and the mailbox have their turn although somebody is always ready. */
    CHECK(fiber_wait(loop_now_ms() + 10) == WAIT_TIMEOUT);
    loop_post(loop_current(), &posted.task);
    harness_wait(&turns.latch, 1);
    CHECK(turns.yields > 3);
    turns.stop = true;
    harness_wait(&turns.latch, 4);
}

/* A long computation, or a client that never stops sending, must not keep the others of its loop from being served. */
static void test_yield_lets_everything_else_run(void **state)
{
    (void)state;
    harness_run(scenario_yield, NULL);
}

/* ---- many ---- */

struct crowd {
    struct harness_latch started, ended;
    struct fiber *fibers[3000];
    unsigned woken;
};

static void crowd_main(void *argument)
{
    struct crowd *crowd = argument;
    unsigned number = crowd->started.count;
    unsigned char mark[512];

    memset(mark, (int)number, sizeof(mark));
    crowd->fibers[number] = fiber_current();
    harness_arrive(&crowd->started);
    CHECK(fiber_wait(DEADLINE_NEVER) == WAIT_READY);
    for (size_t i = 0; i < sizeof(mark); i++)
        CHECK(mark[i] == (unsigned char)number);
    crowd->woken++;
    harness_arrive(&crowd->ended);
}

static void scenario_crowd(void *argument)
{
    enum { COUNT = 3000 };
    struct crowd *crowd = calloc(1, sizeof(*crowd));
    unsigned after_first_round = 0;

    (void)argument;
    CHECK(crowd);
    for (unsigned round = 0; round < 2; round++) {
        memset(crowd, 0, sizeof(*crowd));
        for (unsigned i = 0; i < COUNT; i++)
            CHECK(fiber_start(crowd_main, crowd) == 0);
        harness_wait(&crowd->started, COUNT);
        CHECK(fiber_count() > COUNT);
        for (unsigned i = 0; i < COUNT; i++)
            fiber_wake(crowd->fibers[i]);
        harness_wait(&crowd->ended, COUNT);
        CHECK(crowd->woken == COUNT);
        /* The memory of those beyond the pool is given back, a turn of the loop later. */
        fiber_yield();
        fiber_yield();
        CHECK(fiber_count() < COUNT / 2);
        if (round == 0)
            after_first_round = fiber_count();
        else
            CHECK(fiber_count() == after_first_round);
    }
    free(crowd);
}

/* Thousands of idle connections are thousands of fibers; when they leave, their memory must come back. */
static void test_thousands(void **state)
{
    unsigned before = fiber_count();

    (void)state;
    harness_run(scenario_crowd, NULL);
    assert_int_equal(fiber_count(), before);
}

struct stack_place {
    struct harness_latch latch;
    uintptr_t address;
};

static void stack_place_main(void *argument)
{
    struct stack_place *place = argument;
    volatile char here = 0;

    place->address = (uintptr_t)&here;
    harness_arrive(&place->latch);
}

static void scenario_reuse(void *argument)
{
    struct stack_place place = {0};
    uintptr_t first;

    (void)argument;
    CHECK(fiber_start(stack_place_main, &place) == 0);
    harness_wait(&place.latch, 1);
    first = place.address;
    for (unsigned i = 2; i < 100; i++) {
        CHECK(fiber_start(stack_place_main, &place) == 0);
        harness_wait(&place.latch, i);
        CHECK(place.address == first || fiber_count() <= 3);
    }
    CHECK(fiber_count() <= 3);
}

/* One connection after the other must not cost a mapping each time. */
static void test_stacks_are_used_again(void **state)
{
    (void)state;
    harness_run(scenario_reuse, NULL);
}

static void scenario_count_max(void *argument)
{
    struct crowd *crowd = calloc(1, sizeof(*crowd));
    unsigned room = fiber_count_max() - fiber_count();

    (void)argument;
    CHECK(crowd && room == 5);
    for (unsigned i = 0; i < room; i++)
        CHECK(fiber_start(crowd_main, crowd) == 0);
    CHECK(fiber_start(crowd_main, crowd) == -EAGAIN);
    CHECK(fiber_start(crowd_main, crowd) == -EAGAIN);
    CHECK(fiber_count() == fiber_count_max());
    harness_wait(&crowd->started, room);
    fiber_wake(crowd->fibers[2]);
    harness_wait(&crowd->ended, 1);
    /* One has gone: one may come. */
    crowd->started.count = 2;
    CHECK(fiber_start(crowd_main, crowd) == 0);
    CHECK(fiber_start(crowd_main, crowd) == -EAGAIN);
    harness_wait(&crowd->started, 3);
    for (unsigned i = 0; i < room; i++)
        fiber_wake(crowd->fibers[i]);
    harness_wait(&crowd->ended, room + 1);
    free(crowd);
}

/* At the limit of the system's memory mappings a new client is told to come later, and the others go on. */
static void test_the_number_is_limited(void **state)
{
    (void)state;
    assert_true(fiber_count_max() > 1000);
    fiber_set_count_max(fiber_count() + 6);
    harness_run(scenario_count_max, NULL);
    fiber_set_count_max(0);
    assert_true(fiber_count_max() > 1000);
}

static void abandoned_main(void *argument)
{
    (void)argument;
    fiber_wait(DEADLINE_NEVER);
    CHECK(!"reached");
}

static void scenario_abandon(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < 10; i++)
        CHECK(fiber_start(abandoned_main, NULL) == 0);
    fiber_yield();
}

/* A loop that is stopped with fibers still waiting frees their stacks. */
static void test_abandoned_fibers_leave_no_stack(void **state)
{
    unsigned before = fiber_count();

    (void)state;
    harness_run(scenario_abandon, NULL);
    assert_int_equal(fiber_count(), before);
}

/* ---- what a switch preserves ---- */

struct rounding {
    struct harness_latch latch;
    int mode;
    double third;
};

/* Not inlined, and of what the compiler can't know, or it would divide once, and before the modes are set. */
static volatile double one = 1, three = 3;

static __attribute__((noinline)) double a_third(void)
{
    return one / three;
}

static void rounding_main(void *argument)
{
    struct rounding *rounding = argument;

    /* A new fiber rounds to nearest, whoever started it. */
    CHECK(fegetround() == FE_TONEAREST);
    CHECK(fesetround(rounding->mode) == 0);
    for (unsigned i = 0; i < 50; i++) {
        fiber_yield();
        CHECK(fegetround() == rounding->mode);
    }
    rounding->third = a_third();
    harness_arrive(&rounding->latch);
}

static void scenario_floating_point(void *argument)
{
    struct rounding up = {.mode = FE_UPWARD}, down = {.mode = FE_DOWNWARD};
    double third = a_third();

    (void)argument;
    CHECK(fiber_start(rounding_main, &up) == 0);
    CHECK(fiber_start(rounding_main, &down) == 0);
    harness_wait(&up.latch, 1);
    harness_wait(&down.latch, 1);
    CHECK(fegetround() == FE_TONEAREST);
    CHECK(down.third < up.third && (third == up.third || third == down.third));
}

/* A library that changes the rounding mode in one session must not change the results of another. */
static void test_floating_point_state_is_each_fibers_own(void **state)
{
    (void)state;
    harness_run(scenario_floating_point, NULL);
}

/* Frames of a KiB each, to nearly the end of the 64 KiB that a stack has. */
static __attribute__((noinline)) unsigned descend(unsigned depth)
{
    volatile unsigned char frame[1024];
    unsigned below = 0;

    memset((void *)(uintptr_t)frame, (int)depth, sizeof(frame));
    if (depth == 0)
        fiber_yield();
    else
        below = descend(depth - 1);
    for (size_t i = 0; i < sizeof(frame); i++)
        CHECK(frame[i] == (unsigned char)depth);
    return below + 1;
}

struct descent {
    struct harness_latch latch;
    unsigned depth;
};

static void descent_main(void *argument)
{
    struct descent *descent = argument;

    CHECK(descend(descent->depth) == descent->depth + 1);
    harness_arrive(&descent->latch);
}

static void scenario_deep(void *argument)
{
    struct descent descent = {.depth = 48};

    (void)argument;
    for (unsigned i = 0; i < 4; i++)
        CHECK(fiber_start(descent_main, &descent) == 0);
    harness_wait(&descent.latch, 4);
}

/* Parsers and the logger need tens of KiB at once: neighbours' stacks and the fiber's own structure must be out of reach. */
static void test_deep_calls_fit(void **state)
{
    (void)state;
    harness_run(scenario_deep, NULL);
}

static void trimmed_main(void *argument)
{
    struct harness_latch *latch = argument;
    volatile unsigned char kept[2048];

    memset((void *)(uintptr_t)kept, 0xa5, sizeof(kept));
    CHECK(descend(40) == 41);
    /* Longer than the time after which the unused part of a parked stack is given back. */
    CHECK(fiber_wait(loop_now_ms() + 2300) == WAIT_TIMEOUT);
    for (size_t i = 0; i < sizeof(kept); i++)
        CHECK(kept[i] == 0xa5);
    CHECK(descend(40) == 41);
    harness_arrive(latch);
}

static void scenario_trim(void *argument)
{
    struct harness_latch latch = {0};

    (void)argument;
    for (unsigned i = 0; i < 20; i++)
        CHECK(fiber_start(trimmed_main, &latch) == 0);
    harness_wait(&latch, 20);
}

/* What an idle connection's stack gives back to the system must be the part that nobody uses. */
static void test_a_long_wait_keeps_what_is_in_use(void **state)
{
    (void)state;
    harness_run(scenario_trim, NULL);
}

static void *thread_main(void *argument)
{
    (void)argument;
    CHECK(fiber_current() == NULL);
    return NULL;
}

static void test_there_is_no_fiber_elsewhere(void **state)
{
    pthread_t thread;

    (void)state;
    assert_null(fiber_current());
    assert_int_equal(pthread_create(&thread, NULL, thread_main, NULL), 0);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_wake_before_the_wait_is_not_lost),
        cmocka_unit_test(test_a_wake_during_a_yield_is_not_lost),
        cmocka_unit_test(test_a_deadline_passes),
        cmocka_unit_test(test_a_timer_left_over_serves_the_next_wait),
        cmocka_unit_test(test_cancel_and_clear),
        cmocka_unit_test(test_yield_lets_everything_else_run),
        cmocka_unit_test(test_thousands),
        cmocka_unit_test(test_stacks_are_used_again),
        cmocka_unit_test(test_the_number_is_limited),
        cmocka_unit_test(test_abandoned_fibers_leave_no_stack),
        cmocka_unit_test(test_floating_point_state_is_each_fibers_own),
        cmocka_unit_test(test_deep_calls_fit),
        cmocka_unit_test(test_a_long_wait_keeps_what_is_in_use),
        cmocka_unit_test(test_there_is_no_fiber_elsewhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
