/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of recipients: routed, delivered, deferred, failed, expired; and what of it goes to the spool and to the log. */
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "os/random.h"
#include "queue/queue_private.h"

#include <assert.h>

/* A longer record goes to the spool in parts. */
#define RECORD_BYTES_MAX (256u << 10)

void outcomes_begin(struct outcomes *outcomes, struct queue *queue, struct message *message,
                    const struct envelope *envelope)
{
    *outcomes = (struct outcomes){
        .queue = queue,
        .message = message,
        .envelope = envelope,
        .now_at_ms = clock_real_ms(),
        .last_deferred = RECIPIENT_NONE,
    };
    buf_init(&outcomes->record, RECORD_BYTES_MAX + RESULT_ENTRY_BYTES_MAX);
    queue->routing_serial++;
}

static void tell(const struct outcomes *outcomes, uint32_t recipient, const struct queue_outcome *outcome,
                 int64_t next_at_ms)
{
    const struct queue_hooks *hooks = &outcomes->queue->hooks;

    if (hooks->event)
        hooks->event(hooks->context, outcomes->message->id, outcomes->envelope, recipient, outcome, next_at_ms);
}

static void write_record(struct outcomes *outcomes)
{
    if (outcomes->record.length > 0)
        writer_add_record(outcomes->queue, outcomes->message->id, buf_str(&outcomes->record));
    buf_clear(&outcomes->record);
}

void record_append_recipient(struct buf *record, const struct message *message, uint32_t recipient, int64_t next_at_ms)
{
    const struct recipient *r = &message->recipients[recipient];
    struct result_entry entry = {.recipient = recipient, .attempts = r->attempts, .next_at_ms = next_at_ms};

    switch ((enum recipient_state)r->state) {
    case RECIPIENT_DELIVERED:
        entry.state = RESULT_DELIVERED;
        break;
    case RECIPIENT_REPORTED:
        entry.state = RESULT_REPORTED;
        break;
    case RECIPIENT_WAITING:
    case RECIPIENT_READY:
    case RECIPIENT_TAKEN:
        if (!r->reason)
            return;
        entry.state = RESULT_WAITING;
        entry.status = reason_status(r->reason);
        entry.remote = reason_remote(r->reason);
        entry.text = reason_text(r->reason);
        break;
    case RECIPIENT_FAILED: /* result.h says why not */
        return;
    }
    result_append(record, &entry);
}

static void add_to_record(struct outcomes *outcomes, uint32_t recipient)
{
    record_append_recipient(&outcomes->record, outcomes->message, recipient, outcomes->next_at_ms);
    if (outcomes->record.length > RECORD_BYTES_MAX)
        write_record(outcomes);
}

static void deliver(struct outcomes *outcomes, uint32_t recipient)
{
    struct message *message = outcomes->message;

    recipient_set_tried(message, recipient);
    recipient_set_state(outcomes->queue, message, recipient, RECIPIENT_DELIVERED);
    counter_add(&outcomes->queue->counters.delivered, 1);
    /* The last one is told to the spool by the end of the message. */
    if (message->unsettled > 0)
        add_to_record(outcomes, recipient);
}

static void fail(struct outcomes *outcomes, uint32_t recipient, const struct queue_outcome *outcome, bool expired)
{
    struct queue *queue = outcomes->queue;

    recipient_set_tried(outcomes->message, recipient);
    recipient_set_state(queue, outcomes->message, recipient, RECIPIENT_FAILED);
    counter_add(expired ? &queue->counters.expired : &queue->counters.failed, 1);
    reporting_add(queue, outcomes->message, recipient, reason_take_outcome(&queue->reasons, outcome), expired);
    tell(outcomes, recipient, outcome, 0);
}

/* RFC 3463: X.4.7 is "delivery time expired". The words stay those of the last attempt. */
static void expire(struct outcomes *outcomes, uint32_t recipient, const struct queue_outcome *last)
{
    struct queue_outcome outcome = *last;

    outcome.kind = QUEUE_FAILED;
    memcpy(outcome.status, "4.4.7", sizeof("4.4.7"));
    fail(outcomes, recipient, &outcome, true);
}

void outcomes_add_expired(struct outcomes *outcomes, uint32_t recipient, const struct reason *reason)
{
    struct queue_outcome outcome = {.kind = QUEUE_DEFERRED};

    reason_to_outcome(reason ? reason : outcomes->message->recipients[recipient].reason, &outcome);
    expire(outcomes, recipient, &outcome);
}

