/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer: results on their way to the spool. The results of one turn go in one write for each shard. What could not be written is written again
 * after a delay: the end of a message as it was; else whatever is then true of the message, since its results must not arrive in the
 * wrong order. A stopping queue tries once more, and then lets go: the spool has the message still, and it is tried again after the start.
 */
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "os/random.h"
#include "queue/queue_private.h"

#include <assert.h>

#define WRITE_RESULTS_MAX 64
/* Kept for the next ones: about as many as are in flight on a busy machine. */
#define WRITES_FREE_MAX 64
/* Of one write: more at a time have to wait for the next. */
#define WAITERS_MAX 4

struct result_write {
    struct spool_write write;
    struct queue *queue;
    struct result_write *next; /* completed, or free */
    struct writer_waiter *waiters[WAITERS_MAX];
    unsigned waiter_count;
    struct buf payloads;
    size_t starts[WRITE_RESULTS_MAX]; /* of each payload in `payloads`, which moves while it grows */
    struct spool_result results[WRITE_RESULTS_MAX];
};

static void on_completed(struct loop_task *task);

void writer_init(struct queue *queue)
{
    queue->writer.completed_task.run = on_completed;
    queue->writer.retry_at_ms = SCHEDULE_NEVER;
}

static void write_free(struct result_write *write)
{
    buf_release(&write->payloads);
    free(write);
}

void writer_release(struct queue *queue)
{
    struct writer *writer = &queue->writer;

    for (unsigned i = 0; i < SPOOL_SHARDS_MAX; i++) {
        if (writer->open[i])
            write_free(writer->open[i]);
    }
    while (writer->free) {
        struct result_write *next = writer->free->next;

        write_free(writer->free);
        writer->free = next;
    }
    mem_free(&writer->retries);
}

bool writer_is_idle(const struct queue *queue)
{
    return queue->writer.in_flight == 0 && queue->writer.open_count == 0;
}

/* ---- to the spool ---- */

static struct result_write *write_take(struct queue *queue)
{
    struct writer *writer = &queue->writer;
    struct result_write *write = writer->free;

    if (write) {
        writer->free = write->next;
        writer->free_count--;
        return write;
    }
    write = mem_alloc(sizeof(*write));
    write->queue = queue;
    buf_init(&write->payloads, SPOOL_RESULTS_BYTES_MAX);
    return write;
}

/* On the commit thread. One task for all that complete before the owner comes to look. */
static void write_done(struct spool_write *spool_write)
{
    struct result_write *write = LIST_ENTRY(spool_write, struct result_write, write);
    struct writer *writer = &write->queue->writer;
    struct loop *owner = write->queue->owner;
    struct result_write *first = atomic_load_explicit(&writer->completed, memory_order_relaxed);

    do
        write->next = first;
    while (!atomic_compare_exchange_weak_explicit(&writer->completed, &first, write, memory_order_acq_rel,
                                                  memory_order_relaxed));
    if (!first)
        loop_post(owner, &writer->completed_task);
}

static void submit(struct queue *queue, struct result_write *write)
{
    size_t count = write->write.result_count;

    for (size_t i = 0; i < count; i++) {
        size_t end = i + 1 < count ? write->starts[i + 1] : write->payloads.length;

        write->results[i].payload =
            str_take(str_skip(buf_str(&write->payloads), write->starts[i]), end - write->starts[i]);
    }
    write->write.results = write->results;
    queue->writer.in_flight++;
    spool_submit(queue->spool, &write->write);
}

static void flush_shard(struct queue *queue, unsigned shard)
{
    struct result_write *write = queue->writer.open[shard];

    if (!write)
        return;
    queue->writer.open[shard] = NULL;
    queue->writer.open_count--;
    submit(queue, write);
}

void writer_flush(struct queue *queue)
{
    for (unsigned shard = 0; queue->writer.open_count > 0 && shard < SPOOL_SHARDS_MAX; shard++)
        flush_shard(queue, shard);
}

/* The last one to have been added is nearly always the one that is there. */
static bool has_waiter(const struct result_write *write, const struct writer_waiter *waiter)
{
    return write->waiter_count > 0 && write->waiters[write->waiter_count - 1] == waiter;
}

static bool takes_record(const struct writer *writer, const struct result_write *write, struct str record)
{
    return write->payloads.length + record.length <= SPOOL_RESULTS_BYTES_MAX &&
           (!writer->watching || write->waiter_count < WAITERS_MAX || has_waiter(write, writer->watching));
}

static void add_waiter(const struct writer *writer, struct result_write *write)
{
    if (!writer->watching || has_waiter(write, writer->watching))
        return;
    write->waiters[write->waiter_count++] = writer->watching;
    writer->watching->pending++;
}

static void add(struct queue *queue, spool_id id, struct str record, bool dead)
{
    struct writer *writer = &queue->writer;
    unsigned shard = spool_shard_of(id) % SPOOL_SHARDS_MAX;
    struct result_write *write = writer->open[shard];
    size_t i;

    assert(record.length <= SPOOL_RESULT_BYTES_MAX);
    if (write && !takes_record(writer, write, record)) {
        flush_shard(queue, shard);
        write = NULL;
    }
    if (!write) {
        write = write_take(queue);
        write->write = (struct spool_write){.type = SPOOL_WRITE_RESULTS, .done = write_done};
        writer->open[shard] = write;
        writer->open_count++;
    }
    add_waiter(writer, write);
    i = write->write.result_count++;
    write->results[i] = (struct spool_result){.id = id, .dead = dead};
    write->starts[i] = write->payloads.length;
    buf_append_str(&write->payloads, record);
    if (write->write.result_count == WRITE_RESULTS_MAX)
        flush_shard(queue, shard);
    queue_touch(queue);
}

