/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_name: a client's verified host name, for one session: looked up in the background from the connection on, if the server's lists
 * or the Received line have a use for it, and waited for only where a decision depends on it. One fiber, on its loop.
 */
#ifndef POSTERN_SESSION_CLIENT_NAME_H
#define POSTERN_SESSION_CLIENT_NAME_H

#include "config/config.h"
#include "mail/domain.h"
#include "net/dns.h"

struct client_name {
    struct dns_lookup *lookup; /* NULL: not begun, or settled */
    char text[DOMAIN_TEXT_BYTES];
};

/* Zero before. `facts` say POLICY_NAME_NONE if nobody has a use for the name, and POLICY_NAME_TEMPFAIL until it is settled. */
void client_name_begin(struct client_name *name, struct dns *dns, const struct config *config,
                       const struct config_server *server, const struct net_address *client,
                       struct policy_facts *facts);
/* Whether the facts may still change. */
bool client_name_is_pending(const struct client_name *name);
/* Waits for it and completes the facts, which point into `name`. If it is not known by then it stays pending, unless the lookup's
 * own time is over (DEADLINE_NEVER waits for that). */
void client_name_settle(struct client_name *name, struct policy_facts *facts, uint64_t deadline_ms);
void client_name_end(struct client_name *name);

#endif
