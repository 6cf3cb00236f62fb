/* SPDX-License-Identifier: Apache-2.0 */
#include "delivery/mx.h"

#include <assert.h>
#include <stdlib.h>

struct ranked {
    const struct dns_mx *record;
    uint64_t chance;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *left = a, *right = b;

    if (left->record->preference != right->record->preference)
        return left->record->preference < right->record->preference ? -1 : 1;
    return left->chance < right->chance ? -1 : left->chance > right->chance;
}

/* The best preference at which the name stands; above all if it doesn't. */
static unsigned preference_of(const struct dns_mx *records, size_t count, struct str name)
{
    unsigned best = UINT16_MAX + 1u;

    for (size_t i = 0; i < count; i++)
        if (records[i].preference < best && str_equal(str_from_cstr(records[i].host), name))
            best = records[i].preference;
    return best;
}

static bool has_host(const struct mx_list *list, const char *host)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->hosts[i]->host, host) == 0)
            return true;
    return false;
}

void mx_order(const struct dns_mx *records, size_t count, struct str own_name, uint64_t (*random_below)(uint64_t limit),
              struct mx_list *list)
{
    struct ranked ranked[DNS_RECORDS_MAX];
    unsigned own = preference_of(records, count, own_name);
    size_t ranked_count = 0, named = 0;

    assert(count <= DNS_RECORDS_MAX);
    *list = (struct mx_list){0};
    for (size_t i = 0; i < count; i++) {
        /* Beside others the root means nothing (RFC 7505 3). */
        if (records[i].host[0] == '\0')
            continue;
        named++;
        if (records[i].preference < own)
            ranked[ranked_count++] = (struct ranked){&records[i], random_below(UINT64_MAX)};
    }
    list->is_null = count > 0 && named == 0;
    list->is_ours = named > 0 && ranked_count == 0;
    qsort(ranked, ranked_count, sizeof(ranked[0]), compare_ranked);
    for (size_t i = 0; i < ranked_count && list->count < MX_HOSTS_MAX; i++)
        if (!has_host(list, ranked[i].record->host))
            list->hosts[list->count++] = ranked[i].record;
}

size_t mx_group_end(const struct mx_list *list, size_t first)
{
    size_t end = first;

    while (end < list->count && list->hosts[end]->preference == list->hosts[first]->preference)
        end++;
    return end;
}

/* ---- addresses ---- */

struct network {
    unsigned char first[16];
    unsigned bits;
    enum mx_place place;
};

#define IPV4(a, b)                                                                                                     \
    {                                                                                                                  \
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b                                                                 \
    }

/* RFC 6890. Private networks are not among them: within an organisation the DNS rightly leads there. */
static const struct network networks[] = {
    {IPV4(0, 0), 96 + 8, MX_PLACE_LOOPBACK},
    {IPV4(127, 0), 96 + 8, MX_PLACE_LOOPBACK},
    {IPV4(169, 254), 96 + 16, MX_PLACE_UNUSABLE},
    {IPV4(224, 0), 96 + 4, MX_PLACE_UNUSABLE},
    {IPV4(240, 0), 96 + 4, MX_PLACE_UNUSABLE},
    {{[15] = 0}, 128, MX_PLACE_LOOPBACK},
    {{[15] = 1}, 128, MX_PLACE_LOOPBACK},
    {{0xfe, 0x80}, 10, MX_PLACE_UNUSABLE},
    {{0xff}, 8, MX_PLACE_UNUSABLE},
};

static bool is_within(const struct network *network, const struct net_address *address)
{
    unsigned whole = network->bits / 8, rest = network->bits % 8;

    if (memcmp(network->first, address->ip, whole) != 0)
        return false;
    return rest == 0 || (network->first[whole] ^ address->ip[whole]) >> (8 - rest) == 0;
}

static bool is_named(const struct config_connector *connector, const struct cidr_address *address)
{
    for (size_t i = 0; i < connector->mx_network_count; i++)
        if (cidr_compare(&connector->mx_networks[i].first, address) <= 0 &&
            cidr_compare(address, &connector->mx_networks[i].last) <= 0)
            return true;
    return false;
}

enum mx_place mx_judge_address(const struct config *config, const struct config_connector *connector,
                               const struct net_address *address)
{
    struct cidr_address bytes;

    memcpy(bytes.bytes, address->ip, sizeof(bytes.bytes));
    if (policy_is_own_address(config->policy, &bytes))
        return MX_PLACE_OURS;
    if (is_named(connector, &bytes))
        return MX_PLACE_GOOD;
    for (size_t i = 0; i < sizeof(networks) / sizeof(networks[0]); i++)
        if (is_within(&networks[i], address))
            return networks[i].place;
    return MX_PLACE_GOOD;
}
