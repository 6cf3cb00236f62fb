/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns: the verified host name of a client (relay-behaviour.md section 2): the PTR name of its address whose own A or AAAA records
 * include that address. Asked through libunbound, which caches, and validates DNSSEC where it has a trust anchor.
 *
 * A resolver belongs to one thread of this module's own, which starts with the first resolver that is put to use: without one,
 * nothing is ever asked. Questions about the same address that come while it is being asked share one answer. Whatever the
 * DNS says is bounded: names, addresses, time and the number of questions under way.
 *
 * Calling sequence: dns_create; dns_resolver_create and dns_use, again at each reload; lookups from any loop; dns_destroy while the
 * loops still run.
 *
 *     lookup = dns_lookup_start(dns, &client, timeout_ms);        the session goes on
 *     name = dns_lookup_wait(lookup, DEADLINE_NEVER);             once a decision needs it: its own timeout bounds the wait
 *     dns_lookup_release(&lookup);
 */
#ifndef POSTERN_NET_DNS_H
#define POSTERN_NET_DNS_H

#include "base/error.h"
#include "net/address.h"

struct dns;
struct dns_resolver;
struct dns_lookup;

/* PTR names of a client that are looked at; the others do not exist for us. */
#define DNS_NAMES_MAX 10
/* A name in text, without the root's dot, NUL included. */
#define DNS_NAME_BYTES 254
/* Questions under way at a time; beyond them the answer is DNS_NAME_TEMPFAIL at once. */
#define DNS_QUERIES_MAX 2048

enum dns_name_state {
    DNS_NAME_NONE, /* no PTR */
    DNS_NAME_VERIFIED,
    DNS_NAME_UNVERIFIED, /* a PTR, whose name does not have the address */
    DNS_NAME_TEMPFAIL,   /* no answer in time, a failing server, or one whose signature is wrong */
};

struct dns_name {
    enum dns_name_state state;
    char text[DNS_NAME_BYTES]; /* VERIFIED: letters, digits, "-", "_" and "." as the DNS has them; else empty */
};

/* Where the trust anchor of the root stands on Debian (package dns-root-data). */
#define DNS_TRUST_ANCHOR_PATH "/usr/share/dns/root.key"

enum dns_validation {
    DNS_VALIDATION_AUTO, /* of what the system's resolvers say, where the trust anchor is there: a resolver that is named is trusted */
    DNS_VALIDATION_ON, /* a missing trust anchor is an error */
    DNS_VALIDATION_OFF,
};

struct dns_settings {
    struct str resolver; /* ADDRESS or ADDRESS@PORT; empty: those of /etc/resolv.conf */
    enum dns_validation validation;
    const char *trust_anchor; /* NULL: DNS_TRUST_ANCHOR_PATH */
    const char *hosts;        /* NULL: /etc/hosts; read with the resolver's creation (dns_mail.h) */
};

/* Any thread, but not in a fiber: libunbound takes more stack than one has. Blocks only for small local files. NULL and an error. */
struct dns_resolver *dns_resolver_create(const struct dns_settings *settings, struct error *error);
/* Only of one that was not put to use. */
void dns_resolver_destroy(struct dns_resolver **resolver);
bool dns_resolver_validates(const struct dns_resolver *resolver);

/* Main thread. */
struct dns *dns_create(void);
/* Takes over the resolver for all lookups from now on; those under way end with the one that they began with. 0 or -1: the thread did not
 * start, and the resolver is destroyed. */
int dns_use(struct dns *dns, struct dns_resolver **resolver, struct error *error);
/* Lookups that wait get DNS_NAME_TEMPFAIL. */
void dns_destroy(struct dns **dns);

/* Loop thread: begins, without waiting. Never NULL. */
struct dns_lookup *dns_lookup_start(struct dns *dns, const struct net_address *client, uint64_t timeout_ms);
/* In a fiber of the same loop, one at a time: what is known by the deadline or by the lookup's own timeout, whichever comes first. NULL if nothing is, or when
 * the fiber is cancelled. Valid until the release. */
const struct dns_name *dns_lookup_wait(struct dns_lookup *lookup, uint64_t deadline_ms);
/* The same without waiting. */
const struct dns_name *dns_lookup_result(const struct dns_lookup *lookup);
/* On the same loop, also while it is under way. Sets the pointer to NULL, which it may be. */
void dns_lookup_release(struct dns_lookup **lookup);

/* For programs without loops: asks, and blocks for at most so long. -1: no resolver. */
int dns_look_up_now(const struct dns_settings *settings, const struct net_address *client, uint64_t timeout_ms,
                    struct dns_name *name, struct error *error);

#endif
