/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fiber's side of control.h: asks the owner for one round after the other, reads envelopes that are on the disk alone, and sees which recipients
 * a filter's texts mean.
 */
#include "queue/control.h"

#include "base/mem.h"
#include "os/clock.h"
#include "queue/control_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define BOUNCE_TEXT "Returned by the postmaster"

/* ---- calls to the owner ---- */

static void call_release(struct owner_call *call)
{
    if (--call->references == 0)
        call->destroy(call);
}

static void on_answered(struct loop_task *task)
{
    struct owner_call *call = LIST_ENTRY(task, struct owner_call, task);

    call->is_answered = true;
    if (call->fiber)
        fiber_wake(call->fiber);
    call_release(call);
}

void owner_call_answer(struct owner_call *call)
{
    call->task.run = on_answered;
    loop_post(call->loop, &call->task);
}

static void on_call(struct loop_task *task)
{
    struct owner_call *call = LIST_ENTRY(task, struct owner_call, task);

    call->run(call);
}

static void call_init(struct owner_call *call, struct queue *queue, void (*run)(struct owner_call *),
                      void (*destroy)(struct owner_call *))
{
    *call = (struct owner_call){.queue = queue, .run = run, .destroy = destroy, .references = 1};
}

/* Unless WAIT_READY the call is the owner's until it is through with it, and must not be read. */
static enum wait_result call_wait(struct owner_call *call, uint64_t deadline_ms)
{
    enum wait_result result = WAIT_READY;

    call->loop = loop_current();
    call->fiber = fiber_current();
    call->task.run = on_call;
    call->references++;
    loop_post(call->queue->owner, &call->task);
    while (!call->is_answered && result == WAIT_READY)
        result = fiber_wait(deadline_ms);
    call->fiber = NULL;
    return call->is_answered ? WAIT_READY : result;
}

/* ---- cursors ---- */

/* One message of the batch, with its memory. */
struct shown {
    struct queue_shown shown;
    struct envelope envelope;
    struct arena arena;
    char *data; /* of the envelope, if it came from the disk */
    size_t data_bytes;
    struct str encoded; /* the envelope, wherever it came from */
    struct queue_shown_recipient *recipients;
};

struct queue_cursor {
    struct queue *queue;
    struct queue_filter filter; /* its texts are the cursor's */
    char *texts[3];
    struct table_filter table_filter;
    bool only_one;
    bool is_end;
    bool is_blind; /* envelopes that are on the disk alone don't matter now */
    spool_id after;
    struct look_round *round; /* that the batch is made from, or NULL */
    struct shown batch[QUEUE_ROUND_MESSAGES];
    size_t count;
};

static struct str keep_text(char **kept, struct str text)
{
    *kept = mem_copy_str(text);
    return str_make(*kept, text.length);
}

struct queue_cursor *queue_cursor_create(struct queue *queue, const struct queue_filter *filter, spool_id after)
{
    struct queue_cursor *cursor = mem_alloc(sizeof(*cursor));

    cursor->queue = queue;
    cursor->after = after;
    cursor->filter = *filter;
    cursor->filter.domain = keep_text(&cursor->texts[0], filter->domain);
    cursor->filter.sender = keep_text(&cursor->texts[1], filter->sender);
    cursor->filter.recipient = keep_text(&cursor->texts[2], filter->recipient);
    if (filter->states == 0)
        cursor->filter.states = QUEUE_STATES_UNSETTLED;
    filter_for_table(filter, &cursor->table_filter);
    return cursor;
}

struct queue_cursor *queue_cursor_create_one(struct queue *queue, spool_id id)
{
    const struct queue_filter all = {.states = QUEUE_STATES_ALL};
    struct queue_cursor *cursor = queue_cursor_create(queue, &all, id);

    cursor->only_one = true;
    return cursor;
}

static void round_destroy(struct owner_call *call)
{
    struct look_round *round = LIST_ENTRY(call, struct look_round, call);

    free(round->recipients);
    buf_release(&round->bytes);
    free(round);
}

static void forget_batch(struct queue_cursor *cursor)
{
    for (size_t i = 0; i < QUEUE_ROUND_MESSAGES; i++) {
        struct shown *shown = &cursor->batch[i];

        arena_release(&shown->arena);
        mem_free(&shown->data);
        mem_free(&shown->recipients);
    }
    cursor->count = 0;
    if (cursor->round)
        call_release(&cursor->round->call);
    cursor->round = NULL;
}

