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

#include "queue/control.h"
#include "queue/destination.h"
#include "queue/in_hand.h"
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

/* Under way at a time, with all that they are made of; well above what delivery keeps in line (ndr.rate), so that its limit is met first. */
#define QUEUE_REPORTS_MAX 4000

#define QUEUE_WRITE_RETRY_MS  5000
#define QUEUE_REPORT_RETRY_MS 60000
#define QUEUE_WORKER_RETRY_MS 1000
#define QUEUE_READ_RETRY_MS   300000
/* Until a fiber gives up waiting for envelopes from the disk. */
#define QUEUE_READ_MS 120000
/* A suspect that is still in hand after this long no longer keeps the next one waiting: what crashes, crashes at once. */
#define QUEUE_SUSPECT_MS 1000

/* With memory short, an envelope is not kept for an attempt that is further away than this, nor behind so many others. */
#define QUEUE_SOON_MS    10000
#define QUEUE_SOON_ITEMS 1024

/* Waits that tests shorten, before the owner loop starts. */
struct queue_delays {
    unsigned write_retry_ms;  /* a result that the spool could not write */
    unsigned report_retry_ms; /* a report that could not be written */
    unsigned worker_retry_ms; /* a worker that could not begin */
    unsigned read_retry_ms;   /* an envelope that could not be read */
};

/* One writer, the owner; any reader. */
struct queue_counters {
    _Atomic uint64_t messages, destinations, workers;
    _Atomic uint64_t recipients[RECIPIENT_STATES]; /* by state; of the last states only the changes count */
    _Atomic uint64_t messages_held, envelopes_in_memory;
    _Atomic uint64_t delivered, deferred, failed, expired, deleted, reports;
};

struct result_write;

struct result_retry {
    spool_id id;
    bool dead;
};

/* Whoever wants to know when the results that are added are on the disk. The memory is the waiter's until `done`. */
struct writer_waiter {
    size_t pending; /* writes, and one more until writer_watch ends */
    bool failed;    /* one of them could not be written; it will be written again */
    void (*done)(struct writer_waiter *waiter);
};

/* writer.c's. */
struct writer {
    struct writer_waiter *watching;              /* is told of what is added now */
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

/* envelopes.c's: ids of messages whose envelopes are to be read. */
struct envelope_reads {
    spool_id *wanted;
    size_t wanted_first, wanted_count, wanted_capacity;
    unsigned jobs;
};

struct queue {
    struct loop *owner;
    struct spool *spool;
    struct queue_settings settings;
    struct queue_hooks hooks;
    struct queue_delays delays;
    struct worker_pool *disk_pool; /* or NULL */
    struct in_hand *in_hand;       /* or NULL */

    struct message_table messages;
    struct hash_table destinations;
    struct destination_place {
        struct destination *destination; /* NULL: one has gone */
        size_t next_free;
    } * places; /* of destinations, for those who list them */
    size_t place_count, place_capacity;
    size_t free_place; /* place_count: none */
    struct reason_table reasons;
    struct schedule retries; /* items: the next attempt, or the expiry of a held one */
    struct schedule looks;   /* destinations */
    struct schedule reports; /* struct failures */
    struct list_link dirty;  /* destinations to dispatch */
    struct writer writer;
    struct envelope_reads reads;
    uint64_t routing_serial;
    unsigned reports_under_way, reports_max;

    struct loop_timer timer;
    uint64_t timer_at_ms; /* SCHEDULE_NEVER if it does not run */
    struct loop_task turn;
    bool turn_posted;

    spool_id *recovered; /* to be started */
    size_t recovered_count, recovered_capacity, recovered_next;
    struct loop_task recovery_task;
    bool recovery_waits;    /* for envelopes to be read */
    size_t suspect_next;    /* in in_hand_next_suspect */
    uint64_t suspect_at_ms; /* when the next one is started; SCHEDULE_NEVER if there is none */

