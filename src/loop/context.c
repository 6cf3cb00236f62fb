/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/context.h"

#include "base/mem.h"

#include <stdint.h>
#include <string.h>

#ifdef CONTEXT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CONTEXT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__x86_64__) && !defined(CONTEXT_UCONTEXT)

/* context_x86_64.S */
void context_switch_stack(void **from_stack_pointer, void *to_stack_pointer);
void context_start(void);

static void machine_init(struct context *context, void (*entry)(void *), void *argument)
{
    uintptr_t top = ((uintptr_t)context->stack_low + context->stack_bytes) & ~(uintptr_t)15;
    uint64_t *frame = (uint64_t *)top - 8;
    const uint32_t mxcsr_default = 0x1f80;
    const uint32_t x87_control_default = 0x037f;

    frame[0] = mxcsr_default | (uint64_t)x87_control_default << 32;
    frame[1] = 0;                             /* r15 */
    frame[2] = 0;                             /* r14 */
    frame[3] = (uint64_t)(uintptr_t)argument; /* r13 */
    frame[4] = (uint64_t)(uintptr_t)entry;    /* r12 */
    frame[5] = 0;                             /* rbx */
    frame[6] = 0;                             /* rbp: ends a debugger's chain of frames */
    frame[7] = (uint64_t)(uintptr_t)context_start;
    context->stack_pointer = frame;
}

static void machine_switch(struct context *from, struct context *to)
{
    context_switch_stack(&from->stack_pointer, to->stack_pointer);
}

static void machine_init_thread(struct context *context)
{
    (void)context;
}

#else /* ucontext */

#include <ucontext.h>

struct machine {
    ucontext_t ucontext;
    void (*entry)(void *);
    void *argument;
};

static void machine_start(unsigned high, unsigned low)
{
    struct machine *machine = (struct machine *)(((uintptr_t)high << 16 << 16) | low);

    machine->entry(machine->argument);
    abort();
}

static void machine_init(struct context *context, void (*entry)(void *), void *argument)
{
    struct machine *machine = mem_alloc(sizeof(*machine));

    machine->entry = entry;
    machine->argument = argument;
    if (getcontext(&machine->ucontext) != 0)
        abort();
    machine->ucontext.uc_stack.ss_sp = context->stack_low;
    machine->ucontext.uc_stack.ss_size = context->stack_bytes;
    makecontext(&machine->ucontext, (void (*)(void))machine_start, 2, (unsigned)((uintptr_t)machine >> 16 >> 16),
                (unsigned)(uintptr_t)machine);
    context->machine = machine;
    /* Nothing is known of what is in use until the first switch. */
    context->stack_pointer = context->stack_low;
}

static void machine_switch(struct context *from, struct context *to)
{
    char here;

    from->stack_pointer = &here - 1024;
    if (swapcontext(&((struct machine *)from->machine)->ucontext, &((struct machine *)to->machine)->ucontext) != 0)
        abort();
}

static void machine_init_thread(struct context *context)
{
    context->machine = mem_alloc(sizeof(struct machine));
}

#endif

void context_init_thread(struct context *context)
{
    memset(context, 0, sizeof(*context));
    machine_init_thread(context);
#ifdef CONTEXT_TSAN
    context->tsan_fiber = __tsan_get_current_fiber();
#endif
}

void context_init(struct context *context, void *stack_low, size_t stack_bytes, void (*entry)(void *), void *argument)
{
    memset(context, 0, sizeof(*context));
    context->stack_low = stack_low;
    context->stack_bytes = stack_bytes;
#ifdef CONTEXT_ASAN
    /* The stack may have been another fiber's, which left it in the middle of a function. */
    __asan_unpoison_memory_region(stack_low, stack_bytes);
#endif
#ifdef CONTEXT_TSAN
    context->tsan_fiber = __tsan_create_fiber(0);
#endif
    machine_init(context, entry, argument);
}

void context_switch(struct context *from, struct context *to, bool ending)
{
#ifdef CONTEXT_ASAN
    __sanitizer_start_switch_fiber(ending ? NULL : &from->fake_stack, to->stack_low, to->stack_bytes);
#else
    (void)ending;
#endif
#ifdef CONTEXT_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
    machine_switch(from, to);
#ifdef CONTEXT_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

void context_entered(struct context *from)
{
#ifdef CONTEXT_ASAN
    const void *low = NULL;
    size_t bytes = 0;

    __sanitizer_finish_switch_fiber(NULL, &low, &bytes);
    /* The thread's own stack, learnt here: a thread does not know its bounds otherwise. */
    from->stack_low = (void *)(uintptr_t)low;
    from->stack_bytes = bytes;
#else
    (void)from;
#endif
}

void context_release(struct context *context)
{
#ifdef CONTEXT_TSAN
    if (context->stack_low)
        __tsan_destroy_fiber(context->tsan_fiber);
#endif
    free(context->machine);
    context->machine = NULL;
}
