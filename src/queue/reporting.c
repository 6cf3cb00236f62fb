/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reporting: gathers the recipients of a message whose sender is to be told, and has them reported together (relay-behaviour.md section 6).
 *
 * A report is due once every recipient has had its first attempt and none is under way, and at the latest
 * settings.report_gather_ms after the first failure that it covers. What comes while a report is under way waits for the next one, and so does
 * what is of another kind.
 *
 * Failures are in memory only until their report is in the spool (result.h says why, and which are not).
 */
#include "base/mem.h"
#include "os/clock.h"
#include "queue/queue_private.h"

#include <assert.h>

struct failures {
    struct message *message;
    struct schedule_entry entry; /* in queue->reports: the next time to look */
    struct report *report;       /* under way, or NULL; it covers the first of the list */
    struct failure *list;        /* in the order of failing */
    size_t count;
    size_t capacity;
    uint64_t due_ms;        /* at the latest */
    uint64_t not_before_ms; /* after a report that could not be written */
    bool wants_envelope;    /* it is due, and waits for that */
};

/* A report under way, with all that its struct queue_report points to. */
struct report {
    struct queue_report shown;
    struct loop_task task;
    struct failures *failures;
    struct arena arena;
    struct envelope envelope;
    struct queue_failure *list;
    struct queue_outcome *outcomes;
    char *envelope_data; /* if it came from the disk */
    struct spool_result result;
    struct buf record;
    unsigned in_hand;
    bool written;
};

void reporting_add(struct queue *queue, struct message *message, const struct failure *failure)
{
    struct failures *failures = message->failures;
    size_t covered;

    if (!failures) {
        failures = mem_alloc(sizeof(*failures));
        failures->message = message;
        message->failures = failures;
    }
    covered = failures->report ? failures->report->shown.failure_count : 0;
    if (failures->count == covered)
        failures->due_ms = loop_now_ms() + queue->settings.report_gather_ms;
    if (failures->count == failures->capacity) {
        failures->capacity = failures->capacity ? failures->capacity * 2 : 1;
        failures->list = mem_resize_array(failures->list, failures->capacity, sizeof(*failures->list));
    }
    failures->list[failures->count++] = *failure;
}

const struct failure *reporting_list(const struct message *message, size_t *count)
{
    bool are_there = message->failures && !message->is_unstarted;

    *count = are_there ? message->failures->count : 0;
    return are_there ? message->failures->list : NULL;
}

static void forget_first(struct queue *queue, struct failures *failures, size_t count)
{
    for (size_t i = 0; i < count; i++)
        reason_release(&queue->reasons, &failures->list[i].reason);
    failures->count -= count;
    memmove(failures->list, failures->list + count, failures->count * sizeof(*failures->list));
}

void reporting_forget(struct queue *queue, struct message *message)
{
    struct failures *failures = message->failures;

    if (!failures)
        return;
    message->failures = NULL;
    schedule_remove(&queue->reports, &failures->entry);
    forget_first(queue, failures, failures->count);
    free(failures->list);
    free(failures);
}

bool reporting_drop_delays(struct queue *queue, struct message *message)
{
    if (message->failures && message->failures->report)
        return false;
    reporting_forget(queue, message);
    return true;
}

/* ---- a report under way ---- */

static bool is_settling(const struct failure *failure)
{
    return failure->kind != QUEUE_REPORT_DELAYED;
}

/* Of what was to be told as delayed, that has been settled meanwhile or is on its way to be told as failed. */
static bool is_stale(const struct message *message, const struct failure *failure)
{
    enum recipient_state state = (enum recipient_state)message->recipients[failure->recipient].state;

    return !is_settling(failure) && state != RECIPIENT_WAITING && state != RECIPIENT_READY && state != RECIPIENT_TAKEN;
}

static void drop_stale(struct queue *queue, struct failures *failures)
{
    size_t kept = 0;

    for (size_t i = 0; i < failures->count; i++) {
        if (is_stale(failures->message, &failures->list[i]))
            reason_release(&queue->reasons, &failures->list[i].reason);
        else
            failures->list[kept++] = failures->list[i];
    }
    failures->count = kept;
}

