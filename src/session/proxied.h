/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxied: connections that come through a load balancer, which says in a PROXY header (net/proxy.h) for whom. Only the addresses that
 * the configuration names may, and these must: what they send without a header is nobody's. From anyone else a header is a
 * client that talks before it is greeted.
 */
#ifndef POSTERN_SESSION_PROXIED_H
#define POSTERN_SESSION_PROXIED_H

#include "config/config.h"
#include "net/conn.h"
#include "net/proxy.h"

/* From the connection to the header's last byte. */
#define PROXIED_HEADER_TIMEOUT_MS 5000

/* Whether this peer speaks for others. */
bool proxied_is_proxy(const struct config *config, const struct config_server *server, const struct net_address *peer);

/* In a fiber. NULL, or why there is no header to go by: it is late or malformed, or the proxy has hung up. What follows the header stays unread. */
const char *proxied_receive(struct conn *conn, struct proxy_header *header);

#endif
