/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fiber's structure stands at the top of its own stack, so that an idle one keeps a single page in memory.
 *
 * Its timer is lazy: it stays armed from an earlier wait as long as it fires no later than needed, and arms itself again when it
 * fires too early. So a wait that ends soon, as nearly all do, touches no timer. The same firing finds fibers that have been parked for long, and gives
 * the unused part of their stacks back to the system.
 */
#include "loop/fiber.h"

#include "base/mem.h"
#include "loop/loop_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(CONTEXT_ASAN) || defined(CONTEXT_TSAN)
#define FIBER_STACK_BYTES (512u << 10)
#define FIBER_TRIM        0
#else
#define FIBER_STACK_BYTES (64u << 10)
#define FIBER_TRIM        1
#endif

/* Parked longer than this: the stack below the current frame is given back. */
#define FIBER_TRIM_AFTER_MS 2000

/* Memory mappings left to the rest of the process when the number of fibers follows vm.max_map_count. */
#define FIBER_OTHER_MAPPINGS 4096
#define FIBER_COUNT_DEFAULT  30000

enum fiber_state { FIBER_READY, FIBER_RUNNING, FIBER_PARKED, FIBER_ENDED };

struct fiber {
    struct context context;
    uv_timer_t timer;
    struct list_link member; /* of loop->fibers or loop->free_fibers */
    struct list_link turn;   /* of loop->ready */
    struct loop *loop;
    void (*run)(void *argument);
    void *argument;
    char *mapping;
    uint64_t deadline_ms;
    uint64_t parked_at_ms;
    uint64_t timer_at_ms; /* when the timer fires, if active */
    enum fiber_state state;
    bool woken; /* a wake came while it was running */
    bool timed_out;
    bool cancelled;
    bool trimmed; /* since it was parked */
};

static atomic_uint fiber_total;
static atomic_uint fiber_total_max;

static unsigned count_max_from_system(void)
{
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    unsigned long mappings = 0;

    if (file) {
        if (fscanf(file, "%lu", &mappings) != 1)
            mappings = 0;
        fclose(file);
    }
    if (mappings <= FIBER_OTHER_MAPPINGS * 2)
        return FIBER_COUNT_DEFAULT;
    /* The stack and its guard page. */
    mappings = (mappings - FIBER_OTHER_MAPPINGS) / 2;
    return mappings < UINT32_MAX ? (unsigned)mappings : UINT32_MAX;
}

void fiber_set_count_max(unsigned count)
{
    atomic_store(&fiber_total_max, count);
}

unsigned fiber_count_max(void)
{
    unsigned count_max = atomic_load_explicit(&fiber_total_max, memory_order_relaxed);

    if (count_max == 0) {
        count_max = count_max_from_system();
        atomic_store(&fiber_total_max, count_max);
    }
    return count_max;
}

unsigned fiber_count(void)
{
    return atomic_load(&fiber_total);
}

struct fiber *fiber_current(void)
{
    struct loop *loop = loop_current();

    return loop ? loop->running : NULL;
}

