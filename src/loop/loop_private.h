/* SPDX-License-Identifier: Apache-2.0 */
/* What loop.c and fiber.c share. */
#ifndef POSTERN_LOOP_LOOP_PRIVATE_H
#define POSTERN_LOOP_LOOP_PRIVATE_H

#include "base/list.h"
#include "loop/context.h"
#include "loop/loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#define LOOP_FREE_BLOCKS_MAX 256
#define LOOP_FREE_FIBERS_MAX 256

struct fiber;

struct loop {
    uv_loop_t uv;
    uv_async_t wakeup;
    char name[16];
    pthread_t thread;
    bool started;
    atomic_bool stopping;
    _Atomic(struct loop_task *) mailbox; /* last posted first */

    /* fiber.c's */
    struct context thread_context;
    struct fiber *running;
    struct list_link ready;       /* fibers that wait for their turn */
    struct list_link yielded;     /* those whose turn comes with the next turn of the loop */
    struct list_link fibers;      /* all that live */
    struct list_link free_fibers; /* ended, with stack and timer kept for the next */
    unsigned free_fiber_count;

    void *free_blocks; /* linked through their first word */
    unsigned free_block_count;
};

void fiber_loop_init(struct loop *loop);
/* Makes ready whoever has yielded. */
void fiber_resume_yielded(struct loop *loop);
/* Begins to close the timers of all fibers; frees them as they close. */
void fiber_loop_release(struct loop *loop);

#endif
