/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/destination.h"

#include "base/mem.h"

#include <assert.h>

struct sender_queue {
    struct list_link turn; /* in destination->round while it has items */
    struct list_link items;
    uint32_t key;
};

struct destination *destination_create(struct str name)
{
    struct destination *destination = mem_alloc(sizeof(*destination) + name.length + 1);

    memcpy(destination->name, name.data, name.length);
    destination->name_length = name.length;
    list_init(&destination->dirty_link);
    list_init(&destination->idle);
    list_init(&destination->round);
    list_init(&destination->held);
    destination->limit = DESTINATION_LIMIT_START;
    destination->limit_max = 1;
    return destination;
}

static void forget_sender(struct destination *destination, struct sender_queue *sender)
{
    hash_table_remove(&destination->senders, str_make((const char *)&sender->key, sizeof(sender->key)));
    if (destination->last_sender == sender)
        destination->last_sender = NULL;
    free(sender);
}

void destination_free(struct destination *destination, struct reason_table *reasons)
{
    assert(destination_depth(destination) == 0 && !schedule_is_put(&destination->entry));
    if (destination->last_sender)
        forget_sender(destination, destination->last_sender);
    hash_table_release(&destination->senders);
    reason_release(reasons, &destination->reason);
    free(destination);
}

/* ---- ready lists ---- */

/*
 * Mailing lists and forwarders write the recipient into the sender's local part (VERP, SRS), as in list-bounces+bob=example.net@lists.test; taken
 * literally each message would be a sender of its own and have a turn of its own.
 */
static struct str sender_stem(struct str sender)
{
    for (size_t i = 0; i < sender.length; i++) {
        if (memchr("+-=@", sender.data[i], 4))
            return str_take(sender, i);
    }
    return sender;
}

uint32_t destination_sender_key(const struct envelope *envelope)
{
    struct str stem = sender_stem(envelope->sender);
    uint64_t key;

    if (envelope->user.length > 0)
        return (uint32_t)hash_bytes(envelope->user.data, envelope->user.length);
    key = hash_bytes(envelope->client.data, envelope->client.length);
    key = key * 31 + hash_bytes(envelope->sender_domain.data, envelope->sender_domain.length);
    key = key * 31 + hash_bytes(stem.data, stem.length);
    return (uint32_t)(key ^ key >> 32);
}

static struct sender_queue *find_sender(struct destination *destination, uint32_t key)
{
    struct sender_queue *sender = destination->last_sender;

    if (sender && sender->key == key)
        return sender;
    sender = hash_table_get(&destination->senders, str_make((const char *)&key, sizeof(key)));
    if (!sender) {
        sender = mem_alloc(sizeof(*sender));
        sender->key = key;
        list_init(&sender->turn);
        list_init(&sender->items);
        hash_table_put(&destination->senders, str_make((const char *)&sender->key, sizeof(sender->key)), sender);
    }
    if (destination->last_sender && list_is_empty(&destination->last_sender->items))
        forget_sender(destination, destination->last_sender);
    destination->last_sender = sender;
    return sender;
}

void destination_push(struct destination *destination, struct queue_item *item)
{
    struct sender_queue *sender = find_sender(destination, item->sender_key);

    list_append(&sender->items, &item->link);
    if (!list_is_linked(&sender->turn))
        list_append(&destination->round, &sender->turn);
    item->sender = sender;
    destination->ready_count++;
}

void destination_push_front(struct destination *destination, struct queue_item *item)
{
    struct sender_queue *sender = find_sender(destination, item->sender_key);

    list_prepend(&sender->items, &item->link);
    list_remove(&sender->turn);
    list_prepend(&destination->round, &sender->turn);
    item->sender = sender;
    destination->ready_count++;
}

void destination_remove(struct destination *destination, struct queue_item *item)
{
    struct sender_queue *sender = item->sender;

    list_remove(&item->link);
    item->sender = NULL;
    if (!sender) {
        destination->held_count--;
        return;
    }
    destination->ready_count--;
    if (list_is_empty(&sender->items)) {
        list_remove(&sender->turn);
        if (sender != destination->last_sender)
            forget_sender(destination, sender);
    }
}

static struct queue_item *take_ready(struct destination *destination)
{
    struct sender_queue *sender = LIST_ENTRY(destination->round.next, struct sender_queue, turn);
    struct queue_item *item = LIST_ENTRY(sender->items.next, struct queue_item, link);

    list_remove(&sender->turn);
    list_append(&destination->round, &sender->turn);
    destination_remove(destination, item);
    return item;
}

static void refill(struct destination *destination)
{
    for (int i = 0; i < DESTINATION_REFILL_ITEMS && destination->held_count > 0; i++) {
        struct queue_item *item = LIST_ENTRY(destination->held.next, struct queue_item, link);

        destination_remove(destination, item);
        destination_push(destination, item);
    }
}

