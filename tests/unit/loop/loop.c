/* SPDX-License-Identifier: Apache-2.0 */
/* Loops talk by mailbox alone: a task lost or out of order is a reply that never goes out, or a queue with two truths. */
#include "loop/loop.h"

#include "base/list.h"
#include "harness.h"

#include <pthread.h>
#include <string.h>

/* ---- mailbox ---- */

struct numbered_task {
    struct loop_task task;
    struct recorder *recorder;
    unsigned poster, number;
};

#define POSTERS_MAX 8
#define TASKS_MAX   20000

struct recorder {
    struct loop *loop;
    unsigned count, count_max;  /* the loop stops at the latter */
    unsigned next[POSTERS_MAX]; /* each poster's tasks come in its order */
    bool in_order;
    struct numbered_task tasks[TASKS_MAX];
};

static void on_numbered(struct loop_task *task)
{
    struct numbered_task *numbered = LIST_ENTRY(task, struct numbered_task, task);
    struct recorder *recorder = numbered->recorder;

    CHECK(loop_current() == recorder->loop);
    recorder->in_order &= recorder->next[numbered->poster] == numbered->number;
    recorder->next[numbered->poster] = numbered->number + 1;
    if (++recorder->count == recorder->count_max)
        loop_stop(recorder->loop);
}

static struct recorder *recorder_create(unsigned count_max)
{
    struct recorder *recorder = calloc(1, sizeof(*recorder));

    assert_non_null(recorder);
    recorder->count_max = count_max;
    recorder->in_order = true;
    assert_int_equal(loop_create(&recorder->loop, "test", NULL), 0);
    return recorder;
}

static struct loop_task *recorder_task(struct recorder *recorder, unsigned index, unsigned poster, unsigned number)
{
    struct numbered_task *task = &recorder->tasks[index];

    *task =
        (struct numbered_task){.task = {.run = on_numbered}, .recorder = recorder, .poster = poster, .number = number};
    return &task->task;
}

static void recorder_end(struct recorder *recorder)
{
    loop_join(recorder->loop);
    assert_true(recorder->in_order);
    assert_int_equal(recorder->count, recorder->count_max);
    loop_destroy(&recorder->loop);
    assert_null(recorder->loop);
    free(recorder);
}

/* What is posted before the thread runs must not wait for the next post. */
static void test_tasks_run_in_order_of_posting(void **state)
{
    struct recorder *recorder = recorder_create(200);

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        loop_post(recorder->loop, recorder_task(recorder, i, 0, i));
    assert_int_equal(loop_start(recorder->loop, NULL), 0);
    for (unsigned i = 100; i < 200; i++)
        loop_post(recorder->loop, recorder_task(recorder, i, 0, i));
    recorder_end(recorder);
}

/* Commit threads post a batch quietly and notify once: sessions wait for that one. */
static void test_quiet_posts_run_after_one_notify(void **state)
{
    struct recorder *recorder = recorder_create(50);

    (void)state;
    assert_int_equal(loop_start(recorder->loop, NULL), 0);
    for (unsigned i = 0; i < 50; i++)
        loop_post_quiet(recorder->loop, recorder_task(recorder, i, 0, i));
    loop_notify(recorder->loop);
    recorder_end(recorder);
}

/* A post that finds a quiet one in the mailbox must still wake the loop: the quiet poster's notify may be long in coming. */
static void test_a_post_behind_a_quiet_one_wakes_the_loop(void **state)
{
    struct recorder *recorder = recorder_create(2);

    (void)state;
    assert_int_equal(loop_start(recorder->loop, NULL), 0);
    loop_post_quiet(recorder->loop, recorder_task(recorder, 0, 0, 0));
    loop_post(recorder->loop, recorder_task(recorder, 1, 0, 1));
    recorder_end(recorder);
}

struct poster {
    struct recorder *recorder;
    unsigned index, count;
    bool quiet;
};

static void *poster_main(void *argument)
{
    struct poster *poster = argument;

    for (unsigned i = 0; i < poster->count; i++) {
        struct loop_task *task = recorder_task(poster->recorder, poster->index * poster->count + i, poster->index, i);

        if (!poster->quiet) {
            loop_post(poster->recorder->loop, task);
            continue;
        }
        loop_post_quiet(poster->recorder->loop, task);
        if (i % 7 == 6 || i + 1 == poster->count)
            loop_notify(poster->recorder->loop);
    }
    return NULL;
}

