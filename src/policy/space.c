/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/space.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* ::ffff:0:0/96, where IPv4 lives. */
#define MAPPED_FIRST ((__uint128_t)0xffff00000000u)
#define MAPPED_LAST  ((__uint128_t)0xffffffffffffu)
#define SPACE_LAST   (~(__uint128_t)0)

static __uint128_t to_number(const struct cidr_address *address)
{
    __uint128_t number = 0;

    for (size_t i = 0; i < sizeof(address->bytes); i++)
        number = number << 8 | address->bytes[i];
    return number;
}

struct cidr_address space_address(__uint128_t number)
{
    struct cidr_address address;

    for (size_t i = sizeof(address.bytes); i-- > 0; number >>= 8)
        address.bytes[i] = (unsigned char)(number & 0xff);
    return address;
}

void space_init(struct space *set)
{
    *set = (struct space){0};
}

void space_release(struct space *set)
{
    mem_free(&set->ranges);
    space_init(set);
}

static void append(struct space *set, __uint128_t first, __uint128_t last)
{
    if (set->count == set->capacity) {
        set->capacity = set->capacity ? set->capacity * 2 : 8;
        set->ranges = mem_resize_array(set->ranges, set->capacity, sizeof(set->ranges[0]));
    }
    set->ranges[set->count++] = (struct space_range){first, last};
}

void space_add(struct space *set, const struct cidr_range *range)
{
    __uint128_t first = to_number(&range->first);
    __uint128_t last = to_number(&range->last);

    assert(first <= last);
    if (first < MAPPED_FIRST && last > MAPPED_LAST) {
        append(set, first, MAPPED_FIRST - 1);
        append(set, MAPPED_LAST + 1, last);
    } else {
        append(set, first, last);
    }
}

static int compare_ranges(const void *left, const void *right)
{
    const struct space_range *a = left;
    const struct space_range *b = right;

    return (a->first > b->first) - (a->first < b->first);
}

/* Sorts, and joins what overlaps or touches. */
void space_finish(struct space *set)
{
    size_t kept = 0;

    if (set->count > 1)
        qsort(set->ranges, set->count, sizeof(set->ranges[0]), compare_ranges);
    for (size_t i = 0; i < set->count; i++) {
        struct space_range *last = kept > 0 ? &set->ranges[kept - 1] : NULL;

        if (!last || (last->last != SPACE_LAST && set->ranges[i].first > last->last + 1))
            set->ranges[kept++] = set->ranges[i];
        else if (set->ranges[i].last > last->last)
            last->last = set->ranges[i].last;
    }
    set->count = kept;
}

void space_all(struct space *out)
{
    space_init(out);
    append(out, 0, SPACE_LAST);
}

void space_complement(const struct space *a, struct space *out)
{
    __uint128_t at = 0;

    space_init(out);
    for (size_t i = 0; i < a->count; i++) {
        if (a->ranges[i].first > at)
            append(out, at, a->ranges[i].first - 1);
        if (a->ranges[i].last == SPACE_LAST)
            return;
        at = a->ranges[i].last + 1;
    }
    append(out, at, SPACE_LAST);
}

void space_intersection(const struct space *a, const struct space *b, struct space *out)
{
    size_t i = 0;
    size_t j = 0;

    space_init(out);
    while (i < a->count && j < b->count) {
        __uint128_t first = a->ranges[i].first > b->ranges[j].first ? a->ranges[i].first : b->ranges[j].first;
        bool a_ends_first = a->ranges[i].last < b->ranges[j].last;
        __uint128_t last = a_ends_first ? a->ranges[i].last : b->ranges[j].last;

        if (first <= last)
            append(out, first, last);
        if (a_ends_first)
            i++;
        else
            j++;
    }
}

void space_difference(const struct space *a, const struct space *b, struct space *out)
{
    struct space rest;

    space_complement(b, &rest);
    space_intersection(a, &rest, out);
    space_release(&rest);
}

bool space_contains(const struct space *set, const struct cidr_address *address)
{
    __uint128_t number = to_number(address);
    size_t low = 0;
    size_t high = set->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (number < set->ranges[middle].first)
            high = middle;
        else if (number > set->ranges[middle].last)
            low = middle + 1;
        else
            return true;
    }
    return false;
}

/* ---- counting ---- */

/* How many addresses of both families; all of both wraps to 0, which no caller reaches: IPv4 is taken out before. */
static __uint128_t size_of(const struct space *set)
{
    __uint128_t size = 0;

    for (size_t i = 0; i < set->count; i++)
        size += set->ranges[i].last - set->ranges[i].first + 1;
    return size;
}

