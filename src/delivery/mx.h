/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery/mx: what the MX records of a domain mean for us (RFC 5321 5.1, RFC 7505), and which addresses they may lead to. Pure, any thread.
 */
#ifndef POSTERN_DELIVERY_MX_H
#define POSTERN_DELIVERY_MX_H

#include "config/config.h"
#include "net/dns_mail.h"

/* The best so many of a domain's hosts are tried. */
#define MX_HOSTS_MAX 20

struct mx_list {
    const struct dns_mx *hosts[MX_HOSTS_MAX]; /* the records', best first, equals in random order, none twice */
    size_t count;
    bool is_null; /* the domain takes no mail (RFC 7505) */
    bool is_ours; /* nobody is better than we are: mail loops back to us */
};

/* Orders the records, and cuts the list where we stand in it ourselves (`own_name`, in lower case): what is not better than we are would send the mail back
 * to us. `random_below` is random_below of os/random.h, but for tests. */
void mx_order(const struct dns_mx *records, size_t count, struct str own_name, uint64_t (*random_below)(uint64_t limit),
              struct mx_list *list);
/* Where the hosts of the same preference as the first end. */
size_t mx_group_end(const struct mx_list *list, size_t first);

enum mx_place {
    MX_PLACE_GOOD,
    MX_PLACE_OURS,     /* an address of this machine */
    MX_PLACE_LOOPBACK, /* or unspecified: whoever says so means this machine */
    MX_PLACE_UNUSABLE, /* link-local, multicast or reserved: not where mail for strangers goes */
};

/* An address that came out of the DNS, or from a recipient's address literal: whoever wrote it chooses whom we connect to. What the connector names in
 * mx-networks is good, unless it is ours. */
enum mx_place mx_judge_address(const struct config *config, const struct config_connector *connector,
                               const struct net_address *address);

#endif
