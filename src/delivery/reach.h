/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery/reach: which addresses could not be reached a short while ago. They are passed over while there are others to try, so that not each
 * connection waits for a dead host first; when their rest is over one connection tries again, and the others keep off until it knows.
 * Bounded: of more than REACH_ENTRIES_MAX the oldest are forgotten. Any thread.
 */
#ifndef POSTERN_DELIVERY_REACH_H
#define POSTERN_DELIVERY_REACH_H

#include "net/address.h"

#define REACH_ENTRIES_MAX 4096

struct reach;

struct reach *reach_create(void);
void reach_destroy(struct reach **reach);

/* Whether to try the address. Of one whose rest is over true is said once, and then not before `probe_ms` more: the caller is the one who tries. Times
 * are monotonic; `source` is the address to connect from, or NULL. */
bool reach_may_try(struct reach *reach, const struct net_address *address, const struct net_address *source,
                   uint64_t now_ms, uint64_t probe_ms);
void reach_failed(struct reach *reach, const struct net_address *address, const struct net_address *source,
                  uint64_t until_ms);
void reach_succeeded(struct reach *reach, const struct net_address *address, const struct net_address *source);

#endif
