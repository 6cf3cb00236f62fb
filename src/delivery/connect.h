/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery/connect: from a destination to an SMTP connection that has been greeted.
 *
 *   destination ──> connectors, the cheapest first ──> smart hosts in their order, or the domain ──> mail exchangers by preference
 *               ──> addresses, IPv6 and IPv4 in turn ──> the first that takes us, with the TLS and the authentication that the connector wants
 *
 * What could not be reached lately (delivery/reach) is left for a second round, which comes only when all others have failed. Nothing else is ever
 * contacted. One attempt tries at most CONNECT_TRIES_MAX addresses. Waits: fibers only.
 *
 * DIAGNOSTICS: each host that was tried and each step that failed stands in the outcome's text, as far as there is room. What the DNS says of a recipient's
 * domain may be final (RFC 7505, RFC 5321 5.1); what is wrong with the hosts of our own configuration never is.
 */
#ifndef POSTERN_DELIVERY_CONNECT_H
#define POSTERN_DELIVERY_CONNECT_H

#include "config/config.h"
#include "queue/queue.h"
#include "session/runtime.h"
#include "smtp/client.h"

/* Of one name and family; what the DNS says beyond it is not tried. */
#define CONNECT_ADDRESSES_MAX 8
#define CONNECT_TRIES_MAX     20

/* Who is at the other end, for logs and reports: a name, or an address in brackets. */
#define CONNECT_REMOTE_BYTES 128

struct delivery;

enum connect_result {
    CONNECT_OK,
    CONNECT_FAILED,   /* no host of the destination takes us now */
    CONNECT_REFUSED,  /* the destination takes no mail, and won't: all of it fails */
    CONNECT_NO_ROUTE, /* the configuration no longer has the destination: its mail needs another route */
};

struct connection {
    struct smtp_client *client;
    char remote[CONNECT_REMOTE_BYTES];
    const struct config_connector *connector; /* as long as the configuration */
    bool is_lmtp;                             /* to where the mailboxes are */
};

/* A connection; or `*outcome`, deferred unless CONNECT_REFUSED. */
enum connect_result connect_destination(struct delivery *delivery, const struct runtime *runtime,
                                        const char *destination, struct connection *connection,
                                        struct queue_outcome *outcome);

#endif
