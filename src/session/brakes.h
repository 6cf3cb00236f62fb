/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brakes: slows down and locks out who guesses passwords. Failures are counted by address, by network (IPv4 /24, IPv6 /64) and by user's name, each over
 * the last window; a limit that is reached locks. A limit of 0 is none, and nothing is counted for it.
 *
 * A lock of a user's name, or of a network, does not shut out those who are known: an address (IPv6: its /64) from which that user has authenticated in the last
 * BRAKES_KNOWN_MS still may try. The lock of the address itself holds for everybody, so that nobody guesses without end.
 *
 * Memory is bounded whatever the attacker varies: BRAKES_ENTRIES_MAX counts and locks, BRAKES_KNOWN_MAX users with BRAKES_KNOWN_ADDRESSES_MAX addresses each. What
 * is least worth keeping goes first: what has ended, then single failures, then repeated ones, each the one that is longest ago; a lock only when there is nothing but
 * locks, and then the oldest. Only those who have a password make others known, and each takes its own place only.
 *
 * Names are compared without ASCII case, and counted whether there is such a user or not: a lock tells nobody who exists. The caller completes a name with its domain.
 * IPv4-mapped addresses are IPv4. Attempts that are under way at the same time count when they end, so a client may have as many beyond the limit as it has
 * connections (limits.connections-per-client).
 *
 * Any thread; nothing here waits, but for a mutex that is held for microseconds. Times are monotonic milliseconds.
 */
#ifndef POSTERN_SESSION_BRAKES_H
#define POSTERN_SESSION_BRAKES_H

#include "base/str.h"
#include "config/config.h"
#include "net/address.h"

struct brakes;

#define BRAKES_ENTRIES_MAX         65536
#define BRAKES_KNOWN_MAX           16384
#define BRAKES_KNOWN_ADDRESSES_MAX 8
#define BRAKES_KNOWN_MS            (30ULL * 24 * 60 * 60 * 1000)
/* The hold after a first failure; each further one in the window doubles it, up to the most that an answer is held back. */
#define BRAKES_DELAY_MS_MIN 250
#define BRAKES_DELAY_MS_MAX 10000

struct brakes *brakes_create(void);
void brakes_destroy(struct brakes **brakes);

enum brakes_verdict {
    BRAKES_FREE,
    BRAKES_LOCKED_CLIENT, /* the address or its network has failed too often */
    BRAKES_LOCKED_USER,
};

/* Before a password is looked at. `user` may be empty, not known yet: then only the lock of the address is told, and the caller asks again
 * with the name. A lock does not grow longer by being asked about. */
enum brakes_verdict brakes_check(struct brakes *brakes, const struct config_brakes *settings,
                                 const struct net_address *client, struct str user, uint64_t now_ms);
/* Afterwards: how long to hold back the reply, 0 to BRAKES_DELAY_MS_MAX; it depends on the failures of the address and of the name, not on whether there is
 * such a user. `*locks`: this failure has locked somebody, which is worth a line in the log. */
unsigned brakes_failed(struct brakes *brakes, const struct config_brakes *settings, const struct net_address *client,
                       struct str user, uint64_t now_ms, bool *locks);
/* Forgives the address its failures with this user, not those with others (one good account does not pay for guessing at the rest). What was locked
 * within the last two windows is forgiven nothing. */
void brakes_succeeded(struct brakes *brakes, const struct config_brakes *settings, const struct net_address *client,
                      struct str user, uint64_t now_ms);
/* Counts and locks that are held, at most BRAKES_ENTRIES_MAX. */
size_t brakes_count(struct brakes *brakes);

#endif
