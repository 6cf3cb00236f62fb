/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/worker.h"

#include "base/mem.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

struct worker_pool {
    pthread_mutex_t mutex;
    pthread_cond_t wakeup;
    struct list_link jobs;
    unsigned job_count;
    unsigned idle_count;
    bool stopping;
    char name[16];
    unsigned thread_count;
    pthread_t threads[];
};

void worker_job_init(struct worker_job *job, void (*run)(struct worker_job *), void (*destroy)(struct worker_job *))
{
    job->run = run;
    job->destroy = destroy;
    atomic_init(&job->references, 1);
    list_init(&job->link);
}

void worker_job_release(struct worker_job *job)
{
    if (atomic_fetch_sub(&job->references, 1) == 1)
        job->destroy(job);
}

/* On the loop: the job's thread is done with it. */
static void job_finished(struct loop_task *task)
{
    struct worker_job *job = LIST_ENTRY(task, struct worker_job, task);

    job->finished = true;
    if (job->fiber)
        fiber_wake(job->fiber);
    worker_job_release(job);
}

static void *worker_main(void *argument)
{
    struct worker_pool *pool = argument;

    pthread_setname_np(pthread_self(), pool->name);
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        struct list_link *link = list_take_first(&pool->jobs);
        struct worker_job *job;

        if (!link) {
            if (pool->stopping)
                break;
            pool->idle_count++;
            pthread_cond_wait(&pool->wakeup, &pool->mutex);
            pool->idle_count--;
            continue;
        }
        pool->job_count--;
        pthread_mutex_unlock(&pool->mutex);
        job = LIST_ENTRY(link, struct worker_job, link);
        job->run(job);
        loop_post(job->loop, &job->task);
        pthread_mutex_lock(&pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

int worker_pool_create(struct worker_pool **out, const char *name, unsigned thread_count, struct error *error)
{
    struct worker_pool *pool = mem_alloc(sizeof(*pool) + thread_count * sizeof(pool->threads[0]));
    sigset_t all, before;
    int result = 0;

    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wakeup, NULL);
    list_init(&pool->jobs);
    snprintf(pool->name, sizeof(pool->name), "%s", name);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->thread_count < thread_count) {
        result = pthread_create(&pool->threads[pool->thread_count], NULL, worker_main, pool);
        if (result != 0)
            break;
        pool->thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result != 0) {
        worker_pool_destroy(&pool);
        return error_set_errno(error, result, "starting threads of pool %s", name);
    }
    *out = pool;
    return 0;
}

void worker_pool_destroy(struct worker_pool **pointer)
{
    struct worker_pool *pool = *pointer;

    if (!pool)
        return;
    *pointer = NULL;
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->wakeup);
    pthread_mutex_unlock(&pool->mutex);
    for (unsigned i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->wakeup);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

static bool pool_add(struct worker_pool *pool, struct worker_job *job)
{
    bool added = false;

    pthread_mutex_lock(&pool->mutex);
    if (pool->job_count < WORKER_QUEUE_MAX && !pool->stopping) {
        list_append(&pool->jobs, &job->link);
        pool->job_count++;
        added = true;
        if (pool->idle_count > 0)
            pthread_cond_signal(&pool->wakeup);
    }
    pthread_mutex_unlock(&pool->mutex);
    return added;
}

static void job_prepare(struct worker_job *job, struct fiber *fiber)
{
    job->task.run = job_finished;
    job->loop = loop_current();
    job->fiber = fiber;
    job->finished = false;
}

bool worker_submit(struct worker_pool *pool, struct worker_job *job)
{
    job_prepare(job, NULL);
    if (pool_add(pool, job))
        return true;
    worker_job_release(job);
    return false;
}

enum wait_result worker_run(struct worker_pool *pool, struct worker_job *job, uint64_t deadline_ms)
{
    enum wait_result result = WAIT_READY;

    job_prepare(job, fiber_current());
    atomic_fetch_add(&job->references, 1);
    if (!pool_add(pool, job)) {
        worker_job_release(job);
        return WAIT_TIMEOUT;
    }
    while (!job->finished) {
        result = fiber_wait(deadline_ms);
        if (result != WAIT_READY)
            break;
    }
    if (job->finished)
        return WAIT_READY;
    job->fiber = NULL; /* it may be gone when the thread is done */
    return result;
}
