/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: the postmaster's hands on the queue: looking at messages and destinations, and hold, release, retry, delete, bounce. For the control
 * socket and for ETRN.
 *
 * Threads: every call that takes a deadline is made from a fiber, on any loop, and waits there. What the queue's owner does for one round
 * is bounded (QUEUE_ROUND_ENTRIES looked at, QUEUE_ROUND_MESSAGES copied out or acted upon: under a millisecond), whatever the size of the queue. A reader
 * holds nothing in the queue between two rounds, and what it was given is its own copy: a slow one, or one that never comes back, harms nobody.
 * Messages whose envelope is on disk alone (queue.h) are read in the queue's disk pool.
 *
 * Calling sequence, to look:
 *
 *     cursor = queue_cursor_create(queue, &filter, 0);
 *     while ((result = queue_cursor_next(cursor, deadline_ms)) == WAIT_READY && queue_cursor_count(cursor) > 0)
 *         for (i = 0; i < queue_cursor_count(cursor); i++) { const struct queue_shown *shown = queue_cursor_get(cursor, i); ... }
 *     queue_cursor_destroy(&cursor);
 *
 * to act on what a filter finds:
 *
 *     cursor = queue_cursor_create(queue, &filter, 0);
 *     do result = queue_cursor_act(cursor, &order, &done, deadline_ms); while (result == WAIT_TIMEOUT && the client still waits);
 *
 * or on one message: queue_act(queue, id, &order, &done, deadline_ms). ETRN (RFC 1985) is QUEUE_ACTION_RETRY with the node as the filter's domain, "@domain"
 * as it is; `done.messages` is for its 253 reply. A "#queue" names nothing here.
 *
 * WAIT_TIMEOUT and WAIT_CANCELLED: the call may be repeated and goes on where it was; of a round of actions that was under way then, nobody learns
 * how many it touched, but it was or will be done. All calls have returned and all cursors are destroyed before queue_destroy.
 *
 * Order: by rising id, which is the order of arrival. A cursor sees each message that is there throughout exactly once; one that comes or goes
 * meanwhile, once or not at all.
 */
#ifndef POSTERN_QUEUE_CONTROL_H
#define POSTERN_QUEUE_CONTROL_H

#include "loop/fiber.h"
#include "queue/queue.h"

/* The bounds of what the owner does at a time. */
#define QUEUE_ROUND_ENTRIES  131072       /* looked at without reading an envelope */
#define QUEUE_ROUND_MESSAGES 128          /* copied out, or acted upon */
#define QUEUE_ROUND_BYTES    (512u << 10) /* copied out; one message may be more */

/* ---- looking ---- */

/* How a recipient stands, as people are shown it. One bit each, for struct queue_filter. */
enum queue_state {
    QUEUE_STATE_WAITING = 1, /* for its next attempt; or for its destination, which is down, to come back */
    QUEUE_STATE_READY = 2,   /* for a free connection */
    QUEUE_STATE_TAKEN = 4,   /* being delivered */
    QUEUE_STATE_HELD = 8,    /* the message is on hold: by the postmaster, or since it crashed the daemon */
    QUEUE_STATE_FAILED =
        16, /* and its report is not written yet; or delivered, and the notice that was asked for is not written yet */
    QUEUE_STATE_DELIVERED = 32,
    QUEUE_STATE_REPORTED = 64, /* failed, and reported */
    QUEUE_STATE_DELETED = 128, /* by the postmaster */
};
#define QUEUE_STATES_UNSETTLED 31u
#define QUEUE_STATES_ALL       255u

/* "waiting", "ready", "taken", "held", "failed", "delivered", "reported", "deleted". */
const char *queue_state_name(enum queue_state state);
/* false: no such name. */
bool queue_state_parse(struct str name, enum queue_state *state);

/*
 * What to find. A message is found if one of its recipients meets all conditions; fields that are not set (zero) are none. Texts with `*` are
 * patterns: it stands for any number of any bytes. ASCII letters match in either case, all other bytes only themselves.
 *
 *   domain     of the recipient, in normal form (mail/address.h: A-labels, "[192.0.2.1]"): exact, or "*.example.net" (any host below it), or
 *              "@example.net" (itself and any host below it, RFC 1985), or a pattern. Those three are found fast: a million messages in
 *              some milliseconds; other patterns, and patterns of addresses, look at every envelope (about a second a million)
 *   sender     the envelope's, as written; "<>" is the null sender. Exact ones are found fast
 *   recipient  as written; an exact one is found as fast as its domain, if its domain is in normal form
 */
struct queue_filter {
    struct str domain;
    struct str sender;
    struct str recipient;
    int64_t arrived_before_at_ms; /* real time: for "older than"; 0: any */
    unsigned states;              /* enum queue_state bits; 0: QUEUE_STATES_UNSETTLED */
};

/* A text pattern of a filter against a text, as described above; for others who filter by the same rules. Pure. */
bool queue_pattern_matches(struct str pattern, struct str text);
/* The domain condition of a filter, as described above. Pure. */
bool queue_domain_matches(struct str condition, struct str domain);

struct queue_shown_recipient {
    enum queue_state state;
    bool is_match;              /* meets the filter's conditions */
    bool is_delay_told;         /* its sender has been told of the delay */
    unsigned attempts;          /* that failed for now; counting stops at 255 */
    int64_t next_attempt_at_ms; /* real time: of a waiting one; 0: none is set */
    /* Why it has not been delivered so far; of a failed one, why it failed. Empty: untried. The texts have NULs behind them. */
    struct str status, remote, text;
    struct str destination; /* where it is going, while it is ready, taken, or waits for its destination; else empty */
};

