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

static bool is_transition(enum recipient_state from, enum recipient_state to)
{
    static const unsigned allowed[RECIPIENT_STATES] = {
        [RECIPIENT_WAITING] = 1u << RECIPIENT_READY | 1u << RECIPIENT_FAILED | 1u << RECIPIENT_DELETED |
                              1u << RECIPIENT_DELIVERED | 1u << RECIPIENT_REPORTED | 1u << RECIPIENT_UNTOLD,
        [RECIPIENT_READY] =
            1u << RECIPIENT_TAKEN | 1u << RECIPIENT_WAITING | 1u << RECIPIENT_FAILED | 1u << RECIPIENT_DELETED,
        [RECIPIENT_TAKEN] = 1u << RECIPIENT_READY | 1u << RECIPIENT_WAITING | 1u << RECIPIENT_DELIVERED |
                            1u << RECIPIENT_FAILED | 1u << RECIPIENT_UNTOLD | 1u << RECIPIENT_DELETED,
        [RECIPIENT_FAILED] = 1u << RECIPIENT_REPORTED,
        [RECIPIENT_UNTOLD] = 1u << RECIPIENT_DELIVERED,
    };

    return allowed[from] & 1u << to;
}

void recipient_set_state(struct queue *queue, struct message *message, uint32_t recipient, enum recipient_state state)
{
    enum recipient_state from = (enum recipient_state)message->recipients[recipient].state;

    assert(is_transition(from, state));
    message->recipients[recipient].state = state & 15u;
    counter_subtract(&queue->counters.recipients[from], 1);
    counter_add(&queue->counters.recipients[state], 1);
    if (from == RECIPIENT_TAKEN)
        message->taken--;
    if (state == RECIPIENT_TAKEN)
        message->taken++;
    if (state == RECIPIENT_DELIVERED || state == RECIPIENT_REPORTED || state == RECIPIENT_DELETED)
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
    message_table_remove(&queue->messages, message->id);
    counter_subtract(&queue->counters.messages, 1);
    counter_subtract(&queue->counters.messages_held, message->hold != 0);
    counter_subtract(&queue->counters.envelopes_in_memory, message_has_envelope(message));
    for (uint32_t i = 0; i < message->recipient_count; i++)
        counter_subtract(&queue->counters.recipients[message->recipients[i].state], 1);
    message_free(message, &queue->reasons);
}

void queue_end_message(struct queue *queue, struct message *message, bool write)
{
    assert(message->unsettled == 0 && !item_first(message));
    if (!reporting_drop_delays(queue, message))
        return; /* a notice of delay is on its way: its coming back leads here again */
    if (write)
        writer_add_end(queue, message->id);
    if (message->is_suspect) {
        in_hand_forget(queue->in_hand, message->id);
        recovery_next_suspect(queue);
    }
    forget_message(queue, message);
    queue_touch(queue);
}

