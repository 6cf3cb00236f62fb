/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cidr: addresses and networks as 128-bit numbers, and a set of networks that is searched in logarithmic time and knows which of
 * its entries matched. An IPv4 address is carried in its IPv4-mapped form (::ffff:0:0/96), so an IPv4-mapped IPv6 client is an
 * IPv4 client. Pure; a finished set may be read by any thread.
 */
#ifndef POSTERN_POLICY_CIDR_H
#define POSTERN_POLICY_CIDR_H

#include "base/error.h"
#include "base/str.h"

#include <stdint.h>

/* Network byte order; IPv4 mapped. */
struct cidr_address {
    unsigned char bytes[16];
};

/* Inclusive at both ends. */
struct cidr_range {
    struct cidr_address first;
    struct cidr_address last;
};

/* The longest text of an address or a network, NUL included. */
#define CIDR_TEXT_BYTES 64

/* Dotted IPv4 or IPv6, no brackets, no zone, no port: false if it is neither. */
bool cidr_parse_address(struct str text, struct cidr_address *address);
/* ADDRESS, ADDRESS/BITS or IPV4/MASK. Host bits that are set are an error that names the right form. 0 or -1. */
int cidr_parse_network(struct str text, struct cidr_range *range, struct error *error);

struct cidr_address cidr_from_ipv4(const unsigned char bytes[4]);
bool cidr_is_ipv4(const struct cidr_address *address);
/* 0.0.0.0 or ::, what a listener on every address is bound to. */
bool cidr_is_unspecified(const struct cidr_address *address);
bool cidr_equal(const struct cidr_address *a, const struct cidr_address *b);
int cidr_compare(const struct cidr_address *a, const struct cidr_address *b); /* <0, 0, >0 */

/* NUL-terminated; IPv4 dotted, IPv6 as RFC 5952 has it. Returns the length. */
size_t cidr_format_address(const struct cidr_address *address, char text[CIDR_TEXT_BYTES]);

/*
 * A set: add all, finish once, then look up. Entries may overlap; of several that match, the one with the lowest number is told.
 * An IPv6 range around the IPv4-mapped block, as ::/0, leaves that block out: it holds IPv4 clients, and 0.0.0.0/0 names those.
 */
struct cidr_interval;
struct cidr_set {
    struct cidr_interval *intervals; /* sorted and disjoint once finished */
    size_t count;
    size_t capacity;
    bool finished;
};

#define CIDR_NO_ENTRY UINT32_MAX

void cidr_set_init(struct cidr_set *set);
void cidr_set_release(struct cidr_set *set);
void cidr_set_add(struct cidr_set *set, const struct cidr_range *range, uint32_t entry);
void cidr_set_finish(struct cidr_set *set);
/* The entry's number, or CIDR_NO_ENTRY. An empty set contains nothing. */
uint32_t cidr_set_find(const struct cidr_set *set, const struct cidr_address *address);
/* Visits the disjoint ranges in rising order: start with *position 0; false at the end. */
bool cidr_set_next(const struct cidr_set *set, size_t *position, struct cidr_range *range, uint32_t *entry);

#endif
