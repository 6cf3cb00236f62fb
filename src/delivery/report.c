/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which reports are made, and when. A report whose sender can be told waits for its turn under ndr.rate; what can't be
 * reported, and what would wait behind too many, goes to badmail. A few fibers on the queue owner's loop do the work,
 * in order.
 *
 *   report_hook ──> rate allows, or nobody is to be told ──> ready ──> a report fiber ──> queue_reported
 *             ├───> waiting ── timer ───────────────────────^   ^
 *             ├───> waiting is full: suppressed ────────────────┘
 *             └───> ready is full: back to the queue, which comes again
 */
#include "base/log.h"
#include "base/mem.h"
#include "delivery/delivery_private.h"
#include "loop/fiber.h"

#include <stdlib.h>

/* The waiting reports are looked through at most this often. */
#define REPORT_LOOK_MS_MIN 100

struct report_entry {
    struct list_link link;
    struct queue_report *report;
    bool is_suppressed; /* over the rate: badmail instead */
};

bool report_is_wanted(const struct queue_report *report, size_t failure)
{
    unsigned notify = report->envelope->recipients[report->failures[failure].recipient].notify;

    /* What is no failure comes only if it is wanted. */
    return report->kind != QUEUE_REPORT_FAILED || notify == 0 || (notify & ENVELOPE_NOTIFY_FAILURE) != 0;
}

static bool is_anybody_told(const struct queue_report *report)
{
    for (size_t i = 0; i < report->failure_count; i++) {
        if (report_is_wanted(report, i))
            return true;
    }
    return false;
}

/* Nobody to tell: the null sender's mail, and our own reports, whatever their sender. */
static bool is_unreportable(const struct queue_report *report)
{
    return report->envelope->sender.length == 0 || (report->envelope->flags & ENVELOPE_REPORT) != 0;
}

/* ---- the work ---- */

/* A failure that nobody is told of is kept for the administrator; a delay or a success is no loss. */
static bool set_aside(struct delivery *delivery, const struct queue_report *report, const char *reason)
{
    return (report->kind != QUEUE_REPORT_FAILED || badmail_write(delivery, report, reason)) &&
           report_write_results(delivery, report);
}

static bool suppress(struct delivery *delivery, const struct queue_report *report)
{
    char id[MESSAGE_ID_TEXT_BYTES];

    if (!set_aside(delivery, report, "Too many reports were waiting under delivery.ndr.rate"))
        return false;
    atomic_fetch_add(&delivery->statistics_suppressed, 1);
    LOG_WARNING("ndr-suppressed", log_str("id", message_id_format(report->id, id)),
                log_str("to", report->envelope->sender),
                log_u64("waiting", atomic_load(&delivery->statistics_waiting)));
    return true;
}

static bool make_report(struct delivery *delivery, const struct report_entry *entry)
{
    const struct queue_report *report = entry->report;
    const struct config *config;
    bool is_written;

    if (is_unreportable(report))
        return set_aside(delivery, report, "The sender can't be told: it is a report itself, or has no sender");
    if (!is_anybody_told(report))
        return report_write_results(delivery, report);
    if (entry->is_suppressed)
        return suppress(delivery, report);
    config = delivery->options.config(delivery->options.config_context);
    is_written = report_write(delivery, config, report);
    config_release(&config);
    return is_written;
}

static void hand_back(struct report_entry *entry)
{
    queue_reported(entry->report, false);
    free(entry);
}

static struct report_entry *take_ready(struct delivery *delivery)
{
    struct list_link *link = list_take_first(&delivery->reports_ready);

    if (!link)
        return NULL;
    delivery->reports_ready_count--;
    return LIST_ENTRY(link, struct report_entry, link);
}

static void run_reports(void *argument)
{
    struct delivery *delivery = argument;
    struct report_entry *entry;

    while ((entry = take_ready(delivery)) != NULL) {
        bool is_written = make_report(delivery, entry);

        queue_reported(entry->report, is_written);
        free(entry);
    }
    delivery->report_fibers--;
}

static void make_ready(struct delivery *delivery, struct report_entry *entry)
{
    list_append(&delivery->reports_ready, &entry->link);
    delivery->reports_ready_count++;
    if (delivery->report_fibers >= DELIVERY_REPORT_FIBERS_MAX)
        return;
    if (fiber_start(run_reports, delivery) == 0) {
        delivery->report_fibers++;
        return;
    }
    if (delivery->report_fibers > 0)
        return; /* those will come to it */
    while ((entry = take_ready(delivery)) != NULL)
        hand_back(entry);
}

