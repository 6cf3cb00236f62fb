/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ldap_link: one connection to one server, over TLS and bound as it must be, and the two things that are asked on it. A link is used by one
 * thread at a time; each function returns by its deadline. After a failure of any kind it is closed, never used again: libldap would connect
 * anew by itself, without StartTLS.
 *
 * A link for binds is never searched on: it is whoever bound on it last.
 */
#ifndef POSTERN_DIRECTORY_LDAP_LINK_H
#define POSTERN_DIRECTORY_LDAP_LINK_H

#include "config/config.h"
#include "directory/ldap_entry.h"
#include "directory/ldap_place.h"
#include "directory/ldap_result.h"

/* Of what one answer may send; 4096 groups' names are far below it. */
#define LDAP_ANSWER_BYTES_MAX (8u << 20)
/* Of a search: one more than may be, so that two are noticed. */
#define LDAP_ENTRIES_MAX 2
/* Continuation references of one search (Active Directory sends three with each). */
#define LDAP_REFERENCES_MAX 100

enum ldap_use { LDAP_USE_SEARCH, LDAP_USE_BIND, LDAP_USE_COUNT };

struct ldap_link;

struct ldap_query {
    const char *base, *filter;
    char **attributes; /* NULL ends them */
};

/* What a search found. */
struct ldap_found {
    struct arena arena;      /* of all below; the caller's to release, whatever came of it */
    struct ldap_entry entry; /* the first */
    size_t entry_count;      /* LDAP_ENTRIES_MAX: that many or more */
    size_t reference_count;
};

/* What came of a user's bind. */
struct ldap_bound {
    const char *reason; /* why an account may not sign in, or NULL; static */
};

/* Once, before any thread uses libldap. */
void ldap_link_prepare(void);
/* NULL and an error: could not connect, TLS failed, or the service account may not bind. The place and configuration outlive it. */
struct ldap_link *ldap_link_open(const struct ldap_place *place, const struct config_ldap *config, enum ldap_use use,
                                 uint64_t deadline_ms, struct error *error);
void ldap_link_close(struct ldap_link **link);

/* Since when nobody uses it. */
uint64_t ldap_link_idle_since_ms(const struct ldap_link *link);
void ldap_link_rest(struct ldap_link *link);
/* Whether nothing came from the server meanwhile: what an idle connection brings is its end. */
bool ldap_link_is_quiet(const struct ldap_link *link);

/* The base and below. The error is set unless YES. */
enum ldap_verdict ldap_link_search(struct ldap_link *link, const struct ldap_query *query, uint64_t deadline_ms,
                                   struct ldap_found *found, struct error *error);
/* Whether `dn` may bind with the password; neither is empty. The error is set unless YES or NO. */
enum ldap_verdict ldap_link_bind(struct ldap_link *link, struct str dn, struct str password, uint64_t deadline_ms,
                                 struct ldap_bound *bound, struct error *error);

#endif
