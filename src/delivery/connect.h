/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery/connect: from a destination to an SMTP connection that has been greeted. The hosts of the destination in
 * their order, of each its addresses in the order of the system's resolver, until one takes us. Nothing else is ever
 * contacted. Waits: fibers only.
 */
#ifndef POSTERN_DELIVERY_CONNECT_H
#define POSTERN_DELIVERY_CONNECT_H

#include "config/config.h"
#include "loop/worker.h"
#include "queue/queue.h"
#include "smtp/client.h"

/* Of one name; what a resolver says beyond it is not tried. */
#define CONNECT_ADDRESSES_MAX 8

/* Who is at the other end, for logs and reports: a name, or an address in brackets. */
#define CONNECT_REMOTE_BYTES 128

enum connect_result {
    CONNECT_OK,
    CONNECT_FAILED,   /* no host of the destination takes us now */
    CONNECT_NO_ROUTE, /* the configuration no longer has the destination: its mail needs another route */
};

/* A client; or `*outcome`, always deferred: what the last host said, or why there was none. */
enum connect_result connect_destination(const struct config *config, struct worker_pool *lookup_pool,
                                        const char *destination, struct smtp_client **client,
                                        char remote[CONNECT_REMOTE_BYTES], struct queue_outcome *outcome);

#endif
