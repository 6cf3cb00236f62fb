/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of recipients: delivered, deferred, failed, expired, deleted; and what of it goes to the spool and to the log. */
#include "os/clock.h"
#include "os/random.h"
#include "queue/queue_private.h"

#include <assert.h>

/* A longer record goes to the spool in parts. */
#define RECORD_BYTES_MAX (256u << 10)
#define BOUNCE_STATUS    "5.3.0"

void outcomes_begin(struct outcomes *outcomes, struct queue *queue, struct message *message,
                    const struct envelope *envelope)
{
    *outcomes = (struct outcomes){
        .queue = queue,
        .message = message,
        .envelope = envelope,
        .now_at_ms = clock_real_ms(),
        .last_deferred = RECIPIENT_NONE,
    };
    buf_init(&outcomes->record, RECORD_BYTES_MAX + 2 * RESULT_ENTRY_BYTES_MAX);
    queue->routing_serial++;
}

void outcomes_tell(const struct outcomes *outcomes, uint32_t recipient, enum queue_event_kind kind,
                   const struct queue_outcome *outcome, int64_t next_at_ms)
{
    const struct message *message = outcomes->message;
    const struct queue_event event = {
        .kind = kind,
        .id = message->id,
        .envelope = outcomes->envelope,
        .body_bytes = message_body_bytes(message),
        .recipient = recipient,
        .outcome = outcome,
        .by = outcomes->by,
        .attempts = message->recipients[recipient].attempts,
        .next_attempt_at_ms = next_at_ms,
    };

    queue_tell(outcomes->queue, &event);
}

static void write_record(struct outcomes *outcomes)
{
    if (outcomes->record.length > 0)
        writer_add_record(outcomes->queue, outcomes->message->id, buf_str(&outcomes->record));
    buf_clear(&outcomes->record);
}

void record_append_hold(struct buf *record, const struct queue *queue, const struct message *message)
{
    struct result_entry entry = {.state = RESULT_RELEASED};
    struct hold_view hold;

    if (message->hold) {
        hold_get(queue, message, &hold);
        entry = (struct result_entry){
            .state = RESULT_HELD, .number = hold.is_quarantine, .at_ms = hold.at_ms, .text = hold.text};
    }
    if (message->was_held)
        result_append(record, &entry);
}

static void set_reason(struct result_entry *entry, const struct reason *reason)
{
    entry->status = reason_status(reason);
    entry->remote = reason_remote(reason);
    entry->text = reason_text(reason);
}

/* Of one that is to be reported, what the report will say. */
static void set_failure(struct result_entry *entry, const struct message *message)
{
    size_t count;
    const struct failure *failures = reporting_list(message, &count);

    for (size_t i = 0; i < count; i++) {
        if (failures[i].recipient != entry->recipient || failures[i].kind == QUEUE_REPORT_DELAYED)
            continue;
        entry->at_ms = failures[i].at_ms;
        entry->number = queue_success_of((enum queue_report_kind)failures[i].kind);
        set_reason(entry, failures[i].reason);
    }
}

/* One whose notice is still to be written has not been told, as far as the next start is concerned. */
static void append_delay_told(struct buf *record, const struct message *message, uint32_t recipient)
{
    const struct result_entry entry = {.recipient = recipient, .state = RESULT_DELAY_TOLD};
    size_t count;
    const struct failure *failures = reporting_list(message, &count);

    if (!message->recipients[recipient].is_delay_told)
        return;
    for (size_t i = 0; i < count; i++) {
        if (failures[i].recipient == recipient && failures[i].kind == QUEUE_REPORT_DELAYED)
            return;
    }
    result_append(record, &entry);
}

