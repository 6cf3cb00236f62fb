/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of dns share. dns.c: the life of the whole, and lookups as loops see them. dns_verify.c: jobs, each of which finds one
 * address's name. dns_mail.c: records for routing. dns_resolver.c: libunbound. dns_name.c and dns_rdata.c: names, addresses and records in
 * the DNS's forms, pure. dns_hosts.c: /etc/hosts.
 *
 * Whatever is below `struct dns` belongs to the module's own thread, once it runs.
 */
#ifndef POSTERN_NET_DNS_PRIVATE_H
#define POSTERN_NET_DNS_PRIVATE_H

#include "base/hash.h"
#include "base/list.h"
#include "loop/fiber.h"
#include "loop/loop.h"
#include "net/dns_mail.h"

#include <stdatomic.h>

struct dns {
    struct loop *loop;
    atomic_bool is_used; /* the thread runs, and has or is about to get a resolver */
    bool is_stopping;
    struct loop_task stop_task;
    struct dns_resolver *resolver;
    struct list_link retired;   /* resolvers with jobs of before the last dns_use */
    struct hash_table jobs;     /* by the client's address: those that a new lookup may join */
    struct list_link job_links; /* all */
    unsigned query_count;
    struct list_link records_asked;   /* lookups of dns_mail.c under way ... */
    struct list_link records_waiting; /* ... and those that wait for their turn */
    unsigned records_query_count;     /* those whose time was over included, until libunbound is through with them */
};

struct dns_lookup {
    struct loop_task task;                       /* on its way to the thread, later on its way back */
    struct list_link link;                       /* the job's */
    void (*answered)(struct dns_lookup *lookup); /* on the thread: `name` is set */
    struct dns *dns;
    struct net_address client;
    uint64_t timeout_ms;
    struct dns_name name;

    /* its own loop's */
    struct loop *loop;
    struct fiber *waiter;
    uint64_t deadline_ms;
    unsigned references; /* whoever started it, and the thread until the answer is back */
    bool is_done;
};

/* ---- dns_verify.c ---- */

/* Joins or begins a job. It is answered later, or at once. */
void dns_job_take(struct dns *dns, struct dns_lookup *lookup);
/* Answers all lookups. */
void dns_jobs_end(struct dns *dns);

/* ---- dns_mail.c ---- */

/* Answers all lookups of records. */
void dns_records_end(struct dns *dns);

/* ---- dns_resolver.c ---- */

#define DNS_TYPE_A    1
#define DNS_TYPE_PTR  12
#define DNS_TYPE_AAAA 28

enum dns_answer_state {
    DNS_ANSWER_DATA,
    DNS_ANSWER_EMPTY, /* no such name, or nothing of that type */
    DNS_ANSWER_FAILED,
};

/* Valid during the call. */
struct dns_answer {
    enum dns_answer_state state;
    char *const *data; /* of DATA: RDATA, the last one NULL */
    const int *lengths;
    bool is_no_name; /* EMPTY: not even the name exists */
    bool is_secure;
    const char *bogus_reason; /* FAILED: what is wrong with the signatures; else NULL */
    const char *canonical;    /* in the DNS's text, with the root's dot; or NULL */
    int code;                 /* FAILED: the response code; negative: libunbound's own error */
};

struct dns_query {
    struct list_link link;
    struct dns_resolver *resolver; /* the module's */
    /* NULL answer: there will be none, the resolver is being destroyed. Either way the query is over, and its memory the callee's. */
    void (*answered)(struct dns_query *query, const struct dns_answer *answer);
};

/* On the thread: begins to watch for answers. */
void dns_resolver_open(struct dns_resolver *resolver, struct dns *dns);
/* false: not asked, too many are under way. */
bool dns_resolver_ask(struct dns_resolver *resolver, const char *name, int type, struct dns_query *query);
/* A job holds its resolver. A retired one is closed when nobody holds it any more. */
void dns_resolver_hold(struct dns_resolver *resolver);
void dns_resolver_drop(struct dns_resolver *resolver);
void dns_resolver_retire(struct dns_resolver *resolver);
/* Any thread; as long as the resolver. */
const struct dns_hosts *dns_resolver_hosts(const struct dns_resolver *resolver);
/* Frees it; what is under way gets no answer. */
void dns_resolver_close(struct dns_resolver *resolver);
/* Those that libunbound still has questions of, whose time is over. */
void dns_resolvers_close_retired(struct dns *dns);

/* ---- dns_name.c ---- */

/* Under which the PTR of an address stands. */
#define DNS_REVERSE_BYTES 80
void dns_reverse_name(const struct net_address *client, char name[DNS_REVERSE_BYTES]);
/* The name in a PTR's RDATA as text. false if it is none of a host: other bytes than letters, digits, "-" and "_", or the root. */
bool dns_parse_name(struct str rdata, char name[DNS_NAME_BYTES]);
/* Whether the RDATA of an A (IPv4) or AAAA record is this address. */
bool dns_is_address(struct str rdata, const struct net_address *client);
/* ADDRESS[@PORT], 53 if none is given. */
bool dns_parse_resolver(struct str text, struct net_address *resolver);

/* ---- dns_rdata.c ---- */

/* RDATA of one record: false if it makes no sense; a name in it must be a host's, or the root where RFC 7505 has it. */
bool dns_parse_mx(struct str rdata, struct dns_mx *mx);
bool dns_parse_address(struct str rdata, enum dns_record_type type, struct net_address *address);
/* `data` is a view of the RDATA. */
bool dns_parse_tlsa(struct str rdata, struct dns_tlsa *tlsa);
/* A name as libunbound writes it, or the one that was asked for: lower case, no dot at the end; false if it is none of a host. */
bool dns_parse_text_name(const char *text, char name[DNS_NAME_BYTES]);

/* ---- dns_hosts.c ---- */

struct dns_hosts;

/* More of the file, and more addresses of a name, don't exist for us. */
#define DNS_HOSTS_BYTES_MAX     (1u << 20)
#define DNS_HOSTS_ADDRESSES_MAX 16

/* hosts(5); what makes no sense is passed over. */
struct dns_hosts *dns_hosts_parse(struct str text);
/* A file that is missing or can't be read has no names. Blocks. */
struct dns_hosts *dns_hosts_read(const char *path);
void dns_hosts_destroy(struct dns_hosts **hosts);
/* How many addresses a name has there; 0: it does not stand there. `name` in lower case. */
size_t dns_hosts_find(const struct dns_hosts *hosts, const char *name, const struct net_address **addresses);

#endif
