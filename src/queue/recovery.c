/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recovery: the index from what the spool tells at start. Until the owner loop runs everything here is on the thread of spool_open; then
 * the owner starts the messages in slices, so that it serves new mail meanwhile.
 */
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "queue/queue_private.h"

/* When each recipient is due; 0 is at once. Only while recovering, and only for messages with deferred recipients. */
struct recovery {
    int64_t next_at_ms[1]; /* recipient_count of them */
};

static void tell(const char *event, spool_id id)
{
    char text[MESSAGE_ID_TEXT_BYTES];

    LOG_ERROR(event, log_str("id", message_id_format(id, text)));
}

void queue_recover_message(struct queue *queue, spool_id id, struct str envelope, uint64_t body_bytes)
{
    struct message *message = message_create(id, envelope, body_bytes);

    if (!message) {
        /* A later version's, or a defect: it stays in the spool. */
        tell("queue-envelope-unreadable", id);
        return;
    }
    if (!queue_index_message(queue, message))
        return;
    if (queue->recovered_count == queue->recovered_capacity) {
        queue->recovered_capacity = queue->recovered_capacity ? queue->recovered_capacity * 2 : 64;
        queue->recovered = mem_resize_array(queue->recovered, queue->recovered_capacity, sizeof(struct message *));
    }
    queue->recovered[queue->recovered_count++] = message;
}

static void apply_waiting(struct queue *queue, struct message *message, const struct result_entry *entry)
{
    uint32_t index = (uint32_t)entry->recipient;
    struct recipient *recipient = &message->recipients[index];

    recipient->attempts = entry->attempts < RECIPIENT_ATTEMPTS_MAX ? (uint8_t)entry->attempts : RECIPIENT_ATTEMPTS_MAX;
    reason_release(&queue->reasons, &recipient->reason);
    recipient->reason = reason_take(&queue->reasons, entry->status, entry->remote, entry->text);
    recipient_set_tried(message, index);
    if (!message->recovery)
        message->recovery = mem_alloc_array(message->recipient_count, sizeof(message->recovery->next_at_ms[0]));
    message->recovery->next_at_ms[index] = entry->next_at_ms;
}

static void apply(struct queue *queue, struct message *message, const struct result_entry *entry)
{
    uint32_t index = (uint32_t)entry->recipient;

    if (message->recipients[index].state != RECIPIENT_WAITING)
        return;
    if (entry->state == RESULT_WAITING) {
        apply_waiting(queue, message, entry);
        return;
    }
    recipient_set_tried(message, index);
    recipient_set_state(queue, message, index,
                        entry->state == RESULT_DELIVERED ? RECIPIENT_DELIVERED : RECIPIENT_REPORTED);
}

void queue_recover_result(struct queue *queue, spool_id id, struct str payload)
{
    struct message *message = message_table_find(&queue->messages, id);
    struct result_entry entry;
    struct str rest;
    int found;

    if (!message || payload.length == 0)
        return;
    /* What can't be read is as if it had not happened: a recipient too many is tried, never one too few. */
    found = result_open(payload, &rest) ? result_next(&rest, &entry) : -1;
    while (found > 0 && entry.recipient < message->recipient_count) {
        apply(queue, message, &entry);
        found = result_next(&rest, &entry);
    }
    if (found != 0)
        tell("queue-result-unreadable", id);
}

/* A clock that was set back must not make mail wait for days. */
static int64_t bounded_next_at_ms(const struct queue *queue, int64_t next_at_ms, int64_t now_at_ms)
{
    int64_t wait_ms_max = 0;

    for (unsigned i = 0; i < queue->settings.retry_count; i++) {
        if (queue->settings.retry_ms[i] > wait_ms_max)
            wait_ms_max = queue->settings.retry_ms[i];
    }
    wait_ms_max += wait_ms_max / 10;
    return next_at_ms - now_at_ms > wait_ms_max ? now_at_ms + wait_ms_max : next_at_ms;
}

struct start {
    struct queue *queue;
    struct message *message;
    struct queue_item *waiting; /* the item that is being filled, or NULL */
    uint32_t last_waiting;
    int64_t waiting_at_ms;
    uint32_t first_now, last_now; /* the chain to be routed now */
};

static void start_waiting(struct start *start, uint32_t recipient, int64_t at_ms)
{
    /* What was deferred together is due together, and goes on as one item. */
    if (!start->waiting || start->waiting_at_ms != at_ms) {
        start->waiting = item_create(start->message);
        start->waiting_at_ms = at_ms;
        queue_schedule_item(start->queue, start->waiting, at_ms);
    }
    item_add_recipient(start->waiting, &start->last_waiting, recipient);
}

static void start_now(struct start *start, uint32_t recipient)
{
    struct recipient *recipients = start->message->recipients;

    recipients[recipient].next = RECIPIENT_NONE;
    if (start->first_now == RECIPIENT_NONE)
        start->first_now = recipient;
    else
        recipients[start->last_now].next = recipient;
    start->last_now = recipient;
}

static void start_message(struct queue *queue, struct message *message, int64_t now_at_ms)
{
    struct recovery *recovery = message->recovery;
    struct start start = {.queue = queue, .message = message, .first_now = RECIPIENT_NONE};

    message->recovery = NULL;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        int64_t next_at_ms = recovery ? recovery->next_at_ms[i] : 0;

        if (message->recipients[i].state != RECIPIENT_WAITING)
            continue;
        if (next_at_ms > now_at_ms)
            start_waiting(&start, i, bounded_next_at_ms(queue, next_at_ms, now_at_ms));
        else
            start_now(&start, i);
    }
    free(recovery);
    if (message->unsettled == 0)
        queue_end_message(queue, message, true);
    else if (start.first_now != RECIPIENT_NONE)
        route_recipients(queue, message, start.first_now);
}

void recovery_release(struct queue *queue)
{
    for (size_t i = queue->recovered_next; i < queue->recovered_count; i++)
        mem_free(&queue->recovered[i]->recovery);
    mem_free(&queue->recovered);
    queue->recovered_count = queue->recovered_capacity = queue->recovered_next = 0;
}

static void on_recovery(struct loop_task *task)
{
    struct queue *queue = LIST_ENTRY(task, struct queue, recovery_task);
    int64_t now_at_ms = clock_real_ms();

    queue_touch(queue);
    for (int i = 0; i < QUEUE_SLICE_ITEMS && queue->recovered_next < queue->recovered_count && !queue->stopping; i++)
        start_message(queue, queue->recovered[queue->recovered_next++], now_at_ms);
    if (queue->recovered_next < queue->recovered_count && !queue->stopping)
        loop_post(queue->owner, &queue->recovery_task);
    else
        recovery_release(queue);
}

void queue_recovery_done(struct queue *queue)
{
    queue->recovery_task.run = on_recovery;
    loop_post(queue->owner, &queue->recovery_task);
}
