/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recovery: the index from what the spool tells at start. Until the owner loop runs everything here is on the thread of spool_open; then
 * the owner starts the messages in slices, so that it serves new mail meanwhile.
 */
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "queue/queue_private.h"

/* What can only be made good once the owner runs. Only while recovering, and only for messages with such recipients. */
struct recovery {
    struct recovered_recipient {
        enum { RECOVERED_WAITING, RECOVERED_FAILED, RECOVERED_UNTOLD } what;
        enum queue_report_kind kind; /* of FAILED and UNTOLD */
        int64_t at_ms;               /* the next attempt, 0 is at once; else when it happened */
    } recipients[1];                 /* recipient_count of them */
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
    message->is_unstarted = true;
    if (queue->recovered_count == queue->recovered_capacity) {
        queue->recovered_capacity = queue->recovered_capacity ? queue->recovered_capacity * 2 : 64;
        queue->recovered = mem_resize_array(queue->recovered, queue->recovered_capacity, sizeof(*queue->recovered));
    }
    queue->recovered[queue->recovered_count++] = id;
    envelopes_spare(queue, message);
}

static void remember(struct message *message, uint32_t index, struct recovered_recipient recovered)
{
    if (!message->recovery)
        message->recovery = mem_alloc_array(message->recipient_count, sizeof(message->recovery->recipients[0]));
    message->recovery->recipients[index] = recovered;
}

static void set_reason(struct queue *queue, struct recipient *recipient, const struct result_entry *entry)
{
    reason_release_number(&queue->reasons, &recipient->reason);
    recipient->reason = reason_number(reason_take(&queue->reasons, entry->status, entry->remote, entry->text));
}

static void apply_recipient(struct queue *queue, struct message *message, const struct result_entry *entry)
{
    uint32_t index = (uint32_t)entry->recipient;
    struct recipient *recipient = &message->recipients[index];

    switch (entry->state) {
    case RESULT_WAITING:
        recipient->attempts = entry->number < RECIPIENT_ATTEMPTS_MAX ? (uint8_t)entry->number : RECIPIENT_ATTEMPTS_MAX;
        set_reason(queue, recipient, entry);
        remember(message, index, (struct recovered_recipient){.what = RECOVERED_WAITING, .at_ms = entry->at_ms});
        break;
    case RESULT_FAILED:
        set_reason(queue, recipient, entry);
        remember(message, index, (struct recovered_recipient){RECOVERED_FAILED, QUEUE_REPORT_FAILED, entry->at_ms});
        break;
    case RESULT_UNTOLD:
        set_reason(queue, recipient, entry);
        remember(message, index,
                 (struct recovered_recipient){RECOVERED_UNTOLD, queue_report_kind_of((enum queue_success)entry->number),
                                              entry->at_ms});
        break;
    case RESULT_DELIVERED:
        recipient_set_state(queue, message, index, RECIPIENT_DELIVERED);
        break;
    case RESULT_REPORTED:
        recipient_set_state(queue, message, index, RECIPIENT_REPORTED);
        break;
    case RESULT_DELETED:
        recipient_set_state(queue, message, index, RECIPIENT_DELETED);
        break;
    case RESULT_DELAY_TOLD:
    case RESULT_HELD:
    case RESULT_RELEASED:
        break;
    }
    recipient_set_tried(message, index);
}

static void release(struct queue *queue, struct message *message)
{
    if (message->hold)
        counter_subtract(&queue->counters.messages_held, 1);
    reason_release_number(&queue->reasons, &message->hold);
    message->was_held = true;
}

static void apply(struct queue *queue, struct message *message, const struct result_entry *entry)
{
    switch (entry->state) {
    case RESULT_HELD:
        hold_set(queue, message, entry->text, entry->at_ms, entry->number != 0);
        break;
    case RESULT_RELEASED:
        release(queue, message);
        break;
    case RESULT_DELAY_TOLD:
        message->recipients[entry->recipient].is_delay_told = true;
        break;
    case RESULT_DELIVERED:
    case RESULT_WAITING:
    case RESULT_REPORTED:
    case RESULT_DELETED:
    case RESULT_FAILED:
    case RESULT_UNTOLD:
        if (message->recipients[entry->recipient].state == RECIPIENT_WAITING)
            apply_recipient(queue, message, entry);
        break;
    }
}

void queue_recover_result(struct queue *queue, spool_id id, struct str payload)
{
    struct message *message = message_table_find(&queue->messages, id);
    struct result_entry entry;
    struct str rest;
    int found;

    if (!message || payload.length == 0 || !message->is_unstarted)
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
        recipients[start->last_now].next = (uint16_t)recipient;
    start->last_now = recipient;
}

