/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold: messages on hold. Nothing of them is tried, and they don't expire. Why and since when is kept as a reason, once for all that were held by one
 * order: its status is "Q" for a quarantine, its remote the time.
 */
#include "os/clock.h"
#include "queue/queue_private.h"

#include <stdio.h>

#define TIME_BYTES 24

void hold_set(struct queue *queue, struct message *message, struct str text, int64_t at_ms, bool is_quarantine)
{
    char time[TIME_BYTES];
    bool was_held = message->hold != 0;

    snprintf(time, sizeof(time), "%lld", (long long)at_ms);
    reason_release_number(&queue->reasons, &message->hold);
    message->hold =
        reason_number(reason_take(&queue->reasons, is_quarantine ? STR("Q") : STR(""), str_from_cstr(time), text));
    message->was_held = true;
    counter_add(&queue->counters.messages_held, !was_held);
}

void hold_get(const struct queue *queue, const struct message *message, struct hold_view *view)
{
    const struct reason *reason = reason_at(&queue->reasons, message->hold);
    uint64_t at_ms = 0;

    (void)str_to_u64(reason_remote(reason), &at_ms);
    *view = (struct hold_view){reason_text(reason), (int64_t)at_ms, reason_status(reason).length > 0};
}

static void write_hold(struct queue *queue, const struct message *message)
{
    struct buf record;

    buf_init(&record, RESULT_ENTRY_BYTES_MAX);
    record_append_hold(&record, queue, message);
    writer_add_record(queue, message->id, buf_str(&record));
    buf_release(&record);
}

static void tell(struct queue *queue, const struct message *message, const struct envelope *envelope,
                 enum queue_event_kind kind, struct str text, const char *by)
{
    struct queue_outcome outcome = {.kind = QUEUE_DEFERRED};
    const struct queue_event event = {
        .kind = kind,
        .id = message->id,
        .envelope = envelope,
        .body_bytes = message_body_bytes(message),
        .recipient = QUEUE_EVENT_MESSAGE,
        .outcome = &outcome,
        .by = by,
    };

    snprintf(outcome.text, sizeof(outcome.text), "%.*s", STR_ARG(text));
    queue_tell(queue, &event);
}

/* What is not being delivered goes out of all lists. */
static void take_items_out(struct queue *queue, struct message *message)
{
    struct queue_item *item = item_first(message), *next;

    for (; item; item = next) {
        enum recipient_state state = (enum recipient_state)message->recipients[item->first_recipient].state;

        next = item_next(item);
        if (state == RECIPIENT_TAKEN)
            continue;
        for (uint32_t i = item->first_recipient; i != RECIPIENT_NONE && state == RECIPIENT_READY;
             i = message->recipients[i].next)
            recipient_set_state(queue, message, i, RECIPIENT_WAITING);
        item_detach(queue, item);
        item_free(item);
    }
}

bool hold_message(struct queue *queue, struct message *message, const struct envelope *envelope, struct str text,
                  int64_t at_ms, bool is_quarantine)
{
    if (message->hold)
        return false;
    hold_set(queue, message, text, at_ms, is_quarantine);
    take_items_out(queue, message);
    write_hold(queue, message);
    tell(queue, message, envelope, QUEUE_EVENT_HELD, text, NULL);
    reporting_consider(queue, message);
    queue_touch(queue);
    return true;
}

bool release_message(struct queue *queue, struct message *message, const struct envelope *envelope, const char *by)
{
    uint32_t first = RECIPIENT_NONE, last = RECIPIENT_NONE;

    if (!message->hold)
        return false;
    reason_release_number(&queue->reasons, &message->hold);
    counter_subtract(&queue->counters.messages_held, 1);
    write_hold(queue, message);
    tell(queue, message, envelope, QUEUE_EVENT_RELEASED, str_from_cstr(by), by);
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        if (message->recipients[i].state != RECIPIENT_WAITING)
            continue;
        message->recipients[i].next = RECIPIENT_NONE;
        if (first == RECIPIENT_NONE)
            first = i;
        else
            message->recipients[last].next = (uint16_t)i;
        last = i;
    }
    queue_touch(queue);
    if (first != RECIPIENT_NONE)
        route_waiting(queue, message, first);
    return true;
}
