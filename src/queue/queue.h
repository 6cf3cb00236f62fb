/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue: every message under way, in RAM, owned by one loop thread: which recipients are still to be delivered, where to, and when
 * next. It decides the order and the concurrency per destination, keeps retry times, and writes results to the spool. It doesn't
 * deliver: it calls out for a route, for a delivery fiber, and for a report, through struct queue_hooks.
 *
 *   queue_add ──> route each recipient ──> per destination: ready list ──> queue_take by a delivery fiber
 *        ^                                                                            │
 *   retry timer <── deferred ── queue_settle <── outcomes, recipient by recipient ────┘
 *                     failed ──> hooks.report ──> queue_reported;  all settled ──> "dead" to the spool
 *                     resolved ──> routed again
 *
 * A recipient:  WAITING ─> READY ─> TAKEN ─> DELIVERED | WAITING (deferred) | FAILED ─> REPORTED.   One function changes it.
 *
 * Threads: queue_add, queue_settle, queue_take, queue_worker_* and queue_reported may be called from any loop thread; they post to the
 * owner. Hooks run on the owner's thread and must not wait.
 *
 * One destination never delays another. Within one, senders take turns. Concurrency to a destination starts low, grows by
 * one with each connection, halves with each that fails (at most `concurrency` of its route). When one fails and no other stands, the
 * destination backs off as a whole, and is then probed by one worker with one item (destination.h).
 *
 * A message with one recipient takes at most 400 bytes here while it waits; the number of messages is what bounds the queue's memory.
 * What a crash forgets is at most an attempt: a recipient may be tried once more than the schedule says (result.h).
 */
#ifndef POSTERN_QUEUE_QUEUE_H
#define POSTERN_QUEUE_QUEUE_H

#include "loop/loop.h"
#include "queue/envelope.h"
#include "spool/spool.h"

struct queue;
struct queue_item;   /* one message for one destination, handed to a delivery fiber */
struct queue_worker; /* one delivery fiber's membership of a destination */

#define QUEUE_DESTINATION_BYTES_MAX 512
#define QUEUE_RETRY_STEPS_MAX       32
#define QUEUE_REPLY_BYTES_MAX       512

enum queue_route_kind {
    QUEUE_ROUTE_DELIVER, /* to `destination` */
    QUEUE_ROUTE_FAIL,    /* permanently: `status` and `text` say why (unknown user, no route) */
    QUEUE_ROUTE_DEFER,   /* not now: `status` and `text` say why */
};

struct queue_route {
    enum queue_route_kind kind;
    char destination
        [QUEUE_DESTINATION_BYTES_MAX]; /* equal names share connections, concurrency and back-off. The delivery fiber gets it back to
                                                      know what to do; e.g. "maildir" or "smtp:partners:10.0.0.9:25" */
    unsigned concurrency;
    char status[12]; /* RFC 3463, "5.1.1" */
    char text[QUEUE_REPLY_BYTES_MAX];
};

/* What is known of a recipient that has to be looked up before it can be routed: nothing, until a delivery fiber says QUEUE_RESOLVED. It holds for the routing that
 * follows at once; at the next attempt the recipient is looked up again. */
enum queue_resolution { QUEUE_NOT_RESOLVED, QUEUE_RESOLVED_KNOWN, QUEUE_RESOLVED_UNKNOWN };

enum queue_outcome_kind {
    QUEUE_DELIVERED,
    QUEUE_DEFERRED,
    QUEUE_FAILED,
    QUEUE_RESOLVED, /* routed again at once, with `resolution`; no attempt is counted */
};

/* What became of one recipient of an item. */
struct queue_outcome {
    enum queue_outcome_kind kind;
    char status[12];                  /* RFC 3463 */
    char text[QUEUE_REPLY_BYTES_MAX]; /* the remote's reply or our words; sanitised, one line */
    char remote[128];                 /* who said so: a host name or address; empty for ourselves */
    enum queue_resolution resolution; /* of QUEUE_RESOLVED */
};

/* One failed recipient of a report. */
struct queue_failure {
    size_t recipient; /* index in the envelope */
    const struct queue_outcome
        *outcome; /* of an expired one: status 4.4.7 (RFC 3463), and the words of its last attempt, if any */
    int64_t at_ms;
    bool expired;
};

struct queue_report {
    struct queue *queue;
    spool_id id;
    const struct envelope *envelope; /* valid until queue_reported */
    uint64_t body_bytes;
    const struct queue_failure *failures;
    size_t failure_count;
    bool last; /* with these, every recipient is settled: the report's frame also ends the message */
    /* The result records that say so, in the queue's own format: to be written in one spool write with the report (or alone if there is no report to
     * make: NOTIFY=NEVER; or after badmail has been written, for a null sender). */
    const struct spool_result *results;
    size_t result_count;
    void *private_state;
};

