/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/message.h"

#include "base/mem.h"

#include <assert.h>

#define TABLE_BUCKETS_MIN 64

/* ---- messages ---- */

struct message *message_create(spool_id id, struct str encoded_envelope, uint64_t body_bytes)
{
    int64_t arrived_at_ms;
    size_t recipient_count;
    struct message *message;

    if (encoded_envelope.length > SPOOL_ENVELOPE_BYTES_MAX ||
        !envelope_peek(encoded_envelope, &arrived_at_ms, &recipient_count))
        return NULL;
    message = mem_alloc(sizeof(*message) + recipient_count * sizeof(message->recipients[0]) + encoded_envelope.length);
    message->id = id;
    message->arrived_at_ms = arrived_at_ms;
    message->body_bytes = body_bytes;
    message->envelope_bytes = (uint32_t)encoded_envelope.length;
    message->recipient_count = (uint32_t)recipient_count;
    message->unsettled = message->recipient_count;
    message->untried = message->recipient_count;
    for (size_t i = 0; i < recipient_count; i++)
        message->recipients[i].next = RECIPIENT_NONE;
    memcpy(&message->recipients[recipient_count], encoded_envelope.data, encoded_envelope.length);
    return message;
}

void message_free(struct message *message, struct reason_table *reasons)
{
    for (uint32_t i = 0; i < message->recipient_count; i++)
        reason_release(reasons, &message->recipients[i].reason);
    free(message);
}

struct str message_envelope(const struct message *message)
{
    return str_make((const char *)&message->recipients[message->recipient_count], message->envelope_bytes);
}

bool message_decode(const struct message *message, struct arena *arena, struct envelope *envelope)
{
    arena_init(arena, (size_t)message->recipient_count * sizeof(struct envelope_recipient) + sizeof(max_align_t));
    return envelope_decode(message_envelope(message), arena, envelope);
}

/* ---- items ---- */

struct queue_item *item_create(struct message *message)
{
    struct queue_item *item;

    if (message->item_used) {
        item = mem_alloc(sizeof(*item));
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

void item_free(struct queue_item *item)
{
    assert(!schedule_is_put(&item->entry));
    if (item == &item->message->item)
        item->message->item_used = false;
    else
        free(item);
}

void item_add_recipient(struct queue_item *item, uint32_t *last, uint32_t recipient)
{
    struct recipient *recipients = item->message->recipients;

    recipients[recipient].next = RECIPIENT_NONE;
    if (item->recipient_count++ == 0)
        item->first_recipient = recipient;
    else
        recipients[*last].next = recipient;
    *last = recipient;
}

void item_open(struct queue_item *item, struct queue *queue)
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
    /* It was decoded when it was routed. */
    decoded = message_decode(message, &taken->arena, &taken->envelope);
    assert(decoded);
    (void)decoded;
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
    free(taken);
}

/* ---- the table ---- */

void message_table_release(struct message_table *table)
{
    free(table->buckets);
    *table = (struct message_table){0};
}

/* The spool gives ids in sequence, and nobody outside chooses them: mixing the bits is enough. */
static struct message **bucket_of(const struct message_table *table, spool_id id)
{
    uint64_t hash = id * 0x9e3779b97f4a7c15u;

    return &table->buckets[(hash ^ hash >> 32) & (table->bucket_count - 1)];
}

static void set_bucket_count(struct message_table *table, size_t bucket_count)
{
    struct message_table old = *table;

    table->buckets = mem_alloc_array(bucket_count, sizeof(*table->buckets));
    table->bucket_count = bucket_count;
    for (size_t i = 0; i < old.bucket_count; i++) {
        for (struct message *message = old.buckets[i], *next; message; message = next) {
            struct message **bucket = bucket_of(table, message->id);

            next = message->next_in_table;
            message->next_in_table = *bucket;
            *bucket = message;
        }
    }
    free(old.buckets);
}

bool message_table_add(struct message_table *table, struct message *message)
{
    struct message **bucket;

    if (message_table_find(table, message->id))
        return false;
    if (table->count >= table->bucket_count)
        set_bucket_count(table, table->bucket_count ? table->bucket_count * 2 : TABLE_BUCKETS_MIN);
    bucket = bucket_of(table, message->id);
    message->next_in_table = *bucket;
    *bucket = message;
    table->count++;
    return true;
}

struct message *message_table_find(const struct message_table *table, spool_id id)
{
    struct message *message = table->count ? *bucket_of(table, id) : NULL;

    while (message && message->id != id)
        message = message->next_in_table;
    return message;
}

void message_table_remove(struct message_table *table, struct message *message)
{
    struct message **link = bucket_of(table, message->id);

    while (*link != message)
        link = &(*link)->next_in_table;
    *link = message->next_in_table;
    table->count--;
    if (table->bucket_count > TABLE_BUCKETS_MIN && table->count < table->bucket_count / 8)
        set_bucket_count(table, table->bucket_count / 2);
}
