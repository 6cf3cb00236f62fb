/* SPDX-License-Identifier: Apache-2.0 */
/*
 * destination: where mail is going: its ready lists, how many workers it may have, and whether it is resting after a failure. Pure data
 * and arithmetic: the time is passed in, nothing is posted. Owner's thread.
 *
 * Ready lists: one for each sender, served in turn, one item each. A sender is whoever would otherwise crowd out the others: an authenticated
 * user; else a client with a sender address, without what lists and forwarders vary in it (destination_sender_key).
 *
 * Concurrency: `limit` starts at DESTINATION_LIMIT_START, grows by one with each connection, at most to what the route allows, and halves when a
 * connection fails, but not below the connections that stand.
 *
 *   OPEN ──failed, and no connection stands──> BACKING_OFF ──time──> PROBING ──connected──> OPEN
 *                                                   ^───────failed──────┘
 *
 * While it backs off nothing is handed out: the queue moves the ready items to the held list, telling each once why it waits. None counts an attempt
 * nor writes to the spool for it. PROBING, one worker gets one item. Once a connection stands, held items come back as workers ask for
 * them. The rest doubles with each failed probe from DESTINATION_REST_MS to the first retry interval.
 */
#ifndef POSTERN_QUEUE_DESTINATION_H
#define POSTERN_QUEUE_DESTINATION_H

#include "queue/message.h"

#define DESTINATION_LIMIT_START 2
#define DESTINATION_REST_MS     10000
/* One more worker for as many ready items as these for each that there is: connections are opened by depth, not by message. */
#define DESTINATION_ITEMS_PER_WORKER 4
/* ... or when nobody has taken an item for this long: those that there are may be busy with something big. */
#define DESTINATION_PATIENCE_MS 250
/* Held items come back in groups of this many, fair within a group. */
#define DESTINATION_REFILL_ITEMS 256

enum destination_state { DESTINATION_OPEN, DESTINATION_BACKING_OFF, DESTINATION_PROBING };

struct destination {
    struct list_link dirty_link; /* queue.c: something changed */
    struct list_link idle;       /* workers that wait in queue_take, the last one to come first */
    struct list_link round;      /* sender queues with items, the next to be served first */
    struct list_link held;
    struct hash_table senders;        /* by key */
    struct sender_queue *last_sender; /* kept when it runs empty, since the next item is likely to be its */
    struct queue_item *routing_item;  /* queue.c: of the message whose serial number is: */
    uint64_t routing_serial;
    uint32_t routing_last; /* its last recipient */
    size_t ready_count;
    size_t held_count;
    size_t taken_count;
    unsigned workers; /* that were started and have not ended */
    unsigned leaving; /* of these, told to end */
    unsigned idle_count;
    unsigned connected;
    unsigned limit;
    unsigned limit_max; /* the route's */
    unsigned failures;  /* in a row */
    enum destination_state state;
    struct schedule_entry entry; /* the next time to look: the rest ends, or patience */
    uint64_t rest_until_ms;      /* while backing off */
    uint64_t served_at_ms;       /* the last time an item was handed out or a worker started */
    uint64_t start_after_ms;     /* no new worker before: the last one couldn't even begin */
    struct reason *reason;       /* of the last failure */
    size_t place;                /* destinations.c's */
    size_t name_length;
    char name[];
};

struct destination *destination_create(struct str name);
/* Without items. */
void destination_free(struct destination *destination, struct reason_table *reasons);

uint32_t destination_sender_key(const struct envelope *envelope);

void destination_push(struct destination *destination, struct queue_item *item);
/* To the front of its sender's list, and the sender's turn is next: for what was given back. */
void destination_push_front(struct destination *destination, struct queue_item *item);
/* The next item by turns, also of the held ones; NULL if there is none. */
struct queue_item *destination_pop(struct destination *destination);
/* Out of the ready lists or the held list. */
void destination_remove(struct destination *destination, struct queue_item *item);
/* Moves the next ready item to the held list: the item, or NULL if none is ready. */
struct queue_item *destination_hold(struct destination *destination);

/* Of all items, ready or held. */
static inline size_t destination_depth(const struct destination *destination)
{
    return destination->ready_count + destination->held_count;
}

void destination_connected(struct destination *destination);
/* A connection failed, and if it stood before, it is no longer counted in `connected`. */
void destination_failed(struct destination *destination, uint64_t now_ms, uint64_t first_retry_ms, uint64_t chance);
/* Ends a rest that is over. */
void destination_look(struct destination *destination, uint64_t now_ms);
/* Ends a rest now. */
void destination_wake(struct destination *destination);

/* The number of workers it may have now. */
unsigned destination_worker_limit(const struct destination *destination);
/* Whether a worker that asks for items is one too many. */
bool destination_is_crowded(const struct destination *destination);
/* How many more workers to start now. */
unsigned destination_workers_wanted(const struct destination *destination, uint64_t now_ms);
/* How many items one worker gets at once: its share, so that the others find something too. */
size_t destination_share(const struct destination *destination, size_t count_max);
/* When destination_look or destination_workers_wanted has something new to say, else happens; or SCHEDULE_NEVER. */
uint64_t destination_next_look_ms(const struct destination *destination);

#endif
