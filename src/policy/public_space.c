/* SPDX-License-Identifier: Apache-2.0 */
/* Which addresses can be reached from the whole Internet, and so can be anybody's (interfaces.md section 4.1). */
#include "policy/space.h"

#include <assert.h>

/* RFC 6890, with multicast and the reserved end. */
static const char *const special_ipv4[] = {
    "0.0.0.0/8",       "10.0.0.0/8",     "100.64.0.0/10", "127.0.0.0/8",    "169.254.0.0/16",
    "172.16.0.0/12",   "192.0.0.0/24",   "192.0.2.0/24",  "192.168.0.0/16", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",   "240.0.0.0/4",
};

static void add_text(struct space *set, const char *network)
{
    struct cidr_range range;
    bool good = cidr_parse_network(str_from_cstr(network), &range, NULL) == 0;

    assert(good);
    (void)good;
    space_add(set, &range);
}

static void subtract(struct space *set, const struct space *other)
{
    struct space rest;

    space_difference(set, other, &rest);
    space_release(set);
    *set = rest;
}

void space_public(struct space *out)
{
    struct space special;

    space_init(out);
    add_text(out, "0.0.0.0/0");
    add_text(out, "2000::/3");
    space_finish(out);
    space_init(&special);
    for (size_t i = 0; i < sizeof(special_ipv4) / sizeof(special_ipv4[0]); i++)
        add_text(&special, special_ipv4[i]);
    add_text(&special, "2001:db8::/32"); /* documentation */
    space_finish(&special);
    subtract(out, &special);
    space_release(&special);
}

bool space_find_bridge(const struct space *set, struct cidr_address *address)
{
    struct space bridges;
    struct space part;
    bool found = false;

    space_init(&bridges);
    add_text(&bridges, "172.16.0.0/12");
    space_finish(&bridges);
    space_intersection(set, &bridges, &part);
    for (size_t i = 0; !found && i < part.count; i++) {
        __uint128_t candidate = part.ranges[i].first;

        while (candidate % 256 != 1)
            candidate++;
        found = candidate <= part.ranges[i].last;
        *address = space_address(candidate);
    }
    space_release(&part);
    space_release(&bridges);
    return found;
}