/* All that are deferred in one bout come back together; the first to be deferred decides when. */
static int64_t choose_next_at_ms(const struct outcomes *outcomes, unsigned attempts, int64_t expiry_at_ms)
{
    uint64_t wait_ms = schedule_retry_ms(&outcomes->queue->settings, attempts, random_u64());

    /* The last attempt is made when the time is over. */
    if (wait_ms >= (uint64_t)(expiry_at_ms - outcomes->now_at_ms))
        return expiry_at_ms;
    return outcomes->now_at_ms + (int64_t)wait_ms;
}

static void defer(struct outcomes *outcomes, uint32_t recipient, const struct queue_outcome *outcome)
{
    struct queue *queue = outcomes->queue;
    struct message *message = outcomes->message;
    struct recipient *r = &message->recipients[recipient];
    int64_t expiry_at_ms = schedule_expiry_at_ms(&queue->settings, message->arrived_at_ms);

    if (r->attempts < RECIPIENT_ATTEMPTS_MAX)
        r->attempts++;
    if (outcomes->now_at_ms >= expiry_at_ms) {
        expire(outcomes, recipient, outcome);
        return;
    }
    recipient_set_tried(message, recipient);
    if (r->state != RECIPIENT_WAITING)
        recipient_set_state(queue, message, recipient, RECIPIENT_WAITING);
    reason_release(&queue->reasons, &r->reason);
    r->reason = reason_take_outcome(&queue->reasons, outcome);
    counter_add(&queue->counters.deferred, 1);
    if (!outcomes->deferred) {
        outcomes->deferred = item_create(message);
        outcomes->next_at_ms = choose_next_at_ms(outcomes, r->attempts, expiry_at_ms);
    }
    item_add_recipient(outcomes->deferred, &outcomes->last_deferred, recipient);
    add_to_record(outcomes, recipient);
    tell(outcomes, recipient, outcome, outcomes->next_at_ms);
}

static void route_recipient(struct outcomes *outcomes, uint32_t recipient, enum queue_resolution resolution);

void outcomes_add(struct outcomes *outcomes, uint32_t recipient, const struct queue_outcome *outcome)
{
    switch (outcome->kind) {
    case QUEUE_DELIVERED:
        deliver(outcomes, recipient);
        tell(outcomes, recipient, outcome, 0);
        break;
    case QUEUE_DEFERRED:
        defer(outcomes, recipient, outcome);
        break;
    case QUEUE_FAILED:
        fail(outcomes, recipient, outcome, false);
        break;
    case QUEUE_RESOLVED:
        recipient_set_state(outcomes->queue, outcomes->message, recipient, RECIPIENT_WAITING);
        route_recipient(outcomes, recipient, outcome->resolution);
        break;
    }
}

void outcomes_end(struct outcomes *outcomes)
{
    struct queue *queue = outcomes->queue;
    struct message *message = outcomes->message;

    if (outcomes->deferred)
        queue_schedule_item(queue, outcomes->deferred, outcomes->next_at_ms);
    queue_touch(queue);
    if (message->unsettled == 0) {
        queue_end_message(queue, message, true);
    } else {
        write_record(outcomes);
        reporting_consider(queue, message);
    }
    buf_release(&outcomes->record);
}

/* ---- routing ---- */

static void make_ready(struct outcomes *outcomes, uint32_t recipient, const struct queue_route *route)
{
    struct queue *queue = outcomes->queue;
    struct str name = str_make(route->destination, strnlen(route->destination, sizeof(route->destination)));
    struct destination *destination = queue_find_destination(queue, name);
    bool is_first = destination->routing_serial != queue->routing_serial;

    destination->limit_max = route->concurrency ? route->concurrency : 1;
    if (is_first) {
        destination->routing_serial = queue->routing_serial;
        destination->routing_item = item_create(outcomes->message);
        destination->routing_item->destination = destination;
        destination->routing_item->sender_key = destination_sender_key(outcomes->envelope);
    }
    item_add_recipient(destination->routing_item, &destination->routing_last, recipient);
    recipient_set_state(queue, outcomes->message, recipient, RECIPIENT_READY);
    if (is_first) {
        destination_push(destination, destination->routing_item);
        queue_mark_dirty(queue, destination);
    }
}

