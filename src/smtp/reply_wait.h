/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply_wait: one reply of a server from a connection, for whoever leads a dialogue with it. In a fiber.
 */
#ifndef POSTERN_SMTP_REPLY_WAIT_H
#define POSTERN_SMTP_REPLY_WAIT_H

#include "net/conn.h"
#include "smtp/reply.h"

struct smtp_reply_wait {
    struct conn *conn;
    struct reply_parser *parser; /* initialised; holds the reply afterwards */
    uint64_t deadline_ms;        /* of the whole reply: a byte now and then does not prolong it */
    /* The reply's bytes as they come, for a transcript; valid during the call. NULL: nobody wants them. */
    void (*seen)(void *context, struct str bytes);
    void *context;
};

/*
 * Sends what was gathered and waits. CONN_OK: `*status` is REPLY_COMPLETE, or the stream is out of step. Anything else: the connection has
 * failed, or the deadline has passed. What follows the reply stays in the connection.
 */
enum conn_status smtp_reply_wait(const struct smtp_reply_wait *wait, enum reply_status *status);

#endif
