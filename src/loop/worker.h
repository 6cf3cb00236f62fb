/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker: a bounded pool of threads for what blocks: file writes, name lookups, password hashing.
 *
 * A job is reference counted, because its fiber may give up at the deadline while a thread still runs it: `destroy` runs when both
 * are done with it. So a job's memory comes from the heap, and what `run` touches belongs to the job.
 *
 *     struct resolve_job *job = mem_alloc(sizeof(*job));
 *     worker_job_init(&job->job, resolve_run, resolve_destroy);
 *     if (worker_run(pool, &job->job, deadline_ms) == WAIT_READY) use(job->result);
 *     worker_job_release(&job->job);
 */
#ifndef POSTERN_LOOP_WORKER_H
#define POSTERN_LOOP_WORKER_H

#include "base/error.h"
#include "base/list.h"
#include "loop/fiber.h"
#include "loop/loop.h"

#include <stdatomic.h>

struct worker_pool;

/* Jobs that wait for a thread; one more is refused. */
#define WORKER_QUEUE_MAX 65536

struct worker_job {
    void (*run)(struct worker_job *job);     /* on a worker thread */
    void (*destroy)(struct worker_job *job); /* on the loop that gave the job, once; frees it */
    /* the module's: */
    struct list_link link;
    struct loop_task task;
    struct loop *loop;
    struct fiber *fiber;
    atomic_int references;
    bool finished;
};

int worker_pool_create(struct worker_pool **pool, const char *name, unsigned thread_count, struct error *error);
/* Runs what waits, then ends the threads. */
void worker_pool_destroy(struct worker_pool **pool);

/* One reference, the caller's. */
void worker_job_init(struct worker_job *job, void (*run)(struct worker_job *), void (*destroy)(struct worker_job *));
void worker_job_release(struct worker_job *job);

/* From a fiber: runs the job on a worker thread and waits for it. WAIT_TIMEOUT also when too many jobs wait. Unless WAIT_READY, the job may
 * still run, and its fields must not be read. A cancelled fiber gets WAIT_CANCELLED. */
enum wait_result worker_run(struct worker_pool *pool, struct worker_job *job, uint64_t deadline_ms);

/* The same without waiting, from any code on a loop thread: takes over the caller's reference. false, and the job is destroyed unrun, if too many
 * jobs wait. */
bool worker_submit(struct worker_pool *pool, struct worker_job *job);

#endif
