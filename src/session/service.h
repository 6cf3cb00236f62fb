/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service: all virtual servers of the process: their listeners on every loop, their sessions, and the runtime that new
 * sessions begin with. Owned by the main thread; calls below are the main thread's, except service_config.
 *
 * Calling sequence: service_create; service_apply (opens the sockets: before privileges are dropped); service_open, once the loops run; service_apply at
 * each reload; service_stop and service_wait; service_forget; the loops end; service_destroy.
 */
#ifndef POSTERN_SESSION_SERVICE_H
#define POSTERN_SESSION_SERVICE_H

#include "net/dns.h"
#include "session/draft.h"
#include "session/runtime.h"

struct service;

struct service *service_create(struct loop *const *loops, size_t loop_count);
void service_destroy(struct service **service);

/*
 * Takes the runtime (a reference of its own) for all sessions from now on. Opens listeners that are new in its configuration, closes those
 * that are gone; the others, and all connections, are left alone. -1: a socket could not be opened, and nothing has changed.
 */
int service_apply(struct service *service, struct runtime *runtime, struct error *error);

/* Begins to accept. The store outlives the service, and `dns` all sessions. */
void service_open(struct service *service, const struct draft_store *store, struct dns *dns);

/* The addresses that it listens on, with the ports that the system chose, separated by spaces. */
void service_append_addresses(const struct service *service, struct buf *out);

/* The one of now, with a reference that the caller releases. Any thread. */
struct runtime *service_runtime(struct service *service);
const struct config *service_config(struct service *service);

struct service_statistics {
    uint64_t sessions;    /* now, as far as a PROXY header is read included */
    uint64_t accepted;    /* since the start */
    uint64_t turned_away; /* too many connections */
};
/* Any thread. */
void service_get_statistics(struct service *service, struct service_statistics *statistics);

/* Closes the listeners; sessions end when their transaction is over. Once. */
void service_stop(struct service *service);
/* Waits until no session is left, at most so long; then ends those that are left, and waits for that too. */
void service_wait(struct service *service, unsigned grace_ms);
/* Gives up the runtime, and with it the directory's threads, which still have answers for the loops: before those end. Then only service_destroy. */
void service_forget(struct service *service);

#endif
