/* SPDX-License-Identifier: Apache-2.0 */
/*
 * envelopes: with more messages than settings.memory_messages, the envelopes of those that will not be sent soon are on the disk alone, and are read
 * again each time that they are wanted: by the owner to route, to expire, to report (here); by a delivery fiber that takes the message (queue_take), and by a
 * reader of the queue (control.c), on their own loops. Once dropped an envelope does not come back to stay: what was too much to keep is not
 * likely to be less now.
 *
 *   envelopes_want ──> wanted ── turn ──> a job of some ids ──> a thread of the disk pool ──> item_fulfil, reporting_envelope
 */
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "queue/queue_private.h"

#include <errno.h>
#include <stdlib.h>

#define JOB_MESSAGES_MAX 64
/* Under way at a time: two, so that the disk has the next before it is through with the first. */
#define JOBS_MAX 2
/* Whoever can, waits when more are wanted. */
#define WANTED_MAX 4096

/* ---- jobs ---- */

static void run_job(struct worker_job *job)
{
    struct envelope_job *reading = LIST_ENTRY(job, struct envelope_job, job);

    for (size_t i = 0; i < reading->count; i++) {
        struct envelope_read *read = &reading->reads[i];

        read->error = spool_read_envelope(reading->queue->spool, read->id, &read->data, &read->length);
    }
}

static void free_job(struct worker_job *job)
{
    struct envelope_job *reading = LIST_ENTRY(job, struct envelope_job, job);

    for (size_t i = 0; i < reading->count; i++)
        free(reading->reads[i].data);
    free(reading);
}

static struct envelope_job *create_job(struct queue *queue, size_t count, void (*destroy)(struct worker_job *))
{
    struct envelope_job *reading = mem_alloc(sizeof(*reading) + count * sizeof(reading->reads[0]));

    worker_job_init(&reading->job, run_job, destroy);
    reading->queue = queue;
    reading->count = count;
    return reading;
}

enum wait_result envelopes_read(struct queue *queue, struct envelope_read *reads, size_t count, uint64_t deadline_ms)
{
    struct envelope_job *reading = create_job(queue, count, free_job);
    enum wait_result result;

    for (size_t i = 0; i < count; i++)
        reading->reads[i].id = reads[i].id;
    result = worker_run(queue->disk_pool, &reading->job, deadline_ms);
    for (size_t i = 0; i < count && result == WAIT_READY; i++) {
        reads[i] = reading->reads[i];
        reading->reads[i].data = NULL;
    }
    worker_job_release(&reading->job);
    return result;
}

/* ---- for the owner ---- */

void envelopes_want(struct queue *queue, struct message *message)
{
    struct envelope_reads *reads = &queue->reads;

    if (message->is_read)
        return;
    message->is_read = true;
    if (reads->wanted_count == reads->wanted_capacity) {
        reads->wanted_capacity = reads->wanted_capacity ? reads->wanted_capacity * 2 : JOB_MESSAGES_MAX;
        reads->wanted = mem_resize_array(reads->wanted, reads->wanted_capacity, sizeof(*reads->wanted));
    }
    reads->wanted[reads->wanted_count++] = message->id;
    queue_touch(queue);
}

static struct queue_item *find_wish(struct message *message)
{
    struct queue_item *item = message ? item_first(message) : NULL;

    while (item && item->wishes == 0)
        item = item_next(item);
    return item;
}

static void use(struct queue *queue, struct message *message, struct str data, const struct envelope *envelope)
{
    spool_id id = message->id;
    struct queue_item *item;

    /* Each may end the message. */
    while ((item = find_wish(message))) {
        item_fulfil(queue, item, envelope);
        message = message_table_find(&queue->messages, id);
    }
    if (message)
        reporting_envelope(queue, message, data);
}

static void do_without(struct queue *queue, struct message *message, int error)
{
    char id[MESSAGE_ID_TEXT_BYTES];
    struct queue_item *item;

    LOG_ERROR("queue-envelope-unreadable", log_str("id", message_id_format(message->id, id)),
              log_cstr("error", strerrordesc_np(error)));
    while ((item = find_wish(message))) {
        item->wishes = 0;
        queue_schedule_item(queue, item, clock_real_ms() + queue->delays.read_retry_ms);
    }
    reporting_no_envelope(queue, message);
}

static void take_in(struct queue *queue, const struct envelope_read *read)
{
    struct message *message = message_table_find(&queue->messages, read->id);
    struct str data = str_make(read->data, read->length);
    struct envelope envelope;
    struct arena arena;

    if (!message)
        return;
    message->is_read = false;
    if (!read->data) {
        do_without(queue, message, -read->error);
        return;
    }
    if (message_decode_data(message, data, &arena, &envelope))
        use(queue, message, data, &envelope);
    else
        do_without(queue, message, EILSEQ);
    arena_release(&arena);
}

/* On the owner's loop again; `finished` unless the pool took no more jobs. */
static void owner_job_done(struct worker_job *job)
{
    struct envelope_job *reading = LIST_ENTRY(job, struct envelope_job, job);
    struct queue *queue = reading->queue;

    queue->reads.jobs--;
    for (size_t i = 0; i < reading->count; i++) {
        if (!job->finished)
            reading->reads[i].error = -EAGAIN;
        take_in(queue, &reading->reads[i]);
        free(reading->reads[i].data);
    }
    free(reading);
    if (!envelopes_are_busy(queue))
        recovery_go_on(queue);
    queue_touch(queue);
}

static void submit_job(struct queue *queue)
{
    struct envelope_reads *reads = &queue->reads;
    size_t left = reads->wanted_count - reads->wanted_first;
    size_t count = left < JOB_MESSAGES_MAX ? left : JOB_MESSAGES_MAX;
    struct envelope_job *reading = create_job(queue, count, owner_job_done);

    for (size_t i = 0; i < count; i++)
        reading->reads[i].id = reads->wanted[reads->wanted_first++];
    if (reads->wanted_first == reads->wanted_count)
        reads->wanted_first = reads->wanted_count = 0;
    reads->jobs++;
    worker_submit(queue->disk_pool, &reading->job);
}

bool envelopes_are_busy(const struct queue *queue)
{
    return queue->reads.wanted_count - queue->reads.wanted_first > WANTED_MAX;
}

void envelopes_flush(struct queue *queue)
{
    struct envelope_reads *reads = &queue->reads;

    while (reads->jobs < JOBS_MAX && reads->wanted_first < reads->wanted_count && !queue->stopping)
        submit_job(queue);
}

void envelopes_release(struct queue *queue)
{
    mem_free(&queue->reads.wanted);
}

/* ---- sparing memory ---- */

static bool is_needed_soon(const struct message *message)
{
    const struct queue_item *item = &message->item;

    if (!message->item_used || message->recipients[item->first_recipient].state != RECIPIENT_READY)
        return message->item_used && item->entry.at_ms < loop_now_ms() + QUEUE_SOON_MS;
    return item->sender && item->destination->ready_count < QUEUE_SOON_ITEMS;
}

void envelopes_spare(struct queue *queue, struct message *message)
{
    uint64_t limit = queue->settings.memory_messages;

    if (!queue->disk_pool || limit == 0 || !message_has_envelope(message) || message->taken > 0 || message->failures ||
        atomic_load_explicit(&queue->counters.envelopes_in_memory, memory_order_relaxed) <= limit ||
        is_needed_soon(message))
        return;
    message = message_drop_envelope(message, &queue->retries);
    message_table_set(&queue->messages, message->id, message);
    counter_subtract(&queue->counters.envelopes_in_memory, 1);
}