void record_append_recipient(struct buf *record, const struct queue *queue, const struct message *message,
                             uint32_t recipient, int64_t next_at_ms)
{
    const struct recipient *r = &message->recipients[recipient];
    struct result_entry entry = {.recipient = recipient, .number = r->attempts, .at_ms = next_at_ms};

    switch ((enum recipient_state)r->state) {
    case RECIPIENT_DELIVERED:
        entry.state = RESULT_DELIVERED;
        break;
    case RECIPIENT_REPORTED:
        entry.state = RESULT_REPORTED;
        break;
    case RECIPIENT_DELETED:
        entry.state = RESULT_DELETED;
        break;
    case RECIPIENT_UNTOLD:
        entry.state = RESULT_UNTOLD;
        set_failure(&entry, message);
        break;
    case RECIPIENT_WAITING:
    case RECIPIENT_READY:
    case RECIPIENT_TAKEN:
        append_delay_told(record, message, recipient);
        if (!r->reason)
            return;
        entry.state = RESULT_WAITING;
        set_reason(&entry, reason_at(&queue->reasons, r->reason));
        break;
    case RECIPIENT_FAILED:
        if (r->doom != DOOM_BOUNCE)
            return; /* result.h says why */
        entry.state = RESULT_FAILED;
        set_failure(&entry, message);
        break;
    }
    result_append(record, &entry);
}

static void add_to_record(struct outcomes *outcomes, uint32_t recipient)
{
    record_append_recipient(&outcomes->record, outcomes->queue, outcomes->message, recipient, outcomes->next_at_ms);
    if (outcomes->record.length > RECORD_BYTES_MAX)
        write_record(outcomes);
}

static void append_entry(struct outcomes *outcomes, const struct result_entry *entry)
{
    result_append(&outcomes->record, entry);
    if (outcomes->record.length > RECORD_BYTES_MAX)
        write_record(outcomes);
}

/* A null sender and our own reports are told nothing (RFC 3461 4, RFC 3464 2). */
static bool is_told_of(const struct outcomes *outcomes, uint32_t recipient, unsigned notify, bool otherwise)
{
    const struct envelope *envelope = outcomes->envelope;
    unsigned wanted = envelope->recipients[recipient].notify;

    if (envelope->sender.length == 0 || (envelope->flags & ENVELOPE_REPORT))
        return false;
    return wanted == 0 ? otherwise : (wanted & notify) != 0;
}

static void add_report(struct outcomes *outcomes, uint32_t recipient, enum queue_report_kind kind,
                       struct reason *reason, bool expired)
{
    const struct failure failure = {reason, outcomes->now_at_ms, (uint16_t)recipient, (uint8_t)kind, expired};

    reporting_add(outcomes->queue, outcomes->message, &failure);
}

static void deliver(struct outcomes *outcomes, uint32_t recipient, const struct queue_outcome *outcome)
{
    struct queue *queue = outcomes->queue;
    struct message *message = outcomes->message;
    bool is_untold =
        outcome->success != QUEUE_PASSED_ON && is_told_of(outcomes, recipient, ENVELOPE_NOTIFY_SUCCESS, false);

    recipient_set_tried(message, recipient);
    recipient_set_state(queue, message, recipient, is_untold ? RECIPIENT_UNTOLD : RECIPIENT_DELIVERED);
    counter_add(&queue->counters.delivered, 1);
    if (is_untold)
        add_report(outcomes, recipient, queue_report_kind_of(outcome->success),
                   reason_take_outcome(&queue->reasons, outcome), false);
    /* The last one is told to the spool by the end of the message, unless that has to wait for a report. */
    if (message->unsettled > 0 || message->failures)
        add_to_record(outcomes, recipient);
}

static void fail(struct outcomes *outcomes, uint32_t recipient, const struct queue_outcome *outcome, bool expired)
{
    struct queue *queue = outcomes->queue;

    recipient_set_tried(outcomes->message, recipient);
    recipient_set_state(queue, outcomes->message, recipient, RECIPIENT_FAILED);
    counter_add(expired ? &queue->counters.expired : &queue->counters.failed, 1);
    add_report(outcomes, recipient, QUEUE_REPORT_FAILED, reason_take_outcome(&queue->reasons, outcome), expired);
    outcomes_tell(outcomes, recipient, expired ? QUEUE_EVENT_EXPIRED : QUEUE_EVENT_FAILED, outcome, 0);
}

/* ---- the postmaster's orders ---- */