void writer_add_record(struct queue *queue, spool_id id, struct str record)
{
    add(queue, id, record, false);
}

void writer_add_end(struct queue *queue, spool_id id)
{
    add(queue, id, STR(""), true);
}

/* ---- who waits for it ---- */

static void release_waiter(struct writer_waiter *waiter)
{
    if (--waiter->pending == 0)
        waiter->done(waiter);
}

void writer_watch(struct queue *queue, struct writer_waiter *waiter)
{
    struct writer_waiter *before = queue->writer.watching;

    queue->writer.watching = waiter;
    if (waiter)
        waiter->pending = 1;
    if (before)
        release_waiter(before);
}

static void tell_waiters(struct result_write *write)
{
    bool failed = write->write.status != SPOOL_DONE;

    for (unsigned i = 0; i < write->waiter_count; i++) {
        write->waiters[i]->failed |= failed;
        release_waiter(write->waiters[i]);
    }
    write->waiter_count = 0;
}

/* ---- and back ---- */

static void remember(struct queue *queue, const struct spool_result *result)
{
    struct writer *writer = &queue->writer;
    struct message *message = message_table_find(&queue->messages, result->id);

    if (!result->dead) {
        /* Gone: its end is on the way, or has been reported with the last failures. Or it is remembered already. */
        if (!message || message->snapshot_wanted)
            return;
        message->snapshot_wanted = true;
    }
    if (writer->retry_count == writer->retry_capacity) {
        writer->retry_capacity = writer->retry_capacity ? writer->retry_capacity * 2 : 16;
        writer->retries = mem_resize_array(writer->retries, writer->retry_capacity, sizeof(*writer->retries));
    }
    writer->retries[writer->retry_count++] = (struct result_retry){result->id, result->dead};
    if (writer->retry_at_ms == SCHEDULE_NEVER)
        writer->retry_at_ms = loop_now_ms() + queue->delays.write_retry_ms;
}

static void write_failed(struct queue *queue, const struct result_write *write)
{
    /* One line for all that fails until the next try. */
    if (queue->writer.retry_at_ms == SCHEDULE_NEVER)
        LOG_WARNING("queue-results-not-written", log_u64("results", write->write.result_count),
                    log_cstr("why", write->write.status == SPOOL_FULL ? "no room" : "write error"),
                    log_bool("again", !queue->stopping));
    if (queue->stopping)
        return;
    for (size_t i = 0; i < write->write.result_count; i++)
        remember(queue, &write->results[i]);
}

static void recycle(struct queue *queue, struct result_write *write)
{
    struct writer *writer = &queue->writer;

    if (writer->free_count >= WRITES_FREE_MAX) {
        write_free(write);
        return;
    }
    /* A big record's memory is not kept. */
    if (write->payloads.capacity > 16384)
        buf_release(&write->payloads);
    buf_clear(&write->payloads);
    write->next = writer->free;
    writer->free = write;
    writer->free_count++;
}

static void on_completed(struct loop_task *task)
{
    struct queue *queue = LIST_ENTRY(task, struct queue, writer.completed_task);
    /* Released, too: whoever finds it empty posts this task again, and must not do so before the mailbox is through with it. */
    struct result_write *write = atomic_exchange_explicit(&queue->writer.completed, NULL, memory_order_acq_rel);

    while (write) {
        struct result_write *next = write->next;

        queue->writer.in_flight--;
        if (write->write.status != SPOOL_DONE)
            write_failed(queue, write);
        tell_waiters(write);
        recycle(queue, write);
        write = next;
    }
    queue_touch(queue);
}

/* When the next attempt is, is not known from here: the schedule's interval from now is near enough. */
static void add_snapshot(struct queue *queue, struct message *message)
{
    struct buf record;

    message->snapshot_wanted = false;
    buf_init(&record, SPOOL_RESULT_BYTES_MAX);
    record_append_hold(&record, queue, message);
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        uint64_t wait_ms = schedule_retry_ms(&queue->settings, message->recipients[i].attempts, random_u64());

        record_append_recipient(&record, queue, message, i, clock_real_ms() + (int64_t)wait_ms);
        if (record.length > SPOOL_RESULT_BYTES_MAX - 2 * RESULT_ENTRY_BYTES_MAX || i + 1 == message->recipient_count) {
            if (record.length > 0)
                writer_add_record(queue, message->id, buf_str(&record));
            buf_clear(&record);
        }
    }
    buf_release(&record);
}

void writer_retry(struct queue *queue)
{
    struct writer *writer = &queue->writer;
    struct result_retry *retries = writer->retries;
    size_t count = writer->retry_count;

    writer->retries = NULL;
    writer->retry_count = writer->retry_capacity = 0;
    writer->retry_at_ms = SCHEDULE_NEVER;
    for (size_t i = 0; i < count; i++) {
        struct message *message = retries[i].dead ? NULL : message_table_find(&queue->messages, retries[i].id);

        if (retries[i].dead)
            writer_add_end(queue, retries[i].id);
        else if (message)
            add_snapshot(queue, message);
    }
    free(retries);
}
