/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the queue share. All of it: owner's thread only, unless it says otherwise.
 *
 * Whatever changes the index (an arrival, an outcome, a timer) only marks what it touched and calls queue_touch. The turn task, posted
 * once behind all that the mailbox holds, then does the rest for the whole batch: hands out items of the dirty destinations, submits the results,
 * sets the timer, looks whether a stop is complete.
 */
#ifndef POSTERN_QUEUE_QUEUE_PRIVATE_H
#define POSTERN_QUEUE_QUEUE_PRIVATE_H

#include "queue/destination.h"
#include "queue/message.h"
#include "queue/queue.h"
#include "queue/reason.h"
#include "queue/result.h"
#include "queue/schedule.h"

#include <stdatomic.h>

/* Items and destinations looked at in one go; then others have their turn. */
#define QUEUE_SLICE_ITEMS 256
/* With more destinations than this, one without mail is forgotten even while it backs off. */
#define QUEUE_RESTING_MAX 10000

#define QUEUE_WRITE_RETRY_MS  5000
#define QUEUE_REPORT_RETRY_MS 60000
#define QUEUE_WORKER_RETRY_MS 1000

/* Waits that tests shorten, before the owner loop starts. */
struct queue_delays {
    unsigned write_retry_ms;  /* a result that the spool could not write */
    unsigned report_retry_ms; /* a report that could not be written */
    unsigned worker_retry_ms; /* a worker that could not begin */
};

/* One writer, the owner; any reader. */
struct queue_counters {
    _Atomic uint64_t messages, destinations, workers;
    _Atomic uint64_t recipients[RECIPIENT_STATES]; /* by state; of the last states only the changes count */
    _Atomic uint64_t delivered, deferred, failed, expired, reports;
};

struct result_write;

struct result_retry {
    spool_id id;
    bool dead;
};

/* writer.c's. */
struct writer {
    struct result_write *open[SPOOL_SHARDS_MAX]; /* by shard: gathers the results of this turn */
    unsigned open_count;
    struct result_write *free;
    unsigned free_count;
    size_t in_flight;
    _Atomic(struct result_write *) completed; /* pushed by commit threads */
    struct loop_task completed_task;          /* posted by whoever finds that empty */
    struct result_retry *retries;
    size_t retry_count, retry_capacity;
    uint64_t retry_at_ms;
};

struct queue {
    struct loop *owner;
    struct spool *spool;
    struct queue_settings settings;
    struct queue_hooks hooks;
    struct queue_delays delays;

    struct message_table messages;
    struct hash_table destinations;
    struct reason_table reasons;
    struct schedule retries; /* items: the next attempt, or the expiry of a held one */
    struct schedule looks;   /* destinations */
    struct schedule reports; /* struct failures */
    struct list_link dirty;  /* destinations to dispatch */
    struct writer writer;
    uint64_t routing_serial;
    unsigned reports_under_way;

    struct loop_timer timer;
    uint64_t timer_at_ms; /* SCHEDULE_NEVER if it does not run */
    struct loop_task turn;
    bool turn_posted;

    struct message **recovered; /* to be started */
    size_t recovered_count, recovered_capacity, recovered_next;
    struct loop_task recovery_task;

    bool stopping;
    void (*stopped)(void *context);
    void *stopped_context;

    struct queue_counters counters;
};

static inline void counter_add(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value, memory_order_relaxed);
}

static inline void counter_subtract(_Atomic uint64_t *counter, uint64_t value)
{
    counter_add(counter, 0 - value);
}

/* ---- queue.c ---- */

/* Something changed: the turn task will run. */
void queue_touch(struct queue *queue);
void queue_mark_dirty(struct queue *queue, struct destination *destination);
/* Puts a new message into the index, all recipients waiting. false: its id is there already; it is freed. */
bool queue_index_message(struct queue *queue, struct message *message);
/* The destination of that name, made if there is none. */
struct destination *queue_find_destination(struct queue *queue, struct str name);
/* The only one that changes a recipient's state; keeps the counts that follow from it. */
void recipient_set_state(struct queue *queue, struct message *message, uint32_t recipient, enum recipient_state state);
void recipient_set_tried(struct message *message, uint32_t recipient);
/* All recipients are settled. The end of the message goes to the spool (unless a report has carried it there), and the message is freed. */
void queue_end_message(struct queue *queue, struct message *message, bool write);
/* Sets the item in the schedule for a real time. */
void queue_schedule_item(struct queue *queue, struct queue_item *item, int64_t at_ms);

/* ---- outcomes.c ---- */

/* One bout of outcomes for recipients of one message, in one record. */
struct outcomes {
    struct queue *queue;
    struct message *message;
    const struct envelope *envelope;
    int64_t now_at_ms;
    int64_t next_at_ms;          /* of the deferred */
    struct queue_item *deferred; /* or NULL */
    uint32_t last_deferred;
    struct buf record;
};

void outcomes_begin(struct outcomes *outcomes, struct queue *queue, struct message *message,
                    const struct envelope *envelope);
void outcomes_add(struct outcomes *outcomes, uint32_t recipient, const struct queue_outcome *outcome);
/* The recipient's time is over; the reason (may be NULL) is why it has not been delivered so far. */
void outcomes_add_expired(struct outcomes *outcomes, uint32_t recipient, const struct reason *reason);
/* Writes, schedules, considers a report. The message may be gone after it. */
void outcomes_end(struct outcomes *outcomes);

/* Appends the recipient as it stands, if the spool has to know of it. */
void record_append_recipient(struct buf *record, const struct message *message, uint32_t recipient, int64_t next_at_ms);

/* Routes the chain of waiting recipients: into ready lists, or failed, or deferred. The message may be gone after it. */
void route_recipients(struct queue *queue, struct message *message, uint32_t first_recipient);
/* An entry of queue->retries is due: the next attempt, or a held item's expiry. */
void item_due(struct queue *queue, struct queue_item *item);
/* A slice of the ready items of a destination that backs off: tells why they wait. */
void hold_items(struct queue *queue, struct destination *destination);

/* ---- workers.c ---- */

/* Hands out, starts workers, frees the destination if it is done for. */
void destination_dispatch(struct queue *queue, struct destination *destination);
/* Tells all idle workers to end. */
void destination_dismiss(struct destination *destination);

/* ---- reporting.c ---- */

/* Takes over the reference to the reason. */
void reporting_add(struct queue *queue, struct message *message, uint32_t recipient, struct reason *reason,
                   bool expired);
/* Starts the message's report if it is time, or schedules it. Not after the message may have ended. */
void reporting_consider(struct queue *queue, struct message *message);
/* An entry of queue->reports is due. */
void reporting_due(struct queue *queue, struct schedule_entry *entry);
/* Forgets what waits; no report may be under way. */
void reporting_forget(struct queue *queue, struct message *message);

/* ---- writer.c ---- */

void writer_init(struct queue *queue);
void writer_release(struct queue *queue);
void writer_add_record(struct queue *queue, spool_id id, struct str record);
void writer_add_end(struct queue *queue, spool_id id);
void writer_flush(struct queue *queue);
/* Writes again what failed. */
void writer_retry(struct queue *queue);
/* Nothing is on its way. */
bool writer_is_idle(const struct queue *queue);

/* ---- recovery.c ---- */

void recovery_release(struct queue *queue);

#endif
