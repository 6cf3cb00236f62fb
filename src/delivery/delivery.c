/* SPDX-License-Identifier: Apache-2.0 */
#include "delivery/delivery.h"

#include "base/log.h"
#include "base/mem.h"
#include "delivery/delivery_private.h"
#include "delivery/route.h"
#include "loop/fiber.h"
#include "os/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void delivery_outcome_set(struct queue_outcome *outcome, enum queue_outcome_kind kind, const char *status,
                          const char *text)
{
    outcome->kind = kind;
    outcome->success = QUEUE_PASSED_ON;
    snprintf(outcome->status, sizeof(outcome->status), "%s", status);
    snprintf(outcome->text, sizeof(outcome->text), "%s", text);
    outcome->remote[0] = '\0';
}

/* ---- hooks ---- */

static void hook_route(void *context, const struct envelope *envelope, size_t recipient,
                       enum queue_resolution resolution, struct queue_route *route)
{
    struct delivery *delivery = context;
    const struct config *config = delivery->options.config(delivery->options.config_context);

    route_choose(config, envelope, recipient, resolution, route);
    config_release(&config);
}

/* The worker could not be started: the destination backs off instead of trying again at once. */
static void end_unstarted(struct delivery_start *start)
{
    struct queue_outcome outcome;

    delivery_outcome_set(&outcome, QUEUE_DEFERRED, "4.3.2", "Too much is under way here, try again later");
    queue_worker_failed(start->worker, &outcome);
    queue_worker_end(start->worker);
    free(start);
}

static void run_worker(void *argument)
{
    struct delivery_start *start = argument;
    struct route_destination destination = {.kind = ROUTE_DESTINATION_HOST};

    route_parse_destination(start->destination, &destination);
    switch (destination.kind) {
    case ROUTE_DESTINATION_DIRECTORY:
        resolve_run(start->delivery, start->worker);
        break;
    case ROUTE_DESTINATION_MAILDIR:
        maildir_run(start->delivery, start->worker);
        break;
    case ROUTE_DESTINATION_CONNECTORS:
    case ROUTE_DESTINATION_HOST:
    case ROUTE_DESTINATION_LMTP:
        outbound_run(start->delivery, start->worker, start->destination);
        break;
    }
    free(start);
}

static void start_on_loop(struct loop_task *task)
{
    struct delivery_start *start = LIST_ENTRY(task, struct delivery_start, task);

    if (fiber_start(run_worker, start) != 0)
        end_unstarted(start);
}

static void hook_start_worker(void *context, struct queue_worker *worker, const char *destination)
{
    struct delivery *delivery = context;
    struct delivery_start *start = mem_alloc(sizeof(*start));

    start->task.run = start_on_loop;
    start->delivery = delivery;
    start->worker = worker;
    snprintf(start->destination, sizeof(start->destination), "%s", destination);
    loop_post(delivery->loops[delivery->next_loop], &start->task);
    delivery->next_loop = (delivery->next_loop + 1) % delivery->options.loop_count;
}

static const char *event_name(enum queue_event_kind kind)
{
    switch (kind) {
    case QUEUE_EVENT_DELIVERED:
        return "delivered";
    case QUEUE_EVENT_DEFERRED:
        return "deferred";
    case QUEUE_EVENT_FAILED:
        return "failed";
    case QUEUE_EVENT_EXPIRED:
        return "expired";
    case QUEUE_EVENT_DELETED:
        return "deleted";
    case QUEUE_EVENT_HELD:
        return "held";
    case QUEUE_EVENT_RELEASED:
        return "released";
    }
    return "?";
}

static void log_message_event(const struct queue_event *event)
{
    char id_text[MESSAGE_ID_TEXT_BYTES];

    LOG_INFO(event_name(event->kind), log_str("id", message_id_format(event->id, id_text)),
             log_str("from", event->envelope ? event->envelope->sender : STR("")),
             log_cstr("why", event->outcome->text));
}

static void hook_event(void *context, const struct queue_event *event)
{
    const struct queue_outcome *outcome = event->outcome;
    const struct envelope *envelope = event->envelope;
    char id_text[MESSAGE_ID_TEXT_BYTES];
    int64_t now_ms = clock_real_ms();
    int64_t next_ms = event->next_attempt_at_ms > now_ms ? event->next_attempt_at_ms - now_ms : 0;

    events_tell_outcome(context, event);
    if (event->recipient == QUEUE_EVENT_MESSAGE) {
        log_message_event(event);
        return;
    }
    LOG_INFO(event_name(event->kind), log_str("id", message_id_format(event->id, id_text)),
             log_str("from", envelope->sender), log_str("to", envelope->recipients[event->recipient].address),
             log_cstr("status", outcome->status), log_cstr("reply", outcome->text), log_cstr("remote", outcome->remote),
             log_i64("delay_ms", now_ms - envelope->arrived_at_ms), log_i64("retry_in_ms", next_ms));
    if (event->by)
        LOG_INFO("ordered", log_str("id", str_from_cstr(id_text)), log_cstr("what", event_name(event->kind)),
                 log_str("to", envelope->recipients[event->recipient].address), log_cstr("by", event->by));
}

