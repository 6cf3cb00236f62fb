/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reporting: gathers the failed recipients of a message, and has them reported together (relay-behaviour.md section 6).
 *
 * A report is due once every recipient has had its first attempt and none is under way, and at the latest
 * settings.report_gather_ms after the first failure that it covers. What fails while a report is under way waits for the next one.
 *
 * Failures are in memory only until their report is in the spool (result.h says why).
 */
#include "base/mem.h"
#include "os/clock.h"
#include "queue/queue_private.h"

#include <assert.h>

struct failure {
    struct reason *reason;
    int64_t at_ms;
    uint32_t recipient;
    bool expired;
};

struct failures {
    struct message *message;
    struct schedule_entry entry; /* in queue->reports: the next time to look */
    struct report *report;       /* under way, or NULL; it covers the first of the list */
    struct failure *list;        /* in the order of failing */
    size_t count;
    size_t capacity;
    uint64_t due_ms;        /* at the latest */
    uint64_t not_before_ms; /* after a report that could not be written */
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
    struct spool_result result;
    struct buf record;
    bool written;
};

void reporting_add(struct queue *queue, struct message *message, uint32_t recipient, struct reason *reason,
                   bool expired)
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
    failures->list[failures->count++] = (struct failure){reason, clock_real_ms(), recipient, expired};
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

/* ---- a report under way ---- */

static void copy_failures(struct report *report, const struct failures *failures)
{
    struct result_entry entry = {.state = RESULT_REPORTED};

    report->list = mem_alloc_array(failures->count, sizeof(*report->list));
    report->outcomes = mem_alloc_array(failures->count, sizeof(*report->outcomes));
    buf_init(&report->record, SPOOL_RESULT_BYTES_MAX);
    for (size_t i = 0; i < failures->count; i++) {
        const struct failure *failure = &failures->list[i];

        report->outcomes[i].kind = QUEUE_FAILED;
        reason_to_outcome(failure->reason, &report->outcomes[i]);
        report->list[i] =
            (struct queue_failure){failure->recipient, &report->outcomes[i], failure->at_ms, failure->expired};
        entry.recipient = failure->recipient;
        result_append(&report->record, &entry);
    }
}

static void report_free(struct report *report)
{
    arena_release(&report->arena);
    free(report->list);
    free(report->outcomes);
    buf_release(&report->record);
    free(report);
}

static void start_report(struct queue *queue, struct failures *failures)
{
    struct message *message = failures->message;
    struct report *report = mem_alloc(sizeof(*report));
    bool last = failures->count == message->unsettled;
    bool decoded = message_decode(message, &report->arena, &report->envelope);

    assert(decoded); /* it was, when it was routed */
    (void)decoded;
    copy_failures(report, failures);
    report->failures = failures;
    report->result = (struct spool_result){message->id, buf_str(&report->record), last};
    report->shown = (struct queue_report){
        .queue = queue,
        .id = message->id,
        .envelope = &report->envelope,
        .body_bytes = message->body_bytes,
        .failures = report->list,
        .failure_count = failures->count,
        .last = last,
        .results = &report->result,
        .result_count = 1,
        .private_state = report,
    };
    failures->report = report;
    schedule_remove(&queue->reports, &failures->entry);
    queue->reports_under_way++;
    counter_add(&queue->counters.reports, 1);
    queue->hooks.report(queue->hooks.context, &report->shown);
}

void reporting_consider(struct queue *queue, struct message *message)
{
    struct failures *failures = message->failures;
    uint64_t now_ms = loop_now_ms();
    uint64_t at_ms;

    if (!failures || failures->report || queue->stopping)
        return;
    at_ms = message->untried == 0 && message->taken == 0 ? now_ms : failures->due_ms;
    if (at_ms < failures->not_before_ms)
        at_ms = failures->not_before_ms;
    if (at_ms <= now_ms) {
        start_report(queue, failures);
    } else {
        schedule_put(&queue->reports, &failures->entry, at_ms);
        queue_touch(queue);
    }
}

void reporting_due(struct queue *queue, struct schedule_entry *entry)
{
    reporting_consider(queue, SCHEDULE_OWNER(entry, struct failures, entry)->message);
}

static void settle_reported(struct queue *queue, struct report *report)
{
    struct message *message = report->failures->message;

    for (size_t i = 0; i < report->shown.failure_count; i++)
        recipient_set_state(queue, message, report->failures->list[i].recipient, RECIPIENT_REPORTED);
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
    if (report->written) {
        settle_reported(queue, report);
    } else {
        failures->not_before_ms = loop_now_ms() + queue->delays.report_retry_ms;
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
