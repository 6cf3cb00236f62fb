/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of control share: calls that a fiber makes to the queue's owner, and their two kinds of rounds.
 *
 *   a fiber (its loop)                        owner
 *   owner_call_wait ──── task ─────────────>  call->run: fills in the answer, then owner_call_answer, at once or later
 *        <──────────── answered ───────────   on the fiber's loop
 *
 * A call has two references, the fiber's and the owner's, since the fiber may give up waiting.
 */
#ifndef POSTERN_QUEUE_CONTROL_PRIVATE_H
#define POSTERN_QUEUE_CONTROL_PRIVATE_H

#include "queue/control.h"
#include "queue/queue_private.h"

/* ---- filter.c ---- */

void filter_for_table(const struct queue_filter *filter, struct table_filter *table);
/* Whether an envelope has to be looked at. */
bool filter_has_texts(const struct queue_filter *filter);
bool filter_matches_sender(const struct queue_filter *filter, const struct envelope *envelope);
bool filter_matches_recipient(const struct queue_filter *filter, const struct envelope_recipient *recipient);

/* ---- control.c ---- */

struct owner_call {
    struct loop_task task;
    struct queue *queue;
    void (*run)(struct owner_call *call);     /* on the owner's thread */
    void (*destroy)(struct owner_call *call); /* on the fiber's loop */
    struct loop *loop;
    struct fiber *fiber; /* NULL: it has given up */
    unsigned references; /* of the fiber's loop */
    bool is_answered;
};

void owner_call_answer(struct owner_call *call);

/* What touching a message costs, in entries of the table looked at. */
#define QUEUE_TOUCH_COST 32u

/* ---- look.c: the owner's side of looking ---- */

/* A recipient as it stands; texts are offsets into the round's bytes, each ends with NUL. */
struct looked_recipient {
    enum queue_state state;
    unsigned attempts;
    int64_t next_attempt_at_ms;
    uint32_t status, remote, text, destination; /* LOOKED_NO_TEXT: empty */
    bool is_delay_told;
};
#define LOOKED_NO_TEXT UINT32_MAX

struct looked_message {
    spool_id id;
    uint64_t body_bytes;
    size_t envelope;        /* offset into the round's bytes */
    size_t envelope_bytes;  /* 0: it is on the disk alone */
    size_t recipient_first; /* in the round's recipients */
    uint32_t recipient_count, unsettled_count;
    uint32_t held_text; /* LOOKED_NO_TEXT: not on hold */
    int64_t held_at_ms;
    bool is_quarantined;
};

struct look_round {
    struct owner_call call;
    /* in */
    struct table_filter filter;
    unsigned states;
    int64_t arrived_before_at_ms;
    bool only_one; /* the message `after` itself, in whatever state */
    /* in and out */
    spool_id after;
    /* out */
    bool is_end;
    size_t message_count;
    struct looked_message messages[QUEUE_ROUND_MESSAGES];
    struct looked_recipient *recipients;
    size_t recipient_count, recipient_capacity;
    struct buf bytes;
};

void look_run(struct owner_call *call);
enum queue_state look_state(const struct message *message, uint32_t recipient);

/* ---- act.c: the owner's side of acting ---- */

struct act_message {
    spool_id id;
    struct str envelope; /* encoded; the round's; empty if it is not to be had */
    bool *are_meant;     /* by recipient; the round's; NULL: all */
    size_t recipient_count;
};

#define ACT_BY_BYTES   65
#define ACT_TEXT_BYTES 201

struct act_round {
    struct owner_call call;
    struct writer_waiter waiter;
    /* in */
    enum queue_action action;
    char by[ACT_BY_BYTES], text[ACT_TEXT_BYTES];
    int64_t at_ms;
    unsigned states;
    struct act_message messages[QUEUE_ROUND_MESSAGES];
    size_t message_count;
    /* out */
    struct queue_done done;
};

void act_run(struct owner_call *call);

#endif
