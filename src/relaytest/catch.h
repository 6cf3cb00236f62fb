/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catch: a listener that stands for the outside world and for the mailbox of external senders. It takes every message for everybody, keeps
 * none, and tells its owner of each. The server that is being tested may be hostile: connections, messages, recipients and what is looked at
 * are bounded, and smtp/server sees to deadlines.
 *
 * All on one loop's thread.
 */
#ifndef POSTERN_RELAYTEST_CATCH_H
#define POSTERN_RELAYTEST_CATCH_H

#include "base/error.h"
#include "base/str.h"
#include "net/address.h"

#include <stdbool.h>
#include <stddef.h>

struct catch;

#define CATCH_SESSIONS_MAX   64
#define CATCH_RECIPIENTS_MAX 100
/* A larger message is refused. */
#define CATCH_MESSAGE_BYTES_MAX (32u << 20)
/* So much of a message is looked at: reports begin with what matters. */
#define CATCH_KEPT_BYTES_MAX (128u << 10)

struct catch_message {
    struct str sender;            /* without brackets; empty for null */
    const struct str *recipients; /* as they came, without brackets; what is no address too */
    size_t recipient_count;
    struct str content; /* its first CATCH_KEPT_BYTES_MAX bytes, in CRLF lines */
    const struct net_address *peer;
};

struct catch_settings {
    struct net_address address; /* where to listen; port 0: any */
    struct str host_name;       /* outlives the listener */
    /* For each whole message, valid during the call. Must not wait. */
    void (*arrived)(void *context, const struct catch_message *message);
    void *context;
};

/* Opens the socket; any thread. `address` is filled with the port. 0 or -1. */
int catch_open(struct net_address *address, int *fd, struct error *error);
/* Begins to accept: takes over the socket. */
struct catch *catch_create(int fd, const struct catch_settings *settings);
/* Accepts no more, and asks the sessions to end. */
void catch_stop(struct catch *catch);
size_t catch_session_count(const struct catch *catch);
/* After catch_stop. Sessions that have not ended by then are on their own: `arrived` is not called any more. Sets the pointer to NULL. */
void catch_destroy(struct catch **catch);

#endif
