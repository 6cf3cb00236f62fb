/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workers: delivery fibers, on their own loops, and the owner's side of them. A worker is a pair of mailboxes:
 *
 *   delivery fiber (its loop)                owner
 *   queue_take   ── ask ─────────────────>   IDLE, until there are items or it must go
 *                <───────────── answer ───   BUSY, with what was handed over (nothing: LEAVING)
 *   deadline     ── withdraw ────────────>   no longer IDLE, if it still was
 *                <────────── withdrawn ───   always
 *   queue_settle, queue_give_back ───────>   one task each
 *   queue_worker_end ────────────────────>   freed
 *
 * Mailboxes keep order, so whatever was handed over while the worker withdrew has arrived when "withdrawn" does: nothing falls between
 * the two. Fields of the worker belong to one side each, or to whoever holds the turn.
 */
#include "base/mem.h"
#include "os/random.h"
#include "queue/queue_private.h"

#include "loop/fiber.h"

#include <assert.h>

enum worker_state { WORKER_BUSY, WORKER_IDLE, WORKER_LEAVING };

struct queue_worker {
    struct queue *queue;
    struct destination *destination;

    /* the owner's */
    enum worker_state state;
    struct list_link idle_link;
    bool connected;
    bool has_begun; /* asked for items, or said something of its connection */

    /* the fiber's, handed over with "ask" */
    struct loop *loop;
    struct fiber *fiber;
    size_t count_max;
    struct loop_task ask, withdraw, end;

    /* the owner's, handed over with "answer" */
    struct list_link handed;
    struct loop_task answer, withdrawn;

    /* the fiber's */
    bool is_answered, is_withdrawn;
};

/* ---- the owner's side ---- */

static void worker_set_state(struct queue_worker *worker, enum worker_state state)
{
    struct destination *destination = worker->destination;

    assert(worker->state != WORKER_LEAVING);
    if (worker->state == WORKER_IDLE) {
        list_remove(&worker->idle_link);
        destination->idle_count--;
    }
    if (state == WORKER_IDLE) {
        /* The latest first: its caches are warm, and those that aren't needed run into their deadlines. */
        list_prepend(&destination->idle, &worker->idle_link);
        destination->idle_count++;
    }
    if (state == WORKER_LEAVING)
        destination->leaving++;
    worker->state = state;
}

static void answer(struct queue_worker *worker)
{
    loop_post(worker->loop, &worker->answer);
}

static void dismiss(struct queue_worker *worker)
{
    worker_set_state(worker, WORKER_LEAVING);
    answer(worker);
}

static void on_ask(struct loop_task *task)
{
    struct queue_worker *worker = LIST_ENTRY(task, struct queue_worker, ask);
    struct queue *queue = worker->queue;

    worker->has_begun = true;
    if (worker->state == WORKER_LEAVING) {
        answer(worker);
        return;
    }
    if (queue->stopping || destination_is_crowded(worker->destination)) {
        dismiss(worker);
        return;
    }
    worker_set_state(worker, WORKER_IDLE);
    queue_mark_dirty(queue, worker->destination);
}

static void on_withdraw(struct loop_task *task)
{
    struct queue_worker *worker = LIST_ENTRY(task, struct queue_worker, withdraw);

    if (worker->state == WORKER_IDLE)
        worker_set_state(worker, WORKER_BUSY);
    loop_post(worker->loop, &worker->withdrawn);
}

static void on_end(struct loop_task *task)
{
    struct queue_worker *worker = LIST_ENTRY(task, struct queue_worker, end);
    struct queue *queue = worker->queue;
    struct destination *destination = worker->destination;

    assert(worker->state != WORKER_IDLE && list_is_empty(&worker->handed));
    destination->workers--;
    if (worker->state == WORKER_LEAVING)
        destination->leaving--;
    if (worker->connected)
        destination->connected--;
    /* It could not even begin (no fibers left, say): another at once would fare no better. */
    if (!worker->has_begun)
        destination->start_after_ms = loop_now_ms() + queue->delays.worker_retry_ms;
    counter_subtract(&queue->counters.workers, 1);
    queue_mark_dirty(queue, destination);
    free(worker);
}

static void on_answer(struct loop_task *task);
static void on_withdrawn(struct loop_task *task);