/* What is settled but for its report. */
static void start_reporting(struct queue *queue, struct message *message, uint32_t index,
                            const struct recovered_recipient *recovered)
{
    struct recipient *recipient = &message->recipients[index];
    struct reason *reason = reason_at(&queue->reasons, recipient->reason);
    const struct failure failure = {reason_retain(reason), recovered->at_ms, (uint16_t)index, (uint8_t)recovered->kind,
                                    false};

    if (recovered->what == RECOVERED_FAILED)
        recipient->doom = DOOM_BOUNCE;
    recipient_set_state(queue, message, index,
                        recovered->what == RECOVERED_FAILED ? RECIPIENT_FAILED : RECIPIENT_UNTOLD);
    reporting_add(queue, message, &failure);
}

static void start_recipient(struct start *start, uint32_t index, const struct recovered_recipient *recovered,
                            int64_t now_at_ms)
{
    if (recovered && recovered->what != RECOVERED_WAITING)
        start_reporting(start->queue, start->message, index, recovered);
    else if (start->message->hold)
        return;
    else if (recovered && recovered->at_ms > now_at_ms)
        start_waiting(start, index, bounded_next_at_ms(start->queue, recovered->at_ms, now_at_ms));
    else
        start_now(start, index);
}

void recovery_start_message(struct queue *queue, struct message *message)
{
    struct recovery *recovery = message->recovery;
    struct start start = {.queue = queue, .message = message, .first_now = RECIPIENT_NONE};
    int64_t now_at_ms = clock_real_ms();

    if (!message->is_unstarted)
        return;
    message->is_unstarted = false;
    message->recovery = NULL;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        if (message->recipients[i].state == RECIPIENT_WAITING)
            start_recipient(&start, i, recovery ? &recovery->recipients[i] : NULL, now_at_ms);
    }
    free(recovery);
    if (message->unsettled == 0) {
        queue_end_message(queue, message, true);
        return;
    }
    reporting_consider(queue, message);
    if (start.first_now != RECIPIENT_NONE)
        route_waiting(queue, message, start.first_now);
}

void recovery_release(struct queue *queue)
{
    mem_free(&queue->recovered);
    queue->recovered_count = queue->recovered_capacity = queue->recovered_next = 0;
}

void recovery_forget(struct message *message)
{
    if (message->is_unstarted)
        mem_free(&message->recovery);
}

/* ---- suspects ---- */

static void quarantine(struct queue *queue, struct message *message)
{
    struct envelope envelope;
    struct arena arena;
    bool decoded = message_decode(message, &arena, &envelope);

    hold_message(queue, message, decoded ? &envelope : NULL,
                 STR("quarantined: it was being handled at two crashes of the daemon"), clock_real_ms(), true);
    in_hand_forget(queue->in_hand, message->id);
    arena_release(&arena);
    recovery_start_message(queue, message);
}

void recovery_next_suspect(struct queue *queue)
{
    queue->suspect_at_ms = loop_now_ms();
    queue_touch(queue);
}

void recovery_suspects_due(struct queue *queue)
{
    spool_id id;

    queue->suspect_at_ms = SCHEDULE_NEVER;
    while (in_hand_next_suspect(queue->in_hand, &queue->suspect_next, &id)) {
        struct message *message = message_table_find(&queue->messages, id);

        if (!message) {
            in_hand_forget(queue->in_hand, id);
        } else if (message->is_suspect && message->is_unstarted) {
            queue->suspect_at_ms = loop_now_ms() + QUEUE_SUSPECT_MS;
            recovery_start_message(queue, message);
            return;
        }
    }
}

/* ---- slices ---- */

static void start(struct queue *queue, spool_id id)
{
    struct message *message = message_table_find(&queue->messages, id);

    if (!message || !message->is_unstarted)
        return;
    switch (in_hand_verdict(queue->in_hand, id)) {
    case IN_HAND_INNOCENT:
        recovery_start_message(queue, message);
        break;
    case IN_HAND_SUSPECT:
        message->is_suspect = true;
        break;
    case IN_HAND_GUILTY:
        quarantine(queue, message);
        break;
    }
}

static void on_recovery(struct loop_task *task)
{
    struct queue *queue = LIST_ENTRY(task, struct queue, recovery_task);

    queue_touch(queue);
    for (int i = 0; i < QUEUE_SLICE_ITEMS && queue->recovered_next < queue->recovered_count && !queue->stopping; i++)
        start(queue, queue->recovered[queue->recovered_next++]);
    if (queue->recovered_next == queue->recovered_count || queue->stopping) {
        recovery_release(queue);
        recovery_next_suspect(queue);
    } else if (envelopes_are_busy(queue)) {
        queue->recovery_waits = true;
    } else {
        loop_post(queue->owner, &queue->recovery_task);
    }
}

void recovery_go_on(struct queue *queue)
{
    if (!queue->recovery_waits)
        return;
    queue->recovery_waits = false;
    loop_post(queue->owner, &queue->recovery_task);
}

void queue_recovery_done(struct queue *queue)
{
    queue->recovery_task.run = on_recovery;
    loop_post(queue->owner, &queue->recovery_task);
}
