/* SPDX-License-Identifier: Apache-2.0 */
/*
 * context: the machine part of fibers, five functions. On x86-64 a switch of our own (context_x86_64.S), since ucontext makes a
 * system call at each switch to save a signal mask that is the same everywhere here; elsewhere ucontext. The sanitizers are told of
 * every switch.
 */
#ifndef POSTERN_LOOP_CONTEXT_H
#define POSTERN_LOOP_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

/* gcc says it with a macro, clang with a feature. */
#if defined(__SANITIZE_ADDRESS__)
#define CONTEXT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CONTEXT_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define CONTEXT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CONTEXT_TSAN 1
#endif
#endif

struct context {
    void *stack_pointer; /* while not running */
    void *stack_low;     /* what the sanitizers want to know */
    size_t stack_bytes;
    void *fake_stack;
    void *tsan_fiber;
    void *machine; /* ucontext_t, where that is used */
};

/* The context of the thread itself, to which fibers return. */
void context_init_thread(struct context *context);
/* A context that will run `entry(argument)` on the given stack; entry must never return. */
void context_init(struct context *context, void *stack_low, size_t stack_bytes, void (*entry)(void *), void *argument);
/* Leaves `from` for `to`; returns when something switches back. `ending`: `from` is never entered again. */
void context_switch(struct context *from, struct context *to, bool ending);
/* First thing on a new context: where it was entered from. */
void context_entered(struct context *from);
void context_release(struct context *context);

#endif
