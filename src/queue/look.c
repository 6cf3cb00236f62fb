/* SPDX-License-Identifier: Apache-2.0 */
/* The owner's side of looking: one bounded round, in which messages that may be meant are copied out. What a filter says of texts the reader sees to. */
#include "base/mem.h"
#include "os/clock.h"
#include "queue/control_private.h"

/* Texts that were copied lately, by where they came from: most recipients share a few. */
#define KNOWN_TEXTS 64
/* Reasons of one round; what would go beyond is left out. */
#define ROUND_BYTES_MAX (64u << 20)
#define TEXTS_BYTES_MAX (8u << 20)

struct look {
    const struct queue *queue;
    struct look_round *round;
    int64_t now_at_ms;
    uint64_t now_ms;
    struct known_text {
        const void *source;
        uint32_t status, remote, text;
    } known[KNOWN_TEXTS];
};

/* ---- texts ---- */

static uint32_t copy_text(struct look *look, struct str text)
{
    struct buf *bytes = &look->round->bytes;
    size_t offset = bytes->length;

    if (text.length == 0 || offset > UINT32_MAX - 1 || bytes->length + text.length > ROUND_BYTES_MAX - 1)
        return LOOKED_NO_TEXT;
    buf_append_str(bytes, text);
    buf_append_char(bytes, '\0');
    return (uint32_t)offset;
}

static struct known_text *known_text(struct look *look, const void *source)
{
    return &look->known[(uintptr_t)source / sizeof(max_align_t) % KNOWN_TEXTS];
}

static void set_reason(struct look *look, struct looked_recipient *looked, const struct reason *reason)
{
    struct known_text *known = known_text(look, reason);

    if (!reason)
        return;
    if (known->source != reason) {
        bool has_room = look->round->bytes.length < TEXTS_BYTES_MAX;

        *known = (struct known_text){
            .source = reason,
            .status = copy_text(look, reason_status(reason)),
            .remote = has_room ? copy_text(look, reason_remote(reason)) : LOOKED_NO_TEXT,
            .text = has_room ? copy_text(look, reason_text(reason)) : LOOKED_NO_TEXT,
        };
    }
    looked->status = known->status;
    looked->remote = known->remote;
    looked->text = known->text;
}

static void set_destination(struct look *look, struct looked_recipient *looked, const struct destination *destination)
{
    struct known_text *known = known_text(look, destination->name);

    if (known->source != destination->name)
        *known = (struct known_text){
            .source = destination->name,
            .text = copy_text(look, str_make(destination->name, destination->name_length)),
        };
    looked->destination = known->text;
}

/* ---- recipients ---- */

enum queue_state look_state(const struct message *message, uint32_t recipient)
{
    switch ((enum recipient_state)message->recipients[recipient].state) {
    case RECIPIENT_WAITING:
        return message->hold ? QUEUE_STATE_HELD : QUEUE_STATE_WAITING;
    case RECIPIENT_READY:
        return QUEUE_STATE_READY;
    case RECIPIENT_TAKEN:
        return QUEUE_STATE_TAKEN;
    case RECIPIENT_FAILED:
    case RECIPIENT_UNTOLD:
        return QUEUE_STATE_FAILED;
    case RECIPIENT_DELIVERED:
        return QUEUE_STATE_DELIVERED;
    case RECIPIENT_REPORTED:
        return QUEUE_STATE_REPORTED;
    case RECIPIENT_DELETED:
        break;
    }
    return QUEUE_STATE_DELETED;
}

static bool is_meant(const struct look_round *round, const struct message *message)
{
    if (round->arrived_before_at_ms != 0 && message->arrived_at_ms >= round->arrived_before_at_ms)
        return false;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        enum queue_state state = look_state(message, i);

        /* Whether a ready one is shown as waiting its item tells: the reader decides. */
        if (state & round->states || (state == QUEUE_STATE_READY && round->states & QUEUE_STATE_WAITING))
            return true;
    }
    return false;
}

/* What the item that a recipient is in knows of it. */
static void look_at_item(struct look *look, const struct queue_item *item, struct looked_recipient *looked)
{
    const struct destination *destination = item->destination;
    int64_t passed_ms = look->now_at_ms - (int64_t)look->now_ms;

    if (looked->state == QUEUE_STATE_WAITING) {
        if (schedule_is_put(&item->entry))
            looked->next_attempt_at_ms = (int64_t)item->entry.at_ms + passed_ms;
        return;
    }
    set_destination(look, looked, destination);
    if (looked->state != QUEUE_STATE_READY || item->sender)
        return;
    looked->state = QUEUE_STATE_WAITING;
    if (destination->state == DESTINATION_BACKING_OFF)
        looked->next_attempt_at_ms = (int64_t)destination->rest_until_ms + passed_ms;
    set_reason(look, looked, destination->reason);
}