void queue_cursor_destroy(struct queue_cursor **pointer)
{
    struct queue_cursor *cursor = *pointer;

    if (!cursor)
        return;
    *pointer = NULL;
    forget_batch(cursor);
    for (int i = 0; i < 3; i++)
        free(cursor->texts[i]);
    free(cursor);
}

size_t queue_cursor_count(const struct queue_cursor *cursor)
{
    return cursor->count;
}

const struct queue_shown *queue_cursor_get(const struct queue_cursor *cursor, size_t i)
{
    assert(i < cursor->count);
    return &cursor->batch[i].shown;
}

spool_id queue_cursor_position(const struct queue_cursor *cursor)
{
    return cursor->after;
}

/* ---- a round is asked for ---- */

static struct look_round *create_round(const struct queue_cursor *cursor)
{
    struct look_round *round = mem_alloc(sizeof(*round));

    call_init(&round->call, cursor->queue, look_run, round_destroy);
    round->filter = cursor->table_filter;
    round->states = cursor->filter.states;
    round->arrived_before_at_ms = cursor->filter.arrived_before_at_ms;
    round->only_one = cursor->only_one;
    round->after = cursor->after;
    return round;
}

static enum wait_result ask(struct queue_cursor *cursor, uint64_t deadline_ms)
{
    struct look_round *round = create_round(cursor);
    enum wait_result result = call_wait(&round->call, deadline_ms);

    if (result == WAIT_READY)
        cursor->round = round;
    else
        call_release(&round->call);
    return result;
}

/* Those of the round that are on the disk alone; data comes into `batch` at the places of the round's messages. */
static enum wait_result read_missing(struct queue_cursor *cursor, uint64_t deadline_ms)
{
    const struct look_round *round = cursor->round;
    struct envelope_read *reads = mem_alloc_array(QUEUE_ROUND_MESSAGES, sizeof(*reads));
    size_t places[QUEUE_ROUND_MESSAGES];
    enum wait_result result = WAIT_READY;
    size_t count = 0;

    for (size_t i = 0; i < round->message_count && !cursor->is_blind; i++) {
        if (round->messages[i].envelope_bytes > 0)
            continue;
        places[count] = i;
        reads[count++].id = round->messages[i].id;
    }
    if (count > 0)
        result = envelopes_read(cursor->queue, reads, count, deadline_ms);
    for (size_t i = 0; i < count && result == WAIT_READY; i++) {
        cursor->batch[places[i]].data = reads[i].data;
        cursor->batch[places[i]].data_bytes = reads[i].length;
    }
    free(reads);
    return result;
}

/* ---- and shown ---- */

static struct str text_at(const struct look_round *round, uint32_t offset)
{
    return offset == LOOKED_NO_TEXT ? STR("") : str_from_cstr(round->bytes.data + offset);
}

static bool open_envelope(struct shown *shown, const struct look_round *round, const struct looked_message *looked)
{
    shown->encoded = looked->envelope_bytes > 0 ? str_make(round->bytes.data + looked->envelope, looked->envelope_bytes)
                                                : str_make(shown->data, shown->data_bytes);
    arena_init(&shown->arena,
               2 * looked->recipient_count * sizeof(struct envelope_recipient) + 2 * sizeof(max_align_t));
    if (shown->encoded.length > 0 && envelope_decode(shown->encoded, &shown->arena, &shown->envelope) &&
        shown->envelope.recipient_count == looked->recipient_count)
        return true;
    shown->envelope = (struct envelope){.recipient_count = looked->recipient_count};
    shown->envelope.recipients =
        arena_alloc(&shown->arena, looked->recipient_count * sizeof(struct envelope_recipient));
    return false;
}

static void show_recipient(const struct look_round *round, const struct looked_recipient *looked,
                           struct queue_shown_recipient *shown)
{
    *shown = (struct queue_shown_recipient){
        .state = looked->state,
        .is_delay_told = looked->is_delay_told,
        .attempts = looked->attempts,
        .next_attempt_at_ms = looked->next_attempt_at_ms,
        .status = text_at(round, looked->status),
        .remote = text_at(round, looked->remote),
        .text = text_at(round, looked->text),
        .destination = text_at(round, looked->destination),
    };
}

