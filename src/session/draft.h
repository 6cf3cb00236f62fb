/* SPDX-License-Identifier: Apache-2.0 */
/*
 * draft: a message on its way from the wire into the spool. In memory up to what the spool takes inline; beyond that it goes to a body file,
 * written by worker threads. One fiber at a time, on one loop.
 *
 * Calling sequence: draft_create; draft_append for each piece; draft_commit; draft_release. A draft that is released without a commit leaves
 * nothing behind. Problems on the way are remembered and told by draft_commit.
 */
#ifndef POSTERN_SESSION_DRAFT_H
#define POSTERN_SESSION_DRAFT_H

#include "loop/worker.h"
#include "mail/header.h"
#include "queue/queue.h"
#include "session/events.h"
#include "spool/spool.h"

struct draft;
struct command_log_sink;

/* A disk that does not answer for so long gets its message answered 451. The message may still become durable afterwards, and is then delivered: the
 * client's next attempt is a duplicate. */
#define DRAFT_STORE_TIMEOUT_MS 120000

struct draft_store {
    struct spool *spool;
    struct queue *queue;
    struct worker_pool *disk_pool;
    /* What sessions tell beside; each may be NULL. */
    const struct mail_event_sink *events;
    const struct command_log_sink *command_log;
};

enum draft_status {
    DRAFT_STORED,
    DRAFT_FULL,            /* 452 4.3.1 */
    DRAFT_FAILED,          /* 451 4.3.0 */
    DRAFT_HEADER_TOO_LONG, /* of a message that does not fit in memory, the header alone does not */
};

/* `received` is the trace field; `message_id` (without brackets) becomes a field if the message has none. Both are copied. */
struct draft *draft_create(const struct draft_store *store, struct str received, struct str message_id);
/* Before the first piece: the values of the From fields go to `from` (mail/header.h), which the caller keeps until draft_release. */
void draft_keep_from(struct draft *draft, struct buf *from);
/* Waits when a piece does not fit into memory. */
void draft_append(struct draft *draft, struct str piece);
/* No more comes. After it, what the header said is known. */
const struct header_scan *draft_finish(struct draft *draft);
bool draft_has_8bit(const struct draft *draft);
uint64_t draft_body_bytes(const struct draft *draft); /* the trace fields included */
/* Makes the message durable and gives it to the queue: waits. The envelope is copied. */
enum draft_status draft_commit(struct draft *draft, spool_id id, const struct envelope *envelope);
void draft_release(struct draft **draft);

#endif