static void start_worker(struct queue *queue, struct destination *destination)
{
    struct queue_worker *worker = mem_alloc(sizeof(*worker));

    worker->queue = queue;
    worker->destination = destination;
    list_init(&worker->idle_link);
    list_init(&worker->handed);
    worker->ask.run = on_ask;
    worker->withdraw.run = on_withdraw;
    worker->end.run = on_end;
    worker->answer.run = on_answer;
    worker->withdrawn.run = on_withdrawn;
    destination->workers++;
    destination->served_at_ms = loop_now_ms();
    counter_add(&queue->counters.workers, 1);
    queue->hooks.start_worker(queue->hooks.context, worker, destination->name);
}

static void set_item_state(struct queue *queue, struct queue_item *item, enum recipient_state state)
{
    struct message *message = item->message;

    for (uint32_t recipient = item->first_recipient; recipient != RECIPIENT_NONE;
         recipient = message->recipients[recipient].next)
        recipient_set_state(queue, message, recipient, state);
}

static void hand_over(struct queue *queue, struct destination *destination, struct queue_worker *worker)
{
    size_t share = destination_share(destination, worker->count_max);
    struct queue_item *item;

    for (size_t i = 0; i < share && (item = destination_pop(destination)); i++) {
        schedule_remove(&queue->retries, &item->entry);
        set_item_state(queue, item, RECIPIENT_TAKEN);
        list_append(&worker->handed, &item->link);
        destination->taken_count++;
    }
    destination->served_at_ms = loop_now_ms();
    worker_set_state(worker, WORKER_BUSY);
    answer(worker);
}

/* One that backs off is remembered for as long as that, so that new mail for it doesn't start afresh. */
static bool is_done_for(const struct queue *queue, const struct destination *destination)
{
    return destination_depth(destination) == 0 && destination->taken_count == 0 && destination->workers == 0 &&
           (destination->state != DESTINATION_BACKING_OFF || queue->destinations.count > QUEUE_RESTING_MAX);
}

void destination_dispatch(struct queue *queue, struct destination *destination)
{
    uint64_t now_ms = loop_now_ms();
    uint64_t look_at_ms;

    destination_look(destination, now_ms);
    if (destination->state == DESTINATION_BACKING_OFF)
        hold_items(queue, destination);
    else if (!queue->stopping) {
        while (destination->idle_count > 0 && destination_depth(destination) > 0)
            hand_over(queue, destination, LIST_ENTRY(destination->idle.next, struct queue_worker, idle_link));
        for (unsigned wanted = destination_workers_wanted(destination, now_ms); wanted > 0; wanted--)
            start_worker(queue, destination);
    }
    if (is_done_for(queue, destination)) {
        destinations_forget(queue, destination);
        return;
    }
    look_at_ms = destination_next_look_ms(destination);
    if (look_at_ms == SCHEDULE_NEVER)
        schedule_remove(&queue->looks, &destination->entry);
    else
        schedule_put(&queue->looks, &destination->entry, look_at_ms);
}

void destination_dismiss(struct destination *destination)
{
    while (destination->idle_count > 0)
        dismiss(LIST_ENTRY(destination->idle.next, struct queue_worker, idle_link));
}

/* What a worker has to say of its connection: seldom, so it is worth an allocation. */
struct connection_task {
    struct loop_task task;
    struct queue_worker *worker;
    bool connected;
    struct queue_outcome outcome;
};

static void on_connection(struct loop_task *task)
{
    struct connection_task *news = (struct connection_task *)task;
    struct queue_worker *worker = news->worker;
    struct queue *queue = worker->queue;
    struct destination *destination = worker->destination;

    if (news->connected && !worker->connected)
        destination->connected++;
    if (!news->connected && worker->connected)
        destination->connected--;
    worker->connected = news->connected;
    worker->has_begun = true;
    if (news->connected) {
        destination_connected(destination);
    } else {
        reason_release(&queue->reasons, &destination->reason);
        destination->reason = reason_take_outcome(&queue->reasons, &news->outcome);
        destination_failed(destination, loop_now_ms(), queue->settings.retry_ms[0], random_u64());
    }
    queue_mark_dirty(queue, destination);
    free(news);
}

/* ---- items on their way back ---- */

void item_detach(struct queue *queue, struct queue_item *item)
{
    schedule_remove(&queue->retries, &item->entry);
    if (!list_is_linked(&item->link))
        return;
    destination_remove(item->destination, item);
    queue_mark_dirty(queue, item->destination);
}

