/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy: the header of the PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt), by which a load balancer says who
 * its client is. Only its parsing: pure, any thread. Strict, since whoever is believed here decides who may relay.
 */
#ifndef POSTERN_NET_PROXY_H
#define POSTERN_NET_PROXY_H

#include "base/str.h"
#include "net/address.h"

/* The longest header that is taken: what version 2 may carry behind the addresses is small in practice. */
#define PROXY_HEADER_BYTES_MAX 4096

enum proxy_status {
    PROXY_DONE,
    PROXY_INCOMPLETE, /* fine so far: come again with more */
    PROXY_MALFORMED,
};

struct proxy_header {
    size_t length; /* bytes of the input that it takes */
    bool
        has_client; /* false: the proxy speaks for itself (LOCAL), or does not know (UNKNOWN, UNSPEC, a local socket) */
    struct net_address client; /* the connection's source as the proxy saw it */
};

/* `input` is everything from the connection's first byte on. The header is filled when DONE. PROXY_HEADER_BYTES_MAX bytes are never INCOMPLETE. */
enum proxy_status proxy_parse(struct str input, struct proxy_header *header);

#endif
