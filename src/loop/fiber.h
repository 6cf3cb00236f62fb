/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber: straight-line code that waits without blocking its loop. A fiber has a small stack of its own (FIBER_STACK_BYTES), lives on
 * one loop thread from start to end, and gives up the thread only in fiber_wait, always with a deadline. Everything that a fiber
 * shares with others may have changed after a wait.
 *
 * State:  READY --run--> RUNNING --fiber_wait--> PARKED --wake, cancel or deadline--> READY;  RUNNING --returns--> (pooled)
 *
 * All calls: on the loop's thread only. Another thread wakes a fiber by posting a task to its loop.
 */
#ifndef POSTERN_LOOP_FIBER_H
#define POSTERN_LOOP_FIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fiber;
struct loop;

enum wait_result {
    WAIT_READY,     /* woken; look at your condition again, wakes may be early */
    WAIT_TIMEOUT,   /* the deadline has passed */
    WAIT_CANCELLED, /* fiber_cancel; every further wait returns it at once */
};

/* For fiber_wait: only where something else is certain to wake or cancel. */
#define DEADLINE_NEVER UINT64_MAX

/* Starts `run(argument)` on the current loop, at the end of the current callback. -EAGAIN when the process has as many fibers as it
 * may have (fiber_set_count_max), or no memory for a stack. */
int fiber_start(void (*run)(void *argument), void *argument);

/* NULL outside of fibers. */
struct fiber *fiber_current(void);

/* Parks the current fiber. A wake that came since the last wait returns at once, so that none is lost. */
enum wait_result fiber_wait(uint64_t deadline_ms);
void fiber_wake(struct fiber *fiber);
void fiber_cancel(struct fiber *fiber);
bool fiber_is_cancelled(const struct fiber *fiber);
/* Lets the current fiber wait again after a cancel, to say goodbye to a peer. */
void fiber_clear_cancel(void);

/* Lets others run, sockets and timers too, then goes on: for long computations, and for a peer who never lets one wait. */
void fiber_yield(void);

/* Process-wide. The default follows vm.max_map_count, since a stack takes two memory mappings. Before loops start. */
void fiber_set_count_max(unsigned count);
unsigned fiber_count_max(void);
unsigned fiber_count(void);

#endif
