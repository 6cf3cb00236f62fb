/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a session share. session.c: life, greeting, decisions. session_identity.c: who the client is, by TLS, authentication and the directory.
 * session_envelope.c: MAIL, RCPT, VRFY. session_message.c: the message, into the spool.
 */
#ifndef POSTERN_SESSION_SESSION_PRIVATE_H
#define POSTERN_SESSION_SESSION_PRIVATE_H

#include "base/log.h"
#include "base/mem.h"
#include "loop/fiber.h"
#include "loop/loop.h"
#include "session/auth.h"
#include "session/client_name.h"
#include "session/command_log.h"
#include "session/session.h"

/* Between MAIL and the end of the message; an idle session has none. */
struct transaction {
    struct arena arena;
    struct address sender;
    struct envelope envelope;
    const struct policy_rule **rules; /* of each recipient: what let it in */
    size_t recipient_capacity;
    struct draft *draft;
    struct buf from; /* the From fields' values, where they have to be the user's own */
    spool_id id;
};

struct session {
    const struct draft_store *store;
    struct runtime *runtime;
    const struct config *config; /* of the runtime */
    const struct config_server *server;
    struct conn *conn;
    struct smtp_server *smtp;
    struct fiber *fiber;
    struct smtp_server_settings settings;
    struct smtp_server_hooks hooks;
    struct policy_facts facts;
    struct client_name name;
    struct auth *auth;
    bool trace_waited; /* SESSION_TRACE_NAME_WAIT_MS have been spent */
    struct str helo;   /* heap */
    bool is_esmtp;
    bool stopping;
    char client_text[NET_ADDRESS_TEXT_BYTES];
    struct transaction *transaction;
};

/* ---- session.c ---- */

struct str session_client_text(const struct session *session);
void session_reply_from_decision(struct smtp_reply *reply, const struct policy_decision *decision);
void session_log_refusal(const struct session *session, const struct policy_decision *decision);
/* Waits for the client's host name if, and only if, the decision depends on it. */
void session_decide(struct session *session, enum policy_stage stage, struct policy_decision *decision);
/* Unknown is no, so that an answer of yes needs no name. */
bool session_grants_relay(struct session *session);
void session_out_of_storage(struct smtp_reply *reply);

/* ---- session_events.c: what happened, for the records ---- */

void session_tell_received(const struct session *session);
/* At MAIL and RCPT the facts say who and to whom. */
void session_tell_refused(const struct session *session, const struct policy_decision *decision);
/* A message: its header or its way here won't do. */
void session_tell_message_refused(const struct session *session, const struct smtp_reply *reply,
                                  const struct policy_rule *rule);
void session_on_log_command(void *context, const struct smtp_command_log *entry);

/* ---- session_etrn.c ---- */

/* Whether this client is one of the server's `etrn` list. */
bool session_may_etrn(const struct session *session);
void session_on_etrn(void *context, struct str node, struct smtp_reply *reply);

/* ---- session_identity.c ---- */

void session_on_secured(void *context);
void session_on_tls_failed(void *context, const struct error *error);
const char *session_on_auth_mechanisms(void *context);
enum smtp_auth_status session_on_auth_begin(void *context, struct str mechanism, struct str initial,
                                            struct buf *challenge, struct smtp_reply *reply);
enum smtp_auth_status session_on_auth_continue(void *context, struct str response, struct buf *challenge,
                                               struct smtp_reply *reply);
void session_on_auth_abort(void *context);
/* Whether an address is one of the authenticated user's own. */
bool session_owns_address(const struct session *session, const struct address *address);
/* Whether the directory knows the recipient of the facts; NOT_ASKED where the decision does not need it. Waits. */
enum policy_answer session_ask_recipient(struct session *session);

/* ---- session_envelope.c ---- */

void session_on_mail(void *context, const struct command_mail *mail, struct smtp_reply *reply);
void session_on_rcpt(void *context, const struct command_rcpt *rcpt, struct smtp_reply *reply);
void session_on_verify(void *context, const struct address *address, struct smtp_reply *reply);
void session_on_reset(void *context);

/* ---- session_message.c ---- */

void session_on_message_begin(void *context, struct smtp_reply *reply);
void session_on_message_data(void *context, struct str piece);
void session_on_message_end(void *context, struct smtp_reply *reply);

#endif
