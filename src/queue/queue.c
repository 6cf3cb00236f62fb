/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/queue.h"

#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "queue/queue_private.h"

#include <assert.h>
#include <errno.h>

/* ---- what the other files call ---- */

void queue_touch(struct queue *queue)
{
    if (queue->turn_posted)
        return;
    queue->turn_posted = true;
    loop_post(queue->owner, &queue->turn);
}

void queue_mark_dirty(struct queue *queue, struct destination *destination)
{
    if (!list_is_linked(&destination->dirty_link))
        list_append(&queue->dirty, &destination->dirty_link);
    queue_touch(queue);
}

struct destination *queue_find_destination(struct queue *queue, struct str name)
{
    struct destination *destination = hash_table_get(&queue->destinations, name);

    if (destination)
        return destination;
    destination = destination_create(name);
    hash_table_put(&queue->destinations, str_make(destination->name, destination->name_length), destination);
    counter_add(&queue->counters.destinations, 1);
    return destination;
}

static bool is_transition(enum recipient_state from, enum recipient_state to)
{
    static const unsigned allowed[RECIPIENT_STATES] = {
        [RECIPIENT_WAITING] =
            1u << RECIPIENT_READY | 1u << RECIPIENT_FAILED | 1u << RECIPIENT_DELIVERED | 1u << RECIPIENT_REPORTED,
        [RECIPIENT_READY] = 1u << RECIPIENT_TAKEN | 1u << RECIPIENT_FAILED,
        [RECIPIENT_TAKEN] =
            1u << RECIPIENT_READY | 1u << RECIPIENT_WAITING | 1u << RECIPIENT_DELIVERED | 1u << RECIPIENT_FAILED,
        [RECIPIENT_FAILED] = 1u << RECIPIENT_REPORTED,
    };

    return allowed[from] & 1u << to;
}

void recipient_set_state(struct queue *queue, struct message *message, uint32_t recipient, enum recipient_state state)
{
    enum recipient_state from = (enum recipient_state)message->recipients[recipient].state;

    assert(is_transition(from, state));
    message->recipients[recipient].state = (uint8_t)state;
    counter_subtract(&queue->counters.recipients[from], 1);
    counter_add(&queue->counters.recipients[state], 1);
    if (from == RECIPIENT_TAKEN)
        message->taken--;
    if (state == RECIPIENT_TAKEN)
        message->taken++;
    if (state == RECIPIENT_DELIVERED || state == RECIPIENT_REPORTED)
        message->unsettled--;
}

void recipient_set_tried(struct message *message, uint32_t recipient)
{
    if (message->recipients[recipient].tried)
        return;
    message->recipients[recipient].tried = true;
    message->untried--;
}

static void forget_message(struct queue *queue, struct message *message)
{
    message_table_remove(&queue->messages, message);
    counter_subtract(&queue->counters.messages, 1);
    for (uint32_t i = 0; i < message->recipient_count; i++)
        counter_subtract(&queue->counters.recipients[message->recipients[i].state], 1);
    message_free(message, &queue->reasons);
}

void queue_end_message(struct queue *queue, struct message *message, bool write)
{
    assert(message->unsettled == 0 && !message->failures && !message->item_used);
    if (write)
        writer_add_end(queue, message->id);
    forget_message(queue, message);
}

void queue_schedule_item(struct queue *queue, struct queue_item *item, int64_t at_ms)
{
    int64_t wait_ms = at_ms - clock_real_ms();

    schedule_put(&queue->retries, &item->entry, loop_now_ms() + (wait_ms > 0 ? (uint64_t)wait_ms : 0));
    queue_touch(queue);
}

/* ---- the turn ---- */

static void set_timer(struct queue *queue)
{
    uint64_t at_ms = schedule_first_ms(&queue->retries);

    if (schedule_first_ms(&queue->looks) < at_ms)
        at_ms = schedule_first_ms(&queue->looks);
    if (schedule_first_ms(&queue->reports) < at_ms)
        at_ms = schedule_first_ms(&queue->reports);
    if (queue->writer.retry_at_ms < at_ms)
        at_ms = queue->writer.retry_at_ms;
    if (queue->stopping)
        at_ms = SCHEDULE_NEVER;
    /* One that fires too early is harmless, and most turns only push the first time back. */
    if (at_ms >= queue->timer_at_ms)
        return;
    queue->timer_at_ms = at_ms;
    loop_timer_start(&queue->timer, at_ms);
}