static void count_families(const struct space *set, __uint128_t *ipv4, __uint128_t *ipv6)
{
    static struct space_range mapped_range = {MAPPED_FIRST, MAPPED_LAST};
    const struct space mapped = {&mapped_range, 1, 1};
    struct space part;

    space_intersection(set, &mapped, &part);
    *ipv4 = size_of(&part);
    space_release(&part);
    space_difference(set, &mapped, &part);
    *ipv6 = size_of(&part);
    space_release(&part);
}

void space_count(const struct space *set, struct space_counts *counts)
{
    struct space reachable;
    struct space part;

    count_families(set, &counts->ipv4, &counts->ipv6);
    space_public(&reachable);
    space_intersection(set, &reachable, &part);
    count_families(&part, &counts->ipv4_public, &counts->ipv6_public);
    space_release(&part);
    space_release(&reachable);
}

size_t space_format_number(__uint128_t number, char separator, char text[SPACE_NUMBER_BYTES])
{
    char reversed[SPACE_NUMBER_BYTES];
    size_t length = 0;
    size_t digits = 0;

    do {
        if (separator && digits > 0 && digits % 3 == 0)
            reversed[length++] = separator;
        reversed[length++] = (char)('0' + (int)(number % 10));
        digits++;
        number /= 10;
    } while (number > 0);
    for (size_t i = 0; i < length; i++)
        text[i] = reversed[length - 1 - i];
    text[length] = '\0';
    return length;
}

/* ---- networks ---- */

struct network_list {
    struct space_network *items;
    size_t count;
    size_t capacity;
};

static void add_network(struct network_list *list, __uint128_t first, unsigned host_bits, unsigned all_bits)
{
    __uint128_t mask = host_bits < 128 ? ((__uint128_t)1 << host_bits) - 1 : SPACE_LAST;
    __uint128_t size = mask + 1; /* all of IPv6 wraps to 0, from which the mapped block is taken */

    if (all_bits == 128 && first >= MAPPED_FIRST && first <= MAPPED_LAST)
        return; /* only there to fill the gap */
    if (all_bits == 128 && first < MAPPED_FIRST && first + mask >= MAPPED_LAST)
        size -= MAPPED_LAST - MAPPED_FIRST + 1;
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? list->capacity * 2 : 8;
        list->items = mem_resize_array(list->items, list->capacity, sizeof(list->items[0]));
    }
    list->items[list->count++] = (struct space_network){
        .address = space_address(first),
        .bits = all_bits - host_bits,
        .size = size,
    };
}

/* The largest aligned block at the start of what is left, again and again: no fewer can do. */
static void split_range(struct network_list *list, __uint128_t first, __uint128_t last, unsigned all_bits)
{
    for (;;) {
        unsigned host_bits = 0;
        __uint128_t mask = 0; /* of the block's host bits */

        while (host_bits < all_bits) {
            __uint128_t wider = mask << 1 | 1;

            if ((first & wider) != 0 || last - first < wider)
                break;
            mask = wider;
            host_bits++;
        }
        add_network(list, first, host_bits, all_bits);
        if (last - first == mask)
            return;
        first += mask + 1;
    }
}

static void split_space(struct network_list *list, const struct space *set, unsigned all_bits)
{
    for (size_t i = 0; i < set->count; i++)
        split_range(list, set->ranges[i].first, set->ranges[i].last, all_bits);
}

/* The IPv6 part, with the mapped block filled in where both its neighbours belong to the set. */
static void ipv6_part(const struct space *set, const struct space *mapped, struct space *out)
{
    struct cidr_address before = space_address(MAPPED_FIRST - 1);
    struct cidr_address after = space_address(MAPPED_LAST + 1);

    space_difference(set, mapped, out);
    if (space_contains(out, &before) && space_contains(out, &after)) {
        append(out, MAPPED_FIRST, MAPPED_LAST);
        space_finish(out);
    }
}

size_t space_networks(const struct space *set, struct space_network **networks)
{
    static struct space_range mapped_range = {MAPPED_FIRST, MAPPED_LAST};
    const struct space mapped = {&mapped_range, 1, 1};
    struct network_list list = {0};
    struct space part;

    space_intersection(set, &mapped, &part);
    split_space(&list, &part, 32);
    space_release(&part);
    ipv6_part(set, &mapped, &part);
    split_space(&list, &part, 128);
    space_release(&part);
    *networks = list.items;
    return list.count;
}

size_t space_format_network(const struct space_network *network, char text[CIDR_TEXT_BYTES])
{
    size_t length = cidr_format_address(&network->address, text);

    if (network->bits < (cidr_is_ipv4(&network->address) ? 32u : 128u))
        length += (size_t)snprintf(text + length, CIDR_TEXT_BYTES - length, "/%u", network->bits);
    return length;
}
