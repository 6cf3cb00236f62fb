/* SPDX-License-Identifier: Apache-2.0 */
/* Blocking work goes to these threads; a job that is freed while a thread still writes to it corrupts somebody else's memory. */
#include "loop/worker.h"

#include "harness.h"

#include <pthread.h>

/* A job that its test lets go on. The gate outlives it. */
struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned begun, ended, destroyed;
    bool is_open;
    pthread_t loop_thread;
};

#define GATE                                                                                                           \
    {                                                                                                                  \
        .mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER                                        \
    }

struct gated_job {
    struct worker_job job;
    struct gate *gate;
    int value;
};

static void gated_run(struct worker_job *job)
{
    struct gated_job *gated = LIST_ENTRY(job, struct gated_job, job);
    struct gate *gate = gated->gate;

    pthread_mutex_lock(&gate->mutex);
    CHECK(!pthread_equal(pthread_self(), gate->loop_thread));
    gate->begun++;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->is_open)
        pthread_cond_wait(&gate->changed, &gate->mutex);
    gated->value *= 2;
    gate->ended++;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

static void gated_destroy(struct worker_job *job)
{
    struct gated_job *gated = LIST_ENTRY(job, struct gated_job, job);

    CHECK(pthread_equal(pthread_self(), gated->gate->loop_thread));
    gated->gate->destroyed++;
    free(gated);
}

static struct gated_job *gated_job(struct gate *gate, int value)
{
    struct gated_job *gated = calloc(1, sizeof(*gated));

    CHECK(gated);
    pthread_mutex_lock(&gate->mutex); /* others may be under way */
    gate->loop_thread = pthread_self();
    pthread_mutex_unlock(&gate->mutex);
    worker_job_init(&gated->job, gated_run, gated_destroy);
    gated->gate = gate;
    gated->value = value;
    return gated;
}