void outcomes_delete(struct outcomes *outcomes, uint32_t recipient)
{
    struct message *message = outcomes->message;
    struct recipient *r = &message->recipients[recipient];
    struct queue_outcome outcome = {.kind = QUEUE_FAILED};

    r->doom = DOOM_DELETE;
    /* One that is being delivered is on the disk as deleted already, should the process not live to see what becomes of it. */
    if (r->state == RECIPIENT_TAKEN && outcomes->by) {
        const struct result_entry entry = {.recipient = recipient, .state = RESULT_DELETED};

        append_entry(outcomes, &entry);
        return;
    }
    reason_to_outcome(reason_at(&outcomes->queue->reasons, r->reason), &outcome);
    recipient_set_tried(message, recipient);
    recipient_set_state(outcomes->queue, message, recipient, RECIPIENT_DELETED);
    counter_add(&outcomes->queue->counters.deleted, 1);
    outcomes_tell(outcomes, recipient, QUEUE_EVENT_DELETED, &outcome, 0);
    if (message->unsettled > 0 || message->failures)
        add_to_record(outcomes, recipient);
}

void outcomes_bounce(struct outcomes *outcomes, uint32_t recipient, struct str text)
{
    struct queue *queue = outcomes->queue;
    struct recipient *r = &outcomes->message->recipients[recipient];
    struct queue_outcome outcome = {.kind = QUEUE_FAILED};

    r->doom = DOOM_BOUNCE;
    reason_release_number(&queue->reasons, &r->reason);
    r->reason = reason_number(reason_take(&queue->reasons, STR(BOUNCE_STATUS), STR(""), text));
    reason_to_outcome(reason_at(&queue->reasons, r->reason), &outcome);
    if (r->state == RECIPIENT_TAKEN) {
        struct result_entry entry = {.recipient = recipient, .state = RESULT_FAILED, .at_ms = outcomes->now_at_ms};

        set_reason(&entry, reason_at(&queue->reasons, r->reason));
        append_entry(outcomes, &entry);
        return;
    }
    fail(outcomes, recipient, &outcome, false);
    add_to_record(outcomes, recipient);
}

/* What was ordered while it was taken. */
static void meet_doom(struct outcomes *outcomes, uint32_t recipient)
{
    struct recipient *r = &outcomes->message->recipients[recipient];
    struct queue_outcome outcome = {.kind = QUEUE_FAILED};

    if (r->doom == DOOM_DELETE) {
        outcomes_delete(outcomes, recipient);
        return;
    }
    reason_to_outcome(reason_at(&outcomes->queue->reasons, r->reason), &outcome);
    fail(outcomes, recipient, &outcome, false);
}

/* ---- outcomes of attempts ---- */

/* RFC 3463: X.4.7 is "delivery time expired". The words stay those of the last attempt. */
static void expire(struct outcomes *outcomes, uint32_t recipient, const struct queue_outcome *last)
{
    struct queue_outcome outcome = *last;

    outcome.kind = QUEUE_FAILED;
    memcpy(outcome.status, "4.4.7", sizeof("4.4.7"));
    fail(outcomes, recipient, &outcome, true);
}

void outcomes_add_expired(struct outcomes *outcomes, uint32_t recipient, const struct reason *reason)
{
    struct queue_outcome outcome = {.kind = QUEUE_DEFERRED};

    if (!reason)
        reason = reason_at(&outcomes->queue->reasons, outcomes->message->recipients[recipient].reason);
    reason_to_outcome(reason, &outcome);
    expire(outcomes, recipient, &outcome);
}

/* Once for each recipient, when it has been under way for long enough. */
void outcomes_consider_delay(struct outcomes *outcomes, uint32_t recipient, struct reason *reason)
{
    const struct queue_settings *settings = &outcomes->queue->settings;
    struct message *message = outcomes->message;

    if (message->recipients[recipient].is_delay_told ||
        outcomes->now_at_ms < schedule_delay_at_ms(settings, message->arrived_at_ms) ||
        !is_told_of(outcomes, recipient, ENVELOPE_NOTIFY_DELAY, true))
        return;
    message->recipients[recipient].is_delay_told = true;
    add_report(outcomes, recipient, QUEUE_REPORT_DELAYED, reason_retain(reason), false);
}

