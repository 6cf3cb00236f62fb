/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/message.h"

#include "base/mem.h"
#include "queue/in_hand.h"

#include <assert.h>

/* An item that is not the one inside its message. */
struct extra_item {
    struct queue_item item; /* first */
    struct list_link link;  /* a ring of the message's, without a head */
};

/* ---- messages ---- */

struct message *message_create(spool_id id, struct str encoded_envelope, uint64_t body_bytes)
{
    struct envelope envelope;
    struct message *message = NULL;
    struct arena arena;
    size_t count;

    if (encoded_envelope.length > SPOOL_ENVELOPE_BYTES_MAX ||
        !envelope_peek(encoded_envelope, &envelope.arrived_at_ms, &count))
        return NULL;
    arena_init(&arena, count * sizeof(struct envelope_recipient) + sizeof(max_align_t));
    if (!envelope_decode(encoded_envelope, &arena, &envelope))
        goto done;
    message = mem_alloc(sizeof(*message) + count * sizeof(message->recipients[0]) + encoded_envelope.length);
    message->id = id;
    message->arrived_at_ms = envelope.arrived_at_ms;
    message->body_bytes_low = (uint32_t)body_bytes;
    message->body_bytes_high = (uint16_t)(body_bytes >> 32);
    message->envelope_bytes = (uint32_t)encoded_envelope.length;
    message->recipient_count = (uint16_t)count;
    message->unsettled = message->recipient_count;
    message->untried = message->recipient_count;
    table_tags_of(&envelope, &message->arrival.tags);
    for (size_t i = 0; i < count; i++)
        message->recipients[i].next = RECIPIENT_NONE;
    memcpy(&message->recipients[count], encoded_envelope.data, encoded_envelope.length);
done:
    arena_release(&arena);
    return message;
}

void message_free(struct message *message, struct reason_table *reasons)
{
    for (uint32_t i = 0; i < message->recipient_count; i++)
        reason_release_number(reasons, &message->recipients[i].reason);
    reason_release_number(reasons, &message->hold);
    free(message);
}

struct str message_envelope(const struct message *message)
{
    return str_make((const char *)&message->recipients[message->recipient_count], message->envelope_bytes);
}

bool message_decode_data(const struct message *message, struct str data, struct arena *arena, struct envelope *envelope)
{
    arena_init(arena, (size_t)message->recipient_count * sizeof(struct envelope_recipient) + sizeof(max_align_t));
    return envelope_decode(data, arena, envelope) && envelope->recipient_count == message->recipient_count;
}

bool message_decode(const struct message *message, struct arena *arena, struct envelope *envelope)
{
    return message_decode_data(message, message_envelope(message), arena, envelope);
}

/* The item's neighbours and its schedule learn where it is now. */
static void item_moved(struct queue_item *item, const struct queue_item *old, struct schedule *schedule)
{
    if (list_is_linked(&old->link)) {
        item->link.previous->next = &item->link;
        item->link.next->previous = &item->link;
    } else {
        list_init(&item->link);
    }
    if (schedule_is_put(&item->entry))
        schedule_moved(schedule, &item->entry);
}

struct message *message_drop_envelope(struct message *old, struct schedule *schedule)
{
    size_t length = sizeof(*old) + old->recipient_count * sizeof(old->recipients[0]);
    struct message *message = mem_alloc(length);

    assert(old->taken == 0 && !old->failures);
    memcpy(message, old, length);
    message->envelope_bytes = 0;
    if (message->item_used)
        item_moved(&message->item, &old->item, schedule);
    for (struct queue_item *item = item_first(message); item; item = item_next(item))
        item->message = message;
    free(old);
    return message;
}

/* ---- items ---- */

struct queue_item *item_create(struct message *message)
{
    struct extra_item *extra;
    struct queue_item *item;

    if (message->item_used) {
        extra = mem_alloc(sizeof(*extra));
        list_init(&extra->link);
        if (message->extras)
            list_append(&message->extras->link, &extra->link);
        message->extras = message->extras ? message->extras : extra;
        item = &extra->item;
    } else {
        message->item_used = true;
        item = &message->item;
        *item = (struct queue_item){0};
    }
    list_init(&item->link);
    item->message = message;
    item->first_recipient = RECIPIENT_NONE;
    return item;
}

static struct extra_item *next_extra(struct extra_item *extra)
{
    return LIST_ENTRY(extra->link.next, struct extra_item, link);
}

void item_free(struct queue_item *item)
{
    struct message *message = item->message;
    struct extra_item *extra = (struct extra_item *)item;

    assert(!schedule_is_put(&item->entry));
    if (item == &message->item) {
        message->item_used = false;
        return;
    }
    if (message->extras == extra)
        message->extras = list_is_linked(&extra->link) ? next_extra(extra) : NULL;
    list_remove(&extra->link);
    free(extra);
}

struct queue_item *item_first(struct message *message)
{
    if (message->item_used)
        return &message->item;
    return message->extras ? &message->extras->item : NULL;
}

struct queue_item *item_next(struct queue_item *item)
{
    struct message *message = item->message;
    struct extra_item *next;

    if (item == &message->item)
        return message->extras ? &message->extras->item : NULL;
    next = next_extra((struct extra_item *)item);
    return next == message->extras ? NULL : &next->item;
}

void item_add_recipient(struct queue_item *item, uint32_t *last, uint32_t recipient)
{
    struct recipient *recipients = item->message->recipients;

    recipients[recipient].next = RECIPIENT_NONE;
    if (item->recipient_count++ == 0)
        item->first_recipient = (uint16_t)recipient;
    else
        recipients[*last].next = (uint16_t)recipient;
    *last = recipient;
}

void item_open(struct queue_item *item, struct queue *queue, struct str data)
{
    struct message *message = item->message;
    size_t count = item->recipient_count;
    struct taken_item *taken =
        mem_alloc(sizeof(*taken) + count * (sizeof(taken->outcomes[0]) + sizeof(taken->recipients[0])));
    uint32_t recipient = item->first_recipient;
    bool decoded;

    taken->queue = queue;
    taken->item = item;
    taken->recipient_count = count;
    taken->recipients = (uint32_t *)(void *)&taken->outcomes[count];
    taken->in_hand = IN_HAND_NONE;
    taken->envelope_data = (char *)(uintptr_t)data.data;
    decoded =
        message_decode_data(message, data.data ? data : message_envelope(message), &taken->arena, &taken->envelope);
    /* One in memory was decoded when it was made; the disk may give none, or nonsense. */
    assert(decoded || !message_has_envelope(message));
    if (!decoded)
        taken->envelope = (struct envelope){0};
    for (size_t i = 0; i < count; i++) {
        taken->recipients[i] = recipient;
        recipient = message->recipients[recipient].next;
        taken->outcomes[i].kind = QUEUE_DEFERRED;
        memcpy(taken->outcomes[i].status, "4.3.0", sizeof("4.3.0"));
    }
    item->taken = taken;
}

void taken_item_free(struct taken_item *taken)
{
    arena_release(&taken->arena);
    free(taken->envelope_data);
    free(taken);
}
