/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compare: who gains and who loses relay between two proofs, server by server. A server that stands in one of them only gains or
 * loses all. Pure; one thread at a time; must not outlive the two proofs.
 */
#ifndef POSTERN_POLICY_COMPARE_H
#define POSTERN_POLICY_COMPARE_H

#include "policy/prove.h"

struct policy_names {
    struct str *items;
    size_t count;
    size_t capacity;
};

/* One direction: what one proof grants and the other does not. */
struct policy_change {
    struct space addresses;      /* clients that have not authenticated */
    struct policy_names domains; /* NAME of domain: entries that complete a grant */
    struct policy_names certificates;
    struct policy_names users;     /* user:NAME, group:NAME, and "authenticated users" for whom nothing names */
    struct policy_names overrides; /* CONNECTOR: PATTERN */
};

struct policy_server_change {
    struct str server;
    struct policy_change gains;
    struct policy_change loses;
};

struct policy_comparison {
    struct policy_server_change *servers; /* of the new proof, then those that are gone */
    size_t server_count;
};

struct policy_comparison *policy_compare(const struct policy_proof *old_proof, const struct policy_proof *new_proof);
void policy_comparison_destroy(struct policy_comparison **comparison);

bool policy_change_is_empty(const struct policy_change *change);

#endif