void queue_tell(struct queue *queue, const struct queue_event *event)
{
    if (queue->hooks.event)
        queue->hooks.event(queue->hooks.context, event);
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
    if (queue->reports_under_way < queue->reports_max && schedule_first_ms(&queue->reports) < at_ms)
        at_ms = schedule_first_ms(&queue->reports);
    if (queue->writer.retry_at_ms < at_ms)
        at_ms = queue->writer.retry_at_ms;
    if (queue->suspect_at_ms < at_ms)
        at_ms = queue->suspect_at_ms;
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
    for (int i = 0; i < QUEUE_SLICE_ITEMS && queue->reports_under_way < queue->reports_max &&
                    (entry = schedule_take_due(&queue->reports, now_ms));
         i++)
        reporting_due(queue, entry);
    if (queue->writer.retry_at_ms <= now_ms)
        writer_retry(queue);
    if (queue->suspect_at_ms <= now_ms)
        recovery_suspects_due(queue);
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

/* Those on hold would never go. */
static void check_drained(struct queue *queue)
{
    void (*drained)(void *context) = queue->drained;

    if (!drained || queue->recovered_next < queue->recovered_count || !writer_is_idle(queue) ||
        queue->messages.count > atomic_load_explicit(&queue->counters.messages_held, memory_order_relaxed))
        return;
    queue->drained = NULL;
    drained(queue->drained_context);
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
    envelopes_flush(queue);
    writer_flush(queue);
    set_timer(queue);
    check_drained(queue);
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
    queue->delays =
        (struct queue_delays){QUEUE_WRITE_RETRY_MS, QUEUE_REPORT_RETRY_MS, QUEUE_WORKER_RETRY_MS, QUEUE_READ_RETRY_MS};
    queue->suspect_at_ms = SCHEDULE_NEVER;
    queue->reports_max = QUEUE_REPORTS_MAX;
    list_init(&queue->dirty);
    queue->timer.run = on_timer;
    queue->timer_at_ms = SCHEDULE_NEVER;
    queue->turn.run = on_turn;
    writer_init(queue);
    *out = queue;
    return 0;
}

void queue_set_resources(struct queue *queue, struct worker_pool *disk_pool, const char *in_hand_path)
{
    struct error error;

    queue->disk_pool = disk_pool;
    if (in_hand_path && in_hand_open(&queue->in_hand, in_hand_path, &error) != 0)
        LOG_WARNING("queue-in-hand-unavailable", log_cstr("error", error.text));
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

static void free_messages(struct queue *queue)
{
    const struct table_filter all = {0};
    size_t budget = SIZE_MAX;
    spool_id id = 0;
    struct message *message;
    struct queue_item *item;

    while ((message = message_table_next(&queue->messages, &id, &all, &budget))) {
        while ((item = item_first(message))) {
            schedule_remove(&queue->retries, &item->entry);
            item_free(item);
        }
        recovery_forget(message);
        reporting_forget(queue, message);
        message_free(message, &queue->reasons);
    }
    message_table_release(&queue->messages);
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
    free_messages(queue);
    free(queue->places);
    envelopes_release(queue);
    in_hand_close(&queue->in_hand);
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

/* ---- draining ---- */

struct drain_task {
    struct loop_task task;
    struct queue *queue;
    void (*drained)(void *context);
    void *context;
};

static void on_drain(struct loop_task *task)
{
    struct drain_task *drain = (struct drain_task *)task;

    drain->queue->drained = drain->drained;
    drain->queue->drained_context = drain->context;
    queue_touch(drain->queue);
    free(drain);
}

void queue_drain(struct queue *queue, void (*drained)(void *context), void *context)
{
    struct drain_task *drain = mem_alloc(sizeof(*drain));

    drain->task.run = on_drain;
    drain->queue = queue;
    drain->drained = drained;
    drain->context = context;
    loop_post(queue->owner, &drain->task);
}

/* ---- arrival ---- */

bool queue_index_message(struct queue *queue, struct message *message)
{
    const struct table_tags tags = message->arrival.tags;

    message->extras = NULL;
    message->failures = NULL;
    message->item = (struct queue_item){0};
    if (!message_table_add(&queue->messages, message->id, &tags, message)) {
        LOG_ERROR("queue-duplicate", log_str("id", message_id_format(message->id, (char[MESSAGE_ID_TEXT_BYTES]){0})));
        message_free(message, &queue->reasons);
        return false;
    }
    counter_add(&queue->counters.messages, 1);
    counter_add(&queue->counters.envelopes_in_memory, message_has_envelope(message));
    counter_add(&queue->counters.recipients[RECIPIENT_WAITING], message->recipient_count);
    return true;
}

static void on_arrival(struct loop_task *task)
{
    struct message *message = LIST_ENTRY(task, struct message, task);
    struct queue *queue = message->arrival.queue;

    if (!queue_index_message(queue, message))
        return;
    queue_touch(queue);
    if (message->recipient_count == 0) {
        queue_end_message(queue, message, true);
        return;
    }
    for (uint32_t i = 0; i + 1u < message->recipient_count; i++)
        message->recipients[i].next = (uint16_t)(i + 1);
    route_waiting(queue, message, 0);
}

void queue_add(struct queue *queue, spool_id id, struct str encoded_envelope, uint64_t body_bytes)
{
    struct message *message = message_create(id, encoded_envelope, body_bytes);

    if (!message) {
        /* It stays in the spool. Only a defect of ours, or damage that checksums don't show, leads here. */
        LOG_ERROR("queue-envelope-unreadable", log_str("id", message_id_format(id, (char[MESSAGE_ID_TEXT_BYTES]){0})));
        return;
    }
    message->arrival.queue = queue;
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
        .messages_held = read_counter(&counters->messages_held),
        .envelopes_in_memory = read_counter(&counters->envelopes_in_memory),
        .delivered = read_counter(&counters->delivered),
        .deferred = read_counter(&counters->deferred),
        .failed = read_counter(&counters->failed),
        .expired = read_counter(&counters->expired),
        .deleted = read_counter(&counters->deleted),
        .reports = read_counter(&counters->reports),
    };
}