    void (*drained)(void *context);
    void *drained_context;

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
/* Puts a new message into the index, all recipients waiting; clears what it had on its way. false: its id is there already; it is freed. */
bool queue_index_message(struct queue *queue, struct message *message);
/* The only one that changes a recipient's state; keeps the counts that follow from it. */
void recipient_set_state(struct queue *queue, struct message *message, uint32_t recipient, enum recipient_state state);
void recipient_set_tried(struct message *message, uint32_t recipient);
/* All recipients are settled. The end of the message goes to the spool (unless a report has carried it there), and the message is freed; after
 * a report that is under way has come back. */
void queue_end_message(struct queue *queue, struct message *message, bool write);
/* Sets the item in the schedule for a real time. */
void queue_schedule_item(struct queue *queue, struct queue_item *item, int64_t at_ms);
void queue_tell(struct queue *queue, const struct queue_event *event);

/* ---- destinations.c ---- */

/* The destination of that name, made if there is none. */
struct destination *destinations_find(struct queue *queue, struct str name);
/* One without items and workers. */
void destinations_forget(struct queue *queue, struct destination *destination);
/* As they are shown to people. */
void destinations_show(const struct destination *destination, struct queue_shown_destination *shown);

/* ---- outcomes.c ---- */

/* One bout of outcomes for recipients of one message, in one record. */
struct outcomes {
    struct queue *queue;
    struct message *message;
    const struct envelope *envelope;
    int64_t now_at_ms;
    int64_t next_at_ms;          /* of the deferred */
    const char *by;              /* the postmaster whose order it is; or NULL */
    struct queue_item *deferred; /* or NULL */
    uint32_t last_deferred;
    struct buf record;
};

void outcomes_begin(struct outcomes *outcomes, struct queue *queue, struct message *message,
                    const struct envelope *envelope);
void outcomes_add(struct outcomes *outcomes, uint32_t recipient, const struct queue_outcome *outcome);
/* The recipient's time is over; the reason (may be NULL) is why it has not been delivered so far. */
void outcomes_add_expired(struct outcomes *outcomes, uint32_t recipient, const struct reason *reason);
/* By the postmaster: silently. Not of one that is settled or FAILED. */
void outcomes_delete(struct outcomes *outcomes, uint32_t recipient);
/* By the postmaster: fails, durably, for that reason. Not of one that is settled or FAILED. */
void outcomes_bounce(struct outcomes *outcomes, uint32_t recipient, struct str text);
/* One that is WAITING and in no item: into a ready list, or failed, or deferred (routing.c). */
void outcomes_route(struct outcomes *outcomes, uint32_t recipient, enum queue_resolution resolution);
/* Whether its sender is to be told by now that it is late; the reason is why it is. */
void outcomes_consider_delay(struct outcomes *outcomes, uint32_t recipient, struct reason *reason);
void outcomes_tell(const struct outcomes *outcomes, uint32_t recipient, enum queue_event_kind kind,
                   const struct queue_outcome *outcome, int64_t next_at_ms);
/* Writes, schedules, considers a report. The message may be gone after it, or elsewhere. */
void outcomes_end(struct outcomes *outcomes);

/* Appends the message's hold, and the recipient, as they stand, if the spool has to know of it. */
void record_append_hold(struct buf *record, const struct queue *queue, const struct message *message);
void record_append_recipient(struct buf *record, const struct queue *queue, const struct message *message,
                             uint32_t recipient, int64_t next_at_ms);

/* ---- routing.c ---- */

/* Routes the chain of waiting recipients: into ready lists, or failed, or deferred. The message may be gone after it, or elsewhere. */
void route_recipients(struct queue *queue, struct message *message, const struct envelope *envelope,
                      uint32_t first_recipient);
/* The same by whatever way the envelope is to be had: at once or later. */
void route_waiting(struct queue *queue, struct message *message, uint32_t first_recipient);
/* An entry of queue->retries is due: the next attempt, or a held item's expiry, or its notice of delay. */
void item_due(struct queue *queue, struct queue_item *item);
/* What was wished of an item, now that its message's envelope is there. The message may be gone after it, or elsewhere. */
void item_fulfil(struct queue *queue, struct queue_item *item, const struct envelope *envelope);
/* A slice of the ready items of a destination that backs off: tells why they wait. */
void hold_items(struct queue *queue, struct destination *destination);

/* ---- workers.c ---- */

/* Hands out, starts workers, frees the destination if it is done for. */
void destination_dispatch(struct queue *queue, struct destination *destination);
/* Tells all idle workers to end. */
void destination_dismiss(struct destination *destination);
/* Takes the item out of whatever list and schedule it is in. */
void item_detach(struct queue *queue, struct queue_item *item);

/* ---- reporting.c ---- */

/* One recipient whose sender is to be told. */
struct failure {
    struct reason *reason;
    int64_t at_ms;
    uint16_t recipient;
    uint8_t kind; /* enum queue_report_kind */
    bool expired;
};

/* Takes over the reference to the reason. Whether the sender wants to be told of delay or success the caller has looked at. */
void reporting_add(struct queue *queue, struct message *message, const struct failure *failure);
/* What is there to be reported, or is being reported. */
const struct failure *reporting_list(const struct message *message, size_t *count);
/* Nothing but notices of delay is left, of which none is under way: they are forgotten. false: something is. */
bool reporting_drop_delays(struct queue *queue, struct message *message);
/* Starts the message's report if it is time, or schedules it. Not after the message may have ended. */
void reporting_consider(struct queue *queue, struct message *message);
/* The envelope that a report needs has been read, or could not be. */
void reporting_envelope(struct queue *queue, struct message *message, struct str envelope);
void reporting_no_envelope(struct queue *queue, struct message *message);
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
/* From here to the call with NULL, whatever is added concerns the waiter: its `done` is called once all that is written, or has failed. */
void writer_watch(struct queue *queue, struct writer_waiter *waiter);
/* Writes again what failed. */
void writer_retry(struct queue *queue);
/* Nothing is on its way. */
bool writer_is_idle(const struct queue *queue);

/* ---- recovery.c ---- */

void recovery_release(struct queue *queue);
/* Of a message that was not started: what was kept for that. */
void recovery_forget(struct message *message);
/* Envelopes have been read. */
void recovery_go_on(struct queue *queue);
/* Before anybody changes a message. It may be gone after it, or elsewhere. */
void recovery_start_message(struct queue *queue, struct message *message);
/* The next suspect may be started now. */
void recovery_next_suspect(struct queue *queue);
/* queue->suspect_at_ms has come. */
void recovery_suspects_due(struct queue *queue);

/* ---- envelopes.c ---- */

/* The message's envelope is wanted: item_fulfil of its items, or reporting_envelope, come later. */
void envelopes_want(struct queue *queue, struct message *message);
/* Starts reading what is wanted. */
void envelopes_flush(struct queue *queue);
/* So much is wanted that whoever can should wait. */
bool envelopes_are_busy(const struct queue *queue);
/* If memory is short and nobody will need the envelope soon, leaves it on the disk alone; the message is then elsewhere. */
void envelopes_spare(struct queue *queue, struct message *message);
void envelopes_release(struct queue *queue);

/* Envelopes of some messages, read on a thread of the pool. For fibers (envelopes_read), and the owner. */
struct envelope_job {
    struct worker_job job;
    struct queue *queue;
    size_t count;
    struct envelope_read {
        spool_id id;
        char *data; /* NULL: could not be read, for this: */
        size_t length;
        int error;
    } reads[];
};

/* From a fiber. WAIT_READY: all were tried. Else nothing has changed. The caller frees `data`. */
enum wait_result envelopes_read(struct queue *queue, struct envelope_read *reads, size_t count, uint64_t deadline_ms);

/* ---- hold.c ---- */

/* `text`: by whom, or why. false: it is on hold already. */
bool hold_message(struct queue *queue, struct message *message, const struct envelope *envelope, struct str text,
                  int64_t at_ms, bool is_quarantine);
/* false: it is not on hold. The message may be gone after it, or elsewhere. */
bool release_message(struct queue *queue, struct message *message, const struct envelope *envelope, const char *by);
/* As recovered: sets it, tells nobody. Empty: not on hold. */
void hold_set(struct queue *queue, struct message *message, struct str text, int64_t at_ms, bool is_quarantine);
struct hold_view {
    struct str text;
    int64_t at_ms;
    bool is_quarantine;
};
/* Of a message on hold. */
void hold_get(const struct queue *queue, const struct message *message, struct hold_view *view);

#endif
