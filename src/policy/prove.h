/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prove: who may relay through each server, by arithmetic over the whole address space and not by sampling (interfaces.md section
 * 4.1). What is stated of addresses holds for clients without a host name (state `none`) that have not authenticated; what a
 * verified host name adds is stated entry by entry. Pure; any thread; a proof is read-only once made, and must not outlive the
 * model that it is about.
 */
#ifndef POSTERN_POLICY_PROVE_H
#define POSTERN_POLICY_PROVE_H

#include "policy/decide.h"
#include "policy/space.h"

enum policy_exposure { POLICY_CLOSED, POLICY_RESTRICTED, POLICY_OPEN };

/* Who may relay once authenticated. LISTED: some may, and a user whom no list names may not. */
enum policy_authenticated { POLICY_AUTHENTICATED_NOBODY, POLICY_AUTHENTICATED_LISTED, POLICY_AUTHENTICATED_EVERYONE };

/* More public addresses than this make an open relay: an IPv4 /8, an IPv6 /16. */
#define POLICY_OPEN_IPV4 ((__uint128_t)1 << 24)
#define POLICY_OPEN_IPV6 ((__uint128_t)1 << 112)

/* A `domain:` or `cert:` entry. */
struct policy_grant {
    struct str name; /* of a certificate: the SHA-256 in hex */
    const struct policy_rule *rule;
};

struct policy_grants {
    struct policy_grant *items;
    size_t count;
    size_t capacity;
};

/* Why a server is OPEN. */
#define POLICY_REASON_BYTES 320
struct policy_reason {
    const struct policy_rule *rule;
    char text[POLICY_REASON_BYTES];
};

struct policy_server_proof {
    const struct policy_server *server;
    enum policy_exposure exposure;
    struct policy_reason reason; /* OPEN: the first one */
    struct space relay;          /* who may relay to any external domain without authenticating */
    struct space_counts relay_counts;
    struct space
        submit; /* who may send at all without authenticating: to local and allowed domains, and where connectors override */
    struct policy_grants
        domains; /* each name once: `domain:` entries that complete a grant where addresses alone do not */
    struct policy_grants certificates; /* relay.only: credentials, not counted */
    enum policy_authenticated authenticated;
    const struct policy_connector **overrides; /* those in scope that override, in the configuration's order */
    size_t override_count;
};

struct policy_proof {
    enum policy_exposure exposure;       /* of the worst server */
    struct policy_server_proof *servers; /* in the configuration's order */
    size_t server_count;
};

/* Never NULL. Under a second for 10,000 networks and 10,000 domains. */
struct policy_proof *policy_prove(const struct policy_model *model);
void policy_proof_destroy(struct policy_proof **proof);

const char *policy_exposure_name(enum policy_exposure exposure);                /* CLOSED, RESTRICTED, OPEN */
const char *policy_authenticated_name(enum policy_authenticated authenticated); /* nobody, listed, everyone */
/* "*", "*.NAME" or NAME, NUL-terminated. Returns the length. */
#define POLICY_PATTERN_BYTES 256
size_t policy_pattern(struct str name, bool is_wildcard, char text[POLICY_PATTERN_BYTES]);

/* The entry of the server's relay.only that grants to this address, as the list names it; NULL if none does. */
const struct policy_rule *policy_granting_rule(const struct policy_server *server, const struct cidr_address *address);

/* ---- what the report says of users and domains ---- */

/* A user entry of one of a server's four lists. */
struct policy_user_view {
    bool is_group;
    struct str name;
    const struct policy_rule *rule;
};
/* Visits the entries of a list (NULL: empty) in the configuration's order: start with *position 0; false at the end. */
bool policy_user_list_next(const struct policy_user_list *list, size_t *position, struct policy_user_view *view);

/*
 * Whether authentication alone lets the user (or a member of the group who is named nowhere) relay through the server. With
 * neither, a user whom nothing names.
 */
bool policy_may_relay_authenticated(const struct policy_server *server, const struct policy_user_view *view);

/* A user or group that may relay and may not send at all, so that it cannot relay either. `is_certain` is false where membership
 * in a group could still let a user send. Start with *position 0; false at the end. */
bool policy_next_relay_without_submit(const struct policy_server *server, size_t *position,
                                      struct policy_user_view *view, bool *is_certain);

/* Visits `domains` in the configuration's order: start with NULL; NULL at the end. */
const struct policy_domain *policy_next_domain(const struct policy_model *model, const struct policy_domain *domain);

#endif