static void on_timer(struct loop_timer *timer)
{
    struct queue *queue = LIST_ENTRY(timer, struct queue, timer);
    uint64_t now_ms = loop_now_ms();
    struct schedule_entry *entry;

    queue->timer_at_ms = SCHEDULE_NEVER;
    queue_touch(queue);
    if (queue->stopping)
        return;
    while ((entry = schedule_take_due(&queue->looks, now_ms)))
        queue_mark_dirty(queue, SCHEDULE_OWNER(entry, struct destination, entry));
    while ((entry = schedule_take_due(&queue->reports, now_ms)))
        reporting_due(queue, entry);
    if (queue->writer.retry_at_ms <= now_ms)
        writer_retry(queue);
    for (int i = 0; i < QUEUE_SLICE_ITEMS && (entry = schedule_take_due(&queue->retries, now_ms)); i++)
        item_due(queue, SCHEDULE_OWNER(entry, struct queue_item, entry));
}

static void check_stopped(struct queue *queue)
{
    if (!queue->stopped || atomic_load_explicit(&queue->counters.workers, memory_order_relaxed) > 0 ||
        queue->reports_under_way > 0 || !writer_is_idle(queue))
        return;
    loop_timer_stop(&queue->timer);
    queue->stopped(queue->stopped_context);
    queue->stopped = NULL;
}

static void on_turn(struct loop_task *task)
{
    struct queue *queue = LIST_ENTRY(task, struct queue, turn);
    struct list_link dirty;
    struct list_link *link;

    queue->turn_posted = false;
    /* What gets dirty again meanwhile (a slice was not all) is for the next turn. */
    list_init(&dirty);
    while ((link = list_take_first(&queue->dirty)))
        list_append(&dirty, link);
    while ((link = list_take_first(&dirty)))
        destination_dispatch(queue, LIST_ENTRY(link, struct destination, dirty_link));
    writer_flush(queue);
    set_timer(queue);
    check_stopped(queue);
}

/* ---- life ---- */

int queue_create(struct queue **out, struct loop *owner, struct spool *spool, const struct queue_settings *settings,
                 const struct queue_hooks *hooks)
{
    struct queue *queue;

    if (settings->retry_count == 0 || settings->retry_count > QUEUE_RETRY_STEPS_MAX)
        return -EINVAL;
    queue = mem_alloc(sizeof(*queue));
    queue->owner = owner;
    queue->spool = spool;
    queue->settings = *settings;
    queue->hooks = *hooks;
    queue->delays = (struct queue_delays){QUEUE_WRITE_RETRY_MS, QUEUE_REPORT_RETRY_MS, QUEUE_WORKER_RETRY_MS};
    list_init(&queue->dirty);
    queue->timer.run = on_timer;
    queue->timer_at_ms = SCHEDULE_NEVER;
    queue->turn.run = on_turn;
    writer_init(queue);
    *out = queue;
    return 0;
}

static void free_destination(struct queue *queue, struct destination *destination)
{
    struct queue_item *item;

    /* Workers were ended before (queue_stop); their loops may be gone. */
    schedule_remove(&queue->looks, &destination->entry);
    while (destination_hold(destination))
        ;
    while (!list_is_empty(&destination->held)) {
        item = LIST_ENTRY(destination->held.next, struct queue_item, link);
        destination_remove(destination, item);
        schedule_remove(&queue->retries, &item->entry);
        item_free(item);
    }
    destination_free(destination, &queue->reasons);
}

void queue_destroy(struct queue **pointer)
{
    struct queue *queue = *pointer;
    size_t position = 0;
    struct str name;
    void *value;

    if (!queue)
        return;
    *pointer = NULL;
    recovery_release(queue);
    while (hash_table_next(&queue->destinations, &position, &name, &value))
        free_destination(queue, value);
    hash_table_release(&queue->destinations);
    while (queue->retries.count > 0) {
        struct queue_item *item = SCHEDULE_OWNER(queue->retries.entries[0], struct queue_item, entry);

        schedule_remove(&queue->retries, &item->entry);
        item_free(item);
    }
    for (size_t i = 0; i < queue->messages.bucket_count; i++) {
        while (queue->messages.buckets[i]) {
            struct message *message = queue->messages.buckets[i];

            queue->messages.buckets[i] = message->next_in_table;
            reporting_forget(queue, message);
            message_free(message, &queue->reasons);
        }
    }
    message_table_release(&queue->messages);
    writer_release(queue);
    schedule_release(&queue->retries);
    schedule_release(&queue->looks);
    schedule_release(&queue->reports);
    reason_table_release(&queue->reasons);
    free(queue);
}

