/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message: one message of the index, its recipients and its items. An item is a chain of recipients of one message that go the same way: to one
 * destination, or together into the schedule. Nearly every message has one recipient and one item, so these and the encoded envelope are one
 * allocation: about 130 bytes and the envelope (queue.h promises 400 in all; a test counts).
 *
 * The envelope stays encoded, and is decoded only while recipients are routed, and while an item is taken. It may be on the disk alone (envelopes.c).
 *
 * On hold: none of its WAITING recipients has an item.
 *
 * Owner's thread, but: message_create, and what item_open reads (the id, the envelope, the item's own chain), which nobody changes while it is taken.
 */
#ifndef POSTERN_QUEUE_MESSAGE_H
#define POSTERN_QUEUE_MESSAGE_H

#include "base/list.h"
#include "queue/queue.h"
#include "queue/reason.h"
#include "queue/schedule.h"
#include "queue/table.h"

struct destination;
struct extra_item;
struct failures;
struct message;
struct recovery;
struct sender_queue;

/*
 * WAITING ─> READY ─> TAKEN ─> DELIVERED          ┌─> UNTOLD ─> DELIVERED
 *    ^ │     │  ^ │     │ │                       │       delivered, and the sender has asked to be told
 *    │ │     │  │ └─────┘ ├───────────────────────┘
 *    │ │     │  └─────────┤       READY back from TAKEN: given back
 *    │ ├─────┼────────────┼─> FAILED ─> REPORTED
 *    │ └─────┴────────────┴─> DELETED
 *    └───────┴────────────┘       FAILED from READY: expired while its destination backs off, or bounced
 *                                 WAITING from READY: put on hold
 *
 * Recovery also goes from WAITING straight to DELIVERED, REPORTED and UNTOLD.
 */
enum recipient_state {
    RECIPIENT_WAITING, /* for its time; or new; or on hold */
    RECIPIENT_READY,   /* in a destination's ready list */
    RECIPIENT_TAKEN,   /* by a delivery fiber */
    RECIPIENT_DELIVERED,
    RECIPIENT_FAILED, /* its report is not in the spool yet */
    RECIPIENT_REPORTED,
    RECIPIENT_UNTOLD, /* delivered; the report of it is not in the spool yet */
    RECIPIENT_DELETED,
};
#define RECIPIENT_STATES 8

#define RECIPIENT_NONE         UINT16_MAX
#define RECIPIENT_ATTEMPTS_MAX UINT8_MAX /* counting stops there */

/* What the postmaster has ordered while it was taken: comes true unless it is delivered. DOOM_BOUNCE stays with it as FAILED. */
enum recipient_doom { DOOM_NONE, DOOM_DELETE, DOOM_BOUNCE };

struct recipient {
    uint32_t reason; /* number; of the last deferral; or of its bounce; 0: none */
    uint16_t next;   /* in its item's chain, or RECIPIENT_NONE */
    uint8_t attempts;
    uint8_t state : 4; /* enum recipient_state; recipient_set_state changes it */
    uint8_t doom : 2;  /* enum recipient_doom */
    bool tried : 1;    /* has had its first attempt, or its destination was found to be down */
    bool is_delay_told : 1;
};

_Static_assert(ENVELOPE_RECIPIENTS_MAX <= RECIPIENT_NONE, "an index fits into `next`");
_Static_assert(sizeof(struct recipient) == 8, "a recipient costs 8 bytes");

/* What a delivery fiber sees of an item. */
struct taken_item {
    struct loop_task task; /* on its way back to the owner */
    struct queue *queue;
    struct queue_item *item;
    struct arena arena;
    struct envelope envelope;
    char *envelope_data;  /* that it was decoded from, if it came from the disk; else NULL */
    bool is_unread;       /* it could not be had from there: the item is given back for later */
    unsigned in_hand;     /* slot (in_hand.h), or IN_HAND_NONE */
    uint32_t *recipients; /* indexes in the envelope */
    size_t recipient_count;
    struct queue_outcome outcomes[];
};

/* What is to be done with a waiting item once its envelope has been read. */
enum item_wish {
    ITEM_DUE = 1,  /* item_due */
    ITEM_TELL = 2, /* that its destination backs off */
};