static void route_recipient(struct outcomes *outcomes, uint32_t recipient, enum queue_resolution resolution)
{
    const struct queue_hooks *hooks = &outcomes->queue->hooks;
    struct queue_outcome outcome;
    struct queue_route route;

    route.kind = QUEUE_ROUTE_DEFER;
    route.concurrency = 0;
    route.destination[0] = route.status[0] = route.text[0] = '\0';
    hooks->route(hooks->context, outcomes->envelope, recipient, resolution, &route);
    if (route.kind == QUEUE_ROUTE_DELIVER) {
        make_ready(outcomes, recipient, &route);
        return;
    }
    outcome.kind = route.kind == QUEUE_ROUTE_FAIL ? QUEUE_FAILED : QUEUE_DEFERRED;
    outcome.resolution = QUEUE_NOT_RESOLVED;
    memcpy(outcome.status, route.status, sizeof(outcome.status));
    memcpy(outcome.text, route.text, sizeof(outcome.text));
    outcome.remote[0] = '\0';
    outcomes_add(outcomes, recipient, &outcome);
}

static void tell_unreadable(const struct message *message)
{
    char id[MESSAGE_ID_TEXT_BYTES];

    LOG_ERROR("queue-envelope-unreadable", log_str("id", message_id_format(message->id, id)));
}

void route_recipients(struct queue *queue, struct message *message, uint32_t first_recipient)
{
    struct outcomes outcomes;
    struct envelope envelope;
    struct arena arena;

    if (!message_decode(message, &arena, &envelope)) {
        /* It stays in the index, out of every list, and in the spool. */
        tell_unreadable(message);
        goto done;
    }
    outcomes_begin(&outcomes, queue, message, &envelope);
    for (uint32_t recipient = first_recipient, next; recipient != RECIPIENT_NONE; recipient = next) {
        next = message->recipients[recipient].next;
        route_recipient(&outcomes, recipient, QUEUE_NOT_RESOLVED);
    }
    outcomes_end(&outcomes);
done:
    arena_release(&arena);
}

/* ---- times ---- */

static void expire_held_item(struct queue *queue, struct queue_item *item)
{
    struct message *message = item->message;
    struct destination *destination = item->destination;
    struct outcomes outcomes;
    struct envelope envelope;
    struct arena arena;
    bool decoded = message_decode(message, &arena, &envelope);

    assert(decoded); /* it was, when it was routed */
    (void)decoded;
    destination_remove(destination, item);
    queue_mark_dirty(queue, destination);
    outcomes_begin(&outcomes, queue, message, &envelope);
    for (uint32_t recipient = item->first_recipient, next; recipient != RECIPIENT_NONE; recipient = next) {
        next = message->recipients[recipient].next;
        outcomes_add_expired(&outcomes, recipient, destination->reason);
    }
    item_free(item);
    outcomes_end(&outcomes);
    arena_release(&arena);
}

void item_due(struct queue *queue, struct queue_item *item)
{
    struct message *message = item->message;
    uint32_t first_recipient = item->first_recipient;

    if (message->recipients[first_recipient].state == RECIPIENT_WAITING) {
        item_free(item);
        route_recipients(queue, message, first_recipient);
    } else if (!item->sender) {
        expire_held_item(queue, item);
    }
    /* Otherwise its destination has come back, and it gets its attempt. */
}

static void tell_held(struct queue *queue, const struct queue_item *item)
{
    struct destination *destination = item->destination;
    struct message *message = item->message;
    struct queue_outcome outcome = {.kind = QUEUE_DEFERRED};
    struct outcomes outcomes;
    struct envelope envelope;
    struct arena arena;
    int64_t next_at_ms;

    reason_to_outcome(destination->reason, &outcome);
    if (message_decode(message, &arena, &envelope)) {
        outcomes_begin(&outcomes, queue, message, &envelope);
        next_at_ms = outcomes.now_at_ms + (int64_t)(destination->rest_until_ms - loop_now_ms());
        for (uint32_t recipient = item->first_recipient; recipient != RECIPIENT_NONE;
             recipient = message->recipients[recipient].next) {
            recipient_set_tried(message, recipient);
            counter_add(&queue->counters.deferred, 1);
            tell(&outcomes, recipient, &outcome, next_at_ms);
        }
        outcomes_end(&outcomes);
    }
    arena_release(&arena);
}

void hold_items(struct queue *queue, struct destination *destination)
{
    struct queue_item *item;

    for (int i = 0; i < QUEUE_SLICE_ITEMS && (item = destination_hold(destination)); i++) {
        if (schedule_is_put(&item->entry))
            continue;
        queue_schedule_item(queue, item, schedule_expiry_at_ms(&queue->settings, item->message->arrived_at_ms));
        tell_held(queue, item);
    }
    if (destination->ready_count > 0)
        queue_mark_dirty(queue, destination);
}