/* Every core posts to every other's loop: nothing may get lost or overtake what the same thread posted before. */
static void test_many_threads_post(void **state)
{
    enum { COUNT = TASKS_MAX / POSTERS_MAX };
    struct recorder *recorder = recorder_create(TASKS_MAX);
    struct poster posters[POSTERS_MAX];
    pthread_t threads[POSTERS_MAX];

    (void)state;
    assert_int_equal(loop_start(recorder->loop, NULL), 0);
    for (unsigned i = 0; i < POSTERS_MAX; i++) {
        posters[i] = (struct poster){recorder, i, COUNT, i % 2 == 1};
        assert_int_equal(pthread_create(&threads[i], NULL, poster_main, &posters[i]), 0);
    }
    for (unsigned i = 0; i < POSTERS_MAX; i++)
        pthread_join(threads[i], NULL);
    recorder_end(recorder);
}

/* A stop must not drop what was handed over before it: it may be a message's result. */
static void test_stop_runs_what_is_left(void **state)
{
    struct recorder *recorder = recorder_create(10);

    (void)state;
    for (unsigned i = 0; i < 10; i++)
        loop_post_quiet(recorder->loop, recorder_task(recorder, i, 0, i));
    loop_stop(recorder->loop);
    assert_int_equal(loop_start(recorder->loop, NULL), 0);
    recorder_end(recorder);
}

struct chain {
    struct loop_task task;
    struct loop *loop;
    unsigned left;
};

static void on_chain(struct loop_task *task)
{
    struct chain *chain = LIST_ENTRY(task, struct chain, task);

    if (--chain->left > 0)
        loop_post(chain->loop, task);
}

/* ... nor what those tasks hand over in turn. */
static void test_stop_runs_what_tasks_post(void **state)
{
    struct chain chain = {.task = {.run = on_chain}, .left = 5};

    (void)state;
    assert_int_equal(loop_create(&chain.loop, "test", NULL), 0);
    loop_post(chain.loop, &chain.task);
    loop_stop(chain.loop);
    assert_int_equal(loop_start(chain.loop, NULL), 0);
    loop_join(chain.loop);
    assert_int_equal(chain.left, 0);
    loop_destroy(&chain.loop);
}

struct thread_name {
    struct loop_task task;
    struct loop *loop;
    char name[32];
};

static void on_thread_name(struct loop_task *task)
{
    struct thread_name *name = LIST_ENTRY(task, struct thread_name, task);

    CHECK(pthread_getname_np(pthread_self(), name->name, sizeof(name->name)) == 0);
    loop_stop(name->loop);
}

/* Who looks at a busy daemon with top must see which loop it is; and no loop may take a signal from the main thread. */
static void test_thread_has_the_name(void **state)
{
    struct thread_name name = {.task = {.run = on_thread_name}};

    (void)state;
    assert_int_equal(loop_create(&name.loop, "loop-with-a-long-name", NULL), 0);
    assert_int_equal(loop_start(name.loop, NULL), 0);
    loop_post(name.loop, &name.task);
    loop_join(name.loop);
    loop_destroy(&name.loop);
    assert_string_equal(name.name, "loop-with-a-lon");
}

/* A daemon whose start fails half way destroys loops that never ran. */
static void test_a_loop_that_never_ran(void **state)
{
    struct loop *loop;

    (void)state;
    assert_int_equal(loop_create(&loop, "test", NULL), 0);
    loop_join(loop);
    loop_destroy(&loop);
    assert_null(loop);
    loop_destroy(&loop);
    assert_null(loop_current());
}

/* ---- timers ---- */

struct timer_log {
    struct loop_timer timer;
    struct timer_log *other;
    struct harness_latch *latch;
    unsigned runs;
    uint64_t run_at_ms;
};

static void on_timer(struct loop_timer *timer)
{
    struct timer_log *log = LIST_ENTRY(timer, struct timer_log, timer);

    log->runs++;
    log->run_at_ms = loop_now_ms();
    harness_arrive(log->latch);
}

