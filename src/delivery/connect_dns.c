/* SPDX-License-Identifier: Apache-2.0 */
/* From a domain to its hosts, and from a host to its addresses (RFC 5321 5.1). */
#include "base/mem.h"
#include "delivery/connect_private.h"
#include "delivery/delivery_private.h"
#include "os/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 512

/* In the second round the DNS's failures are known from the first. */
static void fail_lookup(struct attempt *attempt, enum connect_failure kind, const char *status, const char *host,
                        const char *text)
{
    if (attempt->round == 0)
        connect_fail(attempt, kind, status, host, text);
}

/* What the DNS says of a recipient's domain is final; a smart host is what somebody will mend. */
static void fail_domain(struct attempt *attempt, bool is_own_word, const char *status, const char *domain,
                        const char *text)
{
    fail_lookup(attempt, is_own_word ? CONNECT_FAILURE_TEMPORARY : CONNECT_FAILURE_PERMANENT,
                is_own_word ? "4.4.4" : status, domain, text);
}

static void fail_answer(struct attempt *attempt, const char *host, const char *what, const struct dns_records *records)
{
    char text[TEXT_BYTES];

    snprintf(text, sizeof(text), "looking up its %s: %s", what, records->error);
    fail_lookup(attempt, CONNECT_FAILURE_TEMPORARY, "4.4.3", host, text);
}

static struct dns_records_lookup *start_lookup(struct attempt *attempt, const char *name, enum dns_record_type type,
                                               bool asks_hosts)
{
    const struct dns_question question = {.name = name, .type = type, .asks_hosts = asks_hosts};

    return dns_records_start(attempt->delivery->options.dns, &question, attempt->config->dns.timeout_ms);
}

/* ---- addresses ---- */

/* The lookups of one host, AAAA and A; NULL where the source address is of the other family. */
struct host_lookups {
    struct dns_records_lookup *lookups[2];
};

static void start_host(struct attempt *attempt, const struct connect_host *host, struct host_lookups *lookups)
{
    bool has_source = attempt->connector->has_source_address;
    bool is_ipv4 = net_address_is_ipv4(&attempt->source);

    *lookups = (struct host_lookups){0};
    if (!has_source || !is_ipv4)
        lookups->lookups[0] = start_lookup(attempt, host->name, DNS_RECORD_AAAA, host->is_own_word);
    if (!has_source || is_ipv4)
        lookups->lookups[1] = start_lookup(attempt, host->name, DNS_RECORD_A, host->is_own_word);
}

static void fail_place(struct attempt *attempt, const struct connect_host *host, enum mx_place place,
                       const struct net_address *address)
{
    char ip[NET_ADDRESS_TEXT_BYTES];
    char text[TEXT_BYTES];

    net_address_format_ip(address, ip);
    if (place == MX_PLACE_UNUSABLE) {
        snprintf(text, sizeof(text), "its address %s is not one that mail goes to", ip);
        fail_domain(attempt, host->is_own_word, "5.4.4", host->name, text);
        return;
    }
    snprintf(text, sizeof(text), "its address %s is this machine's: mail would loop back", ip);
    fail_domain(attempt, host->is_own_word, "5.4.6", host->name, text);
}

/* Good addresses; the others with the reason why not. */
static void take_addresses(struct attempt *attempt, struct connect_host *host, const struct dns_records *records)
{
    for (size_t i = 0, taken = 0; i < records->count && taken < CONNECT_ADDRESSES_MAX; i++) {
        struct net_address address = records->addresses[i];
        enum mx_place place = mx_judge_address(attempt->config, attempt->connector, &address);

        if (host->is_own_word && (place != MX_PLACE_OURS || !host->is_from_mx))
            place = MX_PLACE_GOOD;
        if (place == MX_PLACE_GOOD) {
            address.port = host->port;
            host->addresses[host->address_count++] = address;
            taken++;
            continue;
        }
        host->is_ours = host->is_ours || place == MX_PLACE_OURS;
        if (place != MX_PLACE_OURS)
            fail_place(attempt, host, place, &address);
    }
}

