/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue: every message under way, owned by one loop thread: which recipients are still to be delivered, where to, and when
 * next. It decides the order and the concurrency per destination, keeps retry times, and writes results to the spool. It doesn't
 * deliver: it calls out for a route, for a delivery fiber, and for a report, through struct queue_hooks. What the postmaster does with it is
 * in control.h.
 *
 *   queue_add ──> route each recipient ──> per destination: ready list ──> queue_take by a delivery fiber
 *        ^                                                                            │
 *   retry timer <── deferred ── queue_settle <── outcomes, recipient by recipient ────┘
 *                     failed ──> hooks.report ──> queue_reported;  all settled ──> "dead" to the spool
 *                     resolved ──> routed again
 *
 * A recipient:  WAITING ─> READY ─> TAKEN ─> DELIVERED | WAITING (deferred) | FAILED ─> REPORTED | UNTOLD ─> DELIVERED, and anything unsettled
 * ─> DELETED (message.h has all of it).   One function changes it.
 *
 * Threads: queue_add, queue_settle, queue_take, queue_worker_* and queue_reported may be called from any loop thread; they post to the
 * owner. Hooks run on the owner's thread and must not wait.
 *
 * One destination never delays another. Within one, senders take turns. Concurrency to a destination starts low, grows by
 * one with each connection, halves with each that fails (at most `concurrency` of its route). When one fails and no other stands, the
 * destination backs off as a whole, and is then probed by one worker with one item (destination.h).
 *
 * Memory: a message with one recipient takes at most 400 bytes here while it waits. Once settings.memory_messages envelopes are in memory, those of
 * messages that will not be sent soon stay on the disk alone (half of the bytes), and are read again on a worker thread when they are due.
 *
 * What a crash forgets is at most an attempt: a recipient may be tried once more than the schedule says (result.h).
 *
 * Poison: which messages are in the hands of delivery stands in a small mapped file (in_hand.h). Those that were when the daemon crashed are tried one after
 * the other at the next start; one that is there again at a second crash is put on hold as quarantined.
 */
#ifndef POSTERN_QUEUE_QUEUE_H
#define POSTERN_QUEUE_QUEUE_H

#include "loop/loop.h"
#include "loop/worker.h"
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

/* Of QUEUE_DELIVERED: who tells a sender that has asked to be told of success (RFC 3461 NOTIFY=SUCCESS). */
enum queue_success {
    QUEUE_PASSED_ON, /* the next server, which was given the request */
    QUEUE_FINAL,     /* we do: it is in the mailbox */
    QUEUE_RELAYED,   /* we do: the next server doesn't know of such requests */
    QUEUE_EXPANDED,  /* we do: it went on to the several addresses that an alias stands for */
};

/* What became of one recipient of an item. */
struct queue_outcome {
    enum queue_outcome_kind kind;
    enum queue_success success;
    char status[12];                  /* RFC 3463 */
    char text[QUEUE_REPLY_BYTES_MAX]; /* the remote's reply or our words; sanitised, one line */
    char remote[128];                 /* who said so: a host name or address; empty for ourselves */
    enum queue_resolution resolution; /* of QUEUE_RESOLVED */
};

/*
 * What the sender is to be told of. A report is of one kind, but "delivered", "relayed" and "expanded" may share one.
 *
 * Failures: always handed to the hook, which decides by NOTIFY whether to make a report, and by the sender whether to make badmail. The others only
 * where they are wanted: success when NOTIFY has SUCCESS; delay when NOTIFY has DELAY, or there is none, once for each recipient, with its first
 * attempt after settings.delay_notice_ms. Not for the null sender, nor for our own reports.
 */
enum queue_report_kind {
    QUEUE_REPORT_FAILED,
    QUEUE_REPORT_DELAYED,
    QUEUE_REPORT_DELIVERED, /* this one and what follows: success */
    QUEUE_REPORT_RELAYED,
    QUEUE_REPORT_EXPANDED,
};

/* Of a success of which we tell: QUEUE_FINAL, QUEUE_RELAYED or QUEUE_EXPANDED, and back. */
static inline enum queue_report_kind queue_report_kind_of(enum queue_success success)
{
    return success == QUEUE_RELAYED    ? QUEUE_REPORT_RELAYED
           : success == QUEUE_EXPANDED ? QUEUE_REPORT_EXPANDED
                                       : QUEUE_REPORT_DELIVERED;
}
static inline enum queue_success queue_success_of(enum queue_report_kind kind)
{
    return kind == QUEUE_REPORT_RELAYED ? QUEUE_RELAYED : kind == QUEUE_REPORT_EXPANDED ? QUEUE_EXPANDED : QUEUE_FINAL;
}