struct queue_item *destination_pop(struct destination *destination)
{
    assert(destination->state != DESTINATION_BACKING_OFF);
    if (destination->ready_count == 0)
        refill(destination);
    return destination->ready_count ? take_ready(destination) : NULL;
}

struct queue_item *destination_hold(struct destination *destination)
{
    struct queue_item *item = destination->ready_count ? take_ready(destination) : NULL;

    if (!item)
        return NULL;
    list_append(&destination->held, &item->link);
    destination->held_count++;
    return item;
}

/* ---- state and concurrency ---- */

static void set_state(struct destination *destination, enum destination_state state)
{
    assert(state != DESTINATION_PROBING || destination->state == DESTINATION_BACKING_OFF);
    assert(state != DESTINATION_BACKING_OFF || destination->state != DESTINATION_BACKING_OFF);
    destination->state = state;
}

void destination_connected(struct destination *destination)
{
    destination->failures = 0;
    if (destination->state != DESTINATION_OPEN)
        set_state(destination, DESTINATION_OPEN);
    if (destination->limit < destination->limit_max)
        destination->limit++;
}

static uint64_t rest_ms(unsigned failures, uint64_t first_retry_ms)
{
    uint64_t rest = DESTINATION_REST_MS;

    for (unsigned i = 1; i < failures && rest < first_retry_ms; i++)
        rest *= 2;
    return rest < first_retry_ms ? rest : first_retry_ms;
}

void destination_failed(struct destination *destination, uint64_t now_ms, uint64_t first_retry_ms, uint64_t chance)
{
    destination->limit /= 2;
    if (destination->limit < destination->connected)
        destination->limit = destination->connected;
    if (destination->limit == 0)
        destination->limit = 1;
    /* It is up, and takes no more at a time. */
    if (destination->connected > 0)
        return;
    /* Workers that were started together fail together: that counts once. */
    if (destination->state == DESTINATION_BACKING_OFF)
        return;
    destination->failures++;
    destination->rest_until_ms = now_ms + schedule_vary_ms(rest_ms(destination->failures, first_retry_ms), chance);
    set_state(destination, DESTINATION_BACKING_OFF);
}

void destination_look(struct destination *destination, uint64_t now_ms)
{
    if (destination->state == DESTINATION_BACKING_OFF && now_ms >= destination->rest_until_ms)
        set_state(destination, DESTINATION_PROBING);
}

void destination_wake(struct destination *destination)
{
    if (destination->state == DESTINATION_BACKING_OFF)
        set_state(destination, DESTINATION_PROBING);
}

static unsigned worker_count(const struct destination *destination)
{
    return destination->workers - destination->leaving;
}

unsigned destination_worker_limit(const struct destination *destination)
{
    unsigned limit = destination->limit < destination->limit_max ? destination->limit : destination->limit_max;

    switch (destination->state) {
    case DESTINATION_OPEN:
        return limit;
    case DESTINATION_PROBING:
        return 1;
    case DESTINATION_BACKING_OFF:
        break;
    }
    return 0;
}

bool destination_is_crowded(const struct destination *destination)
{
    return worker_count(destination) > destination_worker_limit(destination);
}

unsigned destination_workers_wanted(const struct destination *destination, uint64_t now_ms)
{
    unsigned limit = destination_worker_limit(destination);
    unsigned count = worker_count(destination);
    unsigned wanted = 0;

    if (destination_depth(destination) == 0 || count >= limit || now_ms < destination->start_after_ms)
        return 0;
    if (count == 0 || now_ms >= destination->served_at_ms + DESTINATION_PATIENCE_MS)
        wanted = 1;
    while (count + wanted < limit &&
           destination_depth(destination) > (size_t)(count + wanted) * DESTINATION_ITEMS_PER_WORKER)
        wanted++;
    return wanted;
}

size_t destination_share(const struct destination *destination, size_t count_max)
{
    unsigned count = worker_count(destination);
    size_t share = destination_depth(destination) / (count ? count : 1) + 1;

    if (destination->state == DESTINATION_PROBING)
        share = 1;
    return share < count_max ? share : count_max;
}

uint64_t destination_next_look_ms(const struct destination *destination)
{
    uint64_t at_ms = destination->served_at_ms + DESTINATION_PATIENCE_MS;

    if (destination->state == DESTINATION_BACKING_OFF)
        return destination->rest_until_ms;
    if (destination_depth(destination) == 0 || worker_count(destination) >= destination_worker_limit(destination))
        return SCHEDULE_NEVER;
    return at_ms > destination->start_after_ms ? at_ms : destination->start_after_ms;
}