static void show_message(const struct look_round *round, const struct looked_message *looked, struct shown *shown)
{
    bool is_readable = open_envelope(shown, round, looked);

    shown->recipients = mem_alloc_array(looked->recipient_count, sizeof(*shown->recipients));
    for (uint32_t i = 0; i < looked->recipient_count; i++)
        show_recipient(round, &round->recipients[looked->recipient_first + i], &shown->recipients[i]);
    shown->shown = (struct queue_shown){
        .id = looked->id,
        .body_bytes = looked->body_bytes,
        .envelope = &shown->envelope,
        .is_unreadable = !is_readable,
        .is_held = looked->held_text != LOOKED_NO_TEXT,
        .is_quarantined = looked->is_quarantined,
        .held_at_ms = looked->held_at_ms,
        .held_text = text_at(round, looked->held_text),
        .unsettled_count = looked->unsettled_count,
        .recipient_count = looked->recipient_count,
        .recipients = shown->recipients,
    };
}

static bool match(const struct queue_filter *filter, struct shown *shown)
{
    bool is_sender = filter_matches_sender(filter, &shown->envelope);
    bool is_any = false;

    /* What can't be read can't be told to be meant. */
    if (shown->shown.is_unreadable && filter_has_texts(filter))
        return false;
    for (size_t i = 0; i < shown->shown.recipient_count; i++) {
        struct queue_shown_recipient *recipient = &shown->recipients[i];

        recipient->is_match = is_sender && (recipient->state & filter->states) &&
                              filter_matches_recipient(filter, &shown->envelope.recipients[i]);
        is_any |= recipient->is_match;
    }
    return is_any;
}

static void forget_shown(struct shown *shown)
{
    arena_release(&shown->arena);
    mem_free(&shown->data);
    mem_free(&shown->recipients);
}

/* The found ones move to the front of the batch. */
static void show_round(struct queue_cursor *cursor)
{
    const struct look_round *round = cursor->round;

    for (size_t i = 0; i < round->message_count; i++) {
        struct shown *shown = &cursor->batch[i], *place = &cursor->batch[cursor->count];

        show_message(round, &round->messages[i], shown);
        if (!cursor->only_one && !match(&cursor->filter, shown)) {
            forget_shown(shown);
            continue;
        }
        if (place != shown) {
            *place = *shown;
            place->shown.envelope = &place->envelope;
            *shown = (struct shown){0};
        }
        cursor->count++;
    }
}

enum wait_result queue_cursor_next(struct queue_cursor *cursor, uint64_t deadline_ms)
{
    enum wait_result result = WAIT_READY;

    forget_batch(cursor);
    while (cursor->count == 0 && !cursor->is_end && result == WAIT_READY) {
        forget_batch(cursor);
        result = ask(cursor, deadline_ms);
        if (result == WAIT_READY)
            result = read_missing(cursor, deadline_ms);
        if (result != WAIT_READY)
            break;
        cursor->after = cursor->round->after;
        cursor->is_end = cursor->round->is_end;
        show_round(cursor);
        /* A deadline that has passed between two rounds that found nothing. */
        if (cursor->count == 0 && loop_now_ms() >= deadline_ms)
            result = WAIT_TIMEOUT;
    }
    return result;
}

/* ---- acting ---- */

static void act_destroy(struct owner_call *call)
{
    struct act_round *round = LIST_ENTRY(call, struct act_round, call);

    for (size_t i = 0; i < round->message_count; i++) {
        free(round->messages[i].are_meant);
        free((void *)(uintptr_t)round->messages[i].envelope.data);
    }
    free(round);
}

/* As much as fits, on one line. */
static void copy_line(char *out, size_t size, struct str text, const char *otherwise)
{
    if (text.length == 0)
        text = str_from_cstr(otherwise);
    text = str_take(text, size - 1);
    for (size_t i = 0; i < text.length; i++)
        out[i] = (unsigned char)text.data[i] < ' ' || text.data[i] == 0x7f ? ' ' : text.data[i];
    out[text.length] = '\0';
}

static struct act_round *create_act(struct queue *queue, const struct queue_order *order, unsigned states)
{
    struct act_round *round = mem_alloc(sizeof(*round));

    call_init(&round->call, queue, act_run, act_destroy);
    round->action = order->action;
    round->at_ms = clock_real_ms();
    round->states = states;
    copy_line(round->by, sizeof(round->by), order->by, "somebody");
    copy_line(round->text, sizeof(round->text), order->text, BOUNCE_TEXT);
    return round;
}

