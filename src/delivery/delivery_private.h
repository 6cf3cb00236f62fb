/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of delivery share. */
#ifndef POSTERN_DELIVERY_DELIVERY_PRIVATE_H
#define POSTERN_DELIVERY_DELIVERY_PRIVATE_H

#include "base/list.h"
#include "delivery/delivery.h"
#include "delivery/maildir.h"
#include "delivery/reach.h"
#include "delivery/report_rate.h"
#include "directory/directory.h"

#include <stdatomic.h>

/* How long a delivery fiber with nothing to do keeps its connection, in case there is more. */
#define DELIVERY_LINGER_MS 2000
/* A disk that does not answer for so long: what waits for it is deferred, and the worker's result, should it come, is dropped. */
#define DELIVERY_DISK_TIMEOUT_MS 120000
/* Reports under way at a time; more wait in line. */
#define DELIVERY_REPORT_FIBERS_MAX 16
/* Reports that wait for their turn under ndr.rate; more go to badmail (relay-behaviour.md section 6). */
#define DELIVERY_REPORTS_WAITING_MAX 1000
/* Reports, and what is on its way to badmail, that wait for a fiber; more go back to the queue for a while. */
#define DELIVERY_REPORTS_READY_MAX 5000

struct delivery {
    struct delivery_options options;
    struct loop **loops;
    char *drop_directory;
    char *badmail_directory;
    struct queue *queue;
    struct queue_hooks hooks;
    int64_t started_at_ms; /* what arrived before may have been delivered by a process that could not say so */
    struct maildir_set *mailboxes;
    struct reach *reach;

    /* the queue owner's loop only: */
    size_t next_loop;
    struct report_rate *report_rate;
    struct list_link reports_ready; /* for the report fibers */
    size_t reports_ready_count;
    struct list_link reports_waiting; /* for their turn under ndr.rate */
    size_t reports_waiting_count;
    struct loop_timer report_timer;
    unsigned report_fibers;
    bool is_stopping;
    struct loop_task stop_task;

    atomic_uint_fast64_t statistics_reports, statistics_waiting, statistics_suppressed, statistics_badmail;
};

/* One delivery fiber from its hook to its loop. */
struct delivery_start {
    struct loop_task task;
    struct delivery *delivery;
    struct queue_worker *worker;
    char destination[QUEUE_DESTINATION_BYTES_MAX];
};

/* The fibers; each ends with queue_worker_end. */
void outbound_run(struct delivery *delivery, struct queue_worker *worker, const char *destination);
void maildir_run(struct delivery *delivery, struct queue_worker *worker);
void resolve_run(struct delivery *delivery, struct queue_worker *worker);

/* From a fiber: whether the message has been in a recipient's mailbox already. Then the item has its outcomes and is to be settled: those fail, and the others
 * are routed again at once. */
bool lmtp_refuse_loops(struct delivery *delivery, const struct config *config, struct queue_item *item);

/* hooks.report; and what delivery_stop does on the owner's loop. `release` frees what is left when the loops have ended. */
void report_init(struct delivery *delivery);
void report_hook(void *context, struct queue_report *report);
void report_stop(struct delivery *delivery);
void report_release(struct delivery *delivery);

/* Whether the sender wants to be told of this failure (RFC 3461 4.1; without NOTIFY: yes). */
bool report_is_wanted(const struct queue_report *report, size_t failure);
/* "failed", "delayed", ... */
const char *report_kind_name(enum queue_report_kind kind);
/* From a report fiber: makes the report and puts it into the spool and the queue, with the results that it covers. */
bool report_write(struct delivery *delivery, const struct config *config, const struct queue_report *report);
/* The results alone. */
bool report_write_results(struct delivery *delivery, const struct queue_report *report);
/* From a report fiber: badmail/ID.eml and ID.json, synced. */
bool badmail_write(struct delivery *delivery, const struct queue_report *report, const char *reason);

/* events.c: to options.events. */
void events_tell_outcome(const struct delivery *delivery, const struct queue_event *event);
/* `made`: the report's id. */
void events_tell_report(const struct delivery *delivery, const struct queue_report *report, spool_id made);
void events_tell_badmail(const struct delivery *delivery, const struct queue_report *report, const char *reason);
void events_tell_expanded(const struct delivery *delivery, const struct queue_item *item, size_t recipient,
                          spool_id made);

/* Fills in an outcome of our own; `text` may be longer than fits. */
void delivery_outcome_set(struct queue_outcome *outcome, enum queue_outcome_kind kind, const char *status,
                          const char *text);

/*
 * From a fiber: a copy of the item's message, for the recipients that one of its own stands for (an alias, a list), into the spool and the queue.
 * false: not done, and `*outcome` says why. After a crash between this and the item's settling the copy may be made again.
 */
bool expand_message(struct delivery *delivery, const struct queue_item *item, size_t recipient,
                    const struct directory_recipient *expansion, struct queue_outcome *outcome);

/* From a fiber: submits and waits until the spool is through with it, whatever cancels the fiber meanwhile, since
 * the write's memory is the spool's until then. */
enum spool_status delivery_spool_write(struct spool *spool, const struct spool_write *write);

#endif
