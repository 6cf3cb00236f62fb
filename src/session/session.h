/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: the receiving side's decisions for one connection. It provides the hooks of smtp/server: fills the facts, asks policy_decide, gathers the
 * transaction's envelope, and stores the message. A session keeps the runtime that it began with.
 */
#ifndef POSTERN_SESSION_SESSION_H
#define POSTERN_SESSION_SESSION_H

#include "net/conn.h"
#include "net/dns.h"
#include "session/brakes.h"
#include "session/draft.h"
#include "session/runtime.h"
#include "smtp/server.h"

struct session;

struct session_options {
    const struct draft_store *store; /* outlives the session, as dns and the brakes do */
    struct dns *dns;
    struct brakes *brakes;
    struct runtime *runtime;            /* a reference that the session releases */
    const struct config_server *server; /* of its configuration */
    struct conn *conn;                  /* the session's from here on */
    struct net_address client;          /* the connection's peer, or whom a proxy speaks for */
};

/* On the loop that will run it. */
struct session *session_create(const struct session_options *options);
/* In a fiber: from the greeting to the close; frees the session. */
void session_run(struct session *session);
/* On its loop: ends it as soon as no transaction is under way. */
void session_stop(struct session *session);
/* On its loop: ends it now; what is not acknowledged is dropped. */
void session_abort(struct session *session);

#endif