/* ---- life ---- */

int delivery_create(struct delivery **delivery, const struct delivery_options *options, struct error *error)
{
    struct delivery *created = mem_alloc(sizeof(*created));

    created->options = *options;
    created->loops = mem_alloc_array(options->loop_count, sizeof(*created->loops));
    memcpy(created->loops, options->loops, options->loop_count * sizeof(*created->loops));
    created->options.loops = created->loops;
    created->drop_directory = mem_printf("%s/drop", options->data_directory);
    created->badmail_directory = mem_printf("%s/badmail", options->data_directory);
    created->options.data_directory = NULL;
    created->started_at_ms = clock_real_ms();
    created->hooks = (struct queue_hooks){.context = created,
                                          .route = hook_route,
                                          .start_worker = hook_start_worker,
                                          .report = report_hook,
                                          .event = hook_event};
    created->mailboxes = maildir_set_create(options->vfs, created->drop_directory);
    created->reach = reach_create();
    report_init(created);
    for (int i = 0; i < 2; i++) {
        const char *directory = i == 0 ? created->drop_directory : created->badmail_directory;
        int result = vfs_make_directories(options->vfs, directory);

        if (result < 0) {
            error_set_errno(error, -result, "making %s", directory);
            delivery_destroy(&created);
            return -1;
        }
    }
    *delivery = created;
    return 0;
}

void delivery_destroy(struct delivery **delivery)
{
    struct delivery *old = *delivery;

    if (!old)
        return;
    *delivery = NULL;
    maildir_set_destroy(&old->mailboxes);
    reach_destroy(&old->reach);
    report_release(old);
    mem_free(&old->drop_directory);
    mem_free(&old->badmail_directory);
    mem_free(&old->loops);
    free(old);
}

const struct queue_hooks *delivery_hooks(struct delivery *delivery)
{
    return &delivery->hooks;
}

void delivery_set_queue(struct delivery *delivery, struct queue *queue)
{
    delivery->queue = queue;
}

static void stop_on_owner(struct loop_task *task)
{
    report_stop(LIST_ENTRY(task, struct delivery, stop_task));
}

void delivery_stop(struct delivery *delivery)
{
    delivery->stop_task.run = stop_on_owner;
    loop_post(delivery->options.owner, &delivery->stop_task);
}

void delivery_get_statistics(const struct delivery *delivery, struct delivery_statistics *statistics)
{
    *statistics = (struct delivery_statistics){
        .reports = atomic_load(&delivery->statistics_reports),
        .reports_waiting = atomic_load(&delivery->statistics_waiting),
        .reports_suppressed = atomic_load(&delivery->statistics_suppressed),
        .badmail = atomic_load(&delivery->statistics_badmail),
    };
}

/* ---- the spool ---- */

/* A write and the fiber that waits for it. */
struct waited_write {
    struct spool_write write;
    struct loop_task task;
    struct loop *loop;
    struct fiber *fiber;
    bool is_done;
};

static void wake_writer(struct loop_task *task)
{
    struct waited_write *waited = LIST_ENTRY(task, struct waited_write, task);

    waited->is_done = true;
    fiber_wake(waited->fiber);
}

static void write_done(struct spool_write *write)
{
    struct waited_write *waited = LIST_ENTRY(write, struct waited_write, write);

    loop_post(waited->loop, &waited->task);
}

enum spool_status delivery_spool_write(struct spool *spool, const struct spool_write *write)
{
    struct waited_write waited = {
        .write = *write, .task.run = wake_writer, .loop = loop_current(), .fiber = fiber_current()};
    bool was_cancelled = false;

    waited.write.done = write_done;
    spool_submit(spool, &waited.write);
    /* Without a deadline: the spool answers every write, and its memory is this fiber's until then. */
    while (!waited.is_done) {
        if (fiber_wait(DEADLINE_NEVER) == WAIT_CANCELLED) {
            was_cancelled = true;
            fiber_clear_cancel();
        }
    }
    if (was_cancelled)
        fiber_cancel(waited.fiber);
    return waited.write.status;
}
