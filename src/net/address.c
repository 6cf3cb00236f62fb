/* SPDX-License-Identifier: Apache-2.0 */
#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

static const unsigned char mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool net_address_is_ipv4(const struct net_address *a)
{
    return memcmp(a->ip, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

bool net_address_is_any(const struct net_address *a)
{
    static const unsigned char zero[16];

    return net_address_is_ipv4(a) ? memcmp(a->ip + 12, zero, 4) == 0 : memcmp(a->ip, zero, 16) == 0;
}

bool net_address_from_sockaddr(const struct sockaddr *s, struct net_address *a)
{
    if (s->sa_family == AF_INET) {
        struct sockaddr_in in;

        memcpy(&in, s, sizeof(in));
        memcpy(a->ip, mapped_prefix, sizeof(mapped_prefix));
        memcpy(a->ip + 12, &in.sin_addr, 4);
        a->port = ntohs(in.sin_port);
        return true;
    }
    if (s->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;

        memcpy(&in6, s, sizeof(in6));
        memcpy(a->ip, &in6.sin6_addr, 16);
        a->port = ntohs(in6.sin6_port);
        return true;
    }
    return false;
}

socklen_t net_address_to_sockaddr(const struct net_address *a, struct sockaddr_storage *s)
{
    memset(s, 0, sizeof(*s));
    if (net_address_is_ipv4(a)) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(a->port)};

        memcpy(&in.sin_addr, a->ip + 12, 4);
        memcpy(s, &in, sizeof(in));
        return sizeof(in);
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(a->port)};

    memcpy(&in6.sin6_addr, a->ip, 16);
    memcpy(s, &in6, sizeof(in6));
    return sizeof(in6);
}

struct str net_address_format_ip(const struct net_address *a, char text[NET_ADDRESS_TEXT_BYTES])
{
    if (net_address_is_ipv4(a))
        inet_ntop(AF_INET, a->ip + 12, text, NET_ADDRESS_TEXT_BYTES);
    else
        inet_ntop(AF_INET6, a->ip, text, NET_ADDRESS_TEXT_BYTES);
    return str_from_cstr(text);
}

struct str net_address_format(const struct net_address *a, char text[NET_ADDRESS_TEXT_BYTES])
{
    char ip[NET_ADDRESS_TEXT_BYTES];
    bool ipv4 = net_address_is_ipv4(a);

    net_address_format_ip(a, ip);
    snprintf(text, NET_ADDRESS_TEXT_BYTES, ipv4 ? "%.45s:%u" : "[%.45s]:%u", ip, (unsigned)a->port);
    return str_from_cstr(text);
}

bool net_address_parse_ip(struct str text, struct net_address *a)
{
    char copy[INET6_ADDRSTRLEN + 1];

    if (text.length == 0 || text.length >= sizeof(copy) || memchr(text.data, '\0', text.length))
        return false;
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    a->port = 0;
    memcpy(a->ip, mapped_prefix, sizeof(mapped_prefix));
    if (inet_pton(AF_INET, copy, a->ip + 12) == 1)
        return true;
    return inet_pton(AF_INET6, copy, a->ip) == 1;
}