static bool share_report(const struct failure *a, const struct failure *b)
{
    return a->kind == b->kind || (a->kind >= QUEUE_REPORT_DELIVERED && b->kind >= QUEUE_REPORT_DELIVERED);
}

/* Those that go into one report with the first, to the front; their number. */
static size_t choose_covered(struct failures *failures)
{
    size_t covered = 0;

    for (size_t i = 0; i < failures->count; i++) {
        struct failure failure = failures->list[i];

        if (!share_report(&failures->list[0], &failure))
            continue;
        memmove(&failures->list[covered + 1], &failures->list[covered], (i - covered) * sizeof(failure));
        failures->list[covered++] = failure;
    }
    return covered;
}

static enum result_state result_state_of(const struct failure *failure)
{
    switch ((enum queue_report_kind)failure->kind) {
    case QUEUE_REPORT_FAILED:
        return RESULT_REPORTED;
    case QUEUE_REPORT_DELAYED:
        return RESULT_DELAY_TOLD;
    case QUEUE_REPORT_DELIVERED:
    case QUEUE_REPORT_RELAYED:
    case QUEUE_REPORT_EXPANDED:
        break;
    }
    return RESULT_DELIVERED;
}

static void copy_failures(const struct queue *queue, struct report *report, const struct failures *failures,
                          size_t count)
{
    int64_t give_up_at_ms = schedule_expiry_at_ms(&queue->settings, failures->message->arrived_at_ms);

    report->list = mem_alloc_array(count, sizeof(*report->list));
    report->outcomes = mem_alloc_array(count, sizeof(*report->outcomes));
    buf_init(&report->record, SPOOL_RESULT_BYTES_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct failure *failure = &failures->list[i];
        enum queue_report_kind kind = (enum queue_report_kind)failure->kind;
        const struct result_entry entry = {.recipient = failure->recipient, .state = result_state_of(failure)};

        report->outcomes[i].kind = kind == QUEUE_REPORT_FAILED    ? QUEUE_FAILED
                                   : kind == QUEUE_REPORT_DELAYED ? QUEUE_DEFERRED
                                                                  : QUEUE_DELIVERED;
        reason_to_outcome(failure->reason, &report->outcomes[i]);
        report->list[i] = (struct queue_failure){
            kind,           failure->recipient, &report->outcomes[i],
            failure->at_ms, failure->expired,   kind == QUEUE_REPORT_DELAYED ? give_up_at_ms : 0};
        result_append(&report->record, &entry);
    }
}

static void report_free(struct report *report)
{
    arena_release(&report->arena);
    free(report->list);
    free(report->outcomes);
    buf_release(&report->record);
    free(report->envelope_data);
    free(report);
}

static bool open_envelope(struct report *report, const struct message *message, struct str data)
{
    if (!data.data)
        return message_decode(message, &report->arena, &report->envelope);
    report->envelope_data = mem_alloc(data.length);
    memcpy(report->envelope_data, data.data, data.length);
    return message_decode_data(message, str_make(report->envelope_data, data.length), &report->arena,
                               &report->envelope);
}

/* `data`: the envelope, if it is not in memory. */
static void start_report(struct queue *queue, struct failures *failures, struct str data)
{
    struct message *message = failures->message;
    struct report *report = mem_alloc(sizeof(*report));
    size_t count = choose_covered(failures);
    bool last = is_settling(&failures->list[0]) && count == message->unsettled;
    bool decoded = open_envelope(report, message, data);

    assert(decoded); /* it was, when it was made or read */
    (void)decoded;
    copy_failures(queue, report, failures, count);
    report->failures = failures;
    report->result = (struct spool_result){message->id, buf_str(&report->record), last};
    report->shown = (struct queue_report){
        .queue = queue,
        .id = message->id,
        .kind = report->list[0].kind > QUEUE_REPORT_DELIVERED ? QUEUE_REPORT_DELIVERED : report->list[0].kind,
        .envelope = &report->envelope,
        .body_bytes = message_body_bytes(message),
        .failures = report->list,
        .failure_count = count,
        .last = last,
        .results = &report->result,
        .result_count = 1,
        .private_state = report,
    };
    failures->report = report;
    schedule_remove(&queue->reports, &failures->entry);
    queue->reports_under_way++;
    counter_add(&queue->counters.reports, 1);
    report->in_hand = in_hand_enter(queue->in_hand, message->id);
    queue->hooks.report(queue->hooks.context, &report->shown);
}