/* One recipient of a report. */
struct queue_failure {
    enum queue_report_kind kind;
    size_t recipient; /* index in the envelope */
    const struct queue_outcome *
        outcome; /* of an expired one: status 4.4.7 (RFC 3463), and the words of its last attempt, if any; of a delayed one, that attempt's */
    int64_t at_ms;
    bool expired;
    int64_t give_up_at_ms; /* of a delayed one: when it will expire (RFC 3464 Will-Retry-Until) */
};

struct queue_report {
    struct queue *queue;
    spool_id id;
    enum queue_report_kind
        kind; /* of all its recipients; with QUEUE_REPORT_DELIVERED some may be relayed or expanded */
    const struct envelope *envelope; /* valid until queue_reported */
    uint64_t body_bytes;
    const struct queue_failure *failures; /* the recipients, whatever the kind */
    size_t failure_count;
    bool last; /* with these, every recipient is settled: the report's frame also ends the message */
    /* The result records that say so, in the queue's own format: to be written in one spool write with the report (or alone if there is no report to
     * make: NOTIFY=NEVER, or a notice of delay or success that the limits don't allow; or after badmail has been written, for the failures of a null
     * sender). They keep a notice from being repeated after a restart. */
    const struct spool_result *results;
    size_t result_count;
    void *private_state;
};

struct queue_settings {
    unsigned retry_ms[QUEUE_RETRY_STEPS_MAX]; /* the last one repeats; each is varied by up to a tenth */
    unsigned retry_count;
    uint64_t expire_ms;
    unsigned report_gather_ms; /* 5 s after the first failure at the latest (relay-behaviour.md section 6) */
    uint64_t delay_notice_ms;  /* after its arrival; 0: no notices of delay */
    uint64_t memory_messages;  /* envelopes kept in memory; 0: all */
};

enum queue_event_kind {
    QUEUE_EVENT_DELIVERED,
    QUEUE_EVENT_DEFERRED,
    QUEUE_EVENT_FAILED,
    QUEUE_EVENT_EXPIRED, /* failed, since its time is over: status 4.4.7, and the words of the last attempt */
    QUEUE_EVENT_DELETED, /* by the postmaster */
    /* Of the whole message: `recipient` is QUEUE_EVENT_MESSAGE. The outcome's text says by whom, or why. */
    QUEUE_EVENT_HELD,
    QUEUE_EVENT_RELEASED,
};

#define QUEUE_EVENT_MESSAGE SIZE_MAX

/* All of it is valid during the call only. */
struct queue_event {
    enum queue_event_kind kind;
    spool_id id;
    const struct envelope *envelope; /* of HELD and RELEASED: NULL when it is on the disk alone */
    uint64_t body_bytes;
    size_t recipient;                    /* index in the envelope */
    const struct queue_outcome *outcome; /* of BOUNCE and DELETE (control.h): by whom stands in `by` */
    const char *by;                      /* the postmaster who ordered it; NULL: nobody */
    unsigned attempts;                   /* that failed for now, this one included */
    int64_t next_attempt_at_ms;          /* of a deferred one */
};

struct queue_hooks {
    void *context;
    void (*route)(void *context, const struct envelope *envelope, size_t recipient, enum queue_resolution resolution,
                  struct queue_route *route);
    /* Starts a delivery fiber on a loop of the hook's choice, which calls queue_take with `worker`, and at last queue_worker_end, once. */
    void (*start_worker)(void *context, struct queue_worker *worker, const char *destination);
    /* Makes the report (or badmail) in a fiber of its own, then calls queue_reported. */
    void (*report)(void *context, struct queue_report *report);
    /* One for each event, for the logs; on the owner's thread. */
    void (*event)(void *context, const struct queue_event *event);
};

/* -EINVAL if the settings have no retry interval, or too many. Everything that is handed over outlives the queue. */
int queue_create(struct queue **queue, struct loop *owner, struct spool *spool, const struct queue_settings *settings,
                 const struct queue_hooks *hooks);
/*
 * What a queue may use beyond that; before recovery begins. `disk_pool` (may be NULL: then all envelopes stay in memory): reads envelopes again. `in_hand_path` (may be NULL): the
 * mapped file of what delivery has in hands, made if missing; if it can't be had that is logged, and nothing is quarantined.
 */
void queue_set_resources(struct queue *queue, struct worker_pool *disk_pool, const char *in_hand_path);
/* Handles the signals by which a process dies of its own fault (SIGSEGV, SIGABRT, ...): notes the crash in that file, then lets the signal take its
 * course. Without it no start takes anything for a crash. Process-wide: for the daemon, after queue_set_resources. */
void queue_catch_crashes(void);
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
    uint64_t messages_held, envelopes_in_memory;
    uint64_t delivered, deferred, failed, expired, deleted, reports;
};
/* Any thread. */
void queue_get_statistics(const struct queue *queue, struct queue_statistics *statistics);

#endif
