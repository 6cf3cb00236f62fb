/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop: an event loop on a thread of its own (libuv underneath), its mailbox, and its timers. Whatever runs on a loop thread
 * never blocks; blocking work goes to worker.h. Other threads reach a loop only through loop_post.
 *
 * Calling sequence: loop_create, loop_start (spawns the thread), loop_post ..., loop_stop, loop_join, loop_destroy.
 * Fibers (fiber.h) run on a loop's thread.
 */
#ifndef POSTERN_LOOP_LOOP_H
#define POSTERN_LOOP_LOOP_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct uv_loop_s;

/* One item of a loop's mailbox. The poster owns the memory until `run` is called on the loop's thread. */
struct loop_task {
    void (*run)(struct loop_task *task);
    struct loop_task *next; /* the mailbox's */
};

/* A one-shot timer; embed it. Loop thread only. Zero-initialise before the first use. */
struct loop_timer {
    void (*run)(struct loop_timer *timer);
    void *private_state; /* the loop's own */
};

/* `name` (at most 15 bytes) names the thread. */
int loop_create(struct loop **loop, const char *name, struct error *error);
int loop_start(struct loop *loop, struct error *error);
/* Any thread: ends the thread once the current callbacks are through. What the mailbox holds by then is still run; what is posted later is not. */
void loop_stop(struct loop *loop);
void loop_join(struct loop *loop);
/* After the join. Fibers that still wait are abandoned: their stacks are freed, their cleanup does not run. */
void loop_destroy(struct loop **loop);

/* Any thread. Tasks run in order of posting. */
void loop_post(struct loop *loop, struct loop_task *task);
/* The same without waking the loop, for a batch: it waits until loop_notify, or until somebody else posts. */
void loop_post_quiet(struct loop *loop, struct loop_task *task);
void loop_notify(struct loop *loop);

/* The loop whose thread this is, or NULL. */
struct loop *loop_current(void);
/* Monotonic milliseconds as of this loop turn: no system call. Loop thread. */
uint64_t loop_now_ms(void);
/* libuv's own, for net/. */
struct uv_loop_s *loop_uv(struct loop *loop);
/* Ends each libuv callback of ours: runs the fibers that it woke. */
void loop_run_ready(struct loop *loop);

/* Loop thread. `run` is called once, at or soon after `at_ms` (monotonic); starting a running timer moves it. */
void loop_timer_start(struct loop_timer *timer, uint64_t at_ms);
/* Safe if it does not run, or never did. The memory may be freed after it. */
void loop_timer_stop(struct loop_timer *timer);

/* A free list of fixed blocks, for connection buffers: most are held for microseconds. Loop thread. */
#define LOOP_BLOCK_BYTES 16384
void *loop_block_take(void);
void loop_block_give(void *block);

#endif