struct queue_settings {
    unsigned retry_ms[QUEUE_RETRY_STEPS_MAX]; /* the last one repeats; each is varied by up to a tenth */
    unsigned retry_count;
    uint64_t expire_ms;
    unsigned report_gather_ms; /* 5 s after the first failure at the latest (relay-behaviour.md section 6) */
};

struct queue_hooks {
    void *context;
    void (*route)(void *context, const struct envelope *envelope, size_t recipient, enum queue_resolution resolution,
                  struct queue_route *route);
    /* Starts a delivery fiber on a loop of the hook's choice, which calls queue_take with `worker`, and at last queue_worker_end, once. */
    void (*start_worker)(void *context, struct queue_worker *worker, const char *destination);
    /* Makes the report (or badmail) in a fiber of its own, then calls queue_reported. */
    void (*report)(void *context, struct queue_report *report);
    /* One for each final or deferred outcome, for the log; on the owner's thread. */
    void (*event)(void *context, spool_id id, const struct envelope *envelope, size_t recipient,
                  const struct queue_outcome *outcome, int64_t next_attempt_at_ms /* 0 if settled */);
};

/* -EINVAL if the settings have no retry interval, or too many. Everything that is handed over outlives the queue. */
int queue_create(struct queue **queue, struct loop *owner, struct spool *spool, const struct queue_settings *settings,
                 const struct queue_hooks *hooks);
/* After all loops have ended. */
void queue_destroy(struct queue **queue);
/* Reload: holds for outcomes from then on. Any thread; copies. The settings must be valid, as above. */
void queue_set_settings(struct queue *queue, const struct queue_settings *settings);

/* Recovery, before the owner loop starts, from the spool's callbacks. Then queue_recovery_done routes and schedules. */
void queue_recover_message(struct queue *queue, spool_id id, struct str envelope, uint64_t body_bytes);
void queue_recover_result(struct queue *queue, spool_id id, struct str payload);
void queue_recovery_done(struct queue *queue);

/* A message that the spool has made durable. Copies the encoded envelope. Any thread: also a spool's commit thread. */
void queue_add(struct queue *queue, spool_id id, struct str encoded_envelope, uint64_t body_bytes);

/*
 * For delivery fibers. Takes up to `count_max` items, waiting for the first until the deadline; 0: none came, or the queue
 * is shutting down, or this worker is one too many: call queue_worker_end. Each item taken must be settled or given back, before
 * queue_worker_end. One call gives a worker no more than its share of what is ready. A cancelled fiber doesn't wait, but may be
 * given items all the same, and is still cancelled afterwards.
 */
size_t queue_take(struct queue_worker *worker, struct queue_item **items, size_t count_max, uint64_t deadline_ms);
spool_id queue_item_id(const struct queue_item *item);
const struct envelope *queue_item_envelope(const struct queue_item *item); /* valid while the item is held */
uint64_t queue_item_body_bytes(const struct queue_item *item);
size_t queue_item_recipient_count(const struct queue_item *item);
size_t queue_item_recipient(const struct queue_item *item, size_t i); /* index in the envelope */
/* The i-th outcome, to be filled in; preset to deferred "4.3.0". */
struct queue_outcome *queue_item_outcome(struct queue_item *item, size_t i);
/* Hands the item back with its outcomes. The pointer is dead after it. */
void queue_settle(struct queue_item *item);
/* Not tried (the connection broke before this message's turn): back to the front of the ready list, no attempt counted. */
void queue_give_back(struct queue_item *item);
/* The same, to the end of the list: it was this one that failed, and when the destination is probed again, another shall have its turn. */
void queue_give_back_last(struct queue_item *item);
/* The destination took a connection (raises concurrency; until then one that has backed off gets one item at a time), or refused one or
 * ended one before it was good for anything. If no other connection stands, the destination then backs off: its ready messages stay where they are,
 * no attempt is counted, each is told once to hooks.event as deferred with `outcome`, and that is why it expires if it comes to that.
 * What the worker holds it gives back, or settles (then it has a retry time of its own). */
void queue_worker_connected(struct queue_worker *worker);
void queue_worker_failed(struct queue_worker *worker, const struct queue_outcome *outcome);
/* The last call of a delivery fiber. */
void queue_worker_end(struct queue_worker *worker);

/* Ends a report; `written`: the results are in the spool. Otherwise it is tried again later. Any thread. */
void queue_reported(struct queue_report *report, bool written);

/* Stops handing out items: workers get 0. Any thread, once. `stopped` runs on the owner when no worker and no report is left and every result is in
 * the spool, or could not be written again: a dead disk doesn't keep the process from ending. */
void queue_stop(struct queue *queue, void (*stopped)(void *context), void *context);

struct queue_statistics {
    uint64_t messages, recipients_waiting, recipients_ready, recipients_taken, destinations, workers;
    uint64_t delivered, deferred, failed, expired, reports;
};
/* Any thread. */
void queue_get_statistics(const struct queue *queue, struct queue_statistics *statistics);

#endif
