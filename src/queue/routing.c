/* SPDX-License-Identifier: Apache-2.0 */
/* Where recipients go, and when: routed into ready lists; what is due; what waits for a destination that is down. */
#include "base/log.h"
#include "os/clock.h"
#include "queue/queue_private.h"

#include <assert.h>

/* ---- routing ---- */

static void make_ready(struct outcomes *outcomes, uint32_t recipient, const struct queue_route *route)
{
    struct queue *queue = outcomes->queue;
    struct str name = str_make(route->destination, strnlen(route->destination, sizeof(route->destination)));
    struct destination *destination = destinations_find(queue, name);
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

void outcomes_route(struct outcomes *outcomes, uint32_t recipient, enum queue_resolution resolution)
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

void route_recipients(struct queue *queue, struct message *message, const struct envelope *envelope,
                      uint32_t first_recipient)
{
    struct outcomes outcomes;

    outcomes_begin(&outcomes, queue, message, envelope);
    for (uint32_t recipient = first_recipient, next; recipient != RECIPIENT_NONE; recipient = next) {
        next = message->recipients[recipient].next;
        outcomes_route(&outcomes, recipient, QUEUE_NOT_RESOLVED);
    }
    outcomes_end(&outcomes);
}

/* As an item that is due, since the envelope has to be read. */
static void route_later(struct queue *queue, struct message *message, uint32_t first_recipient)
{
    struct queue_item *item = item_create(message);
    uint32_t last = RECIPIENT_NONE;

    for (uint32_t recipient = first_recipient, next; recipient != RECIPIENT_NONE; recipient = next) {
        next = message->recipients[recipient].next;
        item_add_recipient(item, &last, recipient);
    }
    item->wishes = ITEM_DUE;
    envelopes_want(queue, message);
}

void route_waiting(struct queue *queue, struct message *message, uint32_t first_recipient)
{
    struct envelope envelope;
    struct arena arena;

    if (!message_has_envelope(message)) {
        route_later(queue, message, first_recipient);
        return;
    }
    if (message_decode(message, &arena, &envelope))
        route_recipients(queue, message, &envelope, first_recipient);
    else
        tell_unreadable(message); /* It stays in the index, out of every list, and in the spool. */
    arena_release(&arena);
}

/* ---- times ---- */

/* An item of a destination that backs off: its recipients' time is over. */
static void expire_held_item(struct queue *queue, struct queue_item *item, const struct envelope *envelope)
{
    struct message *message = item->message;
    struct destination *destination = item->destination;
    struct outcomes outcomes;

    destination_remove(destination, item);
    queue_mark_dirty(queue, destination);
    outcomes_begin(&outcomes, queue, message, envelope);
    for (uint32_t recipient = item->first_recipient, next; recipient != RECIPIENT_NONE; recipient = next) {
        next = message->recipients[recipient].next;
        outcomes_add_expired(&outcomes, recipient, destination->reason);
    }
    item_free(item);
    outcomes_end(&outcomes);
}

/* When the next thing happens to an item that waits for its destination. */
static int64_t held_look_at_ms(const struct queue *queue, const struct message *message)
{
    int64_t delay_at_ms = schedule_delay_at_ms(&queue->settings, message->arrived_at_ms);
    int64_t expiry_at_ms = schedule_expiry_at_ms(&queue->settings, message->arrived_at_ms);

    return delay_at_ms > clock_real_ms() && delay_at_ms < expiry_at_ms ? delay_at_ms : expiry_at_ms;
}

static void look_at_held_item(struct queue *queue, struct queue_item *item, const struct envelope *envelope)
{
    struct message *message = item->message;
    struct outcomes outcomes;

    if (clock_real_ms() >= schedule_expiry_at_ms(&queue->settings, message->arrived_at_ms)) {
        expire_held_item(queue, item, envelope);
        return;
    }
    outcomes_begin(&outcomes, queue, message, envelope);
    for (uint32_t recipient = item->first_recipient; recipient != RECIPIENT_NONE;
         recipient = message->recipients[recipient].next)
        outcomes_consider_delay(&outcomes, recipient, item->destination->reason);
    queue_schedule_item(queue, item, held_look_at_ms(queue, message));
    outcomes_end(&outcomes);
}

/* Tells once that they wait, and why. */
static void tell_held(struct queue *queue, struct queue_item *item, const struct envelope *envelope)
{
    struct destination *destination = item->destination;
    struct message *message = item->message;
    struct queue_outcome outcome = {.kind = QUEUE_DEFERRED};
    struct outcomes outcomes;
    int64_t next_at_ms;

    reason_to_outcome(destination->reason, &outcome);
    outcomes_begin(&outcomes, queue, message, envelope);
    next_at_ms = outcomes.now_at_ms;
    if (destination->rest_until_ms > loop_now_ms())
        next_at_ms += (int64_t)(destination->rest_until_ms - loop_now_ms());
    for (uint32_t recipient = item->first_recipient; recipient != RECIPIENT_NONE;
         recipient = message->recipients[recipient].next) {
        recipient_set_tried(message, recipient);
        counter_add(&queue->counters.deferred, 1);
        outcomes_tell(&outcomes, recipient, QUEUE_EVENT_DEFERRED, &outcome, next_at_ms);
    }
    outcomes_end(&outcomes);
}

static bool is_waiting(const struct queue_item *item)
{
    return item->message->recipients[item->first_recipient].state == RECIPIENT_WAITING;
}

static bool is_held(const struct queue_item *item)
{
    return item->message->recipients[item->first_recipient].state == RECIPIENT_READY && !item->sender;
}

void item_fulfil(struct queue *queue, struct queue_item *item, const struct envelope *envelope)
{
    struct message *message = item->message;
    uint32_t first_recipient = item->first_recipient;
    bool is_due = (item->wishes & ITEM_DUE) != 0;

    item->wishes = 0;
    if (is_waiting(item)) {
        item_detach(queue, item);
        item_free(item);
        route_recipients(queue, message, envelope, first_recipient);
    } else if (is_held(item) && is_due) {
        look_at_held_item(queue, item, envelope);
    } else if (is_held(item)) {
        tell_held(queue, item, envelope);
    }
    /* Otherwise its destination has come back, and it gets its attempt. */
}

static void wish(struct queue *queue, struct queue_item *item, enum item_wish wanted)
{
    struct message *message = item->message;
    struct envelope envelope;
    struct arena arena;
    bool decoded;

    item->wishes |= (uint8_t)wanted;
    if (!message_has_envelope(message)) {
        envelopes_want(queue, message);
        return;
    }
    decoded = message_decode(message, &arena, &envelope);
    assert(decoded); /* it was, when it was made */
    (void)decoded;
    item_fulfil(queue, item, &envelope);
    arena_release(&arena);
}

void item_due(struct queue *queue, struct queue_item *item)
{
    if (is_waiting(item) || is_held(item))
        wish(queue, item, ITEM_DUE);
}

void hold_items(struct queue *queue, struct destination *destination)
{
    struct queue_item *item;

    for (int i = 0; i < QUEUE_SLICE_ITEMS && (item = destination_hold(destination)); i++) {
        if (schedule_is_put(&item->entry))
            continue;
        queue_schedule_item(queue, item, held_look_at_ms(queue, item->message));
        wish(queue, item, ITEM_TELL);
    }
    if (destination->ready_count > 0)
        queue_mark_dirty(queue, destination);
}
