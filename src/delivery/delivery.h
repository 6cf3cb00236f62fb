/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery: takes messages out of the queue to where they go: a Maildir, or the next server; and tells the sender when
 * that fails. It joins queue, smtp, policy, config and spool: the queue decides when, the configuration where,
 * smtp/client how.
 *
 *   hooks.route        ── delivery/route:   where one recipient's mail goes
 *   hooks.start_worker ── delivery/outbound, delivery/maildir or delivery/resolve: a fiber that empties one destination's ready list
 *   hooks.report       ── delivery/report:  a report into the spool; or badmail for what must not be reported
 *   hooks.event        ── one log line for each outcome
 *
 * Calling sequence: delivery_create; queue_create with delivery_hooks; delivery_set_queue; recovery, traffic;
 * delivery_stop and queue_stop; the loops end; queue_destroy; delivery_destroy.
 *
 * Threads: the hooks run on the queue owner's loop; delivery fibers on the given loops in turn.
 */
#ifndef POSTERN_DELIVERY_DELIVERY_H
#define POSTERN_DELIVERY_DELIVERY_H

#include "base/error.h"
#include "config/config.h"
#include "directory/directory.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "net/dns.h"
#include "os/vfs.h"
#include "queue/queue.h"
#include "session/events.h"
#include "session/runtime.h"
#include "spool/spool.h"

struct delivery;

struct delivery_options {
    struct loop *const *loops; /* delivery fibers run on these in turn; copied */
    size_t loop_count;
    struct loop *owner; /* the queue's */
    struct spool *spool;
    const struct vfs *vfs;
    struct worker_pool *disk_pool; /* Maildirs, badmail, bodies that are not in memory */
    struct dns *dns;
    /* The snapshot of now, retained: the caller releases it. Any thread. */
    const struct config *(*config)(void *context);
    /* The same with what is made of it, for connections. */
    struct runtime *(*runtime)(void *context);
    /* The directory of now, retained likewise; NULL: there is none, and nobody is known. */
    struct directory *(*directory)(void *context);
    void *config_context;
    const struct mail_event_sink *events; /* what becomes of messages is told here; NULL: to nobody */
    const char *data_directory;           /* drop/ and badmail/ are made below it; copied */
};

/* All that the options point to outlives the delivery. 0 or -1. */
int delivery_create(struct delivery **delivery, const struct delivery_options *options, struct error *error);
/* After the loops have ended. */
void delivery_destroy(struct delivery **delivery);

/* For queue_create; valid as long as the delivery. */
const struct queue_hooks *delivery_hooks(struct delivery *delivery);
/* Before the loops start. Reports are given to it. */
void delivery_set_queue(struct delivery *delivery, struct queue *queue);

/* Any thread, before queue_stop: hands back the reports that wait for their turn under ndr.rate, so that the queue
 * can come to an end (the failures are still in the spool, and are reported after the next start). */
void delivery_stop(struct delivery *delivery);

struct delivery_statistics {
    uint64_t reports;            /* queued */
    uint64_t reports_waiting;    /* for their turn under ndr.rate */
    uint64_t reports_suppressed; /* over the rate and the bounded waiting list: badmail instead */
    uint64_t badmail;            /* messages set aside, those included */
};
/* Any thread. */
void delivery_get_statistics(const struct delivery *delivery, struct delivery_statistics *statistics);

#endif
