/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session/auth: who the client of one session is, proved by SMTP AUTH. Joins smtp/sasl (the mechanisms), the directory (who there is) and the brakes
 * (who may still try). What is offered depends on the configuration, on TLS, and on what the directory can verify.
 *
 * auth_setup is what a configuration means for all its sessions. It is the runtime's: made with its directory, immutable, used by any thread.
 *
 * struct auth is one session's, on its loop. Each step of an exchange runs as one job on directory_pool(), whatever it asks there: the loop never
 * waits, the fiber does, until the directory's timeout. A step given up at the deadline ends on its thread by itself, and nobody hears of it; it needs the
 * directory no longer than that thread lives.
 *
 * An unknown user and a wrong password can't be told apart, by reply or by time. Passwords are in no log; a user's name only if it can be one, since
 * people type passwords where names belong.
 *
 * DIAGNOSTICS, one line each:
 *   warning auth-failed       server= client= mechanism= user= reason=   what etc/fail2ban/postern.conf looks for. reason: credentials, no-such-user (one
 *                                                                        who was proved all the same), not-permitted (to act for another), malformed, locked
 *   warning auth-locked       the same                                   this failure has locked somebody out
 *   warning auth-unavailable  server= client= mechanism= reason=         454: the directory does not answer, or not in time
 *   warning auth-problem      server= mechanism= error=                  a mechanism that is configured and does not work
 *   info    authenticated     server= client= mechanism= user= tls=
 */
#ifndef POSTERN_SESSION_AUTH_H
#define POSTERN_SESSION_AUTH_H

#include "config/config.h"
#include "directory/directory.h"
#include "net/conn.h"
#include "session/brakes.h"
#include "smtp/sasl.h"
#include "smtp/server.h"

struct auth_setup;
struct auth;
struct runtime;

/* Which mechanisms can work: looks into keytabs (blocks: not on a loop). A keytab that does not work is logged, and its server goes without GSSAPI. The
 * configuration is not retained: the runtime holds it. */
struct auth_setup *auth_setup_create(const struct config *config);
/* Sets the pointer to NULL, which it may be. */
void auth_setup_destroy(struct auth_setup **setup);

/* Who the session is. In one piece with the exchange that proved it. */
struct auth_identity {
    const struct directory_user *user; /* name as the directory has it, groups, addresses */
    enum sasl_mechanism mechanism;
    bool over_tls;
};

struct auth_options {
    struct runtime *runtime;            /* outlives it, as the session keeps one; `auth` in it */
    const struct config_server *server; /* of the runtime's configuration */
    struct brakes *brakes;              /* outlives the runtime */
    struct conn *conn;                  /* outlives it; tells of TLS, and who is counted for failures (conn_peer) */
};

struct auth *auth_create(const struct auth_options *options);
/* In the fiber or after it. */
void auth_destroy(struct auth **auth);

/* NULL before success. Valid until auth_forget or auth_destroy. */
const struct auth_identity *auth_identity(const struct auth *auth);
/* TLS has begun: what was said before does not count any more (RFC 3207 4.2). */
void auth_forget(struct auth *auth);

/* ---- the hooks of smtp/server.h, to be passed on ---- */

/* NULL: no AUTH on this server. Empty: none that may be used now. Valid until the next call. */
const char *auth_mechanisms(struct auth *auth);
/* Both wait. The reply is set unless CONTINUE. */
enum smtp_auth_status auth_begin(struct auth *auth, struct str mechanism, struct str initial, struct buf *challenge,
                                 struct smtp_reply *reply);
enum smtp_auth_status auth_continue(struct auth *auth, struct str response, struct buf *challenge,
                                    struct smtp_reply *reply);
void auth_abort(struct auth *auth);

#endif
