/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connections: how many connections a virtual server has, in all and by client, so that one client can't take them all. A client is an IPv4 address or an
 * IPv6 /64, since the host that has one address of a /64 has them all. Any thread.
 */
#ifndef POSTERN_SESSION_CONNECTIONS_H
#define POSTERN_SESSION_CONNECTIONS_H

#include "net/address.h"

struct connections;

struct connections *connections_create(void);
void connections_destroy(struct connections **connections);

/* false, and not counted: one of the limits is reached. */
bool connections_add(struct connections *connections, const struct net_address *client, uint64_t total_max,
                     uint64_t per_client_max);
/* Ends one that was added. */
void connections_remove(struct connections *connections, const struct net_address *client);

/* A connection from a proxy counts towards the total only, until its client is known: from connections_name on it is as one that was added for
 * that client. false: the limit is reached, and nothing has changed. */
bool connections_add_nameless(struct connections *connections, uint64_t total_max);
bool connections_name(struct connections *connections, const struct net_address *client, uint64_t per_client_max);
void connections_remove_nameless(struct connections *connections);

uint64_t connections_count(struct connections *connections);

#endif
