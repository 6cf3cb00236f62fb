/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message: one message of the index, its recipients and its items. An item is a chain of recipients of one message that go the same way: to one
 * destination, or together into the schedule. Nearly every message has one recipient and one item, so these and the encoded envelope are one
 * allocation: about 150 bytes and the envelope (queue.h promises 400 in all; a test counts).
 *
 * The envelope stays encoded, and is decoded only while recipients are routed, and while an item is taken.
 *
 * Owner's thread, but: message_create, and what item_open reads (the id, the envelope, the item's own chain), which nobody changes while it is taken.
 */
#ifndef POSTERN_QUEUE_MESSAGE_H
#define POSTERN_QUEUE_MESSAGE_H

#include "base/list.h"
#include "queue/queue.h"
#include "queue/reason.h"
#include "queue/schedule.h"

struct destination;
struct failures;
struct message;
struct recovery;
struct sender_queue;

/*
 * WAITING ─> READY ─> TAKEN ─> DELIVERED
 *    ^ │        │ ^     │ │
 *    │ │        │ └─────┘ │       READY back from TAKEN: given back
 *    │ └────────┼─> FAILED ─> REPORTED
 *    └──────────┴─────────┘       FAILED from READY: expired while its destination backs off
 *
 * Recovery also goes from WAITING straight to DELIVERED and REPORTED.
 */
enum recipient_state {
    RECIPIENT_WAITING, /* for its time; or new */
    RECIPIENT_READY,   /* in a destination's ready list */
    RECIPIENT_TAKEN,   /* by a delivery fiber */
    RECIPIENT_DELIVERED,
    RECIPIENT_FAILED, /* its report is not in the spool yet */
    RECIPIENT_REPORTED,
};
#define RECIPIENT_STATES 6

#define RECIPIENT_NONE         UINT32_MAX
#define RECIPIENT_ATTEMPTS_MAX UINT8_MAX /* counting stops there */

struct recipient {
    struct reason *reason; /* of the last deferral, or NULL */
    uint32_t next;         /* in its item's chain, or RECIPIENT_NONE */
    uint8_t state;         /* enum recipient_state; recipient_set_state changes it */
    uint8_t attempts;
    bool tried; /* has had its first attempt, or its destination was found to be down */
};

/* What a delivery fiber sees of an item. */
struct taken_item {
    struct loop_task task; /* on its way back to the owner */
    struct queue *queue;
    struct queue_item *item;
    struct arena arena;
    struct envelope envelope;
    uint32_t *recipients; /* indexes in the envelope */
    size_t recipient_count;
    struct queue_outcome outcomes[];
};

struct queue_item {
    struct list_link link; /* in a ready or held list; or in a worker's hands */
    struct message *message;
    struct destination *destination; /* while ready or taken */
    union {
        struct sender_queue *sender; /* while in a ready list; NULL while held */
        struct taken_item *taken;    /* while taken */
    };
    struct schedule_entry entry; /* waiting: the next attempt; held: expiry */
    uint32_t first_recipient;
    uint32_t recipient_count;
    uint32_t sender_key; /* equal for what counts as one sender (destination.h) */
};

struct message {
    union {
        struct loop_task task; /* on its way to the owner */
        struct {
            struct message *next_in_table;
            union {
                struct failures *failures; /* that wait for their report, or NULL (reporting.c) */
                struct recovery *recovery; /* until recovery is done (recovery.c) */
            };
        };
    };
    spool_id id;
    int64_t arrived_at_ms;
    uint64_t body_bytes;
    uint32_t envelope_bytes;
    uint32_t recipient_count;
    uint32_t unsettled;   /* recipients that are neither DELIVERED nor REPORTED */
    uint32_t untried;     /* of these, without a first attempt */
    uint32_t taken;       /* TAKEN */
    bool item_used;       /* the one inside */
    bool snapshot_wanted; /* a result write of it failed (writer.c) */
    union {
        struct queue_item item;
        struct queue *queue; /* on its way to the owner */
    };
    struct recipient recipients[]; /* and behind them the envelope */
};

/* Copies the envelope; NULL if its front is malformed. Any thread. */
struct message *message_create(spool_id id, struct str encoded_envelope, uint64_t body_bytes);
/* Its items must be gone. */
void message_free(struct message *message, struct reason_table *reasons);
struct str message_envelope(const struct message *message);
/* Decodes into an arena that is initialised here, to be released in any case. false: malformed. */
bool message_decode(const struct message *message, struct arena *arena, struct envelope *envelope);

/* An empty item of the message. */
struct queue_item *item_create(struct message *message);
void item_free(struct queue_item *item);
/* At the end of the chain; `last` is the caller's: the recipient that was added before. */
void item_add_recipient(struct queue_item *item, uint32_t *last, uint32_t recipient);
/* Decodes for a delivery fiber, on its thread. */
void item_open(struct queue_item *item, struct queue *queue);
void taken_item_free(struct taken_item *taken);

/* Messages by id. Zero-initialise. */
struct message_table {
    struct message **buckets;
    size_t bucket_count; /* 0 or a power of two */
    size_t count;
};

void message_table_release(struct message_table *table); /* not the messages */
/* false if the id is there already. */
bool message_table_add(struct message_table *table, struct message *message);
struct message *message_table_find(const struct message_table *table, spool_id id);
void message_table_remove(struct message_table *table, struct message *message);

#endif
