/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_mail: the records that mail is routed by: MX, A, AAAA and TLSA, with what the DNS's signatures say of them. Asked through the resolver
 * of dns.h, on its thread; CNAMEs are followed by libunbound, at most as many as it allows (then the answer is DNS_RECORDS_FAILED).
 *
 * Bounded: DNS_RECORDS_MAX records of an answer are looked at, DNS_RECORD_QUERIES_MAX questions are under way at a time and the next ones wait
 * for their turn, each within its own timeout.
 *
 *     lookup = dns_records_start(dns, &question, timeout_ms);      as many as one likes, side by side
 *     records = dns_records_wait(lookup);
 *     dns_records_release(&lookup);
 */
#ifndef POSTERN_NET_DNS_MAIL_H
#define POSTERN_NET_DNS_MAIL_H

#include "net/dns.h"

struct dns_records_lookup;

#define DNS_RECORDS_MAX 100
/* Half of what dns.h lets be asked at a time: deliveries don't keep clients waiting for their names. */
#define DNS_RECORD_QUERIES_MAX (DNS_QUERIES_MAX / 2)
/* Of one TLSA record: a certificate at most. */
#define DNS_TLSA_BYTES_MAX 4096

enum dns_record_type {
    DNS_RECORD_A = 1,
    DNS_RECORD_CNAME = 5,
    DNS_RECORD_MX = 15,
    DNS_RECORD_AAAA = 28,
    DNS_RECORD_TLSA = 52,
};

enum dns_records_state {
    DNS_RECORDS_FOUND,
    DNS_RECORDS_NONE,    /* the name exists, without such records */
    DNS_RECORDS_NO_NAME, /* the name does not exist */
    DNS_RECORDS_FAILED,  /* no answer that could be trusted; `error` says why */
};

struct dns_mx {
    uint16_t preference;
    char host[DNS_NAME_BYTES]; /* lower case; empty: the root, "." (RFC 7505) */
};

struct dns_tlsa {
    uint8_t usage, selector, matching_type;
    struct str data;
};

/* All fields are valid in each state, the records only when FOUND. */
struct dns_records {
    enum dns_records_state state;
    bool is_secure;                 /* validated, CNAMEs and the proof that there is nothing included */
    bool is_bogus;                  /* FAILED, because signatures are wrong or missing */
    char canonical[DNS_NAME_BYTES]; /* lower case: the name that CNAMEs lead to, or the one asked for */
    char error[256];                /* words for a log or a report */
    size_t count;                   /* may be 0 when FOUND: of records none of which makes sense */
    const struct dns_mx *mx;
    const struct net_address *addresses; /* of A and AAAA, port 0 */
    const struct dns_tlsa *tlsa;
};

struct dns_question {
    const char *name; /* without the root's dot; copied */
    enum dns_record_type type;
    bool
        asks_hosts; /* /etc/hosts, as of when the resolver was made, goes before the DNS: a name that stands there has its addresses and nothing else */
};

/* Loop thread: begins, without waiting. Never NULL. */
struct dns_records_lookup *dns_records_start(struct dns *dns, const struct dns_question *question, uint64_t timeout_ms);
/* In a fiber of the same loop: waits for at most the timeout. Never NULL; FAILED also when the fiber is cancelled. Valid until the release. */
const struct dns_records *dns_records_wait(struct dns_records_lookup *lookup);
/* On the same loop, also while it is under way. Sets the pointer to NULL, which it may be. */
void dns_records_release(struct dns_records_lookup **lookup);

#endif