/* A copy of a message as it was at one moment. Valid until the next call with the cursor. */
struct queue_shown {
    spool_id id;
    uint64_t body_bytes;
    const struct envelope *envelope; /* addresses, arrival, client, user, rule, ... */
    bool is_unreadable;              /* the envelope could not be read from the disk: all its texts are empty */
    bool is_held;
    bool is_quarantined;  /* held since it was being handled at two crashes of the daemon */
    int64_t held_at_ms;   /* real time */
    struct str held_text; /* by whom, or why */
    size_t unsettled_count;
    size_t recipient_count; /* the envelope's */
    const struct queue_shown_recipient *recipients;
};

struct queue_cursor;

/* Any thread, no waiting. Copies the filter. `after`: goes on behind this id; 0: from the start. */
struct queue_cursor *queue_cursor_create(struct queue *queue, const struct queue_filter *filter, spool_id after);
/* One message, whatever its recipients' states: queue_cursor_next gives it, or none. For `queue show`. */
struct queue_cursor *queue_cursor_create_one(struct queue *queue, spool_id id);
void queue_cursor_destroy(struct queue_cursor **cursor);

/* WAIT_READY: queue_cursor_count messages, at least one unless there are no more. */
enum wait_result queue_cursor_next(struct queue_cursor *cursor, uint64_t deadline_ms);
size_t queue_cursor_count(const struct queue_cursor *cursor);
const struct queue_shown *queue_cursor_get(const struct queue_cursor *cursor, size_t i);
/* All up to this id has been seen: for a cursor that is to be taken up later. */
spool_id queue_cursor_position(const struct queue_cursor *cursor);

/* ---- acting ---- */

/*
 * HOLD and RELEASE are of whole messages: nothing of a message on hold is tried or expires; what is being delivered at the time comes to its
 * end. It survives a restart. RELEASE sends it on at once.
 *
 * RETRY: what waits is tried now; a destination that is down is probed now. Not what is on hold.
 *
 * DELETE and BOUNCE are of the recipients that meet the filter (by id: of all); one that is being delivered right now is deleted or bounced if that
 * doesn't succeed. DELETE: silently, no report; the log has it. BOUNCE: fails with 5.3.0 and the order's text, and its report
 * follows as after any failure. Both also of messages on hold. Neither touches what has failed already and waits for its report, nor a message whose
 * envelope can't be read.
 *
 * Each is told to hooks.event. When WAIT_READY is returned, what was done has been written to the disk (retry has nothing to write).
 */
enum queue_action {
    QUEUE_ACTION_HOLD,
    QUEUE_ACTION_RELEASE,
    QUEUE_ACTION_RETRY,
    QUEUE_ACTION_DELETE,
    QUEUE_ACTION_BOUNCE,
};

struct queue_order {
    enum queue_action action;
    struct str
        by; /* who gave it, for the log and for the list of held messages: "alice", "uid 1000"; cut to 64 bytes */
    struct str text; /* of BOUNCE: for the sender; empty: "Returned by the postmaster". Cut to 200 bytes, one line */
};

/* Added up over calls: zero it before the first. */
struct queue_done {
    uint64_t messages;   /* that were changed by it: what was on hold before is not held again */
    uint64_t recipients; /* of these, that it concerned */
    uint64_t
        unwritten; /* messages whose change is not on the disk, since that refused; it will be tried again, but might be forgotten by a crash */
};

/* From where the cursor stands to the end of the queue. WAIT_READY: it is done. */
enum wait_result queue_cursor_act(struct queue_cursor *cursor, const struct queue_order *order, struct queue_done *done,
                                  uint64_t deadline_ms);
/* On one message. WAIT_READY and done->messages not risen: there is none, or it needed nothing. */
enum wait_result queue_act(struct queue *queue, spool_id id, const struct queue_order *order, struct queue_done *done,
                           uint64_t deadline_ms);

/* ---- destinations ---- */

struct queue_shown_destination {
    char name[QUEUE_DESTINATION_BYTES_MAX];
    uint64_t ready;   /* items that could be sent: one for each message and destination */
    uint64_t waiting; /* since the destination is down, or until its connections have worked through what came before */
    uint64_t taken;
    unsigned workers, idle, connected; /* connections: under way, without work, that stand */
    unsigned limit, limit_max;         /* how many it may have now, and at most */
    unsigned failures;                 /* of connections, in a row */
    int64_t backed_off_until_at_ms;    /* real time; 0: it does not back off */
    struct queue_outcome last;         /* why it backs off, or did the last time; empty status: it never did */
};

/*
 * Up to `count_max` destinations (asserted: at most QUEUE_ROUND_MESSAGES) from `*position` (0 at first), which is moved on. WAIT_READY and *count 0: no more.
 * Each that is there throughout is seen once.
 */
enum wait_result queue_list_destinations(struct queue *queue, size_t *position, struct queue_shown_destination *list,
                                         size_t count_max, size_t *count, uint64_t deadline_ms);

/* ---- draining ---- */

/*
 * `drained` runs on the owner's thread once no message is left but those on hold, once, maybe at once; with NULL nobody is told any more (one call may
 * already be under way). Any thread. The queue goes on as always, with its retry times: that nothing new comes in is for the caller to see to
 * (reports still do). Statistics tell how much is left.
 */
void queue_drain(struct queue *queue, void (*drained)(void *context), void *context);

#endif