/* From the fiber's hands: whatever it was, it has been handled without harm. */
static void take_back(struct taken_item *taken)
{
    struct queue *queue = taken->queue;
    struct queue_item *item = taken->item;
    struct message *message = item->message;

    item->destination->taken_count--;
    queue_mark_dirty(queue, item->destination);
    in_hand_leave(queue->in_hand, taken->in_hand);
    if (message->is_suspect) {
        message->is_suspect = false;
        recovery_next_suspect(queue);
    }
}

static void on_settle(struct loop_task *task)
{
    struct taken_item *taken = LIST_ENTRY(task, struct taken_item, task);
    struct queue_item *item = taken->item;
    struct message *message = item->message;
    struct outcomes outcomes;

    take_back(taken);
    item_free(item);
    outcomes_begin(&outcomes, taken->queue, message, &taken->envelope);
    for (size_t i = 0; i < taken->recipient_count; i++)
        outcomes_add(&outcomes, taken->recipients[i], &taken->outcomes[i]);
    outcomes_end(&outcomes);
    taken_item_free(taken);
}

static bool is_doomed(const struct message *message, uint32_t recipient)
{
    return message->recipients[recipient].doom != DOOM_NONE;
}

/* What the postmaster has ordered for some of the item's recipients meanwhile comes true now; the others stay its chain. */
static void settle_doomed(struct outcomes *outcomes, struct queue_item *item)
{
    const struct queue_outcome untried = {.kind = QUEUE_DEFERRED};
    struct message *message = outcomes->message;
    uint32_t first_recipient = item->first_recipient, last = RECIPIENT_NONE;

    item->first_recipient = RECIPIENT_NONE;
    item->recipient_count = 0;
    for (uint32_t recipient = first_recipient, next; recipient != RECIPIENT_NONE; recipient = next) {
        next = message->recipients[recipient].next;
        if (is_doomed(message, recipient))
            outcomes_add(outcomes, recipient, &untried);
        else
            item_add_recipient(item, &last, recipient);
    }
}

static void make_ready_again(struct loop_task *task,
                             void (*push)(struct destination *destination, struct queue_item *item))
{
    struct taken_item *taken = LIST_ENTRY(task, struct taken_item, task);
    struct queue_item *item = taken->item;
    struct queue *queue = taken->queue;
    struct message *message = item->message;
    struct outcomes outcomes;

    take_back(taken);
    outcomes_begin(&outcomes, queue, message, &taken->envelope);
    if (taken->envelope.recipients)
        settle_doomed(&outcomes, item);
    set_item_state(queue, item, message->hold || taken->is_unread ? RECIPIENT_WAITING : RECIPIENT_READY);
    item->sender = NULL; /* instead of `taken` */
    if (item->recipient_count == 0 || message->hold)
        item_free(item);
    else if (taken->is_unread)
        queue_schedule_item(queue, item, outcomes.now_at_ms + queue->delays.read_retry_ms);
    else
        push(item->destination, item);
    outcomes_end(&outcomes);
    taken_item_free(taken);
}

static void on_give_back(struct loop_task *task)
{
    make_ready_again(task, destination_push_front);
}

static void on_give_back_last(struct loop_task *task)
{
    make_ready_again(task, destination_push);
}

/* ---- the fiber's side ---- */

static void on_answer(struct loop_task *task)
{
    struct queue_worker *worker = LIST_ENTRY(task, struct queue_worker, answer);

    worker->is_answered = true;
    fiber_wake(worker->fiber);
}

static void on_withdrawn(struct loop_task *task)
{
    struct queue_worker *worker = LIST_ENTRY(task, struct queue_worker, withdrawn);

    worker->is_withdrawn = true;
    fiber_wake(worker->fiber);
}

/* The owner may be handing over at this very moment: only its confirmation says that nothing is on its way. */
static void withdraw(struct queue_worker *worker)
{
    bool was_cancelled = fiber_is_cancelled(worker->fiber);

    /* The owner answers for certain, and soon; a cancelled fiber would not wait at all. */
    worker->is_withdrawn = false;
    loop_post(worker->queue->owner, &worker->withdraw);
    while (!worker->is_withdrawn) {
        fiber_clear_cancel();
        if (fiber_wait(DEADLINE_NEVER) == WAIT_CANCELLED)
            was_cancelled = true;
    }
    if (was_cancelled)
        fiber_cancel(worker->fiber);
}

