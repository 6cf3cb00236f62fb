/* SPDX-License-Identifier: Apache-2.0 */
/* The owner's side of the postmaster's orders: one bounded round. It is answered when all that it wrote is on the disk. */
#include "base/mem.h"
#include "queue/control_private.h"

#include <stdio.h>
#include <stdlib.h>

/* One message of a round, and whom of its recipients the order means. */
struct act {
    struct queue *queue;
    struct act_round *round;
    const struct act_message *target;
    struct message *message;
    const struct envelope *envelope; /* NULL: not to be had; only HOLD, RELEASE and RETRY do without */
};

/* It may have moved on since it was looked at: what it was then meant for, it is only if it still stands so. */
static bool is_meant(const struct act *act, uint32_t recipient)
{
    enum queue_state state = look_state(act->message, recipient);

    if (act->target->are_meant && (recipient >= act->target->recipient_count || !act->target->are_meant[recipient]))
        return false;
    /* A ready one may be shown as waiting for its destination. */
    return (state & act->round->states) || (state == QUEUE_STATE_READY && act->round->states & QUEUE_STATE_WAITING);
}

static uint64_t count_unsettled(const struct act *act)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < act->message->recipient_count; i++)
        count += (look_state(act->message, i) & QUEUE_STATES_UNSETTLED) != 0;
    return count;
}

static bool is_any_meant(const struct act *act)
{
    for (uint32_t i = 0; i < act->message->recipient_count; i++) {
        if (is_meant(act, i))
            return true;
    }
    return false;
}

/* ---- hold, release ---- */

static uint64_t hold(struct act *act)
{
    uint64_t count = count_unsettled(act);
    char text[ACT_BY_BYTES + 16];

    if (!is_any_meant(act))
        return 0;
    snprintf(text, sizeof(text), "by %s", act->round->by);
    return hold_message(act->queue, act->message, act->envelope, str_from_cstr(text), act->round->at_ms, false) ? count
                                                                                                                : 0;
}

static uint64_t release(struct act *act)
{
    uint64_t count = count_unsettled(act);

    if (!is_any_meant(act))
        return 0;
    return release_message(act->queue, act->message, act->envelope, act->round->by) ? count : 0;
}

/* ---- retry ---- */

static bool is_item_meant(const struct act *act, const struct queue_item *item)
{
    for (uint32_t i = item->first_recipient; i != RECIPIENT_NONE; i = act->message->recipients[i].next) {
        if (is_meant(act, i))
            return true;
    }
    return false;
}

/* Its destination is down: that is asked now. */
static void retry_destination(struct queue *queue, struct queue_item *item)
{
    if (item->destination->state != DESTINATION_BACKING_OFF)
        return;
    destination_wake(item->destination);
    queue_mark_dirty(queue, item->destination);
}

/* The items that wait for their time are put into the schedule for now: from there they go as always. */
static uint64_t retry(struct act *act)
{
    struct message *message = act->message;
    uint64_t count = 0;

    for (struct queue_item *item = item_first(message); item; item = item_next(item)) {
        enum recipient_state state = (enum recipient_state)message->recipients[item->first_recipient].state;

        if (state == RECIPIENT_TAKEN || !is_item_meant(act, item))
            continue;
        count += item->recipient_count;
        if (state == RECIPIENT_READY && !item->sender)
            retry_destination(act->queue, item);
        else if (state == RECIPIENT_WAITING && schedule_is_put(&item->entry))
            queue_schedule_item(act->queue, item, 0);
    }
    return count;
}

/* ---- delete, bounce ---- */

static bool can_end(const struct act *act, uint32_t recipient)
{
    const struct recipient *r = &act->message->recipients[recipient];
    bool is_open = r->state == RECIPIENT_WAITING || r->state == RECIPIENT_READY || r->state == RECIPIENT_TAKEN;

    /* What is to be deleted is so on the disk already, and what is to be bounced can still be deleted. */
    return is_open && r->doom != DOOM_DELETE && (r->doom == DOOM_NONE || act->round->action == QUEUE_ACTION_DELETE) &&
           is_meant(act, recipient);
}