/* In random order, the families in turn: a family without a way out costs one try, not all. */
static void mix_addresses(struct connect_host *host)
{
    struct net_address mixed[2 * CONNECT_ADDRESSES_MAX];
    struct net_address *addresses = host->addresses;
    size_t count = host->address_count, taken = 0;

    for (size_t i = count; i > 1; i--) {
        size_t other = (size_t)random_below(i);
        struct net_address swapped = addresses[other];

        addresses[other] = addresses[i - 1];
        addresses[i - 1] = swapped;
    }
    for (bool wants_ipv4 = false; taken < count; wants_ipv4 = !wants_ipv4) {
        for (size_t i = 0; i < count; i++) {
            if (addresses[i].port == 0 || net_address_is_ipv4(&addresses[i]) != wants_ipv4)
                continue;
            mixed[taken++] = addresses[i];
            addresses[i].port = 0; /* taken */
            break;
        }
    }
    memcpy(addresses, mixed, count * sizeof(*addresses));
}

/* What does not answer says nothing of the signatures of what does: whoever suppresses one answer would otherwise turn DANE off. */
static void take_security(struct connect_host *host, const struct dns_records *records)
{
    if (records->state == DNS_RECORDS_FAILED)
        return;
    host->is_secure = host->is_secure && records->is_secure;
    if (records->state == DNS_RECORDS_FOUND)
        memcpy(host->canonical, records->canonical, sizeof(host->canonical));
}

static void finish_host(struct attempt *attempt, struct connect_host *host, struct host_lookups *lookups)
{
    const struct dns_records *failed = NULL;
    size_t answers = 0;

    host->is_secure = true;
    for (size_t i = 0; i < 2; i++) {
        const struct dns_records *records = lookups->lookups[i] ? dns_records_wait(lookups->lookups[i]) : NULL;

        if (!records)
            continue;
        take_security(host, records);
        if (records->state == DNS_RECORDS_FAILED)
            failed = records;
        answers += records->count;
        if (records->state == DNS_RECORDS_FOUND)
            take_addresses(attempt, host, records);
    }
    if (failed && answers == 0)
        fail_answer(attempt, host->name, "addresses", failed);
    else if (answers == 0 && attempt->connector->has_source_address)
        fail_domain(attempt, true, "4.4.4", host->name, "it has no address of the kind that source-address has");
    else if (answers == 0)
        fail_domain(attempt, host->is_own_word, "5.4.4", host->name, "it has no address");
    mix_addresses(host);
    for (size_t i = 0; i < 2; i++)
        dns_records_release(&lookups->lookups[i]);
}

/* The hosts' addresses, all asked for at once. */
static void find_addresses(struct attempt *attempt, struct connect_host *hosts, size_t count)
{
    struct host_lookups lookups[MX_HOSTS_MAX];

    for (size_t i = 0; i < count; i++)
        start_host(attempt, &hosts[i], &lookups[i]);
    for (size_t i = 0; i < count; i++)
        finish_host(attempt, &hosts[i], &lookups[i]);
}

/* The domain whose mail it is: what is known of it holds for its hosts. */
struct next_hop {
    const char *domain;
    uint16_t port;
    bool is_own_word;
    bool is_secure; /* who takes its mail is validated */
};

static void set_host(struct connect_host *host, const char *name, const struct next_hop *hop)
{
    *host =
        (struct connect_host){.port = hop->port, .is_own_word = hop->is_own_word, .is_found_securely = hop->is_secure};
    snprintf(host->name, sizeof(host->name), "%s", name);
    snprintf(host->canonical, sizeof(host->canonical), "%s", name);
    snprintf(host->next_hop, sizeof(host->next_hop), "%s", hop->domain);
}

/* The domain is its own host: no MX record led to it. */
static int connect_single(struct attempt *attempt, const struct next_hop *hop)
{
    struct connect_host *host = mem_alloc(sizeof(*host));
    int result = -1;

    set_host(host, hop->domain, hop);
    find_addresses(attempt, host, 1);
    if (host->is_ours)
        fail_domain(attempt, hop->is_own_word, "5.4.6", hop->domain, "it leads to this machine: mail would loop back");
    else
        result = connect_host(attempt, host);
    free(host);
    return result;
}

/* ---- MX ---- */