/* With its envelope, which may be gone from memory by the time that the owner comes to it. */
static void add_target(struct act_round *round, const struct shown *shown, bool is_filtered)
{
    struct act_message *target = &round->messages[round->message_count++];

    *target = (struct act_message){.id = shown->shown.id, .recipient_count = shown->shown.recipient_count};
    target->envelope = str_make(mem_copy_str(shown->encoded), shown->encoded.length);
    if (!is_filtered)
        return;
    target->are_meant = mem_alloc(target->recipient_count);
    for (size_t i = 0; i < target->recipient_count; i++)
        target->are_meant[i] = shown->recipients[i].is_match;
}

static void add_done(struct queue_done *done, const struct queue_done *of_round)
{
    done->messages += of_round->messages;
    done->recipients += of_round->recipients;
    done->unwritten += of_round->unwritten;
}

/* On what the cursor shows now. */
static enum wait_result act_on_batch(struct queue_cursor *cursor, const struct queue_order *order,
                                     struct queue_done *done, uint64_t deadline_ms)
{
    struct act_round *round = create_act(cursor->queue, order, cursor->filter.states);
    enum wait_result result;

    for (size_t i = 0; i < cursor->count; i++)
        add_target(round, &cursor->batch[i], !cursor->only_one);
    forget_batch(cursor);
    result = call_wait(&round->call, deadline_ms);
    if (result == WAIT_READY)
        add_done(done, &round->done);
    call_release(&round->call);
    return result;
}

enum wait_result queue_cursor_act(struct queue_cursor *cursor, const struct queue_order *order, struct queue_done *done,
                                  uint64_t deadline_ms)
{
    enum wait_result result;

    cursor->is_blind = order->action != QUEUE_ACTION_DELETE && order->action != QUEUE_ACTION_BOUNCE &&
                       !filter_has_texts(&cursor->filter);
    while ((result = queue_cursor_next(cursor, deadline_ms)) == WAIT_READY && cursor->count > 0) {
        result = act_on_batch(cursor, order, done, deadline_ms);
        if (result != WAIT_READY)
            break;
    }
    cursor->is_blind = false;
    return result;
}

enum wait_result queue_act(struct queue *queue, spool_id id, const struct queue_order *order, struct queue_done *done,
                           uint64_t deadline_ms)
{
    struct queue_cursor *cursor = queue_cursor_create_one(queue, id);
    enum wait_result result = queue_cursor_act(cursor, order, done, deadline_ms);

    queue_cursor_destroy(&cursor);
    return result;
}

/* ---- destinations ---- */

struct destinations_call {
    struct owner_call call;
    size_t position, count_max, count;
    bool is_end;
    struct queue_shown_destination list[];
};

static void destinations_run(struct owner_call *call)
{
    struct destinations_call *listing = LIST_ENTRY(call, struct destinations_call, call);
    const struct queue *queue = call->queue;
    size_t budget = QUEUE_ROUND_ENTRIES;

    for (; listing->position < queue->place_count && listing->count < listing->count_max && budget > 0; budget--) {
        const struct destination *destination = queue->places[listing->position++].destination;

        if (destination)
            destinations_show(destination, &listing->list[listing->count++]);
    }
    listing->is_end = listing->position >= queue->place_count;
    owner_call_answer(call);
}

static void destinations_destroy(struct owner_call *call)
{
    free(LIST_ENTRY(call, struct destinations_call, call));
}

static enum wait_result list_some(struct queue *queue, size_t *position, struct queue_shown_destination *list,
                                  size_t count_max, size_t *count, bool *is_end, uint64_t deadline_ms)
{
    struct destinations_call *listing = mem_alloc(sizeof(*listing) + count_max * sizeof(listing->list[0]));
    enum wait_result result;

    call_init(&listing->call, queue, destinations_run, destinations_destroy);
    listing->position = *position;
    listing->count_max = count_max;
    result = call_wait(&listing->call, deadline_ms);
    if (result == WAIT_READY) {
        *position = listing->position;
        *count = listing->count;
        *is_end = listing->is_end;
        memcpy(list, listing->list, listing->count * sizeof(*list));
    }
    call_release(&listing->call);
    return result;
}

enum wait_result queue_list_destinations(struct queue *queue, size_t *position, struct queue_shown_destination *list,
                                         size_t count_max, size_t *count, uint64_t deadline_ms)
{
    enum wait_result result = WAIT_READY;
    bool is_end = false;

    assert(count_max > 0 && count_max <= QUEUE_ROUND_MESSAGES);
    *count = 0;
    while (*count == 0 && !is_end && result == WAIT_READY)
        result = list_some(queue, position, list, count_max, count, &is_end, deadline_ms);
    return result;
}
