/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_private.h"

#include <stdio.h>

#define DNS_PORT             53
#define DNS_LABEL_OCTETS_MAX 63

void dns_reverse_name(const struct net_address *client, char name[DNS_REVERSE_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *ip = client->ip;
    size_t length = 0;

    if (net_address_is_ipv4(client)) {
        snprintf(name, DNS_REVERSE_BYTES, "%u.%u.%u.%u.in-addr.arpa.", ip[15], ip[14], ip[13], ip[12]);
        return;
    }
    for (size_t i = 16; i-- > 0;) {
        name[length++] = digits[ip[i] & 15];
        name[length++] = '.';
        name[length++] = digits[ip[i] >> 4];
        name[length++] = '.';
    }
    snprintf(name + length, DNS_REVERSE_BYTES - length, "ip6.arpa.");
}

static bool is_host_byte(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_';
}

bool dns_parse_name(struct str rdata, char name[DNS_NAME_BYTES])
{
    size_t length = 0;

    while (rdata.length > 0) {
        size_t octets = (unsigned char)rdata.data[0];

        rdata = str_skip(rdata, 1);
        if (octets == 0) {
            if (rdata.length > 0 || length == 0)
                return false;
            name[length - 1] = '\0'; /* in place of the last dot */
            return true;
        }
        if (octets > DNS_LABEL_OCTETS_MAX || octets > rdata.length || length + octets + 1 > DNS_NAME_BYTES)
            return false;
        for (size_t i = 0; i < octets; i++) {
            if (!is_host_byte(rdata.data[i]))
                return false;
            name[length++] = rdata.data[i];
        }
        name[length++] = '.';
        rdata = str_skip(rdata, octets);
    }
    return false;
}

bool dns_is_address(struct str rdata, const struct net_address *client)
{
    if (net_address_is_ipv4(client))
        return rdata.length == 4 && memcmp(rdata.data, client->ip + 12, 4) == 0;
    return rdata.length == 16 && memcmp(rdata.data, client->ip, 16) == 0;
}

bool dns_parse_resolver(struct str text, struct net_address *resolver)
{
    struct str rest = text;
    struct str ip = str_split(&rest, '@');
    uint64_t port = DNS_PORT;

    if (rest.data && (!str_to_u64(rest, &port) || port == 0 || port > UINT16_MAX))
        return false;
    if (!net_address_parse_ip(ip, resolver))
        return false;
    resolver->port = (uint16_t)port;
    return true;
}
