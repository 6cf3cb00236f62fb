/* SPDX-License-Identifier: Apache-2.0 */
/* What connect.c (which hosts), connect_dns.c (where they are), connect_tls.c (how to be sure of one) and connect_host.c (trying it) share. */
#ifndef POSTERN_DELIVERY_CONNECT_PRIVATE_H
#define POSTERN_DELIVERY_CONNECT_PRIVATE_H

#include "delivery/connect.h"
#include "delivery/mx.h"
#include "net/dns_mail.h"

/* One attempt to reach a destination. */
struct attempt {
    struct delivery *delivery;
    const struct runtime *runtime;
    const struct config *config;
    const struct config_connector *connector; /* whose turn it is */
    struct net_address source;                /* of the connector, if it has one */
    struct connection *connection;
    struct queue_outcome *outcome;

    unsigned round;   /* the second: what could not be reached lately */
    bool has_skipped; /* there is something for it */
    struct net_address tried[CONNECT_TRIES_MAX];
    size_t tried_count;

    unsigned temporary_count, permanent_count; /* failures */
    unsigned untold_count;                     /* of these, without room in the text */
};

/* One host: an address, or a name whose addresses are looked up. */
struct connect_host {
    char name[DNS_NAME_BYTES]; /* or an address in brackets */
    uint16_t port;
    bool is_own_word;       /* our configuration names it, or the domain whose MX record does: it may be anywhere */
    bool is_from_mx;        /* then not here, whoever says so */
    bool is_ours;           /* one of its addresses is this machine's */
    bool is_literal;        /* an address, not a name */
    bool is_found_securely; /* nobody but the domain's owner could have named it: validated MX records, or none */
    bool is_secure;         /* its addresses are validated, aliases included */
    char canonical[DNS_NAME_BYTES]; /* what its aliases lead to, or its name */
    char next_hop[DNS_NAME_BYTES];  /* the domain whose mail it takes */
    struct net_address addresses[2 * CONNECT_ADDRESSES_MAX];
    size_t address_count;
};

/* ---- connect.c ---- */

enum connect_failure {
    CONNECT_FAILURE_TEMPORARY,
    CONNECT_FAILURE_PERMANENT, /* by the DNS's word */
    CONNECT_FAILURE_REPLY,     /* temporary, and `text` is what the host said */
};

/* Adds a failure to the outcome. `host`: who or what it is about; empty: the text says it. */
void connect_fail(struct attempt *attempt, enum connect_failure kind, const char *status, const char *host,
                  const char *text);
/* No more is to be tried. */
bool connect_is_over(const struct attempt *attempt);

/* ---- connect_dns.c ---- */

/* All hosts that the DNS names for a domain; `is_own_word`: for a smart host of the configuration. 0: connected. */
int connect_domain(struct attempt *attempt, struct str domain, uint16_t port, bool is_own_word);
/* One host by name, without MX. */
int connect_name(struct attempt *attempt, struct str name, uint16_t port);

/* ---- connect_tls.c ---- */

/* How to go about TLS with one host. */
struct connect_tls {
    bool is_wanted;
    bool is_required;   /* rather none than without */
    const char *policy; /* "may", "dane" ...: for the log */
    struct tls_client_options options;
    struct dns_records_lookup *lookup; /* that the records are of */
    struct tls_dane_record *records;
    char name[DNS_NAME_BYTES];
    char session_key[DNS_NAME_BYTES + 80];
};

/* Asks for TLSA records where they count. -1: the host must not be used, and it has been told why. Release it in either case. */
int connect_tls_init(struct connect_tls *tls, struct attempt *attempt, const struct connect_host *host);
void connect_tls_release(struct connect_tls *tls);

/* ---- connect_host.c ---- */

/* An address; `is_own_word` as above. */
int connect_literal(struct attempt *attempt, const struct net_address *address, bool is_own_word);
/* Greets on a connection that the attempt has; `tls` may be NULL. What it takes over is closed if that fails. */
enum smtp_client_opened connect_open_client(struct attempt *attempt, struct conn *conn, const struct connect_tls *tls,
                                            struct smtp_client_result *result);
/* The host's addresses in turn. */
int connect_host(struct attempt *attempt, struct connect_host *host);

/* ---- lmtp.c ---- */

/* To a UNIX socket. */
int connect_socket(struct attempt *attempt, const char *path);

#endif
