/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command_log: one entry for each command of a session and its reply, told to whoever keeps a protocol log. Any thread; the one who is told copies
 * what it needs and does not wait. Where nobody listens nothing is gathered.
 */
#ifndef POSTERN_SESSION_COMMAND_LOG_H
#define POSTERN_SESSION_COMMAND_LOG_H

#include "net/address.h"
#include "smtp/server.h"

struct command_log_entry {
    struct str server;   /* the virtual server's name */
    struct str hostname; /* the host's */
    struct str client;   /* "192.0.2.1" */
    struct str helo;     /* as the client calls itself; empty: it hasn't yet */
    struct str user;     /* authenticated as; empty: nobody */
    const struct net_address *local;
    const struct smtp_command_log *command;
};

struct command_log_sink {
    void *context;
    void (*tell)(void *context, const struct command_log_entry *entry);
};

#endif