/* Hosts of one preference. 1: one of them is ours, and nothing that follows is any better. */
static int connect_group(struct attempt *attempt, const struct dns_mx *const *exchangers, size_t count,
                         const struct next_hop *hop)
{
    struct connect_host *hosts = mem_alloc_array(count, sizeof(*hosts));
    bool is_ours = false;
    int result = -1;

    for (size_t i = 0; i < count; i++) {
        set_host(&hosts[i], exchangers[i]->host, hop);
        hosts[i].is_from_mx = true;
    }
    find_addresses(attempt, hosts, count);
    for (size_t i = 0; i < count; i++)
        is_ours = is_ours || hosts[i].is_ours;
    for (size_t i = 0; !is_ours && i < count && result != 0 && !connect_is_over(attempt); i++)
        result = connect_host(attempt, &hosts[i]);
    free(hosts);
    return is_ours ? 1 : result;
}

static int connect_exchangers(struct attempt *attempt, const struct dns_records *records, const struct next_hop *hop)
{
    struct mx_list list;
    int result = -1;

    mx_order(records->mx, records->count, attempt->config->hostname, random_below, &list);
    if (list.is_null)
        fail_domain(attempt, hop->is_own_word, "5.1.10", hop->domain, "the domain takes no mail (null MX)");
    else if (list.is_ours)
        fail_domain(attempt, hop->is_own_word, "5.4.6", hop->domain,
                    "this machine is its best mail exchanger, but does not take its mail: it would loop back");
    else if (list.count == 0)
        fail_domain(attempt, hop->is_own_word, "5.4.4", hop->domain, "its MX records name no host");
    for (size_t i = 0, end; i < list.count && result < 0 && !connect_is_over(attempt); i = end) {
        end = mx_group_end(&list, i);
        result = connect_group(attempt, list.hosts + i, end - i, hop);
        if (result > 0 && i == 0)
            fail_domain(attempt, hop->is_own_word, "5.4.6", hop->domain,
                        "its best mail exchanger has an address of this machine: mail would loop back");
    }
    return result == 0 ? 0 : -1;
}

static int connect_by_mx(struct attempt *attempt, struct next_hop *hop)
{
    struct dns_records_lookup *lookup = start_lookup(attempt, hop->domain, DNS_RECORD_MX, hop->is_own_word);
    const struct dns_records *records = dns_records_wait(lookup);
    int result = -1;

    hop->is_secure = records->is_secure;
    switch (records->state) {
    case DNS_RECORDS_FOUND:
        result = connect_exchangers(attempt, records, hop);
        break;
    case DNS_RECORDS_NONE: /* the implicit MX, RFC 5321 5.1: only when the DNS says that there is none */
        result = connect_single(attempt, hop);
        break;
    case DNS_RECORDS_NO_NAME:
        fail_domain(attempt, hop->is_own_word, "5.1.2", hop->domain, "there is no such domain");
        break;
    case DNS_RECORDS_FAILED:
        fail_answer(attempt, hop->domain, "MX records", records);
        break;
    }
    dns_records_release(&lookup);
    return result;
}

/* ---- what connect.c asks for ---- */

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]". */
static bool parse_literal(struct str domain, struct net_address *address)
{
    if (domain.length < 2 || domain.data[0] != '[')
        return false;
    domain = str_make(domain.data + 1, domain.length - 2);
    return net_address_parse_ip(str_starts_with_nocase(domain, STR("IPv6:")) ? str_skip(domain, 5) : domain, address);
}

int connect_domain(struct attempt *attempt, struct str domain, uint16_t port, bool is_own_word)
{
    struct net_address address;
    char name[DNS_NAME_BYTES];

    if (parse_literal(domain, &address)) {
        address.port = port;
        return connect_literal(attempt, &address, is_own_word);
    }
    if ((size_t)snprintf(name, sizeof(name), "%.*s", STR_ARG(domain)) >= sizeof(name)) {
        name[64] = '\0'; /* cut, it would be another domain's */
        fail_domain(attempt, is_own_word, "5.1.2", name, "the name is too long");
        return -1;
    }
    return connect_by_mx(attempt, &(struct next_hop){.domain = name, .port = port, .is_own_word = is_own_word});
}

int connect_name(struct attempt *attempt, struct str host, uint16_t port)
{
    char name[DNS_NAME_BYTES];

    if ((size_t)snprintf(name, sizeof(name), "%.*s", STR_ARG(host)) >= sizeof(name)) {
        name[64] = '\0';
        fail_domain(attempt, true, "4.4.4", name, "the name is too long");
        return -1;
    }
    return connect_single(attempt,
                          &(struct next_hop){.domain = name, .port = port, .is_own_word = true, .is_secure = true});
}
