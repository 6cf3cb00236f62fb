/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/address: an IP address and port in one form. IPv4 stands as an IPv4-mapped IPv6 address (::ffff:a.b.c.d), so that an IPv4-mapped
 * client is an IPv4 client everywhere. Pure, any thread.
 */
#ifndef POSTERN_NET_ADDRESS_H
#define POSTERN_NET_ADDRESS_H

#include "base/buf.h"
#include "base/str.h"

#include <sys/socket.h>

struct net_address {
    unsigned char ip[16];
    uint16_t port; /* host order */
};

/* Longest text of net_address_format, NUL included: [ipv6]:port */
#define NET_ADDRESS_TEXT_BYTES 56

bool net_address_is_ipv4(const struct net_address *a);
/* The wildcard of either family. */
bool net_address_is_any(const struct net_address *a);
/* false if it is neither AF_INET nor AF_INET6. */
bool net_address_from_sockaddr(const struct sockaddr *s, struct net_address *a);
/* AF_INET for a mapped address, else AF_INET6. */
socklen_t net_address_to_sockaddr(const struct net_address *a, struct sockaddr_storage *s);
/* "192.0.2.1" or "2001:db8::1", without brackets or port; NUL-terminated. */
struct str net_address_format_ip(const struct net_address *a, char text[NET_ADDRESS_TEXT_BYTES]);
/* "192.0.2.1:25" or "[2001:db8::1]:25". */
struct str net_address_format(const struct net_address *a, char text[NET_ADDRESS_TEXT_BYTES]);
/* An IP literal without brackets; the port becomes 0. */
bool net_address_parse_ip(struct str text, struct net_address *a);

#endif