/* ---- the rate ---- */

static bool take_turn(struct delivery *delivery, const struct queue_report *report, uint64_t *retry_at_ms)
{
    const struct config *config = delivery->options.config(delivery->options.config_context);
    bool is_allowed = report_rate_take(delivery->report_rate, &config->delivery.ndr, report->envelope->sender_domain,
                                       loop_now_ms(), retry_at_ms);

    config_release(&config);
    return is_allowed;
}

static void set_waiting_count(struct delivery *delivery, size_t count)
{
    delivery->reports_waiting_count = count;
    atomic_store(&delivery->statistics_waiting, count);
}

static void look_later(struct delivery *delivery, uint64_t at_ms)
{
    uint64_t earliest_ms = loop_now_ms() + REPORT_LOOK_MS_MIN;

    loop_timer_start(&delivery->report_timer, at_ms > earliest_ms ? at_ms : earliest_ms);
}

static void look_at_waiting(struct loop_timer *timer)
{
    struct delivery *delivery = LIST_ENTRY(timer, struct delivery, report_timer);
    uint64_t next_ms = UINT64_MAX;
    struct list_link *link = delivery->reports_waiting.next;

    while (link != &delivery->reports_waiting) {
        struct report_entry *entry = LIST_ENTRY(link, struct report_entry, link);
        uint64_t retry_at_ms;

        link = link->next;
        if (take_turn(delivery, entry->report, &retry_at_ms)) {
            list_remove(&entry->link);
            set_waiting_count(delivery, delivery->reports_waiting_count - 1);
            make_ready(delivery, entry);
        } else if (retry_at_ms < next_ms) {
            next_ms = retry_at_ms;
        }
    }
    if (delivery->reports_waiting_count > 0)
        look_later(delivery, next_ms);
}

static void wait_for_turn(struct delivery *delivery, struct report_entry *entry, uint64_t retry_at_ms)
{
    if (delivery->is_stopping) {
        hand_back(entry);
        return;
    }
    if (delivery->reports_waiting_count >= DELIVERY_REPORTS_WAITING_MAX) {
        entry->is_suppressed = true;
        make_ready(delivery, entry);
        return;
    }
    list_append(&delivery->reports_waiting, &entry->link);
    set_waiting_count(delivery, delivery->reports_waiting_count + 1);
    if (delivery->reports_waiting_count == 1)
        look_later(delivery, retry_at_ms);
}

void report_hook(void *context, struct queue_report *report)
{
    struct delivery *delivery = context;
    struct report_entry *entry = mem_alloc(sizeof(*entry));
    uint64_t retry_at_ms;

    list_init(&entry->link);
    entry->report = report;
    /* The disk is slower than what comes: the queue, to which a report under way costs far more memory than one that isn't, asks again later. */
    if (delivery->reports_ready_count >= DELIVERY_REPORTS_READY_MAX) {
        hand_back(entry);
        return;
    }
    if (is_unreportable(report) || !is_anybody_told(report) || take_turn(delivery, report, &retry_at_ms))
        make_ready(delivery, entry);
    else
        wait_for_turn(delivery, entry, retry_at_ms);
}

/* ---- life ---- */

void report_init(struct delivery *delivery)
{
    list_init(&delivery->reports_ready);
    list_init(&delivery->reports_waiting);
    delivery->report_timer = (struct loop_timer){.run = look_at_waiting};
    delivery->report_rate = report_rate_create();
}

void report_stop(struct delivery *delivery)
{
    struct list_link *link;

    delivery->is_stopping = true;
    loop_timer_stop(&delivery->report_timer);
    set_waiting_count(delivery, 0);
    while ((link = list_take_first(&delivery->reports_waiting)) != NULL)
        hand_back(LIST_ENTRY(link, struct report_entry, link));
}

static void free_entries(struct list_link *list)
{
    struct list_link *link;

    while ((link = list_take_first(list)) != NULL)
        free(LIST_ENTRY(link, struct report_entry, link));
}

void report_release(struct delivery *delivery)
{
    free_entries(&delivery->reports_ready);
    free_entries(&delivery->reports_waiting);
    report_rate_destroy(&delivery->report_rate);
}
