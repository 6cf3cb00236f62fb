/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One exchange of SMTP AUTH, between the fiber of its session and the directory's threads. Each step is a job, and the two never look at the exchange at the
 * same time: the fiber only once the job is done, and after it has given up no more. Counted references, all taken and dropped on the loop, tell when nobody
 * is left.
 */
#ifndef POSTERN_SESSION_AUTH_PRIVATE_H
#define POSTERN_SESSION_AUTH_PRIVATE_H

#include "session/auth.h"

struct auth_exchange;

struct auth_exchange_options {
    const struct config *config; /* retained */
    const struct config_server *server;
    struct directory *directory; /* lives as long as its threads run a step */
    struct brakes *brakes;
    struct conn *conn; /* looked at now, and not kept */
    enum sasl_mechanism mechanism;
    bool plus_is_offered;
};

struct auth_exchange *auth_exchange_create(const struct auth_exchange_options *options);
/* Sets the pointer to NULL, which it may be. */
void auth_exchange_release(struct auth_exchange **exchange);

enum auth_outcome {
    AUTH_CONTINUE, /* `challenge` */
    AUTH_DONE,     /* auth_exchange_take_user */
    AUTH_REFUSED,
    AUTH_MALFORMED,
    AUTH_UNAVAILABLE,
    AUTH_LOCKED,
    AUTH_GIVEN_UP, /* at the deadline, or cancelled: the exchange must not be asked anything any more */
};

/* Waits. `input` NULL data: no initial response. */
enum auth_outcome auth_exchange_step(struct auth_exchange *exchange, struct str input, struct buf *challenge);

/* ---- after a step that was not given up ---- */

/* Who was tried: as it was said, and completed with the domain. Empty: not known. */
struct str auth_exchange_user(const struct auth_exchange *exchange);
struct str auth_exchange_address(const struct auth_exchange *exchange);
/* For the log. */
const char *auth_exchange_reason(const struct auth_exchange *exchange);
struct directory_user *auth_exchange_take_user(struct auth_exchange *exchange);

#endif