/* When the message's report is due; SCHEDULE_NEVER if there is nothing to report, or a report is under way. */
static uint64_t due_ms(struct queue *queue, struct message *message)
{
    struct failures *failures = message->failures;
    uint64_t at_ms;

    if (!failures || message->is_unstarted || failures->report || queue->stopping)
        return SCHEDULE_NEVER;
    drop_stale(queue, failures);
    if (failures->count == 0) {
        reporting_forget(queue, message);
        return SCHEDULE_NEVER;
    }
    at_ms = message->untried == 0 && message->taken == 0 ? loop_now_ms() : failures->due_ms;
    return at_ms < failures->not_before_ms ? failures->not_before_ms : at_ms;
}

void reporting_consider(struct queue *queue, struct message *message)
{
    uint64_t at_ms = due_ms(queue, message);
    struct failures *failures = message->failures;

    if (at_ms == SCHEDULE_NEVER)
        return;
    if (at_ms > loop_now_ms() || queue->reports_under_way >= queue->reports_max) {
        schedule_put(&queue->reports, &failures->entry, at_ms);
        queue_touch(queue);
    } else if (message_has_envelope(message)) {
        start_report(queue, failures, (struct str){0});
    } else {
        schedule_remove(&queue->reports, &failures->entry);
        failures->wants_envelope = true;
        envelopes_want(queue, message);
    }
}

void reporting_envelope(struct queue *queue, struct message *message, struct str envelope)
{
    if (!message->failures || !message->failures->wants_envelope)
        return;
    message->failures->wants_envelope = false;
    if (due_ms(queue, message) != SCHEDULE_NEVER)
        start_report(queue, message->failures, envelope);
}

void reporting_no_envelope(struct queue *queue, struct message *message)
{
    if (!message->failures || !message->failures->wants_envelope)
        return;
    message->failures->wants_envelope = false;
    message->failures->not_before_ms = loop_now_ms() + queue->delays.read_retry_ms;
    reporting_consider(queue, message);
}

void reporting_due(struct queue *queue, struct schedule_entry *entry)
{
    reporting_consider(queue, SCHEDULE_OWNER(entry, struct failures, entry)->message);
}

static void settle_reported(struct queue *queue, struct report *report)
{
    struct message *message = report->failures->message;

    for (size_t i = 0; i < report->shown.failure_count; i++) {
        const struct failure *failure = &report->failures->list[i];

        if (is_settling(failure))
            recipient_set_state(queue, message, failure->recipient,
                                failure->kind == QUEUE_REPORT_FAILED ? RECIPIENT_REPORTED : RECIPIENT_DELIVERED);
    }
    forget_first(queue, report->failures, report->shown.failure_count);
    if (report->failures->count == 0)
        reporting_forget(queue, message);
    if (message->unsettled == 0)
        queue_end_message(queue, message, !report->shown.last);
    else
        reporting_consider(queue, message);
}

static void on_reported(struct loop_task *task)
{
    struct report *report = LIST_ENTRY(task, struct report, task);
    struct queue *queue = report->shown.queue;
    struct failures *failures = report->failures;

    queue->reports_under_way--;
    failures->report = NULL;
    in_hand_leave(queue->in_hand, report->in_hand);
    if (report->written) {
        settle_reported(queue, report);
    } else {
        failures->not_before_ms = loop_now_ms() + queue->delays.report_retry_ms;
        if (failures->message->unsettled == 0)
            queue_end_message(queue, failures->message, true);
        else
            reporting_consider(queue, failures->message);
    }
    report_free(report);
    queue_touch(queue);
}

void queue_reported(struct queue_report *shown, bool written)
{
    struct report *report = shown->private_state;

    report->written = written;
    report->task.run = on_reported;
    loop_post(shown->queue->owner, &report->task);
}
