/* SPDX-License-Identifier: Apache-2.0 */
#include "delivery/body.h"

#include "base/mem.h"
#include "delivery/delivery_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One read that must wait for the disk. The reader is the job's while it runs: if the fiber is cancelled, the job closes it. */
struct read_job {
    struct worker_job job;
    struct spool_reader *reader;
    uint64_t offset;
    size_t length;
    ssize_t count;
    char data[];
};

static void read_run(struct worker_job *job)
{
    struct read_job *read = LIST_ENTRY(job, struct read_job, job);

    read->count = spool_reader_read(read->reader, read->data, read->length, read->offset, false);
}

static void read_destroy(struct worker_job *job)
{
    struct read_job *read = LIST_ENTRY(job, struct read_job, job);

    if (read->reader)
        spool_reader_close(&read->reader);
    free(read);
}

void delivery_body_init(struct delivery_body *body, struct spool *spool, struct worker_pool *pool, spool_id id)
{
    *body = (struct delivery_body){.spool = spool, .pool = pool, .id = id};
}

static ssize_t read_from_disk(struct delivery_body *body, void *data, size_t length)
{
    struct read_job *read = mem_alloc(sizeof(*read) + length);
    ssize_t count = -EIO;

    worker_job_init(&read->job, read_run, read_destroy);
    read->reader = body->reader;
    read->offset = body->offset;
    read->length = length;
    body->reader = NULL;
    if (worker_run(body->pool, &read->job, loop_now_ms() + DELIVERY_DISK_TIMEOUT_MS) == WAIT_READY) {
        body->reader = read->reader;
        read->reader = NULL;
        count = read->count;
        if (count > 0)
            memcpy(data, read->data, (size_t)count);
    }
    worker_job_release(&read->job);
    return count;
}

ssize_t delivery_body_read(struct delivery_body *body, void *data, size_t length)
{
    ssize_t count;

    if (!body->reader) {
        if (body->offset > 0)
            return -EIO; /* lost to a cancelled read */
        body->reader = spool_reader_open(body->spool, body->id);
        if (!body->reader)
            return -ENOENT;
    }
    count = spool_reader_read(body->reader, data, length, body->offset, true);
    if (count == -EAGAIN)
        count = read_from_disk(body, data, length);
    if (count > 0)
        body->offset += (uint64_t)count;
    return count;
}

void delivery_body_release(struct delivery_body *body)
{
    if (body->reader)
        spool_reader_close(&body->reader);
}
