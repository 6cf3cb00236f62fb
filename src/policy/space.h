/* SPDX-License-Identifier: Apache-2.0 */
/*
 * space: sets of addresses, and their algebra, exact over the whole of IPv4 and IPv6. An address is a number of 128 bits; IPv4 is
 * ::ffff:0:0/96 in it, as in cidr.h, and everything outside that block is IPv6. A set is its ranges in rising order, none touching
 * another. Pure. A set is built by one thread and may then be read by any.
 *
 *     struct space a;
 *     space_init(&a);
 *     space_add(&a, &range);         any number, in any order
 *     space_finish(&a);              before any other function sees it
 *     space_release(&a);
 */
#ifndef POSTERN_POLICY_SPACE_H
#define POSTERN_POLICY_SPACE_H

#include "policy/cidr.h"

struct space_range {
    __uint128_t first;
    __uint128_t last; /* inclusive */
};

struct space {
    struct space_range *ranges;
    size_t count;
    size_t capacity;
};

/* A number as an address. */
struct cidr_address space_address(__uint128_t number);

void space_init(struct space *set);
void space_release(struct space *set);
/* As in a cidr_set, an IPv6 range around the IPv4-mapped block leaves that block out. */
void space_add(struct space *set, const struct cidr_range *range);
void space_finish(struct space *set);

/* `out` is initialised by these, and none of the operands. */
void space_all(struct space *out);
void space_complement(const struct space *a, struct space *out);
void space_intersection(const struct space *a, const struct space *b, struct space *out);
void space_difference(const struct space *a, const struct space *b, struct space *out); /* what is in a and not in b */

static inline bool space_is_empty(const struct space *set)
{
    return set->count == 0;
}

bool space_contains(const struct space *set, const struct cidr_address *address);

/* The globally reachable addresses: IPv4 outside the special-purpose blocks of RFC 6890, IPv6 inside 2000::/3 and outside
 * 2001:db8::/32. */
void space_public(struct space *out);

/* The first address of the set that container bridges and proxies commonly have, 172.16.0.0/12 ending in .1; false: there is none. */
bool space_find_bridge(const struct space *set, struct cidr_address *address);

/* IPv6 without the IPv4-mapped block has 2^128 - 2^32 addresses, so that every count fits. */
struct space_counts {
    __uint128_t ipv4;
    __uint128_t ipv4_public;
    __uint128_t ipv6;
    __uint128_t ipv6_public;
};

void space_count(const struct space *set, struct space_counts *counts);

/* The longest decimal number, its thousands separated, NUL included. */
#define SPACE_NUMBER_BYTES 64
/* NUL-terminated; with `separator` between groups of three digits unless it is 0. Returns the length. */
size_t space_format_number(__uint128_t number, char separator, char text[SPACE_NUMBER_BYTES]);

/* NUL-terminated: 10.1.0.0/16, 192.0.2.7, 2001:db8::/32. Returns the length. */
struct space_network {
    struct cidr_address address;
    unsigned bits; /* of 32 for IPv4, of 128 for IPv6 */
    __uint128_t size;
};
size_t space_format_network(const struct space_network *network, char text[CIDR_TEXT_BYTES]);

/*
 * The fewest networks that make up the set, IPv4 first, in rising order; the caller frees them. They are networks as a
 * configuration has them, where an IPv6 one around the IPv4-mapped block leaves that out (cidr.h): all of IPv6 is ::/0.
 */
size_t space_networks(const struct space *set, struct space_network **networks);

#endif
