/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ldap_servers: the servers of the configuration, in their order, which of them answer (ldap_health.h), and connections to them that rest
 * between questions. A question goes to the first server that is up, and on to the next if that one does not answer. Each has the configured
 * time for it, and all together have the question's. A server that stops answering, and that is back, is logged once each. Worker threads,
 * several at once.
 */
#ifndef POSTERN_DIRECTORY_LDAP_SERVERS_H
#define POSTERN_DIRECTORY_LDAP_SERVERS_H

#include "directory/ldap_link.h"

/* A connection that rested longer is not trusted: firewalls forget them silently. */
#define LDAP_REST_MS_MAX 60000

struct ldap_servers;

/* What is done on a link: the verdict, and an error unless it is YES or NO. */
struct ldap_operation {
    enum ldap_use use;
    enum ldap_verdict (*run)(struct ldap_link *link, void *context, uint64_t deadline_ms, struct error *error);
    void *context;
};

/* `config` outlives it. `thread_count`: that many connections of each use may rest for one server. NULL and an error: a URL is wrong. */
struct ldap_servers *ldap_servers_create(const struct config_ldap *config, size_t thread_count, struct error *error);
void ldap_servers_destroy(struct ldap_servers **servers);

/* Runs the operation, on several servers or again on a new connection if need be: it must be one that may be repeated. The error is set with
 * UNAVAILABLE. */
enum directory_status ldap_servers_ask(struct ldap_servers *servers, const struct ldap_operation *operation,
                                       uint64_t deadline_ms, struct error *error);

#endif
