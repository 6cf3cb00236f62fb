/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery/route: where one recipient's mail goes, by the configuration of now. Pure: no I/O, any thread.
 *
 *   a domain whose recipients are in the directory, recipient not looked up yet ──> the directory (delivery/resolve)
 *   a local domain (an alias stands for its own)  ── known recipient ──> its Maildir, or the server of `deliver: smtp:` or `lmtp:`
 *                                                 └─ unknown ──────────> unresolved-recipients-host, or fail 5.1.1
 *   an allowed domain with a recipient source ───── unknown ───────────> fail 5.1.1
 *   everything else ── the connectors of the most specific address space, the cheapest first; none: as the DNS says
 *
 * A destination is a name that the queue compares and delivery reads again:
 *   "directory"                  to be looked up, and then routed again
 *   "maildir"                    all Maildirs
 *   "smtp:CONNECTOR,..."         connectors, tried in this order within one attempt (delivery/connect), whose smart hosts take all domains
 *   "smtp:CONNECTOR,.../DOMAIN"  the same, where one of them asks the DNS: each domain has hosts of its own, so it backs off for itself
 *   "smtp:/DOMAIN"               no connector: as the DNS says
 *   "host:PORT:HOST"             one host by name or address
 *   "lmtp:PORT:HOST"             the same, by LMTP
 *   "lmtp:/PATH"                 LMTP over a UNIX socket
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
    ROUTE_DESTINATION_CONNECTORS,
    ROUTE_DESTINATION_HOST,
    ROUTE_DESTINATION_LMTP
};

/* Views of the destination's text. */
struct route_destination {
    enum route_destination_kind kind;
    struct str connectors; /* names with commas between them; empty: none matched */
    struct str domain;     /* normal form or a literal in brackets; empty: no connector asks the DNS */
    struct str host;
    uint16_t port;           /* of the host */
    const char *socket_path; /* of LMTP; NULL: to the host */
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
