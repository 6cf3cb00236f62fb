/* SPDX-License-Identifier: Apache-2.0 */
#include "delivery/body_copy.h"

#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>

#define COPY_BLOCK_BYTES (64u << 10)

/* All that the thread touches is the job's own, since the fiber may be cancelled while it runs. */
struct copy_job {
    struct worker_job job;
    struct spool *spool;
    spool_id id; /* of the body that is copied; 0: none */
    struct buf head, tail;
    struct buf content;           /* if it is short enough */
    struct spool_body_file *file; /* otherwise */
    uint64_t bytes;
    bool is_discarding;
    int result;
};

struct body_copy {
    struct delivery *delivery;
    struct copy_job *job;
};

/* ---- the thread ---- */

static int put(struct copy_job *copy, struct str data)
{
    if (data.length == 0)
        return 0;
    if (copy->file)
        return spool_body_file_append(copy->file, data.data, data.length);
    return buf_append_str(&copy->content, data) ? 0 : -EILSEQ; /* longer than it was said to be */
}

static int put_body(struct copy_job *copy, struct spool_reader *reader)
{
    char *block = mem_alloc(COPY_BLOCK_BYTES);
    uint64_t offset = 0;
    ssize_t count;
    int result = 0;

    while (result == 0 && (count = spool_reader_read(reader, block, COPY_BLOCK_BYTES, offset, false)) != 0) {
        result = count < 0 ? (int)count : put(copy, str_make(block, (size_t)count));
        offset += count > 0 ? (uint64_t)count : 0;
    }
    if (result == 0 && offset != spool_reader_body_bytes(reader))
        result = -EILSEQ;
    free(block);
    return result;
}

static int copy_all(struct copy_job *copy, struct spool_reader *reader)
{
    int result = 0;

    if (copy->bytes > SPOOL_INLINE_BODY_BYTES)
        result = spool_body_file_create(copy->spool, &copy->file);
    if (result == 0)
        result = put(copy, buf_str(&copy->head));
    if (result == 0 && reader)
        result = put_body(copy, reader);
    if (result == 0)
        result = put(copy, buf_str(&copy->tail));
    if (result == 0 && copy->file)
        result = spool_body_file_finish(copy->file);
    return result;
}

static void copy_run(struct worker_job *job)
{
    struct copy_job *copy = LIST_ENTRY(job, struct copy_job, job);
    struct spool_reader *reader = NULL;

    if (copy->is_discarding) {
        spool_body_file_discard(&copy->file);
        return;
    }
    if (copy->id != 0) {
        reader = spool_reader_open(copy->spool, copy->id);
        if (!reader) {
            copy->result = -ENOENT;
            return;
        }
    }
    copy->bytes = copy->head.length + copy->tail.length + (reader ? spool_reader_body_bytes(reader) : 0);
    copy->result = copy_all(copy, reader);
    if (reader)
        spool_reader_close(&reader);
    if (copy->result != 0 && copy->file)
        spool_body_file_discard(&copy->file);
}

static void copy_job_destroy(struct worker_job *job)
{
    struct copy_job *copy = LIST_ENTRY(job, struct copy_job, job);

    if (copy->file)
        spool_body_file_discard(&copy->file); /* after a cancel only: the process is ending */
    buf_release(&copy->head);
    buf_release(&copy->tail);
    buf_release(&copy->content);
    free(copy);
}

/* ---- the fiber ---- */

static struct copy_job *make_job(struct delivery *delivery)
{
    struct copy_job *job = mem_alloc(sizeof(*job));

    worker_job_init(&job->job, copy_run, copy_job_destroy);
    job->spool = delivery->options.spool;
    buf_init(&job->head, 0);
    buf_init(&job->tail, 0);
    buf_init(&job->content, SPOOL_INLINE_BODY_BYTES);
    return job;
}

static bool wait_for(struct delivery *delivery, struct copy_job *job)
{
    return worker_run(delivery->options.disk_pool, &job->job, loop_now_ms() + DELIVERY_DISK_TIMEOUT_MS) == WAIT_READY;
}

static void take_over(struct buf *into, struct buf *from)
{
    if (!from)
        return;
    *into = *from;
    buf_init(from, 0);
}

struct body_copy *body_copy_create(struct delivery *delivery, spool_id id, struct buf *head, struct buf *tail)
{
    struct body_copy *copy = mem_alloc(sizeof(*copy));

    copy->delivery = delivery;
    copy->job = make_job(delivery);
    copy->job->id = id;
    take_over(&copy->job->head, head);
    take_over(&copy->job->tail, tail);
    return copy;
}

int body_copy_run(struct body_copy *copy)
{
    struct copy_job *job = copy->job;

    if (job->id == 0 && job->head.length + job->tail.length <= SPOOL_INLINE_BODY_BYTES) {
        copy_run(&job->job); /* no disk is asked */
        return job->result;
    }
    /* What has not been waited for may still be running: it is not looked at again. */
    if (!wait_for(copy->delivery, job)) {
        worker_job_release(&job->job);
        copy->job = NULL;
        return -ETIMEDOUT;
    }
    return job->result;
}

uint64_t body_copy_bytes(const struct body_copy *copy)
{
    return copy->job->bytes;
}

bool body_copy_submit(struct body_copy *copy, struct spool_write *write)
{
    struct copy_job *job = copy->job;
    struct iovec part = {.iov_base = job->content.data, .iov_len = job->content.length};

    if (job->file) {
        write->body_file = job->file;
    } else {
        write->body = &part;
        write->body_part_count = 1;
    }
    if (delivery_spool_write(copy->delivery->options.spool, write) != SPOOL_DONE)
        return false;
    job->file = NULL;
    return true;
}

static void discard_file(struct body_copy *copy)
{
    struct copy_job *discard = make_job(copy->delivery);

    discard->is_discarding = true;
    discard->file = copy->job->file;
    copy->job->file = NULL;
    wait_for(copy->delivery, discard);
    worker_job_release(&discard->job);
}

void body_copy_destroy(struct body_copy **pointer)
{
    struct body_copy *copy = *pointer;

    if (!copy)
        return;
    *pointer = NULL;
    if (copy->job && copy->job->file)
        discard_file(copy);
    if (copy->job)
        worker_job_release(&copy->job->job);
    free(copy);
}
