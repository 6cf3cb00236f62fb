/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

#include "base/mem.h"
#include "loop/loop_private.h"

#include <assert.h>
#include <sched.h>
#include <signal.h>

static _Thread_local struct loop *current_loop;

struct loop *loop_current(void)
{
    return current_loop;
}

uint64_t loop_now_ms(void)
{
    return uv_now(&current_loop->uv);
}

struct uv_loop_s *loop_uv(struct loop *loop)
{
    return &loop->uv;
}

/* ---- mailbox ---- */

static void mailbox_push(struct loop *loop, struct loop_task *task)
{
    struct loop_task *first = atomic_load_explicit(&loop->mailbox, memory_order_relaxed);

    do
        task->next = first;
    while (!atomic_compare_exchange_weak_explicit(&loop->mailbox, &first, task, memory_order_acq_rel,
                                                  memory_order_relaxed));
}

void loop_post(struct loop *loop, struct loop_task *task)
{
    mailbox_push(loop, task);
    /* Also where others wait already: they may have been posted quietly. libuv makes no second system call until the loop has seen the first. */
    uv_async_send(&loop->wakeup);
}

void loop_post_quiet(struct loop *loop, struct loop_task *task)
{
    mailbox_push(loop, task);
}

void loop_notify(struct loop *loop)
{
    if (atomic_load_explicit(&loop->mailbox, memory_order_relaxed))
        uv_async_send(&loop->wakeup);
}

static bool mailbox_run(struct loop *loop)
{
    struct loop_task *task = atomic_exchange_explicit(&loop->mailbox, NULL, memory_order_acquire);
    struct loop_task *in_order = NULL;

    if (!task)
        return false;
    while (task) {
        struct loop_task *next = task->next;

        task->next = in_order;
        in_order = task;
        task = next;
    }
    while (in_order) {
        struct loop_task *next = in_order->next; /* run may free it */

        in_order->run(in_order);
        in_order = next;
    }
    return true;
}

static void on_wakeup(uv_async_t *handle)
{
    struct loop *loop = handle->data;

    mailbox_run(loop);
    fiber_resume_yielded(loop);
    loop_run_ready(loop);
    if (atomic_load(&loop->stopping)) {
        while (mailbox_run(loop))
            loop_run_ready(loop);
        uv_stop(&loop->uv);
    }
}

/* ---- life ---- */

int loop_create(struct loop **out, const char *name, struct error *error)
{
    struct loop *loop = mem_alloc(sizeof(*loop));
    int result;

    snprintf(loop->name, sizeof(loop->name), "%s", name);
    result = uv_loop_init(&loop->uv);
    if (result < 0) {
        free(loop);
        return error_set(error, "event loop: %s", uv_strerror(result));
    }
    result = uv_async_init(&loop->uv, &loop->wakeup, on_wakeup);
    if (result < 0) {
        uv_loop_close(&loop->uv);
        free(loop);
        return error_set(error, "event loop: %s", uv_strerror(result));
    }
    loop->wakeup.data = loop;
    fiber_loop_init(loop);
    *out = loop;
    return 0;
}

static void *loop_main(void *argument)
{
    struct loop *loop = argument;
    const struct sched_param parameters = {0};

    current_loop = loop;
    pthread_setname_np(pthread_self(), loop->name);
    /* Fewer preemptions by wake-ups of others: a loop works in batches (docs/PERFORMANCE.md). Not essential, so failure is no error. */
    pthread_setschedparam(pthread_self(), SCHED_BATCH, &parameters);
    context_init_thread(&loop->thread_context);
    uv_update_time(&loop->uv);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    return NULL;
}

int loop_start(struct loop *loop, struct error *error)
{
    sigset_t all, before;
    int result;

    /* Signals belong to the main thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    result = pthread_create(&loop->thread, NULL, loop_main, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result != 0)
        return error_set_errno(error, result, "starting thread %s", loop->name);
    loop->started = true;
    return 0;
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stopping, true);
    uv_async_send(&loop->wakeup);
}

void loop_join(struct loop *loop)
{
    if (loop->started)
        pthread_join(loop->thread, NULL);
    loop->started = false;
}

static void timer_closed(uv_handle_t *handle)
{
    free(handle);
}

static void close_leftover(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void loop_destroy(struct loop **pointer)
{
    struct loop *loop = *pointer;

    if (!loop)
        return;
    *pointer = NULL;
    assert(!loop->started);
    fiber_loop_release(loop);
    uv_walk(&loop->uv, close_leftover, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
    while (loop->free_blocks) {
        void *next = *(void **)loop->free_blocks;

        free(loop->free_blocks);
        loop->free_blocks = next;
    }
    context_release(&loop->thread_context);
    free(loop);
}

/* ---- timers ---- */

static void on_timer(uv_timer_t *handle)
{
    struct loop_timer *timer = handle->data;

    timer->run(timer);
    loop_run_ready(current_loop);
}

void loop_timer_start(struct loop_timer *timer, uint64_t at_ms)
{
    uint64_t now_ms = loop_now_ms();
    uv_timer_t *handle = timer->private_state;

    if (!handle) {
        handle = mem_alloc(sizeof(*handle));
        uv_timer_init(&current_loop->uv, handle);
        handle->data = timer;
        timer->private_state = handle;
    }
    uv_timer_start(handle, on_timer, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

void loop_timer_stop(struct loop_timer *timer)
{
    uv_timer_t *handle = timer->private_state;

    if (!handle)
        return;
    timer->private_state = NULL;
    uv_timer_stop(handle);
    uv_close((uv_handle_t *)handle, timer_closed);
}

/* ---- blocks ---- */

void *loop_block_take(void)
{
    struct loop *loop = current_loop;
    void *block = loop->free_blocks;

    if (!block)
        return malloc(LOOP_BLOCK_BYTES) ?: mem_alloc(LOOP_BLOCK_BYTES);
    loop->free_blocks = *(void **)block;
    loop->free_block_count--;
    return block;
}

void loop_block_give(void *block)
{
    struct loop *loop = current_loop;

    if (loop->free_block_count >= LOOP_FREE_BLOCKS_MAX) {
        free(block);
        return;
    }
    *(void **)block = loop->free_blocks;
    loop->free_blocks = block;
    loop->free_block_count++;
}
