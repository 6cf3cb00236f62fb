/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime: a configuration and what is made of it: the TLS contexts of its servers and connectors, the directory, and what may be
 * authenticated with. What a session begins with it keeps; a reload makes another one,
 * in which the directory goes on if its settings are the same.
 *
 * Threads: runtime_create and runtime_open_directory block: main thread. Once handed out it is immutable, and retained and released by any thread.
 *
 * Calling sequence: runtime_create (reads certificates and keys: before privileges are dropped); runtime_open_directory (makes threads: after the
 * sandbox stands); service_apply; runtime_release.
 */
#ifndef POSTERN_SESSION_RUNTIME_H
#define POSTERN_SESSION_RUNTIME_H

#include "config/config.h"
#include "directory/directory.h"
#include "net/tls.h"

struct auth_setup;

struct runtime {
    const struct config *config;
    struct directory *directory; /* NULL before runtime_open_directory, as is `auth` */
    struct auth_setup *auth;
    /* the module's: */
    struct tls_context **tls;         /* of each server; NULL: none */
    struct tls_context **outward_tls; /* of each connector, and behind them of the default one; NULL: none */
    struct worker_pool *reaper;
    atomic_uint references;
};

/* One reference, and one of its own to the configuration. The tickets outlive it. 0 or -1. */
int runtime_create(const struct config *config, struct tls_tickets *tickets, struct runtime **runtime,
                   struct error *error);
/* `before` may be NULL. `reaper`: where a directory ends whose last user was a session; outlives the runtime. 0 or -1. */
int runtime_open_directory(struct runtime *runtime, const struct runtime *before, struct worker_pool *reaper,
                           struct error *error);
struct runtime *runtime_retain(struct runtime *runtime);
/* Sets the pointer to NULL, which it may be. */
void runtime_release(struct runtime **runtime);

/* NULL: this server has no TLS. */
struct tls_context *runtime_server_tls(const struct runtime *runtime, const struct config_server *server);

/* One of the configuration's connectors, or its default one. NULL: tls: none. */
struct tls_context *runtime_connector_tls(const struct runtime *runtime, const struct config_connector *connector);

#endif
