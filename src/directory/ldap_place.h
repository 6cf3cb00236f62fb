/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ldap_place: where a server is: a URL of the configuration, and a connected socket to it. Worker threads. Not libldap's own connecting, because
 * that holds one lock for the whole process while it looks a name up, and gives each of a name's addresses the whole time.
 */
#ifndef POSTERN_DIRECTORY_LDAP_PLACE_H
#define POSTERN_DIRECTORY_LDAP_PLACE_H

#include "base/error.h"
#include "base/str.h"

struct ldap_place {
    char *url; /* scheme://host:port, for libldap and the log; it has no secret */
    char *host;
    char port[8];
    char *path; /* of a socket (ldapi:), or NULL */
    bool is_tls;
    bool is_start_tls;
};

/* ldap://, ldaps:// or ldapi://, with a host or a path and nothing behind it. 0; -1 and an error. */
int ldap_place_parse(struct ldap_place *place, struct str url, bool start_tls, struct error *error);
void ldap_place_release(struct ldap_place *place);

/* A socket that does not block; the caller's. -1 and an error, at the deadline at the latest - but for the system's look-up of the name,
 * which keeps its own times (resolv.conf(5)); an address needs none. */
int ldap_place_connect(const struct ldap_place *place, uint64_t deadline_ms, struct error *error);

/* What is left until the deadline, 0 at it. */
uint64_t ldap_time_left_ms(uint64_t deadline_ms);

#endif