/* ---- stacks ---- */

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static struct fiber *fiber_map(struct loop *loop)
{
    size_t guard_bytes = page_bytes();
    char *mapping = mmap(NULL, guard_bytes + FIBER_STACK_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    uintptr_t top = (uintptr_t)mapping + guard_bytes + FIBER_STACK_BYTES;
    struct fiber *fiber;

    if (mapping == MAP_FAILED)
        return NULL;
    if (mprotect(mapping, guard_bytes, PROT_NONE) != 0) {
        munmap(mapping, guard_bytes + FIBER_STACK_BYTES);
        return NULL;
    }
    fiber = (struct fiber *)((top - sizeof(struct fiber)) & ~(uintptr_t)63);
    memset(fiber, 0, sizeof(*fiber));
    fiber->mapping = mapping;
    fiber->loop = loop;
    uv_timer_init(&loop->uv, &fiber->timer);
    fiber->timer.data = fiber;
    list_init(&fiber->member);
    list_init(&fiber->turn);
    return fiber;
}

static void fiber_unmap(uv_handle_t *handle)
{
    struct fiber *fiber = handle->data;

    munmap(fiber->mapping, page_bytes() + FIBER_STACK_BYTES);
    atomic_fetch_sub(&fiber_total, 1);
}

static void fiber_trim(struct fiber *fiber)
{
    uintptr_t low = (uintptr_t)fiber->mapping + page_bytes();
    uintptr_t used = (uintptr_t)fiber->context.stack_pointer & ~(uintptr_t)(page_bytes() - 1);

    fiber->trimmed = true;
    /* Below the stack pointer nothing is alive but the 128 bytes of the red zone, and a function that has called context_switch has none. */
    if (FIBER_TRIM && used > low)
        madvise((void *)low, used - low, MADV_DONTNEED);
}

/* ---- switching ---- */

static void make_ready(struct fiber *fiber)
{
    fiber->state = FIBER_READY;
    list_append(&fiber->loop->ready, &fiber->turn);
}

static void fiber_main(void *argument)
{
    struct fiber *fiber = argument;

    context_entered(&fiber->loop->thread_context);
    fiber->run(fiber->argument);
    fiber->state = FIBER_ENDED;
    context_switch(&fiber->context, &fiber->loop->thread_context, true);
}

static void fiber_retire(struct fiber *fiber)
{
    struct loop *loop = fiber->loop;

    context_release(&fiber->context);
    list_remove(&fiber->member);
    uv_timer_stop(&fiber->timer);
    if (loop->free_fiber_count >= LOOP_FREE_FIBERS_MAX) {
        uv_close((uv_handle_t *)&fiber->timer, fiber_unmap);
        return;
    }
    list_prepend(&loop->free_fibers, &fiber->member);
    loop->free_fiber_count++;
}

void loop_run_ready(struct loop *loop)
{
    struct list_link *link;

    if (loop->running)
        return; /* called back inside a fiber; the turn comes when it parks */
    while ((link = list_take_first(&loop->ready))) {
        struct fiber *fiber = LIST_ENTRY(link, struct fiber, turn);

        fiber->state = FIBER_RUNNING;
        loop->running = fiber;
        context_switch(&loop->thread_context, &fiber->context, false);
        loop->running = NULL;
        if (fiber->state == FIBER_ENDED)
            fiber_retire(fiber);
    }
}

static void arm_timer(struct fiber *fiber, uint64_t now_ms);

static void on_fiber_timer(uv_timer_t *handle)
{
    struct fiber *fiber = handle->data;
    uint64_t now_ms = uv_now(&fiber->loop->uv);

    if (fiber->state != FIBER_PARKED)
        return;
    if (fiber->deadline_ms <= now_ms) {
        fiber->timed_out = true;
        make_ready(fiber);
        loop_run_ready(fiber->loop);
        return;
    }
    if (!fiber->trimmed && now_ms - fiber->parked_at_ms >= FIBER_TRIM_AFTER_MS)
        fiber_trim(fiber);
    arm_timer(fiber, now_ms);
}

static void arm_timer(struct fiber *fiber, uint64_t now_ms)
{
    uint64_t at_ms = fiber->deadline_ms;

    if (!fiber->trimmed && at_ms > fiber->parked_at_ms + FIBER_TRIM_AFTER_MS)
        at_ms = fiber->parked_at_ms + FIBER_TRIM_AFTER_MS;
    if (at_ms == DEADLINE_NEVER)
        return;
    if (uv_is_active((uv_handle_t *)&fiber->timer) && fiber->timer_at_ms <= at_ms)
        return;
    fiber->timer_at_ms = at_ms;
    uv_timer_start(&fiber->timer, on_fiber_timer, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

enum wait_result fiber_wait(uint64_t deadline_ms)
{
    struct fiber *fiber = fiber_current();
    uint64_t now_ms = loop_now_ms();

    assert(fiber && fiber->state == FIBER_RUNNING);
    if (fiber->cancelled)
        return WAIT_CANCELLED;
    if (fiber->woken) {
        fiber->woken = false;
        return WAIT_READY;
    }
    if (deadline_ms <= now_ms)
        return WAIT_TIMEOUT;
    fiber->state = FIBER_PARKED;
    fiber->deadline_ms = deadline_ms;
    fiber->parked_at_ms = now_ms;
    fiber->timed_out = false;
    fiber->trimmed = false;
    arm_timer(fiber, now_ms);
    context_switch(&fiber->context, &fiber->loop->thread_context, false);
    fiber->woken = false;
    if (fiber->cancelled)
        return WAIT_CANCELLED;
    return fiber->timed_out ? WAIT_TIMEOUT : WAIT_READY;
}

void fiber_yield(void)
{
    struct fiber *fiber = fiber_current();

    assert(fiber && fiber->state == FIBER_RUNNING);
    /* Not to the ready list: the loop would come back to it before it has looked at sockets and timers. */
    fiber->state = FIBER_READY;
    list_append(&fiber->loop->yielded, &fiber->turn);
    uv_async_send(&fiber->loop->wakeup);
    context_switch(&fiber->context, &fiber->loop->thread_context, false);
}

void fiber_resume_yielded(struct loop *loop)
{
    struct list_link *link;

    while ((link = list_take_first(&loop->yielded)))
        list_append(&loop->ready, link);
}

/* ---- life ---- */

int fiber_start(void (*run)(void *argument), void *argument)
{
    struct loop *loop = loop_current();
    struct list_link *link = list_take_first(&loop->free_fibers);
    struct fiber *fiber;

    if (link) {
        fiber = LIST_ENTRY(link, struct fiber, member);
        loop->free_fiber_count--;
    } else {
        if (atomic_fetch_add(&fiber_total, 1) >= fiber_count_max() || !(fiber = fiber_map(loop))) {
            atomic_fetch_sub(&fiber_total, 1);
            return -EAGAIN;
        }
    }
    fiber->run = run;
    fiber->argument = argument;
    fiber->woken = false;
    fiber->cancelled = false;
    context_init(&fiber->context, fiber->mapping + page_bytes(),
                 (size_t)((char *)fiber - (fiber->mapping + page_bytes())), fiber_main, fiber);
    list_append(&loop->fibers, &fiber->member);
    make_ready(fiber);
    return 0;
}

void fiber_wake(struct fiber *fiber)
{
    if (fiber->state == FIBER_PARKED)
        make_ready(fiber);
    else
        fiber->woken = true; /* running, or on its way to: after fiber_yield it would be lost otherwise */
}

void fiber_cancel(struct fiber *fiber)
{
    fiber->cancelled = true;
    fiber_wake(fiber);
}

bool fiber_is_cancelled(const struct fiber *fiber)
{
    return fiber->cancelled;
}

void fiber_clear_cancel(void)
{
    fiber_current()->cancelled = false;
}

void fiber_loop_init(struct loop *loop)
{
    list_init(&loop->ready);
    list_init(&loop->yielded);
    list_init(&loop->fibers);
    list_init(&loop->free_fibers);
}

void fiber_loop_release(struct loop *loop)
{
    struct list_link *link;

    while ((link = list_take_first(&loop->free_fibers)) || (link = list_take_first(&loop->fibers))) {
        struct fiber *fiber = LIST_ENTRY(link, struct fiber, member);

        if (fiber->state != FIBER_ENDED)
            context_release(&fiber->context);
        uv_close((uv_handle_t *)&fiber->timer, fiber_unmap);
    }
}