struct queue_item {
    struct list_link link; /* in a ready or held list; or in a worker's hands */
    struct message *message;
    struct destination *destination; /* while ready or taken */
    union {
        struct sender_queue *sender; /* while in a ready list; NULL while held */
        struct taken_item *taken;    /* while taken */
    };
    struct schedule_entry entry; /* waiting: the next attempt; held: expiry, or a notice of delay before */
    uint32_t sender_key;         /* equal for what counts as one sender (destination.h) */
    uint16_t first_recipient;
    uint16_t recipient_count;
    uint8_t wishes; /* enum item_wish bits */
};

struct message {
    union {
        struct loop_task task; /* on its way to the owner */
        struct {
            struct extra_item *extras; /* items beside the one inside */
            union {
                struct failures *failures; /* that wait for their report, or NULL (reporting.c) */
                struct recovery *recovery; /* until recovery is done (recovery.c) */
            };
        };
    };
    spool_id id;
    int64_t arrived_at_ms;
    uint32_t envelope_bytes; /* 0: it is on the disk alone */
    uint32_t hold;           /* number of the reason why it is on hold (hold.c); 0: it is not */
    uint32_t body_bytes_low; /* message_body_bytes */
    uint16_t body_bytes_high;
    bool item_used : 1;       /* the one inside */
    bool snapshot_wanted : 1; /* a result write of it failed (writer.c) */
    bool is_unstarted : 1;    /* recovered, and not looked at yet */
    bool was_held : 1;        /* at some time: the spool may know of it */
    bool is_read : 1;         /* its envelope is being read (envelopes.c) */
    bool is_suspect : 1;      /* in hand at a crash (in_hand.h) */
    uint16_t recipient_count;
    uint16_t unsettled; /* recipients that are neither DELIVERED nor REPORTED nor DELETED */
    uint16_t untried;   /* of these, without a first attempt */
    uint16_t taken;     /* TAKEN */
    union {
        struct queue_item item;
        struct {
            struct queue *queue;
            struct table_tags tags;
        } arrival; /* on its way to the owner; `tags` until it is in the table */
    };
    struct recipient recipients[]; /* and behind them the envelope */
};

/* 48 bits are enough for a body, and leave room for the flags. */
static inline uint64_t message_body_bytes(const struct message *message)
{
    return (uint64_t)message->body_bytes_high << 32 | message->body_bytes_low;
}

/* Copies the envelope, and notes its tags in `arrival`; NULL if it is malformed. Any thread. */
struct message *message_create(spool_id id, struct str encoded_envelope, uint64_t body_bytes);
/* Its items must be gone. */
void message_free(struct message *message, struct reason_table *reasons);
static inline bool message_has_envelope(const struct message *message)
{
    return message->envelope_bytes > 0;
}
struct str message_envelope(const struct message *message);
/* Decodes into an arena that is initialised here, to be released in any case. false: malformed. */
bool message_decode(const struct message *message, struct arena *arena, struct envelope *envelope);
/* The same of an encoded envelope that has been read from the disk. */
bool message_decode_data(const struct message *message, struct str data, struct arena *arena,
                         struct envelope *envelope);
/* The same message without its envelope, elsewhere in memory: what points to it must be told, but for its items and their lists and schedules. None of its
 * items is taken, and no failures. */
struct message *message_drop_envelope(struct message *message, struct schedule *schedule);

/* An empty item of the message. */
struct queue_item *item_create(struct message *message);
void item_free(struct queue_item *item);
/* All items of a message: the first, and the next; NULL at the end. Get the next before the item is freed. */
struct queue_item *item_first(struct message *message);
struct queue_item *item_next(struct queue_item *item);
/* At the end of the chain; `last` is the caller's: the recipient that was added before. */
void item_add_recipient(struct queue_item *item, uint32_t *last, uint32_t recipient);
/* Decodes for a delivery fiber, on its thread. `data`: the envelope as read from the disk, which becomes the item's; or NULL where it is in memory. */
void item_open(struct queue_item *item, struct queue *queue, struct str data);
void taken_item_free(struct taken_item *taken);

#endif
