/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery/body: reads a message's body in a fiber: from memory at once, from the disk in a worker thread.
 * Sequentially, so that the spool checks it. One fiber at a time.
 */
#ifndef POSTERN_DELIVERY_BODY_H
#define POSTERN_DELIVERY_BODY_H

#include "loop/worker.h"
#include "spool/spool.h"

struct delivery_body {
    struct spool *spool;
    struct worker_pool *pool;
    spool_id id;
    struct spool_reader *reader; /* NULL until the first read */
    uint64_t offset;
};

/* No I/O. */
void delivery_body_init(struct delivery_body *body, struct spool *spool, struct worker_pool *pool, spool_id id);
/* Count, 0 at the end, or a negative errno (-EILSEQ: damaged). Waits. */
ssize_t delivery_body_read(struct delivery_body *body, void *data, size_t length);
void delivery_body_release(struct delivery_body *body);

#endif