struct settings_task {
    struct loop_task task;
    struct queue *queue;
    struct queue_settings settings;
};

static void on_settings(struct loop_task *task)
{
    struct settings_task *change = (struct settings_task *)task;

    change->queue->settings = change->settings;
    free(change);
}

void queue_set_settings(struct queue *queue, const struct queue_settings *settings)
{
    struct settings_task *change = mem_alloc(sizeof(*change));

    assert(settings->retry_count > 0 && settings->retry_count <= QUEUE_RETRY_STEPS_MAX);
    change->task.run = on_settings;
    change->queue = queue;
    change->settings = *settings;
    loop_post(queue->owner, &change->task);
}

struct stop_task {
    struct loop_task task;
    struct queue *queue;
    void (*stopped)(void *context);
    void *context;
};

static void on_stop(struct loop_task *task)
{
    struct stop_task *stop = (struct stop_task *)task;
    struct queue *queue = stop->queue;
    size_t position = 0;
    struct str name;
    void *value;

    assert(!queue->stopping);
    queue->stopping = true;
    queue->stopped = stop->stopped;
    queue->stopped_context = stop->context;
    free(stop);
    while (hash_table_next(&queue->destinations, &position, &name, &value))
        destination_dismiss(value);
    writer_retry(queue);
    queue_touch(queue);
}

void queue_stop(struct queue *queue, void (*stopped)(void *context), void *context)
{
    struct stop_task *stop = mem_alloc(sizeof(*stop));

    stop->task.run = on_stop;
    stop->queue = queue;
    stop->stopped = stopped;
    stop->context = context;
    loop_post(queue->owner, &stop->task);
}

/* ---- arrival ---- */

bool queue_index_message(struct queue *queue, struct message *message)
{
    if (!message_table_add(&queue->messages, message)) {
        LOG_ERROR("queue-duplicate", log_str("id", message_id_format(message->id, (char[MESSAGE_ID_TEXT_BYTES]){0})));
        message_free(message, &queue->reasons);
        return false;
    }
    counter_add(&queue->counters.messages, 1);
    counter_add(&queue->counters.recipients[RECIPIENT_WAITING], message->recipient_count);
    return true;
}

static void on_arrival(struct loop_task *task)
{
    struct message *message = LIST_ENTRY(task, struct message, task);
    struct queue *queue = message->queue;

    message->next_in_table = NULL;
    message->failures = NULL;
    message->item = (struct queue_item){0};
    if (!queue_index_message(queue, message))
        return;
    queue_touch(queue);
    if (message->recipient_count == 0) {
        queue_end_message(queue, message, true);
        return;
    }
    for (uint32_t i = 0; i + 1 < message->recipient_count; i++)
        message->recipients[i].next = i + 1;
    route_recipients(queue, message, 0);
}

void queue_add(struct queue *queue, spool_id id, struct str encoded_envelope, uint64_t body_bytes)
{
    struct message *message = message_create(id, encoded_envelope, body_bytes);

    if (!message) {
        /* It stays in the spool. Only a defect of ours, or damage that checksums don't show, leads here. */
        LOG_ERROR("queue-envelope-unreadable", log_str("id", message_id_format(id, (char[MESSAGE_ID_TEXT_BYTES]){0})));
        return;
    }
    message->queue = queue;
    message->task.run = on_arrival;
    loop_post(queue->owner, &message->task);
}

/* ---- statistics ---- */

static uint64_t read_counter(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void queue_get_statistics(const struct queue *queue, struct queue_statistics *statistics)
{
    const struct queue_counters *counters = &queue->counters;

    *statistics = (struct queue_statistics){
        .messages = read_counter(&counters->messages),
        .recipients_waiting = read_counter(&counters->recipients[RECIPIENT_WAITING]),
        .recipients_ready = read_counter(&counters->recipients[RECIPIENT_READY]),
        .recipients_taken = read_counter(&counters->recipients[RECIPIENT_TAKEN]),
        .destinations = read_counter(&counters->destinations),
        .workers = read_counter(&counters->workers),
        .delivered = read_counter(&counters->delivered),
        .deferred = read_counter(&counters->deferred),
        .failed = read_counter(&counters->failed),
        .expired = read_counter(&counters->expired),
        .reports = read_counter(&counters->reports),
    };
}