/* All that are deferred in one bout come back together; the first to be deferred decides when. */
static int64_t choose_next_at_ms(const struct outcomes *outcomes, unsigned attempts, int64_t expiry_at_ms)
{
    uint64_t wait_ms = schedule_retry_ms(&outcomes->queue->settings, attempts, random_u64());

    /* The last attempt is made when the time is over. */
    if (wait_ms >= (uint64_t)(expiry_at_ms - outcomes->now_at_ms))
        return expiry_at_ms;
    return outcomes->now_at_ms + (int64_t)wait_ms;
}

static void defer(struct outcomes *outcomes, uint32_t recipient, const struct queue_outcome *outcome)
{
    struct queue *queue = outcomes->queue;
    struct message *message = outcomes->message;
    struct recipient *r = &message->recipients[recipient];
    int64_t expiry_at_ms = schedule_expiry_at_ms(&queue->settings, message->arrived_at_ms);

    if (r->attempts < RECIPIENT_ATTEMPTS_MAX)
        r->attempts++;
    if (outcomes->now_at_ms >= expiry_at_ms && !message->hold) {
        expire(outcomes, recipient, outcome);
        return;
    }
    recipient_set_tried(message, recipient);
    if (r->state != RECIPIENT_WAITING)
        recipient_set_state(queue, message, recipient, RECIPIENT_WAITING);
    reason_release_number(&queue->reasons, &r->reason);
    r->reason = reason_number(reason_take_outcome(&queue->reasons, outcome));
    counter_add(&queue->counters.deferred, 1);
    if (outcomes->next_at_ms == 0)
        outcomes->next_at_ms = choose_next_at_ms(outcomes, r->attempts, expiry_at_ms);
    if (!message->hold) {
        outcomes->deferred = outcomes->deferred ? outcomes->deferred : item_create(message);
        item_add_recipient(outcomes->deferred, &outcomes->last_deferred, recipient);
    }
    outcomes_consider_delay(outcomes, recipient, reason_at(&queue->reasons, r->reason));
    add_to_record(outcomes, recipient);
    outcomes_tell(outcomes, recipient, QUEUE_EVENT_DEFERRED, outcome, message->hold ? 0 : outcomes->next_at_ms);
}

void outcomes_add(struct outcomes *outcomes, uint32_t recipient, const struct queue_outcome *outcome)
{
    if (outcome->kind != QUEUE_DELIVERED && outcomes->message->recipients[recipient].doom != DOOM_NONE) {
        meet_doom(outcomes, recipient);
        return;
    }
    switch (outcome->kind) {
    case QUEUE_DELIVERED:
        deliver(outcomes, recipient, outcome);
        outcomes_tell(outcomes, recipient, QUEUE_EVENT_DELIVERED, outcome, 0);
        break;
    case QUEUE_DEFERRED:
        defer(outcomes, recipient, outcome);
        break;
    case QUEUE_FAILED:
        fail(outcomes, recipient, outcome, false);
        break;
    case QUEUE_RESOLVED:
        recipient_set_state(outcomes->queue, outcomes->message, recipient, RECIPIENT_WAITING);
        if (!outcomes->message->hold)
            if (!outcomes->message->hold)
                outcomes_route(outcomes, recipient, outcome->resolution);
        break;
    }
}

void outcomes_end(struct outcomes *outcomes)
{
    struct queue *queue = outcomes->queue;
    struct message *message = outcomes->message;

    if (outcomes->deferred)
        queue_schedule_item(queue, outcomes->deferred, outcomes->next_at_ms);
    queue_touch(queue);
    write_record(outcomes);
    if (message->unsettled == 0) {
        queue_end_message(queue, message, true);
    } else {
        reporting_consider(queue, message);
        envelopes_spare(queue, message);
    }
    buf_release(&outcomes->record);
}
