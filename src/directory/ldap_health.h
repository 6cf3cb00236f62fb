/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ldap_health: when a server that did not answer is asked again. After a failure nobody asks it for a while, which doubles with each failure
 * from LDAP_RETRY_MS_MIN to LDAP_RETRY_MS_MAX; then a single question tries it while all others still go elsewhere, so that a server that comes
 * back is not met by all at once. Pure; the caller locks.
 */
#ifndef POSTERN_DIRECTORY_LDAP_HEALTH_H
#define POSTERN_DIRECTORY_LDAP_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#define LDAP_RETRY_MS_MIN 1000
#define LDAP_RETRY_MS_MAX 10000

/* All zero: a server that was not asked yet. */
struct ldap_health {
    unsigned failure_count; /* in a row */
    uint64_t down_since_ms, retry_at_ms;
    uint64_t generation; /* changes with each failure, and when it is over */
    bool is_tried;       /* the one question is under way */
};

static inline bool ldap_health_is_down(const struct ldap_health *h)
{
    return h->failure_count > 0;
}

/* Whether one may ask. Who may, says what came of it, with the generation it was told. */
bool ldap_health_may_ask(struct ldap_health *h, uint64_t now_ms, uint64_t *generation);
/* Both: whether this changed the server from up to down, or back. What questions say that began before the server was last seen to change counts
 * no more. */
bool ldap_health_failed(struct ldap_health *h, uint64_t generation, uint64_t now_ms);
bool ldap_health_answered(struct ldap_health *h, uint64_t generation);
/* Nothing was learnt: the next question may try. */
void ldap_health_undecided(struct ldap_health *h, uint64_t generation);

#endif