static void scenario_timers(void *argument)
{
    struct harness_latch latch = {0};
    struct timer_log soon = {.timer = {.run = on_timer}, .latch = &latch};
    struct timer_log late = soon, moved_up = soon, moved_back = soon, stopped = soon, past = soon;
    uint64_t now_ms = loop_now_ms();

    (void)argument;
    loop_timer_start(&late.timer, now_ms + 30);
    loop_timer_start(&soon.timer, now_ms + 10);
    loop_timer_start(&moved_up.timer, now_ms + HARNESS_PATIENCE_MS);
    loop_timer_start(&moved_up.timer, now_ms + 5);
    loop_timer_start(&moved_back.timer, now_ms + 1);
    loop_timer_start(&moved_back.timer, now_ms + 40);
    loop_timer_start(&stopped.timer, now_ms + 1);
    loop_timer_stop(&stopped.timer);
    loop_timer_start(&past.timer, 0);
    harness_wait(&latch, 5);
    CHECK(soon.runs == 1 && late.runs == 1 && moved_up.runs == 1 && moved_back.runs == 1 && past.runs == 1);
    CHECK(stopped.runs == 0);
    CHECK(soon.run_at_ms >= now_ms + 10 && late.run_at_ms >= now_ms + 30 && moved_back.run_at_ms >= now_ms + 40);
    CHECK(moved_up.run_at_ms < now_ms + HARNESS_PATIENCE_MS);
    /* One that has run, one that runs, one that never did. */
    loop_timer_start(&late.timer, now_ms + HARNESS_PATIENCE_MS);
    loop_timer_stop(&late.timer);
    loop_timer_stop(&late.timer);
    loop_timer_stop(&soon.timer);
    loop_timer_stop(&moved_up.timer);
    loop_timer_stop(&moved_back.timer);
    loop_timer_stop(&past.timer);
}

/* Retries hang on timers: one that comes early hammers a host that asked for patience, one that is lost forgets the mail. */
static void test_timers(void **state)
{
    (void)state;
    harness_run(scenario_timers, NULL);
}

static void on_timer_stop_other(struct loop_timer *timer)
{
    struct timer_log *log = LIST_ENTRY(timer, struct timer_log, timer);

    log->runs++;
    loop_timer_stop(&log->other->timer);
    loop_timer_stop(timer);
    harness_arrive(log->latch);
}

static void scenario_timer_frees_both(void *argument)
{
    struct harness_latch latch = {0};
    struct timer_log *one = calloc(1, sizeof(*one)), *two = calloc(1, sizeof(*two));
    uint64_t at_ms = loop_now_ms() + 2;

    (void)argument;
    CHECK(one && two);
    *one = (struct timer_log){.timer = {.run = on_timer_stop_other}, .other = two, .latch = &latch};
    *two = (struct timer_log){.timer = {.run = on_timer_stop_other}, .other = one, .latch = &latch};
    loop_timer_start(&one->timer, at_ms);
    loop_timer_start(&two->timer, at_ms);
    harness_wait(&latch, 1);
    CHECK(one->runs + two->runs == 1);
    free(one);
    free(two);
    fiber_yield(); /* the loop turns once without them */
}

/* An item's timer is stopped, and the item freed, in the callback of another that was due in the same turn. */
static void test_a_timer_stops_itself_and_another(void **state)
{
    (void)state;
    harness_run(scenario_timer_frees_both, NULL);
}

/* ---- blocks ---- */

static void scenario_blocks(void *argument)
{
    enum { COUNT = 600 };
    char *blocks[COUNT];

    (void)argument;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            blocks[i] = loop_block_take();
            memset(blocks[i], (int)i, LOOP_BLOCK_BYTES);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            CHECK(blocks[i][0] == (char)i && blocks[i][LOOP_BLOCK_BYTES - 1] == (char)i);
            loop_block_give(blocks[i]);
        }
    }
}

/* More than the free list keeps, again and again: buffers must be neither shared nor leaked (the sanitizer looks). */
static void test_blocks_are_not_shared(void **state)
{
    (void)state;
    harness_run(scenario_blocks, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tasks_run_in_order_of_posting),
        cmocka_unit_test(test_quiet_posts_run_after_one_notify),
        cmocka_unit_test(test_a_post_behind_a_quiet_one_wakes_the_loop),
        cmocka_unit_test(test_many_threads_post),
        cmocka_unit_test(test_stop_runs_what_is_left),
        cmocka_unit_test(test_stop_runs_what_tasks_post),
        cmocka_unit_test(test_thread_has_the_name),
        cmocka_unit_test(test_a_loop_that_never_ran),
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_a_timer_stops_itself_and_another),
        cmocka_unit_test(test_blocks_are_not_shared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
