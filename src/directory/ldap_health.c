/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/ldap_health.h"

bool ldap_health_may_ask(struct ldap_health *h, uint64_t now_ms, uint64_t *generation)
{
    *generation = h->generation;
    if (!ldap_health_is_down(h))
        return true;
    if (h->is_tried || now_ms < h->retry_at_ms)
        return false;
    h->is_tried = true;
    return true;
}

bool ldap_health_failed(struct ldap_health *h, uint64_t generation, uint64_t now_ms)
{
    const bool was_up = !ldap_health_is_down(h);
    uint64_t pause_ms = LDAP_RETRY_MS_MIN;

    if (generation != h->generation)
        return false;
    for (unsigned i = 0; i < h->failure_count && pause_ms < LDAP_RETRY_MS_MAX; i++)
        pause_ms *= 2;
    h->retry_at_ms = now_ms + (pause_ms < LDAP_RETRY_MS_MAX ? pause_ms : LDAP_RETRY_MS_MAX);
    if (was_up)
        h->down_since_ms = now_ms;
    h->failure_count++;
    h->generation++;
    h->is_tried = false;
    return was_up;
}

bool ldap_health_answered(struct ldap_health *h, uint64_t generation)
{
    if (generation != h->generation || !ldap_health_is_down(h))
        return false;
    h->generation++;
    h->failure_count = 0;
    h->is_tried = false;
    return true;
}

void ldap_health_undecided(struct ldap_health *h, uint64_t generation)
{
    if (generation == h->generation)
        h->is_tried = false;
}
