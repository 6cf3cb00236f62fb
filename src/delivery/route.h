/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery/route: where one recipient's mail goes, by the configuration of now. Pure: no I/O, any thread.
 *
 *   a domain whose recipients are in the directory, recipient not looked up yet ──> the directory (delivery/resolve)
 *   a local domain (an alias stands for its own)  ── known recipient ──> its Maildir, or the host of `deliver: smtp:HOST:PORT`
 *                                                 └─ unknown ──────────> unresolved-recipients-host, or fail 5.1.1
 *   an allowed domain with a recipient source ───── unknown ───────────> fail 5.1.1
 *   everything else ── the connector whose address space is the most specific, then the cheapest; none: fail 5.4.4
 *
 * A destination is a name that the queue compares and delivery reads again:
 *   "directory"         to be looked up, and then routed again
 *   "maildir"           all Maildirs
 *   "smtp:CONNECTOR"    the connector's smart hosts, tried in order within one attempt
 *   "host:PORT:HOST"    one host by name or address
 */
#ifndef POSTERN_DELIVERY_ROUTE_H
#define POSTERN_DELIVERY_ROUTE_H

#include "config/config.h"
#include "queue/queue.h"

void route_choose(const struct config *config, const struct envelope *envelope, size_t recipient,
                  enum queue_resolution resolution, struct queue_route *route);

enum route_destination_kind {
    ROUTE_DESTINATION_DIRECTORY,
    ROUTE_DESTINATION_MAILDIR,
    ROUTE_DESTINATION_CONNECTOR,
    ROUTE_DESTINATION_HOST
};

struct route_destination {
    enum route_destination_kind kind;
    struct str name; /* the connector, or the host; a view of the destination */
    uint16_t port;   /* of a host */
};

/* false: not one of route_choose's. */
bool route_parse_destination(const char *destination, struct route_destination *parsed);

/* The name of a Maildir below drop/, NUL included (interfaces.md section 6). */
#define ROUTE_MAILBOX_BYTES 256

/* USER@DOMAIN in lower case, the rest of its bytes as %XX; too long a name ends in a hash of all of it. */
void route_mailbox_name(struct str user, struct str domain, char name[ROUTE_MAILBOX_BYTES]);
/* The recipient's own, under the local domain that it belongs to; false if it is not local (any more). */
bool route_mailbox(const struct config *config, const struct envelope *envelope, size_t recipient,
                   char name[ROUTE_MAILBOX_BYTES]);

#endif