static void gate_open(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    gate->is_open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

static void gate_await_begun(struct gate *gate, unsigned count)
{
    pthread_mutex_lock(&gate->mutex);
    while (gate->begun < count)
        pthread_cond_wait(&gate->changed, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
}

/* Lets the loop turn until the job's memory is gone. */
static void await_destroyed(const struct gate *gate, unsigned count)
{
    while (gate->destroyed < count)
        fiber_yield();
}

static struct worker_pool *pool_create(unsigned thread_count)
{
    struct worker_pool *pool = NULL;

    CHECK(worker_pool_create(&pool, "test", thread_count, NULL) == 0);
    return pool;
}

static void scenario_run(void *argument)
{
    struct worker_pool *pool = pool_create(2);
    struct gate gate = GATE;

    (void)argument;
    gate.is_open = true;
    for (unsigned i = 1; i <= 100; i++) {
        struct gated_job *gated = gated_job(&gate, (int)i);

        CHECK(worker_run(pool, &gated->job, harness_deadline()) == WAIT_READY);
        CHECK(gated->value == (int)i * 2);
        CHECK(gate.destroyed == i - 1);
        worker_job_release(&gated->job);
        CHECK(gate.destroyed == i);
    }
    worker_pool_destroy(&pool);
    CHECK(pool == NULL);
    worker_pool_destroy(&pool);
}

static void test_a_job_runs_and_its_result_is_there(void **state)
{
    (void)state;
    harness_run(scenario_run, NULL);
}

static void scenario_timeout(void *argument)
{
    struct worker_pool *pool = pool_create(1);
    struct gate gate = GATE;
    struct gated_job *gated = gated_job(&gate, 1);

    (void)argument;
    CHECK(worker_run(pool, &gated->job, loop_now_ms() + 5) == WAIT_TIMEOUT);
    worker_job_release(&gated->job);
    CHECK(gate.destroyed == 0); /* a thread is in it */
    gate_open(&gate);
    await_destroyed(&gate, 1);
    worker_pool_destroy(&pool);
    CHECK(gate.destroyed == 1 && gate.ended == 1);
}

/* A disk that hangs: the session gives up, the thread still writes into the job. Freed then, and once. */
static void test_a_job_outlives_its_deadline(void **state)
{
    (void)state;
    harness_run(scenario_timeout, NULL);
}

struct cancelled {
    struct worker_pool *pool;
    struct gate gate;
    struct fiber *fiber;
    struct harness_latch latch;
};

static void cancelled_main(void *argument)
{
    struct cancelled *cancelled = argument;
    struct gated_job *gated = gated_job(&cancelled->gate, 1);

    cancelled->fiber = fiber_current();
    CHECK(worker_run(cancelled->pool, &gated->job, harness_deadline()) == WAIT_CANCELLED);
    worker_job_release(&gated->job);
    harness_arrive(&cancelled->latch);
}

static void scenario_cancelled(void *argument)
{
    struct cancelled cancelled = {.pool = pool_create(1), .gate = GATE};

    (void)argument;
    CHECK(fiber_start(cancelled_main, &cancelled) == 0);
    fiber_yield();
    gate_await_begun(&cancelled.gate, 1);
    fiber_cancel(cancelled.fiber);
    harness_wait(&cancelled.latch, 1);
    CHECK(cancelled.gate.destroyed == 0);
    /* The fiber is gone, and its stack is somebody else's, when the job comes back. */
    gate_open(&cancelled.gate);
    await_destroyed(&cancelled.gate, 1);
    worker_pool_destroy(&cancelled.pool);
}

static void test_a_cancelled_fiber_leaves_its_job(void **state)
{
    (void)state;
    harness_run(scenario_cancelled, NULL);
}

static void scenario_submit(void *argument)
{
    struct worker_pool *pool = pool_create(3);
    struct gate gate = GATE;

    (void)argument;
    for (unsigned i = 0; i < 200; i++)
        CHECK(worker_submit(pool, &gated_job(&gate, 1)->job));
    gate_await_begun(&gate, 3); /* the others wait for a thread */
    gate_open(&gate);
    await_destroyed(&gate, 200);
    worker_pool_destroy(&pool);
    CHECK(gate.ended == 200);
}

static void test_jobs_without_a_waiter(void **state)
{
    (void)state;
    harness_run(scenario_submit, NULL);
}

static void scenario_queue_is_bounded(void *argument)
{
    struct worker_pool *pool = pool_create(1);
    struct gate gate = GATE;
    struct gated_job *refused;

    (void)argument;
    CHECK(worker_submit(pool, &gated_job(&gate, 1)->job));
    gate_await_begun(&gate, 1);
    for (unsigned i = 0; i < WORKER_QUEUE_MAX; i++)
        CHECK(worker_submit(pool, &gated_job(&gate, 1)->job));
    CHECK(!worker_submit(pool, &gated_job(&gate, 1)->job));
    CHECK(gate.destroyed == 1);
    refused = gated_job(&gate, 7);
    CHECK(worker_run(pool, &refused->job, harness_deadline()) == WAIT_TIMEOUT);
    CHECK(gate.destroyed == 1 && refused->value == 7);
    worker_job_release(&refused->job);
    CHECK(gate.destroyed == 2);
    gate_open(&gate);
    await_destroyed(&gate, WORKER_QUEUE_MAX + 3);
    CHECK(gate.ended == WORKER_QUEUE_MAX + 1);
    worker_pool_destroy(&pool);
}

/* A disk that stands still must not fill the memory with jobs. */
static void test_the_queue_is_bounded(void **state)
{
    (void)state;
    harness_run(scenario_queue_is_bounded, NULL);
}

static void *open_gate_main(void *argument)
{
    gate_open(argument);
    return NULL;
}

static void scenario_destroy(void *argument)
{
    struct worker_pool *pool = pool_create(2);
    struct gate gate = GATE;
    pthread_t opener;

    (void)argument;
    for (unsigned i = 0; i < 20; i++)
        CHECK(worker_submit(pool, &gated_job(&gate, 1)->job));
    gate_await_begun(&gate, 2);
    CHECK(pthread_create(&opener, NULL, open_gate_main, &gate) == 0);
    worker_pool_destroy(&pool); /* blocks, as only the main thread may */
    pthread_join(opener, NULL);
    CHECK(gate.ended == 20);
    await_destroyed(&gate, 20);
}

/* The end of the daemon: a message that was handed to a disk thread is written. */
static void test_destroying_the_pool_runs_what_waits(void **state)
{
    (void)state;
    harness_run(scenario_destroy, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_job_runs_and_its_result_is_there),
        cmocka_unit_test(test_a_job_outlives_its_deadline),
        cmocka_unit_test(test_a_cancelled_fiber_leaves_its_job),
        cmocka_unit_test(test_jobs_without_a_waiter),
        cmocka_unit_test(test_the_queue_is_bounded),
        cmocka_unit_test(test_destroying_the_pool_runs_what_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
