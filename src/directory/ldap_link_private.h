/* SPDX-License-Identifier: Apache-2.0 */
/* ldap_link_private: what a link is made of, for the files that open it and that ask on it. */
#ifndef POSTERN_DIRECTORY_LDAP_LINK_PRIVATE_H
#define POSTERN_DIRECTORY_LDAP_LINK_PRIVATE_H

#include "directory/ldap_link.h"
#include "directory/ldap_stream.h"

#include <ldap.h>
#include <sys/time.h>

struct ldap_link {
    const struct ldap_place *place;
    const struct config_ldap *config;
    LDAP *handle;
    struct ldap_stream stream; /* under the handle */
    uint64_t idle_since_ms;
};

struct timeval ldap_timeval(uint64_t ms);
/* The next message that answers a request: LDAP_SUCCESS, or LDAP_TIMEOUT, LDAP_SERVER_DOWN and the like. The caller frees it. */
int ldap_link_wait(struct ldap_link *link, int id, uint64_t deadline_ms, LDAPMessage **message);
/* "WHAT: the code's words (the diagnostic message)". -1. */
int ldap_link_fail(LDAP *handle, int code, const char *what, struct error *error);

#endif