/* Opens the items; those that can't be read go back. Returns how many are left. */
static size_t open_items(struct queue *queue, struct queue_item **items, const struct envelope_read *reads,
                         size_t count, bool are_read)
{
    size_t opened = 0, read = 0;

    for (size_t i = 0; i < count; i++) {
        struct queue_item *item = items[i];
        bool is_in_memory = message_has_envelope(item->message);
        struct str data = {0};

        if (!is_in_memory && reads) {
            data = str_make(reads[read].data, reads[read].length);
            read++;
        }
        item_open(item, queue, data);
        if (item->taken->envelope.recipients) {
            item->taken->in_hand = in_hand_enter(queue->in_hand, item->message->id);
            items[opened++] = item;
            continue;
        }
        item->taken->is_unread = are_read;
        queue_give_back(item);
    }
    return opened;
}

/* From a fiber: first reads the envelopes that are on the disk alone. */
static size_t receive_items(struct queue *queue, struct queue_item **items, size_t count)
{
    struct envelope_read *reads = NULL;
    size_t wanted = 0;
    bool are_read = false;

    for (size_t i = 0; i < count; i++) {
        if (message_has_envelope(items[i]->message))
            continue;
        if (!reads)
            reads = mem_alloc_array(count, sizeof(*reads));
        reads[wanted++].id = items[i]->message->id;
    }
    if (wanted > 0)
        are_read = envelopes_read(queue, reads, wanted, loop_now_ms() + QUEUE_READ_MS) == WAIT_READY;
    count = open_items(queue, items, reads, count, are_read);
    free(reads);
    return count;
}

size_t queue_take(struct queue_worker *worker, struct queue_item **items, size_t count_max, uint64_t deadline_ms)
{
    size_t count = 0;
    struct list_link *link;

    if (count_max == 0)
        return 0;
    worker->loop = loop_current();
    worker->fiber = fiber_current();
    worker->count_max = count_max;
    worker->is_answered = false;
    loop_post(worker->queue->owner, &worker->ask);
    while (!worker->is_answered) {
        if (fiber_wait(deadline_ms) != WAIT_READY && !worker->is_answered) {
            withdraw(worker);
            break;
        }
    }
    while ((link = list_take_first(&worker->handed)))
        items[count++] = LIST_ENTRY(link, struct queue_item, link);
    return receive_items(worker->queue, items, count);
}

static void post_connection(struct queue_worker *worker, const struct queue_outcome *outcome)
{
    struct connection_task *news = mem_alloc(sizeof(*news));

    news->task.run = on_connection;
    news->worker = worker;
    news->connected = !outcome;
    if (outcome)
        news->outcome = *outcome;
    loop_post(worker->queue->owner, &news->task);
}

void queue_worker_connected(struct queue_worker *worker)
{
    post_connection(worker, NULL);
}

void queue_worker_failed(struct queue_worker *worker, const struct queue_outcome *outcome)
{
    post_connection(worker, outcome);
}

void queue_worker_end(struct queue_worker *worker)
{
    loop_post(worker->queue->owner, &worker->end);
}

void queue_settle(struct queue_item *item)
{
    item->taken->task.run = on_settle;
    loop_post(item->taken->queue->owner, &item->taken->task);
}

void queue_give_back(struct queue_item *item)
{
    item->taken->task.run = on_give_back;
    loop_post(item->taken->queue->owner, &item->taken->task);
}

void queue_give_back_last(struct queue_item *item)
{
    item->taken->task.run = on_give_back_last;
    loop_post(item->taken->queue->owner, &item->taken->task);
}

/* ---- what a fiber reads of its items ---- */

spool_id queue_item_id(const struct queue_item *item)
{
    return item->message->id;
}

const struct envelope *queue_item_envelope(const struct queue_item *item)
{
    return &item->taken->envelope;
}

uint64_t queue_item_body_bytes(const struct queue_item *item)
{
    return message_body_bytes(item->message);
}

size_t queue_item_recipient_count(const struct queue_item *item)
{
    return item->taken->recipient_count;
}

size_t queue_item_recipient(const struct queue_item *item, size_t i)
{
    assert(i < item->taken->recipient_count);
    return item->taken->recipients[i];
}

struct queue_outcome *queue_item_outcome(struct queue_item *item, size_t i)
{
    assert(i < item->taken->recipient_count);
    return &item->taken->outcomes[i];
}