static void look_at_failures(struct look *look, const struct message *message, struct looked_recipient *looked)
{
    size_t count;
    const struct failure *failures = reporting_list(message, &count);

    for (size_t i = 0; i < count; i++) {
        if (failures[i].kind != QUEUE_REPORT_DELAYED)
            set_reason(look, &looked[failures[i].recipient], failures[i].reason);
    }
}

static struct looked_recipient *add_recipients(struct look_round *round, size_t count)
{
    if (round->recipient_capacity - round->recipient_count < count) {
        round->recipient_capacity = round->recipient_capacity * 2 + count;
        round->recipients = mem_resize_array(round->recipients, round->recipient_capacity, sizeof(*round->recipients));
    }
    round->recipient_count += count;
    return &round->recipients[round->recipient_count - count];
}

static void look_at_recipients(struct look *look, struct message *message)
{
    struct looked_recipient *looked = add_recipients(look->round, message->recipient_count);

    for (uint32_t i = 0; i < message->recipient_count; i++) {
        const struct recipient *recipient = &message->recipients[i];

        looked[i] = (struct looked_recipient){
            .state = look_state(message, i),
            .attempts = recipient->attempts,
            .status = LOOKED_NO_TEXT,
            .remote = LOOKED_NO_TEXT,
            .text = LOOKED_NO_TEXT,
            .destination = LOOKED_NO_TEXT,
            .is_delay_told = recipient->is_delay_told,
        };
        set_reason(look, &looked[i], reason_at(&look->queue->reasons, recipient->reason));
    }
    for (struct queue_item *item = item_first(message); item; item = item_next(item)) {
        for (uint32_t i = item->first_recipient; i != RECIPIENT_NONE; i = message->recipients[i].next)
            look_at_item(look, item, &looked[i]);
    }
    look_at_failures(look, message, looked);
}

/* ---- messages ---- */

static void look_at(struct look *look, struct message *message)
{
    struct look_round *round = look->round;
    struct looked_message *looked = &round->messages[round->message_count++];
    struct hold_view hold;

    *looked = (struct looked_message){
        .id = message->id,
        .body_bytes = message_body_bytes(message),
        .envelope = round->bytes.length,
        .envelope_bytes = message->envelope_bytes,
        .recipient_first = round->recipient_count,
        .recipient_count = message->recipient_count,
        .unsettled_count = message->unsettled,
        .held_text = LOOKED_NO_TEXT,
    };
    buf_append_str(&round->bytes, message_envelope(message));
    look_at_recipients(look, message);
    if (!message->hold)
        return;
    hold_get(look->queue, message, &hold);
    looked->held_text = copy_text(look, hold.text.length > 0 ? hold.text : STR("?"));
    looked->held_at_ms = hold.at_ms;
    looked->is_quarantined = hold.is_quarantine;
}

static void look_at_one(struct look *look)
{
    struct message *message = message_table_find(&look->queue->messages, look->round->after);

    if (message)
        look_at(look, message);
    look->round->is_end = true;
}

static void look_at_many(struct look *look)
{
    struct look_round *round = look->round;
    size_t budget = QUEUE_ROUND_ENTRIES;

    while (round->message_count < QUEUE_ROUND_MESSAGES && round->bytes.length < QUEUE_ROUND_BYTES) {
        struct message *message = message_table_next(&look->queue->messages, &round->after, &round->filter, &budget);

        if (!message) {
            round->is_end = budget > 0;
            return;
        }
        /* One that has to be touched costs as much as some that don't. */
        budget -= budget < QUEUE_TOUCH_COST ? budget : QUEUE_TOUCH_COST;
        if (is_meant(round, message))
            look_at(look, message);
    }
}

void look_run(struct owner_call *call)
{
    struct look_round *round = LIST_ENTRY(call, struct look_round, call);
    struct look look = {.queue = call->queue, .round = round, .now_at_ms = clock_real_ms(), .now_ms = loop_now_ms()};

    buf_init(&round->bytes, ROUND_BYTES_MAX);
    if (round->only_one)
        look_at_one(&look);
    else
        look_at_many(&look);
    owner_call_answer(call);
}