/* Takes those that are to end out of an item; false: none is left, and it is gone. */
static bool thin_item(struct act *act, struct queue_item *item, const bool *ends)
{
    struct message *message = act->message;
    uint32_t first = item->first_recipient, last = RECIPIENT_NONE;

    item->first_recipient = RECIPIENT_NONE;
    item->recipient_count = 0;
    for (uint32_t i = first, next; i != RECIPIENT_NONE; i = next) {
        next = message->recipients[i].next;
        if (!ends[i])
            item_add_recipient(item, &last, i);
    }
    if (item->recipient_count > 0)
        return true;
    item_detach(act->queue, item);
    item_free(item);
    return false;
}

static void thin_items(struct act *act, const bool *ends)
{
    struct queue_item *item = item_first(act->message), *next;

    for (; item; item = next) {
        next = item_next(item);
        if (act->message->recipients[item->first_recipient].state != RECIPIENT_TAKEN)
            thin_item(act, item, ends);
    }
}

static uint64_t end_recipients(struct act *act)
{
    struct message *message = act->message;
    bool *ends = mem_alloc(message->recipient_count);
    struct outcomes outcomes;
    uint64_t count = 0;

    for (uint32_t i = 0; i < message->recipient_count; i++) {
        ends[i] = can_end(act, i);
        count += ends[i];
    }
    if (count == 0 || !act->envelope)
        goto done;
    thin_items(act, ends);
    outcomes_begin(&outcomes, act->queue, message, act->envelope);
    outcomes.by = act->round->by;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        if (ends[i] && act->round->action == QUEUE_ACTION_DELETE)
            outcomes_delete(&outcomes, i);
        else if (ends[i])
            outcomes_bounce(&outcomes, i, str_from_cstr(act->round->text));
    }
    outcomes_end(&outcomes);
done:
    free(ends);
    return act->envelope ? count : 0;
}

/* ---- a round ---- */

static uint64_t carry_out(struct act *act)
{
    switch (act->round->action) {
    case QUEUE_ACTION_HOLD:
        return hold(act);
    case QUEUE_ACTION_RELEASE:
        return release(act);
    case QUEUE_ACTION_RETRY:
        return retry(act);
    case QUEUE_ACTION_DELETE:
    case QUEUE_ACTION_BOUNCE:
        break;
    }
    return end_recipients(act);
}

static bool find_message(struct act *act)
{
    act->message = message_table_find(&act->queue->messages, act->target->id);
    if (!act->message || !act->message->is_unstarted)
        return act->message != NULL;
    recovery_start_message(act->queue, act->message);
    act->message = message_table_find(&act->queue->messages, act->target->id);
    return act->message != NULL;
}

static void act_on(struct act *act)
{
    struct envelope envelope;
    struct arena arena;
    uint64_t count;

    if (!find_message(act))
        return;
    act->envelope = message_decode_data(act->message, act->target->envelope, &arena, &envelope) ? &envelope : NULL;
    count = carry_out(act);
    act->round->done.messages += count > 0;
    act->round->done.recipients += count;
    act->envelope = NULL;
    arena_release(&arena);
}

static void on_written(struct writer_waiter *waiter)
{
    struct act_round *round = LIST_ENTRY(waiter, struct act_round, waiter);

    if (waiter->failed)
        round->done.unwritten = round->done.messages;
    owner_call_answer(&round->call);
}

void act_run(struct owner_call *call)
{
    struct act_round *round = LIST_ENTRY(call, struct act_round, call);
    struct act act = {.queue = call->queue, .round = round};

    round->waiter.done = on_written;
    writer_watch(call->queue, &round->waiter);
    for (size_t i = 0; i < round->message_count; i++) {
        act.target = &round->messages[i];
        act_on(&act);
    }
    queue_touch(call->queue);
    writer_watch(call->queue, NULL);
}
